package account_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
	"github.com/kidoban/kidoban/vault"
)

var cluster storetest.Cluster

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// issuer is an authorization server that knows which of its tokens live, and takes its
// time over a renewal: it has spent the old refresh token and made the next one when it
// says taken, and answers when it may.
type issuer struct {
	*httptest.Server
	whole bool // a refresh token that is revoked, also a spent one, takes its whole grant along

	mu     sync.Mutex
	n      int
	grants map[string]int  // token → grant; guarded by mu
	live   map[string]bool // guarded by mu
	spent  map[string]bool // guarded by mu
	taken  chan struct{}   // nil: it answers at once
	answer chan bool       // false: it hangs up without a word
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{grants: map[string]int{}, live: map[string]bool{}, spent: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		grant, renewal := i.n, r.FormValue("grant_type") == "refresh_token"
		if renewal {
			old := r.FormValue("refresh_token")
			if grant = i.grants[old]; i.spent[old] || !i.live[old] {
				i.mu.Unlock()
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
				return
			}
			i.spent[old] = true
			delete(i.live, old)
			delete(i.live, strings.Replace(old, "refresh", "access", 1)) // it has run out
		}
		i.n++
		access, refresh := fmt.Sprint("access-token-", i.n), fmt.Sprint("refresh-token-", i.n)
		for _, x := range []string{access, refresh} {
			i.live[x], i.grants[x] = true, grant
		}
		i.mu.Unlock()
		if renewal && i.taken != nil {
			i.taken <- struct{}{}
			if !<-i.answer {
				panic(http.ErrAbortHandler)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600})
	})
	mux.HandleFunc("/revoke", func(_ http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		x := r.FormValue("token")
		delete(i.live, x)
		if grant, known := i.grants[x]; known && i.whole {
			maps.DeleteFunc(i.live, func(x string, _ bool) bool { return i.grants[x] == grant })
		}
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) alive() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Sorted(maps.Keys(i.live))
}

// gateways are replicas on one database, whose clocks go together.
type gateways struct {
	t     *testing.T
	as    *issuer
	all   [2]*account.Wallet
	db    *store.DB
	ahead atomic.Int64
}

func newGateways(t *testing.T, url string) *gateways {
	t.Helper()
	g := &gateways{t: t, as: newIssuer(t)}
	v, err := vault.Open(t.Context(), vault.File(filepath.Join(t.TempDir(), "vault.key")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range g.all {
		if g.db, err = store.Open(t.Context(), store.Options{URL: url}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.db.Close() })
		g.all[i] = account.New(account.Options{Store: g.db, Vault: v, Now: func() time.Time { return time.Now().Add(time.Duration(g.ahead.Load())) }})
		t.Cleanup(g.all[i].Close)
		g.all[i].SetApps(map[string]*account.App{"drive": {Issuer: g.as.URL, ClientID: "kidoban", ClientSecret: "secret", Authorization: g.as.URL + "/authorize",
			Token: g.as.URL + "/token", Revocation: g.as.URL + "/revoke", Loopback: true}})
	}
	return g
}

func (g *gateways) connect(user string) {
	g.t.Helper()
	_, memo, err := g.all[0].Begin(g.t.Context(), user, "drive", "state", "challenge", "https://gate.example/connect/callback")
	if err == nil {
		err = g.all[0].Finish(g.t.Context(), user, "drive", memo, url.Values{"code": {"code"}}, "verifier", "https://gate.example/connect/callback")
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// nothing wants the account to be gone here and at the third party.
func (g *gateways) nothing(user string) {
	g.t.Helper()
	if left := g.as.alive(); len(left) > 0 {
		g.t.Errorf("at the third party live on: %v", left)
	}
	if _, err := g.db.Account(g.t.Context(), user, "drive"); kidoban.KindOf(err) != kidoban.KindNotFound {
		g.t.Errorf("the account is still there: %v", err)
	}
}

// TestGCO6_DisconnectEndsWhatIsBeingRenewed: a third party takes its time over a renewal,
// in a call or behind it, and the user disconnects meanwhile, at this replica or another.
// That waits for nobody, and nothing of the account lives on, here or there.
func TestGCO6_DisconnectEndsWhatIsBeingRenewed(t *testing.T) {
	url := cluster.Postgres(t)
	for name, c := range map[string]struct {
		ahead   time.Duration
		far     bool
		answers bool
	}{
		"in a call, here":              {ahead: 2 * time.Hour, answers: true},
		"in a call, elsewhere":         {ahead: 2 * time.Hour, far: true, answers: true},
		"behind a call, here":          {ahead: 56 * time.Minute, answers: true},
		"behind a call, elsewhere":     {ahead: 56 * time.Minute, far: true, answers: true},
		"the answer is lost, here":     {ahead: 2 * time.Hour},
		"the answer is lost, far away": {ahead: 2 * time.Hour, far: true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateways(t, url)
			g.connect("alice")
			g.ahead.Store(int64(c.ahead))
			g.as.taken, g.as.answer = make(chan struct{}), make(chan bool)
			g.as.whole = !c.answers // what we never saw only the issuer itself can find
			called := make(chan error, 1)
			go func() {
				_, err := g.all[0].Credential(context.Background(), "alice", "drive", false)
				called <- err
			}()
			<-g.as.taken
			other := g.all[0]
			if c.far {
				other = g.all[1]
			}
			if err := other.Disconnect(t.Context(), "alice", "drive"); err != nil {
				t.Fatal(err)
			}
			if c.answers && len(g.as.alive()) == 0 {
				t.Fatal("nothing was on its way")
			}
			if !c.answers { // the issuer made the next ones late, as it were
				g.as.mu.Lock()
				g.as.live["access-token-2"], g.as.live["refresh-token-2"] = true, true
				g.as.mu.Unlock()
			}
			g.as.answer <- c.answers
			err := <-called
			if before := c.ahead > time.Hour; before && kidoban.KindOf(err) != kidoban.KindNotFound || !before && err != nil {
				t.Errorf("the call: %v", err)
			}
			g.all[0].Close() // what goes on in the background is over
			g.nothing("alice")
			if _, err := g.all[1].Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

// TestGCO6_DisconnectAtAnyMoment: calls renew at both replicas, and the user disconnects
// at one of them, whoever comes first.
func TestGCO6_DisconnectAtAnyMoment(t *testing.T) {
	g := newGateways(t, cluster.Postgres(t))
	for round := range 40 {
		user := fmt.Sprint("user-", round)
		g.ahead.Store(0)
		g.connect(user)
		g.ahead.Store(int64(2 * time.Hour))
		var all sync.WaitGroup
		for _, w := range g.all {
			all.Go(func() {
				if _, err := w.Credential(context.Background(), user, "drive", false); err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
					t.Errorf("the call: %v", err)
				}
			})
		}
		all.Go(func() {
			time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond)
			if err := g.all[round%2].Disconnect(context.Background(), user, "drive"); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if g.nothing(user); t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// TestGCO6_APersonWhoLeavesThePageDisconnectsAllTheSame: the account is forgotten first,
// so what is left to do at the third party is done to its end.
func TestGCO6_APersonWhoLeavesThePageDisconnectsAllTheSame(t *testing.T) {
	g := newGateways(t, storetest.SQLite(t))
	g.connect("alice")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if err := g.all[0].Disconnect(ctx, "alice", "drive"); err != nil {
		t.Fatal(err)
	}
	g.nothing("alice")
}
