package gateway

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/vault"
)

// Wallet gives out the credentials that the vault keeps (G-VA1, G-VA4). An opened
// secret stays in memory for a minute, so that a call costs no database and no
// key service. It implements Accounts; safe for concurrent use.
type Wallet struct {
	store AccountStore
	vault *vault.Vault
	now   func() time.Time

	mu   sync.Mutex
	open map[walletKey]opened1 // guarded by mu
}

type walletKey struct{ user, server string }

type opened1 struct {
	headers []Header
	until   time.Time
}

// walletLife is how long an opened secret is kept, and so how long a change made
// by another process takes to be seen.
const walletLife = time.Minute

// maxOpen bounds the opened secrets.
const maxOpen = 10_000

// NewWallet returns a wallet over a store and the vault its rows are sealed by.
func NewWallet(store AccountStore, v *vault.Vault, now func() time.Time) *Wallet {
	return &Wallet{store: store, vault: v, now: now, open: map[walletKey]opened1{}}
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

// Credential implements Accounts.
func (w *Wallet) Credential(ctx context.Context, user, server string, renew bool) ([]Header, error) {
	k := walletKey{user, server}
	if renew {
		w.forget(k) // somebody may have set a new one
	}
	w.mu.Lock()
	have, ok := w.open[k]
	w.mu.Unlock()
	if ok && w.now().Before(have.until) {
		return have.headers, nil
	}
	a, err := w.store.Account(ctx, user, server)
	if err != nil {
		return nil, err
	}
	raw, err := w.vault.Unseal(ctx, vault.Owner{User: a.User, Server: a.Server, Issuer: a.Issuer}, a.Sealed)
	if err != nil {
		return nil, err
	}
	var s fixedSecret
	if err := json.Unmarshal(raw, &s); err != nil || s.Kind != "header" {
		return nil, kidoban.Errorf(kidoban.KindInternal, "the account at %s is of a kind that this version does not know", server)
	}
	headers := []Header{{s.Name, s.Value}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) >= maxOpen {
		clear(w.open)
	}
	w.open[k] = opened1{headers, w.now().Add(walletLife)}
	return headers, nil
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
