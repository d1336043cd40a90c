package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/oauth"
)

// hostileProgram is the whole program before a hostile server whose accounts its
// users connect, and a person with the first account.
func hostileProgram(t *testing.T) (*program, *lab.Hostile, *person) {
	t.Helper()
	h, err := lab.OpenHostile("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	// Nobody is there to approve calls, and tokens are looked for, not flows.
	p := startProgram(t, "registration: {anonymous_scopes: ['mcp:read', 'mcp:write', offline_access]}\npolicy: {flow: off, destructive: allow}\nservers:\n  evil:\n    url: "+h.URL+"\n    address: loopback\n    account: user\n    oauth: {discover: true}\n")
	p.beyond = []string{strings.TrimPrefix(h.Issuer, "http://"), strings.TrimPrefix(h.Thief, "http://")}
	b := newPerson(p)
	b.firstAccount()
	return p, h, b
}

// asking registers a client and returns its id and its authorization request.
func (b *person) asking(resource string) (id, verifier string, q url.Values) {
	t := b.p.t
	t.Helper()
	const callback = "http://127.0.0.1:33418/callback"
	resp, err := http.Post(b.p.url+"/register", "application/json", strings.NewReader(`{"client_name":"a client","redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"none"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var client struct {
		ID string `json:"client_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&client); err != nil {
		t.Fatal(err)
	}
	verifier = oauth.NewVerifier(rand.Reader)
	return client.ID, verifier, url.Values{"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {callback}, "state": {"s"}, "scope": {"mcp:read mcp:write offline_access"},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "resource": {resource}}
}

// clientOf registers a client, sends the person through consent, and returns
// what the client then holds: code, verifier, access and refresh token.
func (b *person) clientOf(resource string) (code, verifier, access, refresh string) {
	t := b.p.t
	t.Helper()
	id, verifier, q := b.asking(resource)
	at, err := b.visit(b.p.url+"/authorize?"+q.Encode(), true)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.p.log)
	}
	code = at.Query().Get("code")
	tok, err := http.PostForm(b.p.url+"/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {code}, "redirect_uri": q["redirect_uri"], "code_verifier": {verifier}, "resource": {resource}})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Body.Close()
	var got struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(tok.Body).Decode(&got); err != nil || got.Access == "" || got.Refresh == "" {
		t.Fatalf("token: %d %+v %v", tok.StatusCode, got, err)
	}
	return code, verifier, got.Access, got.Refresh
}

// say sends one message with a client's token and returns the whole answer,
// header and all.
func (p *program) say(path, token, body string, header ...string) string {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprintln(resp.StatusCode, resp.Header, string(raw))
}

const (
	hostileCall   = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tell","arguments":{}}}`
	hostileModern = `{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}}},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}},"name":"tell","arguments":{}}}`
)

// TestGVA1_NoTokenCrosses: a server that repeats what it hears, in results and in
// errors, under every attack, in both eras and through the aggregate. What the
// client holds reaches neither server nor thief; what the servers gave out reaches
// neither client nor pages; nothing of either is in the log, the database or its
// write-ahead log.
func TestGVA1_NoTokenCrosses(t *testing.T) {
	t.Parallel()
	p, h, b := hostileProgram(t)
	h.Life = 3
	code, verifier, access, refresh := b.clientOf(p.url + "/s/evil/mcp")
	_, _, all, allRefresh := b.clientOf(p.url + "/mcp")
	mine := []string{code, verifier, access, refresh, all, allRefresh}
	var toClient, toPages strings.Builder
	talk := func() {
		for _, path := range []string{"/s/evil/mcp", "/mcp"} {
			token, name := access, "tell"
			if path == "/mcp" {
				token, name = all, "evil__tell"
			}
			for _, body := range []string{`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`,
				`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`, hostileCall, `{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"x://y"}}`} {
				toClient.WriteString(p.say(path, token, strings.Replace(body, `"name":"tell"`, `"name":"`+name+`"`, 1)))
			}
			toClient.WriteString(p.say(path, token, strings.Replace(hostileModern, `"name":"tell"`, `"name":"`+name+`"`, 1), "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", name))
		}
		for _, page := range []string{"/account", "/connect"} {
			body, resp, err := b.open(p.url+page, nil)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&toPages, resp.Header, body)
		}
	}
	talk()
	if !strings.Contains(toClient.String(), "heard ") || !strings.Contains(toClient.String(), "[removed]") {
		t.Fatalf("the server was not heard: %s", toClient.String())
	}
	for _, attack := range []string{"10-error", "15-elicit", "12-same", "7-mcp", "12-steps", "3-moved"} {
		h.Begin(attack)
		talk()
	}
	h.Begin("")
	time.Sleep(2 * time.Second) // tokens run out and are renewed
	talk()
	if len(h.Heard()) < 50 || len(h.Secrets()) < 6 {
		t.Fatalf("%d requests, %d secrets: too few to search", len(h.Heard()), len(h.Secrets()))
	}
	up := strings.Join(append(h.Heard(), h.Stolen()...), "\n")
	for _, s := range mine {
		if strings.Contains(up, s) {
			t.Errorf("%.16s… of the client reached the server", s)
		}
	}
	theirs := []string{}
	for _, s := range h.Secrets() {
		if !strings.HasPrefix(s, "hostile-client-") { // a name, not a secret
			theirs = append(theirs, s)
		}
	}
	for _, s := range theirs {
		if strings.Contains(toClient.String(), s) {
			t.Errorf("%s reached the client", s)
		}
		if strings.Contains(toPages.String(), s) {
			t.Errorf("%s reached a page", s)
		}
	}
	if got := h.Leaks(); len(got) > 0 {
		t.Errorf("the thief has %v", got)
	}
	p.keepsNo(append(theirs, mine...)) // with the write-ahead log, while it runs
	p.kill()
	p.keepsNo(append(theirs, mine...))
	if wal, err := os.Stat(filepath.Join(p.data, "kidoban.db-wal")); err != nil || wal.Size() == 0 {
		t.Errorf("there was no write-ahead log to search: %v", err)
	}
}

// stepOut sends the person off to the third party and returns the callback that
// would end the step.
func (b *person) stepOut() string {
	t := b.p.t
	t.Helper()
	page, _, err := b.open(b.p.url+"/connect", nil)
	if err != nil || !connectButton.MatchString(page) {
		t.Fatalf("no connect page: %v %.800s", err, page)
	}
	v := fields(page)
	v.Set("account", "evil")
	_, resp, err := b.open(b.p.url+"/connect", v)
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%v %v\n%s", resp, err, b.p.log)
	}
	_, resp, err = b.open(resp.Header.Get("Location"), nil)
	if err != nil || resp.Header.Get("Location") == "" {
		t.Fatalf("%v %v", resp, err)
	}
	return resp.Header.Get("Location")
}

func (b *person) connected() bool {
	page, _, err := b.open(b.p.url+"/connect", nil)
	if err != nil {
		b.p.t.Fatal(err)
	}
	return !connectButton.MatchString(page)
}

// TestE36_09_CallbacksBelongToTheBrowserThatBegan: no state, another state,
// another browser, a second time.
func TestE36_09_CallbacksBelongToTheBrowserThatBegan(t *testing.T) {
	t.Parallel()
	p, h, b := hostileProgram(t)
	back := b.stepOut()
	u, err := url.Parse(back)
	if err != nil || !strings.HasPrefix(back, p.url+"/connect/callback?") {
		t.Fatalf("%s: %v", back, err)
	}
	with := func(change func(q url.Values)) string {
		c, q := *u, u.Query()
		change(q)
		c.RawQuery = q.Encode()
		return c.String()
	}
	refused := func(what string, who *person, target string) {
		t.Helper()
		_, resp, err := who.open(target, nil)
		if err != nil || resp.StatusCode < 400 || b.connected() {
			t.Errorf("%s: %v %v", what, resp, err)
		}
	}
	refused("without state", b, with(func(q url.Values) { q.Del("state") }))
	refused("foreign state", b, with(func(q url.Values) { q.Set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") }))
	refused("another browser", newPerson(p), back)
	other := newPerson(p)
	if _, err := other.visit(p.url+"/account", false); err == nil {
		t.Log("the account page ends elsewhere")
	}
	refused("another browser of the same user", other, back)
	for _, r := range h.Heard() {
		if strings.HasPrefix(r, "POST /token") {
			t.Fatalf("a code was redeemed:\n%s", r)
		}
	}
	back = b.stepOut() // what was tried on the first step must not have ended another
	if _, resp, err := b.open(back, nil); err != nil || resp.StatusCode != http.StatusSeeOther || !b.connected() {
		t.Errorf("the right browser: %v %v", resp, err)
	}
	if _, resp, err := b.open(back, nil); err != nil || resp.StatusCode < 400 {
		t.Errorf("a second time: %v %v", resp, err)
	}
}

// TestE36_10_NothingOfTheOtherSideIsMarkup: errors at the callback, names of
// servers and tools. An answer of another issuer is not shown at all.
func TestE36_10_NothingOfTheOtherSideIsMarkup(t *testing.T) {
	t.Parallel()
	p, h, b := hostileProgram(t)
	clean := func(what, page string) {
		t.Helper()
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<b id=kidoban-markup") {
			t.Errorf("%s: markup of the other side: %.1500s", what, page)
		}
	}
	h.Begin("10-error")
	page, _, err := b.open(p.url+"/connect", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := fields(page)
	v.Set("account", "evil")
	page, resp, err := b.open(p.url+"/connect", v) // registration is refused with markup
	if err != nil || resp.StatusCode < 400 {
		t.Errorf("%v %v", resp, err)
	}
	clean("a refused registration", page)
	h.Begin("")
	first := b.stepOut() // registers the gateway
	u, _ := url.Parse(first)
	q := url.Values{"state": u.Query()["state"], "error": {lab.Markup}, "error_description": {lab.Markup}, "iss": {h.Thief}}
	u.RawQuery = q.Encode()
	page, _, err = b.open(u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	clean("an error of another issuer", page)
	if strings.Contains(page, "kidoban-markup") {
		t.Errorf("the text of another issuer is shown: %.1500s", page)
	}
	h.Begin("10-error")
	if page, _, err = b.open(b.stepOut(), nil); err != nil {
		t.Fatal(err)
	}
	clean("an error of the issuer", page)
	h.Begin("")
	if _, _, err := b.open(b.stepOut(), nil); err != nil || !b.connected() {
		t.Fatalf("not connected: %v", err)
	}
	h.Begin("10-error")
	_, _, access, _ := b.clientOf(p.url + "/s/evil/mcp")
	p.say("/s/evil/mcp", access, `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`)
	_, _, q = b.asking(p.url + "/s/evil/mcp")
	if page, _, err = b.open(p.url+"/authorize?"+q.Encode(), nil); err != nil || !strings.Contains(page, "kidoban-markup") {
		t.Errorf("the consent page does not name the tools: %v %.3000s", err, page)
	}
	clean("consent", page)
	page, _, err = b.open(p.url+"/authorize?"+url.Values{"response_type": {"code"}, "client_id": {"none" + lab.Markup}, "redirect_uri": {lab.Markup}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	clean("an unknown client", page)
	for _, path := range []string{"/account", "/connect"} {
		if page, _, err = b.open(p.url+path, nil); err != nil {
			t.Fatal(err)
		}
		clean(path, page)
	}
}

// TestE36_14_NoOtherListener: connecting an account opens no port: the callback
// is at the public URL.
func TestE36_14_NoOtherListener(t *testing.T) {
	t.Parallel()
	p, _, b := hostileProgram(t)
	before := p.listeners()
	back := b.stepOut()
	if during := p.listeners(); during != before || before != 1 {
		t.Errorf("%d listeners, then %d", before, during)
	}
	if _, _, err := b.open(back, nil); err != nil || !b.connected() || p.listeners() != before {
		t.Errorf("%v, %d listeners afterwards", err, p.listeners())
	}
}

// listeners counts the TCP ports on which the process listens.
func (p *program) listeners() (n int) {
	p.t.Helper()
	pid := p.cmd.Process.Pid
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, file := range []string{"tcp", "tcp6"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue
		}
		for line := range bytes.Lines(raw) {
			if f := strings.Fields(string(line)); len(f) > 9 && f[3] == "0A" && own[f[9]] {
				n++
			}
		}
	}
	return n
}

// TestGVA4_RotationReachesEverything: after rotate and retire the only key left
// opens accounts, the gateway's registration, signing keys and the servers' own
// secrets: a gateway started anew serves the client that it knew.
func TestGVA4_RotationReachesEverything(t *testing.T) {
	t.Parallel()
	p, h, b := hostileProgram(t)
	_, _, access, _ := b.clientOf(p.url + "/s/evil/mcp")
	p.kill()
	for _, cmd := range []string{"rotate", "retire"} {
		if out, stderr, code := kidobanCmd(t, nil, "vault", cmd, "--config", p.config, "--data", p.data); code != exitClean || cmd == "rotate" && !strings.Contains(out, "2 accounts and ") || strings.Contains(out, " 0 keys") {
			t.Fatalf("%s: %d %s %s", cmd, code, out, stderr)
		}
	}
	p.start()
	if a := p.say("/s/evil/mcp", access, hostileCall); !strings.HasPrefix(a, "200 ") || !strings.Contains(a, "heard ") {
		t.Errorf("%s\n%s", a, p.log)
	}
	registered := func() int { return strings.Count(strings.Join(h.Heard(), "\n"), "POST /register") }
	if _, _, _, again := b.clientOf(p.url + "/mcp"); again == "" || registered() != 1 {
		t.Errorf("%d registrations", registered())
	}
}
