package audit

import (
	"context"

	"github.com/kidoban/kidoban"
)

// E04: does a wrong token work? The control is the request without a token: it
// must be refused, or the finding is E03.
func probeE04() probe {
	return define(spec{name: "fail-open tokens", keys: []string{"E04-a", "E04-b", "E04-c", "E04-d", "E04-e", "E04-f", "E04-g"}, tier: kidoban.T1},
		collectE04, judgeE04)
}

type wrongTokens struct {
	random, empty, scheme, second, unsigned, own, public volley
	noKeys                                               string            // why E04-g could not be asked
	keys                                                 *kidoban.Exchange // the answer that held no keys
}

func authz(values ...string) call {
	c := call{Method: "tools/list"}
	for _, v := range values {
		c.Header = append(c.Header, kidoban.Field{Name: "Authorization", Value: v})
	}
	return c
}

func collectE04(ctx context.Context, s *session) (w wrongTokens) {
	if s.facts.door() != doorClosed {
		return w
	}
	random := "kidoban-invalid-" + s.word(24)
	w.random = s.volley(ctx, "E04-a", 1, []form{
		{"a made-up bearer token", authz("Bearer " + random)},
		{"a made-up API key as bearer token", authz("Bearer sk-" + s.word(32))},
	})
	s.facts.anyBearer = w.random.hit() != nil
	w.scheme = s.volley(ctx, "E04-c", 1, []form{
		{"Basic authentication with an empty name and password", authz("Basic Og==")},
		{"a scheme of another name", authz("Token " + random)},
		{"a value without a scheme", authz(random)},
	})
	if s.facts.anyBearer {
		return w // every other bearer value is a made-up one too
	}
	w.unsigned = s.volley(ctx, "E04-e", 1, s.unsignedForms())
	w.own = s.volley(ctx, "E04-f", 1, s.ownForms())
	w.empty = s.volley(ctx, "E04-b", 1, []form{
		{"Bearer null", authz("Bearer null")},
		{"an empty bearer token", authz("Bearer ")},
		{"Bearer undefined", authz("Bearer undefined")},
		{"the scheme alone", authz("Bearer")},
	})
	w.second = s.volley(ctx, "E04-d", 0, []form{
		{"two Authorization headers", authz("Bearer "+random, "Bearer "+random+"2")},
		{"two Authorization headers of different schemes", authz("Basic Og==", "Bearer "+random)},
	})
	w.public, w.noKeys, w.keys = s.publicKeyForms(ctx)
	return w
}

func judgeE04(f *Facts, w wrongTokens) []kidoban.Result {
	keys := []string{"E04-a", "E04-b", "E04-c", "E04-d", "E04-e", "E04-f", "E04-g"}
	switch f.door() {
	case doorOpen:
		return everyone(keys, func(k string) kidoban.Result {
			return absent(k, "the tools are listed without any token (E03-a), so a wrong one proves nothing", f.List)
		})
	case doorUnknown:
		return everyone(keys, func(k string) kidoban.Result { return noControl(k, f) })
	}
	accepted := func(h *shot) string { return h.what + " is accepted: the tools are listed, where no token is refused" }
	out := []kidoban.Result{
		w.random.decide("E04-a", f.List, accepted, "a made-up bearer token is refused"),
		w.scheme.decide("E04-c", f.List, accepted, "other schemes are refused"),
	}
	if w.random.hit() != nil {
		return append(out, everyone([]string{"E04-b", "E04-d", "E04-e", "E04-f", "E04-g"}, func(k string) kidoban.Result {
			return absent(k, "any bearer token is accepted already (E04-a)", w.random.hit().first.last())
		})...)
	}
	out = append(out,
		w.empty.decide("E04-b", f.List, accepted, "an empty bearer token is refused"),
		w.second.decide("E04-d", f.List, accepted, "a second Authorization header does not help"),
		w.unsigned.decide("E04-e", f.List, accepted, "an unsigned JWT with the right issuer and audience is refused"),
		w.own.decide("E04-f", f.List, accepted, "a JWT signed with a key of our own is refused"))
	if w.noKeys != "" {
		if r, bad := f.unreadServer("E04-g"); bad {
			return append(out, r)
		}
		if r, bad := undecided("E04-g", "the key set", w.keys); bad && w.keys != nil {
			return append(out, r)
		}
		return append(out, absent("E04-g", w.noKeys))
	}
	return append(out, w.public.decide("E04-g", f.List, accepted, "a JWT that takes the public key for a shared secret is refused"))
}
