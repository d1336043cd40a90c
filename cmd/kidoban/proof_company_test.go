package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	companyMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}`
	companyList = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + companyMeta + `}}`
	companyCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","arguments":{"text":"x"},` + companyMeta + `}}`
)

// look asks one process for the list and makes a call; what it says must agree.
func (a *proofApp) look(p *program, token string) (may bool) {
	a.p.t.Helper()
	ask := func(method, body string, more ...string) string {
		r, err := http.NewRequestWithContext(a.p.t.Context(), http.MethodPost, "http://"+p.listen+"/s/two/mcp", strings.NewReader(body))
		if err != nil {
			a.p.t.Fatal(err)
		}
		r.Host = strings.TrimPrefix(a.p.url, "http://")
		for k, v := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method} {
			r.Header.Set(k, v)
		}
		for i := 0; i+1 < len(more); i += 2 {
			r.Header.Set(more[i], more[i+1])
		}
		resp, err := a.http.Do(r)
		if err != nil {
			a.p.t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			a.p.t.Fatal(err)
		}
		return b.String()
	}
	listed := strings.Contains(ask("tools/list", companyList), `"look"`)
	answer := ask("tools/call", companyCall, "Mcp-Name", "look")
	called := strings.Contains(answer, "said x")
	if !called && !strings.Contains(answer, "Policy does not allow this") {
		a.p.t.Fatalf("neither allowed nor denied: %s", answer)
	}
	if listed != called { // it may have changed between the two
		listed = strings.Contains(ask("tools/list", companyList), `"look"`)
	}
	if listed != called {
		a.p.t.Errorf("listed %v, called %v: %s", listed, called, answer)
	}
	return called
}

// TestGTG5_PeopleOfACompany: who leaves a group at the company loses at the next refresh
// what the group may, in lists and calls; who leaves the company has to log in again,
// with every client and in the browser, and keeps what was granted if that succeeds;
// and a company that is away, or slow, costs nobody a login.
func TestGTG5_PeopleOfACompany(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	c.groups("engineering", "staff")
	p := startProgram(t, companyConfig(t, c, ""))
	a := newProofApp(p)
	a.resource = p.url + "/s/two/mcp"
	p.beyond = []string{strings.TrimPrefix(c.URL, "http://")}
	a.person = newPerson(p)
	if page := a.person.atCompany(); page != "" {
		t.Fatal(page)
	}
	one, two := a.grant(), a.grant()
	database := filepath.Join(p.data, "kidoban.db")
	age := func() { longAgo(t, "sqlite", "file:"+database+"?_pragma=busy_timeout(10000)") }
	refresh := func(tok *tokens, want int) {
		t.Helper()
		status, got := a.refresh(tok.Refresh)
		if status != want || want == http.StatusBadRequest && got.Error != "invalid_grant" {
			t.Fatalf("refresh: %d %+v, want %d\n%s", status, got, want, p.log)
		}
		if want == http.StatusOK {
			*tok = got
		}
	}
	var out string
	logged := func(want string) { // what is told is written soon, and a process that is killed tells no more
		t.Helper()
		if !within(patience, func() bool {
			out, _, _ = invoke(t, "gateway", "log", "-c", p.config, "--data", p.data)
			return strings.Contains(out, want)
		}) {
			t.Errorf("the audit log does not say %q\n%s", want, out)
		}
	}
	if !a.look(p, one.Access) {
		t.Fatal("an engineer may not look")
	}

	// Out of the group: nothing changes before the word is old, then at once, for tokens
	// of before, too.
	c.groups("staff")
	refresh(&one, http.StatusOK)
	if asked, _ := c.count(); asked != 0 || !a.look(p, one.Access) {
		t.Errorf("asked %d times for what was just heard", asked)
	}
	age()
	before := two.Access
	refresh(&one, http.StatusOK)
	if a.look(p, one.Access) || a.look(p, before) {
		t.Error("who left the group may look")
	}
	c.groups("engineering")
	age()
	refresh(&two, http.StatusOK)
	if !a.look(p, one.Access) {
		t.Error("who is back in the group may not look")
	}

	// More groups than a token holds: the login has to be made anew, and says why.
	c.set(func() { c.claims = map[string]any{"hasgroups": true} })
	age()
	refresh(&one, http.StatusBadRequest)
	if page := a.person.atCompany(); !strings.Contains(page, "groups it names for you cannot be used") {
		t.Error(page)
	}
	c.groups("engineering")
	if page := a.person.atCompany(); page != "" {
		t.Error(page)
	}
	refresh(&one, http.StatusOK)

	// Disabled at the company.
	c.set(func() { c.gone = true })
	age()
	asked, _ := c.count()
	refresh(&one, http.StatusBadRequest)
	refresh(&two, http.StatusBadRequest)
	if now, _ := c.count(); now != asked+1 {
		t.Errorf("asked %d times about who has left", now-asked)
	}
	if page, _, err := a.person.open(p.url+"/account", nil); err != nil || !strings.Contains(page, "Log in with Corp") {
		t.Errorf("the browser is still logged in: %v %s", err, page)
	}
	if page := a.person.atCompany(); !strings.Contains(page, "did not succeed") {
		t.Error(page)
	}
	refresh(&one, http.StatusBadRequest)
	c.set(func() { c.gone = false })
	if page := a.person.atCompany(); page != "" {
		t.Error(page)
	}
	refresh(&one, http.StatusOK)
	refresh(&two, http.StatusOK)
	if !a.look(p, two.Access) {
		t.Error("who came back may not look")
	}

	// Slow: the client has its tokens soon, and the answer that comes later is kept.
	gate := make(chan struct{})
	c.set(func() { c.slow = gate })
	age()
	began := time.Now()
	refresh(&one, http.StatusOK)
	if took := time.Since(began); took > 15*time.Second { // four seconds, on a busy machine
		t.Errorf("a refresh waited %v for the company", took)
	}
	c.set(func() { c.claims, c.slow = map[string]any{"groups": "staff"}, nil })
	close(gate)
	if !within(patience, func() bool { return !a.look(p, one.Access) }) {
		t.Error("the answer that came late was not heard")
	}

	for _, want := range []string{"heard anew: corp", "the person is in more groups", "said so, with status 400 invalid_grant", "not heard anew"} {
		logged(want)
	}

	// Away: nothing is lost, and what there was stays so.
	c.set(func() { c.fails = http.StatusServiceUnavailable })
	age()
	p.kill()
	p.start() // it has forgotten that the company did not answer in time
	refresh(&one, http.StatusOK)
	refresh(&two, http.StatusOK)
	logged("with status 503")
	if !strings.Contains(p.log.String(), "an identity provider could not be asked") {
		t.Error("the log does not say that the company was away")
	}
	c.set(func() { c.fails = 0 })
	p.kill()
	p.start()
	c.groups("engineering")
	refresh(&one, http.StatusOK)
	if !a.look(p, one.Access) {
		t.Error("after the company came back")
	}
	if _, reused := c.count(); reused != 0 {
		t.Errorf("%d refresh tokens were sent twice", reused)
	}

	for _, file := range []string{database, database + "-wal"} {
		raw, _ := os.ReadFile(file)
		if strings.Contains(string(raw)+p.log.String()+out, "company-refresh-") {
			t.Errorf("a refresh token of the company lies in the open, in %s or a log", file)
		}
	}
}

// TestGTG5_PeopleOfACompanyOnReplicas: whichever replica hears it, all act by it within
// a second, and of many refreshes at once on all of them one asks the company.
func TestGTG5_PeopleOfACompanyOnReplicas(t *testing.T) {
	t.Parallel()
	company := newCompany(t)
	company.groups("engineering")
	c := newCluster(t, 2, companyConfig(t, company, ""))
	p := c.all[len(c.all)-1] // whose set-up link is the latest
	a := newProofApp(p)
	a.resource = p.url + "/s/two/mcp"
	a.http.Transport = roaming()
	a.person = newPerson(p)
	if page := a.person.atCompany(); page != "" {
		t.Fatal(page)
	}
	var held []tokens
	for range 6 {
		held = append(held, a.grant())
	}
	for _, p := range c.all {
		if !a.look(p, held[0].Access) {
			t.Fatal("an engineer may not look")
		}
	}
	company.groups("staff")
	longAgo(t, "pgx", c.db)
	var wg sync.WaitGroup
	for i := range held {
		wg.Go(func() {
			if status, got := a.refresh(held[i].Refresh); status != http.StatusOK {
				t.Errorf("%d %+v", status, got)
			}
		})
	}
	wg.Wait()
	began := time.Now()
	for _, p := range c.all {
		if !within(patience, func() bool { return !a.look(p, held[0].Access) }) {
			t.Error("a replica has not heard it")
		}
	}
	took := time.Since(began)
	t.Logf("heard everywhere within %v", took)
	if asked, reused := company.count(); asked != 1 || reused != 0 {
		t.Errorf("the company was asked %d times, %d times with a spent token\n%s", asked, reused, c.logs())
	}
	company.set(func() { company.gone = true })
	longAgo(t, "pgx", c.db)
	for i := range held {
		if status, got := a.refresh(held[i].Refresh); status != http.StatusBadRequest || got.Error != "invalid_grant" {
			t.Errorf("%d %+v", status, got)
		}
	}
	if asked, _ := company.count(); asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}
