package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/wire"
)

// Whether a caller may have to do with a server at all is asked at every door: for
// a message, for a stream, for each server behind the aggregate, and again for each
// notification of a stream that is open, since rules may change meanwhile. What a
// server is not to know of the caller, it is not asked: the question comes before
// any relationship with it.

// connects judges whether the caller may have to do with the server; nil is a yes.
func (g *Gateway) connects(c *call, s *server) *Refusal {
	if g.deps.Guards.Policy == nil {
		return nil
	}
	if refusal := g.deps.Guards.Policy.Connects(c.r.Context(), &c.Call, s.Name); refusal != nil {
		if c.Message.Kind != wire.Request { // a stream, a notification, an answer: nobody reads an error in the body
			refusal.Status = http.StatusForbidden
		}
		return refusal
	}
	return nil
}

// Connects implements Policy.
func (g *PolicyGuard) Connects(ctx context.Context, c *Call, server string) *Refusal {
	who, err := g.person(ctx, c.Caller.User)
	if err != nil {
		return refuse(http.StatusOK, wire.CodeInternal, ruleUnknown, sayUnsure).because(err)
	}
	rules := g.rules.Load()
	return barred(rules.connect(rules.principal(who), c, server, g.now))
}

// connect asks the one decision point about a server; a stream may be older than
// the hour that a policy reads, so the moment is now.
func (r *PolicyRules) connect(who policy.Principal, c *Call, server string, now func() time.Time) policy.Verdict {
	return r.Set.Decide(&policy.Query{Principal: who, Action: policy.Connect, Client: c.Caller.Client, Scopes: c.Caller.Scopes, Method: c.Message.Method,
		Era: string(c.Era), Address: c.Address, At: now(), Object: policy.Object{Kind: policy.Server, Server: server}})
}

// barred is the answer to who may not connect. A verdict that waits for a person is
// none of it: the requests that may ask for a yes do so themselves.
func barred(v policy.Verdict) *Refusal {
	if v.Effect != policy.Deny {
		return nil
	}
	rule := "policy:none"
	if len(v.Policies) > 0 {
		rule = "policy:" + v.Policies[0]
	}
	refusal := refuse(http.StatusOK, wire.CodeInvalidParams, rule, sayDenied).because(v.Err)
	refusal.policies = v.Policies
	return refusal
}
