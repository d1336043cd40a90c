package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

// unreached lists the flaws of which no check has a verdict, in catalogue order, by
// the reason that stands before the first of their open checks. What does not exist at
// the server is no gap.
func unreached(results []kidoban.Result) (order []kidoban.Reason, flaws map[kidoban.Reason][]string) {
	decided, open := map[string]bool{}, map[string]kidoban.Reason{}
	for _, r := range results {
		switch r.Outcome {
		case kidoban.NotTested, kidoban.Inconclusive:
			if _, ok := open[r.ID]; !ok {
				open[r.ID] = r.Reason
			}
		case kidoban.NotApplicable:
		default:
			decided[r.ID] = true
		}
	}
	flaws = map[kidoban.Reason][]string{}
	for _, f := range kidoban.Flaws() {
		why, ok := open[f.ID]
		if !ok || decided[f.ID] {
			continue
		}
		if flaws[why] == nil {
			order = append(order, why)
		}
		flaws[why] = append(flaws[why], f.ID)
	}
	return order, flaws
}

// tellReach says which flaws an examination of a running gateway did not get at, why,
// and what does.
func (c doctorCmd) tellReach(w io.Writer, results []kidoban.Result) {
	order, flaws := unreached(results)
	for _, why := range order {
		var reason, do string
		switch why {
		case kidoban.ReasonCanary:
			reason = "they show in what a gateway fetches from a collector. A gateway rightly fetches nothing from its own machine, so the collector needs a public address"
			do = "kidoban doctor --self   (the same program, fresh, with a collector), or --canary-domain DOMAIN --canary-listen ADDR"
		case kidoban.ReasonLogin, kidoban.ReasonSecondLogin:
			reason = "they stand behind a login"
			do = "--login-as NAME --password-env VAR --second-login-as NAME --second-password-env VAR"
		case kidoban.ReasonToolNamed:
			reason = "they show in the answers of tools"
			do = "--tool NAME, of tools that may be called"
		default:
			continue // the report says it
		}
		n := "1 flaw was not reached"
		if len(flaws[why]) > 1 {
			n = fmt.Sprintf("%d flaws were not reached", len(flaws[why]))
		}
		fmt.Fprintf(w, "\n  %s: %s\n    why    %s\n    reach  %s\n", n, strings.Join(flaws[why], " "), reason, do)
	}
}
