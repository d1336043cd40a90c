package account

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// registration is the plaintext of the gateway's own registration at an issuer.
type registration struct {
	Kind     string    `json:"kind"` // "client"
	ID       string    `json:"id"`
	Secret   string    `json:"secret,omitempty"`
	Method   string    `json:"method"`
	Callback string    `json:"callback"`
	Expires  time.Time `json:"expires,omitzero"`
}

// identity finds the client that an account belongs to: a refresh token is good
// for the client that got it, and no other.
func (w *Wallet) identity(ctx context.Context, a *App, server, issuer, client string) (identity, error) {
	switch {
	case a.ClientID != "":
		return a.preRegistered(), nil
	case a.Document != "" && client == a.Document:
		return identity{id: a.Document, method: methodNone}, nil
	}
	r, err := w.registration(ctx, server, issuer)
	if err == nil && r.ID == client {
		return identity{id: r.ID, secret: r.Secret, method: r.Method, registered: true, server: server}, nil
	}
	if err == nil || kidoban.KindOf(err) == kidoban.KindNotFound {
		return identity{}, kidoban.Errorf(kidoban.KindNotFound, "the account at %s belongs to a registration that is gone: connect it again", server)
	}
	return identity{}, err
}

func (a *App) preRegistered() identity {
	return identity{id: a.ClientID, secret: a.ClientSecret, key: a.Key, method: a.Method}
}

// become makes the gateway a client of an issuer, in the order of the MCP
// specification: pre-registered, by its document, by registering (CL-07).
func (w *Wallet) become(ctx context.Context, a *App, server, issuer string, e endpoints, callback string, scopes []string) (identity, error) {
	switch {
	case a.ClientID != "":
		return a.preRegistered(), nil
	case a.Document != "" && e.cimd:
		return identity{id: a.Document, method: methodNone}, nil
	}
	_, leave, err := w.flight(ctx, walletKey{ClientUser + issuer, server})
	if err != nil {
		return identity{}, err
	}
	defer leave()
	r, err := w.registration(ctx, server, issuer)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return identity{}, err
	}
	if err != nil || r.Callback != callback || !r.Expires.IsZero() && w.Now().After(r.Expires.Add(-time.Hour)) {
		if r, err = w.register(ctx, a, server, issuer, e, callback, scopes); err != nil {
			return identity{}, err
		}
	}
	return identity{id: r.ID, secret: r.Secret, method: r.Method, registered: true, server: server}, nil
}

func (w *Wallet) registration(ctx context.Context, server, issuer string) (r registration, err error) {
	acc, err := w.Store.Account(ctx, ClientUser+issuer, server)
	if err != nil {
		return r, err
	}
	raw, err := w.unseal(ctx, acc)
	if err != nil {
		return r, err
	}
	return r, kidoban.Wrap(kidoban.KindInternal, json.Unmarshal(raw, &r), "the registration at %s cannot be read", issuer)
}

// lost forgets a registration that its issuer does not know any more, so that
// the next connection makes a new one. One that was made meanwhile stays: other
// accounts belong to it.
func (w *Wallet) lost(ctx context.Context, id identity, issuer string) error {
	r, err := w.registration(ctx, id.server, issuer)
	if err == nil && r.ID == id.id {
		_, err = w.Store.DeleteAccount(ctx, ClientUser+issuer, id.server)
	}
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return err
	}
	return kidoban.Errorf(kidoban.KindNotFound, "the authorization server %s has forgotten the gateway: connect the account again", issuer)
}

// register is dynamic client registration (RFC 7591). What comes back is kept
// sealed, for this server and issuer (CL-09).
func (w *Wallet) register(ctx context.Context, a *App, server, issuer string, e endpoints, callback string, scopes []string) (registration, error) {
	r := registration{Kind: "client", Callback: callback, Method: asks(e)}
	if e.register == "" {
		return r, kidoban.Errorf(kidoban.KindNotFound, "the authorization server %s lets no client register itself: register the gateway there with the callback %s, and put client_id and secret_file under oauth", issuer, callback)
	}
	body, err := json.Marshal(oauth.ClientMetadata{ClientName: a.ClientName, RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: r.Method, ApplicationType: applicationType(callback), Scope: oauth.JoinScope(scopes)})
	if err != nil {
		return r, kidoban.Wrap(kidoban.KindInternal, err, "the registration cannot be written")
	}
	x, err := w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: e.register, Body: body,
		Header: kidoban.Fields{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json"}}})
	if err != nil {
		return r, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s cannot be reached", issuer)
	}
	if x.Status() != http.StatusCreated && x.Status() != http.StatusOK {
		why := ""
		if er, ok := oauth.ParseErrorResponse(x.Response.Body); ok && len(er.Code) < 64 && oauth.CheckScope(er.Code) == nil {
			why = " (" + er.Code + ")"
		}
		return r, kidoban.Errorf(kidoban.KindRefused, "the authorization server %s did not register the gateway%s", issuer, why)
	}
	m, err := oauth.ParseClientMetadata(x.Response.Body)
	if err != nil || m.ClientID == "" || len(m.ClientID) > 2048 || len(m.ClientSecret) > 4096 {
		return r, kidoban.Wrap(kidoban.KindInput, orMissing(err), "the authorization server %s registered the gateway without naming it", issuer)
	}
	r.ID, r.Secret = m.ClientID, m.ClientSecret
	if m.TokenEndpointAuthMethod != "" {
		r.Method = m.TokenEndpointAuthMethod
	}
	if r.Secret == "" {
		r.Method = methodNone
	}
	if s := m.ClientSecretExpiresAt; s != nil && *s > 0 {
		r.Expires = time.Unix(*s, 0)
	}
	return r, w.put(ctx, ClientUser+issuer, server, issuer, r)
}

func orMissing(err error) error {
	if err != nil {
		return err
	}
	return kidoban.Errorf(kidoban.KindInput, "no client_id")
}

// asks picks how to authenticate as a client that registers itself: with a
// secret where the issuer takes one, the header first.
func asks(e endpoints) string {
	for _, m := range []string{methodBasic, methodPost} {
		if slices.Contains(e.methods, m) {
			return m
		}
	}
	return methodNone
}

// applicationType is what RFC 7591 calls the gateway: a web server, unless it
// runs on a person's own machine (CL-08).
func applicationType(callback string) string {
	u, err := url.Parse(callback)
	if err == nil && u.Scheme == "https" && !strings.HasPrefix(u.Hostname(), "127.") && u.Hostname() != "localhost" && u.Hostname() != "::1" {
		return "web"
	}
	return "native"
}

// Document is the gateway's own client document, for issuers that take such:
// url is where it will stand.
func Document(url, name, callback string) ([]byte, error) {
	return json.Marshal(oauth.ClientMetadata{ClientID: url, ClientName: name, RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: methodNone, ApplicationType: applicationType(callback)})
}
