package account

import (
	"context"
	"net/url"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// Names of grants and token types (RFC 8693 §3, RFC 7523, ID-JAG).
const (
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantAssertion = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	typeAccess     = "urn:ietf:params:oauth:token-type:access_token"
	typeAssertion  = "urn:ietf:params:oauth:token-type:id-jag"
)

// TypeIDToken is the type of an OpenID Connect ID token (RFC 8693 §3).
const TypeIDToken = "urn:ietf:params:oauth:token-type:id_token"

// fetch gets an account that needs no person to connect it. missing is the
// answer for the others. The caller holds the account's flight.
func (w *Wallet) fetch(ctx context.Context, k walletKey, missing error) ([]kidoban.Field, time.Time, error) {
	a, err := w.app(k.server)
	if err != nil || a.Grant == GrantCode {
		return nil, time.Time{}, missing
	}
	t, err := w.grant(ctx, a, k.user, k.server, token{})
	if err != nil {
		return nil, time.Time{}, err
	}
	return t.fields(), t.until(w.Now(), w.Now().Add(walletLife)), nil
}

// grant gets a token without a person and stores it.
func (w *Wallet) grant(ctx context.Context, a *App, user, server string, old token) (token, error) {
	p, err := w.place(ctx, a, server)
	if err != nil {
		return old, err
	}
	e, err := w.endpoints(ctx, a, p.issuer)
	if err != nil {
		return old, err
	}
	t := token{Client: a.ClientID, Resource: a.resource(p, e), Host: a.host(), Asked: p.scopes, Steps: old.Steps, Stepped: old.Stepped, Renewed: w.Now()}
	if len(old.Want) > 0 {
		t.Asked = old.Want
	}
	if len(a.Scopes) > 0 {
		t.Asked = a.Scopes
	}
	var r oauth.TokenResponse
	switch a.Grant {
	case GrantClient:
		form := url.Values{"grant_type": {"client_credentials"}}
		r, err = w.post(ctx, a, e, a.preRegistered(), scoped(form, t.Asked), t.Resource)
	case GrantExchange:
		r, err = w.exchange(ctx, a, user, e, t)
	case GrantAssert:
		r, err = w.assert(ctx, a, user, e, t)
	default:
		err = kidoban.Errorf(kidoban.KindUsage, "the grant %.40q is not known", a.Grant)
	}
	if err != nil {
		return old, err
	}
	t = t.take(w.Now(), r)
	acc, err := w.seal(ctx, user, server, p.issuer, t)
	if err != nil {
		return old, err
	}
	return t, w.Store.PutAccount(ctx, acc)
}

func scoped(form url.Values, scopes []string) url.Values {
	if len(scopes) > 0 {
		form.Set("scope", oauth.JoinScope(scopes))
	}
	return form
}

// subject is the proof of who the user is, made for this and nothing else. It is
// never the token with which a client came to the gateway (RS-06).
func (w *Wallet) subject(ctx context.Context, a *App, user string) (proof, kind string, err error) {
	switch {
	case a.Provider == nil:
		return "", "", kidoban.Errorf(kidoban.KindUsage, "the grant %s needs an identity provider: set oauth.provider", a.Grant)
	case user == "":
		return "", "", kidoban.Errorf(kidoban.KindRefused, "nothing proves to %s who the user is", a.Provider.Issuer)
	case w.Subjects == nil:
		return w.Subject(ctx, user, a.Provider.Issuer)
	}
	return w.Subjects.Subject(ctx, user, a.Provider.Issuer)
}

// exchange swaps the user's proof for a token of the server (RFC 8693 §2).
func (w *Wallet) exchange(ctx context.Context, a *App, user string, e endpoints, t token) (oauth.TokenResponse, error) {
	proof, kind, err := w.subject(ctx, a, user)
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	form := url.Values{"grant_type": {grantExchange}, "subject_token": {proof}, "subject_token_type": {kind}, "requested_token_type": {typeAccess}}
	r, err := w.post(ctx, a, e, a.preRegistered(), scoped(form, t.Asked), t.Resource)
	r.RefreshToken = "" // the next one is exchanged again: the proof must still be good
	return r, err
}

// assert gets an identity assertion for the server's issuer from the identity
// provider, and a token for that assertion (mcp-authorization 3.4).
func (w *Wallet) assert(ctx context.Context, a *App, user string, e endpoints, t token) (oauth.TokenResponse, error) {
	var none oauth.TokenResponse
	proof, kind, err := w.subject(ctx, a, user)
	if err != nil {
		return none, err
	}
	at := &App{Token: a.Provider.Token, Loopback: a.Loopback, Private: a.Private}
	idp, err := w.endpoints(ctx, at, a.Provider.Issuer)
	if err != nil {
		return none, err
	}
	me := identity{id: a.Provider.ClientID, secret: a.Provider.ClientSecret, key: a.Provider.Key, method: a.Provider.Method}
	form := url.Values{"grant_type": {grantExchange}, "requested_token_type": {typeAssertion}, "audience": {e.issuer}, "subject_token": {proof}, "subject_token_type": {kind}}
	if t.Resource != "" {
		form.Set("resource", t.Resource)
	}
	jag, err := w.post(ctx, at, idp, me, scoped(form, t.Asked), "")
	if err != nil {
		return none, err
	}
	form = url.Values{"grant_type": {grantAssertion}, "assertion": {jag.AccessToken}}
	r, err := w.post(ctx, a, e, a.preRegistered(), scoped(form, t.Asked), t.Resource)
	r.RefreshToken = "" // the provider decides each time anew
	return r, err
}
