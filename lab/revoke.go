package lab

import (
	"net/http"
)

// revoke ends a token and its grant (RFC 7009). A token of another client is left
// alone; the answer is the same.
func (l *Lab) revoke(w http.ResponseWriter, r *http.Request) {
	if l.on("E25-a") {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	if !isForm(r) || r.ParseForm() != nil || r.PostForm.Get("token") == "" {
		oauthError(w, http.StatusBadRequest, "invalid_request", "Send a form with the token.")
		return
	}
	// Who asks is settled before the token is looked at: a stranger must not learn
	// whether a token exists (RFC 7009 section 2.1).
	stranger := l.on("E25-c")
	var id string
	if !stranger {
		c, ok := l.authenticate(w, r)
		if !ok {
			return
		}
		id = c.id
	}
	noStore(w)
	l.mu.Lock()
	t := l.st.tokens[r.PostForm.Get("token")]
	if t != nil && (t.clientID == id || stranger) && !l.on("E25-b") {
		l.killGrant(t.grant)
	}
	l.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// introspect answers the resource server, and nobody else (RFC 7662 section 2.1).
func (l *Lab) introspect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	if !isForm(r) || r.ParseForm() != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request", "Send a form with the token.")
		return
	}
	if !l.on("E32-c") {
		c, ok := l.authenticate(w, r)
		if !ok {
			return
		}
		if c.method == "none" || c.id != "lab-resource-server" {
			oauthError(w, http.StatusForbidden, "unauthorized_client", "Only the resource server may introspect tokens.")
			return
		}
	}
	noStoreUnless(w, l.on("E31-b"))
	// A refresh token is never active: nothing is opened with one.
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.st.tokens[r.PostForm.Get("token")]
	if t == nil || t.refresh || !l.alive(t) {
		writeJSON(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	answer := map[string]any{"active": true, "sub": t.user, "client_id": t.clientID, "scope": t.scope, "aud": t.resource, "iss": l.Issuer, "token_type": "Bearer"}
	if !t.expires.IsZero() {
		answer["exp"] = t.expires.Unix()
	}
	writeJSON(w, http.StatusOK, answer)
}

// alive tells whether a token may still be used. Lab.mu is held.
func (l *Lab) alive(t *token) bool {
	g := l.st.grants[t.grant]
	return (g != nil && !g.dead || l.on("E04-i")) && (t.expires.IsZero() || l.now().Before(t.expires) || l.on("E04-h"))
}
