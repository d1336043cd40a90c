package audit

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// catalogue is the catalogue by key. It is made once and never changes.
var catalogue = sync.OnceValue(func() map[string]kidoban.Check {
	m := map[string]kidoban.Check{}
	for _, c := range kidoban.Checks() {
		m[c.Key()] = c
	}
	return m
})

// Judges build results with the functions of this file; the run adds slug,
// norms, fix and fingerprint. A key that is not in the catalogue panics: it is
// a mistake in the code, not in the input.

func check(key string) kidoban.Check {
	c, ok := catalogue()[key]
	if !ok {
		panic("audit: no check " + key)
	}
	return c
}

func blank(key string) kidoban.Result {
	c := check(key)
	return kidoban.Result{ID: c.ID, Variant: c.Variant, Slug: c.Slug, Severity: c.Severity}
}

// positive is a finding: the check's outcome and severity from the catalogue,
// the evidence at most the catalogue's maximum.
func positive(key string, ev kidoban.Evidence, summary string, xs ...*kidoban.Exchange) kidoban.Result {
	r, c := blank(key), check(key)
	r.Outcome, r.Evidence, r.Summary, r.Exchanges = c.Outcome, ev, summary, ids(xs...)
	if ev.Rank() > c.Max.Rank() {
		r.Evidence = c.Max
	}
	return r
}

// passed says that the check's question was asked and answered well.
func passed(key, summary string, xs ...*kidoban.Exchange) kidoban.Result {
	r := blank(key)
	r.Outcome, r.Summary, r.Exchanges = kidoban.Pass, summary, ids(xs...)
	return r
}

// absent says that what the check is about does not exist on this target.
func absent(key, summary string, xs ...*kidoban.Exchange) kidoban.Result {
	r := blank(key)
	r.Outcome, r.Reason, r.Summary, r.Exchanges = kidoban.NotApplicable, kidoban.ReasonNotApplicable, summary, ids(xs...)
	return r
}

// untested says why the question was not asked; detail names what would ask it.
func untested(key string, reason kidoban.Reason, detail string) kidoban.Result {
	r := blank(key)
	r.Outcome, r.Reason, r.Detail = kidoban.NotTested, reason, detail
	r.Summary = "not tested: " + reasonText(reason)
	return r
}

// unclear says that the question was asked and the answer proves nothing.
func unclear(key string, reason kidoban.Reason, summary string, xs ...*kidoban.Exchange) kidoban.Result {
	r := blank(key)
	r.Outcome, r.Reason, r.Summary, r.Exchanges = kidoban.Inconclusive, reason, summary, ids(xs...)
	return r
}

// unhurried says that the question was asked and only time tells the answer: with
// that much patience the run would have waited for it.
func unhurried(key string, patience time.Duration, summary string, xs ...*kidoban.Exchange) kidoban.Result {
	r := unclear(key, kidoban.ReasonTime, summary, xs...)
	r.Detail = patienceOf(patience)
	return r
}

// patienceOf is the option that makes a run wait for d.
func patienceOf(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return "--patience " + s
}

// unanswered turns an exchange that says nothing about the server (no answer,
// budget spent, rate limit, a challenge page, an outage) into the honest result. ok is
// false when the exchange has an answer to judge.
func unanswered(key string, x *kidoban.Exchange) (kidoban.Result, bool) {
	switch {
	case x == nil:
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), true
	case x.Response == nil && x.ErrKind == kidoban.KindLimit && x.Err == errBudget:
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), true
	case x.Response == nil:
		return unclear(key, kidoban.ReasonNetwork, "no answer: "+why(x), x), true
	case rateLimited(x):
		return unclear(key, kidoban.ReasonRateLimit, "the server limits us; a limit is not a refusal", x), true
	case challenged(x):
		return unclear(key, kidoban.ReasonChallenge, "a content network answered instead of the server", x), true
	case outage(x):
		return unclear(key, kidoban.ReasonNetwork, "a proxy says that the server is not there: status "+itoa(x.Status()), x), true
	}
	return kidoban.Result{}, false
}

// undecided is unanswered for judges to whom a crash says nothing either.
func undecided(key, what string, x *kidoban.Exchange) (kidoban.Result, bool) {
	if r, bad := unanswered(key, x); bad {
		return r, true
	}
	if crashed(x) {
		return unclear(key, kidoban.ReasonUnstable, what+" fails with status "+itoa(x.Status())+", which neither refuses nor accepts", x), true
	}
	return kidoban.Result{}, false
}

func ids(xs ...*kidoban.Exchange) []int {
	out := []int{}
	for _, x := range xs {
		if x == nil || x.ID == 0 {
			continue
		}
		seen := false
		for _, id := range out {
			seen = seen || id == x.ID
		}
		if !seen {
			out = append(out, x.ID)
		}
	}
	return out
}

func reasonText(r kidoban.Reason) string {
	switch r {
	case kidoban.ReasonLogin:
		return "it needs a login with a test account"
	case kidoban.ReasonSecondLogin:
		return "it needs two test accounts"
	case kidoban.ReasonTier:
		return "it creates state on the server"
	case kidoban.ReasonClient:
		return "it needs a registered client"
	case kidoban.ReasonCanary:
		return "it needs a collector that the server can reach"
	case kidoban.ReasonOwnServer:
		return "only for the tester's own server"
	case kidoban.ReasonBudget:
		return "the request budget was spent on more telling requests"
	case kidoban.ReasonTime:
		return "something has to expire first"
	case kidoban.ReasonToolNamed:
		return "it needs a tool that the operator names"
	case kidoban.ReasonInterrupted:
		return "the run was interrupted"
	}
	return string(r)
}

// detailFor is the command-line addition that would have the check tested.
func detailFor(r kidoban.Reason) string {
	switch r {
	case kidoban.ReasonLogin:
		return "--login, or --login-as NAME"
	case kidoban.ReasonSecondLogin:
		return "--login-as NAME --second-login-as NAME"
	case kidoban.ReasonTier:
		return `--active --authorized "who allowed it"`
	case kidoban.ReasonClient:
		return `--active --authorized "who allowed it", or --client-id ID --redirect-uri URI`
	case kidoban.ReasonCanary:
		return "--canary-domain DOMAIN --canary-listen ADDR"
	case kidoban.ReasonOwnServer:
		return "--active --own-server"
	case kidoban.ReasonBudget:
		return fmt.Sprintf("--max-requests %d", 4*DefaultRequestsT2)
	case kidoban.ReasonToolNamed:
		return "--login --tool NAME"
	}
	return ""
}
