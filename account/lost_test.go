package account

import (
	"context"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// A login at a third party is lost when the gateway has spent a refresh token and
// does not keep the next one, or when a person finds no way to connect again.

// later is a clock that can be put forward.
type later struct{ by atomic.Int64 }

func (l *later) now() time.Time { return time.Now().Add(time.Duration(l.by.Load())) }

func (l *later) forward(d time.Duration) { l.by.Add(int64(d)) }

// TestGVA2_WhoHangsUpLosesNoLogin: the client leaves while the refresh token is being
// spent. The answer is waited for and kept.
func TestGVA2_WhoHangsUpLosesNoLogin(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(2 * time.Hour)
	ctx, leave := context.WithCancel(t.Context())
	p.during = leave
	_, _ = w.Credential(ctx, "alice", "drive", false)
	p.during = nil
	if ctx.Err() == nil {
		t.Fatal("nothing was renewed")
	}
	renewsTwice(t, w, p, &clock)
}

// renewsTwice: the login is there, and each renewal begins with the token of the last.
func renewsTwice(t *testing.T, w *Wallet, p *provider, clock *later) {
	t.Helper()
	for range 2 {
		clock.forward(2 * time.Hour)
		if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
			t.Fatal(err)
		}
	}
	if p.stolen {
		t.Error("a spent refresh token was sent")
	}
}

// TestGVA2_AnEndedGatewayLosesNoLogin: the same when the gateway ends in mid-renewal.
func TestGVA2_AnEndedGatewayLosesNoLogin(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	clock.forward(56 * time.Minute) // it is renewed in the background
	began, release := make(chan struct{}), make(chan struct{})
	p.during = func() { close(began); <-release }
	if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
		t.Fatal(err)
	}
	<-began
	go func() { <-w.ctx.Done(); close(release) }()
	w.Close()
	p.during = nil
	next := New(Options{Store: s, Vault: w.Vault, Now: clock.now})
	defer next.Close()
	next.SetApps(w.apps)
	clock.forward(2 * time.Hour)
	if _, err := next.Credential(t.Context(), "alice", "drive", false); err != nil || p.stolen {
		t.Errorf("%v %v", err, p.stolen)
	}
}

// away is a database that fails for a while when it should keep something.
type away struct {
	*shelf
	fails atomic.Int64
}

func (s *away) SwapAccount(ctx context.Context, a Account) error {
	if s.fails.Add(-1) >= 0 {
		return kidoban.Errorf(kidoban.KindUnreachable, "the database is away")
	}
	return s.shelf.SwapAccount(ctx, a)
}

func TestGVA2_ADatabaseThatIsAwayLosesNoLogin(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, s := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	store := &away{shelf: s}
	store.fails.Store(3)
	w.Store = store
	renewsTwice(t, w, p, &clock)
}

// TestGVA3_AnEndedAccountIsOffered: what the issuer does not renew any more counts as
// missing on the page that connects, and a new connection mends it.
func TestGVA3_AnEndedAccountIsOffered(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now)
	connectAccount(t, w, p, "alice")
	p.mu.Lock()
	clear(p.owner) // the user took the access back at the third party
	p.mu.Unlock()
	clock.forward(2 * time.Hour)
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Fatal(err)
	}
	if st, err := w.State(t.Context(), "alice", "drive"); err != nil || st.Connected || st.Since.IsZero() {
		t.Errorf("%+v %v", st, err)
	}
	connectAccount(t, w, p, "alice")
	if st, err := w.State(t.Context(), "alice", "drive"); err != nil || !st.Connected {
		t.Errorf("%+v %v", st, err)
	}
}

// TestE36_13_AReplicaThatCameLateEndsNothing: it asked with the refresh token that the
// other had spent, heard that the account has ended, and wrote that down before the
// other stored the next token.
func TestE36_13_AReplicaThatCameLateEndsNothing(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	connectAccount(t, w, p, "alice")
	acc, old := current(t, w, s)
	if _, err := w.end(t.Context(), acc, old, ended(acc)); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Fatal(err)
	}
	next := old
	next.Access, next.Refresh = "next", "next"
	if err := w.swap(t.Context(), acc, next, old.spent); err != nil {
		t.Fatal(err)
	}
	if h, err := w.Credential(t.Context(), "alice", "drive", false); err != nil || h[0].Value != "Bearer next" {
		t.Errorf("%v %v", h, err)
	}
	if _, err := w.end(t.Context(), acc, old, ended(acc)); err == nil { // still later
		t.Fatal("no cause")
	}
	if st, err := w.State(t.Context(), "alice", "drive"); err != nil || !st.Connected {
		t.Errorf("%+v %v", st, err)
	}
}

// TestE36_03_AReloadInMidwayHandsNothingOver: while a token is renewed, or a person is
// at the third party, the name is given to another server.
func TestE36_03_AReloadInMidwayHandsNothingOver(t *testing.T) {
	for _, at := range []time.Duration{56 * time.Minute, 2 * time.Hour} { // behind the call, and before it
		var clock later
		p := newProvider(t)
		w, _ := newWallet(t, p, clock.now)
		w.apps["drive"].URL = "https://drive.example/mcp"
		connectAccount(t, w, p, "alice")
		_, memo, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
		if err != nil {
			t.Fatal(err)
		}
		other := *w.apps["drive"]
		other.URL = "https://other.example/mcp"
		moved := make(chan struct{})
		p.during = func() { w.SetApps(map[string]*App{"drive": &other}); close(moved) }
		clock.forward(at)
		if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
			t.Fatal(err)
		}
		<-moved
		w.wg.Wait() // a renewal in the background is over
		if h, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("after %v another server gets %v %v", at, h, err)
		}
		if st, err := w.State(t.Context(), "alice", "drive"); err != nil || st.Connected {
			t.Errorf("%+v %v", st, err)
		}
		err = w.Finish(t.Context(), "alice", "drive", memo, url.Values{"code": {"code-alice"}, "iss": {p.URL}}, "verifier", callback)
		if kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("an account that was asked for at another server: %v", err)
		}
	}
}

// TestE36_03_TokensOfOldRowsAreBoundWhenRenewed: rows of before say no host.
func TestE36_03_TokensOfOldRowsAreBoundWhenRenewed(t *testing.T) {
	var clock later
	p := newProvider(t)
	w, _ := newWallet(t, p, clock.now) // without a URL no host is written
	connectAccount(t, w, p, "alice")
	with := *w.apps["drive"]
	with.URL = "https://Drive.example:443/mcp"
	w.SetApps(map[string]*App{"drive": &with})
	clock.forward(2 * time.Hour)
	if _, err := w.Credential(t.Context(), "alice", "drive", false); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[string]bool{"https://drive.example/v2": true, "https://other.example/mcp": false, "https://drive.example:8443/mcp": false} {
		now := with
		now.URL = u
		w.SetApps(map[string]*App{"drive": &now})
		if _, err := w.Credential(t.Context(), "alice", "drive", false); (err == nil) != want {
			t.Errorf("%s: %v", u, err)
		}
	}
}
