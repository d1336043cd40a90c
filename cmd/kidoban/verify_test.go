package main

import (
	"testing"

	"github.com/kidoban/kidoban"
)

// TestVerifyCountsWhatWasMissedAndInvented keeps the judge of the judges honest:
// a miss lowers recall, an invention lowers precision.
func TestVerifyCountsWhatWasMissedAndInvented(t *testing.T) {
	rep := summarise([]verifyResult{
		{Expect: []string{"F1-a", "F2-a"}, Missed: []string{"F2-a"}},
		{Expect: []string{}, Extra: []string{"F7-1"}},
		{Expect: []string{"E09-a"}, OK: true},
	}, []string{"T1"})
	if rep.Recall != 2.0/3 || rep.Precision != 2.0/3 || rep.Failed != 2 || rep.Cases != 3 {
		t.Fatalf("recall %v precision %v failed %d cases %d", rep.Recall, rep.Precision, rep.Failed, rep.Cases)
	}
}

func TestVerifyMatrixCoversEverySwitchTheTiersReach(t *testing.T) {
	c := verifyCmd{Tiers: []string{"T0", "T1", "T2"}}
	cases, err := c.matrix()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	groups := map[string]int{}
	for _, vc := range cases {
		groups[vc.group]++
		for _, k := range append(vc.expect, vc.undecided...) {
			seen[k]++
		}
	}
	if groups["truncation"] != 43 || groups["noise"] != 11 {
		t.Errorf("the study's false alarms: %d truncation and %d noise cases, want 43 and 11", groups["truncation"], groups["noise"])
	}
	for _, check := range kidoban.Checks() {
		if (check.Tier == kidoban.T1 || check.Tier == kidoban.T2) && seen[check.Key()] == 0 {
			t.Errorf("no case for %s", check.Key())
		}
	}
}
