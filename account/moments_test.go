package account

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// What happens between two steps of a connection or of a renewal.

// refuse is a token endpoint that says no, after something has happened.
func refuse(status int, body string, first func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") == "refresh_token" && first != nil {
			first()
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// TestGVA2_TheCodeIsExchangedByWhoAsked: the code goes to the token endpoint with the
// verifier, the callback and the resource of its request, and with nothing else a code
// would be good for.
func TestGVA2_TheCodeIsExchangedByWhoAsked(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	got, err := url.ParseQuery(p.seen[0])
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"grant_type": "authorization_code", "code": "code-alice", "code_verifier": "verifier", "redirect_uri": callback,
		"resource": "https://drive.example/mcp", "client_id": "kidoban", "client_secret": "the-secret"} {
		if len(got[k]) != 1 || got.Get(k) != want {
			t.Errorf("%s is %q", k, got[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("beside it went %v", got)
	}
}

// TestGVA3_WhoLeavesThePageIsConnected: the person closes the page while their code is
// being exchanged. It is good for one time only, so what it gave is kept.
func TestGVA3_WhoLeavesThePageIsConnected(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	_, memo, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	was := p.Config.Handler
	handled(p, "/token", func(rw http.ResponseWriter, r *http.Request) { leave(); was.ServeHTTP(rw, r) })
	_ = w.Finish(ctx, "alice", "drive", memo, url.Values{"code": {"code-alice"}, "iss": {p.URL}}, "verifier", callback)
	if st, err := w.State(t.Context(), "alice", "drive"); err != nil || !st.Connected {
		t.Errorf("%+v %v", st, err)
	}
}

// TestGVA3_TheNextAccountServesAtOnce: who connects again, as somebody else there, is
// served by that account from then on.
func TestGVA3_TheNextAccountServesAtOnce(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	first := bearer(t, w, false)
	connectAccount(t, w, p, "alice")
	if second := bearer(t, w, false); second == first {
		t.Error("the account of before serves on")
	}
}

// TestE36_04_AnotherIssuerMeanwhile: the config names another authorization server when
// the person comes back from the first.
func TestE36_04_AnotherIssuerMeanwhile(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	_, memo, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
	if err != nil {
		t.Fatal(err)
	}
	moved := *w.apps["drive"]
	moved.Issuer = other.URL
	w.SetApps(map[string]*App{"drive": &moved})
	if err := w.Finish(t.Context(), "alice", "drive", memo, url.Values{"code": {"code-alice"}, "iss": {p.URL}}, "verifier", callback); kidoban.KindOf(err) != kidoban.KindRefused || len(p.seen)+len(other.seen) > 0 {
		t.Errorf("%v; the code went to %v %v", err, p.seen, other.seen)
	}
}

// TestE36_12_ARefusedOperationIsNoWayToBegin: what a server wants for one operation is
// asked of whom it refused it to, not of everybody who connects.
func TestE36_12_ARefusedOperationIsNoWayToBegin(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	open := *w.apps["drive"]
	open.Scopes = nil
	w.SetApps(map[string]*App{"drive": &open})
	connectAccount(t, w, p, "alice")
	if err := w.Challenged(t.Context(), "alice", "drive", http.StatusForbidden, []string{`Bearer error="insufficient_scope", scope="delete.everything"`}); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"alice": true, "bob": false} {
		to, _, err := w.Begin(t.Context(), user, "drive", "st", "ch", callback)
		if err != nil || strings.Contains(to, "delete.everything") != want {
			t.Errorf("%s is sent to %s, %v", user, to, err)
		}
	}
}

// TestGVA2_AFailedRenewalLeavesNoClaim: the issuer fails; the next call asks it again at
// once, and so do other replicas.
func TestGVA2_AFailedRenewalLeavesNoClaim(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	restore := handled(p, "/token", refuse(http.StatusServiceUnavailable, "{}", nil))
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Fatal(err)
	}
	if _, held := current(t, w, s); !held.Trying.IsZero() {
		t.Error("the claim stays, and whoever comes waits until it is too old")
	}
	restore()
	for _, w := range []*Wallet{w, replicaOf(t, w, s)} {
		if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
			t.Error(err)
		}
	}
}

// TestGVA2_ALateNoEndsNoNewAccount: the issuer says that the account has ended, and the
// user has connected it again meanwhile.
func TestGVA2_ALateNoEndsNoNewAccount(t *testing.T) {
	for name, body := range map[string]string{"it has ended": `{"error":"invalid_grant"}`, "not now": `{"error":"temporarily_unavailable"}`} {
		var clock later
		p := newProvider(t)
		w, _ := newWallet(t, p, clock.now)
		connectAccount(t, w, p, "alice")
		clock.forward(2 * time.Hour)
		var restore func()
		restore = handled(p, "/token", refuse(http.StatusBadRequest, body, func() { restore(); connectAccount(t, w, p, "alice") }))
		if h, err := w.Credential(t.Context(), "alice", "drive", false); err != nil || h[0].Value != "Bearer access-2-of-alice" {
			t.Errorf("%s: %v %v", name, h, err)
		}
		if st, err := w.State(t.Context(), "alice", "drive"); err != nil || !st.Connected {
			t.Errorf("%s: %+v %v", name, st, err)
		}
	}
}

// TestGVA2_NothingIsShownAfterItsEnd: a token is not relied on in its last seconds, and
// one that could not be renewed in time is not taken from memory after its end.
func TestGVA2_NothingIsShownAfterItsEnd(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(time.Hour - slack/2)
	if got := bearer(t, w, false); got != "access-2-of-alice" {
		t.Errorf("seconds before its end: %s", got)
	}
	clock.forward(time.Hour - walletLife/2)
	restore := handled(p, "/token", refuse(http.StatusServiceUnavailable, "{}", nil))
	if got := bearer(t, w, false); got != "access-2-of-alice" { // and it is tried behind the call
		t.Errorf("half a minute before its end: %s", got)
	}
	w.wg.Wait()
	clock.forward(walletLife/2 + time.Second)
	if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("after its end: %v %v", h, err)
	}
	restore()
	bearer(t, w, false)
}

// TestE36_13_WhatIsFreshIsNotRenewed: a renewal behind a call begins when another replica
// has just stored the next token.
func TestE36_13_WhatIsFreshIsNotRenewed(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	if got, err := w.renewNow(t.Context(), walletKey{"alice", "drive"}); err != nil || got.Access != "access-1-of-alice" || len(p.refreshes) > 0 {
		t.Errorf("%s %v %v", got.Access, err, p.refreshes)
	}
}

// TestCL09_ARefreshTokenGoesWithItsClient: the gateway has registered anew since. The
// account of before belongs to the client of before, and its refresh token is not sent.
func TestCL09_ARefreshTokenGoesWithItsClient(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	acc, err := x.shelf.Account(t.Context(), "alice", "s")
	if err != nil {
		t.Fatal(err)
	}
	held, err := x.w.token(t.Context(), acc)
	if err != nil {
		t.Fatal(err)
	}
	held.Client = "the one before"
	if err := x.w.swap(t.Context(), acc, held, nil); err != nil {
		t.Fatal(err)
	}
	x.shift.Add(int64(2 * time.Hour))
	if h, err := x.w.Credential(t.Context(), "alice", "s", true); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("%v %v", h, err)
	}
	for _, r := range x.h.Heard() {
		if strings.Contains(r, "grant_type=refresh_token") {
			t.Errorf("it was sent: %s", r)
		}
	}
}

// TestCL09_ARegistrationIsForItsCallbackAndItsTime: one with another callback, or whose
// secret runs out within the hour, is of no use to who connects now.
func TestCL09_ARegistrationIsForItsCallbackAndItsTime(t *testing.T) {
	for name, change := range map[string]func(*registration){
		"as it was":        func(*registration) {},
		"another callback": func(r *registration) { r.Callback = "https://old.example/connect/callback" },
		"runs out soon":    func(r *registration) { r.Expires = time.Now().Add(30 * time.Minute) },
		"has run out":      func(r *registration) { r.Expires = time.Now().Add(-30 * time.Minute) },
		"runs out later":   func(r *registration) { r.Expires = time.Now().Add(2 * time.Hour) },
	} {
		x := newTrial(t, "")
		if err := x.connect("alice"); err != nil {
			t.Fatal(err)
		}
		r, err := x.w.registration(t.Context(), "s", x.h.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		if err := x.w.put(t.Context(), ClientUser+x.h.Issuer, "s", x.h.Issuer, r); err != nil {
			t.Fatal(err)
		}
		if err := x.connect("bob"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		n, want := 0, 2
		for _, r := range x.h.Heard() {
			if strings.HasPrefix(r, "POST /register") {
				n++
			}
		}
		if name == "as it was" || name == "runs out later" {
			want = 1
		}
		if n != want {
			t.Errorf("%s: %d registrations", name, n)
		}
	}
}

// TestE36_03_TheNextIssuersSecretIsNotForTheLast: the config names another authorization
// server, with another client secret. Who disconnects what the first one gave sends it
// nothing of the second's.
func TestE36_03_TheNextIssuersSecretIsNotForTheLast(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	moved := *w.apps["drive"]
	moved.Issuer, moved.ClientSecret = other.URL, "the next secret"
	w.SetApps(map[string]*App{"drive": &moved})
	asked := make(chan string, 4)
	handled(p, "/revoke", func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		asked <- string(raw)
	})
	if err := w.Disconnect(t.Context(), "alice", "drive"); err != nil || len(asked) > 0 || len(other.revoked) > 0 {
		t.Errorf("%v; the first one heard %d requests, the next one of %v", err, len(asked), other.revoked)
	}
}

// TestGVA4_RewrappingLeavesOthersWork: an account is connected again while it is sealed
// anew. What was stored meanwhile stays, and the rest goes on.
func TestGVA4_RewrappingLeavesOthersWork(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	for _, user := range []string{"alice", "bob", "carol"} {
		connectAccount(t, w, p, user)
	}
	if err := w.Vault.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Store = &busy{shelf: s, do: func() { connectAccount(t, replicaOf(t, w, s), p, "alice") }}
	if n, err := w.Rewrap(t.Context()); err != nil || n != 2 {
		t.Errorf("%d re-wrapped, %v", n, err)
	}
	if err := w.Vault.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{"alice": "access-4-of-alice", "bob": "access-2-of-bob", "carol": "access-3-of-carol"} {
		if h, err := w.Credential(t.Context(), user, "drive", false); err != nil || h[0].Value != "Bearer "+want {
			t.Errorf("%s: %v %v", user, h, err)
		}
	}
}

// busy is a database in which somebody else changes what was just listed.
type busy struct {
	*shelf
	do func()
}

func (s *busy) AllAccounts(ctx context.Context, user, server string, n int) ([]Account, error) {
	all, err := s.shelf.AllAccounts(ctx, user, server, n)
	if len(all) > 0 {
		s.do()
	}
	return all, err
}

// TestCL11_AMachineAsksForMore: where no person is asked, the next token has what the
// server wants, and what it had.
func TestCL11_AMachineAsksForMore(t *testing.T) {
	d := newDesk(t, methodPost)
	w, _ := newWallet(t, nil, time.Now)
	server := "http://127.0.0.1:1/mcp"
	w.SetApps(map[string]*App{"tools": {URL: server, Issuer: d.URL, ClientID: "gate", ClientSecret: "x", Grant: GrantClient, Loopback: true}})
	if err := w.Challenged(t.Context(), "", "tools", http.StatusUnauthorized, []string{`Bearer scope="read"`}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Credential(t.Context(), "", "tools", false); err != nil {
		t.Fatal(err)
	}
	if err := w.Challenged(t.Context(), "", "tools", http.StatusForbidden, []string{`Bearer error="insufficient_scope", scope="write"`}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Credential(t.Context(), "", "tools", true)
	if n := len(d.asked); n != 2 || d.asked[0].Get("scope") != "read" || d.asked[1].Get("scope") != "read write" {
		t.Errorf("%d requests: %v", n, d.asked)
	}
}
