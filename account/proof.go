package account

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kidoban/kidoban"
)

// Login is what an identity provider said of a user who logged in there.
type Login struct {
	User    string // whose it is
	Issuer  string
	Subject string
	IDToken string
	Refresh string // refresh token; "" when the provider granted none
	Expires time.Time
}

// proof is the plaintext of a login that is kept: it is exchanged for tokens in the
// user's name.
type proof struct {
	Kind    string    `json:"kind"` // "proof"
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	Subject string    `json:"subject,omitempty"`
	Refresh string    `json:"refresh,omitempty"`
	Trying  time.Time `json:"trying,omitzero"` // when somebody began to renew it; zero: nobody does
}

// proofServer begins the Server of proofs; the issuer follows. No server's name
// holds a colon.
const proofServer = "proof:"

// KeepProof keeps a user's login, sealed, when an app exchanges such of that
// issuer; otherwise it keeps nothing.
func (w *Wallet) KeepProof(ctx context.Context, user string, l Login) error {
	w.mu.Lock()
	needed := false
	for _, a := range w.apps {
		needed = needed || a.Provider != nil && a.Provider.Issuer == l.Issuer
	}
	w.mu.Unlock()
	if !needed {
		return nil
	}
	return w.KeepLogin(ctx, user, l)
}

// KeepLogin keeps a user's login, sealed, whether or not it is exchanged: for Recheck.
func (w *Wallet) KeepLogin(ctx context.Context, user string, l Login) error {
	return w.put(ctx, user, proofServer+l.Issuer, l.Issuer, l.proof())
}

func (l Login) proof() proof {
	return proof{Kind: "proof", Token: l.IDToken, Expires: l.Expires, Subject: l.Subject, Refresh: l.Refresh}
}

// Subject implements Subjects with the logins that KeepProof kept. One whose ID
// token has run out is renewed with its refresh token, by one caller at a time.
func (w *Wallet) Subject(ctx context.Context, user, issuer string) (string, string, error) {
	acc, p, err := w.proof(ctx, user, issuer)
	if err != nil {
		return "", "", err
	}
	if w.Now().Add(slack).Before(p.Expires) {
		return p.Token, TypeIDToken, nil
	}
	_, leave, err := w.flight(ctx, walletKey{user, acc.Server})
	if err != nil {
		return "", "", err
	}
	defer leave()
	if acc, p, err = w.proof(ctx, user, issuer); err != nil { // the one before may have renewed it
		return "", "", err
	}
	if w.Now().Add(slack).Before(p.Expires) {
		return p.Token, TypeIDToken, nil
	}
	if p, err = w.renewProof(ctx, acc, p); err != nil {
		return "", "", err
	}
	return p.Token, TypeIDToken, nil
}

// Proven tells whether a login of the user at the issuer is kept that is good, or
// may be renewed.
func (w *Wallet) Proven(ctx context.Context, user, issuer string) (bool, error) {
	_, p, err := w.proof(ctx, user, issuer)
	if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
		return false, nil
	}
	return err == nil && (w.Now().Add(slack).Before(p.Expires) || p.Refresh != "" && w.Renew != nil), err
}

func loginAgain(issuer string) error {
	return kidoban.Errorf(kidoban.KindNotFound, "the login at %s is too long ago: log in there again", issuer)
}

// proof reads a login.
func (w *Wallet) proof(ctx context.Context, user, issuer string) (acc Account, p proof, err error) {
	acc, err = w.Store.Account(ctx, user, proofServer+issuer)
	if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
		return acc, p, loginAgain(issuer)
	}
	if err != nil {
		return acc, p, err
	}
	raw, err := w.unseal(ctx, acc)
	if err != nil {
		return acc, p, err
	}
	return acc, p, kidoban.Wrap(kidoban.KindInternal, json.Unmarshal(raw, &p), "the login at %s cannot be read", issuer)
}

// renewProof asks the provider for a fresh ID token. Of several replicas one does; the
// others take what it stored, or go on from there.
func (w *Wallet) renewProof(ctx context.Context, acc Account, p proof) (proof, error) {
	for {
		if w.Renew == nil || p.Refresh == "" {
			return p, loginAgain(acc.Issuer)
		}
		now, other, err := claim(ctx, w, acc, p)
		switch {
		case err != nil:
			return p, err
		case other == nil:
			return w.renewClaimed(ctx, now, p)
		case w.Now().Add(slack).Before(other.Expires):
			return *other, nil
		}
		acc, p = now, *other
	}
}

// renewClaimed renews a proof whose renewal is this replica's. A refresh token that
// takes the place of the one that was sent is stored at once, under the login that is
// kept: whatever becomes of the ID token that came with it, the one before is spent.
func (w *Wallet) renewClaimed(ctx context.Context, acc Account, p proof) (proof, error) {
	ctx, done := w.whole(ctx)
	defer done()
	sent := p
	l, err := w.Renew(ctx, Login{acc.User, acc.Issuer, p.Subject, p.Token, p.Refresh, p.Expires}, func(refresh string) {
		next := p
		next.Refresh, next.Trying = refresh, w.Shared() // the claim stays
		p = next
		if w.swap(ctx, acc, next, sent.spent) == nil { // else it may still be stored with what comes next
			acc.Version++
		}
	})
	if err == nil {
		yields := func(raw []byte) bool { return p.spent(raw) || sent.spent(raw) }
		if err = w.swap(ctx, acc, l.proof(), yields); kidoban.KindOf(err) == kidoban.KindConflict {
			err = nil // a login that came meanwhile stands
		}
		return l.proof(), err
	}
	if _, fresh, rerr := w.proof(ctx, acc.User, acc.Issuer); rerr == nil && fresh.Token != sent.Token && w.Now().Add(slack).Before(fresh.Expires) {
		return fresh, nil // a login that came meanwhile
	}
	over := kidoban.KindOf(err) == kidoban.KindNotFound
	if p.Trying = (time.Time{}); over {
		p.Refresh = "" // it will not be asked again
	}
	_ = w.swap(ctx, acc, p, nil) // a login that came meanwhile stands
	if over {
		return p, err
	}
	return p, kidoban.Wrap(kidoban.KindUnreachable, err, "the login at %s cannot be renewed just now", acc.Issuer)
}

// spent tells of a plaintext that it is this proof still, whose refresh token has been
// spent here, or was given up by a replica that sent it later.
func (p proof) spent(raw []byte) bool {
	var now proof
	return json.Unmarshal(raw, &now) == nil && now.Token == p.Token && (now.Refresh == "" || now.Refresh == p.Refresh)
}
