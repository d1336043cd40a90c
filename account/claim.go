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
	// claimLife is longer than a renewal may take, by what the replicas' readings of the
	// clock that they share may differ.
	claimLife = wholeTime + 5*time.Second
	claimLook = 100 * time.Millisecond // how often the others look
)

// held is what an account holds and renews: a token, or the proof of a login.
type held[T any] interface {
	same(T) bool         // one as the other, whatever else was noted about it
	over() bool          // nobody renews it
	since() time.Time    // when somebody began to; zero: nobody does
	tried(time.Time) any // the same with that
}

// claim makes this replica the one that renews an account in which t was read. The
// account it returns has the claim. other, when it is not nil, is what somebody else
// stored instead; then there is nothing to renew. While somebody else is at it, ctx may
// end the waiting.
func claim[T held[T]](ctx context.Context, w *Wallet, acc Account, t T) (claimed Account, other *T, err error) {
	for now := t; ; {
		if now.over() || w.Shared().Sub(now.since()).Abs() >= claimLife {
			if claimed, err = w.mark(ctx, acc, now.tried(w.Shared())); err == nil || kidoban.KindOf(err) != kidoban.KindConflict {
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
		raw, err := w.unseal(ctx, acc)
		if err != nil {
			return acc, nil, err
		}
		over := now.over()
		var next T // members that are left out must not stay
		if err := json.Unmarshal(raw, &next); err != nil {
			return acc, nil, kidoban.Wrap(kidoban.KindInternal, err, "the account at %s cannot be read", acc.Server)
		}
		if now = next; !now.same(t) || now.over() && !over {
			return acc, &now, nil
		}
	}
}

// mark writes a claim. It is not broken off half way, so that no claim stands that
// nobody knows of.
func (w *Wallet) mark(ctx context.Context, acc Account, secret any) (Account, error) {
	ctx, done := w.whole(ctx)
	defer done()
	next, err := w.seal(ctx, acc.User, acc.Server, acc.Issuer, secret)
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

// instead is the answer for an account that somebody else looked after, as acc has it
// now. For them the server's name may stand for another host than in a, whose call waits.
func (a *App) instead(acc Account, t token, other *token, err error) (token, error) {
	switch {
	case err != nil:
		return t, err
	case other.Kind != "oauth" || !other.stays(a, acc):
		return t, kidoban.Errorf(kidoban.KindUnreachable, "the account at %s has just been replaced: try again", acc.Server)
	case other.Ended:
		return *other, kidoban.Errorf(kidoban.KindNotFound, "the account has ended: connect it again")
	}
	return *other, nil
}

func (t token) same(o token) bool      { return t.Access == o.Access && t.Refresh == o.Refresh }
func (t token) over() bool             { return t.Ended }
func (t token) since() time.Time       { return t.Trying }
func (t token) tried(at time.Time) any { t.Trying = at; return t }
func (p proof) same(o proof) bool      { return p.Token == o.Token && p.Refresh == o.Refresh }
func (p proof) over() bool             { return p.Refresh == "" }
func (p proof) since() time.Time       { return p.Trying }
func (p proof) tried(at time.Time) any { p.Trying = at; return p }
