package main

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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// loginProvider is oidc-provider as the identity provider of a company.
type loginProvider struct {
	t      *testing.T
	issuer string
	args   []string
	said   *lockedBuffer
	cmd    *exec.Cmd
}

func newLoginProvider(t *testing.T, redirect string, port string, idToken time.Duration) *loginProvider {
	t.Helper()
	node, modules := proofNPM(t, proofProvider)
	l := &loginProvider{t: t, issuer: "http://127.0.0.1:" + port, args: []string{node, "testdata/oidc_login.mjs", filepath.Join(modules, "oidc-provider"), port, redirect, fmt.Sprint(int(idToken.Seconds()))}}
	t.Cleanup(l.stop)
	l.start()
	return l
}

func (l *loginProvider) start() {
	l.t.Helper()
	l.said = &lockedBuffer{}
	l.cmd = exec.Command(l.args[0], l.args[1:]...)
	l.cmd.Stdout, l.cmd.Stderr = l.said, l.said
	if err := l.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if !within(patience, func() bool { return strings.Contains(l.said.String(), "ready") }) {
		l.t.Fatalf("oidc-provider does not start: %s", l.said)
	}
}

func (l *loginProvider) stop() {
	if l.cmd != nil {
		l.cmd.Process.Kill()
		l.cmd.Wait()
		l.cmd = nil
	}
}

// exchanger is an MCP server whose authorization server exchanges the provider's
// ID tokens (RFC 8693), each only while it is valid.
type exchanger struct {
	url, issuer string
	mu          sync.Mutex
	subjects    []string // ID tokens that were taken; guarded by mu
}

func newExchanger(t *testing.T, provider string) *exchanger {
	t.Helper()
	x := &exchanger{}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	x.issuer, x.url = srv.URL, srv.URL+"/mcp"
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": x.issuer, "token_endpoint": x.issuer + "/token", "token_endpoint_auth_methods_supported": []string{"client_secret_post"}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		sub, err := x.take(provider, r.FormValue("subject_token"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": err.Error()})
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"access_token": "for-" + sub, "token_type": "Bearer", "expires_in": 1, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	})
	s := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "whoami", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "you are " + r.Extra.TokenInfo.UserID}}}, nil, nil
	})
	protect := auth.RequireBearerToken(func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		who, ok := strings.CutPrefix(token, "for-")
		if !ok {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{UserID: who, Expiration: time.Now().Add(time.Hour)}, nil
	}, nil)
	mux.Handle("/mcp", protect(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})))
	return x
}

// take verifies an ID token as the provider's keys and clock say.
func (x *exchanger) take(provider, token string) (sub string, err error) {
	resp, err := http.Get(provider + "/jwks")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil {
		return "", err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return "", err
	}
	var c jwt.Claims
	if err := parsed.Claims(keys, &c); err != nil {
		return "", err
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: provider, AnyAudience: jwt.Audience{"gate"}, Time: time.Now()}, 0); err != nil {
		return "", err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.subjects = append(x.subjects, token)
	return c.Subject, nil
}

func (x *exchanger) taken() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string(nil), x.subjects...)
}

// TestGVA2_LoginsAreRenewedAtTheirProvider: the ID tokens of a real provider end
// within seconds; a login whose refresh token was granted goes on proving who the
// user is, with a fresh ID token each time, until the provider ends it. Then the
// user is told to log in again, and a provider that is merely away changes nothing.
func TestGVA2_LoginsAreRenewedAtTheirProvider(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), proofPort(t)
	issuer := "http://127.0.0.1:" + port
	x := newExchanger(t, issuer)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("gate-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, `
login:
  providers: [{id: corp, name: Corp, issuer: "`+issuer+`", client_id: gate, secret_file: `+secret+`, scopes: [offline_access]}]
servers:
  tools:
    url: `+x.url+`
    address: loopback
    account: user
    oauth: {grant: token_exchange, issuer: "`+x.issuer+`", client_id: gate, secret_file: `+secret+`, provider: {issuer: "`+issuer+`"}}
`)
	// An ID token of eight seconds is never far enough from its end to be used again.
	l := newLoginProvider(t, p.url+"/login/corp/callback", port, 8*time.Second)
	p.start()
	p.beyond = []string{strings.TrimPrefix(issuer, "http://")}
	a := newProofApp(p)
	a.resource = p.url + "/s/tools/mcp"
	a.person = newPerson(p) // somebody else than the administrator who set the gateway up
	a.person.logInAt("corp")
	code, verifier, err := a.code()
	if err != nil {
		t.Fatal(err)
	}
	status, tok := a.redeem(code, verifier)
	if status != http.StatusOK {
		t.Fatalf("%d %+v", status, tok)
	}
	for range 3 {
		if got := a.callModern(tok.Access, "whoami"); !strings.Contains(got, "you are alice-at-the-provider") {
			t.Fatalf("%s\n%s\n%s", got, l.said, p.log)
		}
		time.Sleep(1100 * time.Millisecond) // the server's token is over
	}
	seen := map[string]bool{}
	for _, s := range x.taken() {
		seen[s] = true
	}
	// What a process said comes through a pipe, and so perhaps after its answers.
	refreshed := func() bool { return strings.Count(l.said.String(), "refresh") >= len(seen) }
	if len(seen) < 3 || !within(patience, refreshed) {
		t.Errorf("%d ID tokens were exchanged; the provider said:\n%s", len(seen), l.said)
	}

	l.stop() // away: nobody is told to log in
	if got := a.callModern(tok.Access, "whoami"); strings.Contains(got, "you are") || strings.Contains(got, "elicitation") {
		t.Errorf("without the provider: %s", got)
	}
	l.start() // it has forgotten all it granted
	refused := func() int { return strings.Count(l.said.String(), "refused") }
	asked := 0
	for i := range 2 {
		if got := a.callModern(tok.Access, "whoami"); strings.Contains(got, "you are") || !strings.Contains(got, "elicitation") {
			t.Errorf("after the provider ended the login: %s", got)
		}
		if i == 0 {
			within(patience, func() bool { // until nothing more comes
				before := asked
				asked = refused()
				if asked == 0 || asked != before {
					time.Sleep(time.Second)
					return false
				}
				return true
			})
		}
	}
	if asked != 1 || refused() != 1 {
		t.Errorf("a dead refresh token was sent %d times, and then %d:\n%s", asked, refused()-asked, l.said)
	}
	page := func() string {
		t.Helper()
		body, _, err := a.person.open(p.url+"/connect", nil)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	if body := page(); !strings.Contains(body, "Log in there again") || !strings.Contains(body, "Corp") {
		t.Errorf("the page does not say that the login has ended: %s", body)
	}
	a.person.logInAt("corp")
	if body := page(); strings.Contains(body, "Log in there again") {
		t.Error("the page still asks for a login")
	}
	if got := a.callModern(tok.Access, "whoami"); !strings.Contains(got, "you are alice-at-the-provider") {
		t.Errorf("after a new login: %s\n%s", got, l.said)
	}
	raw, _ := os.ReadFile(filepath.Join(p.data, "kidoban.db"))
	for s := range seen {
		if strings.Contains(string(raw), s) || strings.Contains(p.log.String(), s) {
			t.Error("an ID token lies in the open")
		}
	}
}

// logInAt logs in with a provider: its button on the login page, its own pages, and
// back.
func (b *person) logInAt(id string) {
	b.p.t.Helper()
	body, _, err := b.open(b.p.url+"/login", nil)
	if err != nil {
		b.p.t.Fatal(err)
	}
	_, resp, err := b.open(b.p.url+"/login/"+id, fields(body))
	if err != nil || resp.Header.Get("Location") == "" {
		b.p.t.Fatalf("%v %v", resp, err)
	}
	at, _ := url.Parse(resp.Header.Get("Location"))
	for range 20 {
		if at.Host == strings.TrimPrefix(b.p.url, "http://") {
			if _, resp, err = b.open(at.String(), nil); err != nil || resp.StatusCode != http.StatusSeeOther {
				b.p.t.Fatalf("back from the provider: %v %v", resp, err)
			}
			return
		}
		body, resp, err := b.open(at.String(), nil)
		if err != nil {
			b.p.t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			v := fields(body)
			v.Set("login", "alice-at-the-provider")
			v.Set("password", "x")
			m := formAction.FindStringSubmatch(body)
			if m == nil {
				b.p.t.Fatalf("%s: %.600s", at, body)
			}
			to, _ := at.Parse(m[1])
			if body, resp, err = b.open(to.String(), v); err != nil {
				b.p.t.Fatal(err)
			}
		}
		next, err := at.Parse(resp.Header.Get("Location"))
		if err != nil || resp.Header.Get("Location") == "" {
			b.p.t.Fatalf("%s: %d %.600s", at, resp.StatusCode, body)
		}
		at = next
	}
	b.p.t.Fatal("the provider leads round in circles")
}

// callModern calls a tool as a client of 2026-07-28 and returns the answer's body.
func (a *proofApp) callModern(token, tool string) string {
	a.p.t.Helper()
	r, err := http.NewRequest("POST", a.resource, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"url":{}}},"io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"}}}}`))
	if err != nil {
		a.p.t.Fatal(err)
	}
	for k, v := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool} {
		r.Header.Set(k, v)
	}
	resp, err := a.http.Do(r)
	if err != nil {
		a.p.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		a.p.t.Fatal(err)
	}
	return string(raw)
}
