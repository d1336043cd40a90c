package audit

import (
	"context"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// What a code is worth: once (F9), with its verifier (F5-f to F5-i), to its client
// at its redirect URI (E21, F7-18). Every try has a code of its own.

type codeTrials struct {
	none kidoban.Result // why there is no code at all; its key is replaced
	has  bool

	good, replay *tokens // the same request twice
	alive        *kidoban.Exchange
	stillAlive   bool

	race [2]*tokens

	wrong, right *tokens // a wrong verifier, then the right one

	spent, badReplay *tokens // a good exchange, then a replay with a wrong verifier
	afterBad         *kidoban.Exchange
	aliveAfterBad    bool

	bare, short *tokens // without verifier; with one of 42 characters
	late        *tokens // a verifier where there was no challenge
	lateWalk    walked

	stranger, anonymous *tokens // the code in the hands of another client, of no client
	foreign, sibling    *tokens // with a redirect URI of nobody, with another one of the client
	noOther             bool    // there is no second client

	old      *tokens // after ten minutes and a half
	lifetime bool    // the run waited for it
}

func probeCodes() probe {
	keys := []string{"F9-2", "F9-3", "F9-4", "F9-5", "F9-6", "F5-f", "F5-g", "F5-h", "F5-i", "E21-a", "E21-b", "E21-c", "F7-18"}
	return define(spec{name: "what a code is worth", keys: keys, tier: kidoban.T3}, collectCodes, func(f *Facts, c codeTrials) []kidoban.Result {
		if !c.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(c.none, k) })
		}
		out := append(judgeReplay(f, &c), judgeVerifier(&c)...)
		return append(out, judgeOwner(&c)...)
	})
}

// rekey gives one reason to several keys.
func rekey(r kidoban.Result, key string) kidoban.Result {
	b := blank(key)
	r.ID, r.Variant, r.Slug, r.Severity = b.ID, b.Variant, b.Slug, b.Severity
	return r
}

// noCode says why a walk gave no code.
func (w walked) noCode(key string) kidoban.Result {
	if r, bad := w.failed(key); bad {
		return r
	}
	if w.Journey != nil && w.Captured != "" {
		v, _ := callbackParams(w.Captured)
		return unclear(key, kidoban.ReasonUnstable, "the login ended with the error "+firstLine(v.Get("error"))+" instead of a code", w.last())
	}
	return unclear(key, kidoban.ReasonNeedsUI, "the login ended on a page that leads nowhere; a login script can say what to press", w.last())
}

func collectCodes(ctx context.Context, s *session) (c codeTrials) {
	f := s.facts
	if f.Client == nil {
		c.none = untested("F9-2", kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return c
	}
	code := func(key, note string, change func(*authRequest)) *ticket {
		t, _ := s.ticket(ctx, key, note, f.Client, change)
		return t
	}
	first, w := s.ticket(ctx, "F9-2", "a code to use twice", f.Client, nil)
	if first == nil {
		c.none = w.noCode("F9-2")
		return c
	}
	c.good = s.redeem(ctx, "F9-2", "the first use", first, nil)
	if !c.good.issued() {
		var x *kidoban.Exchange
		if c.good != nil {
			x = c.good.x
		}
		c.none = unclear("F9-2", kidoban.ReasonUnstable, "the server gives no tokens for a genuine code", x)
		return c
	}
	c.has = true
	s.enter(ctx, c.good.Access)
	s.sampleToken = c.good
	s.opens(ctx, c.good.Access)
	c.replay = s.redeem(ctx, "F9-2", "the same request again", first, nil)
	c.stillAlive, c.alive = s.alive(ctx, "F9-3", "the first token after the second use", c.good.Access)
	if c.stillAlive && c.good.Refresh != "" {
		// The server may have ended the grant although the endpoint does not notice,
		// which is E04-i: the refresh token tells.
		if again := s.refresh(ctx, "F9-3", "the first refresh token after the second use", f.Client, c.good, c.good.Refresh); again != nil {
			c.stillAlive, c.alive = again.issued(), again.x
		}
	}

	if s.wants("F9-4") {
		if t := code("F9-4", "a code for two at once", nil); t != nil {
			var wg sync.WaitGroup
			for i := range c.race {
				wg.Go(func() { c.race[i] = s.redeem(ctx, "F9-4", "one of two at the same time", t, nil) })
			}
			wg.Wait()
		}
	}
	if t := code("F5-g", "a code for a wrong verifier", nil); t != nil {
		c.wrong = s.redeem(ctx, "F5-g", "a wrong verifier", t, func(p params) params { return p.with("code_verifier", s.secret(32)) })
		c.right = s.redeem(ctx, "F9-5", "then the right one", t, nil)
	}
	if t := code("F9-6", "a code to use and to replay badly", nil); t != nil {
		c.spent = s.redeem(ctx, "F9-6", "the first use", t, nil)
		if c.spent.issued() {
			c.badReplay = s.redeem(ctx, "F9-6", "a second use with a wrong verifier", t, func(p params) params { return p.with("code_verifier", s.secret(32)) })
			c.aliveAfterBad, c.afterBad = s.alive(ctx, "F9-6", "the first token after that", c.spent.Access)
		}
	}
	if t := code("F5-f", "a code for a request without verifier", nil); t != nil {
		c.bare = s.redeem(ctx, "F5-f", "no verifier", t, func(p params) params { return p.without("code_verifier") })
	}
	short := s.secret(32)[:42]
	if t := code("F5-i", "a code whose verifier is too short", func(r *authRequest) { r.Params = r.Params.with("code_challenge", oauth.S256(short)) }); t != nil {
		c.short = s.redeem(ctx, "F5-i", "a verifier of 42 characters", t, func(p params) params { return p.with("code_verifier", short) })
	}
	t, lw := s.ticket(ctx, "F5-h", "a code asked for without challenge", f.Client, func(r *authRequest) { r.Params = r.Params.without("code_challenge", "code_challenge_method") })
	if c.lateWalk = lw; t != nil {
		c.late = s.redeem(ctx, "F5-h", "a verifier where there was no challenge", t, nil)
	}
	s.downgraded(ctx, code)
	s.collectOwner(ctx, &c)
	return c
}

// downgraded brings codes of the requests that were taken without S256 to the token
// endpoint, in the weak form that the attacker wants: a server may notice as late as
// there (OAuth 2.1 §4.1.3), or have taken the request for S256 all the same.
func (s *session) downgraded(ctx context.Context, code func(key, note string, change func(*authRequest)) *ticket) {
	s.settled = map[string]*tokens{}
	for _, key := range s.doubts {
		verifier := s.secret(32)
		t := code(key, "a code of a weak request", func(r *authRequest) {
			p := r.Params.with("code_challenge", verifier)
			switch key {
			case "F5-a":
				p = p.without("code_challenge", "code_challenge_method")
			case "F5-b":
				p = p.with("code_challenge_method", "plain")
			case "F5-c":
				p = p.without("code_challenge_method")
			case "F5-d":
				p = p.with("code_challenge_method", "S512")
			}
			r.Params = p
		})
		s.settled[key] = s.redeem(ctx, key, "the code of a weak request", t, func(p params) params {
			if key == "F5-a" {
				return p.without("code_verifier")
			}
			return p.with("code_verifier", verifier)
		})
	}
}

func (s *session) collectOwner(ctx context.Context, c *codeTrials) {
	f := s.facts
	if t, _ := s.ticket(ctx, "E21-b", "a code for a request without client", f.Client, nil); t != nil {
		c.anonymous = s.redeem(ctx, "E21-b", "no client_id", t, func(p params) params { return p.without("client_id") })
	}
	if f.Other == nil {
		c.noOther = true
		return
	}
	if t, _ := s.ticket(ctx, "E21-a", "a code for another client to use", f.Client, nil); t != nil {
		other := *t
		other.client = f.Other
		c.stranger = s.redeem(ctx, "E21-a", "the code in the hands of another client", &other, nil)
	}
	if t, _ := s.ticket(ctx, "F7-18", "a code to use with a foreign redirect URI", f.Other, nil); t != nil {
		c.foreign = s.redeem(ctx, "F7-18", "a redirect URI of nobody", t, func(p params) params { return p.with("redirect_uri", s.foreign()) })
	}
	if len(f.Other.Redirects) > 1 {
		if t, _ := s.ticket(ctx, "E21-c", "a code to use with the client's other redirect URI", f.Other, nil); t != nil {
			c.sibling = s.redeem(ctx, "E21-c", "another redirect URI of the same client", t, func(p params) params { return p.with("redirect_uri", f.Other.Redirects[1]) })
		}
	}
}

// collectLife waits, so it comes last of all that need the same codes.
func (s *session) collectLife(ctx context.Context, c *codeTrials) {
	const wait = 10*time.Minute + 30*time.Second
	if s.o.Patience < wait || !s.wants("F9-7") {
		return
	}
	t, _ := s.ticket(ctx, "F9-7", "a code to grow old", s.facts.Client, nil)
	if t != nil && s.patient(ctx, wait) {
		c.lifetime = true
		c.old = s.redeem(ctx, "F9-7", "after ten minutes and a half", t, nil)
	}
}

func judgeReplay(f *Facts, c *codeTrials) []kidoban.Result {
	var out []kidoban.Result
	twice := c.replay.issued()
	switch {
	case c.replay == nil:
		out = append(out, untested("F9-2", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case twice:
		r := positive("F9-2", kidoban.Confirmed, "a code is redeemed twice", c.good.x, c.replay.x)
		if c.replay.Access == c.good.Access {
			r.Outcome, r.Summary = kidoban.Weak, "a second use of a code within seconds gives the same tokens again"
		}
		out = append(out, r)
	default:
		out = append(out, refusedToken("F9-2", "a second use of a code", c.replay))
	}
	switch {
	case twice:
		out = append(out, absent("F9-3", "a second use is not refused at all (F9-2)", c.replay.x))
	case f.blind():
		out = append(out, absent("F9-3", cannotSee, c.alive))
	case c.stillAlive:
		out = append(out, positive("F9-3", kidoban.Confirmed, "the tokens of the first use stay good after the second", c.replay.x, c.alive))
	default:
		out = append(out, passed("F9-3", "a second use ends the tokens of the first", c.alive))
	}
	a, b := c.race[0], c.race[1]
	switch {
	case a == nil || b == nil:
		out = append(out, untested("F9-4", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case twice:
		out = append(out, absent("F9-4", "codes are good more than once anyway (F9-2)", a.x, b.x))
	case a.issued() && b.issued():
		out = append(out, positive("F9-4", kidoban.Confirmed, "two requests at the same time both get tokens for one code", a.x, b.x))
	default:
		out = append(out, passed("F9-4", "of two requests at the same time at most one gets tokens", a.x, b.x))
	}
	switch {
	case c.wrong == nil || c.right == nil:
		out = append(out, untested("F9-5", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case c.wrong.issued():
		out = append(out, absent("F9-5", "a wrong verifier is accepted (F5-g)", c.wrong.x))
	case twice:
		out = append(out, absent("F9-5", "codes are good more than once anyway (F9-2)", c.wrong.x, c.right.x))
	case c.right.issued():
		out = append(out, positive("F9-5", kidoban.Confirmed, "a wrong verifier does not spend the code, so verifiers can be guessed", c.wrong.x, c.right.x))
	case c.right.x.Status() >= 500:
		out = append(out, unclear("F9-5", kidoban.ReasonUnstable, "the server fails at the right verifier after a wrong one: that says nothing of the code", c.wrong.x, c.right.x))
	default:
		out = append(out, passed("F9-5", "a wrong verifier spends the code", c.wrong.x, c.right.x))
	}
	switch {
	case !c.spent.issued() || c.badReplay == nil:
		out = append(out, untested("F9-6", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case c.badReplay.issued():
		out = append(out, absent("F9-6", "a second use with a wrong verifier is not refused", c.badReplay.x))
	case c.wrong.issued():
		out = append(out, absent("F9-6", "there is no wrong verifier: any is accepted (F5-g)", c.badReplay.x))
	case f.blind():
		out = append(out, absent("F9-6", cannotSee, c.afterBad))
	case !c.aliveAfterBad:
		out = append(out, positive("F9-6", kidoban.Confirmed, "a second use with a wrong verifier ends the owner's tokens: whoever saw a code can log its owner out", c.badReplay.x, c.afterBad))
	default:
		out = append(out, passed("F9-6", "a second use with a wrong verifier leaves the owner's tokens alone", c.badReplay.x, c.afterBad))
	}
	return out
}

func judgeCodeLife(c *codeTrials) kidoban.Result {
	const key = "F9-7"
	switch {
	case !c.lifetime:
		return untested(key, kidoban.ReasonTime, patienceOf(11*time.Minute))
	case c.old.issued():
		return positive(key, kidoban.Confirmed, "a code is good for more than ten minutes", c.old.x)
	}
	return refusedToken(key, "a code of ten minutes and a half", c.old)
}

// refusedToken is the pass of a token request that gave nothing.
func refusedToken(key, what string, t *tokens) kidoban.Result {
	if t == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	if r, bad := unanswered(key, t.x); bad {
		return r
	}
	return passed(key, what+" is refused with status "+itoa(t.x.Status())+errorText(t.x), t.x)
}

// tokenTrial judges one request that must give nothing.
func tokenTrial(key, what, finding string, t *tokens) kidoban.Result {
	if t.issued() {
		return positive(key, kidoban.Confirmed, finding, t.x)
	}
	return refusedToken(key, what, t)
}

func judgeVerifier(c *codeTrials) []kidoban.Result {
	out := []kidoban.Result{
		tokenTrial("F5-f", "a request without verifier", "a code that was asked for with a challenge is redeemed without a verifier", c.bare),
		tokenTrial("F5-g", "a wrong verifier", "a wrong verifier is accepted", c.wrong),
	}
	if c.wrong.issued() {
		out = append(out, absent("F5-i", "any verifier is accepted (F5-g)", c.wrong.x))
	} else {
		out = append(out, tokenTrial("F5-i", "a verifier of 42 characters", "a verifier of 42 characters is accepted, where 43 are the least", c.short))
	}
	if c.late == nil {
		if r, bad := c.lateWalk.failed("F5-h"); bad {
			return append(out, r)
		}
		return append(out, passed("F5-h", "no code is given without a challenge", c.lateWalk.last()))
	}
	return append(out, tokenTrial("F5-h", "a verifier where there was no challenge", "a verifier is accepted for a code that was asked for without a challenge, so a challenge can be taken out on the way", c.late))
}

func judgeOwner(c *codeTrials) []kidoban.Result {
	out := []kidoban.Result{tokenTrial("E21-b", "a code without client_id", "a code is redeemed without a client_id", c.anonymous)}
	if c.noOther {
		return append(out, everyone([]string{"E21-a", "E21-c", "F7-18"}, func(k string) kidoban.Result {
			return untested(k, kidoban.ReasonClient, "a second --client-id, or open registration")
		})...)
	}
	out = append(out, tokenTrial("E21-a", "a code in the hands of another client", "a code of one client is redeemed by another", c.stranger))
	out = append(out, tokenTrial("F7-18", "a foreign redirect URI in the token request", "the redirect URI of the token request is not compared", c.foreign))
	sibling := c.sibling
	if c.foreign.issued() {
		sibling = c.foreign
	}
	return append(out, tokenTrial("E21-c", "another redirect URI of the client in the token request", "the token request may name another redirect URI than the authorization request", sibling))
}
