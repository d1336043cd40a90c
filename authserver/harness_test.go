package authserver_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/authserver/authtest"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

var cluster storetest.Cluster

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// recorder keeps events and alerts.
type recorder struct {
	mu     sync.Mutex
	events []authserver.Event
	alerts []authserver.Alert
}

func (r *recorder) Event(e authserver.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}
func (r *recorder) Alert(a authserver.Alert) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alerts = append(r.alerts, a)
}

func (r *recorder) alerted(kind kidoban.AlertKind) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.alerts {
		if a.Kind == kind {
			return true
		}
	}
	return false
}

func (r *recorder) list() []authserver.Alert {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]authserver.Alert(nil), r.alerts...)
}

// forget drops the events: a test that counts memory does not count its own.
func (r *recorder) forget() { r.mu.Lock(); defer r.mu.Unlock(); r.events = nil }

// detail is what the event of a request tells.
func (r *recorder) detail(id string) string {
	if !r.requestLogged(id) {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.RequestID == id {
			return e.Detail
		}
	}
	return ""
}

// requestLogged waits for the event of a request, which comes when all is done: the
// client may have the whole answer by then.
func (r *recorder) requestLogged(id string) bool {
	logged := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.ContainsFunc(r.events, func(e authserver.Event) bool { return e.RequestID == id })
	}
	for deadline := time.Now().Add(time.Minute); !logged(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// clock is a settable clock.
type clock struct {
	mu      sync.Mutex
	add     time.Duration
	stopped time.Time // zero while it runs
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.add)
	}
	return time.Now().Add(c.add)
}

// stop has it stand still: limits do not heal while a busy machine plays a flood.
func (c *clock) stop() { c.mu.Lock(); defer c.mu.Unlock(); c.stopped = time.Now() }

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add += d
}

// world is one running authorization server with its surroundings.
type world struct {
	t     testing.TB
	s     *authserver.Server
	store *store.DB
	url   string
	seen  *recorder
	clock *clock
	cfg   authserver.Config
	deps  authserver.Deps
	roots *x509.CertPool
	admin string // name and password of the one user
}

const password = "correct horse battery"

// unlimited are limits that no test reaches by accident.
func unlimited() limit.Limits {
	l := limit.Defaults()
	for _, x := range l.All() {
		x.Count, x.Burst = 1_000_000, 1_000_000
	}
	return l
}

// newWorld starts a server; change may alter its configuration and its
// surroundings before it starts.
func newWorld(t testing.TB, change func(*world)) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, url: "http://" + l.Addr().String(), seen: &recorder{}, clock: &clock{}, roots: x509.NewCertPool()}
	w.cfg = authserver.Config{Issuer: w.url, Limits: unlimited(), Resources: []authserver.Resource{
		{URI: w.url + "/mcp", Name: "All servers", Default: true}, {URI: w.url + "/s/files/mcp", Name: "Files"}}}
	w.cfg.Registration.RemoteHosts = []string{"*"} // so that what stands behind the first gate is tested too
	w.deps = authserver.Deps{Sealer: authtest.NewSealer(t), Observer: w.seen, Now: w.clock.now}
	if change != nil {
		change(w)
	}
	if w.store == nil {
		w.store = openStore(t, storetest.SQLite(t))
	}
	w.deps.Store = w.store
	if w.deps.Outbound == nil {
		w.deps.Outbound = outbound.New(outbound.Options{Lab: true, RootCAs: w.roots})
	}
	t.Cleanup(w.deps.Outbound.Close)
	w.s, err = authserver.New(t.Context(), w.cfg, w.deps)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: w.s}}
	srv.Start()
	t.Cleanup(func() { srv.Close(); w.s.Close() })
	return w
}

func openStore(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// browser is somebody's, in a world.
type browser struct {
	*authtest.Browser
	w *world
}

func (w *world) browser() *browser { return &browser{authtest.NewBrowser(w.t, w.url), w} }

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func (b *browser) do(method, target string, form url.Values, header ...string) answer {
	b.w.t.Helper()
	resp, text := b.Do(method, target, form, header...)
	return answer{resp, text}
}

func (b *browser) get(target string, header ...string) answer {
	b.w.t.Helper()
	return b.do("GET", target, nil, header...)
}

func (b *browser) post(target string, form url.Values, header ...string) answer {
	b.w.t.Helper()
	return b.do("POST", target, form, header...)
}

func (b *browser) clone() *browser { return &browser{b.Clone(), b.w} }

// hidden returns the hidden fields of a page.
func (a answer) hidden() url.Values { return authtest.Hidden(a.body) }

func (a answer) location(t testing.TB) *url.URL {
	t.Helper()
	u, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.Header.Get("Location") == "" {
		t.Fatalf("no redirect: %d %s\n%s", a.StatusCode, a.Header.Get("Location"), a.body)
	}
	return u
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("no JSON: %d %s", a.StatusCode, a.body)
	}
	return v
}

// person returns a browser with a login.
func (w *world) person() *browser {
	w.t.Helper()
	b := w.browser()
	if w.admin == "" {
		link, err := w.s.SetupLink(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		w.admin = "alice"
		page := b.get(link)
		v := page.hidden()
		v.Set("name", w.admin)
		v.Set("password", password)
		v.Set("again", password)
		if a := b.post("/setup", v); a.StatusCode != http.StatusSeeOther {
			w.t.Fatalf("set-up: %d %s", a.StatusCode, a.body)
		}
		return b
	}
	return w.login(w.admin)
}

// another makes one more user and returns a browser with its login.
func (w *world) another(name string) *browser {
	w.t.Helper()
	w.person()
	link, err := w.s.AddUser(w.t.Context(), name, false)
	if err != nil {
		w.t.Fatal(err)
	}
	b := w.browser()
	v := b.get(link).hidden()
	v.Set("password", password)
	v.Set("again", password)
	if a := b.post("/setup", v); a.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("set-up: %d %s", a.StatusCode, a.body)
	}
	return b
}

func (w *world) login(name string) *browser {
	w.t.Helper()
	b := w.browser()
	v := b.get("/login").hidden()
	v.Set("name", name)
	v.Set("password", password)
	if a := b.post("/login", v); a.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("login: %d %s", a.StatusCode, a.body)
	}
	return b
}

// app is an MCP client.
type app struct {
	w        *world
	id       string
	redirect string
	secret   string
	manage   string
	verifier string
}

const loopback = "http://127.0.0.1:33418/callback"

func (w *world) postJSON(path string, v any) answer {
	w.t.Helper()
	body, ok := v.(string)
	if !ok {
		raw, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		body = string(raw)
	}
	resp, err := http.Post(w.url+path, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return answer{resp, string(text)}
}

// register makes a self-registered public client.
func (w *world) register(name, redirect string) *app {
	w.t.Helper()
	a := w.postJSON("/register", map[string]any{"client_name": name, "redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}})
	if a.StatusCode != http.StatusCreated {
		w.t.Fatalf("registration: %d %s", a.StatusCode, a.body)
	}
	m := a.json(w.t)
	x := &app{w: w, id: m["client_id"].(string), redirect: redirect, verifier: oauth.NewVerifier(rand.Reader)}
	x.manage, _ = m["registration_access_token"].(string)
	return x
}

// params are the parameters of a good authorization request.
func (x *app) params() url.Values {
	return url.Values{"response_type": {"code"}, "client_id": {x.id}, "redirect_uri": {x.redirect}, "state": {"st-ate"}, "scope": {"mcp:read"},
		"code_challenge": {oauth.S256(x.verifier)}, "code_challenge_method": {"S256"}, "resource": {x.w.url + "/mcp"}}
}

// approve answers yes on a consent page.
func (b *browser) approve(page answer, more ...string) answer {
	b.w.t.Helper()
	v := page.hidden()
	v["scope_choice"] = scopesOf(page)
	v.Set("decision", "approve")
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return b.post("/authorize/consent", v)
}

var scopeBox = regexp.MustCompile(`name="scope_choice" value="([^"]+)"`)

func scopesOf(page answer) (out []string) {
	for _, m := range scopeBox.FindAllStringSubmatch(page.body, -1) {
		out = append(out, m[1])
	}
	return out
}

// code runs the flow up to the code.
func (x *app) code(b *browser, params url.Values) string {
	x.w.t.Helper()
	if params == nil {
		params = x.params()
	}
	a := b.approve(b.get("/authorize?" + params.Encode()))
	code := a.location(x.w.t).Query().Get("code")
	if code == "" {
		x.w.t.Fatalf("no code: %s", a.Header.Get("Location"))
	}
	return code
}

func (x *app) redeemForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {x.id}, "code": {code}, "redirect_uri": {x.redirect},
		"code_verifier": {x.verifier}, "resource": {x.w.url + "/mcp"}}
}

func (x *app) token(form url.Values, header ...string) answer {
	return x.w.browser().post("/token", form, header...)
}

// tokens runs the whole flow.
func (x *app) tokens(b *browser) map[string]any {
	x.w.t.Helper()
	a := x.token(x.redeemForm(x.code(b, nil)))
	if a.StatusCode != http.StatusOK {
		x.w.t.Fatalf("token: %d %s", a.StatusCode, a.body)
	}
	return a.json(x.w.t)
}

func (x *app) refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {x.id}, "refresh_token": {token}}
}

func wantError(t testing.TB, a answer, status int, code string) {
	t.Helper()
	if a.StatusCode != status || a.json(t)["error"] != code {
		t.Fatalf("got %d %s, want %d %s", a.StatusCode, a.body, status, code)
	}
}

// wantPage wants an error page and no redirect.
func wantPage(t testing.TB, a answer, status int) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("Location") != "" || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("got %d to %q, want a page with %d\n%s", a.StatusCode, a.Header.Get("Location"), status, a.body)
	}
}

func set(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, x := range v {
		out[k] = append([]string(nil), x...)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "\x00drop" {
			out.Del(pairs[i])
		} else {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return out
}

const drop = "\x00drop"
