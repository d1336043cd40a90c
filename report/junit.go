package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

type (
	junitSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Suite    junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr,omitempty"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes one test case for each check, as CI servers read them. A finding
// of at least failOn is a failure; a lesser or suppressed one passes with a note
// in its output; what was not decided is skipped with the reason.
func JUnit(w io.Writer, in Input, failOn kidoban.Severity) error {
	run := Normal(in.Run)
	s := junitSuite{Name: "kidoban audit " + Clean(run.Target.URL, maxURL), Time: fmt.Sprintf("%.3f", float64(run.DurationMS)/1000), Timestamp: Clean(run.Meta.Started, 40)}
	for _, r := range run.Results {
		c := junitCase{Class: "kidoban." + Clean(r.ID, 8), Name: Clean(r.Key()+" "+r.Slug, maxWord), Time: "0"}
		switch {
		case isFinding(r) && r.Suppressed == "" && r.Severity.Rank() >= failOn.Rank():
			c.Failure = &junitMessage{Type: Clean(string(r.Severity), 12), Message: summary(r), Text: in.junitText(r)}
			s.Failures++
		case isFinding(r):
			c.Output = in.junitText(r)
			if r.Suppressed != "" {
				c.Output = "suppressed: " + Clean(r.Suppressed, maxSummary) + "\n" + c.Output
			}
		case r.Outcome != kidoban.Pass:
			c.Skipped = &junitMessage{Message: outcomeText(r.Outcome) + ": " + Gap{Reason: r.Reason, Detail: r.Detail}.why()}
			s.Skipped++
		}
		s.Cases = append(s.Cases, c)
	}
	s.Tests = len(s.Cases)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(junitSuites{Name: s.Name, Tests: s.Tests, Failures: s.Failures, Skipped: s.Skipped, Time: s.Time, Suite: s}); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the JUnit file could not be written")
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (in Input) junitText(r kidoban.Result) string {
	lines := []string{fmt.Sprintf("%s %s: %s", Clean(string(r.Outcome), 20), Clean(string(r.Severity), 12), summary(r))}
	if r.Evidence != "" {
		lines = append(lines, "evidence: "+Clean(string(r.Evidence), 12))
	}
	if len(r.Norms) > 0 {
		lines = append(lines, "norm: "+Clean(strings.Join(r.Norms, ", "), maxSummary))
	}
	if r.Fix != "" {
		lines = append(lines, "fix: "+Clean(r.Fix, maxSummary))
	}
	if n := len(r.Exchanges); n > 0 {
		if x, ok := in.exchange(r.Exchanges[n-1]); ok {
			lines = append(lines, "replay: "+Curl(x))
		}
	}
	return strings.Join(lines, "\n")
}
