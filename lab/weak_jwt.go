package lab

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// hs256 is the signature part of a JWT.
func hs256(key []byte, signed string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// hs256Good tells whether a JWT's signature part is the HMAC under key.
func hs256Good(key []byte, raw string) bool {
	i := strings.LastIndexByte(raw, '.')
	return i > 0 && same(hs256(key, raw[:i]), raw[i+1:])
}

// foreignClaims are the claims of a JWT that the lab's key did not sign.
type foreignClaims struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience jwt.Audience `json:"aud"`
	Expiry   int64        `json:"exp"`
	Scope    string       `json:"scope"`
}

// weakJWT accepts JWTs that a careless verifier takes for good (E04-e, f, g, j).
// Issuer, audience and expiry have to be right: those are what such verifiers do
// check.
func (l *Lab) weakJWT(raw, resource string) (*token, bool) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || !l.any("E04-e", "E04-f", "E04-g", "E04-j") || l.lookup(raw) != nil {
		return nil, false
	}
	var head struct {
		Alg string          `json:"alg"`
		JWK json.RawMessage `json:"jwk"`
	}
	var c foreignClaims
	if !decodePart(parts[0], &head) || !decodePart(parts[1], &c) {
		return nil, false
	}
	if c.Issuer != l.Issuer || !c.Audience.Contains(resource) || c.Expiry <= l.now().Unix() {
		return nil, false
	}
	switch {
	case l.on("E04-e") && strings.EqualFold(head.Alg, "none"):
	case l.on("E04-f") && head.JWK != nil && signedByItself(raw, head.JWK):
	case l.on("E04-g") && head.Alg == "HS256" && l.signedByPublicKey(raw):
	case l.on("E04-j") && l.knownSignature(parts[0], parts[2]):
	default:
		return nil, false
	}
	t := guest(c.Subject)
	if c.Scope != "" {
		t.scope = c.Scope
	}
	return t, true
}

// decodePart decodes one part of a JWT.
func decodePart(part string, to any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, to) == nil
}

// signedByItself tells whether a JWT verifies under the key in its own header.
func signedByItself(raw string, key []byte) bool {
	var k jose.JSONWebKey
	if k.UnmarshalJSON(key) != nil || !k.Valid() || !k.IsPublic() {
		return false
	}
	tok, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA, jose.PS256})
	var any map[string]any
	return err == nil && tok.Claims(k.Key, &any) == nil
}

// signedByPublicKey tells whether the secret of an HS256 is the lab's public key in
// one of the forms it is published or stored in.
func (l *Lab) signedByPublicKey(raw string) bool {
	var pub crypto.PublicKey = &l.key.PublicKey
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return false
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk, _ := json.Marshal(jose.JSONWebKey{Key: pub, KeyID: keyID, Algorithm: "ES256", Use: "sig"})
	bare, _ := json.Marshal(jose.JSONWebKey{Key: pub})
	for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text))), der, jwk, bare, l.jwksBody()} {
		if hs256Good(secret, raw) {
			return true
		}
	}
	return false
}

// knownSignature tells whether header and signature are those of a token that lives.
func (l *Lab) knownSignature(head, signature string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for value, t := range l.st.tokens {
		if p := strings.Split(value, "."); len(p) == 3 && p[0] == head && p[2] == signature && l.alive(t) {
			return true
		}
	}
	return false
}
