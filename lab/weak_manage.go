package lab

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// manageSwitches are the flaws of registration beyond https redirect URIs (E13, E14,
// E17, E18), of client authentication (E19) and of registration management (E20).
func manageSwitches() []Switch {
	return []Switch{
		{Key: "E13-a", Title: "Registration takes javascript: redirect URIs."},
		{Key: "E13-b", Title: "Registration takes data: redirect URIs."},
		{Key: "E13-c", Title: "Registration takes redirect URIs with a private scheme without a dot."},
		{Key: "E14-a", Title: "A client_uri with any scheme is kept, and the decision page links to it."},
		{Key: "E14-b", Title: "A client_name of any length is kept and shown."},
		{Key: "E14-c", Title: "A client_name with invisible characters is kept and shown."},
		{Key: "E17-a", Title: "Registrations are not counted."},
		{Key: "E17-b", Title: "A registration may be of 64 kB and more, with any number of redirect URIs."},
		{Key: "E17-c", Title: "Registrations never expire; client_secret_expires_at is 0."},
		{Key: "E17-d", Title: "Registrations are counted against the address in X-Forwarded-For."},
		{Key: "E18-a", Title: "A client gets whatever scope it registers; * and admin open every tool."},
		{Key: "E18-b", Title: "A client gets whatever grant types it registers; with password it may use that grant."},
		{Key: "E18-c", Title: "The members require_pkce, skip_consent and access_token_ttl of a registration are kept and obeyed."},
		{Key: "E18-d", Title: "A client that registers client_credentials gets tokens in its own name.", Expect: []string{"E18-b", "E18-d"}},
		{Key: "E19-a", Title: "Any client_secret is right."},
		{Key: "E19-b", Title: "A confidential client may leave its secret out."},
		{Key: "E19-c", Title: "The secret may come by Basic or in the body, whatever was registered."},
		{Key: "E20-a", Title: "A registration can be read without its token."},
		{Key: "E20-b", Title: "A registration can be read with another client's token."},
		{Key: "E20-c", Title: "The registration access token is taken from the query as well."},
		{Key: "E20-d", Title: "The redirect URIs of an update are not checked."},
		{Key: "E20-e", Title: "A deleted client goes on working."},
		{Key: "E20-f", Title: "The registration_client_uri that is handed out does not exist."},
		{Key: "E20-g", Title: "The registration_client_uri is on another origin."},
	}
}

// weakScheme lets a redirect URI with a dangerous scheme be registered.
func (l *Lab) weakScheme(raw string) bool {
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok || plainURI(raw) != nil {
		return false
	}
	switch strings.ToLower(scheme) {
	case "javascript":
		return l.on("E13-a")
	case "data":
		return l.on("E13-b")
	case "http", "https", "vbscript", "file", "blob", "about", "view-source":
		return false
	}
	return l.on("E13-c") && !strings.Contains(scheme, ".") && strings.HasPrefix(rest, "/")
}

// weakMetadataOfClient keeps members of a registration that nobody should keep.
func (l *Lab) weakMetadataOfClient(c *client, m map[string]any) {
	c.fetch = map[string]string{}
	for key, member := range fetchedMembers() {
		switch v := m[member].(type) {
		case string:
			c.fetch[key] = v
		case []any:
			if len(v) > 0 {
				c.fetch[key], _ = v[0].(string)
			}
		}
	}
	if !l.on("E18-c") {
		return
	}
	c.extra = map[string]any{}
	for _, name := range []string{"require_pkce", "skip_consent", "access_token_ttl"} {
		if v, ok := m[name]; ok {
			c.extra[name] = v
		}
	}
}

// lifetimeOf is how long a client's access tokens live; only E18-c lets it choose.
func (l *Lab) lifetimeOf(c *client) time.Duration {
	if n, ok := c.extra["access_token_ttl"].(float64); ok && n > 0 && n < 1e9 {
		return time.Duration(n) * time.Second
	}
	return l.accessTTL()
}

// weakManage lets a request manage a client without that client's token in its
// place.
func (l *Lab) weakManage(r *http.Request, c *client, given string) bool {
	switch {
	case l.on("E20-a") && r.Method == http.MethodGet && given == "":
		return true
	case l.on("E20-c") && given == "":
		q := r.URL.Query()
		return same(c.manageToken, q.Get("access_token")) || same(c.manageToken, q.Get("token")) || same(c.manageToken, q.Get("registration_access_token"))
	case l.on("E20-b") && r.Method == http.MethodGet:
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, other := range l.st.clients {
			if other.dynamic && same(other.manageToken, given) {
				return true
			}
		}
	}
	return false
}

// readUpdate reads the body of a PUT on a registration.
func (l *Lab) readUpdate(r *http.Request, old *client) (*client, *tokenFault) {
	bad := func(text string) (*client, *tokenFault) {
		return nil, &tokenFault{"invalid_client_metadata", text}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRegistration+1))
	if err != nil || len(body) > maxRegistration {
		return bad("The request is larger than 16 KiB.")
	}
	var m map[string]any
	if json.Unmarshal(body, &m) != nil || m == nil {
		return bad("The body is not a JSON object.")
	}
	if id, there := m["client_id"]; there && id != old.id {
		return bad("The client_id is another client's.")
	}
	var unchecked []string
	if l.on("E20-d") {
		if uris, ok := stringList(m["redirect_uris"]); ok && len(uris) > 0 {
			unchecked, m["redirect_uris"] = uris, []any{"http://127.0.0.1/placeholder"}
		}
	}
	c, f := l.clientFrom(m)
	if f == nil && unchecked != nil {
		c.redirects = unchecked
	}
	return c, f
}

// manageURI is the registration_client_uri of a client.
func (l *Lab) manageURI(c *client) string {
	if l.on("E20-g") {
		u, err := url.Parse(l.CloudURL)
		if err == nil {
			return u.Scheme + "://" + u.Host + "/register/" + c.id
		}
	}
	return l.Issuer + "/register/" + c.id
}

// weakClientCredentials answers the grants that E18-b and E18-d let a client
// register.
func (l *Lab) weakClientCredentials(w http.ResponseWriter, r *http.Request, grantType string) bool {
	wanted := grantType == "client_credentials" && l.on("E18-d") || grantType == "password" && l.on("E18-b")
	if !wanted {
		return false
	}
	c, ok := l.authenticate(w, r)
	if !ok {
		return true
	}
	if !slices.Contains(c.grants, grantType) || c.method == "none" && grantType == "client_credentials" {
		oauthError(w, http.StatusBadRequest, "unauthorized_client", "This client did not register that grant.")
		return true
	}
	user := "client " + c.id
	if grantType == "password" {
		if user = l.checkPassword(r.PostForm.Get("username"), r.PostForm.Get("password"), ""); user == "" {
			oauthError(w, http.StatusBadRequest, "invalid_grant", "User or password is wrong.")
			return true
		}
	}
	l.mu.Lock()
	answer := l.issue(c, l.newGrant(), user, scopeRead, l.MCPURL, false)
	l.mu.Unlock()
	noStore(w)
	writeJSON(w, http.StatusOK, answer)
	return true
}
