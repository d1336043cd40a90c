package main

import (
	"context"
	"net/url"
	"sort"
	"strings"

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
		since, ok, err := u.s.wallet.Connected(ctx, user, name)
		if err != nil {
			return nil, err
		}
		title := conf.Servers[name].Title
		if title == "" {
			title = name
		}
		out = append(out, authserver.UpstreamAccount{ID: name, Name: title, Host: hostOf(a), Scopes: a.Scopes, Connected: ok, Since: since})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// hostOf is where a person will be sent.
func hostOf(a *gateway.OAuthApp) string {
	at := a.Authorization
	if at == "" {
		at = a.Issuer
	}
	u, err := url.Parse(at)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// Begin implements authserver.Upstream.
func (u upstreams) Begin(ctx context.Context, _, account, state, challenge, callback string) (string, error) {
	return u.s.wallet.Begin(ctx, account, state, challenge, callback)
}

// Finish implements authserver.Upstream.
func (u upstreams) Finish(ctx context.Context, user, account string, params url.Values, verifier, callback string) error {
	return u.s.wallet.Finish(ctx, user, account, params, verifier, callback)
}

// Disconnect implements authserver.Upstream.
func (u upstreams) Disconnect(ctx context.Context, user, account string) error {
	return u.s.wallet.Disconnect(ctx, user, account)
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
		b := authserver.Behind{Name: o.Title, Tools: map[authserver.Class][]string{}}
		for class, names := range o.Tools {
			b.Tools[classes[class]] = names
		}
		if oauth := conf.Servers[o.Server].OAuth; oauth.Issuer != "" {
			b.UpstreamName, b.UpstreamScopes = o.Title, oauth.Scopes
		}
		out = append(out, b)
	}
	return out
}
