package audit

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
)

// F5: does the authorization server take a request without PKCE, or with a
// weak form of it?
func probeF5() probe {
	return define(spec{name: "PKCE downgrade", keys: []string{"F5-a", "F5-b", "F5-c", "F5-d"}, tier: kidoban.T1, cost: 4},
		func(ctx context.Context, s *session) []mutation {
			req := s.baseline(s.facts.Client)
			verifier := s.secret(32) // 43 characters: a verifier that strict servers take as plain challenge
			var out []mutation
			add := func(key, what string, p params) {
				m := mutation{key: key, what: what}
				if s.wants(key) && s.left() > 0 {
					r := req
					r.Params = p
					m.asked, m.t = true, s.mutate(ctx, key, what, r, s.trials())
					if Decide(m.t).Outcome == kidoban.Fail {
						s.doubts = append(s.doubts, key)
					}
				}
				out = append(out, m)
			}
			p := req.Params
			add("F5-a", "a request without code_challenge", p.without("code_challenge", "code_challenge_method"))
			add("F5-b", "code_challenge_method=plain", p.with("code_challenge", verifier).with("code_challenge_method", "plain"))
			add("F5-c", "a code_challenge without method", p.with("code_challenge", verifier).without("code_challenge_method"))
			add("F5-d", "an unknown code_challenge_method", p.with("code_challenge_method", "S512"))
			return out
		}, func(f *Facts, ms []mutation) []kidoban.Result {
			if f.Client.Secret == "" {
				return verdicts(ms)
			}
			var out []kidoban.Result
			for _, r := range verdicts(ms) { // PKCE is only recommended for confidential clients
				if r.Outcome == kidoban.Fail {
					r.Severity = kidoban.Info
				}
				out = append(out, r)
			}
			return out
		})
}

// probeF5Metadata reads what the metadata promise: ["S256"] and nothing else.
func probeF5Metadata() probe {
	return judging("PKCE in the metadata", kidoban.T1, []string{"F5-e"}, judgePKCEMetadata)
}

func judgePKCEMetadata(f *Facts) []kidoban.Result {
	m := f.AS.Meta.CodeChallengeMethodsSupported
	x := f.AS.X
	switch {
	case len(m) == 0:
		return []kidoban.Result{positive("F5-e", kidoban.Confirmed, "the metadata name no code_challenge_methods_supported, so clients must refuse the server", x)}
	case !slices.Contains(m, "S256"):
		return []kidoban.Result{positive("F5-e", kidoban.Confirmed, "code_challenge_methods_supported lacks S256", x)}
	case slices.Contains(m, "plain"):
		return []kidoban.Result{positive("F5-e", kidoban.Confirmed, "code_challenge_methods_supported offers plain beside S256", x)}
	case len(m) > 1:
		return []kidoban.Result{positive("F5-e", kidoban.Confirmed, "code_challenge_methods_supported offers more than S256", x)}
	}
	return []kidoban.Result{passed("F5-e", `code_challenge_methods_supported is ["S256"]`, x)}
}

// probeF5Confidential asks the same of a client that has a secret. Leaving the
// challenge out is allowed there, so a positive is information.
func probeF5Confidential() probe {
	type evidence struct {
		reg *Registration
		m   mutation
	}
	return define(spec{name: "confidential client without PKCE", keys: []string{"F5-j"}, tier: kidoban.T2, cost: 5},
		func(ctx context.Context, s *session) (ev evidence) {
			methods := s.facts.AS.Meta.TokenAuthMethods()
			method := "client_secret_post"
			if !slices.Contains(methods, method) {
				method = "client_secret_basic"
			}
			meta := s.template(s.loopbackRedirect())
			meta["token_endpoint_auth_method"] = method
			r, ok := s.register(ctx, "F5-j", "a confidential client", meta)
			if !ok {
				return ev
			}
			ev.reg = &r
			if !r.accepted() || r.Client.Secret == "" {
				return ev
			}
			req := s.baseline(r.Client)
			req.Params = req.Params.without("code_challenge", "code_challenge_method")
			ev.m = mutation{key: "F5-j", what: "a confidential client's request without code_challenge", asked: true}
			ev.m.t = s.mutate(ctx, "F5-j", ev.m.what, req, s.trials())
			return ev
		}, func(f *Facts, ev evidence) []kidoban.Result {
			one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
			switch {
			case ev.reg == nil:
				return one(untested("F5-j", postReason(f), detailFor(postReason(f))))
			case !ev.reg.accepted():
				if r, _ := (attempt{reg: ev.reg}).turnedDown("F5-j", "a confidential client", f); r.Outcome != kidoban.Pass {
					return one(r)
				}
				return one(absent("F5-j", "the server registers no confidential clients", ev.reg.X))
			case f.Base == nil:
				r, _ := gateClient(kidoban.Check{ID: "F5", Variant: "j", Needs: kidoban.NeedsClient}, f)
				return one(r)
			case ev.reg.Client.Secret == "":
				return one(absent("F5-j", "the server gave the client no secret", ev.reg.X))
			}
			return verdicts([]mutation{ev.m})
		})
}
