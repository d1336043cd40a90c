package gateway

import (
	"slices"

	"github.com/kidoban/kidoban/wire"
)

// listed makes sure that the definition of what is called is known: a client may
// remember a list from before this process began. The server is asked once for
// each view of it; what it does not list then has no definition.
func (g *Gateway) listed(c *call) {
	method := wire.MethodToolsList
	switch c.Message.Method {
	case wire.MethodToolsCall:
	case wire.MethodPromptsGet:
		method = wire.MethodPromptsList
	default:
		return
	}
	if g.deps.Guards.Pins == nil || !c.server.catalog.unasked(c.accountKey(), method) {
		return
	}
	lc := *c
	lc.Message = wire.Message{Kind: wire.Request, Method: method}
	lc.Params, lc.Era = wire.Params{}, wire.Legacy
	if _, ok := g.listOne(c.r.Context(), &lc, c.server); !ok {
		c.server.catalog.unask(c.accountKey(), method)
	}
}

// unasked tells once for each view and method that nobody has listed it.
func (k *catalog) unasked(view, method string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if method == wire.MethodToolsList && k.tools[view] != nil || slices.Contains(k.asked[view], method) {
		return false
	}
	if k.asked == nil || len(k.asked) >= maxViews {
		k.asked = map[string][]string{}
	}
	k.asked[view] = append(k.asked[view], method)
	return true
}

func (k *catalog) unask(view, method string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[view] = slices.DeleteFunc(k.asked[view], func(m string) bool { return m == method })
}
