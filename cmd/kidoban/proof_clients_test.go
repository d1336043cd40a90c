package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
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

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// The clients below are made by others and run as their users run them. Their
// versions are fixed; a new one is looked at by hand first.
const (
	proofSDK        = "@modelcontextprotocol/sdk@1.32.2"
	proofRemote     = "mcp-remote@0.15.1"
	proofInspector  = "@modelcontextprotocol/inspector@2.12.0"
	proofEverything = "@modelcontextprotocol/server-everything@2026.8.31"
)

// proofTokens makes access tokens die within the test: after their life and the
// half minute by which clocks may differ, a client has to refresh.
const (
	proofTokens = "tokens: {access: 2s}\n"
	proofLater  = 33 * time.Second
)

// twoTools is a server of the Go SDK with a tool that reads and one that destroys:
// clients ask for what the gateway first names, and need more for the second.
func twoTools(t *testing.T) string {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "two", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	say := func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "said " + a.Text}}}, nil, nil
	}
	mcp.AddTool(s, &mcp.Tool{Name: "look", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, say)
	mcp.AddTool(s, &mcp.Tool{Name: "wipe", Annotations: &mcp.ToolAnnotations{DestructiveHint: new(true)}}, say)
	srv := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// proofGateway is a gateway with its first account, before a server of the Go SDK.
func proofGateway(t *testing.T, more string, env ...string) *program {
	t.Helper()
	// The step up to mcp:destroy is what is shown here; that a person approves such calls, elsewhere.
	p := startProgram(t, proofTokens+"policy: {destructive: allow}\nregistration: {anonymous_scopes: ['mcp:read', 'mcp:write', 'mcp:destroy', offline_access]}\nservers:\n  two:\n    url: "+twoTools(t)+"\n    address: loopback\n"+more, env...)
	newPerson(p).firstAccount()
	return p
}

// refreshed fails unless a code was redeemed and a token refreshed, with success.
func (p *program) refreshed(rounds int) {
	p.t.Helper()
	if p.saw.count("POST /token authorization_code 200") != rounds || p.saw.count("POST /token refresh_token 200") == 0 {
		p.t.Errorf("not %d codes redeemed and a refresh; what went by:\n%s", rounds, p.saw)
	}
	if n := p.saw.count("POST /token authorization_code 4") + p.saw.count("POST /token refresh_token 4"); n != 0 {
		p.t.Errorf("%d token requests were refused:\n%s", n, p.saw)
	}
	if p.t.Failed() {
		p.t.Logf("log:\n%s", p.log)
	}
}

// TestGAS1_TypeScriptSDK: a client on the TypeScript SDK, with registration and
// refresh. Step-up is left out: on a 403 this version refreshes with the old scope
// and stops.
func TestGAS1_TypeScriptSDK(t *testing.T) {
	t.Parallel()
	node, modules := proofNPM(t, proofSDK)
	p := proofGateway(t, "")
	cmd := exec.CommandContext(t.Context(), node, "testdata/sdk_client.mjs", filepath.Join(modules, "@modelcontextprotocol/sdk/dist/esm"), p.url+"/s/two/mcp", fmt.Sprint(proofLater.Milliseconds()))
	cmd.Env = append(os.Environ(), "BROWSER="+p.browserScript())
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != `["said read","said later"]` {
		t.Errorf("%v: %s\n%s", err, got, complaint.String())
	}
	if p.saw.count("POST /register 201") != 1 {
		t.Error("the client did not register once")
	}
	p.refreshed(1)
}

// proofGoSDK connects a client on the Go SDK, with the SDK's own handler of
// authorization, which registers for the grants that are named (none: the default) and
// asks for a refresh token if that is one of them.
func proofGoSDK(p *program, server string, grants ...string) (*mcp.ClientSession, *auth.AuthorizationCodeHandler) {
	p.t.Helper()
	const callback = "http://127.0.0.1:33418/callback"
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK proof", RedirectURIs: []string{callback}, GrantTypes: grants, TokenEndpointAuthMethod: "none"}},
		RedirectURL: callback, RequestRefreshToken: slices.Contains(grants, "refresh_token"),
		AuthorizationCodeFetcher: func(_ context.Context, a *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			at, err := newPerson(p).visit(a.URL, true)
			if err != nil {
				return nil, err
			}
			return &auth.AuthorizationResult{Code: at.Query().Get("code"), State: at.Query().Get("state"), Iss: at.Query().Get("iss")}, nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := mcp.NewClient(&mcp.Implementation{Name: "proof", Version: "1"}, nil).Connect(p.t.Context(), &mcp.StreamableClientTransport{Endpoint: p.url + "/s/" + server + "/mcp", OAuthHandler: handler}, nil)
	if err != nil {
		p.t.Fatalf("%v\n%s\n%s", err, p.saw, p.log)
	}
	return s, handler
}

// TestGAS1_GoSDK: a client on the Go SDK with the SDK's own handler of
// authorization, with registration, step-up and refresh.
func TestGAS1_GoSDK(t *testing.T) {
	t.Parallel()
	p := proofGateway(t, "")
	s, _ := proofGoSDK(p, "two", "authorization_code", "refresh_token")
	defer s.Close()
	call := func(tool, text string) {
		t.Helper()
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": text}})
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, p.saw, p.log)
		}
		if got := res.Content[0].(*mcp.TextContent).Text; got != "said "+text {
			t.Error(got)
		}
	}
	if tools, err := s.ListTools(t.Context(), nil); err != nil || len(tools.Tools) != 2 {
		t.Fatalf("%v %v", tools, err)
	}
	call("look", "read")
	call("wipe", "wipe")
	time.Sleep(proofLater)
	call("wipe", "later")
	p.refreshed(2)
}

// remote is mcp-remote between us and the gateway, speaking over stdio.
type remote struct {
	t    *testing.T
	in   *json.Encoder
	out  *bufio.Scanner
	note *lockedBuffer
	saw  *witness
	end  func() // at once
	id   int
}

func startRemote(t *testing.T, p *program, resource string, env []string, args ...string) *remote {
	t.Helper()
	node, modules := proofNPM(t, proofRemote)
	cmd := exec.Command(node, append([]string{filepath.Join(modules, "mcp-remote/dist/proxy.js"), resource}, args...)...)
	cmd.Env = append(append(os.Environ(), "BROWSER="+p.browserScript(), "MCP_REMOTE_CONFIG_DIR="+t.TempDir()), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{t: t, in: json.NewEncoder(in), out: bufio.NewScanner(out), note: &lockedBuffer{}, saw: p.saw, end: func() { _ = cmd.Process.Kill() }}
	r.out.Buffer(nil, 4<<20)
	cmd.Stderr = r.note
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.ask("initialize", map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "proof", "version": "1"}})
	r.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	return r
}

func (r *remote) send(v any) {
	r.t.Helper()
	if err := r.in.Encode(v); err != nil {
		r.t.Fatalf("%v\n%s", err, r.note)
	}
}

// ask sends a request and returns the result of its answer.
func (r *remote) ask(method string, params any) map[string]any {
	r.t.Helper()
	r.id++
	r.send(map[string]any{"jsonrpc": "2.0", "id": r.id, "method": method, "params": params})
	defer time.AfterFunc(patience, r.end).Stop() // with what it said until then
	for r.out.Scan() {
		var m struct {
			ID     any            `json:"id"`
			Result map[string]any `json:"result"`
			Error  any            `json:"error"`
		}
		if err := json.Unmarshal(r.out.Bytes(), &m); err != nil {
			r.t.Fatalf("%v: %s", err, r.out.Bytes())
		}
		if m.ID != float64(r.id) {
			continue // something the server says by itself
		}
		if m.Error != nil {
			r.t.Fatalf("%s: %v\n%s", method, m.Error, r.note)
		}
		return m.Result
	}
	r.t.Fatalf("%s: no answer\n%s\n%s", method, r.note, r.saw)
	return nil
}

func (r *remote) call(tool string, arguments map[string]any, want string) {
	r.t.Helper()
	res := r.ask("tools/call", map[string]any{"name": tool, "arguments": arguments})
	if got, _ := json.Marshal(res); !strings.Contains(string(got), want) {
		r.t.Errorf("%s: %s", tool, got)
	}
}

// TestGAS1_McpRemote: mcp-remote registers itself, steps up and refreshes.
func TestGAS1_McpRemote(t *testing.T) {
	t.Parallel()
	p := proofGateway(t, "")
	r := startRemote(t, p, p.url+"/s/two/mcp", nil, proofPort(t), "--host", "127.0.0.1")
	r.ask("tools/list", map[string]any{})
	r.call("look", map[string]any{"text": "read"}, "said read")
	r.call("wipe", map[string]any{"text": "wipe"}, "said wipe")
	time.Sleep(proofLater)
	r.call("wipe", map[string]any{"text": "later"}, "said later")
	if p.saw.count("POST /register 201") != 1 || !strings.Contains(p.saw.String(), "mcp:destroy 200") {
		t.Errorf("not one registration and a step-up:\n%s", p.saw)
	}
	p.refreshed(2)
}

// TestGAS1_McpRemoteDocument: mcp-remote with a client metadata document, served
// with TLS by a server whose certificate the gateway's system trusts.
func TestGAS1_McpRemoteDocument(t *testing.T) {
	t.Parallel()
	doc, roots := clientDocument(t)
	p := proofGateway(t, "", "SSL_CERT_FILE="+roots)
	port := proofPort(t)
	id := doc("http://127.0.0.1:" + port + "/oauth/callback")
	r := startRemote(t, p, p.url+"/s/two/mcp", nil, port, "--host", "127.0.0.1", "--client-metadata-url", id)
	r.call("look", map[string]any{"text": "read"}, "said read")
	time.Sleep(proofLater)
	r.call("look", map[string]any{"text": "later"}, "said later")
	if p.saw.count("POST /register") != 0 {
		t.Errorf("it registered:\n%s", p.saw)
	}
	p.refreshed(1)
}

// clientDocument serves client metadata documents and returns a function that
// makes one, and the file with the certificate to trust.
func clientDocument(t *testing.T) (doc func(redirect string) string, roots string) {
	t.Helper()
	var body []byte
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	cert, roots := proofCertificate(t, "localhost")
	srv.TLS = cert
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	id := (&url.URL{Scheme: "https", Host: "localhost:" + port, Path: "/client.json"}).String()
	return func(redirect string) string {
		body, err = json.Marshal(map[string]any{"client_id": id, "client_name": "Document proof", "redirect_uris": []string{redirect},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}, roots
}

// TestGPX3_McpRemoteEverything: mcp-remote through the aggregate to the reference
// server, which runs in the box as a child of the gateway.
func TestGPX3_McpRemoteEverything(t *testing.T) {
	t.Parallel()
	node, modules := proofNPM(t, proofEverything)
	p := proofGateway(t, fmt.Sprintf("  every:\n    command: [%q, %q, stdio]\n    read: [%q, %q]\n", node, filepath.Join(modules, "@modelcontextprotocol/server-everything/dist/index.js"), node, modules))
	r := startRemote(t, p, p.url+"/mcp", nil, proofPort(t), "--host", "127.0.0.1")
	if tools, _ := json.Marshal(r.ask("tools/list", map[string]any{})); !strings.Contains(string(tools), `"every__echo"`) || !strings.Contains(string(tools), `"two__look"`) {
		t.Errorf("tools: %.2000s\n%s", tools, p.log)
	}
	r.call("every__echo", map[string]any{"message": "read"}, "Echo: read")
	r.call("two__look", map[string]any{"text": "read"}, "said read")
	time.Sleep(proofLater)
	r.call("every__echo", map[string]any{"message": "later"}, "Echo: later")
	if p.saw.count("POST /token refresh_token 200") == 0 {
		t.Error("no refresh")
	}
}

// inspect runs the Inspector's command line once, which calls the tool that reads.
func inspect(t *testing.T, p *program, kept, browser, text string, args ...string) {
	t.Helper()
	node, modules := proofNPM(t, proofInspector)
	cmd := exec.CommandContext(t.Context(), node, append([]string{filepath.Join(modules, "@modelcontextprotocol/inspector/clients/launcher/build/index.js"), "--cli", p.url + "/s/two/mcp",
		"--transport", "http", "--method", "tools/call", "--tool-name", "look", "--tool-arg", "text=" + text, "--format", "json"}, args...)...)
	cmd.Env = append(os.Environ(), "BROWSER="+browser, "MCP_AUTO_OPEN_ENABLED=true", "MCP_STORAGE_DIR="+kept, "MCP_INSPECTOR_SECRET_STORE=file", "HOME="+kept)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "said "+text) {
		t.Fatalf("%v\n%s\n%s\n%s", err, out, p.saw, p.log)
	}
}

// TestGAS1_Inspector: the Inspector's command line registers itself, calls a tool,
// and refreshes at a later run with what it kept.
func TestGAS1_Inspector(t *testing.T) {
	t.Parallel()
	p := proofGateway(t, "")
	kept, browser := t.TempDir(), p.browserScript()
	callback := "http://127.0.0.1:" + proofPort(t) + "/oauth/callback"
	inspect(t, p, kept, browser, "read", "--callback-url", callback)
	time.Sleep(proofLater)
	inspect(t, p, kept, browser, "later", "--callback-url", callback)
	if p.saw.count("POST /register 201") != 1 {
		t.Errorf("not one registration:\n%s", p.saw)
	}
	p.refreshed(1)
}

// TestGAS1_InspectorDocument: the same with a client metadata document.
func TestGAS1_InspectorDocument(t *testing.T) {
	t.Parallel()
	doc, roots := clientDocument(t)
	p := proofGateway(t, "", "SSL_CERT_FILE="+roots)
	kept, browser := t.TempDir(), p.browserScript()
	callback := "http://127.0.0.1:" + proofPort(t) + "/oauth/callback"
	id := doc(callback)
	inspect(t, p, kept, browser, "read", "--callback-url", callback, "--client-metadata-url", id)
	time.Sleep(proofLater)
	inspect(t, p, kept, browser, "later", "--callback-url", callback, "--client-metadata-url", id)
	if p.saw.count("POST /register") != 0 {
		t.Errorf("it registered:\n%s", p.saw)
	}
	p.refreshed(1)
}
