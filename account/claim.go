package account

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kidoban/kidoban"
)

// Of several replicas one renews an account: an issuer to which a refresh token comes
// a second time takes it for stolen, and many end the account then, the token that the
// first one got included (RFC 9700 §4.14.2). So whoever renews writes into the account
// first that it does, and the others wait for what it stores. One that died over it is
// waited for until its claim is too old.

const (
	// claimLife is longer than a renewal may take, by what clocks of replicas may differ.
	claimLife = wholeTime + 5*time.Second
	claimLook = 100 * time.Millisecond // how often the others look
)

// claim makes this replica the one that renews an account in which t was read. acc is
// the account with the claim. other, when it is not nil, is what somebody else stored
// instead; then there is nothing to renew. While somebody else is at it, ctx may end
// the waiting.
func (w *Wallet) claim(ctx context.Context, acc Account, t token) (claimed Account, other *token, err error) {
	for now := t; ; {
		if now.Ended || w.Now().Sub(now.Trying).Abs() >= claimLife {
			next := now
			next.Trying = w.Now()
			if claimed, err = w.mark(ctx, acc, next); err == nil || kidoban.KindOf(err) != kidoban.KindConflict {
				return claimed, nil, err
			}
		} else {
			select {
			case <-ctx.Done():
				return acc, nil, kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "the account at %s is being renewed", acc.Server)
			case <-time.After(claimLook):
			}
		}
		if acc, err = w.Store.Account(ctx, acc.User, acc.Server); err != nil {
			return acc, nil, err
		}
		ended := now.Ended
		if now, err = w.token(ctx, acc); err != nil {
			return acc, nil, err
		}
		if !now.same(t) || now.Ended && !ended {
			return acc, &now, nil
		}
	}
}

// mark writes a claim. It is not broken off half way, so that no claim stands that
// nobody knows of.
func (w *Wallet) mark(ctx context.Context, acc Account, t token) (Account, error) {
	ctx, done := w.whole(ctx)
	defer done()
	next, err := w.seal(ctx, acc.User, acc.Server, acc.Issuer, t)
	if err != nil {
		return acc, err
	}
	next.Version, next.Updated = acc.Version, acc.Updated
	if err := w.store(ctx, next); err != nil {
		return acc, err
	}
	next.Version++
	return next, nil
}

// instead is the answer for an account that somebody else looked after.
func (w *Wallet) instead(t token, other *token, err error) (token, error) {
	switch {
	case err != nil:
		return t, err
	case other.Ended:
		return *other, kidoban.Errorf(kidoban.KindNotFound, "the account has ended: connect it again")
	}
	return *other, nil
}

// same tells whether two tokens are one, whatever else was noted about it.
func (t token) same(o token) bool { return t.Access == o.Access && t.Refresh == o.Refresh }

// spent tells of a plaintext that it is this token still, whose refresh token has been
// spent here: sealed anew by a rotation of keys, claimed, or said to have ended. What
// was got for it goes before.
func (t token) spent(raw []byte) bool {
	var now token
	return json.Unmarshal(raw, &now) == nil && now.Refresh == t.Refresh
}
