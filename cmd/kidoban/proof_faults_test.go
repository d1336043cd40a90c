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
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/store/storetest"
)

// proofApp is a client with a person who approves everything.
type proofApp struct {
	p        *program
	person   *person
	id       string
	resource string
	http     *http.Client
}

const proofCallback = "http://127.0.0.1:33418/callback"

func newProofApp(p *program) *proofApp {
	p.t.Helper()
	a := &proofApp{p: p, person: newPerson(p), resource: p.url + "/mcp", http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}
	a.person.http.Transport = a.http.Transport
	a.person.firstAccount()
	resp, err := http.Post(p.url+"/register", "application/json", strings.NewReader(`{"client_name":"a proof","redirect_uris":["`+proofCallback+`"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var c struct {
		ID string `json:"client_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || c.ID == "" {
		p.t.Fatalf("registration: %d %v", resp.StatusCode, err)
	}
	a.id = c.ID
	return a
}

// code gets an authorization code and its verifier.
func (a *proofApp) code() (code, verifier string, err error) {
	verifier = oauth.NewVerifier(rand.Reader)
	q := url.Values{"response_type": {"code"}, "client_id": {a.id}, "redirect_uri": {proofCallback}, "state": {"s"}, "scope": {"mcp:read mcp:write"},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "resource": {a.resource}}
	at, err := a.person.visit(a.p.url+"/authorize?"+q.Encode(), true)
	if err != nil {
		return "", "", err
	}
	return at.Query().Get("code"), verifier, nil
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

// token asks the token endpoint. Status 0 or from 500 is no answer.
func (a *proofApp) token(v url.Values) (int, tokens) {
	v.Set("client_id", a.id)
	resp, err := a.http.PostForm(a.p.url+"/token", v)
	if err != nil {
		return 0, tokens{}
	}
	defer resp.Body.Close()
	var t tokens
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, tokens{}
	}
	_ = json.Unmarshal(raw, &t)
	return resp.StatusCode, t
}

func (a *proofApp) redeem(code, verifier string) (int, tokens) {
	return a.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {proofCallback}})
}

func (a *proofApp) refresh(token string) (int, tokens) {
	return a.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// access is the status of a call with an access token.
func (a *proofApp) access(token string) int {
	a.p.t.Helper()
	r, err := http.NewRequest("POST", a.resource, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`))
	if err != nil {
		a.p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := a.http.Do(r)
	if err != nil {
		a.p.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// held is what a client of the crash knows of one grant.
type held struct {
	code, verifier string
	redeemed       bool   // the answer arrived
	spent, last    string // refresh tokens: the one before, the newest that arrived
	open           bool   // a request was under way at the crash
}

// load has clients redeem and refresh until the gateway is gone.
func (a *proofApp) load(stop <-chan struct{}) []*held {
	var mu sync.Mutex
	var all []*held
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				code, verifier, err := a.code()
				if err != nil {
					return
				}
				h := &held{code: code, verifier: verifier, open: true}
				mu.Lock()
				all = append(all, h)
				mu.Unlock()
				status, t := a.redeem(code, verifier)
				if status != http.StatusOK {
					return
				}
				h.redeemed, h.last = true, t.Refresh
				for range 4 {
					if status, t = a.refresh(h.last); status != http.StatusOK {
						return
					}
					h.spent, h.last = h.last, t.Refresh
				}
				h.open = false
			}
		})
	}
	wg.Wait()
	return all
}

// TestGAS4_Kill9OfTheGateway: kill -9 under a load of redemptions and refreshes,
// and a restart: no code and no refresh token is good twice, and no grant is lost.
func TestGAS4_Kill9OfTheGateway(t *testing.T) {
	p := startProgram(t, benchLimits())
	a := newProofApp(p)
	// At least three kills, and more while they happen to fall between two requests.
	interrupted, whole := 0, 0
	for kill := 0; kill < 3 || kill < 20 && (whole < 30 || interrupted < 3); kill++ {
		stop := make(chan struct{})
		done := make(chan []*held)
		go func() { done <- a.load(stop) }()
		before := p.saw.count("POST /token")
		waitFor(t, func() bool { return p.saw.count("POST /token") > before+200 })
		p.kill()
		close(stop)
		all := <-done
		p.start()
		for _, h := range all {
			if h.open {
				interrupted++
			} else {
				whole++
			}
			a.judge(t, h)
		}
	}
	t.Logf("%d grants, %d of them with a request under way at a kill", whole+interrupted, interrupted)
	if whole < 30 || interrupted < 3 {
		t.Errorf("too little load: %d whole, %d interrupted", whole, interrupted)
	}
}

// judge compares what a client holds with what the restarted gateway does.
func (a *proofApp) judge(t *testing.T, h *held) {
	t.Helper()
	if !h.redeemed {
		// The code may have been spent or not: it is good once at most.
		first, got := a.redeem(h.code, h.verifier)
		if first != http.StatusOK && got.Error != "invalid_grant" {
			t.Errorf("a code under way: %d %s", first, got.Error)
		}
		if second, _ := a.redeem(h.code, h.verifier); second == http.StatusOK {
			t.Error("a code was good twice")
		}
		return
	}
	// The client goes on with the newest token it has, whether the answer to its
	// last refresh was lost or not.
	status, next := a.refresh(h.last)
	if status != http.StatusOK || a.access(next.Access) != http.StatusOK {
		t.Errorf("a grant is lost: %d %s", status, next.Error)
		return
	}
	if again, same := a.refresh(h.last); again != http.StatusOK || same.Refresh != next.Refresh {
		t.Errorf("a refresh token has two successors: %d", again)
	}
	if h.spent != "" { // two back: its successor is spent, so within the grace window it still leads to that one only
		if old, same := a.refresh(h.spent); old == http.StatusOK && same.Refresh != h.last {
			t.Error("a spent refresh token has two successors")
		}
	}
	if status, got := a.redeem(h.code, h.verifier); status == http.StatusOK || got.Error != "invalid_grant" {
		t.Errorf("a code was good twice: %d %s", status, got.Error)
	}
}

// TestGAS4_HundredParallelRedemptions and refreshes, over HTTP.
func TestGAS4_HundredParallelRedemptions(t *testing.T) {
	t.Parallel() // it waits for the end of the grace window, within which the hundred must have come
	p := startProgram(t, "tokens: {grace: 20s}\n"+benchLimits())
	a := newProofApp(p)
	code, verifier, err := a.code()
	if err != nil {
		t.Fatal(err)
	}
	status := parallel(100, func() string { s, got := a.redeem(code, verifier); return fmt.Sprint(s, " ", got.Error) })
	if status["200 "] != 1 || status["400 invalid_grant"] != 99 {
		t.Errorf("100 redemptions of one code: %v", status)
	}

	// G-AS5: one successor, and all hundred get it.
	if code, verifier, err = a.code(); err != nil {
		t.Fatal(err)
	}
	_, first := a.redeem(code, verifier)
	var mu sync.Mutex
	var newest tokens
	next := parallel(100, func() string {
		s, got := a.refresh(first.Refresh)
		if s != http.StatusOK {
			return fmt.Sprint(s, got.Error)
		}
		mu.Lock()
		newest = got
		mu.Unlock()
		return got.Refresh
	})
	if len(next) != 1 || next[newest.Refresh] != 100 {
		t.Errorf("100 refreshes of one token: %d answers", len(next))
	}
	if a.access(newest.Access) != http.StatusOK || a.access(first.Access) != http.StatusOK {
		t.Error("access tokens do not outlive a rotation")
	}
	var reused tokens
	waitFor(t, func() bool { // within the window it goes on leading to its successor
		s, got := a.refresh(first.Refresh)
		reused = got
		return s != http.StatusOK
	})
	if reused.Error != "invalid_grant" {
		t.Errorf("reuse after the grace window: %+v", reused)
	}
	if s, got := a.refresh(newest.Refresh); s != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("the family lives on: %d %s", s, got.Error)
	}
	if a.access(newest.Access) != http.StatusUnauthorized {
		t.Error("an access token of the family lives on")
	}
	alerted := func() bool { // the log comes through a pipe
		return strings.Contains(p.log.String(), "refresh_reuse") && strings.Contains(p.log.String(), "code_replay")
	}
	if !within(patience, alerted) {
		t.Errorf("no alert:\n%s", p.log)
	}
}

// parallel runs f so many times at once and counts the answers.
func parallel(n int, f func() string) map[string]int {
	var mu sync.Mutex
	out := map[string]int{}
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-gate
			got := f()
			mu.Lock()
			out[got]++
			mu.Unlock()
		})
	}
	close(gate)
	wg.Wait()
	return out
}

// TestGAS4_FullDisk: with a full disk nothing is half done; with room again
// everything goes on, without a restart and without a new login.
func TestGAS4_FullDisk(t *testing.T) {
	p := newProgram(t, benchLimits())
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	// A mount namespace of its own: the small disk ends with the process.
	p.wrap = []string{"unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"`, p.data}
	p.start()
	a := newProofApp(p)
	code, verifier, err := a.code()
	if err != nil {
		t.Fatal(err)
	}
	_, first := a.redeem(code, verifier)
	unspent, unspentVerifier, err := a.code()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), p.data)
	ballast, err := os.OpenFile(filepath.Join(disk, "ballast"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fill := func() {
		for _, size := range []int{1 << 20, 4096} {
			for {
				if _, err := ballast.Write(bytes.Repeat([]byte{1}, size)); err != nil {
					break
				}
			}
		}
	}
	fill()
	last, refused := first.Refresh, 0
	for range 400 { // what SQLite has reserved is used up first
		s, got := a.refresh(last)
		if s == http.StatusOK {
			last = got.Refresh
			fill()
			continue
		}
		if s < 500 || got.Error == "invalid_grant" {
			t.Fatalf("a full disk is blamed on the client: %d %s", s, got.Error)
		}
		if refused++; refused == 5 {
			break
		}
	}
	if refused < 5 {
		t.Fatal("the disk was not full")
	}
	if s, got := a.redeem(unspent, unspentVerifier); s < 500 {
		t.Errorf("redeeming with a full disk: %d %s", s, got.Error)
	}
	if s := a.access(first.Access); s != http.StatusOK && s < 500 {
		t.Errorf("a call with a full disk: %d", s)
	} else {
		t.Logf("a call with a full disk: %d", s)
	}
	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	ballast.Close()
	s, got := a.refresh(last)
	if s != http.StatusOK || a.access(got.Access) != http.StatusOK {
		t.Errorf("with room again: %d %s\n%s", s, got.Error, p.log)
	}
	if s, got = a.redeem(unspent, unspentVerifier); s != http.StatusOK {
		t.Errorf("the code with room again: %d %s", s, got.Error)
	}
	p.kill()
	if strings.Contains(p.log.String(), "panic") {
		t.Error(p.log)
	}
}

// TestGAS5_PostgresRestart: the database server goes and comes back under the
// gateway: no answer that blames the client, and then all goes on.
func TestGAS5_PostgresRestart(t *testing.T) {
	srv, db := storetest.Own(t)
	p := startProgram(t, "database: "+db+"\n"+benchLimits())
	a := newProofApp(p)
	code, verifier, err := a.code()
	if err != nil {
		t.Fatal(err)
	}
	_, first := a.redeem(code, verifier)
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if s, got := a.refresh(first.Refresh); s < 500 || got.Error == "invalid_grant" {
			t.Errorf("without a database: %d %s", s, got.Error)
		}
	}
	resp, err := http.Get(p.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready without a database: %d", resp.StatusCode)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	var got tokens
	waitFor(t, func() bool { var s int; s, got = a.refresh(first.Refresh); return s == http.StatusOK })
	waitFor(t, func() bool { return a.access(got.Access) == http.StatusOK })
}
