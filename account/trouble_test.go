package account

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// What issuers, clocks and other people do to an account must not cost its user a login,
// nor tell them to connect what needs only a moment.

// handled is the provider with other answers at one path.
func handled(p *provider, path string, do http.HandlerFunc) (restore func()) {
	was := p.Config.Handler
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			do(w, r)
			return
		}
		was.ServeHTTP(w, r)
	})
	return func() { p.Config.Handler = was }
}

const metadataPath = "/.well-known/oauth-authorization-server"

// TestGVA2_ARefreshTokenThatStaysIsKept: an issuer that does not rotate sends none with
// its answer (RFC 6749 §6); the one before is good for ever.
func TestGVA2_ARefreshTokenThatStaysIsKept(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	n := 0
	handled(p, "/token", func(rw http.ResponseWriter, r *http.Request) {
		if n++; r.PostFormValue("refresh_token") != "refresh-1-of-alice" {
			t.Errorf("renewal %d with %q", n, r.PostFormValue("refresh_token"))
		}
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(map[string]any{"access_token": fmt.Sprint("next-", n), "token_type": "Bearer", "expires_in": 3600})
	})
	for round := 1; round <= 3; round++ {
		clock.forward(2 * time.Hour)
		if h, err := w.Credential(t.Context(), "alice", "drive", false); err != nil || h[0].Value != fmt.Sprint("Bearer next-", round) {
			t.Fatalf("round %d: %v %v", round, h, err)
		}
	}
}

// TestGVA2_WhoHangsUpSpoilsNobodysCall: of two calls that wait for one account the client
// of the first goes. The second does what the first began.
func TestGVA2_WhoHangsUpSpoilsNobodysCall(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour) // its metadata is read again
	began := make(chan struct{}, 8)
	restore := handled(p, metadataPath, func(_ http.ResponseWriter, r *http.Request) { began <- struct{}{}; <-r.Context().Done() })
	first, leave := context.WithCancel(t.Context())
	errs := [2]chan error{make(chan error, 1), make(chan error, 1)}
	ask := func(ctx context.Context, to chan error) {
		_, err := w.Credential(ctx, "alice", "drive", false)
		to <- err
	}
	go ask(first, errs[0])
	<-began
	go ask(t.Context(), errs[1])
	for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		waiting = w.flights[walletKey{"alice", "drive"}].n
		w.mu.Unlock()
	}
	restore()
	leave()
	if err := <-errs[0]; err == nil {
		t.Error("the first call got its answer")
	}
	if err := <-errs[1]; err != nil {
		t.Errorf("the second call: %v", err)
	}
}

// meanwhile is a database that lets something happen between the reading of an account
// and what is made of it.
type meanwhile struct {
	*shelf
	do atomic.Pointer[func()]
}

func (s *meanwhile) Account(ctx context.Context, user, server string) (Account, error) {
	a, err := s.shelf.Account(ctx, user, server)
	if do := s.do.Swap(nil); do != nil {
		(*do)()
	}
	return a, err
}

// TestGCO6_WhatWasReadBeforeIsNotKept: an account is taken out while a call reads it. The
// call may still use it, the next may not.
func TestGCO6_WhatWasReadBeforeIsNotKept(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	store := &meanwhile{shelf: s}
	w.Store = store
	do := func() {
		if err := w.Disconnect(t.Context(), "alice", "drive"); err != nil {
			t.Error(err)
		}
	}
	store.do.Store(&do)
	_, _ = w.Credential(t.Context(), "alice", "drive", false)
	if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("an account that was taken out gives %v %v", h, err)
	}
}

// TestGVA3_AnAccountThatEndedIsNotShownAgain: the server refuses the token, the issuer
// renews it no more; what was opened before is forgotten.
func TestGVA3_AnAccountThatEndedIsNotShownAgain(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(walletLife)
	bearer(t, w, false)
	p.mu.Lock()
	clear(p.owner)
	p.mu.Unlock()
	for _, renew := range []bool{true, false} {
		if h, err := w.Credential(t.Context(), "alice", "drive", renew); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("renew %v: %v %v", renew, h, err)
		}
	}
}

// TestGVA2_AClockThatWasAhead: what a replica noted whose clock was a day ahead holds
// nobody up for a day.
func TestGVA2_AClockThatWasAhead(t *testing.T) {
	for name, note := range map[string]func(*token, time.Time){
		"that it renews":         func(t *token, at time.Time) { t.Trying = at },
		"that the account ended": func(t *token, at time.Time) { t.Ended, t.Trying = true, at },
	} {
		var clock later
		p := newProvider(t)
		w, s := newWallet(t, p, clock.now)
		connectAccount(t, w, p, "alice")
		clock.forward(2 * time.Hour)
		acc, held := current(t, w, s)
		note(&held, clock.now().Add(24*time.Hour))
		if err := w.swap(t.Context(), acc, held, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if _, err := w.Credential(ctx, "alice", "drive", false); err != nil || p.refreshes["alice"] != 1 {
			t.Errorf("%s: %v, %v", name, err, p.refreshes)
		}
		cancel()
	}
}

// TestCL11_AWishOutlivesARenewal: the server wants more than the user agreed to. A token
// that is renewed before they do is good for what it was good for, and the wish stays.
func TestCL11_AWishOutlivesARenewal(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	open := *w.apps["drive"]
	open.Scopes = nil
	w.SetApps(map[string]*App{"drive": &open})
	connectAccount(t, w, p, "alice")
	if err := w.Challenged(t.Context(), "alice", "drive", http.StatusForbidden, []string{`Bearer error="insufficient_scope", scope="write"`}); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Fatal(err)
	}
	clock.forward(2 * time.Hour)
	bearer(t, w, false)
	if p.refreshes["alice"] != 1 {
		t.Fatal("nothing was renewed")
	}
	if st, err := w.State(t.Context(), "alice", "drive"); err != nil || st.Connected || len(st.Scopes) != 1 || st.Scopes[0] != "write" {
		t.Errorf("%+v %v", st, err)
	}
}

// TestGVA2_MetadataThatIsAwayIsNoReasonToConnect: an issuer, or a server, that cannot give
// its metadata just now says nothing of the account.
func TestGVA2_MetadataThatIsAwayIsNoReasonToConnect(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable} {
		var clock later
		p := newProvider(t)
		w, _ := newWallet(t, p, clock.now)
		connectAccount(t, w, p, "alice")
		clock.forward(2 * time.Hour)
		restore := handled(p, metadataPath, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(status) })
		if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindUnreachable {
			t.Errorf("%d: %v %v (%s)", status, h, err, kidoban.KindOf(err))
		}
		if _, _, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback); kidoban.KindOf(err) != kidoban.KindUnreachable {
			t.Errorf("%d, connecting: %v", status, err)
		}
		restore()
		bearer(t, w, false)
	}
}

// TestGVA2_AServerThatIsAwayIsNoReasonToConnect: the same for the metadata of the server,
// where an account is got without a person.
func TestGVA2_AServerThatIsAwayIsNoReasonToConnect(t *testing.T) {
	var status atomic.Int32
	d := newDesk(t)
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if n := status.Load(); n != http.StatusOK {
			rw.WriteHeader(int(n))
			return
		}
		json.NewEncoder(rw).Encode(map[string]any{"resource": server.URL + "/mcp", "authorization_servers": []string{d.URL}})
	}))
	defer server.Close()
	w, _ := newWallet(t, nil, time.Now)
	w.SetApps(map[string]*App{"tools": {URL: server.URL + "/mcp", ClientID: "gate", ClientSecret: "x", Grant: GrantClient, Loopback: true}})
	for n, want := range map[int32]kidoban.Kind{http.StatusNotFound: kidoban.KindNotFound, http.StatusBadGateway: kidoban.KindUnreachable, http.StatusTooManyRequests: kidoban.KindUnreachable} {
		status.Store(n)
		if _, err := w.Credential(t.Context(), "", "tools", false); kidoban.KindOf(err) != want {
			t.Errorf("%d: %v (%s)", n, err, kidoban.KindOf(err))
		}
	}
	status.Store(http.StatusOK)
	if h, err := w.Credential(t.Context(), "", "tools", false); err != nil || h[0].Value != "Bearer machine-token" {
		t.Errorf("%v %v", h, err)
	}
	w.SetApps(w.apps)
	w.forget(walletKey{"", "tools"})
	server.Close()
	if err := w.Challenged(t.Context(), "", "tools", http.StatusUnauthorized, nil); err != nil {
		t.Error(err)
	}
	if _, err := w.Credential(t.Context(), "", "tools", true); kidoban.KindOf(err) == kidoban.KindNotFound {
		t.Errorf("a server that is not there: %v", err)
	}
}

// TestGVA3_ARegistrationThatIsGoneIsOffered: the issuer has forgotten the gateway, as the
// first user finds out. The accounts of the others belong to it, too: they are offered to
// be connected again, and not shown as connected.
func TestGVA3_ARegistrationThatIsGoneIsOffered(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.shelf.DeleteAccount(t.Context(), ClientUser+x.h.Issuer, "s"); err != nil {
		t.Fatal(err)
	}
	x.shift.Add(int64(2 * time.Hour))
	if _, err := x.w.Credential(t.Context(), "alice", "s", true); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Fatal(err)
	}
	if st, err := x.w.State(t.Context(), "alice", "s"); err != nil || st.Connected {
		t.Errorf("%+v %v", st, err)
	}
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	if st, err := x.w.State(t.Context(), "alice", "s"); err != nil || !st.Connected {
		t.Errorf("%+v %v", st, err)
	}
}

// TestCL09_ALateLossForgetsNoNewRegistration: an issuer says of a registration that it is
// not known; meanwhile another was made, which others use.
func TestCL09_ALateLossForgetsNoNewRegistration(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	r, err := x.w.registration(t.Context(), "s", x.h.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.w.lost(t.Context(), identity{id: "the one before", server: "s", registered: true}, x.h.Issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Error(err)
	}
	if now, err := x.w.registration(t.Context(), "s", x.h.Issuer); err != nil || now.ID != r.ID {
		t.Errorf("%+v %v", now, err)
	}
	if err := x.w.lost(t.Context(), identity{id: r.ID, server: "s", registered: true}, x.h.Issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Error(err)
	}
	if now, err := x.w.registration(t.Context(), "s", x.h.Issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("%+v %v", now, err)
	}
}

// TestE36_03_WhatSomebodyElseRenewedIsForThisServer: while a replica waits for another's
// renewal, the user connects the account at a replica whose config has the name for
// another host. That token is not for the host of this one.
func TestE36_03_WhatSomebodyElseRenewedIsForThisServer(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	w.apps["drive"].URL = "https://drive.example/mcp"
	other := replicaOf(t, w, s)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	acc, held := current(t, w, s)
	if _, _, err := claim(t.Context(), other, acc, held); err != nil { // the other is at it
		t.Fatal(err)
	}
	moved := *w.apps["drive"]
	moved.URL = "https://elsewhere.example/mcp"
	other.SetApps(map[string]*App{"drive": &moved})
	store := &meanwhile{shelf: s}
	w.Store = store
	late := func() { connectAccount(t, other, p, "alice") }
	store.do.Store(&late)
	if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindUnreachable && kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("%v %v", h, err)
	}
}
