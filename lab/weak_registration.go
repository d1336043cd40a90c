package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// registrationSwitches are the flaws of open registration (F1).
func registrationSwitches() []Switch {
	return []Switch{
		{Key: "F1-a", Title: "Registration takes any https redirect URI. Pages and consent are right, errors of such clients stay on a local page."},
		{Key: "F1-b", Title: "Registration takes plain http redirect URIs that are not loopback."},
		{Key: "F1-d", Title: "The list of accepted redirect URIs is matched on the raw string: http://127.0.0.1, http://localhost or https://claude.example anywhere in it is enough."},
		{Key: "F1-e", Title: "A client that registered a web address only is taken for a known partner and gets its code after the login without a decision page.",
			Needs: Needs{Flaws: []string{"F1-a"}}},
	}
}

// weakRegistration lets a redirect URI through that checkRedirect would refuse.
func (l *Lab) weakRegistration(raw string) bool {
	u, err := url.Parse(raw)
	plain := err == nil && plainURI(raw) == nil && u.User == nil && u.Hostname() != "" && !strings.Contains(raw, "#")
	switch {
	case l.on("F1-a") && plain && u.Scheme == "https" && !l.looksListed(raw):
		return true
	case l.on("F1-b") && plain && u.Scheme == "http" && !l.looksListed(raw):
		return true
	case l.on("F1-d") && l.looksListed(raw):
		return true
	}
	return l.weakScheme(raw)
}

// looksListed tells whether a listed prefix stands anywhere in raw: how a glob over
// the raw string reads an allow-list (CVE-2026-12985).
func (l *Lab) looksListed(raw string) bool {
	for _, p := range []string{"http://127.0.0.1", "http://localhost", "https://claude.example", "https://chatgpt.example"} {
		if strings.Contains(raw, p) {
			return true
		}
	}
	return strings.HasSuffix(raw, "@claude.example/") || strings.Contains(raw, `\@claude.example`)
}

// weakGrant answers grants that have no place here.
func (l *Lab) weakGrant(w http.ResponseWriter, r *http.Request, grantType string) bool {
	if grantType == "password" && l.on("E26-c") {
		user := l.checkPassword(r.PostForm.Get("username"), r.PostForm.Get("password"), "")
		c := l.findClient(r.PostForm.Get("client_id"))
		if user == "" || c == nil {
			oauthError(w, http.StatusBadRequest, "invalid_grant", "User or password is wrong.")
			return true
		}
		l.mu.Lock()
		answer := l.issue(c, l.newGrant(), user, scopeRead, l.MCPURL, true)
		l.mu.Unlock()
		noStore(w)
		writeJSON(w, http.StatusOK, answer)
		return true
	}
	return l.weakClientCredentials(w, r, grantType)
}
