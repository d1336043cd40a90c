package authserver

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kidoban/kidoban/oauth"
)

// Bounds of what a client may say about itself (G-RG7, E14, E17).
const (
	maxRedirects = 10
	maxName      = 100 // characters
	maxText      = 200
	maxContacts  = 5
)

func badMetadata(text string, cause error) *OAuthError {
	return &OAuthError{http.StatusBadRequest, "invalid_client_metadata", text, cause}
}

func badRedirect(text string, cause error) *OAuthError {
	return &OAuthError{http.StatusBadRequest, "invalid_redirect_uri", text, cause}
}

func asRefusal(err error, r **oauth.Refusal) bool { return errors.As(err, r) }

// checkMetadata applies the operator's policy to a registration or a client
// document, and takes out of m what nobody may choose for itself. host is the
// document's host, "" for a self-registered client.
func (s *Server) checkMetadata(p *policy, m *oauth.ClientMetadata, kind, host string) error {
	if f := m.Faults(); len(f) > 0 {
		return badMetadata("The metadata has a member of the wrong type or twice: "+printable(f[0].Member, 40)+".", nil)
	}
	if err := checkTexts(m); err != nil {
		return err
	}
	if err := m.CheckLinks(); err != nil {
		return badMetadata(sentenceOf(err), err)
	}
	if err := s.checkRedirects(p, m, kind); err != nil {
		return err
	}
	if err := checkGrantsAndMethod(m); err != nil {
		return err
	}
	if p.ConfidentialOnly && m.AuthMethod() == methodNone {
		return badMetadata("This server takes clients that authenticate only: choose another token_endpoint_auth_method.", nil)
	}
	// What we do not understand is not kept: nobody can switch on by registration
	// what a later version may understand (E18).
	m.Extra, m.SoftwareStatement, m.PostLogoutRedirectURIs = nil, "", nil
	return s.checkImpersonation(p, m, kind, host)
}

func checkTexts(m *oauth.ClientMetadata) error {
	names := []string{m.ClientName}
	for _, n := range m.Localized["client_name"] {
		names = append(names, n)
	}
	if len(m.Localized["client_name"]) > 20 {
		return badMetadata("The client_name has more than 20 translations.", nil)
	}
	for _, n := range names {
		if utf8.RuneCountInString(n) > maxName || !plainText(n) {
			return badMetadata("The client_name must have at most 100 characters, none of them invisible or a control, and no space at its ends.", nil)
		}
	}
	for _, t := range append([]string{m.SoftwareID, m.SoftwareVersion, m.ApplicationType}, m.Contacts...) {
		if len(t) > maxText || !plainText(t) {
			return badMetadata("A text of the metadata is longer than 200 bytes or holds characters that cannot be seen.", nil)
		}
	}
	if len(m.Contacts) > maxContacts {
		return badMetadata("There are more than 5 contacts.", nil)
	}
	return nil
}

// plainText tells whether a person sees all of s: no controls, no characters that
// reorder or hide text, no unassigned ones, no leading or trailing space.
func plainText(s string) bool {
	if !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return false
	}
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || r != ' ' && unicode.Is(unicode.Zs, r) {
			return false
		}
		// Fillers and selectors that are letters or marks by category and yet invisible.
		if r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0 || r == 0x034F || r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0100 && r <= 0xE01EF || r == 0x2800 {
			return false
		}
	}
	return true
}

func (s *Server) checkRedirects(p *policy, m *oauth.ClientMetadata, kind string) error {
	if len(m.RedirectURIs) == 0 {
		return badRedirect("At least one redirect URI is needed.", nil)
	}
	if len(m.RedirectURIs) > maxRedirects {
		return badRedirect("There are more than 10 redirect URIs.", nil)
	}
	reg := p.Registration
	for _, raw := range m.RedirectURIs {
		if len(raw) > 1024 {
			return badRedirect("A redirect URI is longer than 1024 bytes.", nil)
		}
		if err := oauth.CheckRedirect(raw, oauth.RedirectPolicy{AppSchemes: reg.AppSchemes, PrivateUse: true}); err != nil {
			return badRedirect(sentenceOf(err), err)
		}
		if d := s.deniedRedirect(raw); d != nil {
			return badRedirect("The operator of this server has blocked a redirect URI's host.", errDenied)
		}
		host, loopback := redirectHost(raw)
		remote := !loopback && !strings.HasPrefix(host, "scheme:")
		if kind == ClientDCR && remote && !slices.Contains(reg.RemoteHosts, "*") && !hostMatches(host, reg.RemoteHosts) {
			return badRedirect("Clients that register themselves may not use this redirect URI here: use a loopback address, or publish a client document.", nil)
		}
	}
	return nil
}

// checkGrantsAndMethod keeps what such a client may have and drops the rest.
func checkGrantsAndMethod(m *oauth.ClientMetadata) error {
	if m.GrantTypes != nil {
		m.GrantTypes = slices.DeleteFunc(m.GrantTypes, func(g string) bool { return g != grantCode && g != grantRefresh })
		if !slices.Contains(m.GrantTypes, grantCode) {
			return badMetadata("The grant_types must contain authorization_code; other grants are for clients that the operator registers.", nil)
		}
		slices.Sort(m.GrantTypes)
		m.GrantTypes = slices.Compact(m.GrantTypes)
	}
	if m.ResponseTypes != nil {
		if !slices.Contains(m.ResponseTypes, "code") {
			return badMetadata("The only response type is code.", nil)
		}
		m.ResponseTypes = []string{"code"}
	}
	switch m.AuthMethod() {
	case methodNone, methodBasic, methodPost:
	case methodKey:
		if (m.JWKS == nil) == (m.JWKSURI == "") {
			return badMetadata("A client with private_key_jwt needs either jwks or jwks_uri.", nil)
		}
	default:
		return badMetadata("That token_endpoint_auth_method is not supported: use none, private_key_jwt, client_secret_basic or client_secret_post.", nil)
	}
	if m.JWKS != nil {
		if _, err := parseJWKS(m.JWKS); err != nil {
			return badMetadata("The jwks must hold 1 to 16 public keys.", err)
		}
	}
	if m.Scope != "" {
		if err := oauth.CheckScope(m.Scope); err != nil {
			return badMetadata("The scope is not a list of scope names.", err)
		}
	}
	return nil
}
