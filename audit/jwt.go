package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/kidoban/kidoban/oauth"

	"github.com/kidoban/kidoban"
)

// Forged tokens: claims copied from the target's metadata under a signature that
// no careful server takes. They are worth nothing anywhere.

// claims are what a server would look for: its issuer, itself as audience, a
// time that is right, and every scope.
func (s *session) claims() map[string]any {
	f := s.facts
	iss := ""
	if f.AS != nil {
		iss = f.AS.Issuer
	} else if len(f.Issuers) > 0 {
		iss = f.Issuers[0]
	}
	now := s.o.Now()
	return map[string]any{
		"iss": iss, "aud": f.Resource, "sub": "kidoban-probe", "client_id": "kidoban-probe", "scope": oauth.JoinScope(f.Scopes),
		"iat": now.Add(-time.Minute).Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(), "jti": s.nonce(16),
	}
}

// compact joins header and claims and signs them with sign.
func compact(header, claims map[string]any, sign func(input []byte) []byte) string {
	part := func(v any) string { return base64.RawURLEncoding.EncodeToString(mustJSON(v)) }
	input := part(header) + "." + part(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
}

// mustJSON encodes maps of our own making.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("audit: a message of our own cannot be encoded: " + err.Error())
	}
	return b
}

func (s *session) unsignedForms() []form {
	var out []form
	for _, alg := range []string{"none", "None", "NONE"} {
		tok := compact(map[string]any{"alg": alg, "typ": "at+jwt"}, s.claims(), func([]byte) []byte { return nil })
		out = append(out, form{"an unsigned JWT (alg " + alg + ")", authz("Bearer " + tok)})
	}
	return out
}

// ownForms sign with a fresh key: named in the token itself, then under the key
// id of the server's own key, as a server without any check would take it.
func (s *session) ownForms() []form {
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.o.Rand)
	if err != nil {
		return nil
	}
	sign := func(input []byte) []byte {
		sum := sha256.Sum256(input)
		r, t, err := ecdsa.Sign(s.o.Rand, key, sum[:])
		if err != nil {
			return nil
		}
		return append(r.FillBytes(make([]byte, 32)), t.FillBytes(make([]byte, 32))...)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil || len(point) != 65 {
		return nil
	}
	b64 := base64.RawURLEncoding.EncodeToString
	kid := "kidoban-" + s.nonce(8)
	jwk := map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "use": "sig", "alg": "ES256", "kid": kid}
	named := map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": kid, "jwk": jwk}
	bare := map[string]any{"alg": "ES256", "typ": "at+jwt"}
	untyped := map[string]any{"alg": "ES256", "typ": "JWT", "jwk": jwk}
	return []form{
		{"a JWT signed with a key that the token itself brings", authz("Bearer " + compact(named, s.claims(), sign))},
		{"a JWT signed with an unknown key", authz("Bearer " + compact(bare, s.claims(), sign))},
		{"a JWT of plain type signed with a key that it brings", authz("Bearer " + compact(untyped, s.claims(), sign))},
	}
}

// publicKeyForms fetches the server's public keys and uses them as the secret of
// an HMAC: a verifier that lets the token choose the algorithm takes that.
// why says why it could not be asked; read is the answer that held no keys.
func (s *session) publicKeyForms(ctx context.Context) (v volley, why string, read *kidoban.Exchange) {
	as := s.facts.AS
	if as == nil || as.Meta.JWKSURI == "" {
		return volley{}, "the authorization server publishes no keys", nil
	}
	if !s.thorough() || s.left() < 2 {
		return volley{}, "", nil
	}
	x := s.get(ctx, "E04-g", "the public keys", as.Meta.JWKSURI)
	if x.Status() != 200 {
		return volley{}, "the key set cannot be read", x
	}
	var forms []form
	for _, k := range publicKeys(x.Response.Body) {
		for _, secret := range k.secrets {
			mac := func(input []byte) []byte {
				m := hmac.New(sha256.New, secret.bytes)
				m.Write(input)
				return m.Sum(nil)
			}
			header := map[string]any{"alg": "HS256", "typ": "at+jwt"}
			if k.id != "" {
				header["kid"] = k.id
			}
			forms = append(forms, form{"a JWT with HS256 over the public key (" + secret.name + ")", authz("Bearer " + compact(header, s.claims(), mac))})
		}
	}
	if len(forms) == 0 {
		return volley{}, "the key set holds no key that could be taken for a secret", x
	}
	return s.volley(ctx, "E04-g", 1, forms), "", nil
}

// publicKey is a published key in the forms in which libraries hold it.
type publicKey struct {
	id      string
	secrets []struct {
		name  string
		bytes []byte
	}
}

// publicKeys reads at most two signature keys of a key set.
func publicKeys(body []byte) []publicKey {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil {
		return nil
	}
	var out []publicKey
	for _, raw := range set.Keys {
		if len(out) == 2 {
			break
		}
		var k struct{ Kty, Crv, X, Y, N, E, Kid, Use string }
		if json.Unmarshal(raw, &k) != nil || k.Use == "enc" {
			continue
		}
		num := func(s string) *big.Int {
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
			if err != nil || len(b) > 1024 {
				return new(big.Int)
			}
			return new(big.Int).SetBytes(b)
		}
		var pub any
		switch {
		case k.Kty == "EC" && k.Crv == "P-256":
			point := append([]byte{4}, num(k.X).FillBytes(make([]byte, 1024))[992:]...)
			point = append(point, num(k.Y).FillBytes(make([]byte, 1024))[992:]...)
			ec, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
			if err != nil {
				continue
			}
			pub = ec
		case k.Kty == "RSA" && num(k.E).IsInt64() && num(k.E).Int64() < 1<<31 && num(k.N).Sign() > 0:
			pub = &rsa.PublicKey{N: num(k.N), E: int(num(k.E).Int64())}
		default:
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			continue
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		p := publicKey{id: k.Kid}
		add := func(name string, b []byte) {
			p.secrets = append(p.secrets, struct {
				name  string
				bytes []byte
			}{name, b})
		}
		add("PEM", block)
		add("PEM without its last line break", []byte(strings.TrimRight(string(block), "\n")))
		add("DER", der)
		add("JWK", raw)
		out = append(out, p)
	}
	return out
}
