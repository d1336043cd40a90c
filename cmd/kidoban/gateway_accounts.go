package main

import (
	"context"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
)

// upstreams shows the gateway's wallet to the authorization server, whose pages
// lead people through connecting their accounts.
type upstreams struct{ s *service }

// Accounts implements authserver.Upstream.
func (u upstreams) Accounts(ctx context.Context, user, resource string) ([]authserver.UpstreamAccount, error) {
	conf := u.s.config()
	apps, err := conf.apps()
	if err != nil {
		return nil, err
	}
	var out []authserver.UpstreamAccount
	for name, a := range apps {
		own := conf.PublicURL + "/s/" + name + "/mcp"
		if resource != "" && resource != own && resource != conf.PublicURL+"/mcp" {
			continue
		}
		if a.Grant != account.GrantCode {
			continue // the gateway gets these by itself
		}
		state, err := u.s.wallet.State(ctx, user, name)
		if err != nil {
			return nil, err
		}
		title := conf.Servers[name].Title
		if title == "" {
			title = name
		}
		out = append(out, authserver.UpstreamAccount{ID: name, Name: title, Host: u.s.host(conf, name), Scopes: state.Scopes, Connected: state.Connected, Since: state.Since})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// host is where a person will be sent; the server's own when its authorization
// server is not known yet.
func (s *service) host(conf gatewayConfig, name string) string {
	if h := s.wallet.Host(name); h != "" {
		return h
	}
	u, err := url.Parse(conf.Servers[name].URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// Begin implements authserver.Upstream.
func (u upstreams) Begin(ctx context.Context, user, account, state, challenge, callback string) (to, memo string, err error) {
	return u.s.wallet.Begin(ctx, user, account, state, challenge, callback)
}

// Finish implements authserver.Upstream.
func (u upstreams) Finish(ctx context.Context, user, account, memo string, params url.Values, verifier, callback string) error {
	return u.s.wallet.Finish(ctx, user, account, memo, params, verifier, callback)
}

// Disconnect implements authserver.Upstream.
func (u upstreams) Disconnect(ctx context.Context, user, account string) error {
	return u.s.wallet.Disconnect(ctx, user, account)
}

// LoginEnded implements authserver.Upstream.
func (u upstreams) LoginEnded(ctx context.Context, user, resource string) (bool, error) {
	conf := u.s.config()
	apps, err := conf.apps()
	if err != nil {
		return false, err
	}
	for name, a := range apps {
		about := resource == "" || resource == conf.PublicURL+"/mcp" || resource == conf.PublicURL+"/s/"+name+"/mcp"
		if !about || a.Provider == nil || !slices.ContainsFunc(conf.Login.Providers, func(p providerConfig) bool { return p.Issuer == a.Provider.Issuer }) {
			continue
		}
		if proven, err := u.s.wallet.Proven(ctx, user, a.Provider.Issuer); err != nil || !proven {
			return err == nil, err
		}
	}
	return false, nil
}

// describe says what stands behind a resource, for the consent page.
func (s *service) describe(ctx context.Context, user authserver.User, resource string) []authserver.Behind {
	if s.gate == nil {
		return nil
	}
	conf := s.config()
	classes := map[gateway.Class]authserver.Class{gateway.Reads: authserver.ClassRead, gateway.Writes: authserver.ClassWrite, gateway.Destructive: authserver.ClassDestructive}
	var out []authserver.Behind
	for _, o := range s.gate.Describe(ctx, user.ID, resource) {
		b := authserver.Behind{Name: o.Title, Tools: map[authserver.Class][]string{}, Needs: map[authserver.Class]string{}}
		for class, names := range o.Tools {
			b.Tools[classes[class]] = names
		}
		for class, scope := range o.Needs {
			b.Needs[classes[class]] = scope
		}
		if oauth := conf.Servers[o.Server].OAuth; oauth.Issuer != "" || oauth.Discover {
			b.UpstreamName, b.UpstreamScopes = o.Title, oauth.Scopes
		}
		out = append(out, b)
	}
	return out
}

// keepLogin hands a login at a provider from the authorization server to the wallet.
func (s *service) keepLogin(ctx context.Context, user string, l authserver.ProviderLogin) error {
	if slices.ContainsFunc(s.config().Login.Providers, func(x providerConfig) bool { return x.Issuer == l.Issuer && x.Recheck > 0 }) {
		return s.wallet.KeepLogin(ctx, user, account.Login(l))
	}
	return s.wallet.KeepProof(ctx, user, account.Login(l))
}

// askProvider has a person's provider asked anew with the login that was kept.
func (s *service) askProvider(ctx context.Context, user, issuer string, needless func(context.Context) (bool, error)) error {
	err := s.wallet.Recheck(ctx, user, issuer, needless)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		s.log.Warn("an identity provider could not be asked whether a login still holds", "issuer", issuer, "user", user, "error", err)
	}
	return err
}

// renewLogin has the authorization server, which is the provider's client, renew a
// login for the wallet.
func (s *service) renewLogin(ctx context.Context, l account.Login, rotated func(string)) (account.Login, error) {
	if s.as == nil { // with open: true there are no logins
		return account.Login{}, kidoban.Errorf(kidoban.KindNotFound, "nobody logs in here")
	}
	fresh, err := s.as.RenewLogin(ctx, authserver.ProviderLogin(l), rotated)
	return account.Login(fresh), err
}
