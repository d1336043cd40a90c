package gateway

import (
	"slices"
	"time"

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
	if g.deps.Guards.Pins == nil || !c.server.catalog.unasked(c.accountKey(), method, g.deps.Now()) {
		return
	}
	lc := *c
	lc.Message = wire.Message{Kind: wire.Request, Method: method}
	lc.Params, lc.Era = wire.Params{}, wire.Legacy
	if _, ok := g.listOne(c.r.Context(), &lc, c.server); !ok {
		c.server.catalog.unask(c.accountKey(), method)
	}
}

// listFor is how long what a server listed is believed: a server that changes in
// silence, and whose clients do not ask, is asked before the next call (G-TG1).
const listFor = 5 * time.Minute

// unasked tells once for each view and method that nobody has listed it lately.
func (k *catalog) unasked(view, method string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if method == wire.MethodToolsList && k.tools[view] != nil {
		if k.seen[view].IsZero() || now.Sub(k.seen[view]) >= listFor {
			stale := !k.seen[view].IsZero()
			k.see(view, now)
			return stale
		}
		return false
	}
	if slices.Contains(k.asked[view], method) {
		return false
	}
	if k.asked == nil || len(k.asked) >= maxViews {
		k.asked = map[string][]string{}
	}
	k.asked[view] = append(k.asked[view], method)
	return true
}

// see notes when a view was listed. The caller holds mu.
func (k *catalog) see(view string, now time.Time) {
	if k.seen == nil || len(k.seen) >= 2*maxViews {
		k.seen = map[string]time.Time{}
	}
	k.seen[view] = now
}

func (k *catalog) unask(view, method string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[view] = slices.DeleteFunc(k.asked[view], func(m string) bool { return m == method })
}
