package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/kidoban/kidoban"
)

// Difference is what changed from one run to a later one.
type Difference struct {
	From    string   `json:"from"` // grade before, as shown
	To      string   `json:"to"`
	New     []Change `json:"new"`     // findings that were not there
	Fixed   []Change `json:"fixed"`   // findings whose check is clean now
	Changed []Change `json:"changed"` // findings whose fact, outcome, severity or evidence changed
	Unclear []Change `json:"unclear"` // findings whose check was not decided this time: not fixed
}

// Change is one check before and after. A side that has no result is nil.
type Change struct {
	Check  string          `json:"check"`
	Slug   string          `json:"slug"`
	Before *kidoban.Result `json:"before,omitempty"`
	After  *kidoban.Result `json:"after,omitempty"`
}

// Compare compares two runs check by check, in catalogue order. A finding counts
// as fixed only when its check was decided and came out clean.
func Compare(before, after kidoban.Run) Difference {
	d := Difference{From: letter(before.Grade), To: letter(after.Grade), New: []Change{}, Fixed: []Change{}, Changed: []Change{}, Unclear: []Change{}}
	old := map[string]kidoban.Result{}
	for _, r := range before.Results {
		old[r.Key()] = r
	}
	seen := map[string]bool{}
	for _, r := range Normal(after).Results {
		seen[r.Key()] = true
		was, had := old[r.Key()]
		c := Change{Check: r.Key(), Slug: r.Slug, After: &r}
		if had {
			c.Before = &was
		}
		wasFinding := had && isFinding(was)
		switch {
		case isFinding(r) && !wasFinding:
			d.New = append(d.New, c)
		case isFinding(r) && (was.Fingerprint != r.Fingerprint || was.Outcome != r.Outcome || was.Severity != r.Severity || was.Evidence != r.Evidence || (was.Suppressed == "") != (r.Suppressed == "")):
			d.Changed = append(d.Changed, c)
		case wasFinding && r.Outcome == kidoban.Pass, wasFinding && r.Outcome == kidoban.NotApplicable:
			d.Fixed = append(d.Fixed, c)
		case wasFinding && !isFinding(r):
			d.Unclear = append(d.Unclear, c)
		}
	}
	for _, r := range Normal(before).Results {
		if isFinding(r) && !seen[r.Key()] {
			d.Unclear = append(d.Unclear, Change{Check: r.Key(), Slug: r.Slug, Before: &r})
		}
	}
	return d
}

// Empty reports whether nothing changed among the findings.
func (d Difference) Empty() bool {
	return len(d.New)+len(d.Fixed)+len(d.Changed)+len(d.Unclear) == 0
}

// JSON writes the difference for machines.
func (d Difference) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return kidoban.Wrap(kidoban.KindInternal, enc.Encode(d), "the difference could not be written")
}

// Diff writes a difference for a terminal.
func (t Terminal) Diff(w io.Writer, d Difference) error {
	if t.Width == 0 {
		t.Width = 100
	}
	lines := []string{}
	if d.From != d.To {
		lines = append(lines, t.line(part{fmt.Sprintf("grade %s → %s", shown(d.From), shown(d.To)), bold}))
	}
	for _, g := range []struct {
		word, style string
		list        []Change
	}{{"NEW", red, d.New}, {"CHANGED", yellow, d.Changed}, {"UNCLEAR", dim, d.Unclear}, {"FIXED", green, d.Fixed}} {
		for _, c := range g.list {
			lines = append(lines, t.line(part{pad(g.word, 8), g.style}, part{pad(Clean(c.Check, 8), 7), bold}, part{c.text(), ""}))
		}
	}
	if len(lines) == 0 {
		lines = []string{"no finding appeared, changed or went away"}
	}
	for _, l := range lines {
		if _, err := io.WriteString(w, l+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func shown(letter string) string {
	if letter == "" {
		return "none"
	}
	return letter
}

// text says one change in words.
func (c Change) text() string {
	switch {
	case c.After == nil:
		return summary(*c.Before) + " (not part of the later run)"
	case c.Before == nil || !isFinding(*c.Before):
		return string(c.After.Severity) + " " + summary(*c.After)
	case isFinding(*c.After):
		return fmt.Sprintf("%s %s %s → %s %s %s", c.Before.Outcome, c.Before.Severity, c.Before.Evidence, c.After.Outcome, c.After.Severity, c.After.Evidence) + ": " + summary(*c.After)
	case c.After.Outcome == kidoban.Pass || c.After.Outcome == kidoban.NotApplicable:
		return summary(*c.Before)
	}
	return "now " + outcomeText(c.After.Outcome) + ", " + reasonText(c.After.Reason) + ": " + summary(*c.Before)
}
