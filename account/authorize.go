package account

import (
	"context"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// memo is what must be known at the callback of where the person was sent (CL-04).
// The caller keeps it with the state. It holds no secret.
type memo struct {
	Issuer   string   `json:"i"`
	Iss      bool     `json:"p"` // the issuer promises to name itself in its answer
	Client   string   `json:"c"`
	Resource string   `json:"r,omitempty"`
	Scopes   []string `json:"s,omitempty"`
	Host     string   `json:"h,omitempty"` // of the server that the account is for
}

// Begin returns the address at the third party where the user says yes, and a
// memo to hand to Finish. State, challenge and callback are the caller's, who
// has asked for consent before (PX-01, PX-08).
func (w *Wallet) Begin(ctx context.Context, user, server, state, challenge, callback string) (to, note string, err error) {
	a, err := w.app(server)
	if err != nil {
		return "", "", err
	}
	if a.Grant != GrantCode {
		return "", "", kidoban.Errorf(kidoban.KindUsage, "there is nothing to connect at %s: the gateway gets its account by itself", server)
	}
	p, err := w.place(ctx, a, server)
	if err != nil {
		return "", "", err
	}
	e, err := w.endpoints(ctx, a, p.issuer)
	if err != nil {
		return "", "", err
	}
	if err := w.interactive(a, e); err != nil {
		return "", "", err
	}
	m := memo{Issuer: p.issuer, Iss: e.iss, Resource: a.resource(p, e), Host: a.host()}
	if m.Scopes, err = w.ask(ctx, a, user, server, p, e); err != nil {
		return "", "", err
	}
	id, err := w.become(ctx, a, server, p.issuer, e, callback, m.Scopes)
	if err != nil {
		return "", "", err
	}
	m.Client = id.id
	u, err := url.Parse(e.authorize)
	if err != nil {
		return "", "", kidoban.Wrap(kidoban.KindInput, err, "the authorization endpoint of %s is not a URL", p.issuer)
	}
	q := u.Query()
	for k, v := range e.quirk.params {
		q.Set(k, v)
	}
	for k, v := range a.Params {
		q.Set(k, v)
	}
	for k, v := range map[string]string{"response_type": "code", "client_id": id.id, "redirect_uri": callback, "state": state, "code_challenge": challenge, "code_challenge_method": "S256"} {
		q.Set(k, v)
	}
	if len(m.Scopes) > 0 {
		q.Set("scope", oauth.JoinScope(m.Scopes))
	}
	if m.Resource != "" {
		e.quirk.resource(q, m.Resource)
	}
	u.RawQuery = q.Encode()
	raw, err := json.Marshal(m)
	return u.String(), string(raw), kidoban.Wrap(kidoban.KindInternal, err, "the step cannot be written")
}

// interactive checks what a flow with a browser needs: S256 (E36, 6; CL-05) and
// an authorization endpoint that is https, or http on an opened loopback, and
// nothing but a URL (E36, 5; CL-14).
func (w *Wallet) interactive(a *App, e endpoints) error {
	if !e.s256 {
		return kidoban.Errorf(kidoban.KindRefused, "the authorization server %s does not offer PKCE with S256", e.issuer)
	}
	if strings.ContainsAny(e.authorize, "\"'`<>\\^{|} ") || strings.Contains(e.authorize, "#") {
		return kidoban.Errorf(kidoban.KindRefused, "the authorization endpoint of %s is not a plain URL", e.issuer)
	}
	if err := w.client(a).CheckURL(e.authorize); err != nil {
		return kidoban.Wrap(kidoban.KindRefused, err, "the authorization endpoint of %s cannot be used", e.issuer)
	}
	// The browser goes there and no dialler of ours sees it: a name that may be
	// loopback is not good enough.
	if u, err := url.Parse(e.authorize); err != nil || u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return kidoban.Errorf(kidoban.KindRefused, "the authorization endpoint of %s is plain http", e.issuer)
	}
	return nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// ask chooses the scopes: the operator's; else what the server wanted when it
// refused, together with what was asked before (CL-11); else what it challenges
// with or publishes (CL-10). offline_access goes along where the issuer lists it.
func (w *Wallet) ask(ctx context.Context, a *App, user, server string, p place, e endpoints) ([]string, error) {
	if len(a.Scopes) > 0 {
		return a.Scopes, nil
	}
	scopes := p.scopes
	acc, err := w.Store.Account(ctx, user, server)
	if err == nil && acc.Issuer == p.issuer {
		if t, err := w.token(ctx, acc); err == nil && len(t.Want) > 0 {
			scopes = t.Want
		}
	}
	if slices.Contains(e.scopes, "offline_access") && len(scopes) > 0 {
		scopes = oauth.UnionScopes(scopes, []string{"offline_access"})
	}
	if len(scopes) > MaxScopes || len(oauth.JoinScope(scopes)) > MaxScopeText {
		return nil, kidoban.Errorf(kidoban.KindRefused, "the server %s wants more than %d scopes: name the ones to ask for under oauth.scopes", server, MaxScopes)
	}
	for _, s := range scopes {
		if oauth.CheckScope(s) != nil {
			return nil, kidoban.Errorf(kidoban.KindRefused, "the server %s wants a scope with characters that none may have", server)
		}
	}
	return scopes, nil
}

// Finish takes the callback's parameters and the memo of Begin, exchanges the
// code and stores the account. The caller has compared the state.
func (w *Wallet) Finish(ctx context.Context, user, server, note string, params url.Values, verifier, callback string) error {
	a, err := w.app(server)
	if err != nil {
		return err
	}
	var m memo
	if err := json.Unmarshal([]byte(note), &m); err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "the step cannot be read: connect again")
	}
	if a.Issuer != "" && a.Issuer != m.Issuer {
		return kidoban.Errorf(kidoban.KindRefused, "the config names another authorization server than the one that was asked: connect again")
	}
	if m.Host != "" && m.Host != a.host() {
		return kidoban.Errorf(kidoban.KindRefused, "the config names another server than the one whose account was asked for: connect again")
	}
	if !oauth.CheckIss(m.Issuer, m.Iss, params["iss"]).Accept() { // before anything else is believed (E36, 4)
		return kidoban.Errorf(kidoban.KindRefused, "The answer did not come from the authorization server that was asked. Connect again; if it happens again, tell your operator.")
	}
	if params.Get("error") != "" {
		return kidoban.Errorf(kidoban.KindRefused, "The other side did not give access. Connect again when you want to.")
	}
	if len(params["code"]) != 1 || params.Get("code") == "" {
		return kidoban.Errorf(kidoban.KindInput, "The answer of the other side holds no code. Connect again.")
	}
	e, err := w.endpoints(ctx, a, m.Issuer)
	if err != nil {
		return err
	}
	id, err := w.identity(ctx, a, server, m.Issuer, m.Client)
	if err != nil {
		return err
	}
	ctx, done := w.whole(ctx)
	defer done()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {params.Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	r, err := w.post(ctx, a, e, id, form, m.Resource)
	if err != nil {
		return err
	}
	t := token{Client: m.Client, Resource: m.Resource, Host: a.host(), Asked: m.Scopes}.take(w.Now(), r)
	if old, err := w.Store.Account(ctx, user, server); err == nil { // steps are counted over connections
		if o, err := w.token(ctx, old); err == nil {
			t.Steps, t.Stepped = o.Steps, o.Stepped
		}
	}
	if err := w.put(ctx, user, server, m.Issuer, t); err != nil {
		return err
	}
	w.replaced(walletKey{user, server})
	return nil
}
