package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

const baselineProbe = "baseline"

// probeBaseline makes the client and sends B, N1 and N2, which all probes of the
// authorization endpoint share. It also judges what these three alone decide:
// F6-A and the static part of F6, F8-d, E12 and the headers of E28.
func probeBaseline() probe {
	return define(spec{name: baselineProbe, tier: kidoban.T1, cost: 6, keys: []string{
		"F6-A", "F6-B", "F6-C", "F6-D", "F6-F", "F8-d", "E12-a", "E12-b", "E12-c", "E28-a", "E28-b", "E28-d", "E28-g",
	}}, collectBaseline, judgeBaseline)
}

type baselineEvidence struct{ scope *Trail } // a provoked error, when N2 gave no callback

func collectBaseline(ctx context.Context, s *session) (ev baselineEvidence) {
	f := s.facts
	if f.AS == nil || f.AS.Meta.AuthorizationEndpoint == "" {
		f.NoClient = kidoban.ReasonClient
		return ev
	}
	if f.Client, f.NoClient = s.control(ctx); f.Client == nil {
		return ev
	}
	if s.o.loggedIn() {
		s.otherClient(ctx)
	}
	req := s.baseline(f.Client)
	s.shared(ctx, req)
	if f.login && f.Base.Kind == JSOnly {
		for try := 0; try < 2 && s.scriptWay == "" && !s.needsScripts; try++ {
			s.learnScript(ctx, req)
		}
		if s.scriptWay != "" || s.needsScripts {
			s.throughLogin = s.needsScripts
			s.shared(ctx, req)
		}
	}
	if f.login && !s.throughLogin && f.Base.Kind == Login && f.Base.Signature() == sigOf(f.N1) && f.Base.Signature() == sigOf(f.N2) {
		f.front, f.frontJar = f.Base, f.baseJar
		s.throughLogin = true // the server looks at nothing before the login
		s.shared(ctx, req)
	}
	if f.N2.Kind != CallbackError && f.Base.Kind != CallbackCode && f.N2.Kind == ErrorPage {
		bad := req
		bad.Params = req.Params.with("scope", "kidoban:unknown").with("state", s.secret(24))
		ev.scope = s.follow(ctx, "E12", "an unknown scope", bad)
		f.scopeState = bad.Params.get("state")
	}
	return ev
}

// shared sends B, N1 and N2.
func (s *session) shared(ctx context.Context, req authRequest) {
	f := s.facts
	f.L2 = nil
	f.Base = s.sample(ctx, "baseline", "B: a valid request", req)
	n1 := req
	n1.Params = req.Params.with("client_id", s.word(32)).with("state", s.secret(24))
	f.N1 = s.follow(ctx, "baseline", "N1: an unknown client", n1)
	n2 := req
	n2.Params = req.Params.with("response_type", "kidoban_invalid").with("state", s.secret(24))
	f.N2 = s.follow(ctx, "baseline", "N2: an invalid response type", n2)
	f.n2State = n2.Params.get("state")
	f.Base = s.stands(ctx, f.Base, req, f.N1, f.N2)
}

// sample follows a valid request and keeps the upstream request it leads to.
func (s *session) sample(ctx context.Context, probe, note string, req authRequest) *Trail {
	jar := outbound.NewJar()
	jar.Name = note
	t := s.followIn(ctx, jar, probe, note, req)
	if note == "B: a valid request" {
		s.facts.baseJar = jar
	}
	if l, ok := readL2(t, jar, req); ok {
		if s.facts.L2 == nil {
			s.facts.L2 = &Upstreams{}
		}
		s.facts.L2.Samples = append(s.facts.L2.Samples, l)
		s.facts.L2.Delegated = s.facts.L2.Delegated || l.delegated()
	}
	return t
}

func judgeBaseline(f *Facts, ev baselineEvidence) []kidoban.Result {
	keys := []string{"F6-A", "F6-B", "F6-C", "F6-D", "F6-F", "F8-d", "E12-a", "E12-b", "E12-c", "E28-a", "E28-b", "E28-d", "E28-g"}
	if f.Client == nil || f.Base == nil {
		var out []kidoban.Result
		for _, k := range keys {
			c := check(k)
			r, ok := gateClient(c, f)
			if ok || c.Tier == kidoban.T3 {
				r = untested(k, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
			}
			out = append(out, r)
		}
		return out
	}
	out := []kidoban.Result{judgeF6A(f.Base)}
	out = append(out, judgeF6Static(f)...)
	answer, sent := callbackAnswer(f, ev)
	out = append(out, judgeF8d(f, answer, sent))
	out = append(out, judgeE12(f, answer)...)
	return append(out, judgeE28(f)...)
}

// callbackAnswer is the authorization response that the shared requests gave at
// the registered redirect URI, with the state that was sent.
func callbackAnswer(f *Facts, ev baselineEvidence) (*Trail, string) {
	switch {
	case f.Base.Kind == CallbackCode && !f.Base.Foreign:
		return f.Base, f.baseState()
	case f.N2 != nil && f.N2.Kind == CallbackError && !f.N2.Foreign:
		return f.N2, f.n2State
	case ev.scope != nil && ev.scope.Kind == CallbackError && !ev.scope.Foreign:
		return ev.scope, f.scopeState
	}
	return nil, ""
}

// baseState is the state of the baseline, read back from what was sent.
func (f *Facts) baseState() string {
	if len(f.Base.Exchanges) == 0 {
		return ""
	}
	_, q, _ := strings.Cut(f.Base.Exchanges[0].Request.URL, "?")
	for _, part := range strings.Split(q, "&") {
		if v, ok := strings.CutPrefix(part, "state="); ok {
			return v // base64url needs no escapes
		}
	}
	return ""
}

// blocked turns a baseline that proves nothing into the result of key. ok is
// true when the trail can be judged.
func blocked(key string, t *Trail) (kidoban.Result, bool) {
	if t == nil || t.Budget {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), false
	}
	if r, bad := unclearKind(t); bad {
		return unclear(key, r, trailText(t), t.Last()), false
	}
	if t.crashed() {
		return unclear(key, kidoban.ReasonUnstable, trailText(t)+", which neither refuses nor accepts", t.Last()), false
	}
	return kidoban.Result{}, true
}

// trailText says in words where a trail ended.
func trailText(t *Trail) string {
	switch t.Kind {
	case CallbackCode:
		return "a code was delivered"
	case CallbackError:
		return "the error " + t.Error + " was sent to the redirect URI"
	case CallbackBare:
		return "the browser was sent to the redirect URI"
	case Upstream:
		return "the browser is sent on to the upstream"
	case Login:
		return "a login page"
	case Consent:
		return "a consent page"
	case ErrorPage:
		if t.Error != "" {
			return "an error page (" + t.Error + ")"
		}
		return "an error page (status " + itoa(t.Last().Status()) + ")"
	case Challenge:
		return "a content network asks for proof of a browser"
	case RateLimit:
		return "the server limits us"
	case JSOnly:
		return "a page that is nothing without its script"
	case Unanswered:
		if x := t.Last(); x != nil && x.Response != nil {
			return "a proxy says that the server is not there (status " + itoa(x.Status()) + ")"
		}
		return "no answer"
	}
	if t.Why != "" {
		return t.Why
	}
	return "a page of unknown kind"
}
