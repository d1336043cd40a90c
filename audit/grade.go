package audit

import (
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// GradeVersion changes when the rules below change.
const GradeVersion = 1

// The grade comes from violations, not points (audit.md 7):
//
//	F   code, token or data obtained by the attacker role: a confirmed critical,
//	    except where what was seen is a redirected error (those are links)
//	D   a link of an attack chain proven: a chain, or a fail of high severity or more
//	C   a MUST violated without proven impact: any other fail
//	B   only SHOULD: a weak of at least low severity
//	A   none of these
//	A+  A, nothing weak at all, coverage of 90 % or more, and the login done
//
// Signals and info never cap. Below 60 % coverage the letter is bracketed.
const (
	coverageBracket = 60
	coveragePlus    = 90
)

var letters = []string{"A+", "A", "B", "C", "D", "F"} // best first

// CapOf returns the letter that one result caps the grade at, or "" for none.
func CapOf(r kidoban.Result) string {
	if r.Suppressed != "" || r.Severity == kidoban.Info || r.Evidence == kidoban.Signal {
		return ""
	}
	switch r.Outcome {
	case kidoban.Fail:
		switch {
		case r.Severity == kidoban.Critical && r.Evidence == kidoban.Confirmed && !linkOnly[r.Key()]:
			return "F"
		case r.Severity.Rank() >= kidoban.High.Rank():
			return "D"
		}
		return "C"
	case kidoban.Weak:
		return "B"
	}
	return ""
}

// linkOnly are criticals that an error sent to a foreign place confirms: the way
// is open, but nobody has walked it.
var linkOnly = map[string]bool{"F4-1": true, "F4-4": true, "F7-1": true, "F7-7": true, "F7-8": true}

// Grade gives the grade of a run from its headline, results and chains. It is a
// pure function, so a report can ask what the letter would be with one flaw
// fixed.
func Grade(run kidoban.Run) kidoban.Grade {
	g, _, _ := grade(run.Target.Headline, run.Results, run.Chains)
	return g
}

// coverage counts flaws, not checks, because flaws have very different numbers
// of checks: applicable is how many flaws have a check that applies, tested how
// many of them have a verdict on at least half of those.
func coverage(results []kidoban.Result) (tested, applicable int) {
	type count struct{ decided, all int }
	by := map[string]*count{}
	for _, r := range results {
		if r.Outcome == kidoban.NotApplicable {
			continue
		}
		c := by[r.ID]
		if c == nil {
			c = &count{}
			by[r.ID] = c
		}
		c.all++
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak || r.Outcome == kidoban.Pass {
			c.decided++
		}
	}
	for _, c := range by {
		applicable++
		if 2*c.decided >= c.all {
			tested++
		}
	}
	return tested, applicable
}

func grade(headline string, results []kidoban.Result, chains []kidoban.Chain) (g kidoban.Grade, tested, applicable int) {
	g = kidoban.Grade{Version: GradeVersion, Caps: []string{}}
	tested, applicable = coverage(results)
	login, anyWeak := false, false
	for _, r := range results {
		switch r.Outcome {
		case kidoban.Fail, kidoban.Weak, kidoban.Pass:
			if catalogue()[r.Key()].Tier == kidoban.T3 {
				login = true
			}
			anyWeak = anyWeak || r.Outcome != kidoban.Pass && r.Suppressed == ""
		}
	}
	if headline != kidoban.HeadlineGraded {
		return g, tested, applicable
	}
	worst := 1 // A
	type limit struct {
		rank int
		text string
	}
	var caps []limit
	add := func(letter, text string) {
		rank := slices.Index(letters, letter)
		caps = append(caps, limit{rank, letter + ": " + text})
		worst = max(worst, rank)
	}
	for _, c := range chains {
		add("D", c.ID+": "+c.Title)
	}
	for _, r := range results {
		if letter := CapOf(r); letter != "" {
			add(letter, r.Key()+" "+strings.ReplaceAll(r.Slug, "-", " "))
		}
	}
	slices.SortStableFunc(caps, func(a, b limit) int { return b.rank - a.rank })
	for _, c := range caps {
		g.Caps = append(g.Caps, c.text)
	}
	if worst == 1 && !anyWeak && login && tested*100 >= applicable*coveragePlus {
		worst = 0
	}
	g.Letter = letters[worst]
	g.Bracketed = applicable == 0 || tested*100 < applicable*coverageBracket
	return g, tested, applicable
}
