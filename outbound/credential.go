package outbound

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

// checkCredential enforces that a credential reaches only the origin it was
// issued for, over a connection that keeps it.
func (c *Client) checkCredential(r Req, u *url.URL) error {
	carries := r.Credential || r.Jar != nil && r.Jar.header(u, c.o.Now()) != ""
	for _, f := range r.Header {
		carries = carries || secretHeader(f.Name) && f.Value != ""
	}
	if c.o.InsecureTLSProbe {
		look := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if carries || !look || len(r.Body) > 0 {
			return kidoban.Errorf(kidoban.KindRefused, "a TLS probe only looks: GET, HEAD or OPTIONS without body, cookies and credentials")
		}
	}
	if !carries {
		return nil
	}
	if u.Scheme == "http" && r.AllowPlain {
		return kidoban.Errorf(kidoban.KindRefused, "a request over plain http carries a credential; send it without")
	}
	if r.CredentialOrigin == "" {
		return nil
	}
	want, err := Origin(r.CredentialOrigin)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the credential's origin is not a URL")
	}
	if got := originOf(u); got != want {
		return kidoban.Errorf(kidoban.KindRefused, "the credential was issued for %s and is not sent to %s", want, got)
	}
	return nil
}

// secretHeader reports whether a header of this name carries a credential:
// such values are redacted, and dropped when a redirect leaves the origin.
func secretHeader(name string) bool {
	n := strings.ToLower(name)
	switch n {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "dpop", "mcp-session-id",
		"x-api-key", "api-key", "apikey", "x-auth", "x-goog-iap-jwt-assertion":
		return true
	case "sec-websocket-key", "access-control-allow-credentials":
		return false
	}
	for _, part := range []string{"token", "secret", "apikey", "api-key", "password", "passwd", "session", "credential", "assertion", "jwt"} {
		if strings.Contains(n, part) {
			return true
		}
	}
	return false
}
