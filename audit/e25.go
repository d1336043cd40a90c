package audit

import (
	"context"
	"net/http"
	"time"

	"github.com/kidoban/kidoban"
)

// Revocation (E25-b, E25-c, E22-6, E04-i) and the end of a token's life (E04-h).

type revokeTrials struct {
	none kidoban.Result
	has  bool

	revoked     *kidoban.Exchange // the answer to the revocation
	accessAlive bool
	accessX     *kidoban.Exchange
	refreshed   *tokens // nil when there is no refresh token

	stranger    []*kidoban.Exchange // revocations by another client, by nobody
	strangerHit bool
	strangerX   *kidoban.Exchange

	lives    int64 // seconds, -1 unknown
	waited   bool
	expired  bool // the token opened the endpoint after its end
	expiredX *kidoban.Exchange
	codeOld  codeTrials
}

func probeRevocation() probe {
	keys := []string{"E25-b", "E25-c", "E22-6", "E04-i"}
	return define(spec{name: "revocation", keys: keys, tier: kidoban.T3}, collectRevocation, func(f *Facts, e revokeTrials) []kidoban.Result {
		if f.AS.Meta.RevocationEndpoint == "" {
			return everyone(keys, func(k string) kidoban.Result {
				return absent(k, "the server names no revocation endpoint (E25-a)", f.AS.X)
			})
		}
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		return judgeRevocation(f, &e)
	})
}

func collectRevocation(ctx context.Context, s *session) (e revokeTrials) {
	f := s.facts
	if f.Client == nil {
		e.none = untested("E25-b", kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return e
	}
	if f.AS.Meta.RevocationEndpoint == "" {
		return e
	}
	t, w := s.grantTokens(ctx, "E25-b", "a grant to revoke", f.Client, nil)
	if !t.issued() {
		e.none = w.noCode("E25-b")
		return e
	}
	e.has = true
	s.opens(ctx, t.Access)
	token, hint := t.Refresh, "refresh_token"
	if token == "" {
		token, hint = t.Access, "access_token"
	}
	e.revoked = s.revoke(ctx, "E25-b", "revoke the "+hint, f.Client, token, hint)
	e.accessAlive, e.accessX = s.alive(ctx, "E04-i", "the access token after the revocation", t.Access)
	if e.accessAlive && hint == "refresh_token" {
		// Some servers end the family only with each token: name the access token too.
		s.revoke(ctx, "E04-i", "revoke the access token", f.Client, t.Access, "access_token")
		e.accessAlive, e.accessX = s.alive(ctx, "E04-i", "the access token after its own revocation", t.Access)
	}
	if t.Refresh != "" {
		e.refreshed = s.refresh(ctx, "E22-6", "a refresh after the revocation", f.Client, t, t.Refresh)
	}
	if t, _ := s.grantTokens(ctx, "E25-c", "a grant for strangers to revoke", f.Client, nil); t.issued() {
		token := t.Refresh
		if token == "" {
			token = t.Access
		}
		if f.Other != nil {
			e.stranger = append(e.stranger, s.revoke(ctx, "E25-c", "another client revokes it", f.Other, token, ""))
		}
		e.stranger = append(e.stranger, s.revoke(ctx, "E25-c", "nobody revokes it", nil, token, ""))
		alive, x := s.alive(ctx, "E25-c", "the access token after that", t.Access)
		e.strangerHit, e.strangerX = !alive, x
	}
	return e
}

func judgeRevocation(f *Facts, e *revokeTrials) []kidoban.Result {
	var out []kidoban.Result
	if f.blind() {
		out = everyone([]string{"E04-i", "E22-6", "E25-c"}, func(k string) kidoban.Result { return absent(k, cannotSee, e.accessX) })
		if e.refreshed == nil {
			return append(out, absent("E25-b", cannotSee, e.accessX))
		}
		return append(out, tokenTrial("E25-b", "a revoked refresh token", "a revocation has no effect: the refresh token works", e.refreshed))
	}
	refreshed := e.refreshed.issued()
	xs := []*kidoban.Exchange{e.revoked, e.accessX}
	if e.refreshed != nil {
		xs = append(xs, e.refreshed.x)
	}
	if r, bad := unanswered("E25-b", e.revoked); bad {
		out = append(out, r, rekey(r, "E22-6"), rekey(r, "E04-i"))
	} else {
		switch {
		case e.accessAlive && (refreshed || e.refreshed == nil):
			what := "a revocation has no effect: the tokens stay good"
			if e.revoked.Status() != http.StatusOK {
				what = "a client cannot revoke its own tokens: the request is refused with status " + itoa(e.revoked.Status()) + errorText(e.revoked) + ", and they stay good"
			}
			out = append(out, positive("E25-b", kidoban.Confirmed, what, xs...),
				absent("E22-6", "nothing is revoked at all (E25-b)", xs...), absent("E04-i", "nothing is revoked at all (E25-b)", xs...))
		case e.accessAlive:
			out = append(out, passed("E25-b", "a revocation ends the refresh token", xs...), passed("E22-6", "a revoked refresh token is refused", xs...),
				positive("E04-i", kidoban.Confirmed, "an access token opens the endpoint after its grant was revoked", xs...))
		case refreshed:
			out = append(out, passed("E25-b", "a revocation ends the access token", xs...), passed("E04-i", "a revoked access token is refused", xs...),
				positive("E22-6", kidoban.Confirmed, "a refresh token works after its revocation", xs...))
		default:
			out = append(out, passed("E25-b", "a revocation ends the tokens", xs...), passed("E04-i", "a revoked access token is refused", xs...))
			if e.refreshed == nil {
				out = append(out, absent("E22-6", "the server gives no refresh tokens", e.revoked))
			} else {
				out = append(out, passed("E22-6", "a revoked refresh token is refused", xs...))
			}
		}
	}
	switch {
	case e.strangerX == nil:
		out = append(out, untested("E25-c", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case e.strangerHit:
		out = append(out, positive("E25-c", kidoban.Confirmed, "a token is revoked by somebody who is not its client", append(e.stranger, e.strangerX)...))
	default:
		out = append(out, passed("E25-c", "a stranger's revocation has no effect", append(e.stranger, e.strangerX)...))
	}
	return out
}

// probeLifetimes waits for tokens and codes to expire, so it comes last.
func probeLifetimes() probe {
	keys := []string{"E04-h", "F9-7"}
	return define(spec{name: "what expires", keys: keys, tier: kidoban.T3}, collectLifetimes, func(f *Facts, e revokeTrials) []kidoban.Result {
		if !e.has {
			return []kidoban.Result{rekey(e.none, "E04-h"), rekey(e.none, "F9-7")}
		}
		out := []kidoban.Result{judgeCodeLife(&e.codeOld)}
		if f.blind() {
			return append(out, absent("E04-h", cannotSee, e.expiredX))
		}
		return append(out, judgeExpired(&e))
	})
}

func collectLifetimes(ctx context.Context, s *session) (e revokeTrials) {
	f := s.facts
	if f.Client == nil {
		e.none = untested("E04-h", kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return e
	}
	t, w := s.grantTokens(ctx, "E04-h", "a grant to expire", f.Client, nil)
	if !t.issued() {
		e.none = w.noCode("E04-h")
	} else {
		e.has, e.lives = true, t.Expires
		s.opens(ctx, t.Access)
		if _, claims, ok := jwtOf(t.Access); ok && e.lives < 0 {
			if exp, isNum := claims["exp"].(float64); isNum {
				e.lives = int64(exp) - s.o.Now().Unix()
			}
		}
		if d := time.Duration(e.lives+60) * time.Second; e.lives >= 0 && e.lives < 1<<31 && s.patient(ctx, d) {
			e.waited = true
			e.expired, e.expiredX = s.alive(ctx, "E04-h", "the access token a minute after its end", t.Access)
		}
	}
	s.collectLife(ctx, &e.codeOld)
	return e
}

func judgeExpired(e *revokeTrials) kidoban.Result {
	const key = "E04-h"
	switch {
	case e.lives < 0:
		return absent(key, "the server does not say when its tokens expire (E24-b)")
	case !e.waited:
		return untested(key, kidoban.ReasonTime, patienceOf(time.Duration(e.lives+61)*time.Second))
	case e.expired:
		return positive(key, kidoban.Confirmed, "an access token opens the endpoint a minute after its end", e.expiredX)
	}
	return passed(key, "an expired access token is refused", e.expiredX)
}
