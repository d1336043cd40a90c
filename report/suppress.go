package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
)

// Bounds of kidoban.yaml.
const (
	maxConfig       = 1 << 20
	maxSuppressions = 2000
	maxReason       = 300
)

// Suppression accepts one finding of one target until a day. All members are
// required: there is no way to suppress a whole server, and none without an end.
type Suppression struct {
	Check       string `yaml:"check"`       // key or slug
	Target      string `yaml:"target"`      // address as audited
	Fingerprint string `yaml:"fingerprint"` // of the finding
	Reason      string `yaml:"reason"`
	Owner       string `yaml:"owner"`
	Expires     string `yaml:"expires"` // day, 2027-01-31; the suppression holds on that day
}

// config is kidoban.yaml as far as reports read it.
type config struct {
	Suppressions []Suppression `yaml:"suppressions"`
}

var fingerprintForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ParseSuppressions reads the suppressions of a kidoban.yaml. It is strict:
// unknown members, unknown checks, missing reasons and impossible days are
// KindInput errors that show line and place. name is used in errors only.
func ParseSuppressions(name string, data []byte) ([]Suppression, error) {
	if len(data) > maxConfig {
		return nil, kidoban.Errorf(kidoban.KindInput, "%s is larger than %d KiB", name, maxConfig>>10)
	}
	var c config
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, kidoban.Errorf(kidoban.KindInput, "%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(c.Suppressions) > maxSuppressions {
		return nil, kidoban.Errorf(kidoban.KindInput, "%s lists more than %d suppressions", name, maxSuppressions)
	}
	for i := range c.Suppressions {
		if member, why := c.Suppressions[i].check(); why != "" {
			return nil, kidoban.Errorf(kidoban.KindInput, "%s: suppression %d: %s%s", name, i+1, why, caret(data, i, member))
		}
	}
	return c.Suppressions, nil
}

// check returns the member that is wrong and why, or "".
func (s *Suppression) check() (member, why string) {
	c, known := kidoban.CheckByKey(s.Check)
	switch {
	case !known:
		return "check", fmt.Sprintf("no check is called %.60q; kidoban checks lists them", s.Check)
	case s.Target == "":
		return "target", "the target is missing: the address as it was audited"
	case !fingerprintForm.MatchString(s.Fingerprint):
		return "fingerprint", "the fingerprint is 32 hex digits; the finding in the JSON report has it"
	case strings.TrimSpace(s.Reason) == "" || len(s.Reason) > maxReason:
		return "reason", fmt.Sprintf("a reason of at most %d characters is needed", maxReason)
	case strings.TrimSpace(s.Owner) == "" || len(s.Owner) > maxReason:
		return "owner", "the owner is missing: who answers for it"
	}
	if _, err := time.Parse(time.DateOnly, s.Expires); err != nil {
		return "expires", fmt.Sprintf("expires is a day like 2027-01-31, not %.40q", s.Expires)
	}
	s.Check = c.Key()
	return "", ""
}

// caret shows the place of a member of suppression i in the file, if it is there.
func caret(data []byte, i int, member string) string {
	for _, path := range []string{fmt.Sprintf("$.suppressions[%d].%s", i, member), fmt.Sprintf("$.suppressions[%d]", i)} {
		p, err := yaml.PathString(path)
		if err != nil {
			continue
		}
		if shown, err := p.AnnotateSource(data, false); err == nil {
			return "\n" + strings.TrimRight(string(shown), "\n")
		}
	}
	return ""
}

// Applied says what became of the suppressions of a run.
type Applied struct {
	Used    []Suppression
	Expired []Suppression // they match a finding and hold no more
	Unused  []Suppression // of this target, whose check was decided without such a finding: remove them
}

// Suppress marks the findings of run that a suppression covers, as of today in
// UTC. The findings stay in the run, and every report shows them apart. It
// changes run.Results in place.
func Suppress(run *kidoban.Run, list []Suppression, today time.Time) Applied {
	var out Applied
	day := today.UTC().Format(time.DateOnly)
	for _, s := range list {
		if s.Target != run.Target.URL {
			continue
		}
		hit, undecided := false, false
		for i := range run.Results {
			r := &run.Results[i]
			undecided = undecided || r.Key() == s.Check && (r.Outcome == kidoban.NotTested || r.Outcome == kidoban.Inconclusive)
			if !isFinding(*r) || r.Key() != s.Check || r.Fingerprint != s.Fingerprint {
				continue
			}
			hit = true
			if s.Expires < day {
				out.Expired = append(out.Expired, s)
				continue
			}
			r.Suppressed = fmt.Sprintf("%s (%s, until %s)", s.Reason, s.Owner, s.Expires)
			out.Used = append(out.Used, s)
		}
		if !hit && !undecided { // what a run did not test may be there still
			out.Unused = append(out.Unused, s)
		}
	}
	return out
}

// Lines says in words what a reader has to know about the suppressions: which
// have expired, and which cover nothing any more.
func (a Applied) Lines() []string {
	var out []string
	for _, s := range a.Expired {
		out = append(out, fmt.Sprintf("the suppression of %s (%s) expired on %s: the finding counts again", s.Check, Clean(s.Owner, maxWord), s.Expires))
	}
	for _, s := range a.Unused {
		out = append(out, fmt.Sprintf("the suppression of %s (%s) covers no finding any more: remove it", s.Check, Clean(s.Owner, maxWord)))
	}
	return out
}

// Failing returns the findings of at least failOn that are not suppressed and
// not in the baseline: what makes a command fail. baseline may be nil.
func Failing(run kidoban.Run, failOn kidoban.Severity, baseline *kidoban.Run) []kidoban.Result {
	known := map[string]bool{}
	if baseline != nil {
		for _, r := range baseline.Results {
			if isFinding(r) {
				known[identity(r)] = true
			}
		}
	}
	var out []kidoban.Result
	for _, r := range Findings(run.Results) {
		if r.Severity.Rank() >= failOn.Rank() && !known[identity(r)] {
			out = append(out, r)
		}
	}
	return out
}

// identity is what makes two findings of two runs the same.
func identity(r kidoban.Result) string { return r.Key() + "\x00" + r.Fingerprint }
