package account

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// endpoints are where an authorization server answers, and how.
type endpoints struct {
	issuer                             string
	authorize, token, revoke, register string
	iss                                bool // it promises iss in its answers
	s256                               bool
	cimd                               bool     // it takes client documents
	methods                            []string // of client authentication; nil: not said
	scopes                             []string
	quirk                              quirk
}

type foundIssuer struct {
	endpoints
	until time.Time
}

// place is what a server says of where its accounts come from.
type place struct {
	issuer   string
	resource string   // as it calls itself
	scopes   []string // that it asks for to begin with
}

type foundPlace struct {
	place
	until time.Time
}

// hint is what a server's last challenge said.
type hint struct {
	metadata string // URL
	scopes   []string
}

// endpoints finds the endpoints of an issuer: those of the config, or those of
// its metadata, which must name it byte for byte (E36, 2; CL-03).
func (w *Wallet) endpoints(ctx context.Context, a *App, issuer string) (endpoints, error) {
	q := quirkOf(issuer)
	if a.Authorization != "" || a.Token != "" {
		return endpoints{issuer: issuer, authorize: a.Authorization, token: a.Token, revoke: a.Revocation, s256: true, quirk: q}, nil
	}
	w.mu.Lock()
	have, ok := w.found[issuer]
	w.mu.Unlock()
	if ok && w.Now().Before(have.until) {
		return have.endpoints, nil
	}
	e, err := w.metadata(ctx, a, issuer)
	if err != nil {
		return endpoints{}, err
	}
	e.quirk = q
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) > 1000 {
		clear(w.found)
	}
	w.found[issuer] = foundIssuer{e, w.Now().Add(metadataLife)}
	return e, nil
}

// metadata reads an issuer's metadata at the places where it may be (CL-02).
func (w *Wallet) metadata(ctx context.Context, a *App, issuer string) (endpoints, error) {
	urls, err := oauth.MetadataURLs(issuer)
	if err != nil {
		return endpoints{}, err
	}
	away := false
	for _, u := range urls {
		x, err := w.get(ctx, a, u)
		if err != nil {
			return endpoints{}, kidoban.Wrap(kidoban.KindOf(err), err, "the authorization server %s cannot be reached", issuer)
		}
		away = away || notNow(x.Status())
		if x.Status() != http.StatusOK || x.Response.Truncated {
			continue
		}
		m, err := oauth.ParseMetadata(x.Response.Body)
		if err != nil {
			continue
		}
		return w.accept(a, issuer, m)
	}
	if e := quirkOf(issuer).endpoints; e != nil {
		out := *e
		out.issuer, out.s256 = issuer, true
		return out, nil
	}
	if a.Legacy {
		m, err := oauth.LegacyMetadata(a.URL)
		return endpoints{issuer: issuer, authorize: m.AuthorizationEndpoint, token: m.TokenEndpoint, register: m.RegistrationEndpoint, s256: true, methods: m.TokenAuthMethodsSupported}, err
	}
	if away { // what it publishes is not known, and the account may be as good as ever
		return endpoints{}, kidoban.Errorf(kidoban.KindUnreachable, "the authorization server %s does not give its metadata just now", issuer)
	}
	return endpoints{}, kidoban.Errorf(kidoban.KindNotFound, "the authorization server %s publishes no metadata: name its endpoints in the config", issuer)
}

// notNow tells of a status that the same question may have another answer in a moment.
func notNow(status int) bool {
	return status >= 500 && status != http.StatusNotImplemented || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func (w *Wallet) accept(a *App, issuer string, m oauth.Metadata) (endpoints, error) {
	if m.Issuer != issuer {
		return endpoints{}, kidoban.Errorf(kidoban.KindRefused, "the metadata of %s names another issuer", issuer)
	}
	e := endpoints{issuer: issuer, authorize: m.AuthorizationEndpoint, token: m.TokenEndpoint, revoke: m.RevocationEndpoint, register: m.RegistrationEndpoint,
		iss: m.IssParameterSupported, s256: m.SupportsS256(), cimd: m.ClientIDMetadataDocumentSupport, methods: m.TokenAuthMethods(), scopes: m.ScopesSupported}
	for _, u := range []string{e.token, e.revoke, e.register} { // https, public hosts (E36, 8)
		if u == "" && u != e.token {
			continue
		}
		if err := w.client(a).CheckURL(u); err != nil {
			return endpoints{}, kidoban.Wrap(kidoban.KindRefused, err, "an endpoint of the authorization server %s cannot be used", issuer)
		}
	}
	return e, nil
}

// get fetches a document: no redirects, no credentials.
func (w *Wallet) get(ctx context.Context, a *App, url string) (*kidoban.Exchange, error) {
	return w.client(a).Do(ctx, outbound.Req{URL: url, Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}})
}

// place finds where a server's accounts come from: the config, or the server's
// protected resource metadata (RFC 9728).
func (w *Wallet) place(ctx context.Context, a *App, server string) (place, error) {
	w.mu.Lock()
	have, ok := w.named[server]
	told, hinted := w.hints[server]
	w.mu.Unlock()
	if a.Issuer != "" {
		return place{issuer: a.Issuer, resource: a.URL, scopes: told.scopes}, nil
	}
	if ok && w.Now().Before(have.until) {
		return have.place, nil
	}
	if !hinted {
		told = w.challenge(ctx, a)
	}
	p, err := w.discover(ctx, a, told)
	if err != nil {
		return p, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.named[server] = foundPlace{p, w.Now().Add(discoveryLife)}
	return p, nil
}

// challenge asks a server without a credential, to hear what it wants.
func (w *Wallet) challenge(ctx context.Context, a *App) hint {
	body := []byte(`{"jsonrpc":"2.0","id":"kidoban-account","method":"tools/list","params":{}}`)
	x, err := w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: a.URL, Body: body, Header: kidoban.Fields{
		{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json, text/event-stream"}}})
	if err != nil || x.Status() != http.StatusUnauthorized {
		return hint{} // the well-known places may tell
	}
	return hintOf(x.Response.Header.Values("WWW-Authenticate"))
}

func hintOf(values []string) (h hint) {
	for _, c := range oauth.ParseChallenges(values) {
		if !c.Is("Bearer") && !c.Is("DPoP") {
			continue
		}
		if u, typo := c.ResourceMetadata(); u != "" && !typo && h.metadata == "" {
			h.metadata = u
		}
		if s := c.Scopes(); h.scopes == nil && len(s) > 0 {
			h.scopes = s
		}
	}
	return h
}

// discover reads the protected resource metadata: first where the challenge
// says, then at the well-known places (CL-01).
func (w *Wallet) discover(ctx context.Context, a *App, told hint) (place, error) {
	urls, err := oauth.PRMURLs(a.URL)
	if err != nil {
		return place{}, err
	}
	if told.metadata != "" {
		urls = slices.Insert(urls, 0, told.metadata)
	}
	var away error
	for i, u := range urls {
		x, err := w.get(ctx, a, u)
		if err != nil && kidoban.KindOf(err) == kidoban.KindRefused {
			return place{}, kidoban.Wrap(kidoban.KindRefused, err, "the metadata of the server %s lies where the gateway does not go", a.URL)
		}
		if err == nil && notNow(x.Status()) {
			err = kidoban.Errorf(kidoban.KindUnreachable, "%s answered with status %d", u, x.Status())
		}
		if err != nil {
			away = err
		}
		if err != nil || x.Status() != http.StatusOK || x.Response.Truncated || slices.Contains(urls[:i], u) {
			continue
		}
		prm, err := oauth.ParsePRM(x.Response.Body)
		if err != nil {
			continue
		}
		return a.placeOf(u, prm, told)
	}
	if a.Legacy {
		issuer, err := oauth.LegacyIssuer(a.URL)
		return place{issuer: issuer, scopes: told.scopes}, err
	}
	if away != nil {
		return place{}, kidoban.Wrap(kidoban.KindUnreachable, away, "the server %s does not say just now who gives out its accounts", a.URL)
	}
	return place{}, kidoban.Errorf(kidoban.KindNotFound, "the server %s does not say who gives out its accounts: name its authorization server under oauth.issuer", a.URL)
}

// placeOf judges protected resource metadata: it must speak of this very server,
// or, read at the root, of the server's origin (RFC 9728 §3.3; E36, 1).
func (a *App) placeOf(at string, prm oauth.PRM, told hint) (place, error) {
	p := place{resource: prm.Resource, scopes: told.scopes}
	switch oauth.CompareResource(a.URL, prm.Resource) {
	case oauth.ResourceIdentical, oauth.ResourceHostCase, oauth.ResourceTrailingSlash:
	default:
		if !rootOf(a.URL, at, prm.Resource) && prm.Resource != a.Resource {
			return p, kidoban.Errorf(kidoban.KindRefused, "the metadata of the server %s speaks of another resource: its tokens would be for somebody else; if that is right, name it under oauth.resource", a.URL)
		}
	}
	if len(prm.AuthorizationServers) == 0 {
		return p, kidoban.Errorf(kidoban.KindInput, "the metadata of the server %s names no authorization server", a.URL)
	}
	p.issuer = prm.AuthorizationServers[0]
	if p.scopes == nil {
		p.scopes = slices.DeleteFunc(slices.Clone(prm.ScopesSupported), func(s string) bool { return s == "offline_access" })
	}
	return p, nil
}

// rootOf tells whether a document was read at the root of the server's origin
// and speaks of that origin.
func rootOf(server, at, resource string) bool {
	origin, err := oauth.Origin(server)
	return err == nil && at == origin+"/.well-known/oauth-protected-resource" && strings.TrimSuffix(resource, "/") == origin
}

// resource is the audience to ask for.
func (a *App) resource(p place, e endpoints) string {
	switch {
	case a.Resource == NoResource || e.quirk.noResource:
		return ""
	case a.Resource != "":
		return a.Resource
	}
	return p.resource
}

// Challenged takes what a server said when it refused a credential: the status,
// 401 or 403, and the values of WWW-Authenticate. nil means that a renewed
// credential may do; KindNotFound that the user must agree again; KindRefused
// that nothing here can help.
func (w *Wallet) Challenged(ctx context.Context, user, server string, status int, values []string) error {
	a, err := w.app(server)
	if err != nil { // a fixed secret: it may have been changed in the vault
		if status == http.StatusUnauthorized {
			return nil
		}
		return kidoban.Errorf(kidoban.KindRefused, "the server %s does not let this account do that", server)
	}
	h := hintOf(values)
	w.mu.Lock()
	if status == http.StatusUnauthorized && (h.metadata != "" || h.scopes != nil) { // a 403 speaks of one operation, not of how to begin
		w.hints[server] = h
	}
	delete(w.named, server) // the server may have moved to another issuer
	w.mu.Unlock()
	if status == http.StatusUnauthorized {
		return nil
	}
	return w.stepUp(ctx, a, user, server, h.scopes)
}

// stepUp notes that a server wants more scopes than were asked for, and refuses
// what cannot be granted or has been asked too often (CL-11; E36, 12).
func (w *Wallet) stepUp(ctx context.Context, a *App, user, server string, scopes []string) error {
	refused := kidoban.Errorf(kidoban.KindRefused, "the server %s does not let this account do that", server)
	if len(scopes) == 0 {
		return refused
	}
	if len(a.Scopes) > 0 {
		return kidoban.Errorf(kidoban.KindRefused, "the server %s wants scopes that the config does not allow: add them to oauth.scopes, or leave that out", server)
	}
	_, leave, err := w.flight(ctx, walletKey{user, server})
	if err != nil {
		return err
	}
	defer leave()
	acc, err := w.Store.Account(ctx, user, server)
	if err != nil {
		return err
	}
	t, err := w.token(ctx, acc)
	if err != nil || t.Kind != "oauth" || oauth.IsSubset(scopes, t.Asked) {
		return refused
	}
	want := oauth.UnionScopes(t.Asked, scopes)
	if len(want) > MaxScopes || len(oauth.JoinScope(want)) > MaxScopeText {
		return refused
	}
	if w.Now().Sub(t.Stepped) > 24*time.Hour {
		t.Steps, t.Stepped = 0, w.Now()
	}
	if t.Steps++; t.Steps > MaxStepUps {
		return kidoban.Errorf(kidoban.KindRefused, "the server %s asks for ever more scopes: more than %d times within a day", server, MaxStepUps)
	}
	t.Want = want
	if err := w.swap(ctx, acc, t, nil); err != nil {
		return err
	}
	if a.Grant != GrantCode {
		return nil // no person is asked: the next token has them
	}
	return kidoban.Errorf(kidoban.KindNotFound, "the server %s wants more than the user agreed to", server)
}

// hostOf names an issuer for people.
func hostOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// host names the server that tokens are for, a port only where it is not the scheme's.
func (a *App) host() string { return a.plainHost(hostOf(a.URL)) }

// plainHost takes the port off a host where it is that of the app's scheme. Old rows
// have it.
func (a *App) plainHost(host string) string {
	scheme, _, _ := strings.Cut(strings.ToLower(a.URL), ":")
	switch scheme {
	case "https":
		return strings.TrimSuffix(host, ":443")
	case "http":
		return strings.TrimSuffix(host, ":80")
	}
	return host
}

// Host is where a person will be sent to connect the account at server; "" when
// that is found out only then.
func (w *Wallet) Host(server string) string {
	a, err := w.app(server)
	if err != nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch have := w.named[server]; {
	case a.Authorization != "":
		return hostOf(a.Authorization)
	case a.Issuer != "":
		return hostOf(a.Issuer)
	case have.issuer != "":
		return hostOf(have.issuer)
	}
	return ""
}
