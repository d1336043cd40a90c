package account

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kidoban/kidoban"
)

// Calls, renewals, replicas and people meet at one account.

// bearer is the token that a call gets; renew says that the server refused the last.
func bearer(t *testing.T, w *Wallet, renew bool) string {
	t.Helper()
	h, err := w.Credential(t.Context(), "alice", "drive", renew)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(h[0].Value, "Bearer ")
}

// TestGVA2_TwoCallsOfOneRefusedToken: both went out with the token that the server takes
// no more. The one whose refusal comes later gets what the other got, here and in
// another replica, whose memory still holds the old one.
func TestGVA2_TwoCallsOfOneRefusedToken(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	replica := New(Options{Store: s, Vault: w.Vault})
	defer replica.Close()
	replica.SetApps(w.apps)
	old := bearer(t, replica, false)
	if bearer(t, w, false) != old {
		t.Fatal("two tokens")
	}
	next := bearer(t, w, true)
	if next == old {
		t.Fatal("nothing was renewed")
	}
	for name, wallet := range map[string]*Wallet{"here": w, "there": replica} {
		if got := bearer(t, wallet, true); got != next {
			t.Errorf("%s: %q, want %q", name, got, next)
		}
	}
}

// TestGCO6_ARenewalKeepsNoAccountThatIsGone: the account is taken out, or another one is
// connected, while a call renews it, or a renewal runs behind a call.
func TestGCO6_ARenewalKeepsNoAccountThatIsGone(t *testing.T) {
	for _, at := range []time.Duration{56 * time.Minute, 2 * time.Hour} { // behind the call, and before it
		for _, again := range []bool{false, true} {
			var clock later
			p := newProvider(t)
			w, _ := newWallet(t, p, clock.now)
			connectAccount(t, w, p, "alice")
			_, memo, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
			if err != nil {
				t.Fatal(err)
			}
			var left error
			done := make(chan struct{})
			p.during = func() {
				defer close(done)
				if !again {
					left = w.Disconnect(context.Background(), "alice", "drive")
					return
				}
				left = w.Finish(context.Background(), "alice", "drive", memo, url.Values{"code": {"code-other"}, "iss": {p.URL}}, "verifier", callback)
			}
			clock.forward(at)
			call, err := w.Credential(t.Context(), "alice", "drive", false)
			switch before := at > time.Hour; {
			case before && !again && kidoban.KindOf(err) != kidoban.KindNotFound:
				t.Errorf("the call in which it was renewed got %v %v", call, err)
			case before && !again:
			case err != nil || before && p.owner[strings.TrimPrefix(call[0].Value, "Bearer ")] != "other":
				t.Errorf("the call got %v %v", call, err)
			}
			<-done
			w.wg.Wait() // a renewal in the background is over
			p.during = nil
			if left != nil {
				t.Fatal(left)
			}
			h, err := w.Credential(t.Context(), "alice", "drive", false)
			switch {
			case !again && kidoban.KindOf(err) != kidoban.KindNotFound:
				t.Errorf("after %v an account that was taken out gives %v %v", at, h, err)
			case again && (err != nil || p.owner[strings.TrimPrefix(h[0].Value, "Bearer ")] != "other"):
				t.Errorf("after %v the account of before gives %v %v", at, h, err)
			}
		}
	}
}

// TestGVA2_AWishForScopesLosesNoLogin: a server wants more scopes while the refresh token
// is being spent, of this gateway and of another replica.
func TestGVA2_AWishForScopesLosesNoLogin(t *testing.T) {
	for _, far := range []bool{false, true} {
		var clock later
		p := newProvider(t)
		w, s := newWallet(t, p, clock.now)
		open := *w.apps["drive"]
		open.Scopes = nil // the server says what it wants
		w.SetApps(map[string]*App{"drive": &open})
		connectAccount(t, w, p, "alice")
		other := w
		if far {
			other = New(Options{Store: s, Vault: w.Vault, Now: clock.now})
			defer other.Close()
			other.SetApps(w.apps)
		}
		wished := make(chan error, 1)
		wish := func() {
			wished <- other.Challenged(context.Background(), "alice", "drive", 403, []string{`Bearer error="insufficient_scope", scope="files.write"`})
		}
		p.during = func() {
			if far {
				wish()
				return
			}
			go wish() // ends after the renewal at the latest
		}
		clock.forward(2 * time.Hour)
		if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
			t.Fatal(err)
		}
		if err := <-wished; kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Fatal(err)
		}
		p.during = nil
		renewsTwice(t, w, p, &clock)
	}
}

// TestGVA4_ANewKeyLosesNoLogin: everything is sealed anew while the refresh token of an
// account, or of a login that is kept as a proof, is being spent.
func TestGVA4_ANewKeyLosesNoLogin(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	rotate := func() {
		if err := w.Vault.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := w.Rewrap(t.Context()); err != nil || n == 0 {
			t.Error(n, err)
		}
	}
	p.during = rotate
	clock.forward(2 * time.Hour)
	if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
		t.Fatal(err)
	}
	p.during = nil
	renewsTwice(t, w, p, &clock)

	const issuer = "https://idp.example"
	w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
	if err := w.KeepProof(t.Context(), "alice", Login{"alice", issuer, "sub", "old", "first", clock.now()}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		w.Renew = func(_ context.Context, l Login, _ func(string)) (Login, error) {
			if l.Refresh != want {
				t.Errorf("%q is sent again", l.Refresh)
			}
			rotate()
			return Login{"alice", issuer, l.Subject, "fresh " + want, "second", clock.now()}, nil
		}
		if _, _, err := w.Subject(t.Context(), "alice", issuer); err != nil {
			t.Fatal(err)
		}
	}
}

// TestE36_03_OldRowsThatNameThePortStay: earlier versions wrote the host as the config
// had it.
func TestE36_03_OldRowsThatNameThePortStay(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	with := *w.apps["drive"]
	with.URL = "https://Drive.example:443/mcp"
	w.SetApps(map[string]*App{"drive": &with})
	connectAccount(t, w, p, "alice")
	acc, old := current(t, w, s)
	old.Host = "drive.example:443"
	if err := w.swap(t.Context(), acc, old, nil); err != nil {
		t.Fatal(err)
	}
	w.SetApps(map[string]*App{"drive": &with})
	bearer(t, w, false)
}

// TestE36_13_AReplicaThatCameLateEndsNoLogin: the same as with an account, for a login
// that is kept as a proof.
func TestE36_13_AReplicaThatCameLateEndsNoLogin(t *testing.T) {
	const issuer = "https://idp.example"
	w, s := newWallet(t, nil, time.Now)
	w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
	keep := func(token, refresh string, life time.Duration) {
		t.Helper()
		if err := w.KeepProof(t.Context(), "alice", Login{"alice", issuer, "sub", token, refresh, time.Now().Add(life)}); err != nil {
			t.Fatal(err)
		}
	}
	late := func() { // what another replica does that heard of the spent refresh token
		acc, p, err := w.proof(t.Context(), "alice", issuer)
		if err != nil {
			t.Fatal(err)
		}
		p.Refresh = ""
		if err := w.swap(t.Context(), acc, p, nil); err != nil {
			t.Fatal(err)
		}
	}
	keep("old", "first", time.Second)
	w.Renew = func(_ context.Context, l Login, _ func(string)) (Login, error) {
		late()
		return Login{"alice", issuer, l.Subject, "fresh", "second", time.Now().Add(time.Hour)}, nil
	}
	if got, _, err := w.Subject(t.Context(), "alice", issuer); err != nil || got != "fresh" {
		t.Fatal(got, err)
	}
	stored := func() (p proof) {
		t.Helper()
		acc, err := s.Account(t.Context(), "alice", proofServer+issuer)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := w.unseal(t.Context(), acc)
		if err != nil || json.Unmarshal(raw, &p) != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := stored(); p.Token != "fresh" || p.Refresh != "second" {
		t.Errorf("what was renewed is lost: %+v", p)
	}
	keep("old", "first", time.Second)
	w.Renew = func(_ context.Context, l Login, _ func(string)) (Login, error) {
		keep("a login meanwhile", "", time.Hour)
		return Login{"alice", issuer, l.Subject, "fresh", "second", time.Now().Add(time.Hour)}, nil
	}
	if _, _, err := w.Subject(t.Context(), "alice", issuer); err != nil {
		t.Fatal(err)
	}
	if p := stored(); p.Token != "a login meanwhile" {
		t.Errorf("a renewal stands over a later login: %+v", p)
	}
}

// TestGVA2_ARotatedRefreshTokenIsKept: a provider that gives a new refresh token takes the
// one before no more, whatever becomes of the ID token that came with it. Whoever waits
// meanwhile at another replica goes on from the new one.
func TestGVA2_ARotatedRefreshTokenIsKept(t *testing.T) {
	const issuer = "https://idp.example"
	w, s := newWallet(t, nil, time.Now)
	w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
	other := replicaOf(t, w, s)
	if err := w.KeepProof(t.Context(), "alice", Login{"alice", issuer, "sub", "old", "first", time.Now().Add(time.Second)}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var sent []string
	say := func(l Login) {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, l.Refresh)
	}
	var beside sync.WaitGroup
	w.Renew = func(_ context.Context, l Login, rotated func(string)) (Login, error) {
		say(l)
		beside.Go(func() {
			if got, _, err := other.Subject(t.Context(), "alice", issuer); err != nil || got != "fresh" {
				t.Errorf("beside it: %q %v", got, err)
			}
		})
		time.Sleep(claimLook)
		rotated("second")
		time.Sleep(3 * claimLook) // so that the other one looks
		return Login{}, kidoban.Errorf(kidoban.KindUnreachable, "the keys are away")
	}
	other.Renew = func(_ context.Context, l Login, rotated func(string)) (Login, error) {
		say(l)
		rotated("third")
		return Login{"alice", issuer, l.Subject, "fresh", "third", time.Now().Add(slack + time.Second)}, nil
	}
	if _, _, err := w.Subject(t.Context(), "alice", issuer); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Fatal(err)
	}
	beside.Wait()
	_, p, err := w.proof(t.Context(), "alice", issuer)
	if err != nil || p.Token != "fresh" || p.Refresh != "third" || p.Subject != "sub" || !p.Trying.IsZero() {
		t.Errorf("%+v %v", p, err)
	}
	if got := strings.Join(sent, " "); got != "first second" {
		t.Errorf("sent: %s", got)
	}
}

// TestGVA2_ARotatedRefreshTokenOutlivesADatabaseThatIsAway: what could not be stored at
// once is stored with what became of the renewal.
func TestGVA2_ARotatedRefreshTokenOutlivesADatabaseThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const issuer = "https://idp.example"
		w, s := newWallet(t, nil, time.Now)
		w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
		if err := w.KeepProof(t.Context(), "alice", Login{"alice", issuer, "sub", "old", "first", time.Now().Add(time.Second)}); err != nil {
			t.Fatal(err)
		}
		store := &away{shelf: s}
		w.Store = store
		w.Renew = func(_ context.Context, _ Login, rotated func(string)) (Login, error) {
			store.fails.Store(8) // as often as it is tried
			rotated("second")
			if left := store.fails.Load(); left != 0 {
				t.Errorf("the database may fail %d times more", left)
			}
			return Login{}, kidoban.Errorf(kidoban.KindUnreachable, "the keys are away")
		}
		if _, _, err := w.Subject(t.Context(), "alice", issuer); kidoban.KindOf(err) != kidoban.KindUnreachable {
			t.Fatal(err)
		}
		if _, p, err := w.proof(t.Context(), "alice", issuer); err != nil || p.Refresh != "second" || !p.Trying.IsZero() {
			t.Errorf("%+v %v", p, err)
		}
	})
}

// TestGVA2_NobodyIsLeftInAFlight: what orders the callers of an account is there only
// while there are any.
func TestGVA2_NobodyIsLeftInAFlight(t *testing.T) {
	p := newProvider(t)
	w, _ := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	for range 3 {
		bearer(t, w, false)
		_, _ = w.Credential(t.Context(), "nobody", "drive", false)
	}
	if len(w.flights) > 0 {
		t.Errorf("%d flights", len(w.flights))
	}
}

// TestE36_03_ARenewalTakesNoTokenOfAnotherServer: while it runs, the server's name comes
// to stand for another host, and the user connects that one. Its token is not for the
// call that is on its way to the host of before.
func TestE36_03_ARenewalTakesNoTokenOfAnotherServer(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	moved := *w.apps["drive"]
	moved.URL = "https://other.example/mcp"
	p.during = func() {
		w.SetApps(map[string]*App{"drive": &moved})
		connectAccount(t, w, p, "alice")
	}
	clock.forward(2 * time.Hour)
	if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("%v %v", h, err)
	}
	p.during = nil
	bearer(t, w, false)
}
