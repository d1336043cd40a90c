package audit

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// Trials are the four requests of the oracle (catalogue 5.3): the baseline, two
// negative controls and the mutation, sent once or twice.
type Trials struct {
	B, N1, N2 *Trail
	M1, M2    *Trail // M2 is nil when the first run needed no second (see settles)

	// Behind is the mutation once more, with a login and a yes, where it got as far
	// as a valid request before the login and the tester has an account. Many
	// servers look at most of a request afterwards only.
	Behind *Trail

	// Alive is the baseline once more, after a mutation that the server failed on:
	// only where it still works the failure is a refusal.
	Alive *Trail

	// Redirect is set when the mutation is about the redirect URI: then a callback
	// at the registered one means that the mutated one was ignored.
	Redirect bool
	// Shown is the mutated value as a person would read it on a consent page (the
	// foreign host); "" when the mutation has nothing to show.
	Shown string
	// ClientMutation is set when the mutation is about the client_id: N1 is such a
	// mutation itself, so N2 is the control.
	ClientMutation bool
}

// Row names the line of the decision table that decided.
type Row string

// The rows, in the order in which they are asked.
const (
	RowDelivered Row = "delivered" // a callback where none may be
	RowBaseline  Row = "baseline"  // the baseline itself does not work
	RowUnclear   Row = "unclear"   // a challenge, a script page, a limit, no answer
	RowUnstable  Row = "unstable"  // two runs differ
	RowRefused   Row = "refused"   // an error page, or an error at the registered URI
	RowIgnored   Row = "ignored"   // the registered redirect URI was used instead
	RowShown     Row = "shown"     // a consent page that shows the mutated value
	RowAccepted  Row = "accepted"  // like the baseline, unlike the control
	RowDeferred  Row = "deferred"  // the same login for everything
	RowUnlike    Row = "unlike"    // like nothing else
)

// Decision is what the table says about a mutation that a safe server rejects.
type Decision struct {
	Row      Row
	Outcome  kidoban.Outcome // Fail (vulnerable), Pass (safe) or Inconclusive
	Evidence kidoban.Evidence
	Reason   kidoban.Reason
}

// Decide applies the table. It is total: every combination of trails has one
// answer, and nothing but the trails counts.
func Decide(t Trials) Decision {
	m := t.M1
	if agreed, ok := t.agreed(); !ok {
		return unclearTrail(RowUnstable, kidoban.ReasonUnstable)
	} else if agreed && delivered(m, t.Redirect) {
		return Decision{Row: RowDelivered, Outcome: kidoban.Fail, Evidence: kidoban.Confirmed}
	}
	if r, bad := unclearKind(m); bad {
		return unclearTrail(RowUnclear, r)
	}
	if t.B == nil || !t.B.Kind.reached() {
		if r, bad := unclearKind(t.B); bad && t.B != nil {
			return unclearTrail(RowUnclear, r)
		}
		return unclearTrail(RowBaseline, kidoban.ReasonUnstable)
	}
	switch {
	case m.crashed() && (t.Alive == nil || t.Alive.Signature() != t.B.Signature()):
		return unclearTrail(RowUnclear, kidoban.ReasonNetwork)
	case m.Kind == ErrorPage:
		return Decision{Row: RowRefused, Outcome: kidoban.Pass}
	case m.Kind == CallbackError && !m.Foreign:
		return t.atRegistered()
	case t.Redirect && !m.Foreign && (m.Kind == CallbackCode || m.Kind == CallbackBare):
		return Decision{Row: RowIgnored, Outcome: kidoban.Pass}
	case t.Shown != "" && m.Consents && strings.Contains(m.Page.Text, t.Shown):
		return Decision{Row: RowShown, Outcome: kidoban.Fail, Evidence: kidoban.Likely}
	}
	if m.Signature() != t.B.Signature() {
		return unclearTrail(RowUnlike, kidoban.ReasonNeedsUI)
	}
	if c := t.control(); c != nil && c.Signature() != t.B.Signature() {
		if r, bad := unclearKind(c); bad {
			return unclearTrail(RowUnclear, r)
		}
		return t.behind()
	}
	return unclearTrail(RowDeferred, kidoban.ReasonDeferred)
}

// behind decides about a mutation that the server's front lets pass.
func (t *Trials) behind() Decision {
	if b := t.Behind; b != nil {
		switch {
		case delivered(b, t.Redirect):
			return Decision{Row: RowDelivered, Outcome: kidoban.Fail, Evidence: kidoban.Confirmed}
		case b.Kind == ErrorPage && !b.crashed(), b.Kind == CallbackError && !b.Foreign && b.Error != "access_denied":
			return Decision{Row: RowRefused, Outcome: kidoban.Pass}
		case t.Redirect && !b.Foreign && (b.Kind == CallbackCode || b.Kind == CallbackBare):
			return Decision{Row: RowIgnored, Outcome: kidoban.Pass}
		}
	}
	return Decision{Row: RowAccepted, Outcome: kidoban.Fail, Evidence: kidoban.Likely}
}

// atRegistered reads an error delivered to the registered redirect URI. Some
// errors say only that nobody is logged in.
func (t *Trials) atRegistered() Decision {
	switch t.M1.Error {
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		return unclearTrail(RowDeferred, kidoban.ReasonDeferred)
	case "temporarily_unavailable":
		return unclearTrail(RowUnclear, kidoban.ReasonRateLimit)
	}
	return Decision{Row: RowRefused, Outcome: kidoban.Pass}
}

// agreed tells whether both runs of the mutation ended alike. A single run
// agrees with itself.
func (t *Trials) agreed() (agreed, stable bool) {
	if t.M1 == nil {
		return false, true
	}
	if t.M2 == nil {
		return true, true
	}
	same := t.M1.Kind == t.M2.Kind && t.M1.Foreign == t.M2.Foreign && t.M1.Signature() == t.M2.Signature()
	return same, same
}

// control is the negative control that shows whether the server looks at a
// request before it shows its terminal page. N1 is it, unless the mutation is
// itself an unknown client, or the server takes unknown clients (which is F2's
// finding and must not blind the other checks): then N2.
func (t *Trials) control() *Trail {
	if !t.ClientMutation && t.N1 != nil && t.N1.Signature() != t.B.Signature() {
		return t.N1
	}
	if t.N2 != nil {
		return t.N2
	}
	return t.N1
}

// delivered tells whether a browser was sent where it must not be, with the
// mutation in force.
func delivered(m *Trail, redirect bool) bool {
	if m == nil {
		return false
	}
	switch m.Kind {
	case CallbackCode:
		return m.Foreign || !redirect
	case CallbackError, CallbackBare:
		return m.Foreign
	}
	return false
}

// settles tells whether the first run of a mutation needs no second: only a
// finding has to be seen twice.
func settles(t Trials) bool { return Decide(t).Outcome != kidoban.Fail }

// unclearKind gives the reason why a trail proves nothing.
func unclearKind(t *Trail) (kidoban.Reason, bool) {
	if t == nil {
		return kidoban.ReasonNetwork, true
	}
	switch t.Kind {
	case Challenge:
		return kidoban.ReasonChallenge, true
	case RateLimit:
		return kidoban.ReasonRateLimit, true
	case JSOnly:
		return kidoban.ReasonJSOnly, true
	case Unanswered:
		return kidoban.ReasonNetwork, true
	}
	return "", false
}

func unclearTrail(row Row, r kidoban.Reason) Decision {
	return Decision{Row: row, Outcome: kidoban.Inconclusive, Reason: r}
}
