package gateway

import (
	"net/http"

	"github.com/kidoban/kidoban/wire"
)

// connect sends the user to the page where accounts are connected, in the way of
// the client's era (G-VA3): a URL elicitation where the client can do that, a
// sentence with the address where it cannot. The page asks for a login of its
// own and serves only the user it was made for (E35); the address holds nothing
// secret.
func (g *Gateway) connect(c *call) *Refusal {
	say := "An account at " + c.server.Title + " must be connected first."
	if g.deps.Connect == nil {
		return refuse(http.StatusBadGateway, wire.CodeInternal, "account:missing", say+" Ask the gateway's operator.")
	}
	about := c.Server
	if c.target.server == nil {
		about = "" // through the aggregate: one page for all that are missing
	}
	return g.sendToPage(c, "account:missing", "kidoban-connect", say, g.deps.Connect(c.Caller.User, about))
}

// approve waits for a person's yes where policy wants one.
func (g *Gateway) approve(c *call) *Refusal {
	a := g.deps.Guards.Approval
	switch {
	case len(c.asks) == 0, c.upState != nil: // a request that goes on was approved when it began
		return nil
	case a == nil:
		return refuse(http.StatusOK, wire.CodeInvalidParams, "approval:nobody", sayNobody)
	}
	r := a.Await(c.r.Context(), &c.Call)
	if r != nil && r.Open != "" {
		return g.sendToPage(c, r.Rule, "kidoban-approval", r.Say, r.Open)
	}
	return r
}

// sendToPage asks the person behind the client to open a page of the gateway's.
// Whatever the client answers is no decision: the request is judged again.
func (g *Gateway) sendToPage(c *call, rule, key, say, url string) *Refusal {
	_, can := wire.Lookup(c.Params.Capabilities, "elicitation", "url")
	switch {
	case c.Message.Kind != wire.Request:
	case c.Era == wire.Modern && can && inputAllowed(c.Message.Method):
		return g.pageModern(c, rule, key, say, url)
	case c.Era == wire.Legacy && c.Version == wire.Rev20251125:
		e := wire.SetMember(wire.Raw(`{"mode":"url"}`), "elicitationId", wire.Quote(g.elicitationID()))
		e = wire.SetMember(wire.SetMember(e, "url", wire.Quote(url)), "message", wire.Quote(say))
		r := refuse(http.StatusOK, wire.CodeElicitationRequired, rule, say+" Open "+url)
		r.Data = wire.Raw(`{"elicitations":[` + string(e) + `]}`)
		return r
	}
	return refuse(http.StatusOK, wire.CodeInternal, rule, say+" Open "+url+" in your browser, then try again.")
}

func (g *Gateway) pageModern(c *call, rule, key, say, url string) *Refusal {
	sealed, err := g.seal.seal([]byte{modeRetry}, c.stateBinding(), c.st.config.StateLife)
	if err != nil {
		return refuse(http.StatusInternalServerError, wire.CodeInternal, "state", "The request cannot be continued.").because(err)
	}
	params := wire.SetMember(wire.SetMember(wire.Raw(`{"mode":"url"}`), "url", wire.Quote(url)), "message", wire.Quote(say))
	ask := wire.SetMember(wire.Raw(`{"method":"elicitation/create"}`), "params", params)
	result := wire.SetMember(wire.Raw(`{"resultType":"input_required"}`), "inputRequests", wire.SetMember(wire.Raw("{}"), key, ask))
	r := refuse(http.StatusOK, 0, rule, say)
	r.Result = wire.SetMember(result, "requestState", wire.Quote(sealed))
	return r
}

// inputAllowed tells the methods whose results may ask for input (TR-18).
func inputAllowed(method string) bool {
	return method == wire.MethodToolsCall || method == wire.MethodResourcesRead || method == wire.MethodPromptsGet
}
