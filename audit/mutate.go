package audit

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
)

// trials returns the shared requests of the run as the frame of a mutation.
func (s *session) trials() Trials { return Trials{B: s.facts.Base, N1: s.facts.N1, N2: s.facts.N2} }

// mutate sends a mutation: once, and a second time when the first run is a
// finding.
func (s *session) mutate(ctx context.Context, key, note string, r authRequest, t Trials) Trials {
	r.Params = r.Params.with("state", s.secret(24))
	t.M1 = s.twice(ctx, key, note, r)
	if c := s.facts.Client; t.M1.crashed() && c != nil && s.left() > 0 {
		t.Alive = s.follow(ctx, key, "a valid request, after a failure", s.baseline(c))
	}
	if !settles(t) {
		r.Params = r.Params.with("state", s.secret(24))
		t.M2 = s.follow(ctx, key, note+", again", r)
		if t.M2.Budget {
			t.M2 = nil // one run is what the budget gave; the evidence says likely at most
		}
	}
	s.askBehind(ctx, key, note, r, &t)
	return t
}

// twice sends a request, and once more when the server fails on it: one fault
// decides nothing.
func (s *session) twice(ctx context.Context, key, note string, r authRequest) *Trail {
	t := s.follow(ctx, key, note, r)
	if t.crashed() && s.left() > 0 {
		r.Params = r.Params.with("state", s.secret(24))
		t = s.follow(ctx, key, note+", after a failure", r)
	}
	return t
}

// stands returns b, unless one of the controls beside it made the server fail and
// the same valid request now ends in another way: then there is no baseline.
func (s *session) stands(ctx context.Context, b *Trail, r authRequest, controls ...*Trail) *Trail {
	if !slices.ContainsFunc(controls, (*Trail).crashed) || s.left() == 0 {
		return b
	}
	r.Params = r.Params.with("state", s.secret(24))
	again := s.follow(ctx, "baseline", "B: a valid request, after a failure", r)
	s.facts.alive = again
	if again.Signature() != b.Signature() {
		return again
	}
	return b
}

// askBehind sends a mutation once more, with a login and a yes, where the server's
// front took it for valid: only then it is known what the server thinks of it.
func (s *session) askBehind(ctx context.Context, key, note string, r authRequest, t *Trials) {
	if Decide(*t).Row == RowAccepted && s.passesBehind(ctx) {
		r.Params = r.Params.with("state", s.secret(24))
		t.Behind = s.followBehind(ctx, key, note+", with a login and a yes", r)
	}
}

// followBehind follows a request through the login and says yes. The code that may
// come is never redeemed.
func (s *session) followBehind(ctx context.Context, key, note string, r authRequest) *Trail {
	through, approving := s.throughLogin, s.approving
	s.throughLogin, s.approving = true, true
	defer func() { s.throughLogin, s.approving = through, approving }()
	return s.follow(ctx, key, note, r)
}

// passesBehind tells whether a valid request gets its code that way; asked once.
func (s *session) passesBehind(ctx context.Context) bool {
	if !s.o.walks() || s.approving || s.facts.Client == nil || s.left() < 40 {
		return false
	}
	if s.baseBehind == nil {
		s.lookFirst(ctx) // afterwards this client is no longer a first-time one
		s.baseBehind = s.followBehind(ctx, "baseline", "B: a valid request, with a login and a yes", s.baseline(s.facts.Client))
	}
	return s.baseBehind.Kind == CallbackCode && !s.baseBehind.Foreign
}

// verdict turns a decision about key into its result. what names the mutation:
// "a request without code_challenge".
func verdict(key, what string, t Trials) kidoban.Result {
	d := Decide(t)
	m := t.M1
	if m == nil || m.Budget {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	xs := []*kidoban.Exchange{t.B.Last(), m.Last()}
	if t.M2 != nil {
		xs = []*kidoban.Exchange{t.B.Last(), t.M2.Last(), m.Last()}
	}
	if t.Behind != nil && d.Row != RowAccepted {
		m = t.Behind
		xs = append(xs, m.Last())
		what += " behind the login"
	}
	switch d.Row {
	case RowDelivered:
		where := "the redirect URI"
		if m.Foreign {
			where = "the changed redirect URI"
		}
		got := "an error"
		if m.Kind == CallbackCode {
			got = "a code"
		} else if m.Kind == CallbackBare {
			got = "the browser"
		}
		ev := d.Evidence
		if t.M2 == nil {
			ev = kidoban.Likely
		}
		r := positive(key, ev, what+" is accepted: "+got+" is sent to "+where, xs...)
		if m.Kind == CallbackError && onlyErrors(r.Severity) {
			r.Severity, r.Summary = kidoban.Medium, what+" sends the browser to "+where+" with an error, though not with a code"
		}
		return r
	case RowAccepted:
		return positive(key, d.Evidence, what+" gets as far as a valid one ("+trailText(m)+"), where the control is refused", append(controlX(t), xs...)...)
	case RowShown:
		return positive(key, d.Evidence, what+" is shown to the person as if it were valid", xs...)
	case RowRefused:
		return passed(key, what+" is refused: "+trailText(m), m.Last())
	case RowIgnored:
		return passed(key, what+" is ignored: the registered redirect URI is used", m.Last())
	case RowDeferred:
		return unclear(key, d.Reason, "the server shows the same page to everything: what it checks shows after a login", append(controlX(t), xs...)...)
	case RowBaseline:
		return unclear(key, d.Reason, "the valid request itself ends with "+trailText(orTrail(t.B)), xs...)
	case RowUnstable:
		return unclear(key, d.Reason, "two runs of the same request ended differently", xs...)
	case RowUnlike:
		return unclear(key, d.Reason, what+" ends with "+trailText(m)+", unlike the valid request", xs...)
	}
	if r, bad := unclearKind(m); bad {
		return unclear(key, r, what+": "+trailText(m), xs...)
	}
	if m.crashed() {
		return unclear(key, d.Reason, what+" ends with "+trailText(m)+", and so does a valid request by now", xs...)
	}
	return unclear(key, d.Reason, "the authorization endpoint cannot be judged: "+trailText(orTrail(t.B)), xs...)
}

// onlyErrors tells whether a severity is too high for a redirect that carries an
// error and no code: an open redirector, and no way to a token.
func onlyErrors(s kidoban.Severity) bool { return s == kidoban.Critical || s == kidoban.High }

func controlX(t Trials) []*kidoban.Exchange {
	if t.B == nil {
		return nil
	}
	return []*kidoban.Exchange{t.control().Last()}
}

func orTrail(t *Trail) *Trail {
	if t == nil {
		return &Trail{Kind: Unanswered}
	}
	return t
}

// mutation is one mutation of the authorization request and what came of it.
type mutation struct {
	key   string
	what  string // for the summary
	plain bool   // the server took it for a request for a code
	t     Trials
	asked bool
}

func verdicts(ms []mutation) []kidoban.Result {
	var out []kidoban.Result
	for _, m := range ms {
		if !m.asked {
			out = append(out, untested(m.key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
			continue
		}
		if m.plain {
			out = append(out, passed(m.key, m.what+" is answered like code: no token comes through the browser", m.t.M1.Last()))
			continue
		}
		out = append(out, verdict(m.key, m.what, m.t))
	}
	return out
}
