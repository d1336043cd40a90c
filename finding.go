package kidoban

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Tier says what a probe may do to its target (auth-flaws catalogue 5.1).
type Tier string

// The tiers, from silent to invasive.
const (
	T0 Tier = "T0" // passive: no traffic of its own
	T1 Tier = "T1" // read-only requests
	T2 Tier = "T2" // creates state: registrations, dummy codes
	T3 Tier = "T3" // the tester logs in with an own account
	T4 Tier = "T4" // two own accounts, or a lab
)

// Rank orders tiers: 0 is T0, 4 is T4; unknown is -1.
func (t Tier) Rank() int {
	switch t {
	case T0:
		return 0
	case T1:
		return 1
	case T2:
		return 2
	case T3:
		return 3
	case T4:
		return 4
	}
	return -1
}

// Severity of a finding.
type Severity string

// Severities, worst first.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// Rank orders severities: 0 is Info, 4 is Critical; unknown is -1.
func (s Severity) Rank() int {
	switch s {
	case Info:
		return 0
	case Low:
		return 1
	case Medium:
		return 2
	case High:
		return 3
	case Critical:
		return 4
	}
	return -1
}

// Outcome of a check. NotTested and Inconclusive are never counted as safe and
// never as vulnerable.
type Outcome string

// The outcomes.
const (
	Fail          Outcome = "fail"
	Weak          Outcome = "weak"
	Pass          Outcome = "pass"
	NotApplicable Outcome = "not_applicable"
	NotTested     Outcome = "not_tested"
	Inconclusive  Outcome = "inconclusive"
)

// Evidence is how strong the proof of a fail or weak is.
type Evidence string

// The evidence ladder.
const (
	Signal    Evidence = "signal"    // a passive hint
	Likely    Evidence = "likely"    // accepted where a control was refused, before a login
	Confirmed Evidence = "confirmed" // the security effect itself was seen
)

// Rank orders evidence: Signal 1, Likely 2, Confirmed 3; none 0.
func (e Evidence) Rank() int {
	switch e {
	case Signal:
		return 1
	case Likely:
		return 2
	case Confirmed:
		return 3
	}
	return 0
}

// Reason says why a check was not tested, was inconclusive or did not apply.
type Reason string

// Reasons for not_tested.
const (
	ReasonLogin         Reason = "login"          // needs a login (T3): --login, --login-as or --login-script
	ReasonSecondLogin   Reason = "second_login"   // needs a second account (T4)
	ReasonTier          Reason = "tier"           // needs --active (T2)
	ReasonClient        Reason = "client"         // needs a registered client: --active, or --client-id
	ReasonCanary        Reason = "canary"         // needs --canary-domain or --canary-listen
	ReasonOwnServer     Reason = "own_server"     // only on the tester's own server: --own-server
	ReasonBudget        Reason = "budget"         // the request budget was spent
	ReasonTime          Reason = "time"           // something has to expire first, as a code, token or grace window: --patience
	ReasonToolNamed     Reason = "tool_not_named" // needs a tool the operator names
	ReasonInterrupted   Reason = "interrupted"    // the run was stopped before it was asked
	ReasonNotApplicable Reason = "precondition"   // what the check is about does not exist here
)

// Reasons for inconclusive.
const (
	ReasonDeferred  Reason = "deferred_to_login" // the server shows a login to everything
	ReasonRateLimit Reason = "rate_limit"        // the server limits us; a limit is not a refusal
	ReasonChallenge Reason = "challenge"         // a CDN or WAF answered instead of the server
	ReasonJSOnly    Reason = "js_only_page"      // the page needs a script to say what it is
	ReasonUpstream  Reason = "upstream_idp"      // the answer is the upstream's, which is not attacked
	ReasonUnstable  Reason = "unstable_baseline" // the control itself did not work, or two runs differ
	ReasonNeedsUI   Reason = "needs_ui"          // a person or a browser must look
	ReasonNetwork   Reason = "network"           // no answer
)

// Result is the outcome of one check against one target.
type Result struct {
	ID          string   `json:"id"`      // "F5"
	Variant     string   `json:"variant"` // "a"; "" where a flaw has one form
	Slug        string   `json:"slug"`    // "authorize-without-challenge"
	Outcome     Outcome  `json:"outcome"`
	Reason      Reason   `json:"reason,omitempty"`
	Detail      string   `json:"detail,omitempty"` // for not_tested and reason time: the command that would decide it
	Evidence    Evidence `json:"evidence,omitempty"`
	Severity    Severity `json:"severity"`
	Summary     string   `json:"summary"`   // one line: the fact observed; no nonces, no secrets
	Exchanges   []int    `json:"exchanges"` // ids of the deciding exchanges, deciding one last
	Norms       []string `json:"norms"`
	Fix         string   `json:"fix"`
	Fingerprint string   `json:"fingerprint"` // stable over runs: check + target + fact
	Suppressed  string   `json:"suppressed,omitempty"`
}

// Key returns "F5-a", or "E06" without a variant.
func (r Result) Key() string { return key(r.ID, r.Variant) }

func key(id, variant string) string {
	if variant == "" {
		return id
	}
	return id + "-" + variant
}

// Fingerprint returns the stable identity of a finding: 32 hex digits of
// SHA-256 over the check, the target and the fact (a short constant phrase that
// holds no nonce, port of a test listener, or time).
func Fingerprint(key, target, fact string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{key, target, fact}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// Hop is one step of an attack chain.
type Hop struct {
	From   string `json:"from"` // attacker, client, victim, mcp_server, as, upstream
	To     string `json:"to"`
	Text   string `json:"text"`            // what the attacker does, in one line
	Check  string `json:"check,omitempty"` // key of the finding that proves the hop; "" when it follows
	Proven bool   `json:"proven"`          // false: inferred from the other hops
	XID    int    `json:"exchange,omitempty"`
}

// Chain is a way in: findings that together reach the attacker's goal.
type Chain struct {
	ID       string   `json:"id"` // stable: "F7+F5"
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	Checks   []string `json:"checks"` // keys of the findings it is made of
	Hops     []Hop    `json:"hops"`
	Break    string   `json:"break"`  // the one fix that breaks it
	Effort   string   `json:"effort"` // low, medium, high
	Explain  string   `json:"explain"`
}

// Headlines of a run. A grade is given only with HeadlineGraded.
const (
	HeadlineGraded      = "graded"
	HeadlineOpen        = "open"
	HeadlineMoved       = "moved"
	HeadlineNotMCP      = "not_mcp"
	HeadlineUnreachable = "unreachable"
	HeadlineInterrupted = "interrupted" // the run was stopped before it was through
)

// RunSchema names the JSON contract of an audit run.
const RunSchema = "kidoban.audit/1"

// Run is everything an audit of one target found: the JSON contract. Field
// order is part of the contract's readability, not of its meaning.
type Run struct {
	Schema   string `json:"schema"`
	Target   Target `json:"target"`
	Grade    Grade  `json:"grade"`
	Coverage struct {
		Tested     int `json:"tested"`
		Applicable int `json:"applicable"`
	} `json:"coverage"`
	Results    []Result `json:"results"`
	Chains     []Chain  `json:"chains"`
	Residue    Residue  `json:"residue"`
	Requests   int      `json:"requests"`
	DurationMS int64    `json:"duration_ms"`
	Meta       Meta     `json:"meta"`
}

// Target is what was audited.
type Target struct {
	URL       string   `json:"url"`
	Headline  string   `json:"headline"`
	Versions  []string `json:"versions"`
	Issuer    string   `json:"issuer"`
	Upstreams []string `json:"upstreams"`
	Class     string   `json:"class,omitempty"`    // census class (5.8): oauth, static, noauth_list, …
	Detail    string   `json:"detail,omitempty"`   // the headline's sentence: "12 tools answer to anyone"
	Cause     string   `json:"cause,omitempty"`    // what the system said where there was no answer; for operators
	Software  string   `json:"software,omitempty"` // serverInfo name and version, self-reported
	MovedTo   string   `json:"moved_to,omitempty"`
	Tools     int      `json:"tools,omitempty"`
}

// Grade of a run (audit grade table).
type Grade struct {
	Version   int      `json:"version"`
	Letter    string   `json:"letter"`    // "A+" … "F", "" without a grade
	Bracketed bool     `json:"bracketed"` // coverage below 60 %
	Caps      []string `json:"caps"`      // "D: F1+F6 …", worst first
}

// Residue says what the run left on the target.
type Residue struct {
	Registered int        `json:"registered"`
	Deleted    int        `json:"deleted"`
	LeftBehind []LeftOver `json:"left_behind"`
}

// LeftOver is something that could not be removed.
type LeftOver struct {
	Kind     string `json:"kind"` // client, grant, session
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id,omitempty"`
	Reason   string `json:"reason"`
	Expires  string `json:"expires,omitempty"`
}

// Meta holds what differs between two runs over the same input, and what the
// operator declared.
type Meta struct {
	RunID      string     `json:"run_id"`
	Tool       string     `json:"tool"`    // "kidoban 0.1.0"
	Started    string     `json:"started"` // RFC 3339
	Tiers      []Tier     `json:"tiers"`
	Authorized string     `json:"authorized,omitempty"` // who allowed it, as given
	Hosts      []string   `json:"hosts"`                // every host contacted
	GradeV     int        `json:"grade_version"`
	Metadata   []Document `json:"documents,omitempty"` // metadata documents as fetched, for the report
}

// Document is one metadata document that discovery read.
type Document struct {
	Kind string `json:"kind"` // prm, as, oidc, card
	URL  string `json:"url"`
	XID  int    `json:"exchange"`
	Body string `json:"body"` // at most 64 KiB, valid UTF-8
}
