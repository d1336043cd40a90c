package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kidoban/kidoban"
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

// loginFault is why a login at a provider came to nothing, with the text for the
// person when it is not that the login itself failed.
type loginFault struct {
	problem string
	error
}

// Unwrap gives the cause.
func (f *loginFault) Unwrap() error { return f.error }

// exchangeFault tells why a code was not exchanged: the provider is away, does not
// take this gateway as its client, or refused the code. Of its answer only the error's
// code is told, and only when it looks like one.
func exchangeFault(err error) error {
	var way *url.Error
	if errors.As(err, &way) {
		return &loginFault{"provider_away", kidoban.Wrap(kidoban.KindUnreachable, way.Err, "the provider did not answer when the code was to be exchanged")}
	}
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) || said.Response == nil {
		return kidoban.Errorf(kidoban.KindRefused, "the provider's answer to the code holds no token")
	}
	if said.Response.StatusCode >= http.StatusInternalServerError {
		return &loginFault{"provider_away", kidoban.Errorf(kidoban.KindUnreachable, "the provider failed with status %d when the code was to be exchanged", said.Response.StatusCode)}
	}
	if unknownClient(err) || said.ErrorCode == "unauthorized_client" {
		return &loginFault{"provider_config", kidoban.Errorf(kidoban.KindRefused, "the provider does not take this gateway as its client, %s: look at client_id and secret_file", answered(said))}
	}
	return kidoban.Errorf(kidoban.KindRefused, "the provider did not exchange the code, %s", answered(said))
}

// answered is a provider's refusal in words of ours.
func answered(said *oauth2.RetrieveError) string {
	code := said.ErrorCode
	if len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		code = ""
	}
	return strings.TrimSpace(fmt.Sprintf("with status %d %s", said.Response.StatusCode, code))
}

// notAdmitted says why nobody with this address may log in.
func notAdmitted(email string, verified bool) string {
	switch {
	case email == "":
		return "the provider tells no e-mail address of this person, and allow_domains wants one"
	case !verified:
		return "the provider has not verified this person's e-mail address, and allow_domains wants that"
	}
	return "this address's domain may not log in here"
}
