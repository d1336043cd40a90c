package lab

import (
	"net/http"
)

// endpointSwitches are the flaws of the MCP endpoint: authentication, tokens,
// sessions, Origin and Host, scopes, headers, caches and people.
func endpointSwitches() []Switch { return nil }

// originKnown tells whether the request's Origin may call the server: none, or the
// server's own.
func (l *Lab) originKnown(_ http.ResponseWriter, r *http.Request) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 0 || len(origins) == 1 && origins[0] == l.base
}

// openWithout tells whether a request without a good token is read all the same.
func (l *Lab) openWithout(http.ResponseWriter, *http.Request) bool { return false }

// openMethod tells whether a method answers without a good token.
func (l *Lab) openMethod(*http.Request, string) bool { return false }

// weakAdmit lets a request in by something that is no token of ours.
func (l *Lab) weakAdmit(*http.Request, string) (*token, bool) { return nil, false }

// weakTampered accepts JWTs that the lab's key did not sign.
func (l *Lab) weakTampered(string) bool { return false }

// weakContentType accepts bodies that are not declared as JSON.
func (l *Lab) weakContentType(*http.Request) bool { return false }

// weakBatch takes one request out of a batch.
func (l *Lab) weakBatch([]byte) ([]byte, bool) { return nil, false }

// weakChallenge changes the challenge of a 401.
func (l *Lab) weakChallenge(value string) string { return value }

// endpointRoute finds a handler that a switch put at another path.
func (l *Lab) endpointRoute(r *http.Request) (http.HandlerFunc, bool) {
	switch {
	case r.URL.Path == "/second/mcp":
		return func(w http.ResponseWriter, r *http.Request) { l.endpoint(w, r, l.SecondURL) }, true
	case r.URL.Path == "/mcp" && l.opt.Era != eraSSE:
		return func(w http.ResponseWriter, r *http.Request) { l.endpoint(w, r, l.MCPURL) }, true
	case r.URL.Path == "/sse" && l.opt.Era == eraSSE:
		return l.sseStream, true
	case r.URL.Path == "/messages" && l.opt.Era == eraSSE:
		return l.sseMessage, true
	}
	return nil, false
}

// newSessionID makes the id of a legacy session. Lab.mu is held.
func (l *Lab) newSessionID(*mcpSession) string { return l.random(24) }

// caller is whom a tool works for: the person of this very call's token.
func (l *Lab) caller(c *call) string { return c.user() }

// cacheScope is the cache hint of answers that depend on the person.
func (l *Lab) cacheScope() string { return "private" }

// weakSeal and weakOpen make a requestState that can be read and changed.
func (l *Lab) weakSeal([]byte) (string, bool) { return "", false }

func (l *Lab) weakOpen([]byte) ([]byte, bool) { return nil, false }

// connectURL is the address of the connect page for a handle.
func (l *Lab) connectURL(handle, _ string) string { return l.base + "/connect?h=" + handle }

// mayConnect lets only the person through whom the elicitation was made for. It
// answers the request itself for everybody else.
func (l *Lab) mayConnect(w http.ResponseWriter, _ *http.Request, k *link, user string) bool {
	if user != k.user {
		l.errorPage(w, http.StatusForbidden, "access_denied", "Log in as the person who asked for this connection, then open the address again.")
		return false
	}
	return true
}
