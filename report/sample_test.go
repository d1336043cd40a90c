package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/flaws"
)

// The sample is an audit as it could have been: a product's MCP server with its
// own authorization server that delegates to GitHub, audited in tiers T0–T2.
const (
	sampleURL    = "https://mcp.example.com/mcp"
	sampleIssuer = "https://auth.example.com"
	sampleCanary = "https://k7f3q.kidoban-probe.invalid/cb"
)

var sampleStart = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// pagesOf adapts the flaw pages, as the commands do.
func pagesOf(id string) (Page, bool) {
	d, err := flaws.Text(id)
	if err != nil {
		return Page{}, false
	}
	p := Page{Summary: d.Summary, Why: d.Why, Questions: d.Questions, Fix: d.Fix}
	for _, n := range d.Norms {
		p.Norms = append(p.Norms, Norm{n.Ref(), n.Text})
	}
	for _, s := range d.Snippets {
		p.Snippets = append(p.Snippets, Snippet{s.Lang, s.Code})
	}
	return p, true
}

func sample() Input {
	in := Input{Pages: pagesOf, Exchanges: sampleExchanges(), Regrade: sampleGrade}
	run := &in.Run
	run.Schema = kidoban.RunSchema
	run.Target = kidoban.Target{
		URL: sampleURL, Headline: kidoban.HeadlineGraded, Versions: []string{"2025-11-25"},
		Issuer: sampleIssuer, Upstreams: []string{"https://github.com/login/oauth"}, Class: "oauth", Software: "files-mcp 1.4.2",
	}
	found := sampleFindings()
	for _, c := range kidoban.Checks() {
		r := kidoban.Result{ID: c.ID, Variant: c.Variant, Slug: c.Slug, Severity: c.Severity, Outcome: kidoban.Pass, Exchanges: []int{}, Norms: []string{}}
		switch {
		case c.Tier == kidoban.T4:
			r.Outcome, r.Reason = kidoban.NotTested, kidoban.ReasonSecondLogin
		case c.Tier == kidoban.T3:
			r.Outcome, r.Reason, r.Detail = kidoban.NotTested, kidoban.ReasonLogin, "kidoban audit "+sampleURL+" --active --login"
		case c.Needs&kidoban.NeedsOwn != 0:
			r.Outcome, r.Reason = kidoban.NotTested, kidoban.ReasonOwnServer
		case c.Needs&kidoban.NeedsCanary != 0:
			r.Outcome, r.Reason = kidoban.NotTested, kidoban.ReasonCanary
		case c.Needs&kidoban.NeedsModern != 0:
			r.Outcome, r.Reason = kidoban.NotApplicable, kidoban.ReasonNotApplicable
		case c.ID == "E28":
			r.Outcome, r.Reason = kidoban.Inconclusive, kidoban.ReasonJSOnly
		}
		if f, ok := found[c.Key()]; ok {
			f.ID, f.Variant, f.Slug = c.ID, c.Variant, c.Slug
			if f.Severity == "" {
				f.Severity = c.Severity
			}
			f.Outcome = c.Outcome
			f.Fingerprint = kidoban.Fingerprint(c.Key(), sampleURL, f.Summary)
			if d, err := flaws.Text(c.ID); err == nil {
				f.Norms, f.Fix = d.Refs(), d.FirstFix()
			}
			r = f
		}
		run.Results = append(run.Results, r)
		switch r.Outcome {
		case kidoban.NotApplicable:
		case kidoban.NotTested, kidoban.Inconclusive:
			run.Coverage.Applicable++
		default:
			run.Coverage.Applicable++
			run.Coverage.Tested++
		}
	}
	run.Chains = []kidoban.Chain{sampleChain()}
	run.Grade = sampleGrade(*run)
	run.Residue = kidoban.Residue{Registered: 4, Deleted: 3, LeftBehind: []kidoban.LeftOver{{
		Kind: "client", Issuer: sampleIssuer, ClientID: "c_81f0", Reason: "DELETE answered 405", Expires: "2027-02-19",
	}}}
	run.Requests, run.DurationMS = len(in.Exchanges), 1840
	run.Meta = kidoban.Meta{
		RunID: "20261121-093000-4f2a", Tool: "kidoban " + kidoban.Version, Started: sampleStart.Format(time.RFC3339),
		Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}, Authorized: "ticket 4711",
		Hosts: []string{"auth.example.com", "mcp.example.com"}, GradeV: 1,
		Metadata: []kidoban.Document{
			{Kind: "prm", URL: "https://mcp.example.com/.well-known/oauth-protected-resource/mcp", XID: 2, Body: samplePRM},
			{Kind: "as", URL: sampleIssuer + "/.well-known/oauth-authorization-server", XID: 3, Body: sampleAS},
		},
	}
	return in
}

const (
	samplePRM = `{"resource":"https://mcp.example.com/mcp","authorization_servers":["https://auth.example.com"],"scopes_supported":["files:read","files:write"],"bearer_methods_supported":["header"]}`
	sampleAS  = `{"issuer":"https://auth.example.com","authorization_endpoint":"https://auth.example.com/authorize","token_endpoint":"https://auth.example.com/token","registration_endpoint":"https://auth.example.com/register","response_types_supported":["code"],"grant_types_supported":["authorization_code","refresh_token"],"code_challenge_methods_supported":["plain","S256"],"token_endpoint_auth_methods_supported":["none"]}`
)

func sampleFindings() map[string]kidoban.Result {
	return map[string]kidoban.Result{
		"F1-a":  {Evidence: kidoban.Likely, Summary: "a stranger registered a client that redirects to any https host; the authorization endpoint serves it", Exchanges: []int{5, 7, 8}},
		"E01-a": {Evidence: kidoban.Likely, Summary: "the upstream is reached without a consent page, with one client id for all clients", Exchanges: []int{6, 9, 8}},
		"F3-a":  {Evidence: kidoban.Confirmed, Summary: "no PKCE towards github.com; clients must send S256", Exchanges: []int{6}},
		"F5-b":  {Evidence: kidoban.Likely, Summary: "the plain challenge method goes on like S256", Exchanges: []int{6, 10, 11}},
		"F5-e":  {Evidence: kidoban.Confirmed, Summary: "the metadata offers plain", Exchanges: []int{3}},
		"F4-1":  {Evidence: kidoban.Confirmed, Summary: "the upstream's error went to the address written into a changed state", Exchanges: []int{12, 13}},
		"E10-b": {Evidence: kidoban.Confirmed, Summary: "the 401 does not say where the metadata is", Exchanges: []int{1}},
		"E12-a": {Evidence: kidoban.Confirmed, Summary: "an error response carries no iss", Exchanges: []int{14}},
		"E14-c": {Evidence: kidoban.Likely, Summary: "a client name with a direction override is kept", Exchanges: []int{5, 15}},
		"E17-c": {Evidence: kidoban.Signal, Summary: "registered clients never expire", Exchanges: []int{5}},
		"E11-g": {Evidence: kidoban.Confirmed, Summary: "no support for client metadata documents", Exchanges: []int{3}, Suppressed: "planned for January (anna, until 2027-01-31)"},
	}
}

func sampleChain() kidoban.Chain {
	return kidoban.Chain{
		ID: "F1-a+E01-a", Title: "a stranger's client receives the victim's code", Severity: kidoban.Critical,
		Checks: []string{"F1-a", "E01-a"}, Break: "accept loopback and listed https redirects only", Effort: "low",
		Explain: "The attacker's client lives on the genuine authorization server, and nobody asks the victim about it.",
		Hops: []kidoban.Hop{
			{From: "attacker", To: "as", Text: `registers "Visual Studio Code" with ` + sampleCanary, Check: "F1-a", Proven: true, XID: 7},
			{From: "attacker", To: "victim", Text: "the victim gets a link on auth.example.com"},
			{From: "victim", To: "as", Text: "the victim opens it; no page names the client or where the code goes", Check: "E01-a", Proven: true, XID: 8},
			{From: "as", To: "upstream", Text: "the server forwards with its one client id, which the upstream already knows", Check: "E01-a", Proven: true, XID: 8},
			{From: "as", To: "attacker", Text: "the code arrives at the attacker; PKCE does not help, the challenge is the attacker's"},
		},
	}
}

// sampleGrade is a small stand-in for the audit's grade, enough to see what
// reports do with one.
func sampleGrade(run kidoban.Run) kidoban.Grade {
	g := kidoban.Grade{Version: 1, Letter: "A", Caps: []string{}}
	c := Count(run.Results)
	switch {
	case len(run.Chains) > 0:
		g.Letter, g.Caps = "D", []string{"D: F1+E01: a stranger's client can receive codes", "C: F4-1: a changed state redirects"}
	case c.Fail > 0:
		g.Letter, g.Caps = "C", []string{"C: a MUST is violated"}
	case c.Weak > 0:
		g.Letter, g.Caps = "B", []string{"B: a SHOULD is violated"}
	}
	return g
}

type exchangeSpec struct {
	probe, note, method, url, body string
	header                         kidoban.Fields
	status                         int
	rheader                        kidoban.Fields
	rbody                          string
}

func sampleExchanges() []kidoban.Exchange {
	jsonType := kidoban.Fields{{Name: "Content-Type", Value: "application/json"}}
	authorize := func(extra string) string {
		return sampleIssuer + "/authorize?response_type=code&client_id=c_81ee&redirect_uri=http%3A%2F%2F127.0.0.1%3A43117%2Fcallback%2Fk7f3q&state=Zk9Q2mWv7T0aXr5c&resource=https%3A%2F%2Fmcp.example.com%2Fmcp" + extra
	}
	s256 := "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	github := "https://github.com/login/oauth/authorize?client_id=Iv1.8a61f9b3a7aba766&response_type=code&scope=repo&redirect_uri=https%3A%2F%2Fauth.example.com%2Fgithub%2Fcallback&state=eyJyIjoiaHR0cDovLzEyNy4wLjAuMTo0MzExNy9jYWxsYmFjay9rN2YzcSJ9"
	register := func(redirect, name string) (string, string) {
		return fmt.Sprintf(`{"client_name":"%s","redirect_uris":["%s"],"token_endpoint_auth_method":"none"}`, name, redirect),
			fmt.Sprintf(`{"client_id":"c_81ef","client_name":"%s","redirect_uris":["%s"],"client_id_issued_at":1795253400,"registration_client_uri":"https://auth.example.com/register/c_81ef","registration_access_token":"rat_9f…sha256:1a2b3c4d"}`, name, redirect)
	}
	c0, c0r := register("http://127.0.0.1:43117/callback/k7f3q", "kidoban security probe")
	ev, evr := register(sampleCanary, "kidoban security probe")
	hid, hidr := register("http://127.0.0.1:43117/callback/k7f3q", "kidoban\u202eeborp")
	found := func(to string) kidoban.Fields {
		return kidoban.Fields{{Name: "Location", Value: to}, {Name: "Cache-Control", Value: "no-store"}}
	}
	specs := []exchangeSpec{
		{probe: "discover", note: "no credentials", method: "POST", url: sampleURL, header: jsonType, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, status: 401, rheader: kidoban.Fields{{Name: "WWW-Authenticate", Value: `Bearer realm="files"`}}},
		{probe: "discover", note: "resource metadata", method: "GET", url: "https://mcp.example.com/.well-known/oauth-protected-resource/mcp", status: 200, rheader: jsonType, rbody: samplePRM},
		{probe: "discover", note: "server metadata", method: "GET", url: sampleIssuer + "/.well-known/oauth-authorization-server", status: 200, rheader: jsonType, rbody: sampleAS},
		{probe: "E29-a", note: "plain http", method: "GET", url: "http://mcp.example.com/mcp", status: 308, rheader: found(sampleURL)},
		{probe: "baseline", note: "control registration", method: "POST", url: sampleIssuer + "/register", header: jsonType, body: c0, status: 201, rheader: jsonType, rbody: c0r},
		{probe: "baseline", note: "control", method: "GET", url: authorize(s256), status: 302, rheader: found(github)},
		{probe: "F1-a", note: "mutation", method: "POST", url: sampleIssuer + "/register", header: jsonType, body: ev, status: 201, rheader: jsonType, rbody: evr},
		{probe: "F1-a", note: "mutation, authorize", method: "GET", url: strings.Replace(authorize(s256), "http%3A%2F%2F127.0.0.1%3A43117%2Fcallback%2Fk7f3q", "https%3A%2F%2Fk7f3q.kidoban-probe.invalid%2Fcb", 1), status: 302, rheader: found(github)},
		{probe: "E01-a", note: "mutation 2", method: "GET", url: authorize(s256), status: 302, rheader: found(github)},
		{probe: "F5-b", note: "negative control", method: "GET", url: strings.Replace(authorize(s256), "response_type=code", "response_type=kidoban_invalid", 1), status: 302, rheader: found("http://127.0.0.1:43117/callback/k7f3q?error=unsupported_response_type&state=Zk9Q2mWv7T0aXr5c")},
		{probe: "F5-b", note: "mutation 1", method: "GET", url: authorize("&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=plain"), status: 302, rheader: found(github)},
		{probe: "F4-1", note: "control", method: "GET", url: sampleIssuer + "/github/callback?error=access_denied&state=eyJyIjoiaHR0cDovLzEyNy4wLjAuMTo0MzExNy9jYWxsYmFjay9rN2YzcSJ9", status: 302, rheader: found("http://127.0.0.1:43117/callback/k7f3q?error=access_denied")},
		{probe: "F4-1", note: "mutation 1", method: "GET", url: sampleIssuer + "/github/callback?error=access_denied&state=eyJyIjoiaHR0cHM6Ly9rN2YzcS5raWRvYmFuLXByb2JlLmludmFsaWQvY2IifQ", status: 302, rheader: found(sampleCanary + "?error=access_denied")},
		{probe: "E12-a", note: "provoked error", method: "GET", url: authorize(s256 + "&scope=%00"), status: 302, rheader: found("http://127.0.0.1:43117/callback/k7f3q?error=invalid_scope&state=Zk9Q2mWv7T0aXr5c")},
		{probe: "E14-c", note: "mutation", method: "POST", url: sampleIssuer + "/register", header: jsonType, body: hid, status: 201, rheader: jsonType, rbody: hidr},
		{probe: "cleanup", note: "delete client", method: "DELETE", url: sampleIssuer + "/register/c_81ef", header: kidoban.Fields{{Name: "Authorization", Value: "Bearer rat_9f…sha256:1a2b3c4d"}}, status: 405},
	}
	var out []kidoban.Exchange
	for i, s := range specs {
		out = append(out, kidoban.Exchange{
			ID: i + 1, Probe: s.probe, Note: s.note, Started: sampleStart.Add(time.Duration(i) * 110 * time.Millisecond), Duration: time.Duration(20+i) * time.Millisecond,
			Request:  kidoban.Request{Method: s.method, URL: s.url, Header: s.header, Body: []byte(s.body)},
			Response: &kidoban.Response{Status: s.status, Proto: "HTTP/2.0", Header: s.rheader, Body: []byte(s.rbody)},
		})
	}
	return out
}
