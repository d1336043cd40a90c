package gateway

import (
	"slices"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// listed makes sure that the definition of what is called is known: a client may
// remember a list from before this process began, or from another replica. The server
// is asked once for each view of it, which calls beside the first one wait for; what it
// does not list then has no definition.
func (g *Gateway) listed(c *call) {
	method := wire.MethodToolsList
	switch c.Message.Method {
	case wire.MethodToolsCall:
	case wire.MethodPromptsGet:
		method = wire.MethodPromptsList
	default:
		return
	}
	if g.deps.Guards.Pins == nil {
		return
	}
	for {
		first, asking := c.server.catalog.unasked(c.accountKey(), method, g.deps.Now())
		if first {
			break
		}
		if asking == nil {
			return
		}
		select {
		case <-asking: // or, if that was in vain, it is our turn
		case <-c.r.Context().Done():
			return
		}
	}
	lc := *c
	lc.Message = wire.Message{Kind: wire.Request, Method: method}
	lc.Params, lc.Era = wire.Params{}, wire.Legacy
	_, ok := g.listOne(c.r.Context(), &lc, c.server)
	if !ok && c.r.Context().Err() != nil { // some pages may be here, and nobody waits for the others
		c.server.catalog.forget(c.accountKey())
	}
	c.server.catalog.answered(c.accountKey(), method, ok)
}

// listFor is how long what a server listed is believed: a server that changes in
// silence, and whose clients do not ask, is asked before the next call (G-TG1).
const listFor = 5 * time.Minute

// unasked tells once for each view and method that nobody has listed it lately. Until
// whoever was told so says how that went (answered), the others get a channel that
// closes then.
func (k *catalog) unasked(view, method string, now time.Time) (first bool, asking <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if asking := k.asking[viewMethod{view, method}]; asking != nil {
		return false, asking // of several pages some may be here
	}
	if method == wire.MethodToolsList && k.tools[view] != nil {
		if k.seen[view].IsZero() || now.Sub(k.seen[view]) >= listFor {
			stale := !k.seen[view].IsZero()
			k.see(view, now)
			return stale, nil
		}
		return false, nil
	}
	if slices.Contains(k.asked[view], method) {
		return false, nil
	}
	if k.asked == nil || len(k.asked) >= maxViews {
		k.asked = map[string][]string{}
	}
	k.asked[view] = append(k.asked[view], method)
	if k.asking == nil {
		k.asking = map[viewMethod]chan struct{}{}
	}
	k.asking[viewMethod{view, method}] = make(chan struct{})
	return true, nil
}

// see notes when a view was listed. The caller holds mu.
func (k *catalog) see(view string, now time.Time) {
	if k.seen == nil || len(k.seen) >= 2*maxViews {
		k.seen = map[string]time.Time{}
	}
	k.seen[view] = now
}

// answered ends what unasked began. If it was in vain, the next call asks again.
func (k *catalog) answered(view, method string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !ok {
		k.asked[view] = slices.DeleteFunc(k.asked[view], func(m string) bool { return m == method })
	}
	if asking := k.asking[viewMethod{view, method}]; asking != nil {
		close(asking)
		delete(k.asking, viewMethod{view, method})
	}
}
