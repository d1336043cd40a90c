package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
)

// Authorization servers made by others, each with the login and consent pages that
// it brings along. The audit logs in by itself, with a user and a password and no
// script, in a real browser. What it finds was checked by hand; docs/others.md shows
// the exchange behind each finding.

// otherAS is one of them.
type otherAS struct {
	name           string
	user, password string
	start          func(t *testing.T, r *resource) // starts it and tells the resource how to check tokens
	client         *audit.PreRegistered            // where registration is closed
	consent        bool                            // it asks for a decision
	want           string                          // findings, in the order of the catalogue
	maybe          string                          // what a race, or the second of the clock, decides
}

// resource is a small MCP server that trusts one authorization server.
type resource struct {
	*httptest.Server
	issuer   string
	scope    string
	document map[string]any                                        // served for an authorization server that has none
	check    func(ctx context.Context, token string) (bool, error) // asks the authorization server
	target   string                                                // of the audit; "" is this server
}

func newResource(t *testing.T) *resource {
	t.Helper()
	r := &resource{}
	mux := http.NewServeMux()
	r.Server = httptest.NewServer(mux)
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	s := goSDKServer()
	inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	verify := func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		ok, err := r.check(ctx, token)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
		}
		return &auth.TokenInfo{Expiration: time.Now().Add(time.Minute), UserID: "alice", Scopes: []string{r.scope}}, nil
	}
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, q *http.Request) {
		guard := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{ResourceMetadataURL: r.URL + "/.well-known/oauth-protected-resource/mcp", Scopes: []string{r.scope}})
		http.NewCrossOriginProtection().Handler(guard(inner)).ServeHTTP(w, q)
	})
	serve := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, _ *http.Request) {
		serve(w, map[string]any{"resource": r.URL + "/mcp", "authorization_servers": []string{r.issuer}, "scopes_supported": []string{r.scope}})
	})
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, q *http.Request) {
		if r.document == nil {
			http.NotFound(w, q)
			return
		}
		serve(w, r.document)
	})
	return r
}

// introspects asks an introspection endpoint (RFC 7662).
func introspects(endpoint string) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, token string) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			return false, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth("resource", "resource-secret")
		var answer struct{ Active bool }
		return ask(req, &answer) && answer.Active, nil
	}
}

// opens takes a token for good when it opens an endpoint of the authorization server.
func opens(endpoint string) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, token string) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
		if err != nil {
			return false, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return ask(req, nil), nil
	}
}

// signed takes a JWT for good when its signature and its end are.
func signed(keys string) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, token string) (bool, error) {
		t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
		if err != nil {
			return false, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, keys, nil)
		if err != nil {
			return false, err
		}
		var set jose.JSONWebKeySet
		if !ask(req, &set) {
			return false, fmt.Errorf("no keys at %s", keys)
		}
		var c jwt.Claims
		if err := t.Claims(set, &c); err != nil {
			return false, err
		}
		return c.Validate(jwt.Expected{Time: time.Now()}) == nil, nil
	}
}

func ask(req *http.Request, into any) bool {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return false
	}
	return into == nil || json.Unmarshal(b, into) == nil
}

// script copies a starter beside the packages that it needs and runs it.
func script(t *testing.T, program, packages, name string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join("testdata/others", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if packages != "" {
		if err := os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
	}
	serveProgram(t, dir, program, append([]string{filepath.Join(dir, name)}, args...), "127.0.0.1:"+args[0])
}

// serveProgram runs a server until the test ends and waits until addr answers.
func serveProgram(t *testing.T, dir, program string, args []string, addr string, env ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			s := out.String()
			t.Logf("%s said:\n%s", filepath.Base(program), s[max(0, len(s)-3000):])
		}
	})
	waitPort(t, addr, out)
}

const (
	oidcProvider = "oidc-provider@9.13.3"
	openAuth     = "@openauthjs/openauth@0.4.3"
	zitadelOIDC  = "github.com/zitadel/oidc/v3@v3.45.0"
	pythonSDK    = "mcp==2.3.0"
	goOAuth2     = "github.com/go-oauth2/oauth2/v4@v4.5.4"
)

// oldFastMCP is the version whose proxy takes the upstream's answer from any browser
// (CVE-2026-27124).
const oldFastMCP = "fastmcp==2.13.0"

// othersPython are the packages of the servers in Python.
var othersPython = []string{"canaille[front,oidc,sqlite]==0.3.6", "django-oauth-toolkit==3.4.1", "fastmcp==4.1.2"}

func othersWithPages() []otherAS {
	callback := "http://127.0.0.1:9094/callback"
	return []otherAS{
		{name: "oidc-provider", user: "alice", password: "any", consent: true,
			want: "F1-a F1-b F5-j F6-C F6-D F7-15 F9-5 E11-e E11-g E13-c E14-b E14-c E17-a E17-b E17-c E19-c E27-a E28-a E28-g E33-b", start: func(t *testing.T, r *resource) {
				node, dir := npmPackage(t, oidcProvider)
				port := freePort(t)
				script(t, node, dir, "oidc-provider.mjs", port, r.URL+"/mcp")
				r.issuer, r.scope = "http://127.0.0.1:"+port, "mcp:read"
				r.check = introspects(r.issuer + "/token/introspection")
			}},
		{name: "canaille", user: "alice", password: "correct horse", consent: true,
			want:  "F1-a F1-b F5-b F5-e F5-j F6-B F6-C F6-D F9-3 F9-5 E05-a E05-f E11-d E11-e E11-g E12-b E14-b E14-c E17-a E17-b E17-c E25-b E28-d E33-b",
			maybe: "F5-c E05-c E05-e E24-a E24-e", start: func(t *testing.T, r *resource) {
				port := freePort(t)
				script(t, pythonWith(t, othersPython...), "", "canaille_as.py", port, t.TempDir())
				r.issuer, r.scope = "http://127.0.0.1:"+port, "openid"
				r.check = opens(r.issuer + "/oauth/userinfo")
			}},
		{name: "django-oauth-toolkit", user: "alice", password: "correct horse", consent: true,
			want: "F1-a F1-b F5-b F5-c F5-e F5-i F6-B F6-C F6-D F9-3 F9-5 E05-a E11-d E11-e E11-f E11-g E12-a E14-c E17-a E17-b E17-c E19-c E24-a E28-d E28-g E31-b E33-b E34-c", start: func(t *testing.T, r *resource) {
				port := freePort(t)
				script(t, pythonWith(t, othersPython...), "", "django_as.py", port, t.TempDir())
				r.issuer, r.scope = "http://127.0.0.1:"+port, "read"
				r.check = introspects(r.issuer + "/o/introspect/")
			}},
		{name: "python-sdk", user: "demo_user", password: "demo_password",
			want: "F1-a F1-b F1-e F5-i F6-A F9-3 F9-5 E05-a E05-b E05-e E11-f E11-g E12-a E13-a E13-b E13-c E14-b E14-c E17-a E17-b E17-c E18-b E25-a E27-a E28-a E28-d E28-g E30-b E31-b E33-b E34-c", start: func(t *testing.T, r *resource) {
				py, dir := pythonWith(t, othersPython...), pythonSource(t, pythonSDK)
				as, rs := freePort(t), freePort(t)
				env := "PYTHONPATH=" + filepath.Join(dir, "examples/servers/simple-auth")
				serveProgram(t, dir, py, []string{"-m", "mcp_simple_auth.auth_server", "--port", as}, "localhost:"+as, env)
				serveProgram(t, dir, py, []string{"-m", "mcp_simple_auth.server", "--port", rs, "--auth-server", "http://localhost:" + as}, "localhost:"+rs, env)
				r.target = "http://localhost:" + rs + "/mcp"
			}},
		{name: "openauth", user: "alice@example.com", password: "correct horse", client: &audit.PreRegistered{ID: "tester", RedirectURI: callback},
			want: "F2-a F2-b F2-c F5-a F5-b F5-c F5-e F5-h F5-i F6-A F7-1 F7-12 F9-3 E05-a E05-c E05-e E05-f E11-d E11-g E12-a E24-a E24-e E25-a E26-a E31-b E33-b E34-c", start: func(t *testing.T, r *resource) {
				node, dir := npmPackage(t, openAuth, "hono@4", "@hono/node-server@1")
				port := freePort(t)
				script(t, node, dir, "openauth.mjs", port)
				r.issuer, r.scope = "http://127.0.0.1:"+port, "notes"
				r.check = signed(r.issuer + "/.well-known/jwks.json")
			}},
		{name: "zitadel-oidc", user: "test-user@localhost", password: "verysecure", client: &audit.PreRegistered{ID: "native", RedirectURI: callback},
			want: "F5-b F5-c F5-d F5-i F6-A F7-5 F7-9 F7-11 F7-15 F9-3 F9-5 E05-a E05-e E11-d E11-e E11-g E12-a E28-a E28-d E28-g E31-b E33-b", start: func(t *testing.T, r *resource) {
				port := freePort(t)
				serveProgram(t, "", goProgram(t, zitadelOIDC, "example/server"), nil, "127.0.0.1:"+port, "PORT="+port, "REDIRECT_URI="+callback)
				r.issuer, r.scope = "http://localhost:"+port+"/", "openid"
				r.check = opens(r.issuer + "userinfo")
			}},
		{name: "go-oauth2", user: "test", password: "test", consent: true, client: &audit.PreRegistered{ID: "222222", Secret: "22222222", RedirectURI: callback},
			want: "F2-b F5-a F5-b F5-c F5-i F6-B F6-D F6-F F7-1 F9-3 E05-a E05-e E05-f E11-g E24-a E25-a E26-a E28-a E28-b E28-d E28-g E33-b E34-c", start: func(t *testing.T, r *resource) {
				port := freePort(t)
				program := goProgram(t, goOAuth2, "example/server")
				serveProgram(t, goSource(t, goOAuth2, "example/server"), program, []string{"-d=false", "-p", port, "-r", "http://127.0.0.1:9094"}, "127.0.0.1:"+port)
				at := "http://127.0.0.1:" + port
				r.issuer, r.scope, r.check = r.URL, "notes", opens(at+"/test")
				r.document = map[string]any{"issuer": r.URL, "authorization_endpoint": at + "/oauth/authorize", "token_endpoint": at + "/oauth/token", "response_types_supported": []string{"code"},
					"code_challenge_methods_supported": []string{"S256"}}
			}},
	}
}

// othersWithUpstream are servers that send the browser on to a server of somebody else.
func othersWithUpstream() []otherAS {
	proxy := func(specs ...string) func(*testing.T, *resource) {
		return func(t *testing.T, r *resource) {
			node, dir := npmPackage(t, oidcProvider)
			up, port := freePort(t), freePort(t)
			script(t, node, dir, "oidc-upstream.mjs", up, "http://127.0.0.1:"+port+"/auth/callback")
			script(t, pythonWith(t, specs...), "", "fastmcp_proxy.py", port, "http://127.0.0.1:"+up)
			r.target = "http://127.0.0.1:" + port + "/mcp"
		}
	}
	return []otherAS{
		{name: "fastmcp-proxy", user: "alice", password: "any", consent: true, start: proxy(othersPython...),
			want: "F1-a F4-5 F5-i F6-C F6-D F9-3 F9-5 E02-a E05-e E09-a E09-b E09-d E13-c E14-b E14-c E17-a E17-b E17-c E18-b E24-d E24-e E25-b E27-a E28-d E28-g E33-b"},
		{name: "fastmcp-proxy-old", user: "alice", password: "any", consent: true, start: proxy(oldFastMCP),
			want: "F1-a F1-b F5-i F6-C F6-D F7-1 F7-10 F7-12 F9-3 F9-5 E02-b E05-a E05-e E09-a E09-b E09-d E11-f E11-g E12-a E13-a E13-b E13-c E14-b E14-c E17-a E17-b E17-c E24-d E24-e E25-b E27-a E28-d E28-g E30-b E31-b E33-b"},
	}
}

// races are what two requests at once may show of a server, or not, as they happen to
// arrive: true where it is found, and no fault of the audit where it is not.
var races = []string{"F9-4", "E22-2"}

// TestOthersLogins: the pages of six and more authorization servers are passed
// without a script, and what is found there is true.
func TestOthersLogins(t *testing.T) {
	if testing.Short() {
		t.Skip("the race run audits our own servers only")
	}
	c, err := browser.StartChromium(t.Context(), browser.ChromiumOptions{Lab: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := othersWithPages()
	if os.Getenv("KIDOBAN_OTHERS") == "all" { // these take minutes on a busy machine
		all = append(all, othersWithUpstream()...)
	}
	for _, as := range all {
		t.Run(as.name, func(t *testing.T) {
			r := newResource(t)
			as.start(t, r)
			target := r.target
			if target == "" {
				target = r.URL + "/mcp"
			}
			o := audit.Options{Lab: true, Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3}, StateDir: t.TempDir(),
				Login: &audit.Tester{Account: browser.Account{User: as.user, Password: as.password}, Browser: c}}
			if as.client != nil {
				o.Clients = []audit.PreRegistered{*as.client}
			}
			began := time.Now()
			rep, err := audit.Run(t.Context(), o, target)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d requests, %d pages, %s", rep.Requests, len(rep.Shots), time.Since(began).Round(100*time.Millisecond))
			evidence(t, rep)
			got := slices.DeleteFunc(findings(rep), func(k string) bool { return slices.Contains(append(strings.Fields(as.maybe), races...), k) })
			if d := cmp.Diff(strings.Fields(as.want), got); d != "" {
				t.Errorf("findings (-want +got):\n%s", d)
			}
			passes(t, rep, as)
		})
	}
}

// passes fails unless the login led to a code and to tokens.
func passes(t *testing.T, rep *audit.Report, as otherAS) {
	t.Helper()
	if x := result(t, rep, "F9-2"); x.Outcome != kidoban.Pass && x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak {
		t.Errorf("no code was redeemed: %s(%s) %s", x.Outcome, x.Reason, x.Summary)
	}
	if x := result(t, rep, "F6-A"); (x.Outcome == kidoban.Pass) != as.consent {
		t.Errorf("F6-A is %s(%s): %s", x.Outcome, x.Reason, x.Summary)
	}
}
