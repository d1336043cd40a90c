package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// replicaOf is another gateway on the same database.
func replicaOf(t *testing.T, w *Wallet, s Store) *Wallet {
	t.Helper()
	r := New(Options{Store: s, Vault: w.Vault, Now: w.Now})
	t.Cleanup(r.Close)
	r.SetApps(w.apps)
	return r
}

// TestE36_13_ReplicasRenewOnce: many calls at three replicas at the moment when tokens
// run out, or are to be renewed behind the calls. Each refresh token comes to its issuer
// once, and all replicas go on with what was got for it.
func TestE36_13_ReplicasRenewOnce(t *testing.T) {
	const users, calls = 10, 10
	for name, at := range map[string]time.Duration{"before the call": 2 * time.Hour, "behind it": 56 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			var clock later
			p := newProvider(t)
			w, s := newWallet(t, p, clock.now)
			all := []*Wallet{w, replicaOf(t, w, s), replicaOf(t, w, s)}
			for i := range users {
				connectAccount(t, w, p, fmt.Sprint("u", i))
			}
			clock.forward(at)
			p.during = func() { time.Sleep(20 * time.Millisecond) } // long enough for the others to come
			var wg sync.WaitGroup
			for i := range users {
				for range calls {
					for _, w := range all {
						wg.Go(func() {
							if _, err := w.Credential(context.Background(), fmt.Sprint("u", i), "drive", false); err != nil {
								t.Error(err)
							}
						})
					}
				}
			}
			wg.Wait()
			for _, w := range all {
				w.wg.Wait()
			}
			p.mu.Lock()
			for user, n := range p.refreshes {
				if n != 1 {
					t.Errorf("%s was refreshed %d times", user, n)
				}
			}
			if len(p.refreshes) != users || p.stolen {
				t.Errorf("%d accounts were renewed; a refresh token came twice: %v", len(p.refreshes), p.stolen)
			}
			p.mu.Unlock()
			for i := range users { // a minute later all have the same
				clock.forward(walletLife)
				got := map[string]bool{}
				for _, w := range all {
					h, err := w.Credential(t.Context(), fmt.Sprint("u", i), "drive", false)
					if err != nil {
						t.Fatal(err)
					}
					got[h[0].Value] = true
				}
				if len(got) != 1 {
					t.Errorf("%v", got)
				}
			}
		})
	}
}

// TestE36_13_ReplicasWhoseClocksDifferRenewOnce: how long somebody has been renewing an
// account is told by a clock that the replicas share, and not by their own.
func TestE36_13_ReplicasWhoseClocksDifferRenewOnce(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	acc, old := current(t, w, s)
	var all []*Wallet
	for _, off := range []time.Duration{0, 90 * time.Second, -90 * time.Second} {
		r := New(Options{Store: s, Vault: w.Vault, Now: func() time.Time { return clock.now().Add(off) }, Shared: clock.now})
		t.Cleanup(r.Close)
		r.SetApps(w.apps)
		all = append(all, r)
	}
	for _, r := range all[1:] {
		if _, other, err := claim(t.Context(), r, acc, old); err != nil || other != nil {
			t.Fatal(other, err)
		}
		for _, late := range all {
			ctx, leave := context.WithTimeout(t.Context(), 3*claimLook)
			if _, err := late.Credential(ctx, "alice", "drive", false); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while somebody else is at it: %v", err)
			}
			leave()
		}
		clock.forward(claimLife)
		acc, old = current(t, w, s)
	}
	if len(p.refreshes) != 0 {
		t.Errorf("it was renewed beside the claim: %v", p.refreshes)
	}
	if _, err := all[2].Credential(t.Context(), "alice", "drive", false); err != nil || p.refreshes["alice"] != 1 {
		t.Errorf("after the claim: %v, %v", err, p.refreshes)
	}
}

// TestGVA2_ReplicasRenewALoginOnce: the same with a login at an identity provider, whose
// refresh token proves who the user is.
func TestGVA2_ReplicasRenewALoginOnce(t *testing.T) {
	const issuer = "https://idp.example"
	var clock later
	w, s := newWallet(t, nil, clock.now)
	w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
	if err := w.KeepProof(t.Context(), "alice", Login{Issuer: issuer, Subject: "a", IDToken: "first", Refresh: "r0", Expires: clock.now()}); err != nil {
		t.Fatal(err)
	}
	all := []*Wallet{w, replicaOf(t, w, s), replicaOf(t, w, s)}
	var mu sync.Mutex
	sent := map[string]int{}
	for _, w := range all {
		w.Renew = func(_ context.Context, l Login, _ func(string)) (Login, error) {
			mu.Lock()
			sent[l.Refresh]++
			n := len(sent)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			return Login{Issuer: issuer, Subject: "a", IDToken: fmt.Sprint("fresh ", n), Refresh: fmt.Sprint("r", n), Expires: clock.now().Add(time.Hour)}, nil
		}
	}
	for round := 1; round <= 2; round++ {
		var wg sync.WaitGroup
		for range 20 {
			for _, w := range all {
				wg.Go(func() {
					if got, _, err := w.Subject(context.Background(), "alice", issuer); err != nil || got != fmt.Sprint("fresh ", round) {
						t.Errorf("%q %v", got, err)
					}
				})
			}
		}
		wg.Wait()
		clock.forward(time.Hour)
	}
	if len(sent) != 2 || sent["r0"] != 1 || sent["r1"] != 1 {
		t.Errorf("%v", sent)
	}
}

// TestE36_13_AClaimEndsWithWhoMadeIt: a replica that dies over a renewal holds the others
// up for as long as one may take; whoever does not want to wait so long may leave.
func TestE36_13_AClaimEndsWithWhoMadeIt(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	acc, old := current(t, w, s)
	if _, other, err := claim(t.Context(), w, acc, old); err != nil || other != nil { // and it dies
		t.Fatal(other, err)
	}
	replica := replicaOf(t, w, s)
	ctx, leave := context.WithTimeout(t.Context(), 3*claimLook)
	defer leave()
	if _, err := replica.Credential(ctx, "alice", "drive", false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while somebody else is at it: %v", err)
	}
	if len(p.refreshes) != 0 {
		t.Fatal("it was renewed beside the claim")
	}
	clock.forward(claimLife)
	if _, err := replica.Credential(t.Context(), "alice", "drive", false); err != nil || p.refreshes["alice"] != 1 {
		t.Errorf("after the claim: %v, %v", err, p.refreshes)
	}
}

// TestGVA4_RotationBesideARenewal: the key is rotated, and everything sealed anew, while
// a refresh token is being spent. What was got for it is kept all the same.
func TestGVA4_RotationBesideARenewal(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	p.during = func() {
		if err := w.Vault.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := w.Rewrap(t.Context()); err != nil || n != 1 {
			t.Errorf("%d re-wrapped, %v", n, err)
		}
	}
	for range 3 {
		clock.forward(2 * time.Hour)
		if _, err := replicaOf(t, w, s).Credential(t.Context(), "alice", "drive", false); err != nil {
			t.Fatal(err)
		}
	}
	p.during = nil
	if err := w.Vault.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := w.Credential(t.Context(), "alice", "drive", false); err != nil || p.stolen {
		t.Errorf("%v %v, a refresh token came twice: %v", h, err, p.stolen)
	}
}

// TestGVA2_AFailureIsSharedByThoseWhoWait: an issuer that fails, or takes its time to
// fail, is asked once for all the calls that wait for an account, not by one after the
// other; a call whose client has gone does not wait; the next call asks again.
func TestGVA2_AFailureIsSharedByThoseWhoWait(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	const calls = 100
	waiting := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		if f := w.flights[walletKey{"alice", "drive"}]; f != nil {
			return f.n
		}
		return 0
	}
	began, fail := make(chan struct{}, calls), make(chan struct{})
	p.Config.Handler = failing{p.Config.Handler, func(rw http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-fail
		rw.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(rw, `{}`)
	}}
	errs := make(chan error, calls)
	ask := func(ctx context.Context) { _, err := w.Credential(ctx, "alice", "drive", false); errs <- err }
	go ask(t.Context())
	<-began
	for range calls - 1 {
		go ask(t.Context())
	}
	for waiting() < calls {
		time.Sleep(time.Millisecond)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := w.Credential(gone, "alice", "drive", false); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that has gone: %v", err)
	}
	close(fail)
	for range calls {
		if err := <-errs; kidoban.KindOf(err) != kidoban.KindUnreachable {
			t.Errorf("%v", err)
		}
	}
	if n := len(began); n != 0 {
		t.Errorf("the issuer was asked %d times more", n)
	}
	p.Config.Handler = p.Config.Handler.(failing).Handler
	if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
		t.Errorf("when the issuer is back: %v", err)
	}
	if waiting() != 0 {
		t.Error("somebody is still waited for")
	}
}

// failing puts another answer in the place of a token endpoint's.
type failing struct {
	http.Handler
	token http.HandlerFunc
}

func (f failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		f.token(w, r)
		return
	}
	f.Handler.ServeHTTP(w, r)
}

// TestGVA2_AnEndedAccountIsNotAskedForAgainAndAgain: of an agent that tries on, its
// issuer hears every ten seconds.
func TestGVA2_AnEndedAccountIsNotAskedForAgainAndAgain(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	p.mu.Lock()
	clear(p.owner)
	before := len(p.seen)
	p.mu.Unlock()
	clock.forward(2 * time.Hour)
	for round := 1; round <= 2; round++ {
		for _, w := range []*Wallet{w, replicaOf(t, w, s), w} {
			if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
				t.Errorf("%v", err)
			}
		}
		if n := len(p.seen) - before; n != round {
			t.Errorf("after round %d the issuer was asked %d times", round, n)
		}
		clock.forward(pause)
	}
}
