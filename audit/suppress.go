package audit

import (
	"time"

	"github.com/kidoban/kidoban"
)

// Suppression accepts one finding for a time. There is none for a whole server:
// check, target and fingerprint must all fit.
type Suppression struct {
	Check       string // key or slug
	Target      string // URL as in the report
	Fingerprint string
	Reason      string
	Owner       string
	Expires     string // 2027-01-31: the last day on which it holds
}

// Validate says what is missing or wrong in a suppression.
func (s Suppression) Validate() error {
	if _, ok := kidoban.CheckByKey(s.Check); !ok {
		return kidoban.Errorf(kidoban.KindInput, "a suppression names the check %q, which does not exist: kidoban checks lists them", s.Check)
	}
	for _, f := range []struct{ name, value string }{{"target", s.Target}, {"fingerprint", s.Fingerprint}, {"reason", s.Reason}, {"owner", s.Owner}, {"expires", s.Expires}} {
		if f.value == "" {
			return kidoban.Errorf(kidoban.KindInput, "the suppression of %s has no %s: check, target, fingerprint, reason, owner and expires are all needed", s.Check, f.name)
		}
	}
	if _, err := time.Parse(time.DateOnly, s.Expires); err != nil {
		return kidoban.Errorf(kidoban.KindInput, "the suppression of %s expires at %q; write a day as 2027-01-31", s.Check, s.Expires)
	}
	return nil
}

// Suppress marks the findings that suppressions cover on the day of now, and
// computes chains and grade anew. Suppressed findings stay in the report.
func Suppress(run kidoban.Run, list []Suppression, now time.Time) kidoban.Run {
	results := make([]kidoban.Result, len(run.Results))
	copy(results, run.Results)
	for i := range results {
		r := &results[i]
		for _, s := range list {
			c, ok := kidoban.CheckByKey(s.Check)
			day, err := time.Parse(time.DateOnly, s.Expires)
			if ok && err == nil && c.Key() == r.Key() && s.Target == run.Target.URL && s.Fingerprint == r.Fingerprint && now.Before(day.AddDate(0, 0, 1)) &&
				(r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak) {
				r.Suppressed = s.Reason + " (" + s.Owner + ", until " + s.Expires + ")"
			}
		}
	}
	run.Results = results
	run.Chains = Chains(results)
	run.Grade, run.Coverage.Tested, run.Coverage.Applicable = grade(run.Target.Headline, results, run.Chains)
	return run
}

// FailsAt tells whether the run has a finding of at least severity that is not
// suppressed and not in the baseline. A finding is the same when its fingerprint
// is. A nil baseline holds nothing.
func FailsAt(run kidoban.Run, severity kidoban.Severity, baseline *kidoban.Run) bool {
	known := map[string]bool{}
	if baseline != nil {
		for _, r := range baseline.Results {
			if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
				known[r.Fingerprint] = true
			}
		}
	}
	for _, r := range run.Results {
		if (r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak) && r.Suppressed == "" && r.Severity.Rank() >= severity.Rank() && !known[r.Fingerprint] {
			return true
		}
	}
	return false
}
