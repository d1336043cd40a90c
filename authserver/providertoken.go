package authserver

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// askProvider makes a token request to an identity provider, once: whatever went
// wrong with it, a code or a refresh token may be spent, and one that comes a second
// time has many providers end the whole login (RFC 9700 §4.14). Left to itself the
// library sends every request that fails again, authenticated in the other way. That
// is done here only when the provider says that it does not know the client, which it
// finds out before it looks at anything else, and the way that worked is remembered.
func (s *Server) askProvider(ctx context.Context, policy *policy, x Provider, p *oidc.Provider, ask func(context.Context, oauth2.Config) (*oauth2.Token, error)) (*oauth2.Token, error) {
	cfg := policy.oauthConfig(x, p.Endpoint())
	key := x.ClientID + " " + cfg.Endpoint.TokenURL
	s.idps.mu.Lock()
	style, known := s.idps.styles[key]
	s.idps.mu.Unlock()
	if !known {
		style = styleOf(x, p)
	}
	cfg.Endpoint.AuthStyle = style
	tok, err := ask(ctx, cfg)
	if x.ClientSecret != "" && unknownClient(err) {
		style = oauth2.AuthStyleInHeader + oauth2.AuthStyleInParams - style
		cfg.Endpoint.AuthStyle = style
		tok, err = ask(ctx, cfg)
	}
	if err == nil {
		s.idps.mu.Lock()
		defer s.idps.mu.Unlock()
		if s.idps.styles == nil {
			s.idps.styles = map[string]oauth2.AuthStyle{}
		}
		s.idps.styles[key] = style
	}
	return tok, err
}

// styleOf is how a client authenticates by the provider's metadata: in the header
// unless the provider takes the form alone (OpenID Connect Discovery §3). Without a
// secret there is only the client's name, in the form.
func styleOf(x Provider, p *oidc.Provider) oauth2.AuthStyle {
	var m struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if x.ClientSecret == "" {
		return oauth2.AuthStyleInParams
	}
	if err := p.Claims(&m); err == nil && slices.Contains(m.Methods, "client_secret_post") && !slices.Contains(m.Methods, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// unknownClient tells whether a provider refused the client itself: by its word, or by
// a 401, which is for nothing else (RFC 6749 §5.2). Auth0 says access_denied with it to
// a client that authenticates in the other way.
func unknownClient(err error) bool {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) || said.Response == nil {
		return false
	}
	return said.ErrorCode == "invalid_client" || said.ErrorCode != "invalid_grant" && said.Response.StatusCode == http.StatusUnauthorized
}
