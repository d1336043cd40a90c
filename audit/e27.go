package audit

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// E27: other ways to make the authorization server send a browser away.

// probeE27Error makes the client with the foreign redirect URI cause an error.
func probeE27Error() probe {
	return define(spec{name: "errors to an unvetted client", keys: []string{"E27-a"}, tier: kidoban.T2, cost: 1},
		func(ctx context.Context, s *session) *Trail {
			c := s.facts.Foreign
			if c == nil {
				return nil
			}
			r := s.baseline(c)
			r.Params = r.Params.with("response_type", "kidoban_invalid")
			return s.followFront(ctx, outbound.NewJar(), "E27-a", "an invalid request of the foreign client", r)
		}, func(f *Facts, t *Trail) []kidoban.Result {
			const key = "E27-a"
			one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
			switch {
			case f.ForeignReg == nil:
				return one(untested(key, postReason(f), detailFor(postReason(f))))
			case f.Foreign == nil:
				if r, ok := foreignUnclear(key, f); ok {
					return one(r)
				}
				return one(absent(key, "no client with a foreign redirect URI could be registered", f.ForeignReg.X))
			}
			if r, ok := blocked(key, t); !ok {
				return one(r)
			}
			switch t.Kind {
			case CallbackError, CallbackCode, CallbackBare:
				return one(positive(key, kidoban.Confirmed, "an error sends the browser to an unvetted client's host before anybody has logged in", f.ForeignReg.X, t.Last()))
			case ErrorPage:
				return one(passed(key, "errors of an unvetted client stay on a local page", t.Last()))
			case Login, Consent, Upstream:
				return one(passed(key, "a page is shown before any redirect: "+trailText(t), t.Last()))
			}
			return one(unclear(key, kidoban.ReasonUnstable, trailText(t), t.Last()))
		})
}

// nextNames are the parameters that login pages take a target in.
var nextNames = []string{"next", "returnTo", "return_to", "redirect", "redirect_to", "continue", "url", "post_logout_redirect_uri"}

// probeE27Next gives the login page a target of ours in every usual parameter.
func probeE27Next() probe {
	return define(spec{name: "login page as redirector", keys: []string{"E27-b"}, tier: kidoban.T1, cost: 1},
		func(ctx context.Context, s *session) *kidoban.Exchange {
			b, jar := s.facts.Base, s.facts.baseJar
			if s.facts.front != nil {
				b, jar = s.facts.front, s.facts.frontJar
			}
			if b == nil || b.Kind != Login && b.Kind != Consent {
				return nil
			}
			target, to := s.foreign(), b.At
			for _, n := range nextNames {
				to = addQuery(to, n, target)
			}
			return s.do(ctx, outbound.Req{Method: http.MethodGet, URL: to, Jar: jar, Probe: "E27-b", Note: "the login page with a foreign target",
				Header: kidoban.Fields{{Name: "Accept", Value: "text/html"}}})
		}, func(f *Facts, x *kidoban.Exchange) []kidoban.Result {
			const key = "E27-b"
			one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
			if x == nil {
				if r, ok := blocked(key, f.Base); !ok {
					return one(r)
				}
				return one(absent(key, "no login page of the server's own was reached"))
			}
			if r, bad := unanswered(key, x); bad {
				return one(r)
			}
			if x.Status() >= 300 && x.Status() < 400 && isProbeURL(x.Header("Location")) {
				return one(positive(key, kidoban.Confirmed, "the login page redirects to a foreign host that a parameter names", x))
			}
			return one(passed(key, "a foreign target in the usual parameters is not followed", x))
		})
}

func addQuery(raw, name, value string) string {
	sep := "?"
	if strings.Contains(raw, "?") {
		sep = "&"
	}
	return raw + sep + url.QueryEscape(name) + "=" + url.QueryEscape(value)
}

// isProbeURL tells whether raw leads to the probe domain.
func isProbeURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && strings.HasSuffix(strings.ToLower(u.Hostname()), probeDomain)
}
