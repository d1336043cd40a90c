package audit

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// The upstream's side: what the server sends to its upstream through the
// browser, and what its own callback does with an answer of the upstream that we
// make up. The upstream itself is never asked: a refusal (error=access_denied)
// needs no login there, and a server that routes it shows what it believes.

const stateSamples = 5 // F8 wants five requests of fresh browsers

// upstreamEvidence is what the callback did. Each call has a state of its own,
// because states ought to work once.
type upstreamEvidence struct {
	tampered string // the state with our redirect URI swapped, "" when it carries none that we can change
	signed   bool

	control  *Trail // genuine state, same browser
	again    *Trail // the same once more
	empty    *Trail // genuine state, empty browser
	wrong    *Trail // a state of our own, same browser
	missing  *Trail // no state, same browser
	forged   *Trail // tampered state, same browser
	forged2  *Trail // the same tampering once more, on a fresh state
	unsigned *Trail // tampered and without signature
	code     *Trail // a made-up code with the genuine state
	codeBad  *Trail // the same with the tampered state

	codeHere, codeThere *Trail // a made-up code in the browser that started, and in an empty one
}

func probeUpstream() probe {
	keys := []string{"F3-a", "F3-b", "F4-0", "F4-1", "F4-2", "F4-4", "F4-5", "F8-a", "F8-b", "F8-c", "F8-e", "E01-a", "E02-a", "E02-c"}
	return define(spec{name: "the request to the upstream", keys: keys, tier: kidoban.T1, cost: 24}, collectUpstream,
		func(f *Facts, ev upstreamEvidence) []kidoban.Result {
			out := judgeF3(f)
			out = append(out, judgeF4(f, ev)...)
			out = append(out, judgeF8(f, ev)...)
			return append(out, judgeE01a(f), judgeE02a(f, ev), judgeE02c(f))
		})
}

const behindProbe = "the request to the upstream, behind the decision"

// probeBehind asks the same where the upstream lies behind a decision: it says yes
// on the way. It does nothing where the upstream was seen without one.
func probeBehind() probe {
	p := probeUpstream()
	return define(spec{name: behindProbe, keys: p.keys, tier: kidoban.T3},
		func(ctx context.Context, s *session) func(*Facts) []kidoban.Result {
			if !s.behind {
				return func(*Facts) []kidoban.Result { return nil }
			}
			base, through := s.facts.Base, s.throughLogin
			s.throughLogin, s.approving = true, true
			s.facts.Base = s.facts.L2.Samples[0].Trail
			judge := p.run(ctx, s)
			behind := *s.facts
			s.facts.Base, s.throughLogin, s.approving = base, through, false
			return func(*Facts) []kidoban.Result { return judge(&behind) }
		}, func(f *Facts, judge func(*Facts) []kidoban.Result) []kidoban.Result { return judge(f) })
}

// sampleBehind takes the first sample of an upstream that lies behind a decision.
func (s *session) sampleBehind(ctx context.Context) {
	f := s.facts
	if f.L2 != nil || s.needsScripts {
		return
	}
	through := s.throughLogin
	s.throughLogin, s.approving = true, true
	s.sample(ctx, "upstream", "a request, approved", s.baseline(f.Client))
	s.throughLogin, s.approving = through, false
	s.behind = f.L2 != nil
}

func collectUpstream(ctx context.Context, s *session) (ev upstreamEvidence) {
	f := s.facts
	next := f.L2.Samples[0] // samples are used up one by one, oldest first
	used := 1
	fresh := func() (L2, bool) {
		for {
			// A sample of another client (F1's) says nothing here: its redirect URI is
			// not one that a server need send errors to.
			for used < len(f.L2.Samples) && f.L2.Samples[used].sent.Params.get("client_id") != f.Client.ID {
				used++
			}
			if used < len(f.L2.Samples) {
				break
			}
			before := len(f.L2.Samples)
			if s.left() < 2 {
				return L2{}, false
			}
			s.sample(ctx, "upstream", "a fresh request", s.baseline(f.Client))
			if len(f.L2.Samples) == before {
				return L2{}, false
			}
		}
		used++
		return f.L2.Samples[used-1], true
	}
	if next.RedirectURI == "" || next.Hidden || !f.owns(hostOf(next.RedirectURI)) {
		s.samples(ctx)
		return ev
	}
	refuse := url.Values{"error": {"access_denied"}}
	ev.control = s.callback(ctx, next, next.jar, "control: the genuine state", refuse, next.State)
	if s.wants("F4-5") && next.HasState {
		ev.again = s.callback(ctx, next, next.jar, "the same state again", refuse, next.State)
	}
	ev.tampered, ev.signed = tamper(next, s.foreign())
	if ev.tampered != "" {
		s.forge(ctx, &ev, fresh)
	}
	if l, ok := fresh(); ok && s.wants("E02-a") {
		ev.empty = s.callback(ctx, l, outbound.NewJar(), "the genuine state in an empty browser", refuse, l.State)
		if ev.control.Kind == CallbackError && ev.empty.Kind == CallbackError {
			s.codeElsewhere(ctx, &ev, fresh)
		}
	}
	if l, ok := fresh(); ok && s.wants("F8-c") {
		ev.wrong = s.callback(ctx, l, l.jar, "a state that the server never made", refuse, s.secret(32))
		if l.HasState && ev.wrong.Kind != CallbackError {
			ev.missing = s.callback(ctx, l, l.jar, "no state", refuse, "")
		}
	}
	s.samples(ctx)
	return ev
}

// forge sends the tampered state: as a refusal, which a server that trusts it
// forwards; and, where refusals stay local, as a made-up code.
func (s *session) forge(ctx context.Context, ev *upstreamEvidence, fresh func() (L2, bool)) {
	refuse := url.Values{"error": {"access_denied"}}
	try := func(note string, change func(string) (string, bool)) *Trail {
		l, ok := fresh()
		if !ok {
			return nil
		}
		state, _ := tamper(l, s.foreign())
		if change != nil {
			if state, ok = change(state); !ok {
				return nil
			}
		}
		return s.callback(ctx, l, l.jar, note, refuse, state)
	}
	ev.forged = try("the state with another redirect URI", nil)
	if ev.forged != nil && ev.forged.Foreign {
		ev.forged2 = try("the state with another redirect URI, again", nil)
	} else if ev.signed {
		ev.unsigned = try("the state with another redirect URI and no signature", unsigned)
	}
	if ev.signed || !s.wants("F4-2") {
		return
	}
	code := url.Values{"code": {"kidoban-invalid"}}
	if l, ok := fresh(); ok {
		ev.code = s.callback(ctx, l, l.jar, "a made-up code with the genuine state", code, l.State)
	}
	if l, ok := fresh(); ok && ev.code != nil {
		state, _ := tamper(l, s.foreign())
		ev.codeBad = s.callback(ctx, l, l.jar, "a made-up code with the changed state", code, state)
	}
}

// codeElsewhere sends a made-up code from the browser that started a flow and from an
// empty one. A server may forward refusals from anywhere, which give nothing away, and
// still take a code from the right browser only.
func (s *session) codeElsewhere(ctx context.Context, ev *upstreamEvidence, fresh func() (L2, bool)) {
	code := url.Values{"code": {"kidoban-invalid"}}
	if l, ok := fresh(); ok {
		ev.codeHere = s.callback(ctx, l, l.jar, "a made-up code in the browser that started", code, l.State)
	}
	if l, ok := fresh(); ok {
		ev.codeThere = s.callback(ctx, l, outbound.NewJar(), "a made-up code in an empty browser", code, l.State)
	}
}

// samples fills up the requests that F8 compares.
func (s *session) samples(ctx context.Context) {
	for len(s.facts.L2.Samples) < stateSamples && s.left() > 0 && s.wants("F8-a", "F8-b", "F8-e") {
		before := len(s.facts.L2.Samples)
		s.sample(ctx, "upstream", "a fresh request", s.baseline(s.facts.Client))
		if len(s.facts.L2.Samples) == before {
			return
		}
	}
}

// tamper rewrites the redirect URI, or any URL, inside a state.
func tamper(l L2, to string) (state string, signed bool) {
	what, signed := routing(l.State, l.sent)
	if what == "" {
		return "", signed
	}
	if s, ok := retarget(l.State, l.sent.Registered, to); ok {
		return s, signed
	}
	return "", signed
}

// callback calls the server's own callback as if the upstream had answered, in
// the given browser. It does not follow: where the answer points is the finding.
func (s *session) callback(ctx context.Context, l L2, jar *outbound.Jar, note string, answer url.Values, state string) *Trail {
	q := url.Values{}
	for k, v := range answer {
		q[k] = v
	}
	if state != "" {
		q.Set("state", state)
	}
	sep := "?"
	if strings.Contains(l.RedirectURI, "?") {
		sep = "&"
	}
	to := l.RedirectURI + sep + q.Encode()
	w := walker{s: s, jar: jar, probe: "upstream", note: note, r: l.sent, trail: &Trail{}, seen: map[string]int{}}
	x := s.do(ctx, outbound.Req{Method: http.MethodGet, URL: to, Jar: jar, Probe: "upstream", Note: note,
		Header: kidoban.Fields{{Name: "Accept", Value: "text/html,*/*;q=0.8"}}})
	w.trail.Exchanges = []*kidoban.Exchange{x}
	if x.Response == nil {
		w.trail.Budget = x.Err == errBudget
		w.end(Unanswered, to, x.Err)
		return w.trail
	}
	w.trail.Steps = []Step{stepOf(x, to)}
	loc, page, _ := w.target(x, to)
	switch {
	case loc == "":
		w.page(x, to, page)
	default:
		if kind, ok := w.callback(loc); ok {
			w.end(kind, loc, "")
		} else {
			w.end(Other, loc, "a redirect to another page of the server")
			w.trail.Steps = append(w.trail.Steps, Step{Host: hostOf(loc), Path: templatePath(pathOf(loc))})
		}
	}
	return w.trail
}

func pathOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Path
}
