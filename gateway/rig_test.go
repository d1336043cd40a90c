package gateway

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// issuer is an authorization server reduced to its key and its memory of what
// was revoked.
type issuer struct {
	url  string
	priv ed25519.PrivateKey
	jwk  jose.JSONWebKey

	mu   sync.Mutex
	dead map[string]bool
	away error
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{priv: priv, jwk: jose.JSONWebKey{Key: pub, KeyID: "k1", Algorithm: "EdDSA", Use: "sig"}, dead: map[string]bool{}}
}

func (i *issuer) Lookup(kid string) (jose.JSONWebKey, bool) { return i.jwk, kid == i.jwk.KeyID }

func (i *issuer) Live(grant, id string) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.dead[grant] && !i.dead[id], i.away
}

func (i *issuer) revoke(grant string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.dead[grant] = true
}

// token signs claims over the given defaults.
func (i *issuer) token(t testing.TB, resource, user string, change func(m map[string]any)) string {
	t.Helper()
	return i.sign(t, "at+jwt", i.claims(resource, user, change))
}

func (i *issuer) claims(resource, user string, change func(m map[string]any)) map[string]any {
	now := time.Now()
	m := map[string]any{"iss": i.url, "aud": resource, "sub": user, "client_id": "client-1", "jti": "j-" + user, "kidoban_grant": "g-" + user,
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "scope": "mcp:write"}
	if change != nil {
		change(m)
	}
	return m
}

func (i *issuer) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: i.priv}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", i.jwk.KeyID))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// rig is a gateway on loopback before real servers.
type rig struct {
	t      testing.TB
	g      *Gateway
	as     *issuer
	url    string // public URL
	http   *httptest.Server
	config Config
}

type rigOption func(*Config, *Deps)

func newRig(t testing.TB, servers []Server, options ...rigOption) *rig {
	t.Helper()
	r := &rig{t: t, as: newIssuer(t)}
	r.http = httptest.NewUnstartedServer(nil)
	r.url = "http://" + r.http.Listener.Addr().String()
	r.as.url = r.url
	r.config = Config{PublicURL: r.url, Servers: servers, Implies: map[string][]string{"mcp:write": {"mcp:read"}, "mcp:destroy": {"mcp:write", "mcp:read"}}}
	d := Deps{Keys: r.as, Liveness: r.as, StateKey: bytes.Repeat([]byte{7}, 32)}
	for _, o := range options {
		o(&r.config, &d)
	}
	g, err := New(r.config, d)
	if err != nil {
		t.Fatal(err)
	}
	r.g = g
	r.http.Config.Handler = g
	r.http.Start()
	t.Cleanup(func() { r.http.CloseClientConnections(); r.http.Close(); g.Close() })
	return r
}

// stoppable is the machine's clock until it is stopped: rates and rests do not heal
// while a busy machine plays the test.
type stoppable struct {
	mu   sync.Mutex
	at   time.Time // guarded by mu; zero while it runs
	skip time.Duration
}

func (s *stoppable) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() {
		return time.Now()
	}
	return s.at.Add(s.skip)
}

func (s *stoppable) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Now()
}

func (s *stoppable) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skip += d
}

func (r *rig) resource(name string) string { return r.url + "/s/" + name + "/mcp" }

func (r *rig) token(name, user string) string {
	return r.as.token(r.t, r.resource(name), user, nil)
}

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) rpc(t testing.TB) (code int, message string) {
	t.Helper()
	var m struct {
		Error struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return m.Error.Code, m.Error.Message
}

// do sends a request with headers given as pairs; "Host" sets the host.
func (r *rig) do(method, url, body string, header ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if method == http.MethodPost && !slices.Contains(header, "Content-Type") {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Add(header[i], header[i+1])
		}
	}
	resp, err := r.http.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

// post sends an authorized message to a server.
func (r *rig) post(name, user, body string, header ...string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, r.resource(name), body, append([]string{"Authorization", "Bearer " + r.token(name, user)}, header...)...)
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	listTools  = `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`
)

// modern builds a modern request and its mirrored headers.
func modern(method, params string, name string) (body string, header []string) {
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}}},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}`
	if params != "" {
		params = "," + params
	}
	header = []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	if name != "" {
		header = append(header, "Mcp-Name", name)
	}
	return `{"jsonrpc":"2.0","id":"m1","method":"` + method + `","params":{` + meta + params + `}}`, header
}

// raw is a server that answers as the test says and keeps what it was sent.
type raw struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct {
	method string
	header http.Header
	body   string
}

func newRaw(t testing.TB, handle func(w http.ResponseWriter, r *http.Request, body string)) *raw {
	t.Helper()
	s := &raw{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen = append(s.seen, seen{r.Method, r.Header.Clone(), string(b)})
		s.mu.Unlock()
		handle(w, r, string(b))
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func (s *raw) last() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		return seen{}
	}
	return s.seen[len(s.seen)-1]
}

func (s *raw) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// idOf reads the id of a request as raw text.
func idOf(body string) string {
	var m struct {
		ID json.RawMessage `json:"id"`
	}
	_ = json.Unmarshal([]byte(body), &m)
	return string(m.ID)
}

// result answers a request with a raw result.
func result(w http.ResponseWriter, body, res string) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"jsonrpc":"2.0","id":`+idOf(body)+`,"result":`+res+`}`)
}

// newLegacy is a server of the earlier era that begins sessions and takes what it is
// told; answer answers the rest, and tells whether it did. Else it has no stream.
func newLegacy(t testing.TB, capabilities string, answer func(w http.ResponseWriter, r *http.Request, body string) bool) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":`+capabilities+`,"serverInfo":{"name":"s","version":"1"}}`)
		case answer(w, r, body):
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

func at(name string, url string) Server { return Server{Name: name, URL: url, Loopback: true} }

// fixture is a server by the Go SDK with a few tools.
func fixture(name string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: name, Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "says it again", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, func(ctx context.Context, req *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "slow", Description: "reports progress"}, func(ctx context.Context, req *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		if token := req.Params.GetProgressToken(); token != nil {
			for i := range 3 {
				req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i), Total: 3})
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "ask", Description: "asks the user"}, func(ctx context.Context, req *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		res, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "your name?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}}}})
		if err != nil {
			return nil, nil, err
		}
		name, _ := res.Content["name"].(string)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello " + name}}}, nil, nil
	})
	if name == "http" {
		return s
	}
	mcp.AddTool(s, &mcp.Tool{Name: "pid"}, func(context.Context, *mcp.CallToolRequest, in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(os.Getpid())}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "env"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		v := os.Getenv(a.Text)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(len(v), " ", v)}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "die"}, func(context.Context, *mcp.CallToolRequest, in) (*mcp.CallToolResult, any, error) {
		os.Exit(3)
		return nil, nil, nil
	})
	s.AddResource(&mcp.Resource{URI: "test://note", Name: "note"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://note", Text: "a note"}}}, nil
	})
	return s
}

// sdkServer serves the fixture over streamable HTTP.
func sdkServer(t testing.TB, stateless bool) *httptest.Server {
	t.Helper()
	s := fixture("http")
	h := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: stateless}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return h
}

// bearer adds a token to every request of an SDK client.
type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

const crypto256 = crypto.SHA256

func sha256url(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// newShimProxy forwards to the gateway with alice's token. Host and Origin that
// name the shim itself become the gateway's; foreign ones stay as they are.
func newShimProxy(r *rig, name string) http.Handler {
	target, _ := url.Parse(r.url)
	return &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		own := p.In.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		_, port, _ := net.SplitHostPort(own)
		p.SetURL(target)
		p.Out.Host = p.In.Host
		if h, q, _ := net.SplitHostPort(p.In.Host); q == port && (h == "127.0.0.1" || h == "localhost") {
			p.Out.Host = target.Host
		}
		if o := p.In.Header.Get("Origin"); o == "http://"+own || o == "http://localhost:"+port {
			p.Out.Header.Set("Origin", r.url)
		}
		p.Out.Header.Set("Authorization", "Bearer "+r.token(name, "alice"))
	}}
}
