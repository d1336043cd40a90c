package authserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban/authserver"
)

// signer makes JWTs of all sorts, good and bad.
type signer struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	kid string
}

func newSigner(t *testing.T, kid string) signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, k, kid}
}

func (s signer) jwks() []byte {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: s.kid, Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s signer) sign(typ string, embed bool, claims map[string]any) string {
	o := (&jose.SignerOptions{EmbedJWK: embed}).WithType(jose.ContentType(typ))
	var key any = jose.JSONWebKey{Key: s.key, KeyID: s.kid}
	if embed {
		key = s.key
	}
	sg, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, o)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	j, err := sg.Sign(body)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := j.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func with(m map[string]any, pairs ...any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(out, pairs[i].(string))
		} else {
			out[pairs[i].(string)] = pairs[i+1]
		}
	}
	return out
}

func TestGAS8_DPoP(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Resources[1].RequireDPoP = true })
	x := w.register("Client", loopback)
	alice := w.person()
	s, thief := newSigner(t, ""), newSigner(t, "")
	proof := func(s signer, more ...any) string {
		return s.sign("dpop+jwt", true, with(map[string]any{"jti": rand.Text(), "htm": "POST", "htu": w.url + "/token", "iat": w.clock.now().Unix()}, more...))
	}
	for name, p := range map[string]string{
		"no JWT": "x", "wrong type": s.sign("JWT", true, map[string]any{"jti": "1", "htm": "POST", "htu": w.url + "/token", "iat": time.Now().Unix()}),
		"no key": s.sign("dpop+jwt", false, map[string]any{"jti": "1", "htm": "POST", "htu": w.url + "/token", "iat": time.Now().Unix()}),
		"method": proof(s, "htm", "GET"), "uri": proof(s, "htu", w.url+"/authorize"), "host": proof(s, "htu", "https://evil.example/token"),
		"old": proof(s, "iat", time.Now().Add(-6*time.Minute).Unix()), "future": proof(s, "iat", time.Now().Add(6*time.Minute).Unix()),
		"no iat": proof(s, "iat", nil), "no jti": proof(s, "jti", nil),
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, x.token(x.redeemForm(x.code(alice, nil)), "DPoP", p), 400, "invalid_dpop_proof")
		})
	}
	wantError(t, x.token(x.redeemForm(x.code(alice, nil)), "DPoP", proof(s, "nonce", "made-up")), 400, "use_dpop_nonce")

	p := proof(s)
	a := x.token(x.redeemForm(x.code(alice, nil)), "DPoP", p)
	if a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	m := a.json(t)
	if m["token_type"] != "DPoP" || claims(t, m["access_token"].(string))["cnf"] == nil {
		t.Fatal(m)
	}
	if a := x.token(x.redeemForm(x.code(alice, nil)), "DPoP", proof(s, "nonce", a.Header.Get("DPoP-Nonce"))); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	wantError(t, x.token(x.redeemForm(x.code(alice, nil)), "DPoP", p), 400, "invalid_dpop_proof") // a proof is good once

	// The refresh token is bound to the key.
	r := m["refresh_token"].(string)
	wantError(t, x.token(x.refreshForm(r)), 400, "invalid_dpop_proof")
	wantError(t, x.token(x.refreshForm(r), "DPoP", proof(thief)), 400, "invalid_dpop_proof")
	if a := x.token(x.refreshForm(r), "DPoP", proof(s)); a.StatusCode != 200 || a.json(t)["token_type"] != "DPoP" {
		t.Fatal(a.body)
	}
	// A resource may demand it.
	need := set(x.params(), "resource", w.url+"/s/files/mcp")
	v := set(x.redeemForm(x.code(alice, need)), "resource", w.url+"/s/files/mcp")
	wantError(t, x.token(v), 400, "invalid_dpop_proof")
	// An authorization request may name the key.
	jkt := claims(t, m["access_token"].(string))["cnf"].(map[string]any)["jkt"].(string)
	code := x.code(alice, set(x.params(), "dpop_jkt", jkt))
	wantError(t, x.token(x.redeemForm(code), "DPoP", proof(thief)), 400, "invalid_dpop_proof")
	if a := x.token(x.redeemForm(code), "DPoP", proof(s)); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
}

func TestGAS9_ClientCredentialsWithPrivateKeyJWT(t *testing.T) {
	s, thief := newSigner(t, "a"), newSigner(t, "a")
	w := newWorld(t, func(w *world) {
		w.cfg.Clients = []authserver.PreRegistered{
			{ID: "robot", AuthMethod: "private_key_jwt", JWKS: s.jwks(), Grants: []string{"client_credentials"}, Scopes: []string{"mcp:read"}},
			{ID: "person", AuthMethod: "private_key_jwt", JWKS: s.jwks(), RedirectURIs: []string{loopback}}}
	})
	now := func() int64 { return time.Now().Unix() } // the test may take a while
	good := func() map[string]any {
		return map[string]any{"iss": "robot", "sub": "robot", "aud": w.url, "exp": now() + 60, "iat": now(), "jti": rand.Text()}
	}
	ask := func(assertion string, pairs ...string) answer {
		return w.browser().post("/token", set(url.Values{"grant_type": {"client_credentials"}, "client_assertion": {assertion}, "scope": {"mcp:read mcp:write"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "resource": {w.url + "/mcp"}}, pairs...))
	}
	a := ask(s.sign("JWT", false, good()))
	if a.StatusCode != 200 || a.json(t)["refresh_token"] != nil || a.json(t)["scope"] != "mcp:read" {
		t.Fatal(a.body)
	}
	if c := claims(t, a.json(t)["access_token"].(string)); c["sub"] != "robot" || c["aud"] != w.url+"/mcp" {
		t.Fatal(c)
	}
	for name, assertion := range map[string]string{
		"another key": thief.sign("JWT", false, good()), "another issuer": s.sign("JWT", false, with(good(), "iss", "person")),
		"another subject": s.sign("JWT", false, with(good(), "sub", "person")), "another audience": s.sign("JWT", false, with(good(), "aud", "https://evil.example")),
		"two audiences": s.sign("JWT", false, with(good(), "aud", []string{w.url, "https://evil.example"})), "expired": s.sign("JWT", false, with(good(), "exp", now()-120)),
		"no exp": s.sign("JWT", false, with(good(), "exp", nil)), "too long": s.sign("JWT", false, with(good(), "exp", now()+3600)), "no jti": s.sign("JWT", false, with(good(), "jti", nil)),
		"from the future": s.sign("JWT", false, with(good(), "nbf", now()+300)), "none": "eyJhbGciOiJub25lIn0.eyJpc3MiOiJyb2JvdCJ9.", "nonsense": "x",
	} {
		t.Run(name, func(t *testing.T) { wantError(t, ask(assertion), 401, "invalid_client") })
	}
	t.Run("replay", func(t *testing.T) {
		once := s.sign("JWT", false, good())
		if a := ask(once); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
		wantError(t, ask(once), 401, "invalid_client")
	})
	t.Run("wrong assertion type", func(t *testing.T) {
		wantError(t, ask(s.sign("JWT", false, good()), "client_assertion_type", "x"), 401, "invalid_client")
	})
	t.Run("no proof", func(t *testing.T) {
		wantError(t, ask("", "client_assertion", drop, "client_assertion_type", drop, "client_id", "robot"), 401, "invalid_client")
	})
	t.Run("another client's name", func(t *testing.T) {
		wantError(t, ask(s.sign("JWT", false, good()), "client_id", "person"), 401, "invalid_client")
	})
	t.Run("unknown resource", func(t *testing.T) {
		wantError(t, ask(s.sign("JWT", false, good()), "resource", "https://x.example"), 400, "invalid_target")
	})
	t.Run("not registered for it", func(t *testing.T) {
		wantError(t, ask(s.sign("JWT", false, with(good(), "iss", "person", "sub", "person"))), 400, "unauthorized_client")
	})
}

func TestGAS9_IdentityAssertions(t *testing.T) {
	client, idp, thief := newSigner(t, "c"), newSigner(t, "i"), newSigner(t, "i")
	const issuer = "https://idp.example"
	w := newWorld(t, func(w *world) {
		w.cfg.Clients = []authserver.PreRegistered{{ID: "agent", AuthMethod: "private_key_jwt", JWKS: client.jwks(), Grants: []string{"authorization_code"}}}
		w.cfg.TrustedIdPs = []authserver.TrustedIdP{{Issuer: issuer, JWKS: idp.jwks()}}
	})
	now := func() int64 { return time.Now().Unix() } // the test may take a while
	good := func() map[string]any {
		return map[string]any{"iss": issuer, "sub": "emp-1", "aud": w.url, "client_id": "agent", "exp": now() + 120, "iat": now(), "jti": rand.Text(),
			"resource": w.url + "/s/files/mcp", "scope": "mcp:read mcp:write", "email": "emp@corp.example"}
	}
	const typ = "oauth-id-jag+jwt"
	ask := func(assertion string, pairs ...string) answer {
		proof := client.sign("JWT", false, map[string]any{"iss": "agent", "sub": "agent", "aud": w.url, "exp": now() + 60, "jti": rand.Text()})
		return w.browser().post("/token", set(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
			"client_assertion": {proof}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "scope": {"mcp:read"}}, pairs...))
	}
	a := ask(idp.sign(typ, false, good()))
	if a.StatusCode != 200 || a.json(t)["refresh_token"] != nil || a.json(t)["scope"] != "mcp:read" {
		t.Fatal(a.body)
	}
	c := claims(t, a.json(t)["access_token"].(string))
	if c["aud"] != w.url+"/s/files/mcp" {
		t.Fatal(c)
	}
	if again := claims(t, ask(idp.sign(typ, false, good())).json(t)["access_token"].(string)); again["sub"] != c["sub"] {
		t.Fatal("one person became two")
	}
	for name, assertion := range map[string]string{
		"wrong typ": idp.sign("JWT", false, good()), "another key": thief.sign(typ, false, good()), "untrusted issuer": idp.sign(typ, false, with(good(), "iss", "https://evil.example")),
		"another audience": idp.sign(typ, false, with(good(), "aud", "https://other.example")), "two audiences": idp.sign(typ, false, with(good(), "aud", []string{w.url, "x"})),
		"another client": idp.sign(typ, false, with(good(), "client_id", "other")), "expired": idp.sign(typ, false, with(good(), "exp", now()-120)),
		"no jti": idp.sign(typ, false, with(good(), "jti", nil)), "nobody": idp.sign(typ, false, with(good(), "sub", nil)),
		"unknown resource": idp.sign(typ, false, with(good(), "resource", "https://x.example/mcp")), "no resource": idp.sign(typ, false, with(good(), "resource", nil)), "nonsense": "x.y.z",
	} {
		t.Run(name, func(t *testing.T) { wantError(t, ask(assertion), 400, "invalid_grant") })
	}
	t.Run("replay", func(t *testing.T) {
		once := idp.sign(typ, false, good())
		if a := ask(once); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
		wantError(t, ask(once), 400, "invalid_grant")
	})
	t.Run("scope outside", func(t *testing.T) {
		wantError(t, ask(idp.sign(typ, false, with(good(), "scope", "mcp:read")), "scope", "mcp:write"), 400, "invalid_scope")
	})
	t.Run("bound to a key", func(t *testing.T) {
		wantError(t, ask(idp.sign(typ, false, with(good(), "cnf", map[string]any{"jkt": "abc"}))), 400, "invalid_dpop_proof")
	})
	t.Run("public client", func(t *testing.T) {
		x := w.register("Client", loopback)
		wantError(t, ask(idp.sign(typ, false, with(good(), "client_id", x.id)), "client_assertion", drop, "client_assertion_type", drop, "client_id", x.id), 400, "unauthorized_client")
	})
}
