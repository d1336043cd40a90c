package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// proofProvider is an authorization server made by others.
const proofProvider = "oidc-provider@9.13.3"

// foreignServer is a remote MCP server that needs OAuth, and its authorization
// server, which is oidc-provider.
type foreignServer struct {
	url, issuer string
	said        *lockedBuffer // by the authorization server
	heard       *lockedBuffer // Authorization headers, by the MCP server
}

// startForeign starts both; life is that of an access token.
func startForeign(t *testing.T, life time.Duration) *foreignServer {
	t.Helper()
	node, modules := proofNPM(t, proofProvider)
	port := proofPort(t)
	f := &foreignServer{issuer: "http://127.0.0.1:" + port, said: &lockedBuffer{}, heard: &lockedBuffer{}}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	f.url = srv.URL + "/mcp"
	mux.HandleFunc("/.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"resource": f.url, "authorization_servers": []string{f.issuer}, "scopes_supported": []string{"read"}})
	})
	s := mcp.NewServer(&mcp.Implementation{Name: "foreign", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "whoami", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "you are " + r.Extra.TokenInfo.UserID}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "look", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, func(_ context.Context, _ *mcp.CallToolRequest, a struct {
		Text string `json:"text"`
	}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "said " + a.Text}}}, nil, nil
	})
	protect := auth.RequireBearerToken(f.verify, &auth.RequireBearerTokenOptions{ResourceMetadataURL: srv.URL + "/.well-known/oauth-protected-resource/mcp", Scopes: []string{"read"}})
	mux.Handle("/mcp", protect(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)))
	cmd := exec.Command(node, "testdata/oidc_provider.mjs", filepath.Join(modules, "oidc-provider"), port, f.url, fmt.Sprint(int(life.Seconds())))
	cmd.Stdout, cmd.Stderr = f.said, f.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if !within(patience, func() bool { return strings.Contains(f.said.String(), "ready") }) {
		t.Fatalf("oidc-provider does not start: %s", f.said)
	}
	return f
}

// verify checks a token as a resource server should: signature, issuer, audience.
func (f *foreignServer) verify(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
	fmt.Fprintln(f.heard, token)
	resp, err := http.Get(f.issuer + "/jwks")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
	}
	var c jwt.Claims
	if err := parsed.Claims(keys, &c); err != nil {
		return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: f.issuer, AnyAudience: jwt.Audience{f.url}}, 0); err != nil {
		return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
	}
	return &auth.TokenInfo{UserID: c.Subject, Scopes: []string{"read"}, Expiration: c.Expiry.Time()}, nil
}

// TestGVA3_RemoteServerBehindAnotherAuthorizationServer: the gateway finds the
// authorization server of a remote MCP server, registers there, and takes the
// person through consent, the connect page and that server's own login; then
// mcp-remote, the Go SDK and the TypeScript SDK call through it, also after the
// upstream's token has run out. No token crosses from one side to the other.
func TestGVA3_RemoteServerBehindAnotherAuthorizationServer(t *testing.T) {
	t.Parallel()
	f := startForeign(t, 4*time.Second)
	p := startProgram(t, "servers:\n  foreign:\n    title: The foreign server\n    url: "+f.url+"\n    address: loopback\n    account: user\n    oauth: {discover: true}\n")
	p.beyond = []string{strings.TrimPrefix(f.issuer, "http://")}
	newPerson(p).firstAccount()
	r := startRemote(t, p, p.url+"/s/foreign/mcp", nil, proofPort(t), "--host", "127.0.0.1")
	r.call("whoami", map[string]any{}, "you are alice-at-the-provider")
	time.Sleep(6 * time.Second) // the upstream's token is over
	r.call("whoami", map[string]any{}, "you are alice-at-the-provider")
	within(patience, func() bool { return strings.Contains(f.said.String(), "refresh") }) // it comes through a pipe
	if said := f.said.String(); strings.Count(said, "registered") != 1 || strings.Count(said, "code") != 1 || !strings.Contains(said, "refresh") {
		t.Errorf("the authorization server saw:\n%s", said)
	}

	var mine string
	s, handler := proofGoSDK(p, "foreign")
	defer s.Close()
	res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil || res.Content[0].(*mcp.TextContent).Text != "you are alice-at-the-provider" {
		t.Errorf("%v %v", res, err)
	}
	if src, err := handler.TokenSource(t.Context()); err == nil && src != nil {
		if tok, err := src.Token(); err == nil {
			mine = tok.AccessToken
		}
	}
	if mine == "" || strings.Contains(f.heard.String(), mine) {
		t.Errorf("the client's token %.10q… went up", mine)
	}
	node, modules := proofNPM(t, proofSDK)
	ts := exec.CommandContext(t.Context(), node, "testdata/sdk_client.mjs", filepath.Join(modules, "@modelcontextprotocol/sdk/dist/esm"), p.url+"/s/foreign/mcp", "5000")
	ts.Env = append(os.Environ(), "BROWSER="+p.browserScript())
	if out, err := ts.CombinedOutput(); err != nil || !strings.Contains(string(out), `["said read","said later"]`) {
		t.Errorf("TypeScript SDK: %v %s", err, out)
	}
	p.keepsNo(strings.Fields(f.heard.String()))
	if strings.Count(f.said.String(), "registered") != 1 {
		t.Error("the second client led to a second registration of the gateway")
	}
}

// keepsNo fails when one of the secrets stands in the log or in a file of the
// data directory.
func (p *program) keepsNo(secrets []string) {
	p.t.Helper()
	log := p.log.String()
	for _, s := range secrets {
		if strings.Contains(log, s) {
			p.t.Errorf("the log holds %.12s…", s)
		}
	}
	err := filepath.WalkDir(p.data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, s := range secrets {
			if strings.Contains(string(raw), s) {
				p.t.Errorf("%s holds %.12s…", filepath.Base(path), s)
			}
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
}
