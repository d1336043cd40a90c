package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/store"
)

// TestMain lets the test binary be the box's helper stage, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "__sandbox" {
		os.Exit(sandbox.Stage(os.Args[2:]))
	}
	if len(os.Args) > 1 && slices.Contains([]string{"bench", "gateway", "report", "tools"}, os.Args[1]) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // as the program does
		defer stop()
		os.Exit(run(&env{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "normal-client" {
		os.Exit(beNormal())
	}
	if len(os.Args) > 2 && os.Args[1] == "isolation-end" {
		os.Exit(beIsolationEnd(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "roaming-server" {
		if err := roamingServer().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The parallel tests of this package wait for clocks, not for processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// running is kidoban gateway in this process.
type running struct {
	t       *testing.T
	url     string
	data    string
	config  string
	link    string // set-up
	stop    func()
	done    chan int
	stderr  *lockedBuffer
	browser *http.Client
}

// lockedBuffer is written by the program and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startGateway(t *testing.T, config string) *running {
	t.Helper()
	at, err := freeport.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	addr := at.String()
	dir := t.TempDir()
	g := &running{t: t, url: "http://" + addr, data: filepath.Join(dir, "data"), config: filepath.Join(dir, "kidoban.yaml"), done: make(chan int, 1), stderr: &lockedBuffer{}}
	g.write(config)
	g.start(addr)
	return g
}

func (g *running) write(config string) {
	g.t.Helper()
	if err := os.WriteFile(g.config, []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// start runs the program until stop, and waits until it is ready.
func (g *running) start(addr string) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	go func() {
		code := run(&env{ctx: ctx, stdin: strings.NewReader(""), stdout: w, stderr: g.stderr}, []string{"gateway", "--config", g.config, "--data", g.data, "--listen", addr})
		w.Close()
		g.done <- code
	}()
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case code := <-g.done:
				if code != exitClean {
					g.t.Errorf("exit %d: %s", code, g.stderr)
				}
			case <-time.After(patience):
				g.t.Error("the gateway does not end")
			}
		})
	}
	g.t.Cleanup(g.stop)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http") && strings.Contains(line, "/setup") {
			g.link = line
		} else if strings.HasPrefix(line, "{\"mcpServers\"") {
			break
		}
	}
	go io.Copy(io.Discard, r)
	if !within(patience, func() bool {
		resp, err := http.Get(g.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}) {
		g.t.Fatalf("the gateway is not ready: %s", g.stderr)
	}
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`)
var choices = regexp.MustCompile(`name="scope_choice" value="([^"]+)"`)

// page gets a page of the gateway in the person's browser.
func (g *running) page(target string, form url.Values) (body string, resp *http.Response) {
	g.t.Helper()
	var err error
	if form == nil {
		resp, err = g.browser.Get(target)
	} else {
		resp, err = g.browser.PostForm(target, form)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(raw), resp
}

func fields(page string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	return v
}

// setUp makes the first account and logs its browser in.
func (g *running) setUp() {
	g.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	// The jar's cookies are __Host- and so Secure; on loopback browsers send them
	// over http all the same.
	g.browser = &http.Client{Jar: loopbackJar{jar}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	body, _ := g.page(g.link, nil)
	v := fields(body)
	v.Set("name", "alice")
	v.Set("password", "correct horse battery staple")
	v.Set("again", "correct horse battery staple")
	if _, resp := g.page(g.url+"/setup", v); resp.StatusCode != http.StatusSeeOther {
		g.t.Fatalf("set-up: %d", resp.StatusCode)
	}
}

type loopbackJar struct{ http.CookieJar }

func secured(u *url.URL) *url.URL { c := *u; c.Scheme = "https"; return &c }

func (j loopbackJar) SetCookies(u *url.URL, c []*http.Cookie) {
	j.CookieJar.SetCookies(secured(u), c)
}
func (j loopbackJar) Cookies(u *url.URL) []*http.Cookie { return j.CookieJar.Cookies(secured(u)) }

// token runs registration, consent and code exchange for a resource.
func (g *running) token(resource, scope string) string {
	g.t.Helper()
	const callback = "http://127.0.0.1:33418/callback"
	resp, err := http.Post(g.url+"/register", "application/json", strings.NewReader(`{"client_name":"a test","redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"none"}`))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	var client struct {
		ID string `json:"client_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&client); err != nil || client.ID == "" {
		g.t.Fatalf("registration: %d %v", resp.StatusCode, err)
	}
	verifier := oauth.NewVerifier(rand.Reader)
	q := url.Values{"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {callback}, "state": {"s"}, "scope": {scope},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "resource": {resource}}
	body, _ := g.page(g.url+"/authorize?"+q.Encode(), nil)
	v := fields(body)
	for _, m := range choices.FindAllStringSubmatch(body, -1) {
		v.Add("scope_choice", m[1])
	}
	v.Set("decision", "approve")
	_, answer := g.page(g.url+"/authorize/consent", v)
	back, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		g.t.Fatalf("no code: %d %s", answer.StatusCode, answer.Header.Get("Location"))
	}
	tok, err := http.PostForm(g.url+"/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {client.ID}, "code": {back.Query().Get("code")},
		"redirect_uri": {callback}, "code_verifier": {verifier}, "resource": {resource}})
	if err != nil {
		g.t.Fatal(err)
	}
	defer tok.Body.Close()
	var t struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(tok.Body).Decode(&t); err != nil || t.Access == "" {
		g.t.Fatalf("token: %d %v", tok.StatusCode, err)
	}
	return t.Access
}

type withToken string

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(w))
	return http.DefaultTransport.RoundTrip(r)
}

func (g *running) connect(resource, token string) *mcp.ClientSession {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	s, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(ctx, &mcp.StreamableClientTransport{Endpoint: resource, HTTPClient: &http.Client{Transport: withToken(token)}}, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func echoServer(t *testing.T) (url string, seen *lockedBuffer) {
	t.Helper()
	s := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
	seen = &lockedBuffer{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(seen, r.Header)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL, seen
}

func sayEcho(t *testing.T, s *mcp.ClientSession, tool, text string) {
	t.Helper()
	res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": text}})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Content[0].(*mcp.TextContent).Text; got != text {
		t.Errorf("%q", got)
	}
}

// TestGatewayWholeWay: from an empty directory to a tool's result through real
// HTTP, as a person and a client do it; then a changed config, a restart, and a
// look for what must not lie about.
func TestGatewayWholeWay(t *testing.T) {
	up, seen := echoServer(t)
	config := "servers:\n  echo:\n    url: " + up + "\n    address: loopback\n"
	g := startGateway(t, config)
	if g.link == "" {
		t.Fatal("no set-up link was printed")
	}
	g.setUp()
	all, one := g.url+"/mcp", g.url+"/s/echo/mcp"
	wide, narrow := g.token(all, "mcp:write"), g.token(one, "mcp:write")
	s := g.connect(one, narrow)
	sayEcho(t, s, "echo", "hello")
	s.Close()
	s = g.connect(all, wide)
	sayEcho(t, s, "echo__echo", "hello all")
	s.Close()
	for resource, token := range map[string]string{one: wide, all: narrow} { // RS-05
		req, _ := http.NewRequest("POST", resource, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token of another resource at %s: %d", resource, resp.StatusCode)
		}
	}

	g.write("servers:\n  echo:\n    ulr: x\n")
	waitFor(t, func() bool { return strings.Contains(g.stderr.String(), "kidoban.yaml:3:5: ") })
	g.write(config + "  later:\n    url: " + up + "\n    address: loopback\n")
	waitFor(t, func() bool {
		resp, err := http.Get(g.url + "/.well-known/oauth-protected-resource/s/later/mcp")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	s = g.connect(one, narrow) // the old resource never noticed
	sayEcho(t, s, "echo", "still")
	s.Close()

	addr := strings.TrimPrefix(g.url, "http://")
	g.stop()
	g.done = make(chan int, 1)
	g.link = ""
	g.start(addr)
	if g.link != "" {
		t.Error("a second set-up link was printed")
	}
	s = g.connect(one, narrow) // tokens outlive a restart
	sayEcho(t, s, "echo", "again")
	s.Close()
	g.stop()

	db, err := store.Open(t.Context(), store.Options{URL: filepath.Join(g.data, "kidoban.db")})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := db.JournalEntries(t.Context(), "gateway", 0, 10_000)
	if err != nil || len(entries) < 10 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if err := gateway.VerifyChain(make([]byte, 32), entries); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	// G-VA1, G-VA4: no token in the log, at the server, or in the files.
	places := map[string]string{"the log": g.stderr.String(), "the server": seen.String()}
	err = filepath.WalkDir(g.data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		places[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range places {
		for _, secret := range []string{wide, narrow, "correct horse"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
}

// patience is how long tests wait for what must happen. It judges no speed: a busy
// machine takes its time.
const patience = 2 * time.Minute

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	if !within(patience, f) {
		t.Fatal("it did not happen")
	}
}

// within asks until the answer is yes, or the time is over.
func within(span time.Duration, f func() bool) bool {
	for deadline := time.Now().Add(span); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}

func TestBenchGatewayMeasuresAllThree(t *testing.T) {
	out, stderr, code := kidobanCmd(t, nil, "bench", "gateway", "--json", "--seconds", "0.2", "--conns", "1,16")
	if code != exitClean {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var r benchResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Ratio <= 0 || r.RSS <= 0 || len(r.Rows) != 2 || r.Rows[1].Gateway.Calls == 0 || r.Rows[1].Gateway.Fails != 0 {
		t.Errorf("%s", out)
	}
}

func TestVaultCommands(t *testing.T) {
	dir := t.TempDir()
	vaultCmd := func(stdin string, args ...string) (string, int) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(&env{ctx: t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}, append(append([]string{"vault"}, args...), "--data", dir))
		return out.String() + errs.String(), code
	}
	if out, code := vaultCmd("ghp_topsecret\n", "set", "github"); code != exitClean || strings.Contains(out, "topsecret") {
		t.Fatalf("%d %s", code, out)
	}
	if out, code := vaultCmd("", "rotate"); code != exitClean || !strings.Contains(out, "1 account and") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := vaultCmd("", "retire"); code != exitClean || !strings.Contains(out, "1 earlier key is") {
		t.Errorf("%d %s", code, out)
	}
	out, code := vaultCmd("", "status", "--json")
	if code != exitClean || !strings.Contains(out, `"server":"github"`) || strings.Contains(out, "topsecret") {
		t.Errorf("%d %s", code, out)
	}
	db, err := store.Open(t.Context(), store.Options{URL: filepath.Join(dir, "kidoban.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, err := openVault(t.Context(), gatewayConfig{VaultKey: "file:" + filepath.Join(dir, "vault.key")}, db)
	if err != nil {
		t.Fatal(err)
	}
	w := account.New(account.Options{Store: db, Vault: v})
	defer w.Close()
	if h, err := w.Credential(t.Context(), "", "github", false); err != nil || h[0].Value != "Bearer ghp_topsecret" {
		t.Errorf("%v %v", h, err)
	}
	if out, code := vaultCmd("", "remove", "github"); code != exitClean {
		t.Errorf("%d %s", code, out)
	}
	if _, code := vaultCmd("", "remove", "github"); code == exitClean {
		t.Error("removed twice")
	}
}
