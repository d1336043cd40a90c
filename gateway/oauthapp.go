package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/vault"
)

// OAuthApp is the gateway's own client at the authorization server that gives out
// the accounts of a server (G-VA2). The client is the operator's: nothing is
// registered on the way, and everything is bound to the issuer that stands here
// (CL-09): what a server's metadata says of another one is not followed.
type OAuthApp struct {
	Issuer       string
	ClientID     string
	ClientSecret string // empty: a public client
	Scopes       []string
	// Resource is the audience to ask for (RFC 8707); empty sends none, for
	// providers that refuse the parameter.
	Resource string
	// Endpoints for providers without metadata; all or none.
	Authorization, Token, Revocation string
	// Loopback lets the authorization server live on loopback.
	Loopback bool
}

// endpoints are where an authorization server answers.
type endpoints struct {
	authorize, token, revoke string
	iss                      bool // it promises iss in its answers
	basic                    bool // it takes the secret in the header only
}

// oauthAccount is the plaintext of an account that is a token.
type oauthAccount struct {
	Kind    string    `json:"kind"` // "oauth"
	Access  string    `json:"access"`
	Refresh string    `json:"refresh,omitempty"`
	Renew   time.Time `json:"renew,omitzero"` // when to get the next one; zero: never by the clock
}

// client picks the outbound client for the app.
func (w *Wallet) client(a *OAuthApp) *outbound.Client {
	if a.Loopback {
		return w.lab
	}
	return w.out
}

// endpoints finds the app's endpoints: those of the config, or those of the
// issuer's metadata, which must name this issuer byte for byte (E36, 2) and
// offer S256 (E36, 6).
func (w *Wallet) endpoints(ctx context.Context, a *OAuthApp) (endpoints, error) {
	if a.Authorization != "" {
		return endpoints{authorize: a.Authorization, token: a.Token, revoke: a.Revocation}, nil
	}
	w.mu.Lock()
	have, ok := w.found[a.Issuer]
	w.mu.Unlock()
	if ok {
		return have, nil
	}
	urls, err := oauth.MetadataURLs(a.Issuer)
	if err != nil {
		return endpoints{}, err
	}
	for _, u := range urls {
		x, err := w.client(a).Do(ctx, outbound.Req{URL: u, Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}})
		if err != nil {
			return endpoints{}, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s cannot be reached", a.Issuer)
		}
		if x.Status() != http.StatusOK || x.Response.Truncated {
			continue
		}
		m, err := oauth.ParseMetadata(x.Response.Body)
		if err != nil {
			continue
		}
		e, err := w.accept(a, m)
		if err != nil {
			return endpoints{}, err
		}
		w.mu.Lock()
		w.found[a.Issuer] = e
		w.mu.Unlock()
		return e, nil
	}
	return endpoints{}, kidoban.Errorf(kidoban.KindNotFound, "the authorization server %s publishes no metadata: name its endpoints in the config", a.Issuer)
}

func (w *Wallet) accept(a *OAuthApp, m oauth.Metadata) (endpoints, error) {
	if m.Issuer != a.Issuer {
		return endpoints{}, kidoban.Errorf(kidoban.KindRefused, "the metadata of %s names another issuer", a.Issuer)
	}
	if !m.SupportsS256() {
		return endpoints{}, kidoban.Errorf(kidoban.KindRefused, "the authorization server %s does not offer PKCE with S256", a.Issuer)
	}
	for _, u := range []string{m.AuthorizationEndpoint, m.TokenEndpoint} { // https, public hosts (E36, 5 and 8)
		if err := w.client(a).CheckURL(u); err != nil {
			return endpoints{}, kidoban.Wrap(kidoban.KindRefused, err, "an endpoint of the authorization server %s cannot be used", a.Issuer)
		}
	}
	e := endpoints{authorize: m.AuthorizationEndpoint, token: m.TokenEndpoint, revoke: m.RevocationEndpoint, iss: m.IssParameterSupported}
	methods := m.TokenAuthMethods()
	e.basic = len(methods) > 0
	for _, name := range methods {
		e.basic = e.basic && name != "client_secret_post"
	}
	return e, nil
}

// app finds the app of a server, KindNotFound when it has none.
func (w *Wallet) app(server string) (*OAuthApp, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.apps[server]; a != nil {
		return a, nil
	}
	return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no account to connect at %s", server)
}

// SetApps replaces the apps, by server.
func (w *Wallet) SetApps(apps map[string]*OAuthApp) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apps, w.found = apps, map[string]endpoints{}
	clear(w.open)
}

// Begin returns the address at the third party where the user says yes. State,
// challenge and callback are the caller's, who has asked for consent before
// (PX-01, PX-08).
func (w *Wallet) Begin(ctx context.Context, server, state, challenge, callback string) (string, error) {
	a, err := w.app(server)
	if err != nil {
		return "", err
	}
	e, err := w.endpoints(ctx, a)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(e.authorize)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindInput, err, "the authorization endpoint of %s is not a URL", a.Issuer)
	}
	q := u.Query()
	for k, v := range map[string]string{"response_type": "code", "client_id": a.ClientID, "redirect_uri": callback, "state": state, "code_challenge": challenge, "code_challenge_method": "S256"} {
		q.Set(k, v)
	}
	if len(a.Scopes) > 0 {
		q.Set("scope", oauth.JoinScope(a.Scopes))
	}
	if a.Resource != "" {
		q.Set("resource", a.Resource)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Finish takes the callback's parameters, exchanges the code and stores the
// account. The caller has compared the state.
func (w *Wallet) Finish(ctx context.Context, user, server string, params url.Values, verifier, callback string) error {
	a, err := w.app(server)
	if err != nil {
		return err
	}
	e, err := w.endpoints(ctx, a)
	if err != nil {
		return err
	}
	if !oauth.CheckIss(a.Issuer, e.iss, params["iss"]).Accept() { // before anything else is believed (E36, 4)
		return kidoban.Errorf(kidoban.KindRefused, "The answer did not come from the authorization server that was asked. Connect again; if it happens again, tell your operator.")
	}
	if params.Get("error") != "" {
		return kidoban.Errorf(kidoban.KindRefused, "The other side did not give access. Connect again when you want to.")
	}
	if len(params["code"]) != 1 || params.Get("code") == "" {
		return kidoban.Errorf(kidoban.KindInput, "The answer of the other side holds no code. Connect again.")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {params.Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	t, err := w.exchange(ctx, a, e, form)
	if err != nil {
		return err
	}
	sealed, err := w.sealToken(ctx, user, server, a.Issuer, t, "")
	if err != nil {
		return err
	}
	w.forget(walletKey{user, server})
	return w.store.PutAccount(ctx, Account{User: user, Server: server, Issuer: a.Issuer, Sealed: sealed, Updated: w.now()})
}

// exchange posts to the token endpoint. Redirects are not followed, and the
// secret goes to the issuer's own endpoint only (E36, 3 and 7).
func (w *Wallet) exchange(ctx context.Context, a *OAuthApp, e endpoints, form url.Values) (oauth.TokenResponse, error) {
	h := kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Accept", Value: "application/json"}}
	if a.Resource != "" {
		form.Set("resource", a.Resource)
	}
	switch {
	case a.ClientSecret == "":
		form.Set("client_id", a.ClientID)
	case e.basic:
		h = append(h, kidoban.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(a.ClientID)+":"+url.QueryEscape(a.ClientSecret)))})
	default:
		form.Set("client_id", a.ClientID)
		form.Set("client_secret", a.ClientSecret)
	}
	x, err := w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: e.token, Header: h, Body: []byte(form.Encode()), Credential: true, CredentialOrigin: e.token})
	if err != nil {
		return oauth.TokenResponse{}, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s cannot be reached", a.Issuer)
	}
	if er, ok := oauth.ParseErrorResponse(x.Response.Body); ok && er.Code == "invalid_grant" {
		return oauth.TokenResponse{}, kidoban.Errorf(kidoban.KindNotFound, "the account at %s has ended: connect it again", a.Issuer)
	}
	t, err := oauth.ParseTokenResponse(x.Status(), x.Response.Body)
	if err != nil {
		return t, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s gave no token", a.Issuer)
	}
	if !strings.EqualFold(t.TokenType, "Bearer") && t.TokenType != "" || !headerSafe(Header{"Authorization", t.AccessToken}) {
		return t, kidoban.Errorf(kidoban.KindInput, "the authorization server %s gave a token that cannot be used", a.Issuer)
	}
	return t, nil
}

// sealToken seals a token answer; old is the refresh token that stays when the
// answer has none.
func (w *Wallet) sealToken(ctx context.Context, user, server, issuer string, t oauth.TokenResponse, old string) ([]byte, error) {
	acc := oauthAccount{Kind: "oauth", Access: t.AccessToken, Refresh: t.RefreshToken}
	if acc.Refresh == "" {
		acc.Refresh = old
	}
	if t.ExpiresIn > 0 {
		life := time.Duration(min(t.ExpiresIn, 1<<31)) * time.Second
		acc.Renew = w.now().Add(max(life-early, life/2))
	}
	raw, err := json.Marshal(acc)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the account cannot be written")
	}
	return w.vault.Seal(ctx, vault.Owner{User: user, Server: server, Issuer: issuer}, raw)
}

// early is how long before its end a token is renewed; a short one at half its life.
const early = time.Minute

// token gives the access token of an account, renewed when it must be. The
// caller holds the account's flight: one renewal at a time here, and of several
// replicas the store lets one win (E36, 13).
func (w *Wallet) token(ctx context.Context, acc Account, o oauthAccount, renew bool) (oauthAccount, error) {
	if !renew && (o.Renew.IsZero() || w.now().Before(o.Renew)) {
		return o, nil
	}
	if o.Refresh == "" {
		if renew {
			return o, kidoban.Errorf(kidoban.KindNotFound, "the account at %s has ended: connect it again", acc.Server)
		}
		return o, nil
	}
	a, err := w.app(acc.Server)
	if err != nil {
		return o, err
	}
	if a.Issuer != acc.Issuer { // the config names another server now: it gets nothing of the old one's (E36, 3)
		return o, kidoban.Errorf(kidoban.KindNotFound, "the account at %s was connected at another authorization server: connect it again", acc.Server)
	}
	e, err := w.endpoints(ctx, a)
	if err != nil {
		return o, err
	}
	t, err := w.exchange(ctx, a, e, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {o.Refresh}})
	if err != nil {
		return w.elsewhere(ctx, acc, o, err)
	}
	sealed, err := w.sealToken(ctx, acc.User, acc.Server, acc.Issuer, t, o.Refresh)
	if err != nil {
		return o, err
	}
	acc.Sealed, acc.Updated = sealed, w.now()
	if err := w.store.SwapAccount(ctx, acc); err != nil && kidoban.KindOf(err) != kidoban.KindConflict {
		return o, err
	}
	return w.open1(ctx, acc, sealed)
}

// elsewhere looks whether another replica renewed the token in the meantime.
func (w *Wallet) elsewhere(ctx context.Context, acc Account, o oauthAccount, cause error) (oauthAccount, error) {
	now, err := w.store.Account(ctx, acc.User, acc.Server)
	if err != nil || now.Version == acc.Version {
		return o, cause
	}
	return w.open1(ctx, now, now.Sealed)
}

func (w *Wallet) open1(ctx context.Context, acc Account, sealed []byte) (o oauthAccount, err error) {
	raw, err := w.vault.Unseal(ctx, vault.Owner{User: acc.User, Server: acc.Server, Issuer: acc.Issuer}, sealed)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return o, kidoban.Wrap(kidoban.KindInternal, err, "the account at %s cannot be read", acc.Server)
	}
	return o, nil
}

// Disconnect forgets an account and ends its token at the third party, as far as
// that one can be reached (G-CO6). Not found: KindNotFound.
func (w *Wallet) Disconnect(ctx context.Context, user, server string) error {
	acc, err := w.store.Account(ctx, user, server)
	if err != nil {
		return err
	}
	w.forget(walletKey{user, server})
	if err := w.store.DeleteAccount(ctx, user, server); err != nil {
		return err
	}
	o, err := w.open1(ctx, acc, acc.Sealed)
	if err != nil || o.Kind != "oauth" {
		return nil
	}
	a, err := w.app(server)
	if err != nil || a.Issuer != acc.Issuer {
		return nil
	}
	if e, err := w.endpoints(ctx, a); err == nil && e.revoke != "" {
		token := o.Refresh
		if token == "" {
			token = o.Access
		}
		form := url.Values{"token": {token}, "client_id": {a.ClientID}}
		if a.ClientSecret != "" {
			form.Set("client_secret", a.ClientSecret)
		}
		_, _ = w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: e.revoke, Body: []byte(form.Encode()), Credential: true, CredentialOrigin: e.revoke,
			Header: kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}}) // forgotten here, whatever it says
	}
	return nil
}

// Connected tells when the user connected an account at the server; ok is false
// when there is none.
func (w *Wallet) Connected(ctx context.Context, user, server string) (since time.Time, ok bool, err error) {
	acc, err := w.store.Account(ctx, user, server)
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
		return time.Time{}, false, nil
	}
	return acc.Updated, err == nil, err
}
