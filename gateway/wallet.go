package gateway

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/vault"
)

// Wallet gives out the credentials that the vault keeps (G-VA1, G-VA4). An opened
// secret stays in memory for a minute, so that a call costs no database and no
// key service. It implements Accounts; safe for concurrent use.
type Wallet struct {
	store AccountStore
	vault *vault.Vault
	now   func() time.Time
	out   *outbound.Client // to authorization servers
	lab   *outbound.Client // to those on loopback

	mu      sync.Mutex
	made    uint64                    // guarded by mu
	open    map[walletKey]opened1     // guarded by mu
	flights map[walletKey]*sync.Mutex // one renewal of an account at a time; guarded by mu
	apps    map[string]*OAuthApp      // by server; guarded by mu
	found   map[string]endpoints      // by issuer; guarded by mu
}

type walletKey struct{ user, server string }

type opened1 struct {
	headers []Header
	made    uint64 // counts openings, so that a renewal is told from what was there
	until   time.Time
}

// walletLife is how long an opened secret is kept, and so how long a change made
// by another process takes to be seen.
const walletLife = time.Minute

// maxOpen bounds the opened secrets.
const maxOpen = 10_000

// NewWallet returns a wallet over a store and the vault its rows are sealed by.
// Close it.
func NewWallet(store AccountStore, v *vault.Vault, now func() time.Time) *Wallet {
	return &Wallet{store: store, vault: v, now: now, out: outbound.New(outbound.Options{}), lab: outbound.New(outbound.Options{Lab: true}),
		open: map[walletKey]opened1{}, flights: map[walletKey]*sync.Mutex{}, apps: map[string]*OAuthApp{}, found: map[string]endpoints{}}
}

// Close ends requests to authorization servers.
func (w *Wallet) Close() {
	w.out.Close()
	w.lab.Close()
}

// fixedSecret is the plaintext of an account that is a fixed header.
type fixedSecret struct {
	Kind  string `json:"kind"` // "header"
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Set stores a fixed header as the account of user (empty: of everybody) at
// server. KindUsage for a header that must not be set.
func (w *Wallet) Set(ctx context.Context, user, server string, h Header) error {
	if !headerSafe(h) {
		return kidoban.Errorf(kidoban.KindUsage, "the header %.40q cannot be sent: use a plain name and a value of one line", h.Name)
	}
	raw, err := json.Marshal(fixedSecret{"header", h.Name, h.Value})
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the secret cannot be written")
	}
	sealed, err := w.vault.Seal(ctx, vault.Owner{User: user, Server: server}, raw)
	if err != nil {
		return err
	}
	w.forget(walletKey{user, server})
	return w.store.PutAccount(ctx, Account{User: user, Server: server, Sealed: sealed, Updated: w.now()})
}

func headerSafe(h Header) bool {
	for i := 0; i < len(h.Name); i++ {
		if c := h.Name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	for i := 0; i < len(h.Value); i++ {
		if c := h.Value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return h.Name != "" && h.Value != "" && len(h.Value) <= 16<<10
}

func (w *Wallet) forget(k walletKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, k)
}

// Credential implements Accounts. Of any number of concurrent calls for one
// account one renews, the others get what it got (G-VA2).
func (w *Wallet) Credential(ctx context.Context, user, server string, renew bool) ([]Header, error) {
	k := walletKey{user, server}
	before, ok := w.cached(k)
	if ok && !renew {
		return before.headers, nil
	}
	flight := w.flight(k)
	flight.Lock()
	defer flight.Unlock()
	if now, ok := w.cached(k); ok && (!renew || now.made != before.made) {
		return now.headers, nil // somebody else did it meanwhile
	}
	headers, until, err := w.read(ctx, k, renew)
	if err != nil {
		w.forget(k)
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) >= maxOpen {
		clear(w.open)
		clear(w.flights)
	}
	w.made++
	w.open[k] = opened1{headers: headers, made: w.made, until: until}
	return headers, nil
}

func (w *Wallet) cached(k walletKey) (opened1, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, ok := w.open[k]
	return have, ok && w.now().Before(have.until)
}

func (w *Wallet) flight(k walletKey) *sync.Mutex {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.flights[k]
	if f == nil {
		f = &sync.Mutex{}
		w.flights[k] = f
	}
	return f
}

// read opens the account and renews it when it must be.
func (w *Wallet) read(ctx context.Context, k walletKey, renew bool) ([]Header, time.Time, error) {
	until := w.now().Add(walletLife)
	a, err := w.store.Account(ctx, k.user, k.server)
	if err != nil {
		return nil, until, err
	}
	raw, err := w.vault.Unseal(ctx, vault.Owner{User: a.User, Server: a.Server, Issuer: a.Issuer}, a.Sealed)
	if err != nil {
		return nil, until, err
	}
	var kind struct {
		Kind string `json:"kind"`
	}
	var s fixedSecret
	var o oauthAccount
	switch err := json.Unmarshal(raw, &kind); {
	case err == nil && kind.Kind == "header" && json.Unmarshal(raw, &s) == nil:
		return []Header{{s.Name, s.Value}}, until, nil
	case err == nil && kind.Kind == "oauth" && json.Unmarshal(raw, &o) == nil:
		if o, err = w.token(ctx, a, o, renew); err != nil {
			return nil, until, err
		}
		if !o.Renew.IsZero() && o.Renew.Before(until) {
			until = o.Renew
		}
		return []Header{{"Authorization", "Bearer " + o.Access}}, until, nil
	}
	return nil, until, kidoban.Errorf(kidoban.KindInternal, "the account at %s is of a kind that this version does not know", k.server)
}

// Rewrap brings every account to the vault's newest key and returns how many it
// changed. It works in small steps beside a running gateway.
func (w *Wallet) Rewrap(ctx context.Context) (n int, err error) {
	user, server := "", ""
	for {
		page, err := w.store.AllAccounts(ctx, user, server, 100)
		if err != nil || len(page) == 0 {
			return n, err
		}
		for _, a := range page {
			user, server = a.User, a.Server
			sealed, changed, err := w.vault.Rewrap(ctx, a.Sealed)
			if err != nil {
				return n, err
			}
			if !changed {
				continue
			}
			a.Sealed = sealed
			switch err := w.store.SwapAccount(ctx, a); {
			case err == nil:
				n++
			case kidoban.KindOf(err) != kidoban.KindConflict: // changed meanwhile: sealed by the newest key
				return n, err
			}
		}
	}
}
