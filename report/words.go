package report

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// Bounds on target text in one-line places, in runes.
const (
	maxURL     = 300
	maxSummary = 300
	maxWord    = 80
)

// headline is the run in one sentence.
func headline(run kidoban.Run) string {
	t := run.Target
	detail := Clean(t.Detail, maxSummary)
	switch t.Headline {
	case kidoban.HeadlineOpen:
		if detail == "" {
			detail = kidoban.Count(t.Tools, "tool answers", "tools answer") + " to anyone"
		}
		return "OPEN: no authorization, " + detail
	case kidoban.HeadlineMoved:
		return strings.TrimSuffix("MOVED to "+Clean(t.MovedTo, maxURL)+": "+detail, ": ")
	case kidoban.HeadlineNotMCP:
		return strings.TrimSuffix("NOT MCP HERE: "+detail, ": ")
	case kidoban.HeadlineUnreachable:
		return strings.TrimSuffix("UNREACHABLE: "+detail, ": ")
	case kidoban.HeadlineInterrupted:
		return strings.TrimSuffix("INTERRUPTED: "+detail, ": ")
	}
	c := Count(run.Results)
	if r, ok := wayIn(run); ok {
		return "An attacker gets in: " + Clean(summary(r), maxSummary)
	}
	switch {
	case len(run.Chains) > 0:
		for _, chain := range run.Chains { // a way that was seen is said before one that is likely
			if confirmed(run, chain) {
				return "An attacker gets in: " + Clean(chain.Title, maxSummary)
			}
		}
		return "An attacker can probably get in: " + Clean(run.Chains[0].Title, maxSummary)
	case c.Fail > 0:
		return fmt.Sprintf("%s, and no chain of them that reaches the goal", kidoban.Count(c.Fail, "requirement is", "requirements are")+" violated")
	case c.Weak > 0:
		return fmt.Sprintf("No requirement is violated; %s", kidoban.Count(c.Weak, "weakness", "weaknesses"))
	case c.Pass > 0:
		return "Nothing was found in what was tested"
	}
	return "Nothing could be decided"
}

// wayIn is the finding that made the grade an F and was seen with its effect: a
// code, a token or data was had. It needs no chain, and is said before any.
func wayIn(run kidoban.Run) (kidoban.Result, bool) {
	for _, c := range run.Grade.Caps {
		key, isF := strings.CutPrefix(c, "F: ")
		key, _, _ = strings.Cut(key, " ")
		if !isF {
			continue
		}
		for _, r := range run.Results {
			if r.Key() == key && isFinding(r) && r.Evidence == kidoban.Confirmed {
				return r, true
			}
		}
	}
	return kidoban.Result{}, false
}

// confirmed reports whether every finding of a chain was seen with its effect:
// the headline is never louder than the proof.
func confirmed(run kidoban.Run, c kidoban.Chain) bool {
	proof := map[string]kidoban.Evidence{}
	for _, r := range run.Results {
		if isFinding(r) {
			proof[r.Key()] = r.Evidence
		}
	}
	for _, k := range c.Checks {
		if proof[k] != kidoban.Confirmed {
			return false
		}
	}
	return len(c.Checks) > 0
}

// letter is the grade as shown: "D", "[B]" below the coverage threshold, "" for none.
func letter(g kidoban.Grade) string {
	l := Clean(g.Letter, 4)
	if l != "" && g.Bracketed {
		return "[" + l + "]"
	}
	return l
}

// tiers is the range of tiers: "T0–T2".
func tiers(m kidoban.Meta) string {
	if len(m.Tiers) == 0 {
		return ""
	}
	first, last := m.Tiers[0], m.Tiers[len(m.Tiers)-1]
	if first == last {
		return Clean(string(first), 4)
	}
	return Clean(string(first), 4) + "–" + Clean(string(last), 4)
}

// reasonText says a reason in words.
func reasonText(r kidoban.Reason) string {
	switch r {
	case kidoban.ReasonLogin:
		return "needs a login with an account of yours"
	case kidoban.ReasonSecondLogin:
		return "needs a second account of yours"
	case kidoban.ReasonTier:
		return "creates state on the server"
	case kidoban.ReasonClient:
		return "needs a registered client"
	case kidoban.ReasonCanary:
		return "needs a collector the server can reach"
	case kidoban.ReasonOwnServer:
		return "only allowed on your own server"
	case kidoban.ReasonBudget:
		return "the request budget was spent"
	case kidoban.ReasonTime:
		return "a code, a token or a grace window has to end first"
	case kidoban.ReasonToolNamed:
		return "needs a tool you name"
	case kidoban.ReasonInterrupted:
		return "the run was interrupted"
	case kidoban.ReasonNotApplicable:
		return "what it is about does not exist here"
	case kidoban.ReasonDeferred:
		return "the server shows a login before it checks anything"
	case kidoban.ReasonRateLimit:
		return "the server limited the requests; a limit is not a refusal"
	case kidoban.ReasonChallenge:
		return "a firewall or content network answered instead"
	case kidoban.ReasonJSOnly:
		return "the page needs a script to say what it is"
	case kidoban.ReasonUpstream:
		return "the answer is the upstream's, which is not attacked"
	case kidoban.ReasonUnstable:
		return "the server failed, or a valid request did not work the same way twice"
	case kidoban.ReasonNeedsUI:
		return "a person or a browser has to look"
	case kidoban.ReasonNetwork:
		return "no answer of the server"
	case "":
		return "no reason given"
	}
	return Clean(string(r), maxWord)
}

// remedy is the option that would decide what a reason left open, or "".
func remedy(r kidoban.Reason) string {
	switch r {
	case kidoban.ReasonLogin, kidoban.ReasonDeferred, kidoban.ReasonNeedsUI, kidoban.ReasonJSOnly:
		return "--login"
	case kidoban.ReasonSecondLogin:
		return "--login-as NAME --second-login-as NAME"
	case kidoban.ReasonTier:
		return `--active --authorized "who allowed it"`
	case kidoban.ReasonClient:
		return "--client-id ID, or --active"
	case kidoban.ReasonCanary:
		return "--active --canary-domain DOMAIN"
	case kidoban.ReasonOwnServer:
		return "--active --own-server"
	case kidoban.ReasonToolNamed:
		return "--login --tool NAME"
	case kidoban.ReasonBudget:
		return "--max-requests 240"
	case kidoban.ReasonRateLimit, kidoban.ReasonUnstable, kidoban.ReasonNetwork:
		return "run it again later"
	case kidoban.ReasonInterrupted:
		return "run it again"
	}
	return ""
}

// Gap is a group of undecided checks with one reason.
type Gap struct {
	Outcome kidoban.Outcome
	Reason  kidoban.Reason
	Detail  string // the command that would decide them: the first that is named, of waits the longest
	Keys    []string
}

// Gaps groups the undecided checks of a run by outcome and reason, the largest
// group first.
func Gaps(results []kidoban.Result) []Gap {
	var out []Gap
	at := map[string]int{}
	for _, r := range Undecided(results) {
		k := string(r.Outcome) + "\x00" + string(r.Reason)
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, Gap{Outcome: r.Outcome, Reason: r.Reason})
		}
		out[i].Keys = append(out[i].Keys, r.Key())
		if out[i].Detail == "" || r.Reason == kidoban.ReasonTime && patience(r.Detail) > patience(out[i].Detail) {
			out[i].Detail = r.Detail
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return len(out[i].Keys) > len(out[j].Keys) })
	return out
}

// remedy is the option that would decide the checks of a gap, or "".
func (g Gap) remedy() string {
	switch {
	case g.Reason == kidoban.ReasonTime:
		return Clean(g.Detail, maxWord)
	case g.Reason == kidoban.ReasonLogin && strings.HasPrefix(g.Detail, "--login-window"):
		return "--login-window" // the person's own browser was used already
	}
	return remedy(g.Reason)
}

// why says in one line why a gap is there, and what would decide it.
func (g Gap) why() string {
	s := reasonText(g.Reason)
	if opt := g.remedy(); opt != "" {
		s += " → " + opt
	}
	return s
}

// patience is how long "--patience 11m" waits; 0 for anything else.
func patience(detail string) time.Duration {
	d, err := time.ParseDuration(strings.TrimPrefix(detail, "--patience "))
	if err != nil {
		return 0
	}
	return d
}

// command is the command line that would decide a gap, or "".
func (g Gap) command(target string) string {
	if strings.HasPrefix(g.Detail, "kidoban ") {
		return Clean(g.Detail, maxURL)
	}
	opt := g.remedy()
	if !strings.HasPrefix(opt, "--") {
		return opt
	}
	return "kidoban audit " + ShellQuote(Clean(target, maxURL)) + " " + opt
}

// outcomeText says an outcome for readers.
func outcomeText(o kidoban.Outcome) string {
	switch o {
	case kidoban.NotTested:
		return "not tested"
	case kidoban.Inconclusive:
		return "inconclusive"
	case kidoban.NotApplicable:
		return "not applicable"
	}
	return Clean(string(o), 20)
}

// Limits are what no audit from outside can see; every report prints them.
func Limits() []string {
	return []string{
		"the contents of an encrypted or opaque upstream state",
		"the contents of pushed authorization requests",
		"whether an OpenID nonce is verified",
		"how tokens are stored",
		"how upstream tokens are handled behind the server",
		"servers hidden behind a content delivery network",
		"everything that was left to a login that did not take place",
	}
}
