package oauth

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// LooksLikeClientIDURL tells whether a client_id names a Client ID Metadata
// Document. Identifiers that a server makes itself must not.
func LooksLikeClientIDURL(clientID string) bool {
	return len(clientID) >= 8 && strings.EqualFold(clientID[:8], "https://")
}

// CheckClientIDURL checks a client_id that is a URL on its raw text, before
// anything parses or fetches it (CIMD draft, "Client Identifier"): https, a
// host, a path, no dot segments in any encoding, no fragment, no userinfo, no
// backslash or control character. Beyond the draft it refuses spellings that
// alias another client's identifier: upper case in scheme or host, :443, a
// trailing dot. The error is a *Refusal.
//
// Whether the host may be fetched (addresses, ports, allow-list) is not
// decided here.
func CheckClientIDURL(raw string) error {
	const what = "client_id"
	if err := checkURIText(raw, what); err != nil {
		return err
	}
	after, ok := strings.CutPrefix(raw, "https://")
	if !ok {
		return refuse(CodeNotHTTPS, "The client_id does not begin with https://.")
	}
	i := strings.IndexAny(after, "/?")
	if i < 0 || after[i] == '?' {
		return refuse(CodeNoPath, "The client_id URL has no path.")
	}
	authority, path := after[:i], after[i:]
	path, _, _ = strings.Cut(path, "?")
	host, err := checkAuthority(authority, what)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(authority, host) || strings.HasSuffix(authority, ":443") {
		return refuse(CodeNotCanonicalHost, "The client_id URL writes its host in upper case or names port 443; use the plain form.")
	}
	if path == "/" {
		return refuse(CodeNoPath, "The client_id URL has no path beyond the root.")
	}
	if hasDotSegment(path) {
		return refuse(CodeDotSegment, "The client_id URL's path holds a . or .. segment.")
	}
	return nil
}

// Codes of ParseClientDocument, beside those of CheckClientIDURL.
const (
	CodeNotJSON           = "not_json"
	CodeDocumentFault     = "document_fault"
	CodeClientIDDiffers   = "client_id_differs"
	CodeMissingMember     = "missing_member"
	CodeSymmetricSecret   = "symmetric_secret"
	CodeAuthMethod        = "auth_method"
	CodeNoKeys            = "no_keys"
	CodePrivateKey        = "private_key"
	CodeBadMetadataURL    = "bad_metadata_url"
	CodeDangerousRedirect = "dangerous_redirect"
)

// ParseClientDocument reads a Client ID Metadata Document fetched from url: at
// most MaxClientDocument bytes, client_id equal to url byte for byte (AS-16),
// client_name and redirect_uris present (AS-17), no shared secret of any form,
// and only "none" or "private_key_jwt" as authentication method. An absent
// method is read as "none", because the RFC 7591 default cannot apply here.
// The redirect URIs are checked for scheme only where no policy could allow
// them; CheckRedirect is the caller's. The error is a *Refusal.
func ParseClientDocument(body []byte, url string) (ClientMetadata, error) {
	if len(body) > MaxClientDocument {
		return ClientMetadata{}, refuse(CodeTooLong, "The client document is longer than %d bytes.", MaxClientDocument)
	}
	c, err := parseClient(body, MaxClientDocument, "client document")
	if err != nil {
		return c, &Refusal{CodeNotJSON, kidobanError(err)}
	}
	if f := c.Faults(); len(f) > 0 {
		return c, refuse(CodeDocumentFault, "The client document has a mistake (%s).", f[0])
	}
	switch {
	case c.ClientID != url:
		return c, refuse(CodeClientIDDiffers, "The client document's client_id is not the URL it was fetched from, byte for byte.")
	case strings.TrimSpace(c.ClientName) == "":
		return c, refuse(CodeMissingMember, "The client document has no client_name.")
	case len(c.RedirectURIs) == 0:
		return c, refuse(CodeMissingMember, "The client document has no redirect_uris.")
	case c.Has("client_secret") || c.Has("client_secret_expires_at"):
		return c, refuse(CodeSymmetricSecret, "The client document holds a client secret; a public document cannot keep one.")
	case strings.HasPrefix(c.TokenEndpointAuthMethod, "client_secret_"):
		return c, refuse(CodeSymmetricSecret, "The client document asks for authentication by a shared secret; use none or private_key_jwt.")
	case !slices.Contains([]string{"", "none", "private_key_jwt"}, c.TokenEndpointAuthMethod):
		return c, refuse(CodeAuthMethod, "The client document's token_endpoint_auth_method is not supported; use none or private_key_jwt.")
	case c.TokenEndpointAuthMethod == "private_key_jwt" && c.JWKS == nil && c.JWKSURI == "":
		return c, refuse(CodeNoKeys, "The client document asks for private_key_jwt but has neither jwks nor jwks_uri.")
	case c.JWKS != nil && c.JWKSURI != "":
		return c, refuse(CodeNoKeys, "The client document has both jwks and jwks_uri; RFC 7591 section 2 allows one.")
	}
	if c.TokenEndpointAuthMethod == "" {
		c.TokenEndpointAuthMethod = "none"
	}
	if err := checkPublicKeys(c.JWKS); err != nil {
		return c, err
	}
	for _, r := range c.RedirectURIs {
		scheme, _, _ := strings.Cut(r, ":")
		if err := checkURIText(r, "redirect URI"); err != nil {
			return c, err
		}
		if !isScheme(scheme) || IsDangerousScheme(scheme) {
			return c, refuse(CodeDangerousRedirect, "The client document lists a redirect URI whose scheme is never allowed.")
		}
	}
	return c, c.checkLinks()
}

// checkLinks refuses links of a client that a browser would run instead of open.
func (c *ClientMetadata) checkLinks() error {
	links := []struct{ member, url string }{
		{"client_uri", c.ClientURI}, {"logo_uri", c.LogoURI}, {"tos_uri", c.TosURI},
		{"policy_uri", c.PolicyURI}, {"jwks_uri", c.JWKSURI},
	}
	for member, texts := range c.Localized {
		for _, text := range texts {
			if member != "client_name" {
				links = append(links, struct{ member, url string }{member, text})
			}
		}
	}
	for _, l := range links {
		if l.url == "" {
			continue
		}
		if err := CheckLink(l.url); err != nil {
			return &Refusal{CodeBadMetadataURL, kidoban.Errorf(kidoban.KindRefused, "The client's %s is not a plain https URL.", l.member)}
		}
	}
	return nil
}

// CheckLinks refuses client_uri, logo_uri, tos_uri, policy_uri and jwks_uri
// (localized ones too) that are not plain https URLs (E13, E14).
func (c *ClientMetadata) CheckLinks() error { return c.checkLinks() }

// CheckLink accepts an absolute https URL that is safe to show as a link.
func CheckLink(raw string) error {
	if err := checkURIText(raw, "link"); err != nil && CodeOf(err) != CodeFragment {
		return err
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return refuse(CodeNotHTTPS, "The link is not an https URL.")
	}
	_, err = checkAuthority(u.Host, "link")
	return err
}

// checkPublicKeys refuses key sets that hold a secret: symmetric keys and the
// private half of a pair.
func checkPublicKeys(jwks json.RawMessage) error {
	if jwks == nil {
		return nil
	}
	var set struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) == 0 {
		return refuse(CodeNoKeys, "The client document's jwks has no keys.")
	}
	for _, k := range set.Keys {
		_, private := k["d"]
		_, symmetric := k["k"]
		if private || symmetric || string(k["kty"]) == `"oct"` {
			return refuse(CodePrivateKey, "The client document's jwks holds a private or symmetric key; publish public keys only.")
		}
	}
	return nil
}

// kidobanError returns err as the project's error type.
func kidobanError(err error) *kidoban.Error {
	if e, ok := err.(*kidoban.Error); ok {
		return e
	}
	return &kidoban.Error{Kind: kidoban.KindOf(err), Sentence: "The document cannot be read.", Cause: err}
}
