package lab

import (
	"encoding/json"
	"net/http"
	"net/url"

	jose "github.com/go-jose/go-jose/v4"
)

// Scopes of the lab.
const (
	scopeRead    = "notes:read"
	scopeWrite   = "notes:write"
	scopeMail    = "mail:send"
	scopeOffline = "offline_access"
)

// resourceScopes are the scopes of the MCP server; offline_access is the
// authorization server's alone.
func resourceScopes() []string { return []string{scopeRead, scopeWrite, scopeMail} }

// metadataRoutes adds the well-known documents: RFC 9728 at the path-inserted and
// the root form, RFC 8414 and OpenID discovery at every form the MCP
// specification makes clients try.
func (l *Lab) metadataRoutes(routes map[string]http.HandlerFunc) {
	const prm, as, oidc = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	routes[prm] = l.prm(l.MCPURL)
	routes[prm+l.mcpPath()] = l.prm(l.MCPURL)
	routes[prm+"/second/mcp"] = l.prm(l.SecondURL)
	routes[as+l.asPath] = l.asMetadata(docOAuth)
	routes[oidc+l.asPath] = l.asMetadata(docOIDC)
	if l.asPath != "" {
		routes[l.asPath+oidc] = l.asMetadata(docOIDC)
	}
}

// Which document of the authorization server is asked for.
const (
	docOAuth = "oauth"
	docOIDC  = "oidc"
)

// prm serves the protected resource metadata of resource (RFC 9728 section 2).
func (l *Lab) prm(resource string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			methodNotAllowed(w, "GET, HEAD")
			return
		}
		doc := map[string]any{
			"resource":                 resource,
			"authorization_servers":    []string{l.Issuer},
			"scopes_supported":         resourceScopes(),
			"bearer_methods_supported": []string{"header"},
			"resource_name":            "kidoban lab notes",
		}
		if l.weakPRM(w, r, doc) {
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		writeJSON(w, http.StatusOK, doc)
	}
}

// asMetadata serves the authorization server's document (RFC 8414 section 2).
func (l *Lab) asMetadata(form string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			methodNotAllowed(w, "GET, HEAD")
			return
		}
		at := l.Issuer
		doc := map[string]any{
			"issuer":                                         l.Issuer,
			"authorization_endpoint":                         at + "/authorize",
			"token_endpoint":                                 at + "/token",
			"registration_endpoint":                          at + "/register",
			"revocation_endpoint":                            at + "/revoke",
			"introspection_endpoint":                         at + "/introspect",
			"jwks_uri":                                       at + "/jwks",
			"scopes_supported":                               append(resourceScopes(), scopeOffline),
			"response_types_supported":                       []string{"code"},
			"response_modes_supported":                       []string{"query"},
			"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
			"token_endpoint_auth_methods_supported":          []string{"none", "client_secret_basic", "client_secret_post"},
			"revocation_endpoint_auth_methods_supported":     []string{"none", "client_secret_basic", "client_secret_post"},
			"introspection_endpoint_auth_methods_supported":  []string{"client_secret_basic", "client_secret_post"},
			"code_challenge_methods_supported":               []string{"S256"},
			"client_id_metadata_document_supported":          true,
			"authorization_response_iss_parameter_supported": true,
		}
		if form == docOIDC {
			doc["subject_types_supported"] = []string{"public"}
			doc["id_token_signing_alg_values_supported"] = []string{"ES256"}
		}
		if l.weakMetadata(w, form, doc) {
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		writeJSON(w, http.StatusOK, doc)
	}
}

// jwks serves the public keys that access tokens are signed with.
func (l *Lab) jwks(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		methodNotAllowed(w, "GET, HEAD")
		return
	}
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Write(l.jwksBody())
}

// jwksBody is the key set as it is served, byte for byte.
func (l *Lab) jwksBody() []byte {
	body, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &l.key.PublicKey, KeyID: keyID, Algorithm: "ES256", Use: "sig"}}})
	return body
}

// keyID names the one signing key.
const keyID = "lab-1"

// withQuery adds parameters to a redirect URI, keeping its own query as it is.
func withQuery(raw string, params url.Values, fragment bool) string {
	sep := "?"
	if fragment {
		sep = "#"
	} else if u, err := url.Parse(raw); err == nil && u.RawQuery != "" {
		sep = "&"
	}
	return raw + sep + params.Encode()
}
