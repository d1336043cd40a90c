package audit

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
)

// E19: is the secret that registration hands out ever looked at? The token
// endpoint gets a made-up code four times: with the right secret, a wrong one,
// none, and the right one in the other way. A server that authenticates clients
// refuses the client before it refuses the code.

type e19Evidence struct {
	at                            attempt
	method                        string // the registered one
	right, wrong, missing, otherx *kidoban.Exchange
}

func probeE19() probe {
	return define(spec{name: "client authentication", keys: []string{"E19-a", "E19-b", "E19-c"}, tier: kidoban.T2, cost: 8},
		func(ctx context.Context, s *session) (ev e19Evidence) {
			if s.facts.AS.Meta.TokenEndpoint == "" {
				return ev
			}
			ev.at = s.confidential(ctx)
			if !ev.at.accepted() || ev.at.reg.Client.Secret == "" {
				return ev
			}
			c := ev.at.reg.Client
			ev.method = c.Meta.AuthMethod()
			if !isSecretMethod(ev.method) {
				return ev
			}
			other := "client_secret_post"
			if ev.method == other {
				other = "client_secret_basic"
			}
			code := func() params {
				return params{{"grant_type", "authorization_code"}, {"code", "kidoban-invalid-" + s.nonce(16)}, {"redirect_uri", c.RedirectURI},
					{"code_verifier", s.secret(32)}, {"resource", s.facts.Resource}}
			}
			send := func(note, method, secret string) *kidoban.Exchange {
				return s.asClient(ctx, "E19", note, s.facts.AS.Meta.TokenEndpoint, c, method, secret, code())
			}
			ev.right = s.asOwner(ctx, "E19", "a made-up code with the right secret", s.facts.AS.Meta.TokenEndpoint, c, code())
			ev.wrong = send("with a wrong secret", ev.method, s.secret(24))
			ev.missing = send("without a secret", "none", "")
			ev.otherx = send("with the right secret in another way", other, c.Secret)
			return ev
		}, judgeE19)
}

// confidential returns the client with a secret that E19 and E20 share: the one
// of E18 where there is one, because registrations are dear.
func (s *session) confidential(ctx context.Context) attempt {
	if r := s.facts.secretive; r != nil {
		return attempt{reg: r}
	}
	meta := s.template(s.loopbackRedirect())
	meta["token_endpoint_auth_method"] = secretMethod(s.facts)
	at := s.attempt(ctx, "E19", "a confidential client", meta)
	if at.accepted() && at.reg.Client.Secret != "" {
		s.facts.secretive = at.reg
	}
	return at
}

func isSecretMethod(m string) bool {
	return m == "client_secret_basic" || m == "client_secret_post"
}

// past tells whether an answer to a made-up code comes from behind the client's
// authentication: it is the code that is refused.
func past(x *kidoban.Exchange) bool {
	e := oauthError(x)
	return e == "invalid_grant" || x.Status() != 401 && slices.Contains([]string{"invalid_request", "invalid_target", "invalid_scope"}, e)
}

// turnsAway tells whether an answer refuses the client.
func turnsAway(x *kidoban.Exchange) bool {
	return !hidden(x) && !past(x) && x.Status() >= 400
}

func judgeE19(f *Facts, ev e19Evidence) []kidoban.Result {
	keys := []string{"E19-a", "E19-b", "E19-c"}
	all := func(judge func(key string) kidoban.Result) (out []kidoban.Result) {
		for _, k := range keys {
			out = append(out, judge(k))
		}
		return out
	}
	if f.AS.Meta.TokenEndpoint == "" {
		return all(func(k string) kidoban.Result { return absent(k, "the metadata name no token endpoint") })
	}
	if !ev.at.accepted() {
		return all(func(k string) kidoban.Result {
			r, _ := ev.at.turnedDown(k, "a confidential client", f)
			if r.Outcome == kidoban.Pass {
				return absent(k, "the server registers no confidential clients", ev.at.x())
			}
			return r
		})
	}
	if ev.at.reg.Client.Secret == "" || !isSecretMethod(ev.method) {
		return all(func(k string) kidoban.Result {
			return absent(k, "the server registers the client without a secret to check", ev.at.x())
		})
	}
	if !past(ev.right) {
		return all(func(k string) kidoban.Result {
			if r, bad := unanswered(k, ev.right); bad {
				return r
			}
			return unclear(k, kidoban.ReasonUnstable, "the right secret is not accepted either: status "+itoa(ev.right.Status())+errorText(ev.right), ev.right)
		})
	}
	if !turnsAway(ev.wrong) && !turnsAway(ev.missing) && !turnsAway(ev.otherx) {
		return all(func(k string) kidoban.Result {
			return unclear(k, kidoban.ReasonDeferred, "the token endpoint looks at the code before the client: a real code would tell", ev.right, ev.wrong, ev.missing, ev.otherx)
		})
	}
	return []kidoban.Result{
		judgeSecret("E19-a", "a wrong client secret", ev.right, ev.wrong),
		judgeSecret("E19-b", "a confidential client without its secret", ev.right, ev.missing),
		judgeSecret("E19-c", "the secret sent in another way than the registered "+ev.method, ev.right, ev.otherx),
	}
}

func judgeSecret(key, what string, right, x *kidoban.Exchange) kidoban.Result {
	if r, bad := unanswered(key, x); bad {
		return r
	}
	switch {
	case past(x):
		return positive(key, kidoban.Likely, what+" is accepted: the code is refused, as with the right secret, and not the client", right, x)
	case x.Status() == 401 || x.Status() == 400 || x.Status() == 403:
		return passed(key, what+" is refused with status "+itoa(x.Status())+errorText(x), x)
	}
	return unclear(key, kidoban.ReasonUnstable, what+" is answered with status "+itoa(x.Status()), x)
}
