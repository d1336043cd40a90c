package gateway

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban/oauth"
)

// verifier turns the Authorization header into a Caller. It is the one path by
// which a request becomes somebody; every doubt ends it (RS-04, E04).
//
// A token's signature is checked once and remembered until the token expires;
// whether its grant still lives is asked each time, in memory.
type verifier struct {
	issuer string
	keys   KeySet
	live   Liveness
	now    func() time.Time
	dpop   *dpopJudge

	look  sync.Mutex
	asked time.Time // when a key was last looked for; guarded by look

	mu    sync.RWMutex
	known map[[32]byte]*claims // by hash of the token; guarded by mu
}

// maxKnown bounds the tokens remembered; about 500 bytes each.
const maxKnown = 20_000

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// leeway is how far our clock and the issuer's may differ.
const leeway = 30 * time.Second

// claims are those of RFC 9068, with the grant's id.
type claims struct {
	jwt.Claims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Grant    string `json:"kidoban_grant"`
	Until    int64  `json:"kidoban_until"` // when what is begun with it ends; 0 in tokens of other makers
	Confirm  *struct {
		Key string `json:"jkt"`
	} `json:"cnf"`

	kid    string
	scopes []string
}

func newVerifier(c Config, d Deps) *verifier {
	return &verifier{issuer: c.Issuer, keys: d.Keys, live: d.Liveness, now: d.Now, dpop: newDPoP(d), known: map[[32]byte]*claims{}}
}

func unauthorized(rule, code, say string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Rule: rule, Say: say, Error: code}
}

// verify judges r's token for the resource.
func (v *verifier) verify(ctx context.Context, r *http.Request, t *target) (Caller, *Refusal) {
	fields := r.Header.Values("Authorization")
	if len(fields) == 0 {
		// Also with a token in the URL: it is not looked at, good or bad (RS-13).
		return Caller{}, unauthorized("token:missing", "", "This server needs an access token.")
	}
	if r.URL.RawQuery != "" {
		for name := range r.URL.Query() {
			if strings.EqualFold(name, "access_token") || strings.EqualFold(name, "token") {
				return Caller{}, &Refusal{Status: http.StatusBadRequest, Rule: "token:query", Error: "invalid_request", Say: "Tokens are read from the Authorization header only, never from the URL."}
			}
		}
	}
	if len(fields) > 1 {
		return Caller{}, &Refusal{Status: http.StatusBadRequest, Rule: "token:twice", Error: "invalid_request", Say: "There is more than one Authorization header."}
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	bearer, dpop := strings.EqualFold(scheme, "Bearer"), strings.EqualFold(scheme, "DPoP")
	if !ok || !bearer && !dpop || token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t,") {
		return Caller{}, unauthorized("token:form", "invalid_token", "The Authorization header holds no bearer token.")
	}
	c, err := v.claims(ctx, token)
	if err != nil {
		return Caller{}, unauthorized("token:invalid", "invalid_token", "The access token is not valid. Get a new one.").because(err)
	}
	if refusal := v.judge(c, t); refusal != nil {
		return Caller{}, refusal
	}
	if c.Confirm != nil && c.Confirm.Key != "" || dpop {
		if refusal := v.dpop.judge(r, t, token, dpop, c); refusal != nil {
			return Caller{}, refusal
		}
	}
	caller := Caller{User: c.Subject, Client: c.ClientID, Grant: c.Grant, TokenID: c.ID, Scopes: c.scopes, Expires: c.Expiry.Time()}
	if c.Until > 0 {
		caller.Until = time.Unix(c.Until, 0)
	}
	return caller, nil
}

// judge holds verified claims against this moment and this resource.
func (v *verifier) judge(c *claims, t *target) *Refusal {
	now := v.now()
	if now.After(c.Expiry.Time().Add(leeway)) || c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time()) {
		return unauthorized("token:expired", "invalid_token", "The access token has expired. Refresh it.")
	}
	// Exactly one audience, and it is this resource (RS-05, RFC 9068 section 4).
	if len(c.Audience) != 1 || strings.TrimSuffix(c.Audience[0], "/") != t.resource {
		return unauthorized("token:audience", "invalid_token", "The access token is for another server. Get one for this resource.")
	}
	if _, ok := v.keys.Lookup(c.kid); !ok {
		return unauthorized("token:key", "invalid_token", "The key that signed the access token is no longer in use. Refresh it.")
	}
	live, err := v.live.Live(c.Grant, c.ID)
	if err != nil {
		return (&Refusal{Status: http.StatusServiceUnavailable, Rule: "token:liveness", Say: "It cannot be checked just now whether the access token was revoked. Try again in a moment.", Retry: 2}).because(err)
	}
	if !live {
		return accessRevoked()
	}
	return nil
}

// claims returns the token's claims after its signature, type and form were
// checked, here or at an earlier request.
func (v *verifier) claims(ctx context.Context, token string) (*claims, error) {
	var room [1024]byte // most tokens have less: no garbage
	key := sha256.Sum256(append(room[:0], token...))
	v.mu.RLock()
	c := v.known[key]
	v.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c, err := v.parse(ctx, token)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxKnown {
		v.forget()
	}
	v.known[key] = c
	return c, nil
}

// forget drops expired tokens, and if none has expired, a tenth of all. The
// caller holds mu.
func (v *verifier) forget() {
	now, n := v.now(), 0
	for k, c := range v.known {
		if now.After(c.Expiry.Time().Add(leeway)) {
			delete(v.known, k)
			n++
		}
	}
	for k := range v.known {
		if n >= maxKnown/10 {
			return
		}
		delete(v.known, k)
		n++
	}
}

// tokenAlgs are the only algorithms: no "none", nothing symmetric.
var tokenAlgs = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256}

type formError string

func (e formError) Error() string { return "the token " + string(e) }

// key finds a key; one that is not known is looked for in the store, once a second
// for all tokens: another replica may have made it a moment ago.
func (v *verifier) key(ctx context.Context, kid string) (jose.JSONWebKey, bool) {
	key, ok := v.keys.Lookup(kid)
	follows, can := v.keys.(interface{ Refresh(context.Context) error })
	if ok || !can || len(kid) > 64 {
		return key, ok
	}
	v.look.Lock()
	defer v.look.Unlock()
	if now := v.now(); now.Sub(v.asked) >= time.Second {
		v.asked = now
		if err := follows.Refresh(ctx); err != nil {
			return key, false
		}
	}
	return v.keys.Lookup(kid)
}

// parse checks form, type, key and signature (RFC 9068 section 4). Keys come
// from the key set alone: jwk, jku and x5u of the header are not looked at.
func (v *verifier) parse(ctx context.Context, token string) (*claims, error) {
	t, err := jwt.ParseSigned(token, tokenAlgs)
	if err != nil {
		return nil, err
	}
	if len(t.Headers) != 1 {
		return nil, formError("has not exactly one signature")
	}
	h := t.Headers[0]
	if typ, _ := h.ExtraHeaders[jose.HeaderType].(string); !strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), "at+jwt") {
		return nil, formError("is not of type at+jwt")
	}
	key, ok := v.key(ctx, h.KeyID)
	if !ok || h.KeyID == "" || key.Algorithm != "" && key.Algorithm != h.Algorithm {
		return nil, formError("was signed by an unknown key")
	}
	c := &claims{kid: h.KeyID}
	if err := t.Claims(key.Public().Key, c); err != nil {
		return nil, err
	}
	switch {
	case c.Issuer != v.issuer:
		return nil, formError("has another issuer")
	case c.Subject == "" || c.ClientID == "" || c.ID == "" || c.Grant == "":
		return nil, formError("lacks sub, client_id, jti or the grant")
	case c.Expiry == nil || c.IssuedAt == nil:
		return nil, formError("lacks exp or iat")
	case c.IssuedAt.Time().After(v.now().Add(leeway)):
		return nil, formError("was issued in the future")
	}
	c.scopes = oauth.SplitScope(c.Scope)
	return c, nil
}

// allows tells whether the granted scopes, with all they imply, hold one of those
// wanted (RS-10).
func (g *state) allows(granted, wanted []string) bool {
	for _, s := range granted {
		if slices.Contains(wanted, s) {
			return true
		}
		for _, implied := range g.config.Implies[s] {
			if slices.Contains(wanted, implied) {
				return true
			}
		}
	}
	return false
}

// challenge builds WWW-Authenticate for a refusal (RS-02, RS-03, RS-08; RFC 6750
// section 3). A request without any token gets no error code. Whoever comes with a token
// that is bound to a key, or as if with one, is answered in that scheme, with what
// proofs may be signed with (RFC 9449 section 7.1).
func (t *target) wwwAuthenticate(r *Refusal, bound bool) string {
	if r.Status != http.StatusUnauthorized && (r.Status != http.StatusForbidden || r.Error == "") {
		return ""
	}
	parts := []string{}
	if r.Error != "" {
		parts = append(parts, `error="`+r.Error+`"`, `error_description="`+r.Say+`"`)
	}
	scheme := "Bearer "
	if bound {
		scheme = "DPoP "
		parts = append(parts, `algs="`+strings.Join(dpopAlgNames(), " ")+`"`)
	}
	if len(r.Scopes) > 0 {
		return scheme + strings.Join(append(parts, `resource_metadata="`+t.metaURL+`"`, `scope="`+strings.Join(r.Scopes, " ")+`"`), ", ")
	}
	return scheme + strings.Join(append(parts, t.challenge), ", ")
}
