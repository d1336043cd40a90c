package audit

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/wire"
)

// reply makes an exchange with an answer; header is name, value, name, value.
func reply(status int, body string, header ...string) *kidoban.Exchange {
	x := &kidoban.Exchange{ID: 1, Request: kidoban.Request{Method: "POST", URL: "https://mcp.example.com/mcp"}, Response: &kidoban.Response{Status: status, Body: []byte(body)}}
	for i := 0; i+1 < len(header); i += 2 {
		x.Response.Header = append(x.Response.Header, kidoban.Field{Name: header[i], Value: header[i+1]})
	}
	return x
}

func listOf(names ...string) string {
	var tools []string
	for _, n := range names {
		tools = append(tools, `{"name":"`+n+`","inputSchema":{"type":"object"}}`)
	}
	return `{"jsonrpc":"2.0","id":1,"result":{"tools":[` + strings.Join(tools, ",") + `]}}`
}

const isJSON = "application/json"

func closedFacts() *Facts {
	x := reply(401, "", "WWW-Authenticate", "Bearer")
	return &Facts{URL: "https://mcp.example.com/mcp", TLS: true, Headline: kidoban.HeadlineGraded, List: x, Refused: x, Discover: x, Asks: oauth.ParseChallenges([]string{"Bearer"})}
}

func openFacts(names ...string) *Facts {
	return &Facts{URL: "https://mcp.example.com/mcp", TLS: true, Headline: kidoban.HeadlineOpen, Open: true, Tools: len(names), List: reply(200, listOf(names...), "Content-Type", isJSON)}
}

func fired(xs ...*kidoban.Exchange) volley {
	sh := shot{what: "a changed request", asked: true}
	for i, x := range xs {
		r := &sh.first
		if i > 0 {
			r = &sh.again
		}
		r.add(x)
	}
	return volley{shots: []shot{sh}}
}

// TestE04Volley: what an answer to a wrong token proves, and what it does not.
func TestE04Volley(t *testing.T) {
	list := func() *kidoban.Exchange { return reply(200, listOf("a"), "Content-Type", isJSON) }
	for _, c := range []struct {
		name    string
		v       volley
		outcome kidoban.Outcome
		ev      kidoban.Evidence
		reason  kidoban.Reason
		says    string
	}{
		{"a list twice", fired(list(), list()), kidoban.Fail, kidoban.Confirmed, "", "accepted"},
		{"a list once, budget spent", fired(list()), kidoban.Fail, kidoban.Likely, "", "accepted"},
		{"a list once, then refused", fired(list(), reply(401, "")), kidoban.Inconclusive, "", kidoban.ReasonUnstable, "second time"},
		{"401", fired(reply(401, "")), kidoban.Pass, "", "", "refused"},
		{"403 is a refusal of the wrong kind", fired(reply(403, "")), kidoban.Pass, "", "", "wants 401"},
		{"500 neither refuses nor accepts", fired(reply(500, "oops")), kidoban.Inconclusive, "", kidoban.ReasonUnstable, "fails with status 500"},
		{"500 from a server that still answers the plain request", stillAlive(fired(reply(500, "oops")), reply(401, "")), kidoban.Pass, "", "", "still answers"},
		{"500 from a server that answers nothing any more", stillAlive(fired(reply(500, "oops")), reply(500, "oops")), kidoban.Inconclusive, "", kidoban.ReasonUnstable, "fails with status 500"},
		{"an outage", fired(reply(502, "")), kidoban.Inconclusive, "", kidoban.ReasonNetwork, "502"},
		{"an error in a 200", fired(reply(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"Unauthorized"}}`, "Content-Type", isJSON)), kidoban.Pass, "", "", "refused"},
		{"a list with another id", fired(reply(200, `{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}`, "Content-Type", isJSON)), kidoban.Pass, "", "", "refused"},
		{"a page with status 200", fired(reply(200, "<html>welcome</html>", "Content-Type", "text/html")), kidoban.Pass, "", "", "refused"},
		{"202 is no proof", fired(reply(202, "")), kidoban.Pass, "", "", "refused"},
		{"a limit", fired(reply(429, "")), kidoban.Inconclusive, "", kidoban.ReasonRateLimit, "limit"},
		{"a challenge of a network", fired(reply(403, "<html>Just a moment", "Content-Type", "text/html", "Cf-Mitigated", "challenge")), kidoban.Inconclusive, "", kidoban.ReasonChallenge, ""},
		{"not sent", volley{}, kidoban.NotTested, "", kidoban.ReasonBudget, ""},
	} {
		r := c.v.decide("E04-a", closedFacts().List, func(h *shot) string { return h.what + " is accepted" }, "it is refused")
		if r.Outcome != c.outcome || r.Evidence != c.ev || r.Reason != c.reason || !strings.Contains(r.Summary, c.says) {
			t.Errorf("%s: %s %s %s %q", c.name, r.Outcome, r.Evidence, r.Reason, r.Summary)
		}
	}
}

// stillAlive adds what the plain request met after a failure.
func stillAlive(v volley, x *kidoban.Exchange) volley { v.alive = x; return v }

// TestE04NeedsControl: where the list is open to anyone, a wrong token proves
// nothing.
func TestE04NeedsControl(t *testing.T) {
	for _, r := range judgeE04(openFacts("a"), wrongTokens{random: fired(reply(200, listOf("a")))}) {
		if r.Outcome != kidoban.NotApplicable {
			t.Errorf("%s: %s", r.Key(), r.Outcome)
		}
	}
	f := closedFacts()
	f.List = reply(404, "")
	f.Refused = nil
	for _, r := range judgeE04(f, wrongTokens{}) {
		if r.Outcome != kidoban.Inconclusive || r.Reason != kidoban.ReasonUnstable {
			t.Errorf("without a control %s: %s", r.Key(), r.Outcome)
		}
	}
}

// TestE03a: severity follows what the tools can do, and a list alone is never
// critical.
func TestE03a(t *testing.T) {
	for _, c := range []struct {
		f        *Facts
		outcome  kidoban.Outcome
		severity kidoban.Severity
	}{
		{openFacts("get_weather", "search_docs"), kidoban.Fail, kidoban.Low},
		{openFacts("get_weather", "run_sql"), kidoban.Fail, kidoban.Medium},
		{openFacts("delete_customer", "exec_shell"), kidoban.Fail, kidoban.Medium},
		{openFacts(), kidoban.Inconclusive, kidoban.Medium},
		{closedFacts(), kidoban.Pass, kidoban.Medium},
	} {
		if r := judgeOpen(c.f); r.Outcome != c.outcome || r.Severity != c.severity {
			t.Errorf("%d tools: %s %s %s", c.f.Tools, r.Outcome, r.Severity, r.Summary)
		}
	}
}

// TestE09Order: a server that asks for the token first shows nothing of what
// comes after; one that is reached by any page is worse than a remote one.
func TestE09Order(t *testing.T) {
	f := closedFacts()
	for _, c := range []struct {
		x       *kidoban.Exchange
		outcome kidoban.Outcome
		reason  kidoban.Reason
	}{
		{reply(401, ""), kidoban.Inconclusive, kidoban.ReasonDeferred},
		{reply(403, ""), kidoban.Pass, ""},
		{reply(429, ""), kidoban.Inconclusive, kidoban.ReasonRateLimit},
	} {
		v := fired(c.x)
		if r := judgeClosed(f, "E09-a", &v); r.Outcome != c.outcome || r.Reason != c.reason {
			t.Errorf("status %d: %s %s", c.x.Status(), r.Outcome, r.Reason)
		}
	}
	list := reply(200, listOf("a"), "Content-Type", isJSON)
	open := openFacts("a")
	local := openFacts("a")
	local.Local = true
	remote := closedFacts()
	remote.Discover = reply(200, `{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":[]}}`, "Content-Type", isJSON)
	for i, c := range []struct {
		f    *Facts
		want kidoban.Severity
	}{{open, kidoban.High}, {local, kidoban.High}, {remote, kidoban.Low}} {
		for _, r := range judgeE09(c.f, foreignPages{from: fired(list, list), preflight: reply(405, "")}) {
			if r.Key() == "E09-a" && (r.Outcome != kidoban.Fail || r.Severity != c.want) {
				t.Errorf("case %d: %s %s", i, r.Outcome, r.Severity)
			}
		}
	}
}

func TestE09c(t *testing.T) {
	const origin = "https://abc.kidoban-probe.invalid"
	for _, c := range []struct {
		name     string
		allow    string
		creds    string
		f        *Facts
		outcome  kidoban.Outcome
		severity kidoban.Severity
	}{
		{"repeated, with credentials", origin, "true", closedFacts(), kidoban.Fail, kidoban.Medium},
		{"repeated, without", origin, "", closedFacts(), kidoban.Fail, kidoban.Low},
		{"any origin, bearer tokens only", "*", "", closedFacts(), kidoban.Pass, kidoban.Medium},
		{"any origin, open server", origin, "", openFacts("a"), kidoban.Fail, kidoban.High},
		{"one origin", "https://app.example.com", "true", closedFacts(), kidoban.Pass, kidoban.Medium},
		{"none", "", "", closedFacts(), kidoban.Pass, kidoban.Medium},
	} {
		x := reply(204, "", "Access-Control-Allow-Origin", c.allow, "Access-Control-Allow-Credentials", c.creds)
		if r := judgeCORS(c.f, foreignPages{origin: origin, preflight: x}); r.Outcome != c.outcome || r.Severity != c.severity {
			t.Errorf("%s: %s %s %s", c.name, r.Outcome, r.Severity, r.Summary)
		}
	}
}

// withPRM gives closed facts with a resource metadata document.
func withPRM(t *testing.T, body string, header ...string) *Facts {
	t.Helper()
	f := closedFacts()
	prm, err := oauth.ParsePRM([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 0 {
		header = []string{"Content-Type", isJSON}
	}
	f.PRMs = []Document{{Kind: "prm", URL: "https://mcp.example.com/.well-known/oauth-protected-resource/mcp", X: reply(200, body, header...), PRM: prm}}
	f.PRM = &f.PRMs[0]
	return f
}

func byKey(t *testing.T, rs []kidoban.Result, key string) kidoban.Result {
	t.Helper()
	for _, r := range rs {
		if r.Key() == key {
			return r
		}
	}
	t.Fatalf("no result for %s", key)
	return kidoban.Result{}
}

// TestE10c: the kind of the difference decides, a slash is not a foreign host.
func TestE10c(t *testing.T) {
	for got, want := range map[string]kidoban.Severity{
		"https://mcp.example.com/mcp":      "",
		"https://MCP.example.com/mcp":      "",
		"https://mcp.example.com/mcp/":     kidoban.Low,
		"https://mcp.example.com":          kidoban.Low,
		"https://mcp.example.com/other":    kidoban.Medium,
		"http://mcp.example.com/mcp":       kidoban.Low,
		"https://mcp.example.com:8443/mcp": kidoban.Low,
		"https://evil.example/mcp":         kidoban.High,
		"http://localhost:8000/mcp":        kidoban.Low,
		"https://10.0.0.7/mcp":             kidoban.Low,
	} {
		r := judgeResource(withPRM(t, `{"resource":"`+got+`","authorization_servers":["https://mcp.example.com"]}`))
		if want == "" && r.Outcome != kidoban.Pass || want != "" && (r.Outcome != kidoban.Fail || r.Severity != want) {
			t.Errorf("%s: %s %s %s", got, r.Outcome, r.Severity, r.Summary)
		}
	}
}

func TestE10e(t *testing.T) {
	for iss, bad := range map[string]bool{
		"https://auth.example.com":           false,
		"https://auth.example.com/tenant":    false,
		"http://auth.example.com":            true,
		"http://127.0.0.1:9000":              true, // the target is not on loopback
		"https://169.254.169.254":            true,
		"https://[64:ff9b::7f00:1]/":         true,
		"https://auth.example.com?x=1":       true,
		"https://auth.example.com#f":         true,
		"https://user:pw@auth.example.com":   true,
		"https://auth":                       true,
		"javascript:alert(1)":                true,
		"https://accounts.google.com":        false,
		"https://auth.example.com/%zz":       true,
		"https://[::ffff:192.168.1.1]:8443/": true,
	} {
		r := judgeServers(withPRM(t, `{"resource":"https://mcp.example.com/mcp","authorization_servers":["`+iss+`"]}`))
		if (r.Outcome == kidoban.Fail) != bad {
			t.Errorf("%s: %s %s", iss, r.Outcome, r.Summary)
		}
	}
	local := withPRM(t, `{"resource":"http://127.0.0.1:1/mcp","authorization_servers":["http://127.0.0.1:2"]}`)
	local.URL, local.Local, local.TLS = "http://127.0.0.1:1/mcp", true, false
	if r := judgeServers(local); r.Outcome != kidoban.Pass {
		t.Errorf("loopback http on a loopback target: %s", r.Summary)
	}
}

// TestE10NotFoundPage: a page that is served with status 200 for everything is no
// document: the metadata are missing, and nothing is wrong with their type.
func TestE10NotFoundPage(t *testing.T) {
	f := closedFacts()
	f.PRMs = []Document{{Kind: "prm", URL: f.URL, X: reply(200, "<html>Not found</html>", "Content-Type", "text/html"), Err: "it is no JSON object"}}
	rs := judgeE10(f, otherCaller{})
	if r := byKey(t, rs, "E10-a"); r.Outcome != kidoban.Fail {
		t.Errorf("E10-a: %s", r.Outcome)
	}
	if r := byKey(t, rs, "E10-j"); r.Outcome != kidoban.NotApplicable {
		t.Errorf("E10-j: %s", r.Outcome)
	}
	if r := byKey(t, rs, "E10-b"); r.Outcome != kidoban.Weak {
		t.Errorf("E10-b: %s", r.Outcome)
	}
	f.Versions = []string{wire.Rev20250326}
	if r := byKey(t, judgeE10(f, otherCaller{}), "E10-a"); r.Outcome != kidoban.NotApplicable {
		t.Errorf("E10-a of an old server: %s", r.Outcome)
	}
	open := openFacts("a")
	if r := byKey(t, judgeE10(open, otherCaller{}), "E10-a"); r.Outcome != kidoban.NotApplicable {
		t.Errorf("E10-a of a server without authorization: %s", r.Outcome)
	}
	if r := byKey(t, judgeE10(withPRM(t, `{"resource":"https://mcp.example.com/mcp","authorization_servers":["https://mcp.example.com"]}`), otherCaller{}), "E10-b"); r.Outcome != kidoban.Pass {
		t.Errorf("E10-b with well-known metadata: %s", r.Outcome)
	}
}

// TestE10f: several servers are legal; a stranger among them is not.
func TestE10f(t *testing.T) {
	for list, want := range map[string]kidoban.Outcome{
		`"https://auth.example.com"`:                                  kidoban.Pass,
		`"https://auth.example.com","https://accounts.google.com"`:    kidoban.Pass,
		`"https://auth.example.com","https://tenant.us.auth0.com"`:    kidoban.Pass,
		`"https://auth.example.com","https://login.stranger.example"`: kidoban.Weak,
		`"https://auth.example.com","https://xaccounts.google.com.x"`: kidoban.Weak,
	} {
		if r := judgeManyServers(withPRM(t, `{"resource":"https://mcp.example.com/mcp","authorization_servers":[`+list+`]}`)); r.Outcome != want {
			t.Errorf("%s: %s", list, r.Outcome)
		}
	}
}

func withAS(t *testing.T, issuer, body string) *Facts {
	t.Helper()
	f := closedFacts()
	m, err := oauth.ParseMetadata([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	f.AS = &AS{Issuer: issuer, URL: issuer + "/.well-known/oauth-authorization-server", X: reply(200, body, "Content-Type", isJSON), Meta: m}
	f.Servers = []*AS{f.AS}
	return f
}

func TestE11a(t *testing.T) {
	for got, want := range map[string]kidoban.Severity{
		`"https://auth.example.com"`: "", `"https://auth.example.com/"`: kidoban.Low, `"https://evil.example"`: kidoban.High, `""`: kidoban.High,
	} {
		r := judgeIssuer(withAS(t, "https://auth.example.com", `{"issuer":`+got+`,"authorization_endpoint":"https://auth.example.com/a"}`))
		if want == "" && r.Outcome != kidoban.Pass || want != "" && (r.Outcome != kidoban.Fail || r.Severity != want) {
			t.Errorf("%s: %s %s", got, r.Outcome, r.Severity)
		}
	}
}

// TestE11h: what only one document says, and another order, are no contradiction.
func TestE11h(t *testing.T) {
	f := withAS(t, "https://a.example", `{"issuer":"https://a.example","token_endpoint":"https://a.example/t","response_types_supported":["code","id_token"]}`)
	for body, want := range map[string]kidoban.Outcome{
		`{"issuer":"https://a.example","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/j"}`: kidoban.Pass,
		`{"issuer":"https://a.example","response_types_supported":["id_token","code"]}`:                          kidoban.Pass,
		`{"issuer":"https://a.example","token_endpoint":"https://a.example/other"}`:                              kidoban.Weak,
		`{"issuer":"https://b.example"}`: kidoban.Weak,
	} {
		m, err := oauth.ParseMetadata([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if r := judgeContradiction(f, []Document{{Kind: "oidc", X: reply(200, body), Meta: m}}); r.Outcome != want {
			t.Errorf("%s: %s", body, r.Outcome)
		}
	}
	if r := judgeContradiction(f, []Document{{Kind: "oidc", X: reply(404, ""), Err: "status 404"}}); r.Outcome != kidoban.NotApplicable {
		t.Errorf("one document: %s", r.Outcome)
	}
}

func TestE29a(t *testing.T) {
	for _, c := range []struct {
		name string
		x    *kidoban.Exchange
		bad  bool
	}{
		{"a challenge over http", reply(401, "", "WWW-Authenticate", "Bearer"), true},
		{"a list over http", reply(200, listOf("a"), "Content-Type", isJSON), true},
		{"a redirect to https", reply(301, "", "Location", "https://mcp.example.com/mcp"), false},
		{"the note of a TLS port", reply(400, "Client sent an HTTP request to an HTTPS server.\n"), false},
		{"a wall", reply(403, "<html>Forbidden</html>", "Content-Type", "text/html"), false},
		{"a welcome page", reply(200, "<html>Welcome to nginx!</html>", "Content-Type", "text/html"), false},
		{"nothing", &kidoban.Exchange{Err: "refused", ErrKind: kidoban.KindUnreachable}, false},
	} {
		if r := judgePlain(closedFacts(), []*kidoban.Exchange{c.x})[0]; (r.Outcome == kidoban.Fail) != c.bad {
			t.Errorf("%s: %s", c.name, r.Summary)
		}
	}
}

// TestE32: what errors give away, and what is only an echo of the request.
func TestE32(t *testing.T) {
	jwt := "eyJhbGciOiJFUzI1NiJ9xx.eyJzdWIiOiJhbGljZSJ9xx.c2lnbmF0dXJlc2lnbmF0dXJl"
	for _, c := range []struct{ body, insides, secret string }{
		{"Traceback (most recent call last):\n  File \"/app/x.py\", line 3", "a Python stack trace", ""},
		{"panic\ngoroutine 12 [running]:\nmain.go:3", "a Go stack trace", ""},
		{"Error: x\n    at handler (/srv/app/server.js:10:5)", "a JavaScript stack trace", ""},
		{"connect ECONNREFUSED 10.1.2.3:5432", "an inside address", ""},
		{`{"error":"invalid_token","error_description":"The token expired at noon"}`, "", ""},
		{"request id 192.0.2.7-abc", "", ""},
		{"config: client_secret=0123456789abcdef", "", "a client secret"},
		{"postgres://app:hunter22@db/prod failed", "", "a database address with its password"},
		{"token " + jwt + " is expired", "", "a token"},
		{"-----BEGIN RSA PRIVATE KEY-----", "", "a private key"},
		{`{"error":"invalid_request","error_description":"client_secret is missing"}`, "", ""},
	} {
		x := reply(500, c.body)
		if got := internals(x); got != c.insides {
			t.Errorf("%q: insides %q, want %q", c.body, got, c.insides)
		}
		if got := secretsShown(x); got != c.secret {
			t.Errorf("%q: secret %q, want %q", c.body, got, c.secret)
		}
		x.Request.Header = kidoban.Fields{{Name: "Authorization", Value: "Bearer " + jwt}}
		if c.secret == "a token" && secretsShown(x) != "" {
			t.Error("an echo of our own token counts as a secret")
		}
	}
}

func TestE07Ids(t *testing.T) {
	xs := []*kidoban.Exchange{reply(200, ""), reply(200, ""), reply(200, "")}
	for _, c := range []struct {
		name string
		ids  []string
		want kidoban.Outcome
	}{
		{"counted", []string{"session-001001", "session-001002", "session-001003"}, kidoban.Fail},
		{"one for all", []string{"a81bc81b-dead-4e5d-abff-90865d1e13b1", "a81bc81b-dead-4e5d-abff-90865d1e13b1", "a81bc81b-dead-4e5d-abff-90865d1e13b1"}, kidoban.Fail},
		{"short", []string{"x7Gq", "p2Lm", "r9Zt"}, kidoban.Fail},
		{"random", []string{"Qm9vZ3ktd29vZ3ktMTIzNDU2", "a8f1kZpQ2LwX9dReT5vYb3Nc", "Zx81mKqWvB7nTe4LpR0sYd2J"}, kidoban.Pass},
		{"UUID version 4", []string{"0e37df36-f698-11e6-8dd4-cb9ced3df976", "7d444840-9dc0-41d1-b245-5ffdce74fad2", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"}, kidoban.Fail}, // the first is a version 1
		{"one only", []string{"Qm9vZ3ktd29vZ3ktMTIzNDU2"}, kidoban.Inconclusive},
		{"none", nil, kidoban.NotTested},
	} {
		if r := judgeIDs(c.ids, xs[:len(c.ids)]); r.Outcome != c.want {
			t.Errorf("%s: %s %s", c.name, r.Outcome, r.Summary)
		}
	}
}

func TestE23bE34b(t *testing.T) {
	f := closedFacts()
	for _, c := range []struct {
		x    *kidoban.Exchange
		want kidoban.Outcome
	}{
		{reply(401, "", "WWW-Authenticate", "Bearer"), kidoban.Pass},
		{reply(401, "", "WWW-Authenticate", `Bearer error="invalid_token"`), kidoban.Weak},
		{reply(403, ""), kidoban.Weak},
		{reply(404, ""), kidoban.Pass},
		{reply(500, ""), kidoban.Inconclusive},
		{reply(200, "<html>", "Content-Type", "text/html"), kidoban.Pass},
		{reply(429, ""), kidoban.Inconclusive},
	} {
		if r := judgeExamined(f, fired(c.x).shots); r.Outcome != c.want {
			t.Errorf("status %d: %s %s", c.x.Status(), r.Outcome, r.Summary)
		}
	}
	f.URL += "?api_key=abc"
	if r := judgeKeyInURL(f); r.Outcome != kidoban.Weak || strings.Contains(r.Summary, "abc") {
		t.Errorf("a key in the address: %s %q", r.Outcome, r.Summary)
	}
}

// TestEveryKeyIsJudged: each probe answers for each of its keys, whatever the
// answers were; a judge never panics.
func TestEveryKeyIsJudged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		some := func(label string) *kidoban.Exchange {
			if rapid.Bool().Draw(rt, label+" missing") {
				return nil
			}
			if rapid.Bool().Draw(rt, label+" failed") {
				return &kidoban.Exchange{Err: "no answer", ErrKind: kidoban.KindUnreachable}
			}
			body := rapid.SampledFrom([]string{"", listOf("a"), "<html>", `{"error":"x"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"session"}}`, "\xff\x00"}).Draw(rt, label)
			return reply(rapid.SampledFrom([]int{200, 202, 302, 400, 401, 403, 404, 405, 429, 500, 503}).Draw(rt, label+" status"), body, "Location", "//x", "Age", "3",
				"WWW-Authenticate", rapid.SampledFrom([]string{"", "Bearer", `Bearer resource_metadata="http://10.0.0.1/x", scope="a"`}).Draw(rt, label+" challenge"))
		}
		f := &Facts{URL: "https://mcp.example.com/mcp", TLS: rapid.Bool().Draw(rt, "tls"), List: some("list"), Discover: some("discover"), Init: some("init"), Refused: some("refused"),
			Local: rapid.Bool().Draw(rt, "local"), Modern: rapid.Bool().Draw(rt, "modern"), SSE: rapid.Bool().Draw(rt, "sse"), Greets: rapid.Bool().Draw(rt, "greets")}
		f.Tools, f.Open = ReplyOf(f.List).tools()
		if f.Refused != nil && f.Refused.Response == nil {
			f.Refused = nil
		}
		f.AS = &AS{Issuer: "https://mcp.example.com", X: some("as")}
		f.Servers = []*AS{f.AS}
		v := func(label string) volley {
			x := some(label)
			if x == nil {
				return volley{}
			}
			return fired(x)
		}
		seen := []*kidoban.Exchange{}
		for i := range 3 {
			if x := some("seen " + strconv.Itoa(i)); x != nil && x.Response != nil {
				seen = append(seen, x)
			}
		}
		got := map[string]bool{}
		for _, rs := range [][]kidoban.Result{
			judgeE03(f, openWays{v("methods"), v("paths"), v("bodies")}),
			judgeE04(f, wrongTokens{random: v("random"), scheme: v("scheme"), own: v("own")}),
			judgeHeaders(f, trustedHeaders{both: v("both"), origin: v("origin")}), judgeQuery(f, queryTokens{all: v("all")}),
			judgeE09(f, foreignPages{preflight: some("preflight"), closed: v("closed"), from: v("from")}), judgeE33(f, mixedReadings{smuggled: v("smuggled"), twice: v("twice")}),
			judgeE10(f, otherCaller{some("again"), some("again, a second time")}), judgeE11(f, nil), judgeE07(f, sessionsSeen{invented: v("invented")}), judgeTLS(f, handshakes{old: some("old"), any: some("any")}),
			judgePlain(f, []*kidoban.Exchange{{Err: "x"}}), judgeLockout(f, wrongPasswords{}),
			{judgeURLs(f, seen), judgeLeavesTLS(f, seen), judgeCookies(f, seen), judgeHSTS(f, seen), judgeNoStore(f, seen), judgeShared(f), judgeInternals(f, seen), judgeSecrets(f, seen)},
		} {
			for _, r := range rs {
				if got[r.Key()] {
					rt.Fatalf("%s twice", r.Key())
				}
				got[r.Key()] = true
				if r.Outcome == "" || r.Summary == "" {
					rt.Fatalf("%s: %+v", r.Key(), r)
				}
			}
		}
		for _, p := range append(endpointProbes(), closingProbes()...) {
			for _, k := range p.keys {
				switch k {
				case "E06-a", "E25-a", "E30-a", "E30-b", "E32-c", "E34-a": // their judges stand inside their probes
				default:
					if !got[k] {
						rt.Fatalf("no result for %s", k)
					}
				}
			}
		}
	})
}

// TestE08e_TheSecondPersonsAnswer: a state that works for another proves something
// only where an invented one does not.
func TestE08e_TheSecondPersonsAnswer(t *testing.T) {
	did := reply(200, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`, "Content-Type", isJSON)
	no := reply(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`, "Content-Type", isJSON)
	asks := reply(200, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}`, "Content-Type", isJSON)
	for name, c := range map[string]struct {
		control, taken *kidoban.Exchange
		want           kidoban.Outcome
	}{
		"taken":       {no, did, kidoban.Fail},
		"refused":     {no, no, kidoban.Pass},
		"asks anew":   {no, asks, kidoban.Pass},
		"any will do": {did, did, kidoban.NotApplicable},
	} {
		e := &twoPeople{modern: true, listA: asks, state: asks, stateX: []*kidoban.Exchange{c.control, c.taken}, stateWork: ran(c.taken) && !ran(c.control)}
		if r := judgeForeignState(e); r.Outcome != c.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestE10PasswordChallenge: a server that asks for a password does not claim OAuth; one
// that asks for a bearer token, or names nothing, does.
func TestE10PasswordChallenge(t *testing.T) {
	for challenge, want := range map[string]bool{`Basic realm="team"`: false, `Digest realm="team", nonce="n"`: false, `Bearer realm="x"`: true, `Basic realm="team", Bearer realm="x"`: true, "": true} {
		f := &Facts{Refused: jsonAnswer(401, `{}`), Asks: oauth.ParseChallenges([]string{challenge})}
		if got := f.claimsOAuth(); got != want {
			t.Errorf("%q: claims OAuth: %v, want %v", challenge, got, want)
		}
	}
}

// TestE09BehindToken: what only the owner of a token sees is low, also on this machine.
func TestE09BehindToken(t *testing.T) {
	f := &Facts{Local: true, Open: true, held: true}
	if r := exposed(positive("E09-a", kidoban.Confirmed, "served"), f, kidoban.High, kidoban.Low); r.Severity != kidoban.Low || !strings.Contains(r.Summary, "bearer token") {
		t.Errorf("%+v", r)
	}
}

// TestE02RefusalsFromAnywhere: a refusal that goes on from any browser is weak where a
// code is taken from the one that started only, and likely where it is not.
func TestE02RefusalsFromAnywhere(t *testing.T) {
	trail := func(k Kind, status int) *Trail {
		x := reply(status, "")
		return &Trail{Kind: k, Exchanges: []*kidoban.Exchange{x}, Steps: []Step{stepOf(x, "https://as.example/callback")}}
	}
	ev := upstreamEvidence{control: trail(CallbackError, 302), empty: trail(CallbackError, 302), codeHere: trail(ErrorPage, 500), codeThere: trail(ErrorPage, 403)}
	if r := judgeE02a(&Facts{}, ev); r.Outcome != kidoban.Weak || r.Evidence != kidoban.Signal || r.Severity != kidoban.Low {
		t.Errorf("a code is bound: %+v", r)
	}
	for name, there := range map[string]*Trail{"alike": trail(ErrorPage, 500), "not asked": nil, "sent on": trail(CallbackError, 302)} {
		ev.codeThere = there
		if r := judgeE02a(&Facts{}, ev); r.Outcome != kidoban.Fail || r.Evidence != kidoban.Likely {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
