package lab

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func (b *agent) prm() answer {
	return b.get(b.l.base + "/.well-known/oauth-protected-resource" + b.l.mcpPath())
}

func (b *agent) meta() map[string]any {
	b.t.Helper()
	return b.get(b.l.base + "/.well-known/oauth-authorization-server" + b.l.asPath).json(b.t)
}

// has tells whether a list in a document holds a value.
func has(list any, value string) bool {
	l, _ := list.([]any)
	return slices.Contains(l, any(value))
}

func (b *agent) challengeOf(to string) string {
	b.t.Helper()
	return b.modern(to, "", "tools/list", nil, nil).header.Get("WWW-Authenticate")
}

// oldTLS tells whether the server shakes hands with TLS 1.1 at most.
func (b *agent) oldTLS() bool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.l.CACert)
	c, err := tls.Dial("tcp", strings.TrimPrefix(b.l.base, "https://"), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func metadataAttacks() []attack {
	return []attack{
		{"E10-a", func(b *agent) bool {
			return b.prm().status == http.StatusNotFound && b.get(b.l.base+"/.well-known/oauth-protected-resource").status == http.StatusNotFound
		}},
		{"E10-b", func(b *agent) bool { return !strings.Contains(b.challengeOf(b.l.MCPURL), "resource_metadata") }},
		{"E10-c", func(b *agent) bool { return b.prm().json(b.t)["resource"] != b.l.MCPURL }},
		{"E10-d", func(b *agent) bool {
			_, rest, _ := strings.Cut(b.challengeOf(b.l.MCPURL), `resource_metadata="`)
			doc, _, _ := strings.Cut(rest, `"`)
			return !strings.HasPrefix(doc, b.l.base) && b.get(doc).json(b.t)["resource"] == b.l.MCPURL
		}},
		{"E10-e", func(b *agent) bool {
			return has(b.prm().json(b.t)["authorization_servers"], "http://169.254.169.254/as")
		}},
		{"E10-f", func(b *agent) bool { return has(b.prm().json(b.t)["authorization_servers"], strangerIssuer) }},
		{"E10-g", func(b *agent) bool { return has(b.prm().json(b.t)["bearer_methods_supported"], "query") }},
		{"E10-h", func(b *agent) bool {
			return strings.Contains(b.challengeOf(b.l.MCPURL), scopeRead) && !has(b.prm().json(b.t)["scopes_supported"], scopeRead)
		}},
		{"E10-i", func(b *agent) bool { first := b.prm().body; return b.prm().body != first }},
		{"E10-j", func(b *agent) bool { return !strings.Contains(b.prm().header.Get("Content-Type"), "json") }},
		{"E11-a", func(b *agent) bool { return b.meta()["issuer"] != b.l.Issuer }},
		{"E11-b", func(b *agent) bool {
			u, err := url.Parse(str(b.meta(), "introspection_endpoint"))
			return err == nil && u.User != nil
		}},
		{"E11-c", func(b *agent) bool { return !strings.HasPrefix(str(b.meta(), "introspection_endpoint"), b.l.base) }},
		{"E11-d", func(b *agent) bool {
			return has(b.meta()["response_types_supported"], "token") && !b.proceeds(with(b.request(b.client(nil)), "response_type", "token"))
		}},
		{"E11-e", func(b *agent) bool {
			a := b.token(url.Values{"grant_type": {"password"}, "client_id": {b.client(nil)}, "username": {"alice"}, "password": {"alice-lab-password"}})
			return has(b.meta()["grant_types_supported"], "password") && str(a.json(b.t), "error") == "unsupported_grant_type"
		}},
		{"E11-f", func(b *agent) bool { return !has(b.meta()["token_endpoint_auth_methods_supported"], "none") }},
		{"E11-g", func(b *agent) bool { return b.meta()["client_id_metadata_document_supported"] == nil }},
		{"E11-h", func(b *agent) bool {
			return b.get(b.l.base + "/.well-known/openid-configuration").json(b.t)["token_endpoint"] != b.meta()["token_endpoint"]
		}},
		{"E11-i", func(b *agent) bool {
			return !strings.Contains(b.get(b.l.base+"/.well-known/oauth-authorization-server").header.Get("Content-Type"), "json")
		}},
		{"E29-a", func(b *agent) bool {
			plain := strings.Replace(b.l.MCPURL, "https://", "http://", 1)
			return b.modern(plain, "", "tools/list", nil, nil).status == http.StatusUnauthorized && b.modern(b.l.MCPURL, "", "tools/list", nil, nil).status == http.StatusUnauthorized
		}},
		{"E29-b", func(b *agent) bool {
			loc := b.authorize(b.request(b.client(nil))).header.Get("Location")
			if !strings.HasPrefix(loc, "http://") {
				return false
			}
			return strings.HasPrefix(b.get(loc).header.Get("Location"), b.l.base+"/login?")
		}},
		{"E29-c", func(b *agent) bool { return b.oldTLS() }},
		{"E29-d", func(b *agent) bool {
			return !strings.Contains(strings.Join(b.authorize(b.request(b.client(nil))).header.Values("Set-Cookie"), "\n"), "Secure") && b.authorizeAndGo(b.request(b.client(nil))) != ""
		}},
		{"E29-e", func(b *agent) bool { return b.get(b.l.base+"/").header.Get("Strict-Transport-Security") == "" }},
	}
}
