package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// providers keeps the discovered identity providers; discovery is repeated after
// an hour, or after a failure.
type providers struct {
	mu     sync.Mutex
	known  map[string]knownProvider
	styles map[string]oauth2.AuthStyle // that worked last, by client and token endpoint; guarded by mu
}

type knownProvider struct {
	*oidc.Provider
	at time.Time
}

const providerLife = time.Hour

// quirk is how a provider differs from OpenID Connect.
type quirk struct {
	host          string            // of the issuer, or the domain it ends with
	multiTenant   bool              // the token's issuer names the tenant, the metadata's a placeholder
	emailVerified bool              // sends no email_verified; its addresses are its own customers' and verified
	nameClaim     string            // what rules call a person by, instead of a verified e-mail address
	alwaysRefresh bool              // gives a refresh token unasked
	offline       map[string]string // what asks for a refresh token, instead of the scope offline_access
}

// quirks is the one table of them.
var quirks = []quirk{
	// Entra: v2 tokens have no email_verified, and an e-mail address is any text that
	// a tenant's administrator typed, so it never counts as verified; nor is
	// preferred_username anything else. "common" and "organizations" are placeholders
	// for the tenant.
	{host: "login.microsoftonline.com", multiTenant: true, nameClaim: "oid"},
	{host: "login.microsoftonline.us", multiTenant: true, nameClaim: "oid"},
	{host: "login.partner.microsoftonline.cn", multiTenant: true, nameClaim: "oid"},
	{host: "sts.windows.net", nameClaim: "oid"},
	{host: "ciamlogin.com", nameClaim: "oid"},
	{host: "accounts.google.com", offline: map[string]string{"access_type": "offline", "prompt": "consent"}},
	{host: "okta.com", nameClaim: "preferred_username"},
	{host: "amazonaws.com", nameClaim: "cognito:username", alwaysRefresh: true},
	{host: "appleid.apple.com", emailVerified: true},
	{host: "slack.com", emailVerified: true},
}

func quirkOf(issuer string) quirk {
	u, err := url.Parse(issuer)
	if err != nil {
		return quirk{}
	}
	for _, q := range quirks {
		if under(u.Hostname(), q.host) {
			return q
		}
	}
	return quirk{}
}

// handshake is what a login at a provider needs to end; it is kept in a cookie of
// the browser that began it, sealed.
type handshake struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Next     string `json:"x"`
}

const (
	purposeHandshake = "identity provider"
	handshakeLife    = 10 * time.Minute
)

func (s *Server) provider(ctx context.Context, p Provider) (*oidc.Provider, context.Context, error) {
	if s.deps.Outbound == nil {
		return nil, ctx, kidoban.Errorf(kidoban.KindUsage, "identity providers need outgoing requests")
	}
	ctx = oidc.ClientContext(ctx, s.deps.Outbound.HTTPClient())
	s.idps.mu.Lock()
	have, ok := s.idps.known[p.ID+" "+p.Issuer]
	s.idps.mu.Unlock()
	if ok && s.deps.Now().Sub(have.at) < providerLife {
		return have.Provider, ctx, nil
	}
	// The provider keeps the context for fetching keys later.
	life := oidc.ClientContext(context.WithoutCancel(ctx), s.deps.Outbound.HTTPClient())
	if quirkOf(p.Issuer).multiTenant {
		life = oidc.InsecureIssuerURLContext(life, p.Issuer) // compared by tenantIssuer instead
	}
	found, err := oidc.NewProvider(life, p.Issuer)
	if err != nil {
		return nil, ctx, kidoban.Wrap(kidoban.KindUnreachable, err, "the identity provider %s cannot be reached", p.ID)
	}
	s.idps.mu.Lock()
	defer s.idps.mu.Unlock()
	if s.idps.known == nil {
		s.idps.known = map[string]knownProvider{}
	}
	s.idps.known[p.ID+" "+p.Issuer] = knownProvider{found, s.deps.Now()}
	return found, ctx, nil
}

func (p *policy) providerByID(id string) (Provider, bool) {
	i := slices.IndexFunc(p.Login.Providers, func(x Provider) bool { return x.ID == id })
	if i < 0 {
		return Provider{}, false
	}
	return p.Login.Providers[i], true
}

func (p *policy) oauthConfig(x Provider, endpoint oauth2.Endpoint) oauth2.Config {
	scopes := x.Scopes
	if scopes == nil {
		scopes = []string{"profile", "email"}
	}
	return oauth2.Config{ClientID: x.ClientID, ClientSecret: x.ClientSecret, Endpoint: endpoint,
		RedirectURL: p.url("/login/" + x.ID + "/callback"), Scopes: append([]string{oidc.ScopeOpenID}, scopes...)}
}

// askRefresh makes a login ask for a refresh token where the provider is to be asked
// anew later. Scopes that the operator wrote are taken as they are.
func (x Provider) askRefresh(p *oidc.Provider, cfg *oauth2.Config) (options []oauth2.AuthCodeOption) {
	if x.Recheck <= 0 {
		return nil
	}
	for k, v := range quirkOf(x.Issuer).offline {
		options = append(options, oauth2.SetAuthURLParam(k, v))
	}
	var m struct {
		Scopes []string `json:"scopes_supported"`
	}
	if err := p.Claims(&m); err == nil && x.Scopes == nil && slices.Contains(m.Scopes, oidc.ScopeOfflineAccess) {
		cfg.Scopes = append(cfg.Scopes, oidc.ScopeOfflineAccess)
	}
	return options
}

// AsksRefresh tells whether a login asks for a refresh token, as far as the config
// tells.
func (x Provider) AsksRefresh() bool {
	q := quirkOf(x.Issuer)
	return x.Scopes == nil || slices.Contains(x.Scopes, oidc.ScopeOfflineAccess) || q.offline != nil || q.alwaysRefresh
}

// handshakeCookie has the state's beginning in its name, so that logins in two
// tabs do not overwrite each other.
func handshakeCookie(state string) string { return "idp-" + base64Hash(state)[:8] }

// startProvider sends a browser to an identity provider. State, nonce and
// verifier are fresh; nothing is stored here.
func startProvider(id string) handler {
	return func(s *Server, w http.ResponseWriter, r *http.Request, c *call) {
		c.event.Name = "login"
		v, err := form(r)
		if err == nil {
			err = s.take(w, limit.Ask{Limit: c.policy.Limits.AuthorizePerIP, Key: limit.IPKey(c.addr), Cost: 1})
		}
		if err != nil {
			s.failPage(w, c, err)
			return
		}
		t, ok := s.openLogin(r, c, v)
		x, found := c.policy.providerByID(id)
		if !ok || !found {
			c.event.Outcome, c.event.Code = "refused", "stale_form"
			s.showLogin(w, r, c, loginPage{Problem: "stale_form"}, http.StatusBadRequest)
			return
		}
		p, _, err := s.provider(r.Context(), x)
		if err != nil {
			c.event.Outcome, c.event.Detail = "failed", err.Error()
			s.showLogin(w, r, c, loginPage{Next: t.Next, Problem: "provider_away"}, http.StatusBadGateway)
			return
		}
		h := handshake{Provider: id, State: newToken(s.deps.Rand, ""), Nonce: newToken(s.deps.Rand, ""), Verifier: oauth.NewVerifier(s.deps.Rand), Next: t.Next}
		if len(h.Next) > 2200 { // the sealed cookie must stay under 4 kB; the client will ask again
			h.Next = c.policy.path + "/account"
		}
		sealed, err := s.box.seal(purposeHandshake, h, handshakeLife)
		if err != nil {
			s.failPage(w, c, err)
			return
		}
		c.event.Code = "to_provider"
		c.policy.setCookie(w, handshakeCookie(h.State), sealed, handshakeLife)
		cfg := c.policy.oauthConfig(x, p.Endpoint())
		options := append(x.askRefresh(p, &cfg), oidc.Nonce(h.Nonce), oauth2.S256ChallengeOption(h.Verifier))
		http.Redirect(w, r, cfg.AuthCodeURL(h.State, options...), http.StatusSeeOther)
	}
}

// finishProvider is the provider's callback.
func finishProvider(id string) handler {
	return func(s *Server, w http.ResponseWriter, r *http.Request, c *call) {
		c.event.Name = "login"
		x, _ := c.policy.providerByID(id)
		u, h, err := s.identify(w, r, c, x)
		if err != nil {
			c.event.Outcome, c.event.Code, c.event.Detail = "refused", "provider", err.Error()
			next := ""
			if h.Provider == id {
				next = h.Next
			}
			problem, status := "provider_refused", http.StatusForbidden
			var fault *loginFault
			if errors.As(err, &fault) {
				problem = fault.problem
			}
			if problem == "provider_away" || problem == "provider_config" {
				c.event.Outcome, status = "failed", http.StatusBadGateway
			}
			s.showLogin(w, r, c, loginPage{Next: next, Problem: problem}, status)
			return
		}
		if err := s.logIn(r.Context(), w, r, c, u, "oidc"); err != nil {
			s.failPage(w, c, err)
			return
		}
		http.Redirect(w, r, h.Next, http.StatusSeeOther)
	}
}

// identify ends the handshake: this browser, this provider, once; then the code
// is exchanged and the ID token checked.
func (s *Server) identify(w http.ResponseWriter, r *http.Request, c *call, x Provider) (User, handshake, error) {
	var h handshake
	refuse := func(text string) (User, handshake, error) {
		return User{}, h, kidoban.Errorf(kidoban.KindRefused, "%s", text)
	}
	q, err := form(r)
	if err != nil {
		return User{}, h, err
	}
	state := q.Get("state")
	name := handshakeCookie(state)
	k, err := r.Cookie(c.policy.cookieName(name))
	if err != nil || s.box.open(purposeHandshake, k.Value, &h) != nil || h.State != state || h.Provider != x.ID {
		h = handshake{}
		return refuse("the answer belongs to another browser, or is too old")
	}
	c.policy.setCookie(w, name, "", -1)
	fresh, err := s.deps.Store.UseOnce(r.Context(), "idp:"+base64Hash(state), c.now, c.now.Add(handshakeLife))
	if err != nil {
		return User{}, h, err
	}
	if !fresh {
		return refuse("the answer was used before")
	}
	p, ctx, err := s.provider(r.Context(), x)
	if err != nil {
		return User{}, h, &loginFault{"provider_away", err}
	}
	if verdict := oauth.CheckIss(x.Issuer, false, q["iss"]); !verdict.Accept() && !quirkOf(x.Issuer).multiTenant {
		return refuse("the answer came from another issuer")
	}
	if q.Get("error") != "" || q.Get("code") == "" {
		return refuse("the provider said no")
	}
	tok, err := s.askProvider(ctx, c.policy, x, p, func(ctx context.Context, cfg oauth2.Config) (*oauth2.Token, error) {
		return cfg.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(h.Verifier))
	})
	if err != nil {
		return User{}, h, exchangeFault(err)
	}
	if x.Recheck > 0 && tok.RefreshToken == "" {
		c.event.Detail = "the provider gave no refresh token: the person logs in again every " + x.Recheck.String()
	}
	u, err := s.userOfToken(ctx, x, p, tok, h.Nonce)
	return u, h, err
}

// idClaims are the claims of an ID token that are looked at.
type idClaims struct {
	Email         string `json:"email"`
	EmailVerified any    `json:"email_verified"` // some providers send a string
	Name          string `json:"name"`
	Preferred     string `json:"preferred_username"`
	Cognito       string `json:"cognito:username"`
	Tenant        string `json:"tid"`
	Object        string `json:"oid"`
}

func (s *Server) userOfToken(ctx context.Context, x Provider, p *oidc.Provider, tok *oauth2.Token, nonce string) (User, error) {
	refuse := func(text string) (User, error) { return User{}, kidoban.Errorf(kidoban.KindRefused, "%s", text) }
	raw, id, claims, err := s.verifyIDToken(ctx, x, p, tok)
	if err != nil {
		return User{}, err
	}
	q := quirkOf(x.Issuer)
	if id.Nonce != nonce {
		return refuse("the ID token's nonce is another login's")
	}
	verified := claims.EmailVerified == true || claims.EmailVerified == "true" || q.emailVerified && claims.EmailVerified == nil
	email := strings.ToLower(claims.Email)
	if len(x.AllowDomains) > 0 {
		_, domain, _ := strings.Cut(email, "@")
		if !verified || !slices.Contains(x.AllowDomains, domain) {
			return User{}, &loginFault{"provider_stranger", kidoban.Errorf(kidoban.KindRefused, "%s", notAdmitted(email, verified))}
		}
	}
	groups, _, err := x.groupsOf(id)
	if err != nil {
		return User{}, err
	}
	u, first, err := s.identityUser(ctx, id.Issuer, id.Subject, x.nameOf(id.Subject, claims, verified), shownAs(claims))
	if err != nil {
		return User{}, err
	}
	if u.Disabled {
		return User{}, &loginFault{"provider_stranger", kidoban.Errorf(kidoban.KindRefused, "this person's access has been switched off")}
	}
	if err := s.hear(ctx, x, u.ID, groups); err != nil {
		return User{}, err
	}
	if s.deps.Proof != nil {
		if err := s.deps.Proof(ctx, u.ID, ProviderLogin{u.ID, x.Issuer, id.Subject, raw, tok.RefreshToken, id.Expiry}); err != nil {
			return User{}, err
		}
	}
	if verified && first && slices.Contains(x.AdminEmails, email) {
		u.Admin = true
		return u, s.deps.Store.SetAdmin(ctx, u.ID, true)
	}
	return u, nil
}

// verifyIDToken checks the ID token of a token answer for this gateway.
func (s *Server) verifyIDToken(ctx context.Context, x Provider, p *oidc.Provider, tok *oauth2.Token) (raw string, id *oidc.IDToken, claims idClaims, err error) {
	raw, _ = tok.Extra("id_token").(string)
	q := quirkOf(x.Issuer)
	id, err = p.Verifier(&oidc.Config{ClientID: x.ClientID, Now: s.deps.Now, SkipIssuerCheck: q.multiTenant}).Verify(ctx, raw)
	if err != nil {
		return "", nil, claims, kidoban.Wrap(kidoban.KindRefused, err, "the ID token is not valid")
	}
	if err := id.Claims(&claims); err != nil {
		return "", nil, claims, err
	}
	if q.multiTenant && !tenantIssuer(x.Issuer, id.Issuer, claims.Tenant) {
		return "", nil, claims, kidoban.Errorf(kidoban.KindRefused, "the ID token's issuer is another tenant")
	}
	return raw, id, claims, nil
}

// tenantPlaceholders stand for any tenant in a configured issuer.
var tenantPlaceholders = []string{"common", "organizations", "consumers", "{tenantid}"}

// tenantIssuer compares the issuer of a multi-tenant provider: the configured one
// with its placeholder replaced by the token's tenant.
func tenantIssuer(configured, got, tenant string) bool {
	if tenant == "" || strings.Trim(tenant, "0123456789abcdef-") != "" {
		return false
	}
	for _, placeholder := range tenantPlaceholders {
		if strings.ReplaceAll(configured, "/"+placeholder+"/", "/"+tenant+"/") == got {
			return true
		}
	}
	return configured == got
}
