package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// metadataSwitches are the flaws of the metadata (E10, E11) and of the transport
// (E29).
func metadataSwitches() []Switch {
	tls := Needs{TLS: true}
	return []Switch{
		{Key: "E10-a", Title: "There is no protected resource metadata; the challenge names a document that is missing."},
		{Key: "E10-b", Title: "The challenge names no metadata, and there are none at the well-known places.", Needs: Needs{Flaws: []string{"E10-a"}}},
		{Key: "E10-c", Title: "The resource in the metadata has another path than the server."},
		{Key: "E10-d", Title: "The challenge names a document on another origin (that of the cloud client's stub, which serves it)."},
		{Key: "E10-e", Title: "The metadata name an authorization server at a link-local http address."},
		{Key: "E10-f", Title: "The metadata name a second authorization server on a stranger's domain."},
		{Key: "E10-g", Title: "The metadata allow tokens in the query; the server refuses them."},
		{Key: "E10-h", Title: "The challenge asks for a scope that the metadata do not list."},
		{Key: "E10-i", Title: "The metadata change with every fetch."},
		{Key: "E10-j", Title: "The metadata are served as text/html."},
		{Key: "E11-a", Title: "The issuer in the metadata is another server's; responses carry the same wrong one."},
		{Key: "E11-b", Title: "An endpoint in the metadata (introspection) has user information."},
		{Key: "E11-c", Title: "An endpoint in the metadata (introspection) is on another domain."},
		{Key: "E11-d", Title: "The metadata offer response_type token, which is refused."},
		{Key: "E11-e", Title: "The metadata offer the password grant, which is refused."},
		{Key: "E11-f", Title: "The metadata offer registration but no public clients."},
		{Key: "E11-g", Title: "The metadata do not offer client documents."},
		{Key: "E11-h", Title: "The OpenID document names another token endpoint than the OAuth document."},
		{Key: "E11-i", Title: "The authorization server's metadata are served as text/html."},
		{Key: "E29-a", Title: "The server answers plain http on its https port.", Needs: tls},
		{Key: "E29-b", Title: "The way from /authorize to the login leads through a plain http address.", Needs: tls},
		{Key: "E29-c", Title: "The server speaks TLS 1.0 and 1.1.", Needs: tls},
		{Key: "E29-d", Title: "Cookies have neither Secure nor the __Host- prefix.", Needs: tls},
		{Key: "E29-e", Title: "There is no Strict-Transport-Security.", Needs: tls},
	}
}

// strangerIssuer is an authorization server that nobody has heard of and that never
// resolves.
const strangerIssuer = "https://login.lab-stranger.invalid"

// weakPRM changes the protected resource metadata; true means that it has answered.
func (l *Lab) weakPRM(w http.ResponseWriter, _ *http.Request, doc map[string]any) bool {
	if l.on("E10-a") {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return true
	}
	if l.on("E10-c") {
		doc["resource"] = l.base + "/api"
	}
	switch {
	case l.on("E10-e"):
		doc["authorization_servers"] = []string{"http://169.254.169.254/as"}
	case l.on("E10-f"):
		doc["authorization_servers"] = []string{l.Issuer, strangerIssuer}
	case l.on("E06-a"):
		doc["authorization_servers"] = []string{l.Issuer, "https://accounts.google.com"}
	}
	if l.on("E10-g") {
		doc["bearer_methods_supported"] = []string{"header", "query"}
	}
	if l.on("E10-h") {
		doc["scopes_supported"] = []string{scopeWrite, scopeMail}
	}
	if l.on("E30-a") {
		doc["scopes_supported"] = append([]string{"*", "admin"}, resourceScopes()...)
	}
	if l.on("E10-i") {
		l.mu.Lock()
		l.st.counter++
		doc["resource_documentation"] = fmt.Sprintf("%s/docs/%d", l.base, l.st.counter)
		l.mu.Unlock()
	}
	if l.on("E10-j") {
		asHTML(w, doc)
		return true
	}
	return false
}

// weakMetadata changes the authorization server's metadata; true means that it has
// answered.
func (l *Lab) weakMetadata(w http.ResponseWriter, form string, doc map[string]any) bool {
	for key, member := range map[string]string{"E12-a": "authorization_response_iss_parameter_supported", "E25-a": "revocation_endpoint", "E11-g": "client_id_metadata_document_supported"} {
		if l.on(key) {
			delete(doc, member)
		}
	}
	own, _ := url.Parse(l.Issuer)
	for _, c := range []struct {
		key, member string
		value       any
	}{
		{"F5-e", "code_challenge_methods_supported", []string{"plain", "S256"}},
		{"E11-a", "issuer", strangerIssuer},
		{"E11-b", "introspection_endpoint", own.Scheme + "://lab@" + own.Host + own.Path + "/introspect"},
		{"E11-c", "introspection_endpoint", "https://tokens.lab-stranger.invalid/introspect"},
		{"E11-d", "response_types_supported", []string{"code", "token"}},
		{"E11-e", "grant_types_supported", []string{"authorization_code", "refresh_token", "password"}},
		{"E11-f", "token_endpoint_auth_methods_supported", []string{"client_secret_basic", "client_secret_post"}},
		{"E30-a", "scopes_supported", append([]string{"*", "admin", scopeOffline}, resourceScopes()...)},
	} {
		if l.on(c.key) {
			doc[c.member] = c.value
		}
	}
	if l.on("E11-h") && form == docOIDC {
		doc["token_endpoint"] = l.Issuer + "/oidc/token"
	}
	if l.on("E11-i") {
		asHTML(w, doc)
		return true
	}
	return false
}

// asHTML serves a document with the wrong type.
func asHTML(w http.ResponseWriter, doc map[string]any) {
	body, _ := json.Marshal(doc)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(body)
}

// weakChallenge changes the challenge of a 401.
func (l *Lab) weakChallenge(value string) string {
	drop := func(name string) {
		parts := slices.DeleteFunc(strings.Split(strings.TrimPrefix(value, "Bearer "), ", "), func(p string) bool { return strings.HasPrefix(p, name+"=") })
		value = strings.TrimSpace("Bearer " + strings.Join(parts, ", "))
	}
	if l.on("E10-b") {
		drop("resource_metadata")
	}
	if l.on("E30-b") {
		drop("scope")
	}
	if l.on("E10-d") {
		value = strings.Replace(value, `resource_metadata="`+l.base, `resource_metadata="`+strings.TrimSuffix(l.CloudURL, cloudPath), 1)
	}
	return value
}

// overPlain sends a redirect through the plain http address of E29-b.
func (l *Lab) overPlain(to string) string {
	if l.plain == "" || !strings.HasPrefix(to, "/") {
		return to
	}
	return l.plain + "/hop?" + url.Values{"to": {to}}.Encode()
}

// plainHandler is that address: it sends the browser back to https.
func (l *Lab) plainHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		if r.URL.Path != "/hop" || !strings.HasPrefix(to, l.asPath+"/") || strings.HasPrefix(to, "//") {
			http.Error(w, "There is nothing here.", http.StatusNotFound)
			return
		}
		w.Header().Set("Location", l.base+to)
		w.WriteHeader(http.StatusFound)
	})
}
