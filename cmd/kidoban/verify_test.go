package main

import (
	"bytes"
	"encoding/json"
	"strings"
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

// TestLabVerify runs a sample of the matrix over all tiers, in which every switch
// stands once: on it gives exactly its findings and chains, and safe servers give
// none. kidoban lab verify runs all of it.
func TestLabVerify(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	code := run(e, []string{"lab", "verify", "--sample", "--json"})
	var rep verifyReport
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, errs.String())
	}
	shapes, keys := map[string]int{}, map[string]bool{}
	for _, r := range rep.Results {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Why)
		}
		shapes[r.Profile+"/"+r.Era]++
		for _, k := range append(r.Expect, r.Undecided...) {
			key, _, _ := strings.Cut(k, ":")
			keys[key] = true
		}
	}
	if code != exitClean || rep.Precision != 1 || rep.Recall != 1 {
		t.Errorf("exit %d, precision %v, recall %v over %d cases", code, rep.Precision, rep.Recall, rep.Cases)
	}
	for _, check := range kidoban.Checks() {
		if !keys[check.Key()] {
			t.Errorf("the sample has no case for %s", check.Key())
		}
	}
	if len(shapes) < 12 {
		t.Errorf("the sample leaves profiles or eras out: %v", shapes)
	}
}

// TestVerifyRefusesAnEmptyMatrix: a misspelt switch must not pass as perfect, nor tiers
// that cannot decide what is theirs look like faults.
func TestVerifyRefusesAnEmptyMatrix(t *testing.T) {
	for _, args := range [][]string{{"--only", "F9-99"}, {"--profiles", "nope"}, {"--eras", "stone"}, {"--tiers", "T1"}, {"--tiers", "T0,T1"}, {"--tiers", "T0,T1,T2,T4"}} {
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
		if code := run(e, append([]string{"lab", "verify"}, args...)); code != exitUsage || !strings.Contains(errs.String(), args[1]) {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}
