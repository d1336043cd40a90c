package lab

import (
	"net/http"
	"net/url"
	"slices"
)

// without returns v without some parameters.
func without(v url.Values, names ...string) url.Values {
	for _, n := range names {
		v.Del(n)
	}
	return v
}

func with(v url.Values, name, value string) url.Values {
	v.Set(name, value)
	return v
}

func pkceAttacks() []attack {
	noVerifier := url.Values{"code_verifier": nil}
	const wrong = "wrongwrongwrongwrongwrongwrongwrongwrongwrong"
	return []attack{
		{"F5-a", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(without(b.request(id), "code_challenge", "code_challenge_method"), "alice")
			with := b.code(without(b.request(id), "code_challenge", "code_challenge_method"), "alice")
			return c != "" && b.redeem(id, with, nil).status == http.StatusBadRequest && b.redeem(id, c, noVerifier).status == http.StatusOK
		}},
		{"F5-b", func(b *agent) bool {
			id := b.client(nil)
			v := with(with(b.request(id), "code_challenge", testVerifier), "code_challenge_method", "plain")
			c := b.code(v, "alice")
			return c != "" && b.redeem(id, c, nil).status == http.StatusOK && !b.proceeds(without(v, "code_challenge_method"))
		}},
		{"F5-c", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(without(with(b.request(id), "code_challenge", testVerifier), "code_challenge_method"), "alice")
			return c != "" && b.redeem(id, c, nil).status == http.StatusOK
		}},
		{"F5-d", func(b *agent) bool {
			id := b.client(nil)
			for _, m := range []string{"S512", "s256", ""} {
				c := b.code(with(with(b.request(id), "code_challenge", testVerifier), "code_challenge_method", m), "alice")
				if c == "" || b.redeem(id, c, nil).status != http.StatusOK {
					return false
				}
			}
			return true
		}},
		{"F5-e", func(b *agent) bool {
			list, _ := b.get(b.l.Issuer + "/.well-known/oauth-authorization-server").json(b.t)["code_challenge_methods_supported"].([]any)
			return slices.Contains(list, any("plain"))
		}},
		{"F5-f", func(b *agent) bool {
			id := b.client(nil)
			return b.redeem(id, b.code(b.request(id), "alice"), noVerifier).status == http.StatusOK
		}},
		{"F5-g", func(b *agent) bool {
			id := b.client(nil)
			return b.redeem(id, b.code(b.request(id), "alice"), url.Values{"code_verifier": {wrong}}).status == http.StatusOK &&
				b.redeem(id, b.code(b.request(id), "alice"), noVerifier).status == http.StatusBadRequest
		}},
		{"F5-h", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(without(b.request(id), "code_challenge", "code_challenge_method"), "alice")
			return b.redeem(id, c, nil).status == http.StatusOK
		}},
		{"F5-i", func(b *agent) bool {
			id := b.client(nil)
			for _, short := range []string{"a", testVerifier[:42]} {
				c := b.code(with(b.request(id), "code_challenge", challengeOf(short)), "alice")
				if b.redeem(id, c, url.Values{"code_verifier": {short}}).status != http.StatusOK {
					return false
				}
			}
			return true
		}},
		{"F5-j", func(b *agent) bool {
			a := b.register(map[string]any{"token_endpoint_auth_method": "client_secret_post"}).json(b.t)
			id := str(a, "client_id")
			c := b.code(without(b.request(id), "code_challenge", "code_challenge_method"), "alice")
			return c != "" && b.redeem(id, c, url.Values{"code_verifier": nil, "client_secret": {str(a, "client_secret")}}).status == http.StatusOK &&
				!b.proceeds(without(b.request(b.client(nil)), "code_challenge", "code_challenge_method"))
		}},
	}
}
