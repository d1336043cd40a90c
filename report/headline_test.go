package report

import (
	"testing"

	"github.com/kidoban/kidoban"
)

// TestHeadlineIsTheWorstThatWasSeen: what was seen is said before what is likely,
// and a finding that lets anybody in needs no chain to be told so.
func TestHeadlineIsTheWorstThatWasSeen(t *testing.T) {
	found := func(id, variant, summary string, e kidoban.Evidence) kidoban.Result {
		return kidoban.Result{ID: id, Variant: variant, Outcome: kidoban.Fail, Severity: kidoban.Critical, Evidence: e, Summary: summary}
	}
	anyone := found("E04", "a", "a made-up bearer token is accepted", kidoban.Confirmed)
	guess := found("E04", "a", "a made-up bearer token is accepted", kidoban.Likely)
	state := found("F4", "1", "a changed state is taken", kidoban.Confirmed)
	open := found("F1", "a", "any redirect URI is registered", kidoban.Likely)
	likely := kidoban.Chain{ID: "F1+E01", Title: "a likely way", Checks: []string{"F1-a"}}
	seen := kidoban.Chain{ID: "F4+L2", Title: "a seen way", Checks: []string{"F4-1"}}
	lets := kidoban.Grade{Letter: "F", Caps: []string{"F: E04-a any bearer accepted", "D: F4+L2: a seen way"}}
	for _, c := range []struct {
		want    string
		grade   kidoban.Grade
		results []kidoban.Result
		chains  []kidoban.Chain
	}{
		{"An attacker gets in: a made-up bearer token is accepted", lets, []kidoban.Result{anyone}, nil},
		{"An attacker gets in: a made-up bearer token is accepted", lets, []kidoban.Result{anyone, open, state}, []kidoban.Chain{likely, seen}},
		{"An attacker gets in: a seen way", lets, []kidoban.Result{guess, open, state}, []kidoban.Chain{likely, seen}},
		{"An attacker can probably get in: a likely way", kidoban.Grade{Letter: "D"}, []kidoban.Result{open}, []kidoban.Chain{likely}},
		{"1 requirement is violated, and no chain of them that reaches the goal", kidoban.Grade{Letter: "C"}, []kidoban.Result{state}, nil},
	} {
		run := kidoban.Run{Schema: kidoban.RunSchema, Results: c.results, Chains: c.chains, Grade: c.grade}
		run.Target.Headline = kidoban.HeadlineGraded
		if got := headline(run); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
