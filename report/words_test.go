package report

import (
	"bytes"
	"html"
	"io"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// TestE22_1EveryFormatSaysHowLongToWait: where only time decides a check, every
// format that lists open checks names the wait, of several the longest, and none
// tells the reader that the server failed.
func TestE22_1EveryFormatSaysHowLongToWait(t *testing.T) {
	run := kidoban.Run{Target: kidoban.Target{URL: sampleURL, Headline: kidoban.HeadlineGraded}}
	for _, c := range kidoban.Checks() {
		r := kidoban.Result{ID: c.ID, Variant: c.Variant, Slug: c.Slug, Severity: c.Severity, Outcome: kidoban.Pass, Exchanges: []int{}, Norms: []string{}}
		switch c.Key() {
		case "E22-1":
			r.Outcome, r.Reason, r.Detail = kidoban.Inconclusive, kidoban.ReasonTime, "--patience 2m"
		case "F9-7":
			r.Outcome, r.Reason, r.Detail = kidoban.NotTested, kidoban.ReasonTime, "--patience 11m"
		case "E04-h":
			r.Outcome, r.Reason, r.Detail = kidoban.NotTested, kidoban.ReasonTime, "--patience 1h1m1s"
		}
		run.Results = append(run.Results, r)
	}
	in := Input{Run: run, Pages: pagesOf}
	for name, write := range map[string]func(w io.Writer) error{
		"terminal": func(w io.Writer) error { return Terminal{Width: 200}.Write(w, in) },
		"html":     func(w io.Writer) error { return HTML(w, in) },
		"junit":    func(w io.Writer) error { return JUnit(w, in, kidoban.High) },
		"markdown": func(w io.Writer) error { return Markdown(w, in) },
		"json":     func(w io.Writer) error { return JSON(w, in.Run) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := html.UnescapeString(b.String())
		for _, want := range []string{"--patience 2m", "--patience 1h1m1s"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not name %s", name, want)
			}
		}
		if strings.Contains(text, "again later") || strings.Contains(text, "the server failed") {
			t.Errorf("%s speaks of a failing server", name)
		}
	}
}
