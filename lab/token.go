package lab

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	accessTTL  = 15 * time.Minute
	refreshTTL = 7 * 24 * time.Hour
)

// issueCode makes the code that ends t.
func (l *Lab) issueCode(t *txn) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &code{
		clientID: t.client.id, redirect: t.redirect, scope: t.scope, challenge: t.challenge, method: t.method,
		resource: t.resource, user: t.user, expires: l.now().Add(l.codeTTL()),
	}
	c.value = l.newCode()
	put(l.st.codes, c.value, c)
	return c.value
}

// token is the token endpoint (OAuth 2.1 section 3.2).
func (l *Lab) token(w http.ResponseWriter, r *http.Request) {
	noStoreUnless(w, l.on("E31-b"))
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	if !isForm(r) || r.ParseForm() != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request", "Send an application/x-www-form-urlencoded body.")
		return
	}
	f := r.PostForm
	for name, values := range f {
		if len(values) > 1 && name != "resource" {
			oauthError(w, http.StatusBadRequest, "invalid_request", "The parameter "+name+" is given twice.")
			return
		}
	}
	grantType := f.Get("grant_type")
	if l.weakGrant(w, r, grantType) {
		return
	}
	if grantType != "authorization_code" && grantType != "refresh_token" {
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "The grants here are authorization_code and refresh_token.")
		return
	}
	c, ok := l.authenticate(w, r)
	if !ok {
		return
	}
	if !slices.Contains(c.grants, grantType) {
		oauthError(w, http.StatusBadRequest, "unauthorized_client", "This client did not register that grant.")
		return
	}
	var answer map[string]any
	var fail *tokenFault
	if grantType == "authorization_code" {
		answer, fail = l.redeem(c, f)
	} else {
		answer, fail = l.refresh(c, f)
	}
	if fail != nil {
		oauthError(w, http.StatusBadRequest, fail.code, fail.text)
		return
	}
	noStoreUnless(w, l.on("E31-b"))
	writeJSON(w, http.StatusOK, answer)
}

// noStoreUnless is noStore with the exception that E31-b makes.
func noStoreUnless(w http.ResponseWriter, open bool) {
	if !open {
		noStore(w)
	}
}

// tokenFault is a refusal of the token endpoint.
type tokenFault struct{ code, text string }

// badGrant is the refusal of a code or refresh token (RFC 6749 section 5.2).
func badGrant(text string) *tokenFault { return &tokenFault{"invalid_grant", text} }

// authenticate finds the client of a token, revocation or introspection request
// and checks that it authenticates the way it registered (OAuth 2.1 section 2.4).
// It answers the request itself on failure.
func (l *Lab) authenticate(w http.ResponseWriter, r *http.Request) (*client, bool) {
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	used := "none"
	switch {
	case basic:
		used = "client_secret_basic"
	case secret != "":
		used = "client_secret_post"
	}
	if id == "" && l.on("E21-b") {
		if c := l.clientOfCode(r.PostForm.Get("code")); c != nil {
			return c, true
		}
	}
	refuse := func(text string) (*client, bool) {
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		oauthError(w, http.StatusUnauthorized, "invalid_client", text)
		return nil, false
	}
	if basic && r.PostForm.Get("client_id") != "" && r.PostForm.Get("client_id") != id {
		return refuse("Two different clients are named.")
	}
	c := l.findClient(id)
	if c == nil {
		c = l.blindClient(id, r.PostForm.Get("redirect_uri"))
	}
	if c == nil {
		return refuse("No client with this client_id is registered here.")
	}
	if !l.clientProved(c, used, secret) {
		return refuse("The client did not authenticate in the way it registered.")
	}
	return c, true
}

// clientProved tells whether a client authenticated by the method it registered. A
// public client that sends a secret is refused too: it is not the client it says.
func (l *Lab) clientProved(c *client, used, secret string) bool {
	if c.method == "none" {
		return used == "none"
	}
	if l.on("E19-b") && used == "none" {
		return true
	}
	right := same(c.secret, secret) || l.on("E19-a") && secret != ""
	return right && (used == c.method || l.on("E19-c") && used != "none")
}

// redeem exchanges a code for tokens. Everything that binds the code is compared
// and the code is spent in one critical section, so that a race has one winner.
func (l *Lab) redeem(c *client, f url.Values) (map[string]any, *tokenFault) {
	value := f.Get("code")
	l.mu.Lock()
	k := l.st.codes[value]
	if k == nil || l.now().After(k.expires) {
		l.mu.Unlock()
		return nil, badGrant("The code is unknown or has expired.")
	}
	if k.clientID != c.id && !l.on("E21-a") {
		l.mu.Unlock()
		return nil, badGrant("The code was issued to another client.")
	}
	if !l.redirectFits(c, k, f) {
		l.mu.Unlock()
		return nil, badGrant("The redirect_uri is not the one of the authorization request.")
	}
	if fail := l.resourceFits(k, f["resource"]); fail != nil {
		l.mu.Unlock()
		return nil, fail
	}
	// Client, redirect and resource were compared without spending the code: a
	// stranger who tries costs its owner nothing. From here on it is spent.
	if !l.verifierFits(k, f) {
		if !l.any("F9-5") {
			k.used = true // one try: a verifier cannot be guessed
		}
		if l.on("F9-6") {
			l.killGrant(k.grant)
		}
		l.mu.Unlock()
		return nil, badGrant("The code_verifier does not fit the code_challenge.")
	}
	if k.used {
		again := l.weakReplay(k)
		if !again && !l.on("F9-3") {
			l.killGrant(k.grant)
		}
		if !again {
			l.mu.Unlock()
			return nil, badGrant("The code was already used.")
		}
	}
	if l.on("F9-4") { // the code is looked up and spent in two steps
		l.meet(&k.racing)
	}
	k.used = true
	if k.grant == "" || l.any("F9-4") {
		k.grant = l.newGrant()
	}
	answer := l.issue(c, k.grant, k.user, k.scope, k.resource, true)
	l.mu.Unlock()
	return answer, nil
}

// redirectFits compares the token request's redirect_uri with the authorization
// request's. OAuth 2.1 lets it be absent; present it must be the same.
func (l *Lab) redirectFits(c *client, k *code, f url.Values) bool {
	got := f.Get("redirect_uri")
	return got == "" || got == k.redirect || l.on("F7-18") || l.on("E21-c") && slices.Contains(c.redirects, got)
}

// resourceFits lets a token request repeat or narrow the resource, not change it
// (RFC 8707 section 2.2).
func (l *Lab) resourceFits(k *code, asked []string) *tokenFault {
	for _, a := range asked {
		res, ok := l.knownResource(a)
		if a == k.resource || ok && res == k.resource {
			continue
		}
		if l.on("E05-e") {
			k.resource = a
			continue
		}
		return &tokenFault{"invalid_target", "The resource is not the one of the authorization request."}
	}
	return nil
}

// killGrant ends all tokens of a grant. Lab.mu is held.
func (l *Lab) killGrant(id string) {
	if g := l.st.grants[id]; g != nil {
		g.dead = true
	}
}

// newGrant opens a grant. Lab.mu is held.
func (l *Lab) newGrant() string {
	g := &grant{id: l.random(16), created: l.now()}
	put(l.st.grants, g.id, g)
	return g.id
}

// issue makes the tokens of an answer. Lab.mu is held.
func (l *Lab) issue(c *client, grantID, user, scope, resource string, withRefresh bool) map[string]any {
	if l.on("E30-c") {
		scope = strings.Join(resourceScopes(), " ")
	}
	ttl := l.lifetimeOf(c)
	t := &token{clientID: c.id, user: user, scope: scope, resource: resource, grant: grantID}
	if ttl > 0 {
		t.expires = l.now().Add(ttl)
	}
	t.value = l.newAccessToken(t)
	put(l.st.tokens, t.value, t)
	answer := map[string]any{"access_token": t.value, "token_type": "Bearer", "scope": scope}
	if ttl > 0 && !l.on("E24-b") {
		answer["expires_in"] = int(ttl / time.Second)
	}
	if withRefresh && slices.Contains(c.grants, "refresh_token") {
		rt := &token{refresh: true, clientID: c.id, user: user, scope: scope, resource: resource, grant: grantID, expires: l.now().Add(refreshTTL)}
		rt.value = l.random(32)
		put(l.st.tokens, rt.value, rt)
		answer["refresh_token"] = rt.value
	}
	if l.on("E24-g") {
		answer["id_token"] = l.idToken(t)
	}
	return answer
}

// newAccessToken makes the value of an access token: 256 random bits, or an
// at+jwt (RFC 9068).
func (l *Lab) newAccessToken(t *token) string {
	if up := l.idp.kept[t.user]; up != "" && l.on("E06-b") {
		return up // the upstream's own, passed through
	}
	if !l.opt.JWT {
		return l.weakOpaque(t, l.random(32))
	}
	claims := map[string]any{
		"iss": l.Issuer, "sub": t.user, "aud": l.audience(t.resource), "client_id": t.clientID, "scope": t.scope,
		"iat": l.now().Unix(), "jti": l.random(16),
	}
	if !t.expires.IsZero() {
		claims["exp"] = t.expires.Unix()
	}
	return l.signJWT(l.tokenType(), l.weakClaims(t, claims))
}

// signJWT signs claims with the lab's key.
func (l *Lab) signJWT(typ string, claims map[string]any) string {
	if raw, done := l.weakSign(typ, claims); done {
		return raw
	}
	opt := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", keyID)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: l.key}, opt)
	if err != nil {
		panic("lab: its own key does not sign: " + err.Error())
	}
	raw, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		panic("lab: its own claims do not serialise: " + err.Error())
	}
	return raw
}

// refresh exchanges a refresh token. Each is good once; using a spent one ends the
// family (OAuth 2.1 section 4.3.1).
func (l *Lab) refresh(c *client, f url.Values) (map[string]any, *tokenFault) {
	l.mu.Lock()
	t := l.st.tokens[f.Get("refresh_token")]
	if t == nil || !t.refresh && !l.on("E22-5") || !t.expires.IsZero() && l.now().After(t.expires) {
		l.mu.Unlock()
		return nil, badGrant("The refresh token is unknown or has expired.")
	}
	if t.clientID != c.id && !l.on("E22-3") {
		l.mu.Unlock()
		return nil, badGrant("The refresh token was issued to another client.")
	}
	if g := l.st.grants[t.grant]; (g == nil || g.dead) && !l.on("E22-6") {
		l.mu.Unlock()
		return nil, badGrant("The grant has ended.")
	}
	// A spent token means that two parties hold it; which of them is the thief cannot
	// be told, so both lose it.
	if t.spent && !l.on("E22-1") {
		l.killGrant(t.grant)
		l.mu.Unlock()
		return nil, badGrant("The refresh token was already used; the grant has ended.")
	}
	scope, resource, fail := l.narrow(t, f)
	if fail != nil {
		l.mu.Unlock()
		return nil, fail
	}
	if l.on("E22-2") { // looked up and spent in two steps
		l.meet(&t.racing)
	}
	if g := l.st.grants[t.grant]; g != nil && l.on("E22-6") {
		g.dead = false
	}
	t.spent = t.refresh && !l.on("E22-7")
	answer := l.issue(c, t.grant, t.user, scope, resource, t.refresh && !l.on("E22-7"))
	l.mu.Unlock()
	if l.on("E22-7") && t.refresh {
		answer["refresh_token"] = t.value
	}
	return answer, nil
}

// meet is the gap between looking something up and spending it: it waits until
// another request has looked it up as well, half a second at most. Lab.mu is held,
// and given away while waiting.
func (l *Lab) meet(racing *int) {
	*racing++
	for range 50 {
		if *racing > 1 {
			return
		}
		l.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		l.mu.Lock()
	}
}

// narrow reads scope and resource of a refresh: less than granted is fine, more is
// not, and asking for more changes nothing.
func (l *Lab) narrow(t *token, f url.Values) (scope, resource string, fail *tokenFault) {
	scope, resource = t.scope, t.resource
	if asked := strings.Fields(f.Get("scope")); len(asked) > 0 {
		have := strings.Fields(t.scope)
		for _, s := range asked {
			if !slices.Contains(have, s) && !(l.on("E22-4") && slices.Contains(resourceScopes(), s)) {
				return "", "", &tokenFault{"invalid_scope", "A refresh cannot add scopes."}
			}
		}
		scope = strings.Join(asked, " ")
	}
	for _, a := range f["resource"] {
		res, ok := l.knownResource(a)
		if ok && res == t.resource || a == t.resource {
			continue
		}
		if !l.on("E05-f") {
			return "", "", &tokenFault{"invalid_target", "A refresh cannot change the resource."}
		}
		resource = a
	}
	return scope, resource, nil
}

// challengeOf is the S256 transformation (RFC 7636 section 4.2).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
