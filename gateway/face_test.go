package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/oauth"
)

func listServer(t testing.TB) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case idOf(body) == "":
			w.WriteHeader(http.StatusAccepted)
		default:
			result(w, body, `{"tools":[{"name":"echo","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},{"name":"drop","inputSchema":{"type":"object"},"annotations":{"destructiveHint":true}}],"content":[]}`)
		}
	})
}

func TestRS01_RS02_RS11_MetadataOfEachResource(t *testing.T) {
	r := newRig(t, []Server{at("one", "http://127.0.0.1:1"), at("two", "http://127.0.0.1:1")})
	for _, c := range []struct{ url, resource string }{
		{"/.well-known/oauth-protected-resource/s/one/mcp", r.resource("one")},
		{"/.well-known/oauth-protected-resource/s/two/mcp", r.resource("two")},
		{"/.well-known/oauth-protected-resource/s/two/mcp/", r.resource("two")},
		{"/.well-known/oauth-protected-resource/mcp", r.url + "/mcp"},
		{"/.well-known/oauth-protected-resource", r.url + "/mcp"},
	} {
		a := r.do(http.MethodGet, r.url+c.url, "", "Host", "evil.example") // never becomes a URL
		prm, err := oauth.ParsePRM([]byte(a.body))
		if err != nil || a.status != 200 {
			t.Fatalf("%s: %d %s %v", c.url, a.status, a.body, err)
		}
		if prm.Resource != c.resource || len(prm.AuthorizationServers) != 1 || prm.AuthorizationServers[0] != r.url {
			t.Errorf("%s: %s", c.url, a.body)
		}
		if strings.Contains(a.body, "offline_access") || strings.Contains(a.body, "evil") {
			t.Errorf("%s: %s", c.url, a.body)
		}
	}
}

func TestRS02_RS03_ChallengeOfARequestWithoutToken(t *testing.T) {
	r := newRig(t, []Server{at("one", "http://127.0.0.1:1")})
	a := r.do(http.MethodPost, r.resource("one"), listTools)
	ch := oauth.ParseChallenges(a.header.Values("WWW-Authenticate"))
	if a.status != 401 || len(ch) != 1 || !ch[0].Is("Bearer") {
		t.Fatalf("%d %v", a.status, a.header)
	}
	if got, _ := ch[0].ResourceMetadata(); got != r.url+"/.well-known/oauth-protected-resource/s/one/mcp" {
		t.Errorf("resource_metadata %q", got)
	}
	if ch[0].Get("scope") != "mcp:read mcp:write" || ch[0].Get("error") != "" {
		t.Errorf("%v", a.header)
	}
}

// TestRS04_RS05_RS07_DoubtfulTokensAreRefused is E04 and E05: every token that is
// not exactly right ends with 401, before the body is read and before the server
// sees anything.
func TestRS04_RS05_RS07_DoubtfulTokensAreRefused(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL), at("two", up.URL)})
	other := newIssuer(t)
	other.url = r.url
	set := func(k string, v any) func(map[string]any) { return func(m map[string]any) { m[k] = v } }
	drop := func(k string) func(map[string]any) { return func(m map[string]any) { delete(m, k) } }
	res := r.resource("one")
	good := r.as.token(t, res, "alice", nil)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + strings.Split(good, ".")[1] + "."
	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	symmetric, _ := jwt.Signed(hmac).Claims(r.as.claims(res, "alice", nil)).Serialize()
	parts := strings.Split(good, ".")
	flipped := parts[0] + "." + strings.Replace(parts[1], parts[1][10:11], map[bool]string{true: "B", false: "A"}[parts[1][10] == 'A'], 1) + "." + parts[2]
	for name, auth := range map[string]string{
		"nonsense":         "Bearer kidoban-invalid-1",
		"null":             "Bearer null",
		"empty":            "Bearer ",
		"basic":            "Basic Og==",
		"scheme":           "Token " + good,
		"two in one":       "Bearer " + good + ", Bearer x",
		"none":             "Bearer " + none,
		"symmetric":        "Bearer " + symmetric,
		"foreign key":      "Bearer " + other.token(t, res, "alice", nil),
		"changed byte":     "Bearer " + flipped,
		"type":             "Bearer " + r.as.sign(t, "JWT", r.as.claims(res, "alice", nil)),
		"expired":          "Bearer " + r.as.token(t, res, "alice", set("exp", time.Now().Add(-time.Minute).Unix())),
		"not yet":          "Bearer " + r.as.token(t, res, "alice", set("nbf", time.Now().Add(time.Hour).Unix())),
		"from the future":  "Bearer " + r.as.token(t, res, "alice", set("iat", time.Now().Add(time.Hour).Unix())),
		"no exp":           "Bearer " + r.as.token(t, res, "alice", drop("exp")),
		"no sub":           "Bearer " + r.as.token(t, res, "alice", drop("sub")),
		"no client":        "Bearer " + r.as.token(t, res, "alice", drop("client_id")),
		"no grant":         "Bearer " + r.as.token(t, res, "alice", drop("kidoban_grant")),
		"other issuer":     "Bearer " + r.as.token(t, res, "alice", set("iss", "https://evil.example")),
		"other server":     "Bearer " + r.as.token(t, r.resource("two"), "alice", nil),
		"aggregate":        "Bearer " + r.as.token(t, r.url+"/mcp", "alice", nil),
		"origin":           "Bearer " + r.as.token(t, r.url, "alice", nil),
		"two audiences":    "Bearer " + r.as.token(t, res, "alice", set("aud", []string{res, r.resource("two")})),
		"no audience":      "Bearer " + r.as.token(t, res, "alice", drop("aud")),
		"longer audience":  "Bearer " + r.as.token(t, res+"/x", "alice", nil),
		"DPoP without key": "DPoP " + good,
	} {
		a := r.do(http.MethodPost, res, `{"not":"read"`, "Authorization", auth)
		ch := oauth.ParseChallenges(a.header.Values("WWW-Authenticate"))
		if a.status != 401 || len(ch) != 1 || ch[0].Get("error") == "" {
			t.Errorf("%s: %d %v %s", name, a.status, a.header["Www-Authenticate"], a.body)
		}
	}
	if n := up.count(); n != 0 {
		t.Fatalf("the server saw %d requests", n)
	}
	for _, ok := range []string{"Bearer " + good, "bearer " + good, "Bearer " + r.as.token(t, res+"/", "alice", nil)} {
		if a := r.do(http.MethodPost, res, listTools, "Authorization", ok); a.status != 200 {
			t.Errorf("a good token: %d %s", a.status, a.body)
		}
	}
}

func TestRS13_TokensInTheURLAreRefused(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	tok := r.token("one", "alice")
	for _, q := range []string{"?access_token=" + tok, "?token=" + tok, "?ACCESS_TOKEN=x"} {
		// Alone it is as good as none, whatever it is worth; beside a header it is refused.
		if a := r.do(http.MethodPost, r.resource("one")+q, listTools); a.status != 401 {
			t.Errorf("%s alone: %d", q[:8], a.status)
		}
		if a := r.do(http.MethodPost, r.resource("one")+q, listTools, "Authorization", "Bearer "+tok); a.status != 400 {
			t.Errorf("%s beside a header: %d", q[:8], a.status)
		}
	}
	if a := r.do(http.MethodPost, r.resource("one"), listTools, "Authorization", "Bearer "+tok, "Authorization", "Bearer "+tok); a.status != 400 {
		t.Errorf("two headers: %d", a.status)
	}
	if up.count() != 0 {
		t.Error("the server saw a request")
	}
}

func TestGAS6_RevocationAndDoubtEndAtOnce(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	if a := r.post("one", "alice", listTools); a.status != 200 {
		t.Fatal(a)
	}
	r.as.revoke("g-alice")
	if a := r.post("one", "alice", listTools); a.status != 401 {
		t.Errorf("after revocation: %d", a.status)
	}
	r.as.mu.Lock()
	r.as.away = fmt.Errorf("database away")
	r.as.mu.Unlock()
	if a := r.post("one", "bob", listTools); a.status != 503 || strings.Contains(a.body, "database") {
		t.Errorf("unknown liveness: %d %s", a.status, a.body)
	}
}

func TestRS08_RS10_ScopeAndItsHierarchy(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	as := func(scope string) []string {
		return []string{"Authorization", "Bearer " + r.as.token(t, r.resource("one"), "alice", func(m map[string]any) { m["scope"] = scope; m["jti"] = scope })}
	}
	call := func(tool string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{}}}`
	}
	r.do(http.MethodPost, r.resource("one"), listTools, as("mcp:read")...)
	for _, c := range []struct {
		scope, body, want string
	}{
		{"other", listTools, "mcp:read mcp:write"},
		{"mcp:read", listTools, ""},
		{"mcp:read", call("echo"), ""},
		{"mcp:read", call("drop"), "mcp:destroy"},
		{"mcp:read", call("unlisted"), "mcp:write"},
		{"mcp:write", call("echo"), ""},
		{"mcp:write", call("unlisted"), ""},
		{"mcp:write", call("drop"), "mcp:destroy"},
		{"mcp:destroy", call("drop"), ""},
		{"mcp:destroy", call("echo"), ""},
	} {
		a := r.do(http.MethodPost, r.resource("one"), c.body, as(c.scope)...)
		if c.want == "" {
			if a.status != 200 {
				t.Errorf("%s: %d %s", c.scope, a.status, a.body)
			}
			continue
		}
		ch := oauth.ParseChallenges(a.header.Values("WWW-Authenticate"))
		if a.status != 403 || len(ch) != 1 || ch[0].Get("error") != "insufficient_scope" || ch[0].Get("scope") != c.want || ch[0].Get("resource_metadata") == "" {
			t.Errorf("%s %s: %d %v", c.scope, c.body, a.status, a.header["Www-Authenticate"])
		}
	}
}

func TestTR01_E09_OriginAndHost(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)}, func(c *Config, _ *Deps) {
		c.Origins, c.Hosts = []string{"https://app.example"}, []string{"gate.internal:8787"}
	})
	host := strings.TrimPrefix(r.url, "http://")
	port := host[strings.LastIndex(host, ":"):]
	for _, c := range []struct {
		header []string
		want   int
	}{
		{nil, 200},
		{[]string{"Origin", r.url}, 200},
		{[]string{"Origin", "https://app.example"}, 200},
		{[]string{"Origin", "https://app.example:444"}, 403},
		{[]string{"Origin", "https://evil.example"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Origin", ""}, 403},
		{[]string{"Origin", "https://app.example.evil.example"}, 403},
		{[]string{"Origin", "https://app.example", "Origin", "https://evil.example"}, 403},
		{[]string{"Host", "localhost" + port}, 200},
		{[]string{"Host", "gate.internal:8787"}, 200},
		{[]string{"Host", "evil.example"}, 403},
		{[]string{"Host", "localhost.evil.example" + port}, 403},
		{[]string{"Host", "127.0.0.1:1"}, 403},
	} {
		if a := r.post("one", "alice", listTools, c.header...); a.status != c.want {
			t.Errorf("%v: %d, want %d", c.header, a.status, c.want)
		}
	}
	// Also without a token, and on every method: the judgement comes first.
	for _, m := range []string{"POST", "GET", "DELETE", "OPTIONS", "PUT"} {
		if a := r.do(m, r.resource("one"), "", "Origin", "https://evil.example"); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", m, a.status, a.header)
		}
	}
	a := r.do("OPTIONS", r.resource("one"), "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "https://app.example" || a.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	a = r.do("OPTIONS", r.resource("one"), "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization, mcp-param-region, mcp-param-, x-other, mcp-param-a b")
	if got := a.header.Get("Access-Control-Allow-Headers"); a.status != 204 || !strings.HasSuffix(got, ", Mcp-Name, mcp-param-region") {
		t.Errorf("preflight of mirrored arguments: %d %s", a.status, got)
	}
}

func TestE03_EveryDoorAsksForTheToken(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	for _, path := range []string{"/s/one/mcp", "/s/one/mcp/", "/mcp", "/mcp/", "/", "/sse", "/messages", "/s/one/MCP", "//s/one/mcp", "/s/one/mcp/..;/mcp", "/s/one/%6dcp", "/s/../s/one/mcp", "/s/one/mcp?x=1"} {
		for _, m := range []string{"POST", "GET", "DELETE", "PUT"} {
			for _, h := range [][]string{nil, {"Mcp-Session-Id", "x"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Original-URL", "/"}, {"X-Forwarded-User", "admin"}} {
				a := r.do(m, r.url+path, listTools, h...)
				if a.status != 401 && a.status != 404 || strings.Contains(a.body, "tools") {
					t.Errorf("%s %s %v: %d %s", m, path, h, a.status, a.body)
				}
			}
		}
	}
	if up.count() != 0 {
		t.Error("the server saw a request")
	}
}

func TestRS06_E06_NothingOfTheClientGoesUp(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Set-Cookie", "upstream=1")
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.Header().Set("X-Powered-By", "php")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		result(w, body, `{}`)
	})
	r := newRig(t, []Server{at("one", up.URL)})
	tok := r.token("one", "alice")
	a := r.post("one", "alice", listTools, "Cookie", "a=b", "X-Api-Key", "k", "X-Forwarded-For", "1.2.3.4", "Forwarded", "for=1.2.3.4", "X-Custom", "v",
		"router-key", "x", "mcp-init-host", "evil", "X-Authenticated-User", "root", "Proxy-Authorization", "Basic x", "Traceparent", "00-1-2-01")
	if a.status != 200 {
		t.Fatal(a)
	}
	got := up.last()
	for name, values := range got.header {
		switch name {
		case "Accept", "Content-Type", "Content-Length", "User-Agent", "Traceparent", "Accept-Encoding":
		default:
			t.Errorf("%s: %v went up", name, values)
		}
	}
	if all, _ := json.Marshal(got.header); strings.Contains(string(all)+got.body, tok) {
		t.Error("the client's token went up")
	}
	for _, name := range []string{"Set-Cookie", "Www-Authenticate", "X-Powered-By", "Access-Control-Allow-Origin"} {
		if a.header.Get(name) != "" {
			t.Errorf("%s came down", name)
		}
	}
}

func TestRS14_E07_SessionsBelongToUserClientAndServer(t *testing.T) {
	up := sdkServer(t, false)
	r := newRig(t, []Server{at("one", up.URL), at("two", up.URL)})
	a := r.post("one", "alice", initialize)
	sid := a.header.Get("Mcp-Session-Id")
	if a.status != 200 || sid == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	note := `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	if a := r.post("one", "alice", note, "Mcp-Session-Id", sid); a.status != 202 {
		t.Errorf("notification: %d %s", a.status, a.body)
	}
	v := []string{"MCP-Protocol-Version", "2025-11-25", "Mcp-Session-Id", sid}
	if a := r.post("one", "alice", listTools, v...); a.status != 200 || !strings.Contains(a.body, "echo") {
		t.Errorf("own session: %d %s", a.status, a.body)
	}
	if a := r.do(http.MethodPost, r.resource("one"), listTools, v...); a.status != 401 {
		t.Errorf("session without token: %d", a.status)
	}
	if a := r.post("one", "bob", listTools, v...); a.status != 404 {
		t.Errorf("another user: %d", a.status)
	}
	if a := r.post("two", "alice", listTools, v...); a.status != 404 {
		t.Errorf("another server: %d", a.status)
	}
	client2 := r.as.token(t, r.resource("one"), "alice", func(m map[string]any) { m["client_id"] = "client-2" })
	for _, m := range []string{"POST", "GET", "DELETE"} {
		if a := r.do(m, r.resource("one"), listTools, append(v, "Authorization", "Bearer "+client2)...); a.status != 404 {
			t.Errorf("another client, %s: %d", m, a.status)
		}
	}
	if a := r.post("one", "alice", listTools, "Mcp-Session-Id", "made-up"); a.status != 404 {
		t.Errorf("made up: %d", a.status)
	}
	del := r.do("DELETE", r.resource("one"), "", append(v, "Authorization", "Bearer "+r.token("one", "alice"))...)
	if del.status/100 != 2 {
		t.Errorf("delete: %d %s", del.status, del.body)
	}
	if a := r.post("one", "alice", listTools, v...); a.status != 404 {
		t.Errorf("after the end: %d", a.status)
	}
}

func TestGAS8_DPoPAtTheResource(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key.Public()}
	print, _ := jwk.Thumbprint(crypto256)
	res := r.resource("one")
	tok := r.as.token(t, res, "alice", func(m map[string]any) {
		m["cnf"] = map[string]any{"jkt": base64.RawURLEncoding.EncodeToString(print)}
	})
	seq := 0
	proof := func(change func(map[string]any)) string {
		seq++
		m := map[string]any{"htm": "POST", "htu": res, "iat": time.Now().Unix(), "jti": fmt.Sprint("p", seq), "ath": sha256url(tok)}
		if change != nil {
			change(m)
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := jwt.Signed(s).Claims(m).Serialize()
		return raw
	}
	challenges := map[string]string{}
	post := func(scheme string, proofs ...string) int {
		h := []string{"Authorization", scheme + " " + tok}
		for _, p := range proofs {
			h = append(h, "DPoP", p)
		}
		a := r.do("POST", res, listTools, h...)
		if a.status == 401 {
			challenges[scheme] = a.header.Get("WWW-Authenticate")
		}
		return a.status
	}
	if got := post("DPoP", proof(nil)); got != 200 {
		t.Errorf("a good proof: %d", got)
	}
	used := proof(nil)
	post("DPoP", used)
	for name, got := range map[string]int{
		"as bearer":      post("Bearer", proof(nil)),
		"no proof":       post("DPoP"),
		"two proofs":     post("DPoP", proof(nil), proof(nil)),
		"used before":    post("DPoP", used),
		"other method":   post("DPoP", proof(func(m map[string]any) { m["htm"] = "GET" })),
		"other URL":      post("DPoP", proof(func(m map[string]any) { m["htu"] = r.url + "/mcp" })),
		"other token":    post("DPoP", proof(func(m map[string]any) { m["ath"] = "x" })),
		"old":            post("DPoP", proof(func(m map[string]any) { m["iat"] = time.Now().Add(-5 * time.Minute).Unix() })),
		"without a jti":  post("DPoP", proof(func(m map[string]any) { delete(m, "jti") })),
		"not even a JWT": post("DPoP", "x"),
	} {
		if got != 401 {
			t.Errorf("%s: %d", name, got)
		}
	}
	// RFC 9449 section 7.1: told in the scheme of the token, and with what a proof may be
	// signed with.
	for scheme, got := range challenges {
		all := oauth.ParseChallenges([]string{got})
		if len(all) != 1 || !strings.EqualFold(all[0].Scheme, "DPoP") || !strings.Contains(got, `algs="ES256 `) || !strings.Contains(got, `resource_metadata="`) {
			t.Errorf("a bound token sent as %s is answered %q", scheme, got)
		}
	}
	if a := r.do("POST", res, listTools); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("without a token: %v", a.header)
	}
}

// TestGPX2_SDKClientThroughTheGateway drives the official client through it, in
// both eras: progress, elicitation and all.
func TestGPX2_SDKClientThroughTheGateway(t *testing.T) {
	for name, stateless := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) {
			up := sdkServer(t, stateless)
			r := newRig(t, []Server{at("one", up.URL)})
			progress := make(chan float64, 10)
			client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Aiko"}}, nil
				},
				ProgressNotificationHandler: func(_ context.Context, p *mcp.ProgressNotificationClientRequest) { progress <- p.Params.Progress },
			})
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			s, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: r.resource("one"), HTTPClient: &http.Client{Transport: bearer{r.token("one", "alice")}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tools, err := s.ListTools(ctx, nil)
			if err != nil || len(tools.Tools) != 3 {
				t.Fatalf("%v %v", tools, err)
			}
			say := func(tool string, meta mcp.Meta) string {
				res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": "hi"}, Meta: meta})
				if err != nil {
					t.Fatalf("%s: %v", tool, err)
				}
				return res.Content[0].(*mcp.TextContent).Text
			}
			if got := say("echo", nil); got != "hi" {
				t.Errorf("echo: %q", got)
			}
			if got := say("slow", mcp.Meta{"progressToken": "p1"}); got != "done" {
				t.Errorf("slow: %q", got)
			}
			for i := range 3 {
				select {
				case p := <-progress:
					if p != float64(i) {
						t.Errorf("progress %v", p)
					}
				case <-ctx.Done():
					t.Fatal("no progress arrived")
				}
			}
			if name == "legacy" {
				if got := say("ask", nil); got != "hello Aiko" {
					t.Errorf("ask: %q", got)
				}
			}
		})
	}
}

func TestE31_ListsAreNeverPublic(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"tools":[],"ttlMs":5000,"cacheScope":"public"}`)
	})
	r := newRig(t, []Server{at("one", up.URL)})
	for _, m := range []string{"tools/list", "resources/list", "prompts/list", "server/discover"} {
		body, header := modern(m, "", "")
		a := r.post("one", "alice", body, header...)
		if !strings.Contains(a.body, `"cacheScope":"private"`) || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v", m, a.body, a.header)
		}
	}
}
