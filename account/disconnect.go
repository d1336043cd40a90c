package account

import (
	"context"
	"net/http"
	"net/url"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// An account can be taken out while its refresh token is being spent, here or at another
// replica: then what is stored is worth nothing any more, and the token that is worth
// something is on its way to whoever renews. Disconnecting waits for nobody, since an
// issuer may take its time; it forgets the account, and ends what it knows of. Who renews
// finds the account gone, and ends what it got.

// Disconnect forgets an account and ends its tokens at the third party, as far as
// that one can be reached (G-CO6). Not found: KindNotFound.
func (w *Wallet) Disconnect(ctx context.Context, user, server string) error {
	ctx, done := w.whole(ctx) // what is forgotten cannot be ended later
	defer done()
	acc, err := w.Store.DeleteAccount(ctx, user, server)
	if err != nil {
		return err
	}
	w.replaced(walletKey{user, server})
	if t, err := w.token(ctx, acc); err == nil && t.Kind == "oauth" {
		w.revoke(ctx, acc, t)
	}
	return nil
}

// overtaken is what becomes of a renewed token for which there is no room: the account
// was taken out, then the token is ended; or another one was connected, then that one
// serves. It ends nothing then: issuers that keep one consent for each user and client
// would end the new one, too.
func (w *Wallet) overtaken(ctx context.Context, a *App, acc Account, got token) (token, error) {
	now, err := w.Store.Account(ctx, acc.User, acc.Server)
	switch {
	case kidoban.KindOf(err) == kidoban.KindNotFound:
		w.revoke(ctx, acc, got)
		return got, gone(acc)
	case err != nil:
		return got, err
	}
	other, err := w.token(ctx, now)
	return a.instead(now, got, &other, err)
}

func gone(acc Account) error {
	return kidoban.Errorf(kidoban.KindNotFound, "the account at %s was disconnected", acc.Server)
}

// revoke ends a token at the issuer that gave it (RFC 7009), if that one can be reached
// and offers it: the refresh token, and the access token for issuers that do not end it
// along with that (§2.1).
func (w *Wallet) revoke(ctx context.Context, acc Account, t token) {
	a, err := w.app(acc.Server)
	if err != nil || a.Issuer != "" && a.Issuer != acc.Issuer {
		return
	}
	e, err := w.endpoints(ctx, a, acc.Issuer)
	if err != nil || e.revoke == "" {
		return
	}
	id, err := w.identity(ctx, a, acc.Server, acc.Issuer, t.Client)
	if err != nil {
		return
	}
	for _, x := range []struct{ token, kind string }{{t.Refresh, "refresh_token"}, {t.Access, "access_token"}} {
		if x.token == "" {
			continue
		}
		form := url.Values{"token": {x.token}, "token_type_hint": {x.kind}}
		h, err := w.authenticate(e, id, form, kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}})
		if err != nil {
			return
		}
		_, err = w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: e.revoke, Header: h, Body: []byte(form.Encode()), Credential: true, CredentialOrigin: e.revoke})
		if err != nil {
			return // it is forgotten here, whatever it says
		}
	}
}
