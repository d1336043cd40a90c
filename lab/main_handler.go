package lab

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// mainHandler routes the origin that holds the MCP server and the authorization
// server. Paths are compared as they came: no cleaning, no redirects.
func (l *Lab) mainHandler() http.Handler {
	p := l.asPath
	routes := map[string]http.HandlerFunc{
		p + "/authorize":     l.authorize,
		p + "/step":          l.step,
		p + "/login":         l.login,
		p + "/login/passkey": l.passkeyLogin,
		p + "/consent":       l.consent,
		p + "/continue":      l.cont,
		p + "/callback":      l.upstreamCallback,
		p + "/token":         l.token,
		p + "/revoke":        l.revoke,
		p + "/introspect":    l.introspect,
		p + "/register":      l.register,
		p + "/jwks":          l.jwks,
		p + "/logout":        l.logout,
		p + "/app.js":        l.script,
		"/connect":           l.connectPage,
		"/":                  l.front,
	}
	l.metadataRoutes(routes)
	flow := map[string]bool{}
	for _, name := range []string{"/authorize", "/step", "/login", "/login/passkey", "/consent", "/continue", "/callback"} {
		flow[p+name] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if l.opt.TLS && !l.on("E29-e") {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if h, ok := l.endpointRoute(r); ok {
			h(w, r)
			return
		}
		if !l.hostKnown(r) && !l.on("F7-17") {
			http.Error(w, "This server does not answer to that Host.", http.StatusMisdirectedRequest)
			return
		}
		if rest, ok := strings.CutPrefix(r.URL.Path, p+"/register/"); ok && rest != "" {
			l.manage(w, r, rest)
			return
		}
		if h, ok := routes[r.URL.Path]; ok {
			if l.opt.AnySpelling {
				respell(r)
			}
			if flow[r.URL.Path] {
				// The body is read before the turn is taken: who sends slowly waits alone.
				if err := r.ParseForm(); err != nil && r.Method == http.MethodPost {
					l.errorPage(w, http.StatusBadRequest, "invalid_request", "The form cannot be read.")
					return
				}
				l.flowMu.Lock()
				defer l.flowMu.Unlock()
			}
			h(w, r)
			return
		}
		http.Error(w, "There is nothing here.", http.StatusNotFound)
	})
}

// maxBody bounds every request body.
const maxBody = 256 << 10

// hostKnown tells whether the request names the address that this server is
// reached under: a page that rebinds its name to loopback brings its own.
func (l *Lab) hostKnown(r *http.Request) bool {
	u, _ := url.Parse(l.base)
	if r.Host == u.Host {
		return true
	}
	host, port, err := net.SplitHostPort(r.Host)
	return err == nil && port == u.Port() && (host == "localhost" || host == "127.0.0.1" || host == "::1")
}

// front is the page at the root.
func (l *Lab) front(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		methodNotAllowed(w, "GET, HEAD")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("kidoban lab: a server that is weak on purpose. The MCP endpoint is " + l.MCPURL + "\n"))
}

// writeJSON answers with a JSON document. Answers that carry secrets are marked
// no-store by their handlers.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(v)
}

// oauthError answers as RFC 6749 section 5.2 asks.
func oauthError(w http.ResponseWriter, status int, code, description string) {
	noStore(w)
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// noStore keeps an answer out of every cache (RFC 6749 section 5.1).
func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// methodNotAllowed answers 405 and names what is allowed (RFC 9110 section 15.5.6).
func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	http.Error(w, "That method is not allowed here.", http.StatusMethodNotAllowed)
}

// isForm tells whether a body is declared as a form.
func isForm(r *http.Request) bool {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(ct), "application/x-www-form-urlencoded")
}

// isJSON tells whether a body is declared as JSON; parameters of the type do not
// matter.
func isJSON(r *http.Request) bool {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(ct), "application/json")
}
