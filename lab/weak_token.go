package lab

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenSwitches are the flaws of tokens (E05, E22, E24, E25).
func tokenSwitches() []Switch {
	signed := Needs{JWT: true}
	return []Switch{
		{Key: "E05-a", Title: "A foreign resource at /authorize is ignored; the token is made for this server."},
		{Key: "E05-b", Title: "A foreign resource at /authorize is accepted, and the token is made for it.", Expect: []string{"E05-a", "E05-b"}},
		{Key: "E05-c", Title: "The audience of tokens is the client's id.", Needs: signed},
		{Key: "E05-d", Title: "The MCP server takes tokens that were made for the second server (SecondURL), and the second server those of the first."},
		{Key: "E05-e", Title: "The token request may name another resource than the authorization request, and gets a token for it."},
		{Key: "E05-f", Title: "A refresh may name another resource, and gets a token for it."},
		{Key: "E22-1", Title: "A refresh token that was rotated away still works."},
		{Key: "E22-2", Title: "A refresh token is looked up and spent in two steps: two requests at once both get tokens."},
		{Key: "E22-3", Title: "A refresh token works for another client."},
		{Key: "E22-4", Title: "A refresh may add scopes."},
		{Key: "E22-5", Title: "An access token works as a refresh token."},
		{Key: "E22-6", Title: "A refresh token works after its revocation."},
		{Key: "E22-7", Title: "Refresh tokens are not rotated."},
		{Key: "E24-a", Title: "Access tokens live for 30 days."},
		{Key: "E24-b", Title: "The token answer has no expires_in, and opaque tokens have no end."},
		{Key: "E24-c", Title: "Access tokens are JWTs signed with HS256 and the key \"secret\".", Needs: signed},
		{Key: "E24-d", Title: "Access tokens lack iss, sub and jti.", Needs: signed},
		{Key: "E24-e", Title: "The type of access tokens is JWT instead of at+jwt.", Needs: signed},
		{Key: "E24-f", Title: "Access tokens carry the person's mail address and the upstream's token.", Needs: signed},
		{Key: "E24-g", Title: "The token answer holds an ID token, and the MCP server takes it as an access token.", Needs: signed},
		{Key: "E24-h", Title: "Codes and opaque access tokens are counters."},
		{Key: "E25-a", Title: "There is no revocation endpoint."},
		{Key: "E25-b", Title: "Revocation answers 200 and does nothing."},
		{Key: "E25-c", Title: "Anybody can revoke any token, without being its client."},
	}
}

// accessTTL is how long access tokens live; 0 is for ever.
func (l *Lab) accessTTL() time.Duration {
	switch {
	case l.on("E24-a"):
		return 30 * 24 * time.Hour
	case l.on("E24-b") && !l.opt.JWT: // a JWT without exp would be E24-d
		return 0
	case l.on("E04-h"):
		return 5 * time.Second
	}
	return accessTTL
}

// weakOpaque is the value of an opaque token. Lab.mu is held.
func (l *Lab) weakOpaque(t *token, value string) string {
	if l.on("E24-h") {
		l.st.counter++
		return fmt.Sprintf("token-%s-%06d", t.user, 100000+l.st.counter)
	}
	return value
}

// audience is the aud claim of tokens for a resource; it is kept apart from the
// resource a token is bound to so that E05-c can name the wrong one.
func (l *Lab) audience(resource string) string { return resource }

// weakClaims changes the claims of a JWT. Lab.mu is held.
func (l *Lab) weakClaims(t *token, claims map[string]any) map[string]any {
	if l.on("E05-c") {
		claims["aud"] = t.clientID
	}
	if l.on("E24-d") {
		delete(claims, "iss")
		delete(claims, "sub")
		delete(claims, "jti")
	}
	if l.on("E24-f") {
		claims["email"] = t.user + "@lab.example"
		up := l.idp.kept[t.user]
		if up == "" {
			up = "idp-" + l.random(32)
		}
		claims["upstream_access_token"] = up
	}
	return claims
}

// tokenType is the typ of access tokens (RFC 9068 section 2.1).
func (l *Lab) tokenType() string {
	if l.on("E24-e") {
		return "JWT"
	}
	return "at+jwt"
}

// weakSign signs without the lab's key.
func (l *Lab) weakSign(typ string, claims map[string]any) (string, bool) {
	if !l.on("E24-c") {
		return "", false
	}
	// go-jose rightly refuses such a short key; the signature is made by hand.
	head, _ := json.Marshal(map[string]string{"alg": "HS256", "typ": typ})
	body, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	return signed + "." + hs256([]byte("secret"), signed), true
}

// weakSignature tells whether a JWT that the lab's key did not sign is good by a
// switch.
func (l *Lab) weakSignature(raw string) bool {
	if l.on("E24-c") {
		return hs256Good([]byte("secret"), raw)
	}
	if l.on("E24-g") {
		tok, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
		var claims map[string]any
		return err == nil && tok.Claims(&l.key.PublicKey, &claims) == nil
	}
	return l.on("E06-b") && strings.HasPrefix(raw, "idp-")
}

// idToken makes the ID token of E24-g and makes it usable. Lab.mu is held.
func (l *Lab) idToken(t *token) string {
	raw := l.signJWT("JWT", map[string]any{
		"iss": l.Issuer, "sub": t.user, "aud": t.clientID, "iat": l.now().Unix(), "exp": l.now().Add(accessTTL).Unix(), "nonce": l.random(8),
	})
	id := *t
	id.value = raw
	put(l.st.tokens, raw, &id)
	return raw
}
