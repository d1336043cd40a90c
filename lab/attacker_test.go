package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// The tests attack the lab over HTTP with their own small browser, which keeps
// Secure cookies on loopback http as real ones do and never follows by itself.

const (
	testRedirect = "http://127.0.0.1:4711/callback/n1"
	testVerifier = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
	foreign      = "https://n1.kidoban-probe.invalid/cb"
)

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("not JSON (%d): %s", a.status, a.body)
	}
	return m
}

type agent struct {
	t       *testing.T
	l       *Lab
	rt      *http.Transport              // no client: it would refuse the odd Locations that the attacks are about
	cookies map[string]map[string]string // host:port → name → value
	skew    *atomic.Int64                // moves the lab's clock
}

func startLab(t *testing.T, o Options) *Lab {
	t.Helper()
	l, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newAgent(t *testing.T, l *Lab) *agent {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.CACert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	return &agent{t: t, l: l, rt: tr, cookies: map[string]map[string]string{}}
}

func (b *agent) send(method, to, contentType, body string, h http.Header) answer {
	b.t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range h {
		req.Header[k] = v
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if host := h.Get("Host"); host != "" {
		req.Host = host
	}
	for k, v := range b.cookies[req.URL.Host] {
		req.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	res, err := b.rt.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	for _, c := range res.Cookies() {
		jar := b.cookies[req.URL.Host]
		if jar == nil {
			jar = map[string]string{}
			b.cookies[req.URL.Host] = jar
		}
		jar[c.Name] = c.Value
	}
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return answer{res.StatusCode, res.Header, string(raw)}
}

func (b *agent) get(to string) answer { b.t.Helper(); return b.send("GET", to, "", "", nil) }

func (b *agent) form(to string, v url.Values) answer {
	b.t.Helper()
	return b.send("POST", to, "application/x-www-form-urlencoded", v.Encode(), nil)
}

func (b *agent) json(method, to string, v any, h http.Header) answer {
	b.t.Helper()
	var buf bytes.Buffer
	json.NewEncoder(&buf).Encode(v)
	return b.send(method, to, "application/json", buf.String(), h)
}

// register registers a public client, with changes to the usual metadata.
func (b *agent) register(change map[string]any) answer {
	b.t.Helper()
	m := map[string]any{
		"client_name": "Attacker's probe", "redirect_uris": []string{testRedirect}, "application_type": "native",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none", "scope": scopeRead,
	}
	for k, v := range change {
		m[k] = v
	}
	return b.json("POST", b.l.Issuer+"/register", m, nil)
}

// client registers and returns the id.
func (b *agent) client(change map[string]any) string {
	b.t.Helper()
	a := b.register(change)
	if a.status != http.StatusCreated {
		b.t.Fatalf("registration: %d %s", a.status, a.body)
	}
	return a.json(b.t)["client_id"].(string)
}

// request is a correct authorization request for a client.
func (b *agent) request(id string) url.Values {
	return url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {testRedirect}, "scope": {scopeRead}, "state": {"state-0123456789"},
		"code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"}, "resource": {b.l.MCPURL},
	}
}

func (b *agent) authorize(v url.Values) answer {
	b.t.Helper()
	return b.get(b.l.Issuer + "/authorize?" + v.Encode())
}

var hiddenRE = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// fields are the hidden fields of a page's form.
func fields(page string) url.Values {
	v := url.Values{}
	for _, m := range hiddenRE.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], m[2])
	}
	return v
}

// follow goes on from an answer until the browser would leave for the client: it
// logs in as user and answers the decision page. Where the upstream is in the way
// it logs in there. It returns the last answer and the pages it saw.
func (b *agent) follow(a answer, user, decision string) (answer, []string) {
	b.t.Helper()
	var seen []string
	at, _ := url.Parse(b.l.Issuer + "/authorize")
	for range 30 {
		if loc := a.header.Get("Location"); loc != "" && a.status < 400 {
			u, err := at.Parse(loc)
			if err != nil {
				b.t.Fatal(err)
			}
			if !b.ours(u) {
				return a, seen
			}
			seen = append(seen, u.Path)
			at, a = u, b.get(u.String())
			continue
		}
		f := fields(a.body)
		switch {
		case strings.Contains(a.body, `name="password"`):
			f.Set("username", user)
			f.Set("password", user+"-lab-password")
		case strings.Contains(a.body, `name="decision"`):
			seen = append(seen, "decision")
			f.Set("decision", decision)
		default:
			return a, seen
		}
		to, _ := at.Parse(regexp.MustCompile(`action="([^"]+)"`).FindStringSubmatch(a.body)[1])
		at, a = to, b.form(to.String(), f)
	}
	b.t.Fatal("the flow does not end")
	return a, seen
}

// ours tells whether a URL is a page of the lab's servers.
func (b *agent) ours(u *url.URL) bool {
	for _, base := range []string{b.l.base, b.l.UpstreamURL, b.l.noise} {
		if base != "" && strings.HasPrefix(u.String(), base) {
			return true
		}
	}
	return false
}

// code runs a whole authorization and returns the code, "" when there was none.
func (b *agent) code(v url.Values, user string) string {
	b.t.Helper()
	a, _ := b.follow(b.authorize(v), user, "approve")
	return a.location(b.t).Query().Get("code")
}

func (b *agent) token(v url.Values) answer {
	b.t.Helper()
	return b.form(b.l.Issuer+"/token", v)
}

func (b *agent) redeem(id, code string, change url.Values) answer {
	b.t.Helper()
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {id}, "code_verifier": {testVerifier}, "redirect_uri": {testRedirect}}
	for k, x := range change {
		if len(x) == 0 {
			v.Del(k)
			continue
		}
		v[k] = x
	}
	return b.token(v)
}

// login gets tokens for user with a fresh client.
func (b *agent) login(user string, change url.Values) (id string, tokens map[string]any) {
	b.t.Helper()
	id = b.client(nil)
	v := b.request(id)
	for k, x := range change {
		v[k] = x
	}
	a := b.redeem(id, b.code(v, user), nil)
	if a.status != http.StatusOK {
		b.t.Fatalf("token: %d %s", a.status, a.body)
	}
	return id, a.json(b.t)
}

func str(m map[string]any, k string) string { s, _ := m[k].(string); return s }

// modern sends one request of the stateless era.
func (b *agent) modern(to, bearer, method string, params map[string]any, h http.Header) answer {
	b.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	params["_meta"] = map[string]any{"io.modelcontextprotocol/protocolVersion": revModern, "io.modelcontextprotocol/clientCapabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}, "url": map[string]any{}}}}
	head := http.Header{"Mcp-Protocol-Version": {revModern}, "Mcp-Method": {method}, "Accept": {"application/json, text/event-stream"}}
	if name, ok := params["name"].(string); ok {
		head.Set("Mcp-Name", name)
	}
	if bearer != "" {
		head.Set("Authorization", "Bearer "+bearer)
	}
	for k, v := range h {
		head[k] = v
	}
	return b.json("POST", to, map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, head)
}

// call calls a tool and returns its text.
func (b *agent) call(bearer, tool string, args map[string]any) string {
	b.t.Helper()
	a := b.modern(b.l.MCPURL, bearer, "tools/call", map[string]any{"name": tool, "arguments": args}, nil)
	return said1(a)
}

func said1(a answer) string {
	var m struct {
		Result struct {
			Content []struct{ Text string }
		}
	}
	json.Unmarshal([]byte(a.body), &m)
	if len(m.Result.Content) == 0 {
		return ""
	}
	return m.Result.Content[0].Text
}

func (b *agent) toolsOpen(bearer string) bool {
	b.t.Helper()
	return strings.Contains(b.modern(b.l.MCPURL, bearer, "tools/list", nil, nil).body, `"tools":[`)
}
