package audit

import (
	"context"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// E17: is registration bounded: in rate, in size, in time? Rate and size are
// tested on the tester's own servers only.

const (
	rateTries    = 10              // registrations of the rate test
	rateLab      = 21              // in a lab: of the whole run, because 20 in its window is a good limit
	manyURIs     = 200             // redirect URIs in one registration
	bigBody      = 64 << 10        // bytes of padding in one registration
	forwardedFor = "198.51.100.23" // RFC 5737: nobody's address
)

// probeE17Expiry reads from the run's registrations whether they ever end. Only
// the answer to a confidential client has a standard member that says so (RFC 7591
// section 3.2.1), so on the tester's own server one is registered when none was.
func probeE17Expiry() probe {
	return define(spec{name: "expiry of registrations", keys: []string{"E17-c"}, tier: kidoban.T2, cost: 3},
		func(ctx context.Context, s *session) attempt {
			reg := s.facts.registered
			if len(reg) > 0 && (!s.o.Lab && !s.o.OwnServer || slices.ContainsFunc(reg, tellsExpiry)) {
				return attempt{}
			}
			return s.confidential(ctx)
		}, func(f *Facts, at attempt) []kidoban.Result { return one(judgeExpiry(f, at)) })
}

// tellsExpiry tells whether the answer had the member that names the end, or named
// it otherwise.
func tellsExpiry(c *Client) bool { return c.Secret != "" || expiry(&c.Meta) != "" }

// judgeExpiry: that no answer names an end is a signal only, because servers may
// expire clients in silence. Where a limit or a fault kept the confidential client
// out, the answers to public ones show nothing.
func judgeExpiry(f *Facts, at attempt) kidoban.Result {
	const key = "E17-c"
	if len(f.registered) == 0 {
		r, _ := at.turnedDown(key, "a client", f)
		return r
	}
	var forever *kidoban.Exchange
	for _, c := range f.registered {
		if expiry(&c.Meta) != "" {
			return passed(key, "registrations end: the answer names when", c.X)
		}
		if c.Meta.ClientSecretExpiresAt != nil && c.Secret != "" {
			forever = c.X
		}
	}
	if forever != nil {
		return positive(key, kidoban.Signal, "client_secret_expires_at is 0: a registration by anybody never expires", forever)
	}
	if f.limited != nil && !slices.ContainsFunc(f.registered, tellsExpiry) {
		return unclear(key, kidoban.ReasonRateLimit, "registration is limited, so there is no client with a secret, whose answer would name its end", f.limited.X)
	}
	if at.reg != nil && !at.accepted() {
		if r, _ := at.turnedDown(key, "a client with a secret", f); r.Outcome != kidoban.Pass {
			return r
		}
	}
	return positive(key, kidoban.Signal, "no registration names a time at which it ends", f.registered[0].X)
}

type e17Size struct{ many, big attempt }

func probeE17Size() probe {
	const key = "E17-b"
	return define(spec{name: "registration without bounds", keys: []string{key}, tier: kidoban.T2, cost: 6},
		func(ctx context.Context, s *session) (ev e17Size) {
			meta := s.template("")
			uris := make([]string, manyURIs)
			for i := range uris {
				uris[i] = s.loopbackRedirect()
			}
			meta["redirect_uris"] = uris
			if ev.many = s.attempt(ctx, key, itoa(manyURIs)+" redirect URIs", meta); ev.kept() {
				return ev
			}
			meta = s.template(s.loopbackRedirect())
			meta["kidoban_padding"] = strings.Repeat("x", bigBody)
			ev.big = s.attempt(ctx, key, "a body of 64 kB", meta)
			return ev
		}, judgeE17Size)
}

// kept tells whether all the redirect URIs were registered.
func (ev e17Size) kept() bool {
	return ev.many.accepted() && len(ev.many.reg.Client.Redirects) >= manyURIs
}

func judgeE17Size(f *Facts, ev e17Size) []kidoban.Result {
	const key = "E17-b"
	if ev.kept() {
		return one(positive(key, kidoban.Confirmed, "a registration with "+itoa(manyURIs)+" redirect URIs is accepted", ev.many.x()))
	}
	if r, ok := ev.many.turnedDown(key, "a registration with "+itoa(manyURIs)+" redirect URIs", f); ok && r.Outcome != kidoban.Pass {
		return one(r)
	}
	if r, ok := ev.big.turnedDown(key, "a registration of 64 kB", f); ok {
		if r.Outcome == kidoban.Pass {
			r = passed(key, "registrations are bounded: "+itoa(manyURIs)+" redirect URIs and a body of 64 kB are refused", ev.many.x(), ev.big.x())
		}
		return one(r)
	}
	return one(positive(key, kidoban.Confirmed, "a registration of 64 kB is accepted", ev.big.x()))
}

// e17Rate is what a quick series of harmless registrations met.
type e17Rate struct {
	tries     []Registration
	forwarded *Registration // one more with X-Forwarded-For, after a limit
	why       kidoban.Reason
}

func probeE17Rate() probe {
	return define(spec{name: "rate of registrations", keys: []string{"E17-a", "E17-d"}, tier: kidoban.T2, cost: rateTries * (1 + cleanCost)},
		func(ctx context.Context, s *session) (ev e17Rate) {
			want := rateTries
			if s.o.Lab {
				want = max(want, rateLab-s.posts[s.facts.AS.Issuer])
			}
			if s.facts.closed() != nil && s.facts.limited == nil || s.facts.Client == nil && len(s.facts.C0) > 0 && s.facts.limited == nil {
				return ev
			}
			if l := s.facts.limited; l != nil {
				ev.tries = []Registration{*l}
			} else if s.left() < want*(1+cleanCost)+4 {
				ev.why = kidoban.ReasonBudget
				return ev
			}
			for s.facts.limited == nil && len(ev.tries) < want {
				r, ok := s.register(ctx, "E17-a", "registration "+itoa(len(ev.tries)+1)+" of a quick series", s.template(s.loopbackRedirect()))
				if !ok {
					ev.why = kidoban.ReasonBudget
					return ev
				}
				ev.tries = append(ev.tries, r)
				if !r.accepted() {
					break
				}
			}
			if s.facts.limited != nil && s.wants("E17-d") {
				// The one place where this header is sent: a server that believes it resets
				// its limit for whoever writes another address.
				if r, ok := s.register(ctx, "E17-d", "after the limit, from another address by X-Forwarded-For", s.template(s.loopbackRedirect()), kidoban.Field{Name: "X-Forwarded-For", Value: forwardedFor}); ok {
					ev.forwarded = &r
				}
			}
			return ev
		}, judgeE17Rate)
}

func judgeE17Rate(f *Facts, ev e17Rate) []kidoban.Result {
	const a, d = "E17-a", "E17-d"
	both := func(judge func(key string) kidoban.Result) []kidoban.Result {
		return []kidoban.Result{judge(a), judge(d)}
	}
	if ev.why != "" && (len(ev.tries) == 0 || ev.tries[len(ev.tries)-1].accepted()) {
		return both(func(k string) kidoban.Result { return untested(k, ev.why, detailFor(ev.why)) })
	}
	if len(ev.tries) == 0 {
		return both(func(k string) kidoban.Result {
			r, ok := attempt{reg: f.closed()}.turnedDown(k, "every client", f)
			if !ok || r.Outcome != kidoban.Pass && r.Outcome != kidoban.Inconclusive {
				return unclear(k, kidoban.ReasonUnstable, "registration refuses a harmless client", lastC0(f))
			}
			return r
		})
	}
	first, last := &ev.tries[0], &ev.tries[len(ev.tries)-1]
	switch {
	case rateLimited(last.X):
		return []kidoban.Result{
			passed(a, "registrations are limited: status "+itoa(last.X.Status())+errorText(last.X), last.X),
			judgeForwarded(last, ev.forwarded),
		}
	case !last.accepted():
		if last.X.Status() == 403 && !challenged(last.X) {
			return []kidoban.Result{passed(a, "a series of registrations is cut off with status 403", last.X), absent(d, "the series is cut off by other means than a limit", last.X)}
		}
		return both(func(k string) kidoban.Result {
			if r, bad := unanswered(k, last.X); bad {
				return r
			}
			return unclear(k, kidoban.ReasonUnstable, "the series ends with status "+itoa(last.X.Status()), last.X)
		})
	case len(ev.tries) > 1 && first.Client.ID == last.Client.ID:
		return both(func(k string) kidoban.Result {
			return unclear(k, kidoban.ReasonUnstable, "every registration gives the same client, so nothing is piled up", first.X, last.X)
		})
	}
	return []kidoban.Result{
		positive(a, kidoban.Confirmed, "a quick series of registrations meets no limit", first.X, last.X),
		absent(d, "there is no limit to reset", last.X),
	}
}

func judgeForwarded(limit, r *Registration) kidoban.Result {
	const key = "E17-d"
	if r == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	switch {
	case r.accepted():
		return positive(key, kidoban.Confirmed, "another X-Forwarded-For header resets the limit on registrations", limit.X, r.X)
	case rateLimited(r.X):
		return passed(key, "X-Forwarded-For does not reset the limit", limit.X, r.X)
	}
	if u, bad := unanswered(key, r.X); bad {
		return u
	}
	return unclear(key, kidoban.ReasonUnstable, "the request with X-Forwarded-For is answered with status "+itoa(r.X.Status()), limit.X, r.X)
}
