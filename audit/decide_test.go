package audit

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
)

func end(k Kind) *Trail { return &Trail{Kind: k, Steps: []Step{{Status: 200, Path: "/" + string(k)}}} }

func foreignEnd(k Kind) *Trail { t := end(k); t.Foreign = true; return t }

func errorAt(code string) *Trail { t := end(CallbackError); t.Error = code; return t }

func shownOn(text string) *Trail {
	t := end(Consent)
	t.Consents, t.Page.Text = true, text
	return t
}

// TestOracleTable has a case for each line of the table in catalogue 5.3, and
// for each false alarm that the study's tool raised.
func TestOracleTable(t *testing.T) {
	login, refused := end(Login), end(ErrorPage)
	valid := Trials{B: login, N1: refused, N2: refused}
	with := func(m1, m2 *Trail, change func(*Trials)) Trials {
		x := valid
		x.M1, x.M2 = m1, m2
		if change != nil {
			change(&x)
		}
		return x
	}
	redirect := func(x *Trials) { x.Redirect = true }
	for _, c := range []struct {
		name    string
		trials  Trials
		row     Row
		outcome kidoban.Outcome
		ev      kidoban.Evidence
		reason  kidoban.Reason
	}{
		{"code at a foreign target", with(foreignEnd(CallbackCode), foreignEnd(CallbackCode), redirect), RowDelivered, kidoban.Fail, kidoban.Confirmed, ""},
		{"error at a foreign target", with(foreignEnd(CallbackError), foreignEnd(CallbackError), redirect), RowDelivered, kidoban.Fail, kidoban.Confirmed, ""},
		{"code for a request without PKCE", with(end(CallbackCode), end(CallbackCode), nil), RowDelivered, kidoban.Fail, kidoban.Confirmed, ""},
		{"redirect_uri ignored", with(end(CallbackCode), nil, redirect), RowIgnored, kidoban.Pass, "", ""},
		{"error page", with(refused, nil, nil), RowRefused, kidoban.Pass, "", ""},
		{"error at the registered URI", with(errorAt("invalid_request"), nil, nil), RowRefused, kidoban.Pass, "", ""},
		{"login_required is no refusal", with(errorAt("login_required"), nil, nil), RowDeferred, kidoban.Inconclusive, "", kidoban.ReasonDeferred},
		{"overload is no refusal", with(errorAt("temporarily_unavailable"), nil, nil), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonRateLimit},
		{"like the baseline, unlike the control", with(login, login, nil), RowAccepted, kidoban.Fail, kidoban.Likely, ""},
		{"shown on the consent page", with(shownOn("goes to evil.example"), shownOn("goes to evil.example"), func(x *Trials) { x.Shown = "evil.example" }), RowShown, kidoban.Fail, kidoban.Likely, ""},
		{"login for everything (18 + 25 false alarms)", with(login, nil, func(x *Trials) { x.N1, x.N2 = login, login }), RowDeferred, kidoban.Inconclusive, "", kidoban.ReasonDeferred},
		{"unknown clients accepted do not blind the rest", with(login, login, func(x *Trials) { x.N1 = login }), RowAccepted, kidoban.Fail, kidoban.Likely, ""},
		{"F2: N1 is the mutation, N2 the control", with(login, login, func(x *Trials) { x.N1, x.ClientMutation = login, true }), RowAccepted, kidoban.Fail, kidoban.Likely, ""},
		{"challenge", with(end(Challenge), nil, nil), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonChallenge},
		{"script page", with(end(JSOnly), nil, nil), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonJSOnly},
		{"a limit is not a refusal", with(end(RateLimit), nil, nil), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonRateLimit},
		{"no answer", with(end(Unanswered), nil, nil), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonNetwork},
		{"two runs differ", with(login, refused, nil), RowUnstable, kidoban.Inconclusive, "", kidoban.ReasonUnstable},
		{"baseline fails", with(login, login, func(x *Trials) { x.B = refused }), RowBaseline, kidoban.Inconclusive, "", kidoban.ReasonUnstable},
		{"baseline is a challenge", with(login, login, func(x *Trials) { x.B = end(Challenge) }), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonChallenge},
		{"control is limited", with(login, login, func(x *Trials) { x.N1, x.N2 = end(RateLimit), end(RateLimit) }), RowUnclear, kidoban.Inconclusive, "", kidoban.ReasonRateLimit},
		{"another page than all others", with(end(Other), nil, nil), RowUnlike, kidoban.Inconclusive, "", kidoban.ReasonNeedsUI},
	} {
		got := Decide(c.trials)
		if got != (Decision{c.row, c.outcome, c.ev, c.reason}) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func anyTrail(t *rapid.T, label string) *Trail {
	kinds := []Kind{CallbackCode, CallbackError, CallbackBare, Upstream, Login, Consent, ErrorPage, Challenge, RateLimit, JSOnly, Other, Unanswered}
	x := end(rapid.SampledFrom(kinds).Draw(t, label))
	x.Foreign = rapid.Bool().Draw(t, label+" foreign")
	x.Error = rapid.SampledFrom([]string{"", "invalid_request", "login_required", "temporarily_unavailable"}).Draw(t, label+" error")
	if rapid.Bool().Draw(t, label+" shows") {
		x.Consents, x.Page.Text = true, "evil.example"
	}
	return x
}

// TestOracleProperties: whatever the trails, the table has one answer, and it is
// never louder than its proof.
func TestOracleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := Trials{B: anyTrail(t, "B"), N1: anyTrail(t, "N1"), N2: anyTrail(t, "N2"), M1: anyTrail(t, "M1"),
			Redirect: rapid.Bool().Draw(t, "redirect"), ClientMutation: rapid.Bool().Draw(t, "client mutation"),
			Shown: rapid.SampledFrom([]string{"", "evil.example"}).Draw(t, "shown")}
		if rapid.Bool().Draw(t, "second run") {
			x.M2 = anyTrail(t, "M2")
		}
		d := Decide(x)
		if d.Row == "" || d.Outcome == kidoban.Fail != (d.Evidence != "") || d.Outcome == kidoban.Inconclusive != (d.Reason != "") {
			t.Fatalf("incomplete decision %+v", d)
		}
		if d.Evidence == kidoban.Confirmed && x.M1.Kind != CallbackCode && x.M1.Kind != CallbackError && x.M1.Kind != CallbackBare {
			t.Fatalf("confirmed without a callback: %+v", d)
		}
		if d.Outcome == kidoban.Fail && x.M2 != nil && x.M1.Signature() != x.M2.Signature() {
			t.Fatalf("a finding from two runs that differ: %+v", d)
		}
		if d.Row == RowAccepted && x.M1.Signature() != x.B.Signature() {
			t.Fatalf("accepted, but unlike the baseline: %+v", d)
		}
		switch x.M1.Kind {
		case Challenge, RateLimit, JSOnly, Unanswered:
			if d.Outcome != kidoban.Inconclusive {
				t.Fatalf("a verdict from %s: %+v", x.M1.Kind, d)
			}
		}
	})
}
