package audit

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
)

// E26: do the implicit and hybrid response types, and the password grant, still
// work?
func probeE26() probe {
	return define(spec{name: "legacy response types", keys: []string{"E26-a", "E26-b"}, tier: kidoban.T1, cost: 2},
		func(ctx context.Context, s *session) []mutation {
			var out []mutation
			for _, m := range []struct{ key, value string }{{"E26-a", "token"}, {"E26-b", "code token"}} {
				r := s.baseline(s.facts.Client)
				r.Params = r.Params.with("response_type", m.value).and("nonce", s.nonce(16))
				one := mutation{key: m.key, what: "response_type=" + m.value}
				if s.wants(m.key) && s.left() > 0 {
					one.asked, one.t = true, s.mutate(ctx, m.key, one.what, r, s.trials())
				}
				out = append(out, one)
			}
			return out
		}, func(f *Facts, ms []mutation) []kidoban.Result {
			for i := range ms {
				if ms[i].asked && plainCode(ms[i].t.M1) {
					ms[i].plain = true
				}
			}
			return verdicts(ms)
		})
}

// plainCode tells whether a trail ended with a code alone: whatever was asked for, no
// token came through the browser.
func plainCode(t *Trail) bool {
	if t == nil || t.Kind != CallbackCode {
		return false
	}
	v, mode := callbackParams(t.At)
	return mode == "query" && v.Get("code") != "" && !v.Has("access_token") && !v.Has("id_token")
}

// passwordGrant is the grant asked for with made-up data, and where that is refused
// for the data, with the tester's own.
type passwordGrant struct {
	made *kidoban.Exchange
	own  *tokens
}

// probeE26Password sends one password grant with made-up data, to servers of the
// tester or to those that advertise the grant.
func probeE26Password() probe {
	return define(spec{name: "password grant", keys: []string{"E26-c"}, tier: kidoban.T2, cost: 1},
		func(ctx context.Context, s *session) (ev passwordGrant) {
			as := s.facts.AS
			if as.Meta.TokenEndpoint == "" || !s.o.Lab && !s.o.OwnServer && !slices.Contains(as.Meta.GrantTypesSupported, "password") {
				return ev
			}
			p := params{{"grant_type", "password"}, {"username", "kidoban-" + s.nonce(8)}, {"password", s.secret(12)}, {"client_id", s.facts.Client.ID}}
			ev.made = s.form(ctx, "E26-c", "password grant with made-up data", as.Meta.TokenEndpoint, p)
			if oauthError(ev.made) == "invalid_grant" && s.o.loggedIn() && s.o.Login.Password != "" {
				// Some servers look at the person before they look at the grant type: the
				// tester's own account tells.
				own := params{{"grant_type", "password"}, {"username", s.o.Login.User}, {"password", s.o.Login.Password}, {"client_id", s.facts.Client.ID}}
				ev.own = s.ask(ctx, "E26-c", "password grant of the tester", s.facts.Client, own, nil)
			}
			return ev
		}, func(f *Facts, ev passwordGrant) []kidoban.Result {
			const key = "E26-c"
			x := ev.made
			if x == nil {
				return []kidoban.Result{untested(key, kidoban.ReasonOwnServer, detailFor(kidoban.ReasonOwnServer))}
			}
			if r, bad := undecided(key, "the password grant", x); bad {
				return []kidoban.Result{r}
			}
			switch e := oauthError(x); {
			case ev.own.issued():
				return []kidoban.Result{positive(key, kidoban.Confirmed, "the password grant gives a token for a person's name and password", x, ev.own.x)}
			case ev.own != nil && ev.own.x.Response != nil:
				return []kidoban.Result{passed(key, "the password grant is refused even with the right password"+errorText(ev.own.x), x, ev.own.x)}
			case e == "invalid_grant":
				return []kidoban.Result{positive(key, kidoban.Likely, "the password grant is served: made-up credentials get invalid_grant", x)}
			case x.Status() == 200 && jsonObject(x.Response.Body)["access_token"] != nil:
				return []kidoban.Result{positive(key, kidoban.Likely, "the password grant gives a token for made-up credentials", x)}
			case e != "" || x.Status() >= 400:
				return []kidoban.Result{passed(key, "the password grant is refused"+errorText(x), x)}
			}
			return []kidoban.Result{unclear(key, kidoban.ReasonUnstable, "the token endpoint answers with status "+itoa(x.Status()), x)}
		})
}
