// Package report turns the outcome of an audit into something a person or a
// machine reads: forty lines for a terminal, one self-contained HTML file, the
// JSON contract, SARIF for code scanning, JUnit for test runners, Markdown for a
// pull request, and a badge.
//
// Two rules hold for every format. Whatever came from the target is hostile
// text: it is bounded, escaped for its context, and what would be invisible
// (controls, ANSI sequences, direction marks, zero-width characters) is written
// out so that a reader sees it. And the same run gives the same bytes: nothing
// here reads a clock, a random source or an environment.
//
// Exchanges must be redacted copies, as outbound's recorder gives them out. The
// package adds a second line of defence where it writes command lines: values of
// credential headers and parameters are replaced by shell variables.
package report

import (
	"sort"

	"github.com/kidoban/kidoban"
)

// Input is everything a report is made from. Only Run is required.
type Input struct {
	Run       kidoban.Run
	Exchanges []kidoban.Exchange // redacted; the evidence that results name by ID

	// Shots are the pages of a login, as a person saw them.
	Shots []Shot

	// Pages gives the text about a flaw. Without it reports carry less prose.
	Pages func(id string) (Page, bool)

	// Regrade grades a run whose results were changed; reports use it to say
	// what each fix would give. It must not keep the run.
	Regrade func(kidoban.Run) kidoban.Grade

	// Where is the line of the server in the repository's configuration, for
	// formats that annotate files.
	Where Location
}

// Page is what reports need of the text about a flaw.
type Page struct {
	Summary   string
	Why       string
	Questions map[string]string // check key → question
	Norms     []Norm
	Fix       string
	Snippets  []Snippet
}

// Norm is one clause: its short reference and what it asks for.
type Norm struct{ Ref, Text string }

// Snippet is code that shows a fix.
type Snippet struct{ Lang, Code string }

// page returns the text about a flaw, or an empty page.
func (in Input) page(id string) Page {
	if in.Pages == nil {
		return Page{}
	}
	p, _ := in.Pages(id)
	return p
}

// exchange finds an exchange by its number.
func (in Input) exchange(id int) (kidoban.Exchange, bool) {
	for _, x := range in.Exchanges {
		if x.ID == id {
			return x, true
		}
	}
	return kidoban.Exchange{}, false
}

// Tally counts the results of a run by what became of them. Suppressed findings
// are counted apart and in no other number.
type Tally struct {
	Fail, Weak, Pass, NotApplicable, NotTested, Inconclusive, Suppressed int
}

// Count counts the results of a run.
func Count(results []kidoban.Result) Tally {
	var t Tally
	for _, r := range results {
		switch {
		case isFinding(r) && r.Suppressed != "":
			t.Suppressed++
		case r.Outcome == kidoban.Fail:
			t.Fail++
		case r.Outcome == kidoban.Weak:
			t.Weak++
		case r.Outcome == kidoban.Pass:
			t.Pass++
		case r.Outcome == kidoban.NotApplicable:
			t.NotApplicable++
		case r.Outcome == kidoban.NotTested:
			t.NotTested++
		case r.Outcome == kidoban.Inconclusive:
			t.Inconclusive++
		}
	}
	return t
}

func isFinding(r kidoban.Result) bool {
	return r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak
}

// Findings returns the fails and weaks that are not suppressed, worst first:
// by outcome, severity, evidence, and catalogue order among equals.
func Findings(results []kidoban.Result) []kidoban.Result {
	return pick(results, func(r kidoban.Result) bool { return isFinding(r) && r.Suppressed == "" })
}

// Suppressed returns the findings that a suppression covers, worst first.
func Suppressed(results []kidoban.Result) []kidoban.Result {
	return pick(results, func(r kidoban.Result) bool { return isFinding(r) && r.Suppressed != "" })
}

// Undecided returns what was not tested and what was inconclusive, in catalogue order.
func Undecided(results []kidoban.Result) []kidoban.Result {
	return pick(results, func(r kidoban.Result) bool {
		return r.Outcome == kidoban.NotTested || r.Outcome == kidoban.Inconclusive
	})
}

func pick(results []kidoban.Result, keep func(kidoban.Result) bool) []kidoban.Result {
	var out []kidoban.Result
	for _, r := range results {
		if keep(r) {
			out = append(out, r)
		}
	}
	order := catalogueOrder()
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if isFinding(a) && isFinding(b) {
			if (a.Outcome == kidoban.Fail) != (b.Outcome == kidoban.Fail) {
				return a.Outcome == kidoban.Fail
			}
			if a.Severity != b.Severity {
				return a.Severity.Rank() > b.Severity.Rank()
			}
			if a.Evidence != b.Evidence {
				return a.Evidence.Rank() > b.Evidence.Rank()
			}
		}
		return order.of(a.Key()) < order.of(b.Key())
	})
	return out
}

// keyOrder maps check keys to their place in the catalogue.
type keyOrder map[string]int

func catalogueOrder() keyOrder {
	o := keyOrder{}
	for i, c := range kidoban.Checks() {
		o[c.Key()] = i
	}
	return o
}

// of gives unknown keys a place behind the known ones.
func (o keyOrder) of(key string) int {
	if i, ok := o[key]; ok {
		return i
	}
	return len(o)
}
