package lab

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// trustedHosts are the https hosts whose redirect URIs registration accepts: the
// cloud clients this server's operator has decided to know.
func trustedHosts() []string { return []string{"claude.example", "chatgpt.example"} }

// isLoopbackHost tells whether host (without port and brackets) is loopback
// written in one of the three usual ways.
func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || ip == netip.IPv6Loopback())
}

// plainURI refuses what no redirect URI may hold, whatever its scheme: parsers
// disagree on these bytes, and where parsers disagree allow-lists fall.
func plainURI(raw string) error {
	if len(raw) == 0 || len(raw) > 2048 {
		return errors.New("is empty or longer than 2048 bytes")
	}
	for i := 0; i < len(raw); i++ {
		if c := raw[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>^`{|}", c) >= 0 {
			return errors.New("holds a character that does not belong into a URI")
		}
	}
	return nil
}

// checkRedirect decides whether a redirect URI may be registered: loopback http,
// or https at a trusted host.
func (l *Lab) checkRedirect(raw string) error {
	for _, host := range l.opt.Banned {
		if strings.HasPrefix(raw, "https://"+host+"/") {
			return errors.New("is on a host that is banned here")
		}
	}
	if l.weakRegistration(raw) {
		return nil
	}
	if err := plainURI(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("is not a URI")
	case strings.Contains(raw, "#"):
		return errors.New("has a fragment")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return errors.New("has user information")
	case u.Scheme == "http" && isLoopbackHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("is plain http; only loopback may use it")
	case u.Scheme == "https" && slices.Contains(trustedHosts(), u.Host):
		return nil
	case u.Scheme == "https" && isLoopbackHost(u.Hostname()) && l.opt.TLS:
		return nil
	case u.Scheme == "https":
		return errors.New("is on a host that is not known here; https is accepted for " + strings.Join(trustedHosts(), ", "))
	}
	return errors.New("uses a scheme other than https, or http on loopback")
}

// trusted tells whether the authorization server may send a browser to raw before
// a person has agreed: loopback and the trusted hosts (OAuth 2.1, authorization
// server as open redirector).
func trusted(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil {
		return false
	}
	return isLoopbackHost(u.Hostname()) && (u.Scheme == "http" || u.Scheme == "https") ||
		u.Scheme == "https" && slices.Contains(trustedHosts(), u.Host)
}

// matchRedirect compares the requested redirect URI with the registered ones:
// byte for byte, with the one exception of RFC 8252 section 7.3, the port of a
// loopback IP literal.
func (l *Lab) matchRedirect(registered []string, requested string) bool {
	for _, reg := range registered {
		if reg == requested || samePortlessLoopback(reg, requested) || l.weakMatch(reg, requested) {
			return true
		}
	}
	return l.on("F7-1") && strings.Contains(requested, "://")
}

// samePortlessLoopback tells whether both are http URIs on the same loopback IP
// literal that differ in nothing but the port.
func samePortlessLoopback(a, b string) bool {
	restA, okA := cutPort(a)
	restB, okB := cutPort(b)
	return okA && okB && restA == restB
}

// cutPort removes the port from an http URI on a loopback IP literal.
func cutPort(raw string) (string, bool) {
	for _, prefix := range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, ok := strings.CutPrefix(raw, prefix)
		if !ok {
			continue
		}
		if port, ok := strings.CutPrefix(rest, ":"); ok {
			digits := 0
			for digits < len(port) && port[digits] >= '0' && port[digits] <= '9' {
				digits++
			}
			if digits == 0 || digits > 5 {
				return "", false
			}
			rest = port[digits:]
		}
		if rest != "" && rest[0] != '/' && rest[0] != '?' {
			return "", false
		}
		return prefix + rest, true
	}
	return "", false
}

// findClient looks a client up. Unknown, expired and malformed ids give nil.
func (l *Lab) findClient(id string) *client {
	if strings.Contains(id, "://") {
		return l.documentClient(id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.st.clients[id]
	if c == nil || !c.expires.IsZero() && l.now().After(c.expires) {
		return l.weakClient(id)
	}
	return c
}

// newClientID makes an id of 128 random bits. The prefix keeps a generated id from
// ever looking like the URL of a client document.
func (l *Lab) newClientID() string { return "lab-" + l.random(16) }

// seedClients registers the clients of the house: the cloud client's stub, and a
// confidential one that the MCP server introspects tokens with.
func (l *Lab) seedClients() {
	l.st.clients["cloud-stub"] = &client{
		id: "cloud-stub", name: "Lab cloud client", redirects: []string{l.CloudURL},
		grants: []string{"authorization_code", "refresh_token"}, responses: []string{"code"}, method: "none",
	}
	l.st.clients["lab-resource-server"] = &client{id: "lab-resource-server", secret: l.random(32), name: "Lab resource server", method: "client_secret_basic"}
}
