package oauth

import (
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

const (
	wellKnownPRM  = "/.well-known/oauth-protected-resource"
	wellKnown8414 = "/.well-known/oauth-authorization-server"
	wellKnownOIDC = "/.well-known/openid-configuration"
)

// PRMURLs returns where the protected resource metadata of an MCP endpoint may
// be, in the order a client must try them when the challenge names none
// (RFC 9728 §3.1, CL-01): the well-known path with the endpoint's path and
// query inserted after it, then the root. An endpoint at the root has one
// place. The path's own trailing slash is kept: /mcp and /mcp/ are two
// resources.
func PRMURLs(mcpURL string) ([]string, error) {
	origin, path, query, err := splitHTTPURL(mcpURL, "MCP endpoint")
	if err != nil {
		return nil, err
	}
	if path == "/" {
		path = ""
	}
	root := origin + wellKnownPRM
	if path == "" && query == "" {
		return []string{root}, nil
	}
	inserted := root + path
	if query != "" {
		inserted += "?" + query
	}
	return []string{inserted, root}, nil
}

// MetadataURLs returns where an issuer's metadata may be, in the order a client
// must try them (RFC 8414 §3.1, OpenID Connect Discovery §4, CL-02). An issuer
// with a path: RFC 8414 inserted, OpenID inserted, OpenID appended. Without:
// RFC 8414, OpenID. A trailing slash is removed before the insertion, as both
// documents ask; the issuer in the answer must still equal the issuer given.
func MetadataURLs(issuer string) ([]string, error) {
	origin, path, query, err := splitHTTPURL(issuer, "issuer")
	if err != nil {
		return nil, err
	}
	if query != "" || strings.HasSuffix(issuer, "?") {
		return nil, kidoban.Errorf(kidoban.KindInput, "The issuer has a query; RFC 8414 section 2 allows none.")
	}
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return []string{origin + wellKnown8414, origin + wellKnownOIDC}, nil
	}
	return []string{
		origin + wellKnown8414 + path,
		origin + wellKnownOIDC + path,
		origin + path + wellKnownOIDC,
	}, nil
}

// LegacyIssuer returns the authorization base URL of revision 2025-03-26: the
// MCP server's own origin, its path dropped. It is the issuer to try when a
// server has no protected resource metadata.
func LegacyIssuer(mcpURL string) (string, error) {
	origin, _, _, err := splitHTTPURL(mcpURL, "MCP endpoint")
	return origin, err
}

// LegacyMetadata returns the default endpoints of revision 2025-03-26 for a
// server that publishes no metadata at all: /authorize, /token and /register
// below the server's origin. Its Document is empty: nothing was read.
func LegacyMetadata(mcpURL string) (Metadata, error) {
	origin, err := LegacyIssuer(mcpURL)
	if err != nil {
		return Metadata{}, err
	}
	return Metadata{
		Issuer:                origin,
		AuthorizationEndpoint: origin + "/authorize",
		TokenEndpoint:         origin + "/token",
		RegistrationEndpoint:  origin + "/register",
	}, nil
}

// Origin returns scheme://host[:port] of an http or https URL, scheme and host
// in lower case, the default port dropped. It is what a browser calls the origin.
func Origin(raw string) (string, error) {
	u, err := parseHTTPURL(raw, "URL")
	if err != nil {
		return "", err
	}
	return originOf(u), nil
}

func originOf(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return scheme + "://" + strings.TrimSuffix(host, ":")
}

// splitHTTPURL returns scheme://authority, the path and the query as they
// stand in raw: nothing is decoded or normalised.
func splitHTTPURL(raw, what string) (origin, path, query string, err error) {
	if _, err = parseHTTPURL(raw, what); err != nil {
		return "", "", "", err
	}
	start := strings.Index(raw, "://") + 3
	end := strings.IndexAny(raw[start:], "/?")
	if end < 0 {
		return raw, "", "", nil
	}
	origin = raw[:start+end]
	path, query, _ = strings.Cut(raw[start+end:], "?")
	return origin, path, query, nil
}

// parseHTTPURL accepts an absolute http or https URL with a host, without
// userinfo, fragment, control character, space or backslash.
func parseHTTPURL(raw, what string) (*url.URL, error) {
	if len(raw) > MaxURL {
		return nil, kidoban.Errorf(kidoban.KindLimit, "The %s is longer than %d bytes.", what, MaxURL)
	}
	if i := strings.IndexFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }); i >= 0 {
		return nil, kidoban.Errorf(kidoban.KindInput, "The %s holds a space, a control character or a backslash at byte %d.", what, i)
	}
	if strings.Contains(raw, "#") {
		return nil, kidoban.Errorf(kidoban.KindInput, "The %s has a fragment; remove it.", what)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "The %s is not a URL", what)
	}
	if s := strings.ToLower(u.Scheme); (s != "http" && s != "https") || u.Hostname() == "" || u.Opaque != "" {
		return nil, kidoban.Errorf(kidoban.KindInput, "The %s is not an absolute http or https URL.", what)
	}
	if u.User != nil {
		return nil, kidoban.Errorf(kidoban.KindInput, "The %s holds a user name or password; remove it.", what)
	}
	return u, nil
}
