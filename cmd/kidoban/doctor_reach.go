package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// gap is what an examination did not get at for one reason.
type gap struct {
	why    kidoban.Reason
	flaws  []string
	detail string // what would decide the first of them
}

// unreached lists the flaws of which no check has a verdict, in catalogue order, by
// the reason that stands before the first of their open checks. What does not exist at
// the server is no gap.
func unreached(results []kidoban.Result) (gaps []gap) {
	decided, open := map[string]bool{}, map[string]kidoban.Result{}
	for _, r := range results {
		switch r.Outcome {
		case kidoban.NotTested, kidoban.Inconclusive:
			if _, ok := open[r.ID]; !ok {
				open[r.ID] = r
			}
		case kidoban.NotApplicable:
		default:
			decided[r.ID] = true
		}
	}
	for _, f := range kidoban.Flaws() {
		r, ok := open[f.ID]
		if !ok || decided[f.ID] {
			continue
		}
		if r.Reason == kidoban.ReasonSecondLogin { // both people are asked for at once
			r.Reason = kidoban.ReasonLogin
		}
		i := slices.IndexFunc(gaps, func(g gap) bool { return g.why == r.Reason })
		if i < 0 {
			i, gaps = len(gaps), append(gaps, gap{why: r.Reason, detail: r.Detail})
		}
		gaps[i].flaws = append(gaps[i].flaws, f.ID)
	}
	return gaps
}

// tellReach says which flaws an examination of a running gateway did not get at, why,
// and what does.
func (c doctorCmd) tellReach(w io.Writer, results []kidoban.Result) {
	for _, g := range unreached(results) {
		var reason, do string
		switch g.why {
		case kidoban.ReasonCanary:
			reason = "seen in what a gateway fetches from a collector. A gateway rightly fetches nothing from its own machine, so the collector needs a public address"
			do = "kidoban doctor --self   (the same program, fresh, with a collector), or --canary-domain DOMAIN --canary-listen ADDR"
		case kidoban.ReasonLogin:
			reason = "seen behind a login"
			do = "--login-as NAME --password-env VAR --second-login-as NAME --second-password-env VAR"
		case kidoban.ReasonToolNamed:
			reason, do = "seen in the answers of tools", g.detail
			if len(c.Tool) > 0 {
				reason = "seen in the answers of tools, and not of " + strings.Join(c.Tool, ", ")
			}
		default:
			continue // the report says it
		}
		n := kidoban.Count(len(g.flaws), "flaw was not reached", "flaws were not reached")
		fmt.Fprintf(w, "\n  %s: %s\n    why    %s\n    reach  %s\n", n, strings.Join(g.flaws, " "), reason, do)
	}
}
