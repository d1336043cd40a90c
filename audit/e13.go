package audit

import (
	"context"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// E13: does registration take a redirect URI that is no address but content, or
// one that any program may claim? One registration for each scheme, with a value
// that does nothing.

type e13Evidence struct {
	at    attempt
	uri   string
	trail *Trail // an authorization request of the new client
}

// schemes are the redirect URIs of E13 by check; the nonce makes them unique.
var schemes = map[string]struct{ uri, what string }{
	"E13-a": {"javascript:void(0)//", "a javascript: redirect URI"},
	"E13-b": {"data:text/plain,", "a data: redirect URI"},
	"E13-c": {"kidoban:/cb/", "a redirect URI with a scheme of one word"},
}

func probeE13(key string) probe {
	c := schemes[key]
	return define(spec{name: "registration with " + c.what, keys: []string{key}, tier: kidoban.T2, cost: 5},
		func(ctx context.Context, s *session) e13Evidence {
			ev := e13Evidence{uri: c.uri + s.nonce(8)}
			ev.at = s.attempt(ctx, key, c.what, s.template(ev.uri))
			if key == "E13-a" {
				s.facts.script = ev.at.reg
			}
			if ev.kept() && s.facts.AS.Meta.AuthorizationEndpoint != "" {
				c2 := *ev.at.reg.Client
				c2.RedirectURI = ev.uri
				ev.trail = s.follow(ctx, key, "authorization with "+c.what, s.baseline(&c2))
			}
			return ev
		}, func(f *Facts, ev e13Evidence) []kidoban.Result { return one(judgeE13(key, f, ev)) })
}

// kept tells whether the URI stands in what was registered.
func (ev e13Evidence) kept() bool {
	return ev.at.accepted() && slices.Contains(ev.at.reg.Client.Redirects, ev.uri)
}

// judgeE13 says which was seen: registered, or taken up by the authorization
// endpoint as well. Registered and refused there is information, because another
// page may still use what is stored.
func judgeE13(key string, f *Facts, ev e13Evidence) kidoban.Result {
	what := schemes[key].what
	if r, ok := ev.at.turnedDown(key, what, f); ok {
		return r
	}
	x := ev.at.x()
	if !ev.kept() {
		return passed(key, "the client is registered without "+what, x)
	}
	fact := what + " is registered"
	if !ev.at.meta().Has("redirect_uris") {
		// The answer does not say what was stored; only its use would show it.
		if t := ev.trail; t == nil || !t.Kind.reached() {
			return unclear(key, kidoban.ReasonUnstable, "registration does not say which redirect URIs it keeps", x, t.Last())
		}
	}
	switch t := ev.trail; {
	case t == nil || t.Budget:
		return positive(key, kidoban.Likely, fact+"; whether the authorization endpoint uses it was not asked", x)
	case t.Kind == ErrorPage || t.Kind == CallbackError && !strings.HasSuffix(t.Error, "_required"):
		r := positive(key, kidoban.Signal, fact+", but the authorization endpoint refuses it: "+trailText(t), x, t.Last())
		r.Outcome, r.Severity = kidoban.Weak, kidoban.Info
		return r
	case t.Kind.reached():
		return positive(key, kidoban.Likely, fact+", and an authorization with it is taken up: "+trailText(t), x, t.Last())
	default:
		return positive(key, kidoban.Likely, fact+"; what the authorization endpoint makes of it cannot be seen", x, t.Last())
	}
}
