package gateway

import (
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// listed makes sure that the definition of what is called is known: a client may
// remember a list from before this process began, or from another replica. The server
// is asked once for each view of it, which calls beside the first one wait for; what it
// does not list then has no definition. A server that did not answer is why nothing is
// known of what it lists.
func (g *Gateway) listed(c *call) (why *Refusal) {
	method := wire.MethodToolsList
	switch c.Message.Method {
	case wire.MethodToolsCall:
	case wire.MethodPromptsGet:
		method = wire.MethodPromptsList
	default:
		return nil
	}
	if g.deps.Guards.Pins == nil {
		return nil
	}
	for {
		first, asking := c.server.catalog.unasked(c.accountKey(), method, c.Params.Name, g.deps.Now())
		if first {
			break
		}
		if asking == nil {
			return nil
		}
		select {
		case <-asking.done:
			// The server would say no to each of us, unless it was not asked or whoever
			// asked has to leave it alone.
			alone := asking.why != nil && asking.why.Rule == "breaker" && c.server.breaker.shut(g.deps.Now(), c.Caller.User) == 0
			if !asking.left && !alone {
				return g.whyUnlisted(c, asking.why)
			}
		case <-c.r.Context().Done():
			return nil
		}
	}
	lc := *c
	lc.Message = wire.Message{Kind: wire.Request, Method: method}
	lc.Params, lc.Era = wire.Params{}, wire.Legacy
	ok := false
	defer func() { // whatever happens: others wait for it
		left := !ok && c.r.Context().Err() != nil
		if left { // some pages may be here, and nobody waits for the others
			c.server.catalog.forget(c.accountKey())
		}
		c.server.catalog.answered(c.accountKey(), method, ok, left, why)
		why = g.whyUnlisted(c, why)
	}()
	_, ok, why = g.listOne(c.r.Context(), &lc, c.server)
	return why
}

// whyUnlisted tells a caller what is wrong with its own account, as its era wants it,
// where another one asked. Nothing may be wrong with what is stored: the server did not
// take it, or it could not be renewed.
func (g *Gateway) whyUnlisted(c *call, why *Refusal) *Refusal {
	if why == nil || !strings.HasPrefix(why.Rule, "account") {
		return why
	}
	if _, now := g.credential(c.r.Context(), c, false); now != nil {
		return now
	}
	return unusable().because(why.Cause)
}

// listFor is how long what a server listed is believed: a server that changes in
// silence, and whose clients do not ask, is asked before the next call (G-TG1).
const listFor = 5 * time.Minute

// unasked tells once for each view and method that nobody has listed it lately, or only
// a part of it without the name that is called: clients read as many pages as they like.
// Until whoever was told so says how that went (answered), the others get what to wait for.
func (k *catalog) unasked(view, method, name string, now time.Time) (first bool, asking *listAsk) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.asking[viewMethod{view, method}]; a != nil {
		return false, a // of several pages some may be here
	}
	asked := slices.Contains(k.asked[view], method)
	if method == wire.MethodToolsList && (k.tools[view][name].def != nil || k.tools[view] != nil && asked) {
		if k.seen[view].IsZero() || now.Sub(k.seen[view]) >= listFor {
			stale := !k.seen[view].IsZero()
			k.see(view, now)
			return stale, nil
		}
		return false, nil
	}
	if asked {
		return false, nil
	}
	if k.asked == nil || len(k.asked) >= maxViews {
		k.asked = map[string][]string{}
	}
	k.asked[view] = append(k.asked[view], method)
	if k.asking == nil {
		k.asking = map[viewMethod]*listAsk{}
	}
	k.asking[viewMethod{view, method}] = &listAsk{done: make(chan struct{})}
	return true, nil
}

// see notes when a view was listed. The caller holds mu.
func (k *catalog) see(view string, now time.Time) {
	if k.seen == nil || len(k.seen) >= 2*maxViews {
		k.seen = map[string]time.Time{}
	}
	k.seen[view] = now
}

// listAsk is a list that somebody asks for. The rest is set before done is closed.
type listAsk struct {
	done chan struct{}
	left bool     // whoever asked has gone before the answer
	why  *Refusal // of the server that did not answer
}

// answered ends what unasked began. If it was in vain, the next call asks again; if
// only because whoever asked has gone, those who wait do.
func (k *catalog) answered(view, method string, ok, left bool, why *Refusal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !ok && k.asked[view] != nil { // a list that only grew old was not noted there
		k.asked[view] = slices.DeleteFunc(k.asked[view], func(m string) bool { return m == method })
	}
	if a := k.asking[viewMethod{view, method}]; a != nil {
		a.left, a.why = left, why
		close(a.done)
		delete(k.asking, viewMethod{view, method})
	}
}
