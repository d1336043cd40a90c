package account

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kidoban/kidoban"
)

// proof is the plaintext of a login at an identity provider: what the provider
// said of the user, to be exchanged for tokens in the user's name.
type proof struct {
	Kind    string    `json:"kind"` // "proof"
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// proofServer begins the Server of proofs; the issuer follows. No server's name
// holds a colon.
const proofServer = "proof:"

// KeepProof keeps the ID token of a user's login, sealed, when an app exchanges
// such of that issuer; otherwise it keeps nothing.
func (w *Wallet) KeepProof(ctx context.Context, user, issuer, idToken string, expires time.Time) error {
	w.mu.Lock()
	needed := false
	for _, a := range w.apps {
		needed = needed || a.Provider != nil && a.Provider.Issuer == issuer
	}
	w.mu.Unlock()
	if !needed {
		return nil
	}
	acc, err := w.seal(ctx, user, proofServer+issuer, issuer, proof{"proof", idToken, expires})
	if err != nil {
		return err
	}
	return w.Store.PutAccount(ctx, acc)
}

// Subject implements Subjects with the proofs that KeepProof kept.
func (w *Wallet) Subject(ctx context.Context, user, issuer string) (string, string, error) {
	again := kidoban.Errorf(kidoban.KindNotFound, "the login at %s is too long ago: log in there again", issuer)
	acc, err := w.Store.Account(ctx, user, proofServer+issuer)
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
		return "", "", again
	}
	if err != nil {
		return "", "", err
	}
	raw, err := w.unseal(ctx, acc)
	if err != nil {
		return "", "", err
	}
	var p proof
	if err := json.Unmarshal(raw, &p); err != nil {
		return "", "", kidoban.Wrap(kidoban.KindInternal, err, "the login at %s cannot be read", issuer)
	}
	if !w.Now().Before(p.Expires) {
		return "", "", again
	}
	return p.Token, TypeIDToken, nil
}
