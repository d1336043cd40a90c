package account

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/vault"
)

// Options of a Wallet. Store and Vault are required.
type Options struct {
	Store    Store
	Vault    *vault.Vault
	Subjects Subjects // nil: the logins that KeepProof kept
	// Renew asks an identity provider for a fresh ID token with a login's refresh
	// token; nil: logins last as long as their ID tokens. KindNotFound: the user must
	// log in there again. rotated is told at once of a refresh token that takes the
	// place of the login's.
	Renew   func(ctx context.Context, l Login, rotated func(refresh string)) (Login, error)
	RootCAs *x509.CertPool   // nil: the system's
	Now     func() time.Time // nil: time.Now
	// Shared is the clock by which replicas tell how long one of them has been renewing
	// an account; nil: Now.
	Shared func() time.Time
	Rand   io.Reader // nil: crypto/rand
}

// Subjects give what proves at an identity provider who a user is.
type Subjects interface {
	// Subject returns the user's token of that issuer and its type (RFC 8693 §3).
	// KindNotFound: the user must log in there again.
	Subject(ctx context.Context, user, issuer string) (token, kind string, err error)
}

// Wallet gives out the credentials that the vault keeps (G-VA1, G-VA4), renews
// them, and gets new ones. An opened secret stays in memory for a minute, so
// that a call costs no database and no key service. Safe for concurrent use.
type Wallet struct {
	Options
	out    *outbound.Client // to authorization servers
	lab    *outbound.Client // to those on loopback
	inside *outbound.Client // to those in private ranges
	ctx    context.Context  // of renewals in the background; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // renewals in the background

	mu      sync.Mutex
	made    uint64                 // guarded by mu
	turn    uint64                 // counts SetApps and replaced: what began before is not kept; guarded by mu
	open    map[walletKey]opened   // guarded by mu
	flights map[walletKey]*flight  // one renewal of an account at a time; guarded by mu
	behind  map[walletKey]bool     // renewed in the background just now; guarded by mu
	apps    map[string]*App        // by server; guarded by mu
	found   map[string]foundIssuer // by issuer; guarded by mu
	named   map[string]foundPlace  // by server; guarded by mu
	hints   map[string]hint        // by server; guarded by mu
}

// flight is there while somebody is in it or waits for it.
type flight struct {
	turn   chan struct{} // holds one: whoever takes it is in
	n      int           // who is in it or waits; guarded by the wallet's mu
	failed int           // how often what was done in it failed; guarded by the wallet's mu
	err    error         // the last time; guarded by the wallet's mu
}

type walletKey struct{ user, server string }

type opened struct {
	fields []kidoban.Field
	made   uint64 // counts openings, so that a renewal is told from what was there
	until  time.Time
}

// walletLife is how long an opened secret is kept, and so how long a change made
// by another process takes to be seen.
const walletLife = time.Minute

// maxOpen bounds the opened secrets.
const maxOpen = 10_000

// backTime bounds a renewal in the background.
const backTime = 30 * time.Second

// New returns a wallet. Close it.
func New(o Options) *Wallet {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Shared == nil {
		o.Shared = o.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	w := &Wallet{Options: o, out: outbound.New(outbound.Options{RootCAs: o.RootCAs}), lab: outbound.New(outbound.Options{Lab: true, RootCAs: o.RootCAs}), inside: outbound.New(outbound.Options{Private: true, RootCAs: o.RootCAs}),
		open: map[walletKey]opened{}, flights: map[walletKey]*flight{}, behind: map[walletKey]bool{}, apps: map[string]*App{},
		found: map[string]foundIssuer{}, named: map[string]foundPlace{}, hints: map[string]hint{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Close ends requests to authorization servers and waits for renewals.
func (w *Wallet) Close() {
	w.mu.Lock() // nothing is begun in the background after this
	w.cancel()
	w.mu.Unlock()
	w.wg.Wait()
	w.out.Close()
	w.lab.Close()
	w.inside.Close()
}

// SetApps replaces the apps, by server.
func (w *Wallet) SetApps(apps map[string]*App) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apps = apps
	w.turn++
	clear(w.found)
	clear(w.named)
	clear(w.hints)
	clear(w.open)
}

// app finds the app of a server, KindNotFound when it has none.
func (w *Wallet) app(server string) (*App, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.apps[server]; a != nil {
		return a, nil
	}
	return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no account to connect at %s", server)
}

// client picks the outbound client for the app.
func (w *Wallet) client(a *App) *outbound.Client {
	switch {
	case a.Loopback:
		return w.lab
	case a.Private:
		return w.inside
	}
	return w.out
}

func (w *Wallet) forget(k walletKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, k)
}

// replaced forgets an account that is another now, or none: what a call or a renewal
// read before is not kept either.
func (w *Wallet) replaced(k walletKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, k)
	w.turn++
}

// Credential returns the header fields for the account of user at server. renew
// says that the server refused the last one. Of any number of concurrent calls
// for one account one renews, the others get what it got (G-VA2, E36 13).
// KindNotFound: the user must connect the account.
func (w *Wallet) Credential(ctx context.Context, user, server string, renew bool) ([]kidoban.Field, error) {
	k := walletKey{user, server}
	before, ok := w.cached(k)
	if ok && !renew {
		return before.fields, nil
	}
	f, leave, err := w.flight(ctx, k)
	if err != nil {
		return nil, err // of whoever was in it meanwhile, or the caller has gone
	}
	defer leave()
	if now, ok := w.cached(k); ok && (!renew || now.made != before.made) {
		return now.fields, nil // somebody else did it meanwhile
	}
	fields, err := w.load(ctx, k, renew)
	if err != nil && ctx.Err() == nil {
		w.mu.Lock()
		f.failed, f.err = f.failed+1, err
		w.mu.Unlock()
	}
	return fields, err
}

// load reads the account and keeps it opened. The caller holds the flight.
func (w *Wallet) load(ctx context.Context, k walletKey, renew bool) ([]kidoban.Field, error) {
	w.mu.Lock()
	turn := w.turn
	w.mu.Unlock()
	fields, until, err := w.read(ctx, k, renew)
	if err != nil {
		w.forget(k)
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.turn != turn { // the name may stand for another server now
		return fields, nil
	}
	if len(w.open) >= maxOpen {
		clear(w.open)
	}
	w.made++
	w.open[k] = opened{fields: fields, made: w.made, until: until}
	return fields, nil
}

func (w *Wallet) cached(k walletKey) (opened, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, ok := w.open[k]
	return have, ok && w.Now().Before(have.until)
}

// flight waits until nobody else is in the account's flight. The caller calls leave
// at the end. Who waited while what was done there failed gets that error: it would
// only be done again, one after the other, at an issuer that may not even answer.
func (w *Wallet) flight(ctx context.Context, k walletKey) (f *flight, leave func(), err error) {
	w.mu.Lock()
	f = w.flights[k]
	if f == nil {
		f = &flight{turn: make(chan struct{}, 1)}
		w.flights[k] = f
	}
	f.n++
	failed := f.failed
	w.mu.Unlock()
	gone := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if f.n--; f.n == 0 {
			delete(w.flights, k)
		}
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		gone()
		return nil, nil, kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "nobody waits for the account at %s any more", k.server)
	}
	leave = func() { <-f.turn; gone() }
	w.mu.Lock()
	shared := f.failed != failed
	err = f.err
	w.mu.Unlock()
	if shared {
		leave()
		return nil, nil, err
	}
	return f, leave, nil
}

// read opens the account and renews it when it must be.
func (w *Wallet) read(ctx context.Context, k walletKey, renew bool) ([]kidoban.Field, time.Time, error) {
	until := w.Now().Add(walletLife)
	acc, err := w.Store.Account(ctx, k.user, k.server)
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
		return w.fetch(ctx, k, err) // some need no person to connect them
	}
	if err != nil {
		return nil, until, err
	}
	raw, err := w.unseal(ctx, acc)
	if err != nil {
		return nil, until, err
	}
	var kind struct {
		Kind string `json:"kind"`
	}
	var s fixedSecret
	var t token
	switch err := json.Unmarshal(raw, &kind); {
	case err == nil && kind.Kind == "header" && json.Unmarshal(raw, &s) == nil:
		return s.fields(), until, nil
	case err == nil && kind.Kind == "oauth" && json.Unmarshal(raw, &t) == nil:
		if t, err = w.fresh(ctx, acc, t, renew); err != nil {
			return nil, until, err
		}
		return t.fields(), t.until(w.Now(), until), nil
	}
	return nil, until, kidoban.Errorf(kidoban.KindInternal, "the account at %s is of a kind that this version does not know", k.server)
}

func (w *Wallet) unseal(ctx context.Context, a Account) ([]byte, error) {
	return w.Vault.Unseal(ctx, vault.Owner{User: a.User, Server: a.Server, Issuer: a.Issuer}, a.Sealed)
}

// seal writes v as the contents of an account.
func (w *Wallet) seal(ctx context.Context, user, server, issuer string, v any) (Account, error) {
	acc := Account{User: user, Server: server, Issuer: issuer, Updated: w.Now()}
	raw, err := json.Marshal(v)
	if err != nil {
		return acc, kidoban.Wrap(kidoban.KindInternal, err, "the account cannot be written")
	}
	acc.Sealed, err = w.Vault.Seal(ctx, vault.Owner{User: user, Server: server, Issuer: issuer}, raw)
	return acc, err
}

// put seals v as the contents of an account and stores it over what was there.
func (w *Wallet) put(ctx context.Context, user, server, issuer string, v any) error {
	acc, err := w.seal(ctx, user, server, issuer, v)
	if err != nil {
		return err
	}
	return w.Store.PutAccount(ctx, acc)
}

// State is what the connect page tells of an account.
type State struct {
	Connected bool
	Since     time.Time
	Scopes    []string // that a person is asked for, as far as known before asking
}

// State tells how the account of user at server stands. One whose server wants
// more than was agreed to counts as not connected (CL-11), and so does one that has
// ended, or was got for another server.
func (w *Wallet) State(ctx context.Context, user, server string) (State, error) {
	var st State
	a, aerr := w.app(server)
	if aerr == nil {
		st.Scopes = a.Scopes
	}
	acc, err := w.Store.Account(ctx, user, server)
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	st.Connected, st.Since = true, acc.Updated
	if t, err := w.token(ctx, acc); err == nil && t.Kind == "oauth" {
		st.Scopes = t.Asked
		if len(t.Want) > 0 {
			st.Connected, st.Scopes = false, t.Want
		}
		if t.Ended || aerr == nil && !t.stays(a, acc) {
			st.Connected = false
		}
	}
	return st, nil
}
