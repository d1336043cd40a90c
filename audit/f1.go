package audit

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// F1: does open registration take a redirect URI that belongs to a stranger?
//
// An arbitrary https host is a weakness, not a hole: cloud clients need https
// hosts, and no clause forbids them. Plain http to another machine, and a list
// of accepted hosts that can be fooled, are failures.

type f1Evidence struct {
	uri   string
	reg   *Registration
	trail *Trail // the authorization request of the new client
	why   string // for a bypass: which rule of the list is fooled
}

func probeF1Https() probe {
	return define(spec{name: "registration with a foreign https redirect", keys: []string{"F1-a", "F1-e"}, tier: kidoban.T2, cost: 5},
		func(ctx context.Context, s *session) f1Evidence {
			uri := s.foreign()
			ev := s.tryRedirect(ctx, "F1-a", "a foreign https redirect URI", uri, "web")
			if ev.reg != nil {
				s.facts.ForeignReg = ev.reg
				if keeps(ev) {
					s.facts.foreignBase = ev.trail
					if ev.trail.Kind.reached() {
						s.facts.Foreign = ev.reg.Client
					}
				}
			}
			return ev
		}, func(f *Facts, ev f1Evidence) []kidoban.Result {
			return []kidoban.Result{judgeF1(f, "F1-a", "any https redirect URI is registered", ev), judgeF1Delivered(ev)}
		})
}

// judgeF1Delivered: where a code comes without any page, the stranger has it
// without a login of ours. Everywhere else F1-e needs one.
func judgeF1Delivered(ev f1Evidence) kidoban.Result {
	if t := ev.trail; t != nil && t.Kind == CallbackCode && startsURI(t.At, ev.uri) {
		return positive("F1-e", kidoban.Confirmed, "a code for the stranger's client is sent to its own host without any page being shown", ev.reg.X, t.Last())
	}
	return untested("F1-e", kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
}

func probeF1Http() probe {
	return define(spec{name: "registration with a plain http redirect", keys: []string{"F1-b"}, tier: kidoban.T2, cost: 5},
		func(ctx context.Context, s *session) f1Evidence {
			return s.tryRedirect(ctx, "F1-b", "a plain http redirect URI", "http://"+s.nonce(10)+probeDomain+"/cb", "web")
		}, func(f *Facts, ev f1Evidence) []kidoban.Result {
			return []kidoban.Result{judgeF1(f, "F1-b", "a plain http redirect URI on another machine is registered", ev)}
		})
}

// probeF1Bypass tries to fool a list of accepted redirect URIs: the three forms
// that promise most for what is known of the list.
func probeF1Bypass() probe {
	return define(spec{name: "bypass of the list of redirect URIs", keys: []string{"F1-d"}, tier: kidoban.T2, cost: 5},
		func(ctx context.Context, s *session) []f1Evidence {
			f := s.facts
			if f.ForeignReg == nil || !(attempt{reg: f.ForeignReg}).refused() {
				return nil // no list is known that could be fooled
			}
			var out []f1Evidence
			for _, b := range bypasses(f.ForeignReg.X, s.nonce(10)+probeDomain) {
				ev := s.tryRedirect(ctx, "F1-d", "a redirect URI that only looks accepted", b.uri, b.kind)
				ev.why = b.why
				if ev.reg == nil {
					break
				}
				out = append(out, ev)
				if keeps(ev) {
					break
				}
			}
			return out
		}, judgeF1Bypass)
}

type bypass struct{ uri, why, kind string }

var hostInText = regexp.MustCompile(`\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b`)

// bypasses picks three forms against the accepted pattern: https hosts named in
// the refusal come first, loopback (which C0 showed to be accepted) fills up.
func bypasses(refusal *kidoban.Exchange, evil string) []bypass {
	var out []bypass
	if refusal != nil && refusal.Response != nil {
		for _, h := range hostInText.FindAllString(strings.ToLower(string(head(refusal.Response.Body, 4096))), 8) {
			if strings.HasSuffix(h, probeDomain[1:]) || strings.HasPrefix(h, "client") && !strings.Contains(h, ".") {
				continue
			}
			out = append(out, bypass{"https://" + h + "@" + evil + "/", "an accepted host as user name", "web"})
			break
		}
	}
	out = append(out,
		bypass{"http://127.0.0.1." + evil + "/cb", "a host that begins with 127.0.0.1", "native"},
		bypass{"http://localhost." + evil + "/cb", "a host that begins with localhost", "native"},
		bypass{"http://127.0.0.1@" + evil + "/cb", "127.0.0.1 as user name", "native"})
	return out[:3]
}

func judgeF1Bypass(f *Facts, evs []f1Evidence) []kidoban.Result {
	const key = "F1-d"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	switch {
	case f.ForeignReg == nil:
		return one(untested(key, postReason(f), detailFor(postReason(f))))
	case len(evs) == 0 && !f.ForeignReg.accepted() && !(attempt{reg: f.ForeignReg}).refused():
		r, _ := (attempt{reg: f.ForeignReg}).turnedDown(key, "a foreign https redirect URI", f)
		return one(r)
	case f.ForeignReg.accepted():
		return one(absent(key, "there is no list to bypass: any https redirect URI is registered", f.ForeignReg.X))
	case len(evs) == 0:
		return one(untested(key, postReason(f), detailFor(postReason(f))))
	}
	var xs []*kidoban.Exchange
	for _, ev := range evs {
		if keeps(ev) {
			return one(judgeF1(f, key, "the list of accepted redirect URIs is fooled by "+ev.why, ev))
		}
		if r, ok := (attempt{reg: ev.reg}).turnedDown(key, "it", f); ok && r.Outcome != kidoban.Pass {
			return one(r)
		}
		xs = append(xs, ev.reg.X)
	}
	return one(passed(key, "redirect URIs that only look accepted are refused", xs...))
}

// tryRedirect registers C0 with another redirect URI and, when it is kept, asks
// for an authorization with it: registered is not delivered.
func (s *session) tryRedirect(ctx context.Context, key, note, uri, kind string) f1Evidence {
	ev := f1Evidence{uri: uri}
	meta := s.template(uri)
	meta["application_type"] = kind
	r, ok := s.register(ctx, key, note, meta)
	if !ok {
		return ev
	}
	ev.reg = &r
	if keeps(ev) {
		c := *r.Client
		c.RedirectURI = uri
		req := s.baseline(&c)
		ev.trail = s.sample(ctx, key, "authorization with "+note, req)
	}
	return ev
}

// keeps tells whether the registration was accepted with the redirect URI that
// was asked for; a server may replace it (RFC 7591 §3.2.1).
func keeps(ev f1Evidence) bool {
	return ev.reg != nil && ev.reg.accepted() && slices.Contains(ev.reg.Client.Redirects, ev.uri)
}

func judgeF1(f *Facts, key, fact string, ev f1Evidence) kidoban.Result {
	if ev.reg == nil {
		return untested(key, kidoban.ReasonOwnServer, detailFor(kidoban.ReasonOwnServer))
	}
	x := ev.reg.X
	if r, ok := (attempt{reg: ev.reg}).turnedDown(key, "it", f); ok {
		return r
	}
	if !keeps(ev) {
		return passed(key, "the server registers the client without that redirect URI", x)
	}
	// Registered is not delivered: what the authorization endpoint makes of the
	// client decides, as far as it can be seen.
	t := ev.trail
	if r, ok := blocked(key, t); !ok {
		return r
	}
	blind := func(control *Trail) bool { _, bad := unclearKind(control); return control != nil && bad }
	switch {
	case t.Kind != CallbackCode && (blind(f.N1) || blind(f.N2)):
		return unclear(key, kidoban.ReasonUnstable, "it is registered; whether the authorization endpoint looks at it cannot be told, because the controls got no answer", x, t.Last())
	case t.Kind != CallbackCode && sigOf(f.N1) == t.Signature() && sigOf(f.N2) == t.Signature():
		return unclear(key, kidoban.ReasonDeferred, "it is registered; whether it is served shows after the login that everybody gets", x, t.Last())
	case t.Kind == ErrorPage || t.Kind == CallbackError && !strings.HasSuffix(t.Error, "_required"):
		return passed(key, "it is registered, but the authorization endpoint refuses it: "+trailText(t), x, t.Last())
	case t.Kind.reached():
		return positive(key, kidoban.Likely, fact+", and an authorization with it is taken up: "+trailText(t), x, t.Last())
	}
	return unclear(key, kidoban.ReasonUnstable, "it is registered; an authorization with it ends with "+trailText(t), x, t.Last())
}

func errorText(x *kidoban.Exchange) string {
	if e := oauthError(x); e != "" {
		return " (" + e + ")"
	}
	return ""
}

// postReason says why a registration was not sent.
func postReason(f *Facts) kidoban.Reason {
	if f.Lab {
		return kidoban.ReasonBudget
	}
	return kidoban.ReasonOwnServer
}

// withPort returns raw with its port replaced.
func withPort(raw, port string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Host = u.Hostname() + ":" + port
	return u.String()
}
