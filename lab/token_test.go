package lab

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

func (b *agent) refresh(id, token string, change url.Values) answer {
	b.t.Helper()
	v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {id}}
	for k, x := range change {
		v[k] = x
	}
	return b.token(v)
}

// both runs f twice at once and tells whether both answers are tokens.
func both(f func() answer) bool {
	var got [2]answer
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = f() })
	}
	wg.Wait()
	return got[0].status == http.StatusOK && got[1].status == http.StatusOK
}

// claims decodes a JWT without looking at its signature.
func claims(raw string) (head, body map[string]any) {
	p := strings.Split(raw, ".")
	if len(p) != 3 {
		return nil, nil
	}
	for i, to := range []*map[string]any{&head, &body} {
		b, _ := base64.RawURLEncoding.DecodeString(p[i])
		json.Unmarshal(b, to)
	}
	return head, body
}

const foreignResource = "https://n1.kidoban-probe.invalid/mcp"

func tokenAttacks() []attack {
	bad := url.Values{"code_verifier": {"wrongwrongwrongwrongwrongwrongwrongwrongwrong"}}
	return []attack{
		{"F9-2", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			one, two := b.redeem(id, c, nil), b.redeem(id, c, nil)
			return one.status == 200 && two.status == 200 && b.toolsOpen(str(two.json(b.t), "access_token"))
		}},
		{"F9-3", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			one := str(b.redeem(id, c, nil).json(b.t), "access_token")
			return b.redeem(id, c, nil).status == http.StatusBadRequest && b.toolsOpen(one)
		}},
		{"F9-4", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			return both(func() answer { return b.redeem(id, c, nil) }) && b.redeem(id, c, nil).status == http.StatusBadRequest
		}},
		{"F9-5", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			return b.redeem(id, c, bad).status == http.StatusBadRequest && b.redeem(id, c, nil).status == http.StatusOK
		}},
		{"F9-6", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			tok := str(b.redeem(id, c, nil).json(b.t), "access_token")
			return b.toolsOpen(tok) && b.redeem(id, c, bad).status == http.StatusBadRequest && !b.toolsOpen(tok)
		}},
		{"F9-7", func(b *agent) bool {
			id := b.client(nil)
			c := b.code(b.request(id), "alice")
			b.skew.Store(int64(11 * time.Minute))
			return b.redeem(id, c, nil).status == http.StatusOK
		}},
		{"E21-a", func(b *agent) bool {
			k1, k2 := b.client(nil), b.client(nil)
			return b.redeem(k2, b.code(b.request(k1), "alice"), nil).status == http.StatusOK
		}},
		{"E21-b", func(b *agent) bool {
			return b.redeem("", b.code(b.request(b.client(nil)), "alice"), url.Values{"client_id": nil}).status == http.StatusOK
		}},
		{"E21-c", func(b *agent) bool {
			id := b.client(map[string]any{"redirect_uris": []string{testRedirect, "http://127.0.0.1:4711/second"}})
			other := url.Values{"redirect_uri": {"http://127.0.0.1:4711/second"}}
			return b.redeem(id, b.code(b.request(id), "alice"), other).status == http.StatusOK &&
				b.redeem(id, b.code(b.request(id), "alice"), url.Values{"redirect_uri": {foreign}}).status == http.StatusBadRequest
		}},
		{"E05-a", func(b *agent) bool {
			id := b.client(nil)
			tok := b.redeem(id, b.code(with(b.request(id), "resource", foreignResource), "alice"), nil)
			return tok.status == http.StatusOK && b.toolsOpen(str(tok.json(b.t), "access_token"))
		}},
		{"E05-b", func(b *agent) bool {
			id := b.client(nil)
			tok := b.redeem(id, b.code(with(b.request(id), "resource", foreignResource), "alice"), nil)
			return tok.status == http.StatusOK && !b.toolsOpen(str(tok.json(b.t), "access_token"))
		}},
		{"E05-c", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			_, c := claims(str(tok, "access_token"))
			return c["aud"] == id && b.toolsOpen(str(tok, "access_token"))
		}},
		{"E05-d", func(b *agent) bool {
			_, tok := b.login("alice", url.Values{"resource": {b.l.SecondURL}})
			at := str(tok, "access_token")
			if !strings.Contains(b.modern(b.l.SecondURL, at, "tools/list", nil, nil).body, `"tools":[`) {
				b.t.Error("the second server refuses its own token")
			}
			return b.toolsOpen(at)
		}},
		{"E05-e", func(b *agent) bool {
			id := b.client(nil)
			tok := b.redeem(id, b.code(b.request(id), "alice"), url.Values{"resource": {b.l.SecondURL}})
			return tok.status == 200 && !b.toolsOpen(str(tok.json(b.t), "access_token"))
		}},
		{"E05-f", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			return b.refresh(id, str(tok, "refresh_token"), url.Values{"resource": {b.l.SecondURL}}).status == 200
		}},
		{"E22-1", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			r1 := str(tok, "refresh_token")
			r2 := str(b.refresh(id, r1, nil).json(b.t), "refresh_token")
			return r2 != r1 && b.refresh(id, r1, nil).status == 200 && b.refresh(id, r2, nil).status == 200
		}},
		{"E22-2", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			r1 := str(tok, "refresh_token")
			return both(func() answer { return b.refresh(id, r1, nil) }) && b.refresh(id, r1, nil).status == http.StatusBadRequest
		}},
		{"E22-3", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			return b.refresh(b.client(nil), str(tok, "refresh_token"), nil).status == 200
		}},
		{"E22-4", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			r := str(tok, "refresh_token")
			a := b.refresh(id, r, url.Values{"scope": {scopeRead + " " + scopeMail}})
			if a.status != 200 && b.refresh(id, r, nil).status != 200 {
				b.t.Error("asking for more has spent the token")
			}
			return a.status == 200 && strings.Contains(str(a.json(b.t), "scope"), scopeMail)
		}},
		{"E22-5", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			return b.refresh(id, str(tok, "access_token"), nil).status == 200
		}},
		{"E22-6", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			r := str(tok, "refresh_token")
			b.form(b.l.Issuer+"/revoke", url.Values{"token": {r}, "client_id": {id}})
			return b.refresh(id, r, nil).status == 200
		}},
		{"E22-7", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			r := str(tok, "refresh_token")
			return str(b.refresh(id, r, nil).json(b.t), "refresh_token") == r && b.refresh(id, r, nil).status == 200
		}},
		{"E24-a", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			n, _ := tok["expires_in"].(float64)
			return n > 86400
		}},
		{"E24-b", func(b *agent) bool { _, tok := b.login("alice", nil); return tok["expires_in"] == nil }},
		{"E24-c", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			// Whoever guesses the key makes tokens; the lab's are made with it.
			at := str(tok, "access_token")
			head, _ := claims(at)
			return head["alg"] == "HS256" && hs256Good([]byte("secret"), at) && b.toolsOpen(at)
		}},
		{"E24-d", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			_, c := claims(str(tok, "access_token"))
			return c["sub"] == nil && c["iss"] == nil && b.toolsOpen(str(tok, "access_token"))
		}},
		{"E24-e", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			head, _ := claims(str(tok, "access_token"))
			return head["typ"] == "JWT" && b.toolsOpen(str(tok, "access_token"))
		}},
		{"E24-f", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			_, c := claims(str(tok, "access_token"))
			return str(c, "email") != "" && str(c, "upstream_access_token") != ""
		}},
		{"E24-g", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			return str(tok, "id_token") != "" && b.toolsOpen(str(tok, "id_token"))
		}},
		{"E24-h", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			return len(str(tok, "access_token")) < 22 && b.toolsOpen(str(tok, "access_token"))
		}},
		{"E25-a", func(b *agent) bool {
			return b.get(b.l.Issuer + "/.well-known/oauth-authorization-server").json(b.t)["revocation_endpoint"] == nil
		}},
		{"E25-b", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			a := b.form(b.l.Issuer+"/revoke", url.Values{"token": {str(tok, "refresh_token")}, "client_id": {id}})
			return a.status == 200 && b.toolsOpen(str(tok, "access_token"))
		}},
		{"E25-c", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			b.form(b.l.Issuer+"/revoke", url.Values{"token": {str(tok, "refresh_token")}, "client_id": {b.client(nil)}})
			return !b.toolsOpen(str(tok, "access_token"))
		}},
		{"E12-a", func(b *agent) bool { return b.issuerOf() == "" && !b.promisesIssuer() }},
		{"E12-b", func(b *agent) bool { return b.issuerOf() == "" && b.promisesIssuer() }},
		{"E12-c", func(b *agent) bool { return b.issuerOf() != "" && b.issuerOf() != b.l.Issuer }},
		{"E26-a", func(b *agent) bool {
			a := b.authorizeAndGo(with(b.request(b.client(nil)), "response_type", "token"))
			_, frag, _ := strings.Cut(a, "#")
			q, _ := url.ParseQuery(frag)
			return q.Get("access_token") != "" && b.toolsOpen(q.Get("access_token"))
		}},
		{"E26-b", func(b *agent) bool {
			a := b.authorizeAndGo(with(b.request(b.client(nil)), "response_type", "code token"))
			return strings.Contains(a, "#") && strings.Contains(a, "access_token=") && strings.Contains(a, "code=") &&
				!b.proceeds(with(b.request(b.client(nil)), "response_type", "token"))
		}},
		{"E26-c", func(b *agent) bool {
			id := b.client(nil)
			v := url.Values{"grant_type": {"password"}, "client_id": {id}, "username": {"dummy"}, "password": {"dummy"}}
			if a := b.token(v); str(a.json(b.t), "error") != "invalid_grant" {
				return false
			}
			v.Set("username", "alice")
			v.Set("password", "alice-lab-password")
			return b.token(v).status == 200
		}},
	}
}

// issuerOf is the iss of an error that the server sends to a registered URI.
func (b *agent) issuerOf() string {
	b.t.Helper()
	a := b.authorize(with(b.request(b.client(nil)), "scope", "kidoban_invalid"))
	if !landed(a, testRedirect+"?error=invalid_scope") && !strings.Contains(a.header.Get("Location"), "error=invalid_scope") {
		b.t.Errorf("no error at the redirect URI: %d %s", a.status, a.header.Get("Location"))
	}
	return a.location(b.t).Query().Get("iss")
}

func (b *agent) promisesIssuer() bool {
	b.t.Helper()
	return b.get(b.l.Issuer + "/.well-known/oauth-authorization-server").json(b.t)["authorization_response_iss_parameter_supported"] == true
}
