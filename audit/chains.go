package audit

import (
	"slices"

	"github.com/kidoban/kidoban"
)

// found are the findings of a run by key: the evidence that chains are made of.
type found map[string]kidoban.Result

// pick returns the strongest finding among keys: by evidence, then severity,
// then the order given.
func (f found) pick(keys ...string) (kidoban.Result, bool) {
	var best kidoban.Result
	ok := false
	for _, k := range keys {
		r, have := f[k]
		if !have {
			continue
		}
		if !ok || r.Evidence.Rank() > best.Evidence.Rank() ||
			r.Evidence.Rank() == best.Evidence.Rank() && r.Severity.Rank() > best.Severity.Rank() {
			best, ok = r, true
		}
	}
	return best, ok
}

// hop is a step that a finding proves.
func hop(from, to, text string, r kidoban.Result) kidoban.Hop {
	h := kidoban.Hop{From: from, To: to, Text: text, Check: r.Key(), Proven: r.Evidence.Rank() >= kidoban.Likely.Rank()}
	if n := len(r.Exchanges); n > 0 {
		h.XID = r.Exchanges[n-1]
	}
	return h
}

// follows is a step that needs no finding of its own.
func follows(from, to, text string) kidoban.Hop { return kidoban.Hop{From: from, To: to, Text: text} }

// The families of findings that chains are built from.
var (
	foreignRedirect = []string{"F7-1", "F7-7", "F7-8", "F7-12", "F7-13", "F7-17"} // the code goes to another host
	pkceMissing     = []string{"F5-a", "F5-b", "F5-c", "F5-d", "F5-f", "F5-g"}
	openDCR         = []string{"F1-b", "F1-d", "F1-a"}
	blindClient     = []string{"F2-b", "F2-a", "F2-c", "F2-d"}
	upstreamTamper  = []string{"F4-1", "F4-4", "F4-3"}
	scriptScheme    = []string{"E13-a", "E13-b"}
	pageFlaw        = []string{"E28-a", "E28-e", "E28-c"}
	openEndpoint    = []string{"E03-a", "E03-b", "E03-c", "E03-d", "E03-e", "E03-f"}
	crossSite       = []string{"E09-a", "E09-d", "E09-e", "E09-c"}
	issFault        = []string{"E12-b", "E12-c", "E12-a"}
	codeReplay      = []string{"F9-2", "F9-4"}
	urlLeak         = []string{"E23-c", "E23-a"}
	noLimit         = []string{"E17-a", "E17-d"}
)

// chainRule is one way in (catalogue 8). Its id is stable. build gets one finding of each family.
type chainRule struct {
	id       string
	families [][]string
	when     func(r []kidoban.Result) bool // nil: always
	title    string
	severity kidoban.Severity
	hops     func(r []kidoban.Result) []kidoban.Hop
	fix      string
	effort   string
	explain  string
}

// Chains computes the ways in from results: a pure function, so that the same
// results give the same chains. Signals are no links.
func Chains(results []kidoban.Result) []kidoban.Chain {
	f := found{}
	for _, r := range results {
		if (r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak) && r.Suppressed == "" && r.Evidence.Rank() >= kidoban.Likely.Rank() {
			f[r.Key()] = r
		}
	}
	out := []kidoban.Chain{}
	for _, rule := range chainRules() {
		if c, ok := rule.build(f); ok {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b kidoban.Chain) int { return b.Severity.Rank() - a.Severity.Rank() })
	return out
}

func (r chainRule) build(f found) (kidoban.Chain, bool) {
	var parts []kidoban.Result
	for _, fam := range r.families {
		p, ok := f.pick(fam...)
		if !ok {
			return kidoban.Chain{}, false
		}
		parts = append(parts, p)
	}
	if r.when != nil && !r.when(parts) {
		return kidoban.Chain{}, false
	}
	c := kidoban.Chain{ID: r.id, Title: r.title, Severity: r.severity, Hops: r.hops(parts), Break: r.fix, Effort: r.effort, Explain: r.explain, Checks: []string{}}
	for _, p := range parts {
		c.Checks = append(c.Checks, p.Key())
	}
	return c, true
}

// Fixes that break more than one chain; the report prints them on one line.
const (
	fixRedirects = "accept loopback and listed https redirect URIs only, at registration and at every authorization"
	fixExact     = "compare the redirect URI byte for byte with the registered one"
	fixState     = "keep routing data on the server behind an opaque state"
	fixConsent   = "ask the person on a page of your own, for every client, with the redirect host in large type"
)

func chainRules() []chainRule {
	victim := func(text string) kidoban.Hop { return follows("attacker", "victim", text) }
	return []chainRule{
		{id: "F7+F5", families: [][]string{foreignRedirect, pkceMissing}, title: "a code goes to the attacker's host and is redeemed there", severity: kidoban.Critical,
			when: func(r []kidoban.Result) bool { return !errorsOnly(r[0]) },
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("attacker", "as", "writes a link on the genuine server with his own redirect URI", r[0]),
					hop("attacker", "as", "leaves the PKCE challenge out or picks a weak one", r[1]),
					victim("sends the link; the victim sees the genuine login page"),
					follows("as", "attacker", "the code arrives at the attacker's host and is redeemed without a secret of the client"),
				}
			}, fix: fixExact, effort: "low", explain: "F7"},
		{id: "F1+F6", families: [][]string{openDCR, {"F6-A", "F6-B"}}, title: "a stranger's client can receive codes", severity: kidoban.Critical,
			hops: strangerHops("sends the victim a link on the genuine server; no page shows where the code goes"), fix: fixRedirects, effort: "low", explain: "F1"},
		{id: "F1+E01", families: [][]string{openDCR, {"E01-a", "E01-b"}}, title: "a stranger's client rides on consent given to another", severity: kidoban.Critical,
			hops: strangerHops("sends the victim a link; the server forwards to the upstream without asking about this client"), fix: fixConsent, effort: "medium", explain: "E01"},
		{id: "F1+E02", families: [][]string{openDCR, {"E02-a", "E02-b"}}, title: "the victim's browser finishes a login that the attacker started", severity: kidoban.High,
			hops: strangerHops("starts the flow himself and hands the upstream link to the victim, whose browser completes it"),
			fix:  "bind the upstream callback to the browser that consented, with a __Host- cookie for each transaction", effort: "medium", explain: "E02"},
		{id: "F2+F7", families: [][]string{blindClient, foreignRedirect}, title: "no registration is needed to receive codes", severity: kidoban.Critical,
			when: func(r []kidoban.Result) bool { return !errorsOnly(r[0]) && !errorsOnly(r[1]) },
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("attacker", "as", "uses a client id that nobody registered", r[0]),
					hop("attacker", "as", "names his own redirect URI", r[1]),
					follows("as", "attacker", "the victim's code arrives at the attacker's host"),
				}
			}, fix: "look the client up before anything else and show an error page for unknown ones", effort: "low", explain: "F2"},
		{id: "F4+L2", families: [][]string{upstreamTamper}, title: "the upstream's answer is routed to the attacker", severity: kidoban.Critical,
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					follows("attacker", "mcp_server", "starts a flow and reads the upstream state in his own browser"),
					hop("attacker", "as", "changes the redirect URI inside the state; the server does not notice", r[0]),
					follows("victim", "upstream", "logs in at the genuine upstream"),
					follows("as", "attacker", "the result of the victim's login goes to the changed address"),
				}
			}, fix: fixState, effort: "medium", explain: "F4"},
		{id: "E13+E28", families: [][]string{scriptScheme, pageFlaw}, title: "script of a client runs on the login origin", severity: kidoban.High,
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("attacker", "as", "registers a redirect URI that is script", r[0]),
					hop("attacker", "victim", "brings the victim onto the page, which has no protection of its own", r[1]),
					follows("as", "attacker", "script in the login origin acts as the victim"),
				}
			}, fix: "accept redirect URIs by scheme: https, and http on loopback", effort: "low", explain: "E13"},
		{id: "E03+E09", families: [][]string{openEndpoint, crossSite}, title: "any web page drives the server through a visitor's browser", severity: kidoban.High,
			// Only inside a network is a browser needed to reach an open server; the
			// judge of E09 raises the severity there.
			when: func(r []kidoban.Result) bool { return r[1].Severity.Rank() >= kidoban.High.Rank() },
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					follows("attacker", "victim", "lures somebody inside the network to a web page"),
					hop("victim", "mcp_server", "the page's request is accepted from a foreign origin", r[1]),
					hop("mcp_server", "attacker", "it is answered without credentials", r[0]),
				}
			}, fix: "require a token before routing, and refuse foreign Origin and Host", effort: "low", explain: "E09"},
		{id: "E12+multi-AS", families: [][]string{issFault, {"E10-f"}}, title: "a code meant for one server is sent to another (mix-up)", severity: kidoban.Medium,
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("client", "as", "the client knows several authorization servers", r[1]),
					hop("as", "client", "the answer does not say which of them it is from", r[0]),
					follows("client", "attacker", "the client sends the honest server's code to the attacker's token endpoint"),
				}
			}, fix: "send iss in every authorization response and advertise it", effort: "low", explain: "E12"},
		{id: "F9+E23", families: [][]string{codeReplay, urlLeak}, title: "a code from a log is used again", severity: kidoban.High,
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("as", "attacker", "codes or tokens stand in URLs, and so in logs and histories", r[1]),
					hop("attacker", "as", "a used code is taken a second time", r[0]),
				}
			}, fix: "consume codes atomically", effort: "low", explain: "F9"},
		{id: "E17+F1", families: [][]string{noLimit, openDCR}, title: "clients for phishing can be made by the thousand", severity: kidoban.Medium,
			hops: func(r []kidoban.Result) []kidoban.Hop {
				return []kidoban.Hop{
					hop("attacker", "as", "registers as often as he likes", r[0]),
					hop("attacker", "as", "each client with a redirect URI of his own, so that no deny-list keeps up", r[1]),
				}
			}, fix: "limit registrations per address and let unused ones expire", effort: "low", explain: "E17"},
	}
}

// errorsOnly tells whether a judge has lowered a finding because a foreign address
// gets errors and no codes.
func errorsOnly(r kidoban.Result) bool {
	return check(r.Key()).Severity.Rank() > r.Severity.Rank()
}

// strangerHops are the steps of F1 in every form; second is what the other
// finding contributes.
func strangerHops(second string) func([]kidoban.Result) []kidoban.Hop {
	return func(r []kidoban.Result) []kidoban.Hop {
		return []kidoban.Hop{
			hop("attacker", "as", "registers a client under any name with a redirect URI of his own", r[0]),
			hop("attacker", "victim", second, r[1]),
			follows("as", "attacker", "the code arrives at the attacker; PKCE does not help, he made the challenge"),
		}
	}
}
