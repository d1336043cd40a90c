package authserver

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
)

// Client authentication methods (RFC 7591 §2).
const (
	methodNone  = "none"
	methodBasic = "client_secret_basic"
	methodPost  = "client_secret_post"
	methodKey   = "private_key_jwt"
)

// assertionType is RFC 7523's name for a JWT as client authentication.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// clientAlgs are the signatures accepted from clients and identity providers:
// asymmetric ones only.
var clientAlgs = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.ES384, jose.RS256, jose.PS256}

func clientAlgNames() []string { return algNames(clientAlgs) }

func algNames(algs []jose.SignatureAlgorithm) []string {
	out := make([]string, len(algs))
	for i, a := range algs {
		out[i] = string(a)
	}
	return out
}

func badClient(text string) *OAuthError {
	return oauthErr(http.StatusUnauthorized, "invalid_client", text)
}

// authenticate finds the client of a token, PAR, revocation or introspection
// request and checks it by exactly the method it registered (E19). A public
// client is found and not proven.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, c *call, v url.Values) (*client, error) {
	id, secret, basic := basicCredentials(r)
	assertion := v.Get("client_assertion")
	used := methodNone
	ways := 0
	if basic {
		used, ways = methodBasic, ways+1
		if form := v.Get("client_id"); form != "" && form != id {
			return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The client_id in the body is not the one in the Authorization header.")
		}
	} else if r.Header.Get("Authorization") != "" {
		return nil, badClient("The Authorization header is not Basic.")
	}
	if v.Has("client_secret") {
		used, ways = methodPost, ways+1
		id, secret = v.Get("client_id"), v.Get("client_secret")
	}
	if assertion != "" || v.Has("client_assertion_type") {
		used, ways = methodKey, ways+1
	}
	if ways > 1 {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The client authenticates in more than one way.")
	}
	switch used {
	case methodNone:
		if id = v.Get("client_id"); id != "" && c.policy.ConfidentialOnly {
			return nil, badClient("The client must authenticate.")
		}
	case methodKey:
		if v.Get("client_assertion_type") != assertionType {
			return nil, badClient("The client_assertion_type is not the one of RFC 7523.")
		}
		claimed, err := claimedIssuer(assertion)
		if err != nil {
			return nil, badClient("The client assertion is not a signed JWT.")
		}
		if form := v.Get("client_id"); form != "" && form != claimed {
			return nil, badClient("The client assertion was made by another client.")
		}
		id = claimed
	}
	cl, err := s.client(r.Context(), c, id)
	if err != nil {
		if basic && asOAuth(err).Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
		}
		return nil, err
	}
	c.event.ClientID = cl.ID
	if want := cl.meta.AuthMethod(); used != want {
		if want == methodBasic {
			w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
		}
		return nil, badClient("The client must authenticate with " + want + ", as it registered.")
	}
	switch used {
	case methodBasic, methodPost:
		if len(cl.SecretHash) == 0 || subtle.ConstantTimeCompare(hashToken(secret), cl.SecretHash) != 1 {
			if basic {
				w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
			}
			return nil, badClient("The client secret is wrong.")
		}
	case methodKey:
		return cl, s.checkAssertion(r.Context(), c, cl, assertion)
	}
	return cl, nil
}

// basicCredentials decodes RFC 6749 §2.3.1: both parts form-encoded.
func basicCredentials(r *http.Request) (id, secret string, ok bool) {
	user, pass, ok := r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(pass)
	if err1 != nil || err2 != nil {
		return user, pass, true
	}
	return id, secret, true
}

// claimedIssuer reads the unverified iss of an assertion, to know whose keys
// must verify it.
func claimedIssuer(assertion string) (string, error) {
	tok, err := jwt.ParseSigned(assertion, clientAlgs)
	if err != nil {
		return "", err
	}
	var claims struct {
		Iss string `json:"iss"`
	}
	err = tok.UnsafeClaimsWithoutVerification(&claims)
	return claims.Iss, err
}

// assertionClaims are the claims of client assertions and ID-JAGs.
type assertionClaims struct {
	jwt.Claims
	ClientID string          `json:"client_id"`
	Resource json.RawMessage `json:"resource"`
	Scope    string          `json:"scope"`
	Email    string          `json:"email"`

	EmailVerified any `json:"email_verified"`

	Cnf *confirmation `json:"cnf"`
}

// assertionLife bounds how far an assertion may reach into the future, and so how
// long its jti is remembered.
const assertionLife = 10 * time.Minute

// checkAssertion verifies a client assertion (RFC 7523 §3): the client's own key,
// iss and sub the client, this server as the only audience, short life, one use.
func (s *Server) checkAssertion(ctx context.Context, c *call, cl *client, assertion string) error {
	keys, err := s.clientKeys(ctx, cl)
	if err != nil {
		return &OAuthError{http.StatusUnauthorized, "invalid_client", "The client's keys cannot be read.", err}
	}
	claims, _, err := s.verifyAssertion(assertion, keys, "")
	if err != nil {
		return &OAuthError{http.StatusUnauthorized, "invalid_client", "The client assertion is not signed by a key of the client.", err}
	}
	// The issuer is the right audience; the token endpoint's URL is what RFC 7523
	// suggested and older clients send.
	audience := len(claims.Audience) == 1 && slices.Contains([]string{c.policy.Issuer, c.policy.url("/token")}, claims.Audience[0])
	switch {
	case claims.Issuer != cl.ID || claims.Subject != cl.ID:
		return badClient("The client assertion's iss and sub must be the client_id.")
	case !audience:
		return badClient("The client assertion's aud must be the issuer of this server, and nothing else.")
	}
	if err := s.checkLife(ctx, c, "client:"+cl.ID, claims); err != nil {
		return badClient("The client assertion " + err.Error() + ".")
	}
	return nil
}

// verifyAssertion checks the signature by the key that kid names, or by any when
// it names none, and the typ when one is wanted.
func (s *Server) verifyAssertion(assertion string, keys jose.JSONWebKeySet, typ string) (claims assertionClaims, kid string, err error) {
	tok, err := jwt.ParseSigned(assertion, clientAlgs)
	if err != nil {
		return claims, "", err
	}
	if len(tok.Headers) != 1 {
		return claims, "", kidoban.Errorf(kidoban.KindInput, "the assertion must have one signature")
	}
	h := tok.Headers[0]
	if got, _ := h.ExtraHeaders[jose.HeaderType].(string); typ != "" && !strings.EqualFold(got, typ) {
		return claims, "", kidoban.Errorf(kidoban.KindInput, "the assertion's typ is not %s", typ)
	}
	candidates := keys.Keys
	if h.KeyID != "" {
		candidates = keys.Key(h.KeyID)
	}
	err = kidoban.Errorf(kidoban.KindInput, "no key of that id")
	for _, k := range candidates {
		if k.Algorithm != "" && k.Algorithm != h.Algorithm || k.Use != "" && k.Use != "sig" {
			continue
		}
		if err = tok.Claims(k.Key, &claims); err == nil {
			return claims, h.KeyID, nil
		}
	}
	return claims, h.KeyID, err
}

// checkLife checks exp, iat, nbf and the single use of jti. The error is a clause.
func (s *Server) checkLife(ctx context.Context, c *call, who string, claims assertionClaims) error {
	const skew = time.Minute
	say := func(text string) error { return kidoban.Errorf(kidoban.KindInput, "%s", text) }
	switch {
	case claims.Expiry == nil || !claims.Expiry.Time().After(c.now.Add(-skew)):
		return say("has expired or has no exp")
	case claims.Expiry.Time().After(c.now.Add(assertionLife)):
		return say("lives longer than ten minutes")
	case claims.NotBefore != nil && claims.NotBefore.Time().After(c.now.Add(skew)),
		claims.IssuedAt != nil && claims.IssuedAt.Time().After(c.now.Add(skew)):
		return say("is from the future")
	case claims.ID == "" || len(claims.ID) > 512:
		return say("has no usable jti")
	}
	// The name is hashed with the jti: both are the sender's text.
	fresh, err := s.deps.Store.UseOnce(ctx, "jti:"+string(base64Hash(who+"\x00"+claims.ID)), c.now, claims.Expiry.Time().Add(2*skew))
	if err != nil {
		return err
	}
	if !fresh {
		return say("was used before")
	}
	return nil
}
