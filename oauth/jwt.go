package oauth

import (
	"encoding/base64"
	"strings"
)

// JWT is a token in compact form, looked into without any verification: what
// it claims, not what is true. Never decide access on it.
type JWT struct {
	Header    Document
	Claims    Document // empty for an encrypted token
	Alg       string   // "none" and its spellings included
	Typ       string
	Kid       string
	Issuer    string
	Subject   string
	Audience  []string
	ClientID  string
	Scope     string
	ID        string
	Expires   int64 // seconds since 1970; 0 when absent
	IssuedAt  int64
	NotBefore int64
	Signature []byte
	Encrypted bool // five parts: a JWE, whose claims cannot be read
}

// maxJWT bounds a token that is looked into.
const maxJWT = 64 << 10

// PeekJWT reads a compact JWS or the header of a compact JWE. ok is false when
// token is neither, or is longer than 64 KiB.
func PeekJWT(token string) (j JWT, ok bool) {
	if len(token) > maxJWT || !strings.HasPrefix(token, "ey") {
		return j, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 && len(parts) != 5 {
		return j, false
	}
	var err error
	if j.Header, ok = peekPart(parts[0]); !ok {
		return j, false
	}
	j.Alg, j.Typ, j.Kid = j.Header.str("alg"), j.Header.str("typ"), j.Header.str("kid")
	if len(parts) == 5 {
		j.Encrypted = true
		return j, true
	}
	if j.Claims, ok = peekPart(parts[1]); !ok {
		return j, false
	}
	if j.Signature, err = base64.RawURLEncoding.DecodeString(parts[2]); err != nil {
		return j, false
	}
	c := &j.Claims
	j.Issuer, j.Subject, j.ID = c.str("iss"), c.str("sub"), c.str("jti")
	j.ClientID, j.Scope = c.str("client_id"), c.str("scope")
	if raw, has := c.Raw("aud"); has && kindOfJSON(raw) == "a string" {
		j.Audience = []string{c.str("aud")} // RFC 7519 §4.1.3 allows both forms
	} else {
		j.Audience = c.strs("aud")
	}
	j.Expires, _ = c.integer("exp")
	j.IssuedAt, _ = c.integer("iat")
	j.NotBefore, _ = c.integer("nbf")
	return j, true
}

func peekPart(part string) (Document, bool) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil {
		return Document{}, false
	}
	d, err := parseDocument(b, maxJWT, "token")
	return d, err == nil
}
