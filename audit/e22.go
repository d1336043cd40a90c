package audit

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Refresh tokens (E22), and what a refresh may change (E05-f).

type refreshTrials struct {
	none kidoban.Result
	has  bool // a refresh token was given

	first, second *tokens // the code's tokens, and those of the first refresh
	reuse         *tokens // the rotated one again
	late          bool    // 90 seconds later
	race          [2]*tokens
	stranger      *tokens
	noOther       bool
	wider         *tokens
	asked         string // the scope that was asked for on top
	access        *tokens
	resource      *tokens
	resourceWorks bool // its token opens this server
}

func probeRefresh() probe {
	keys := []string{"E22-1", "E22-2", "E22-3", "E22-4", "E22-5", "E22-7", "E05-f"}
	return define(spec{name: "refresh tokens", keys: keys, tier: kidoban.T3}, collectRefresh, func(f *Facts, e refreshTrials) []kidoban.Result {
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		return judgeRefresh(f, &e)
	})
}

// grantTokens gets fresh tokens for one probe.
func (s *session) grantTokens(ctx context.Context, key, note string, c *Client, change func(*authRequest)) (*tokens, walked) {
	t, w := s.ticket(ctx, key, note, c, change)
	if t == nil {
		return nil, w
	}
	return s.redeem(ctx, key, "tokens for it", t, nil), w
}

func collectRefresh(ctx context.Context, s *session) (e refreshTrials) {
	f := s.facts
	key := "E22-1"
	if f.Client == nil {
		e.none = untested(key, kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return e
	}
	var w walked
	e.first, w = s.grantTokens(ctx, key, "a grant to refresh", f.Client, nil)
	switch {
	case e.first == nil:
		e.none = w.noCode(key)
		return e
	case !e.first.issued():
		e.none = unclear(key, kidoban.ReasonUnstable, "the server gives no tokens for a genuine code", e.first.x)
		return e
	case e.first.Refresh == "":
		e.none = absent(key, "the server gives no refresh tokens", e.first.x)
		return e
	}
	e.has = true
	fresh := func(key, note string) *tokens {
		t, _ := s.grantTokens(ctx, key, note, f.Client, nil)
		if !t.issued() || t.Refresh == "" {
			return nil
		}
		return t
	}
	e.second = s.refresh(ctx, "E22-7", "the first refresh", f.Client, e.first, e.first.Refresh)
	if t := fresh("E22-2", "a grant to refresh twice at once"); t != nil {
		var wg sync.WaitGroup
		for i := range e.race {
			wg.Go(func() { e.race[i] = s.refresh(ctx, "E22-2", "one of two at the same time", f.Client, t, t.Refresh) })
		}
		wg.Wait()
	}
	if f.Other == nil {
		e.noOther = true
	} else if t := fresh("E22-3", "a grant for another client to refresh"); t != nil {
		e.stranger = s.refresh(ctx, "E22-3", "the refresh token in the hands of another client", f.Other, t, t.Refresh)
	}
	if t := fresh("E22-4", "a grant to widen"); t != nil {
		if e.asked = widerScope(f, t); e.asked != "" {
			e.wider = s.refresh(ctx, "E22-4", "a refresh with one scope more", f.Client, t, t.Refresh, param{"scope", e.asked})
		}
	}
	if t := fresh("E05-f", "a grant to turn to another resource"); t != nil {
		e.resource = s.refresh(ctx, "E05-f", "a refresh for another resource", f.Client, t, t.Refresh, param{"resource", "https://" + s.nonce(10) + probeDomain + "/mcp"})
		if e.resource.issued() {
			e.resourceWorks, _ = s.alive(ctx, "E05-f", "that token here", e.resource.Access)
		}
	}
	if t := fresh("E22-5", "a grant whose access token is tried as a refresh token"); t != nil {
		e.access = s.refresh(ctx, "E22-5", "the access token as refresh token", f.Client, t, t.Access)
	}
	if e.second.issued() && e.second.Refresh != e.first.Refresh {
		e.reuse = s.refresh(ctx, "E22-1", "the rotated refresh token again", f.Client, e.first, e.first.Refresh)
		if e.reuse.issued() && s.o.Patience >= 90*time.Second {
			// A grace window for clients that race is common: only a later reuse counts.
			if t := fresh("E22-1", "a grant to reuse later"); t != nil {
				next := s.refresh(ctx, "E22-1", "its first refresh", f.Client, t, t.Refresh)
				if next.issued() && s.patient(ctx, 90*time.Second) {
					e.reuse, e.late = s.refresh(ctx, "E22-1", "the rotated refresh token after 90 seconds", f.Client, t, t.Refresh), true
				}
			}
		}
	}
	return e
}

// widerScope returns the granted scopes and one more that the server offers.
func widerScope(f *Facts, t *tokens) string {
	have := strings.Fields(t.Scope)
	if len(have) == 0 {
		have = strings.Fields(f.SmallestScope)
	}
	offered := append([]string{}, f.Scopes...)
	if f.AS != nil {
		offered = append(offered, f.AS.Meta.ScopesSupported...)
	}
next:
	for _, o := range offered {
		if o == "offline_access" || o == "openid" {
			continue
		}
		for _, h := range have {
			if h == o {
				continue next
			}
		}
		return strings.Join(append(have, o), " ")
	}
	return ""
}

func judgeRefresh(f *Facts, e *refreshTrials) []kidoban.Result {
	var out []kidoban.Result
	rotated := e.second.issued() && e.second.Refresh != "" && e.second.Refresh != e.first.Refresh
	switch {
	case e.second == nil:
		out = append(out, untested("E22-7", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case !e.second.issued():
		out = append(out, unclear("E22-7", kidoban.ReasonUnstable, "a genuine refresh is refused"+errorText(e.second.x), e.second.x))
	case rotated:
		out = append(out, passed("E22-7", "a refresh gives a new refresh token", e.second.x))
	case f.Client.Secret != "":
		out = append(out, absent("E22-7", "the client is confidential", e.second.x))
	default:
		out = append(out, positive("E22-7", kidoban.Confirmed, "the refresh token of a public client stays the same after its use", e.first.x, e.second.x))
	}
	switch {
	case !rotated && e.second.issued():
		out = append(out, absent("E22-1", "refresh tokens are not rotated (E22-7)", e.second.x))
	case e.reuse == nil:
		out = append(out, untested("E22-1", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case e.reuse.issued() && !e.late:
		out = append(out, unhurried("E22-1", 2*time.Minute, "a rotated refresh token works within seconds, as grace windows allow; whether it works later was not waited for", e.reuse.x))
	default:
		out = append(out, tokenTrial("E22-1", "a rotated refresh token", "a refresh token works 90 seconds after it was rotated away", e.reuse))
	}
	a, b := e.race[0], e.race[1]
	switch {
	case a == nil || b == nil:
		out = append(out, untested("E22-2", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case !rotated, e.reuse.issued():
		out = append(out, absent("E22-2", "refresh tokens are good more than once anyway", a.x, b.x))
	case a.issued() && b.issued() && a.Refresh != b.Refresh:
		out = append(out, positive("E22-2", kidoban.Confirmed, "two refreshes at the same time both get tokens: the family forks", a.x, b.x))
	default:
		out = append(out, passed("E22-2", "of two refreshes at the same time at most one gets tokens", a.x, b.x))
	}
	if e.noOther {
		out = append(out, untested("E22-3", kidoban.ReasonClient, "a second --client-id, or open registration"))
	} else {
		out = append(out, tokenTrial("E22-3", "a refresh token in the hands of another client", "a refresh token works for another client", e.stranger))
	}
	switch {
	case e.asked == "":
		out = append(out, absent("E22-4", "there is no scope beyond the granted ones", e.first.x))
	case e.wider.issued() && e.wider.Scope != "" && !covers(e.wider.Scope, e.asked):
		out = append(out, passed("E22-4", "a refresh with one scope more gives the granted ones only", e.wider.x))
	default:
		out = append(out, tokenTrial("E22-4", "a refresh with one scope more", "a refresh may add scopes", e.wider))
	}
	out = append(out, tokenTrial("E22-5", "an access token as refresh token", "an access token works as a refresh token", e.access))
	r := tokenTrial("E05-f", "a refresh for another resource", "a refresh for a resource of somebody else gives a token", e.resource)
	if e.resourceWorks && !f.blind() {
		r.Severity, r.Summary = kidoban.Low, "a foreign resource in a refresh is ignored; the token is for this server"
	}
	return append(out, r)
}

// covers tells whether scope holds every word of asked.
func covers(scope, asked string) bool {
	have := map[string]bool{}
	for _, s := range strings.Fields(scope) {
		have[s] = true
	}
	for _, s := range strings.Fields(asked) {
		if !have[s] {
			return false
		}
	}
	return true
}
