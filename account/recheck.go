package account

import (
	"context"
	"time"

	"github.com/kidoban/kidoban"
)

// Recheck has the issuer renew a user's login whether or not its ID token has run out:
// what is wanted is the issuer's word that the person is still there. One caller at a
// time asks, of all replicas; needless tells those who waited that it was done.
// KindNotFound: there is nothing to ask with, or the issuer says that the login has
// ended. Other errors may pass.
//
// ctx bounds the waiting, not the renewal: an answer that comes later is kept.
func (w *Wallet) Recheck(ctx context.Context, user, issuer string, needless func(context.Context) (bool, error)) error {
	whole, done := w.whole(ctx)
	answer := make(chan error, 1)
	go func() {
		defer done()
		answer <- w.recheck(whole, walletKey{user, proofServer + issuer}, issuer, needless)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "%s has not said in time whether the login still holds", issuer)
	}
}

func (w *Wallet) recheck(ctx context.Context, k walletKey, issuer string, needless func(context.Context) (bool, error)) error {
	f, leave, err := w.flight(ctx, k)
	if err != nil {
		return err
	}
	defer leave()
	if over, err := needless(ctx); over || err != nil {
		return err
	}
	acc, p, err := w.proof(ctx, k.user, issuer)
	if err != nil {
		return err
	}
	if w.Renew == nil || p.Refresh == "" {
		return loginAgain(issuer)
	}
	claimed, other, err := claim(ctx, w, acc, p)
	if err == nil && other != nil { // another replica has asked, or the person has logged in
		if over, err := heardSoon(ctx, needless); over || err != nil {
			return err
		}
		if other.Refresh == "" {
			return loginAgain(issuer)
		}
		return kidoban.Errorf(kidoban.KindUnreachable, "the login at %s has just been renewed: ask again", issuer)
	}
	if err == nil {
		_, err = w.renewClaimed(ctx, claimed, p)
	}
	if err != nil { // who waited for this one need not ask for the same
		w.mu.Lock()
		f.failed++
		f.err = err
		w.mu.Unlock()
	}
	return err
}

// heardSoon waits for the word that another replica has just asked for: the refresh
// token that takes the place of the old one is kept before the rest of the answer is
// looked at.
func heardSoon(ctx context.Context, needless func(context.Context) (bool, error)) (over bool, err error) {
	for range heardLooks {
		if over, err = needless(ctx); over || err != nil {
			return over, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(claimLook):
		}
	}
	return false, nil
}

// heardLooks times claimLook are some seconds, as long as anybody waits for an answer.
const heardLooks = 40
