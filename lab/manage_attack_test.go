package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// keeps tells whether a registration with one member is accepted and the member
// comes back as it was sent.
func (b *agent) keeps(member string, value any) bool {
	b.t.Helper()
	a := b.register(map[string]any{member: value})
	return a.status == http.StatusCreated && a.json(b.t)[member] == value
}

// deliversTo registers a redirect URI and tells whether a code is sent there.
func (b *agent) deliversTo(uri string) bool {
	b.t.Helper()
	if !b.registers(uri) {
		return false
	}
	v := b.request(b.client(map[string]any{"redirect_uris": []string{uri}}))
	return strings.HasPrefix(b.authorizeAndGo(with(v, "redirect_uri", uri)), uri+"?code=")
}

// confidential registers a client with a secret and says what the token endpoint
// answers to a dummy code.
func (b *agent) confidential(method string) (id, secret string) {
	b.t.Helper()
	m := b.register(map[string]any{"token_endpoint_auth_method": method}).json(b.t)
	return str(m, "client_id"), str(m, "client_secret")
}

// dummy redeems a made-up code with the given authentication and returns the error.
func (b *agent) dummy(id, secret string, basic bool) string {
	b.t.Helper()
	v := url.Values{"grant_type": {"authorization_code"}, "code": {"kidoban-invalid"}, "code_verifier": {testVerifier}}
	h := http.Header{}
	if basic {
		r := &http.Request{Header: h}
		r.SetBasicAuth(id, secret)
	} else {
		v.Set("client_id", id)
		if secret != "" {
			v.Set("client_secret", secret)
		}
	}
	return str(b.send("POST", b.l.Issuer+"/token", "application/x-www-form-urlencoded", v.Encode(), h).json(b.t), "error")
}

func bearerHeader(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

func manageAttacks() []attack {
	long := strings.Repeat("x", 10_000)
	return append(documentAttacks(), []attack{
		{"E13-a", func(b *agent) bool {
			return b.deliversTo("javascript:void(0)//n1") && !b.registers("data:text/plain,n1")
		}},
		{"E13-b", func(b *agent) bool { return b.deliversTo("data:text/plain,n1") && !b.registers("kidoban:/cb") }},
		{"E13-c", func(b *agent) bool { return b.deliversTo("kidoban:/cb") && !b.registers("javascript:void(0)//n1") }},
		{"E14-a", func(b *agent) bool {
			const script = "javascript:void(0)"
			return b.keeps("client_uri", script) &&
				strings.Contains(b.decisionPage(b.request(b.client(map[string]any{"client_uri": script})), "alice").body, `href="javascript:void`)
		}},
		{"E14-b", func(b *agent) bool {
			return b.keeps("client_name", long) && strings.Contains(b.decisionPage(b.request(b.client(map[string]any{"client_name": long})), "alice").body, long)
		}},
		{"E14-c", func(b *agent) bool {
			const name = "App\u202egpj.exe\u200b"
			return b.keeps("client_name", name) && strings.Contains(b.decisionPage(b.request(b.client(map[string]any{"client_name": name})), "alice").body, name)
		}},
		{"E17-a", func(b *agent) bool {
			for range 25 {
				if b.register(nil).status != http.StatusCreated {
					return false
				}
			}
			return true
		}},
		{"E17-b", func(b *agent) bool {
			var many []string
			for range 200 {
				many = append(many, testRedirect)
			}
			big := b.register(map[string]any{"software_id": "x", "kidoban_padding": strings.Repeat("x", 64<<10)})
			return b.register(map[string]any{"redirect_uris": many}).status == http.StatusCreated && big.status == http.StatusCreated
		}},
		{"E17-c", func(b *agent) bool {
			m := b.register(map[string]any{"token_endpoint_auth_method": "client_secret_basic"}).json(b.t)
			return m["client_secret_expires_at"] == 0.0 && m["client_id_expires_at"] == nil
		}},
		{"E17-d", func(b *agent) bool {
			for b.register(nil).status == http.StatusCreated {
			}
			a := b.send("POST", b.l.Issuer+"/register", "application/json", `{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"none"}`, http.Header{"X-Forwarded-For": {"198.51.100.7"}})
			return a.status == http.StatusCreated
		}},
		{"E18-a", func(b *agent) bool {
			if !b.keeps("scope", "admin * openid") {
				return false
			}
			id := b.client(map[string]any{"scope": "admin"})
			tok := str(b.redeem(id, b.code(with(b.request(id), "scope", "admin"), "alice"), nil).json(b.t), "access_token")
			return b.call(tok, "send_mail", map[string]any{"to": "x", "text": "y"}) == "Sent."
		}},
		{"E18-b", func(b *agent) bool {
			a := b.register(map[string]any{"grant_types": []string{"authorization_code", "password", "client_credentials"}})
			if !strings.Contains(a.body, "client_credentials") {
				return false
			}
			v := url.Values{"grant_type": {"password"}, "client_id": {str(a.json(b.t), "client_id")}, "username": {"alice"}, "password": {"alice-lab-password"}}
			return b.token(v).status == http.StatusOK
		}},
		{"E18-c", func(b *agent) bool {
			m := b.register(map[string]any{"require_pkce": false, "skip_consent": true, "access_token_ttl": 99999999}).json(b.t)
			if m["skip_consent"] != true || m["require_pkce"] != false {
				return false
			}
			id := str(m, "client_id")
			a, seen := b.follow(b.authorize(without(b.request(id), "code_challenge", "code_challenge_method")), "alice", "deny")
			tok := b.redeem(id, a.location(b.t).Query().Get("code"), url.Values{"code_verifier": nil}).json(b.t)
			return !strings.Contains(strings.Join(seen, " "), "decision") && tok["expires_in"] == 99999999.0
		}},
		{"E18-d", func(b *agent) bool {
			m := b.register(map[string]any{"grant_types": []string{"client_credentials"}, "token_endpoint_auth_method": "client_secret_post"})
			if m.status != http.StatusCreated {
				return false
			}
			a := b.token(url.Values{"grant_type": {"client_credentials"}, "client_id": {str(m.json(b.t), "client_id")}, "client_secret": {str(m.json(b.t), "client_secret")}})
			return a.status == http.StatusOK && b.toolsOpen(str(a.json(b.t), "access_token"))
		}},
		{"E19-a", func(b *agent) bool {
			id, secret := b.confidential("client_secret_basic")
			return b.dummy(id, secret, true) == "invalid_grant" && b.dummy(id, "wrong", true) == "invalid_grant" && b.dummy(id, "", false) == "invalid_client"
		}},
		{"E19-b", func(b *agent) bool {
			id, _ := b.confidential("client_secret_basic")
			return b.dummy(id, "", false) == "invalid_grant" && b.dummy(id, "wrong", true) == "invalid_client"
		}},
		{"E19-c", func(b *agent) bool {
			id, secret := b.confidential("client_secret_basic")
			return b.dummy(id, secret, false) == "invalid_grant" && b.dummy(id, "wrong", false) == "invalid_client"
		}},
		{"E20-a", func(b *agent) bool {
			uri := str(b.register(nil).json(b.t), "registration_client_uri")
			return strings.Contains(b.get(uri).body, "registration_access_token")
		}},
		{"E20-b", func(b *agent) bool {
			k1, k2 := b.register(nil).json(b.t), b.register(nil).json(b.t)
			return b.send("GET", str(k1, "registration_client_uri"), "", "", bearerHeader(str(k2, "registration_access_token"))).status == http.StatusOK
		}},
		{"E20-c", func(b *agent) bool {
			m := b.register(nil).json(b.t)
			return b.get(str(m, "registration_client_uri")+"?access_token="+str(m, "registration_access_token")).status == http.StatusOK
		}},
		{"E20-d", func(b *agent) bool {
			m := b.register(nil).json(b.t)
			a := b.json("PUT", str(m, "registration_client_uri"), map[string]any{"client_id": m["client_id"], "redirect_uris": []string{foreign}, "token_endpoint_auth_method": "none"}, bearerHeader(str(m, "registration_access_token")))
			return a.status == http.StatusOK && b.proceeds(with(b.request(str(m, "client_id")), "redirect_uri", foreign))
		}},
		{"E20-e", func(b *agent) bool {
			m := b.register(nil).json(b.t)
			a := b.send("DELETE", str(m, "registration_client_uri"), "", "", bearerHeader(str(m, "registration_access_token")))
			return a.status == http.StatusNoContent && b.proceeds(b.request(str(m, "client_id")))
		}},
		{"E20-f", func(b *agent) bool {
			m := b.register(nil).json(b.t)
			return b.send("DELETE", str(m, "registration_client_uri"), "", "", bearerHeader(str(m, "registration_access_token"))).status == http.StatusNotFound
		}},
		{"E20-g", func(b *agent) bool {
			m := b.register(nil).json(b.t)
			return !strings.HasPrefix(str(m, "registration_client_uri"), b.l.base+"/") && b.send("GET", str(m, "registration_client_uri"), "", "", bearerHeader(str(m, "registration_access_token"))).status == http.StatusOK
		}},
	}...)
}
