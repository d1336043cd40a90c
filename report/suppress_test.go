package report

import (
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

const goodSuppression = `suppressions:
  - check: dcr-any-https-redirect
    target: https://mcp.example.com/mcp
    fingerprint: FP
    reason: hosted clients need it until the allow-list ships
    owner: anna
    expires: 2027-01-31
`

func findingOf(t *testing.T, run kidoban.Run, key string) *kidoban.Result {
	t.Helper()
	for i := range run.Results {
		if run.Results[i].Key() == key {
			return &run.Results[i]
		}
	}
	t.Fatalf("no result %s", key)
	return nil
}

func TestSuppressUntilTheLastDay(t *testing.T) {
	fp := findingOf(t, sample().Run, "F1-a").Fingerprint
	list, err := ParseSuppressions("kidoban.yaml", []byte(strings.Replace(goodSuppression, "FP", fp, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		day        string
		suppressed bool
	}{{"2026-11-21", true}, {"2027-01-31", true}, {"2027-02-01", false}} {
		run := sample().Run
		before := len(Findings(run.Results))
		day, err := time.Parse(time.DateOnly, c.day)
		if err != nil {
			t.Fatal(err)
		}
		got := Suppress(&run, list, day.Add(23*time.Hour))
		r := findingOf(t, run, "F1-a")
		if (r.Suppressed != "") != c.suppressed || (len(got.Expired) == 1) == c.suppressed || (len(got.Used) == 1) != c.suppressed {
			t.Errorf("%s: %+v, result %q", c.day, got, r.Suppressed)
		}
		if want := before - len(got.Used); len(Findings(run.Results)) != want {
			t.Errorf("%s: %d findings count, want %d", c.day, len(Findings(run.Results)), want)
		}
		if !c.suppressed && !strings.Contains(strings.Join(got.Lines(), "\n"), "expired on 2027-01-31") {
			t.Errorf("an expired suppression is not reported: %v", got.Lines())
		}
	}
}

// TestSuppressionOfWhatWasNotTestedStays: only a run that decided the check can say
// that the finding is gone.
func TestSuppressionOfWhatWasNotTestedStays(t *testing.T) {
	for outcome, gone := range map[kidoban.Outcome]bool{kidoban.Pass: true, kidoban.NotApplicable: true, kidoban.NotTested: false, kidoban.Inconclusive: false} {
		run := sample().Run
		s := Suppression{Check: "F1-a", Target: sampleURL, Fingerprint: findingOf(t, run, "F1-a").Fingerprint, Reason: "r", Owner: "o", Expires: "2030-01-01"}
		for i := range run.Results {
			if run.Results[i].Key() == "F1-a" {
				run.Results[i].Outcome = outcome
			}
		}
		if said := strings.Join(Suppress(&run, []Suppression{s}, sampleStart).Lines(), "\n"); strings.Contains(said, "remove it") != gone {
			t.Errorf("%s: %q", outcome, said)
		}
	}
}

func TestSuppressionCoversNothingElse(t *testing.T) {
	fp := findingOf(t, sample().Run, "F1-a").Fingerprint
	for name, change := range map[string]func(*Suppression){
		"another target": func(s *Suppression) { s.Target += "2" },
		"another fact":   func(s *Suppression) { s.Fingerprint = strings.Repeat("0", 32) },
		"another check":  func(s *Suppression) { s.Check = "F5-b" },
		"a clean check":  func(s *Suppression) { s.Check = "F7-1" },
	} {
		s := Suppression{Check: "F1-a", Target: sampleURL, Fingerprint: fp, Reason: "r", Owner: "o", Expires: "2030-01-01"}
		change(&s)
		run := sample().Run
		before := Count(run.Results)
		got := Suppress(&run, []Suppression{s}, sampleStart)
		if Count(run.Results) != before || len(got.Used) > 0 {
			t.Errorf("%s: suppressed %+v", name, got.Used)
		}
	}
}

func TestParseSuppressionsIsStrict(t *testing.T) {
	good := strings.Replace(goodSuppression, "FP", strings.Repeat("a", 32), 1)
	if list, err := ParseSuppressions("kidoban.yaml", []byte(good)); err != nil || list[0].Check != "F1-a" {
		t.Fatalf("%v %v", list, err)
	}
	if list, err := ParseSuppressions("kidoban.yaml", nil); err != nil || list != nil {
		t.Errorf("an empty file: %v %v", list, err)
	}
	for name, c := range map[string]struct{ bad, says string }{
		"unknown member":   {strings.Replace(good, "owner:", "ownr:", 1), "ownr"},
		"unknown section":  {good + "servers: []\n", "servers"},
		"unknown check":    {strings.Replace(good, "dcr-any-https-redirect", "F99", 1), "F99"},
		"whole server":     {strings.Replace(good, "check: dcr-any-https-redirect\n", "check: '*'\n", 1), "no check is called"},
		"no reason":        {strings.Replace(good, "hosted clients need it until the allow-list ships", "''", 1), "reason"},
		"no owner":         {strings.Replace(good, "    owner: anna\n", "", 1), "owner"},
		"no end":           {strings.Replace(good, "    expires: 2027-01-31\n", "", 1), "expires is a day"},
		"impossible day":   {strings.Replace(good, "2027-01-31", "2027-02-31", 1), "2027-02-31"},
		"short print":      {strings.Replace(good, strings.Repeat("a", 32), "aaaa", 1), "fingerprint"},
		"broken YAML":      {"suppressions:\n  - [", "kidoban.yaml"},
		"larger than 1 MB": {strings.Repeat("#", maxConfig+1), "larger"},
	} {
		_, err := ParseSuppressions("kidoban.yaml", []byte(c.bad))
		if kidoban.KindOf(err) != kidoban.KindInput || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := ParseSuppressions("kidoban.yaml", []byte(strings.Replace(good, "2027-01-31", "soon", 1)))
	if err == nil || !strings.Contains(err.Error(), "7 |") || !strings.Contains(err.Error(), "^") {
		t.Errorf("the error shows no line and caret: %v", err)
	}
}

func TestBaselineLetsKnownFindingsPass(t *testing.T) {
	run := sample().Run
	all := Failing(run, kidoban.High, nil)
	if len(all) != 2 {
		t.Fatalf("%d findings from high up", len(all))
	}
	if got := Failing(run, kidoban.High, &run); len(got) != 0 {
		t.Errorf("the run is not its own baseline: %v", got)
	}
	old := sample().Run
	findingOf(t, old, "F4-1").Fingerprint = strings.Repeat("0", 32)
	if got := Failing(run, kidoban.High, &old); len(got) != 1 || got[0].Key() != "F4-1" {
		t.Errorf("a finding with another fact is not new: %v", got)
	}
	if got := Failing(run, kidoban.Info, nil); len(got) != len(Findings(run.Results)) {
		t.Errorf("fail on info: %d", len(got))
	}
}

func TestCompare(t *testing.T) {
	before, after := sample().Run, sample().Run
	after.Results = append([]kidoban.Result{}, after.Results...)
	findingOf(t, after, "F5-b").Outcome = kidoban.Pass
	lost := findingOf(t, after, "F3-a")
	lost.Outcome, lost.Reason = kidoban.Inconclusive, kidoban.ReasonRateLimit
	fresh := findingOf(t, after, "F7-1")
	fresh.Outcome, fresh.Summary, fresh.Fingerprint = kidoban.Fail, "a foreign host is accepted", strings.Repeat("1", 32)
	findingOf(t, after, "F1-a").Evidence = kidoban.Confirmed
	after.Grade.Letter = "F"
	d := Compare(before, after)
	keys := func(list []Change) string {
		var out []string
		for _, c := range list {
			out = append(out, c.Check)
		}
		return strings.Join(out, " ")
	}
	if keys(d.New) != "F7-1" || keys(d.Fixed) != "F5-b" || keys(d.Changed) != "F1-a" || keys(d.Unclear) != "F3-a" || d.Empty() {
		t.Errorf("new %q fixed %q changed %q unclear %q", keys(d.New), keys(d.Fixed), keys(d.Changed), keys(d.Unclear))
	}
	var b strings.Builder
	if err := (Terminal{}).Diff(&b, d); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"grade D → F", "NEW", "a foreign host is accepted", "UNCLEAR", "limited the requests"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
	if !Compare(before, before).Empty() {
		t.Error("a run differs from itself")
	}
}
