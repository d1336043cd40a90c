package authserver

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// Grant types.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
	grantJWT     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
)

// Prefixes of the server's secrets, for people and secret scanners.
const (
	prefixCode    = "kdc_"
	prefixRefresh = "kdr_"
	prefixSecret  = "kds_"
	prefixManage  = "kdm_"
)

// tokenResponse is RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// confirmation binds a token to a DPoP key (RFC 9449 §6).
type confirmation struct {
	JKT string `json:"jkt,omitempty"`
}

// accessClaims are the claims of an access token (RFC 9068 §2.2). Grant is ours:
// the id by which [Liveness] knows whether the token still lives; and Until, when the
// grant ends or the person's provider is to be asked anew, for what is begun with the
// token and outlives it.
type accessClaims struct {
	Issuer   string        `json:"iss"`
	Subject  string        `json:"sub"`
	Audience string        `json:"aud"`
	ClientID string        `json:"client_id"`
	Scope    string        `json:"scope"`
	IssuedAt int64         `json:"iat"`
	Expires  int64         `json:"exp"`
	ID       string        `json:"jti"`
	Grant    string        `json:"kidoban_grant"`
	Until    int64         `json:"kidoban_until"`
	AuthTime int64         `json:"auth_time,omitempty"`
	Cnf      *confirmation `json:"cnf,omitempty"`
}

func badGrant(text string) *OAuthError {
	return oauthErr(http.StatusBadRequest, "invalid_grant", text)
}

// tokenCall is a token request after the checks that all grants share.
type tokenCall struct {
	*call
	client *client
	form   url.Values
	jkt    string    // thumbprint of the DPoP proof's key, or ""
	heard  time.Time // when the person's provider is to be asked anew; zero: never
}

// serveToken is the token endpoint (RFC 6749 §3.2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "token"
	resp, err := s.token(w, r, c)
	if err != nil {
		s.refuseJSON(w, c, err)
		return
	}
	writeJSON(w, http.StatusOK, resp)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request, c *call) (*tokenResponse, error) {
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.TokenPerIP, Key: limit.IPKey(c.addr), Cost: 1}); err != nil {
		return nil, err
	}
	v, err := form(r)
	if err != nil {
		return nil, err
	}
	grant := v.Get("grant_type")
	handle, ok := map[string]func(*http.Request, *tokenCall) (*tokenResponse, error){
		grantCode: s.redeemCode, grantRefresh: s.refresh, grantClient: s.clientCredentials, grantJWT: s.identityAssertion,
	}[grant]
	switch {
	case grant == "":
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The grant_type is missing.")
	case !ok || grant == grantJWT && len(c.policy.TrustedIdPs) == 0:
		return nil, oauthErr(http.StatusBadRequest, "unsupported_grant_type", "This grant_type is not supported.")
	}
	cl, err := s.authenticate(w, r, c, v)
	if err != nil {
		return nil, err
	}
	// Only a client that has proven itself is limited by its name: anybody can send
	// a public client's id and use up its share.
	if !cl.public() {
		if err := s.take(w, limit.Ask{Limit: c.policy.Limits.TokenPerClient, Key: limit.Key(cl.ID), Cost: 1}); err != nil {
			return nil, err
		}
	}
	t := &tokenCall{call: c, client: cl, form: v}
	if t.jkt, err = s.checkDPoP(w, r, c); err != nil {
		return nil, err
	}
	if t.jkt == "" && (cl.meta.DPoPBoundAccessTokens || cl.pre != nil && cl.pre.RequireDPoP) {
		return nil, errNeedDPoP
	}
	return handle(r, t)
}

var errNeedDPoP = oauthErr(http.StatusBadRequest, "invalid_dpop_proof", "Tokens of this client or for this resource are bound to a key: send a DPoP proof.")

// redeemCode is RFC 6749 §4.1.3 with RFC 7636. The record is read first and
// everything is compared; spending is one statement in the store.
func (s *Server) redeemCode(r *http.Request, t *tokenCall) (*tokenResponse, error) {
	ctx := r.Context()
	code, verifier := t.form.Get("code"), t.form.Get("code_verifier")
	switch {
	case code == "":
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The code is missing.")
	case verifier == "":
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The code_verifier is missing.")
	}
	dead := badGrant("The code is not valid: it was used, has expired, or was given to another client.")
	rec, err := s.deps.Store.Code(ctx, hashToken(code))
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return nil, dead
		}
		return nil, err
	}
	t.event.UserID, t.event.GrantID, t.event.Resource = rec.UserID, rec.GrantID, rec.Resource
	if rec.ClientID != t.client.ID {
		return nil, dead
	}
	if u := t.form.Get("redirect_uri"); u != "" && u != rec.RedirectURI {
		return nil, badGrant("The redirect_uri is not the one of the authorization request.")
	}
	res, err := t.sameResource(rec.Resource)
	if err != nil {
		return nil, err
	}
	if err := t.checkKey(res, rec.DPoPKey); err != nil {
		return nil, err
	}
	if oauth.CheckVerifier(verifier) != nil || !oauth.VerifyS256(rec.Challenge, verifier) {
		// The code is burnt: nobody guesses at a verifier twice. A grant that a spent
		// code brought to life is left alone (G-AS4).
		if _, err := s.deps.Store.RedeemCode(ctx, Redemption{Hash: rec.Hash, Now: t.now, Burn: true}); err != nil {
			return nil, err
		}
		return nil, badGrant("The code_verifier does not match the code_challenge.")
	}
	user, err := s.deps.Store.User(ctx, rec.UserID)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return nil, err
	}
	if err != nil || user.Disabled {
		return nil, dead
	}
	if err := s.heardOf(ctx, t, user.ID); err != nil {
		return nil, err
	}
	host, _ := redirectHost(rec.RedirectURI)
	g := Grant{ID: rec.GrantID, UserID: rec.UserID, ClientID: rec.ClientID, RedirectURI: rec.RedirectURI, RedirectHost: host,
		Resource: rec.Resource, Scopes: rec.Scopes, DPoPKey: t.jkt, Created: t.now, Expires: rec.GrantEnds, Covers: rec.Covers}
	red := Redemption{Hash: rec.Hash, Now: t.now, Grant: g}
	refresh := ""
	if t.client.mayUse(grantRefresh) || slices.Contains(rec.Scopes, ScopeOffline) {
		refresh = newToken(s.deps.Rand, prefixRefresh)
		red.Refresh = Refresh{Hash: hashToken(refresh), GrantID: g.ID, Created: t.now, Expires: t.refreshEnd(g)}
	}
	spent, err := s.deps.Store.RedeemCode(ctx, red)
	if err != nil {
		return nil, err
	}
	if spent == SpendAgain {
		s.live.kill("g:" + rec.GrantID)
		s.alert(ctx, kidoban.AlertCodeReplay, t.client.ID, nil)
	}
	if spent != SpendDone {
		return nil, dead
	}
	return s.respond(t, g, g.Scopes, refresh, rec.AuthTime)
}

// heardOf refuses tokens for whom the provider has let go.
func (s *Server) heardOf(ctx context.Context, t *tokenCall, userID string) error {
	w, err := s.stillIn(ctx, t.policy, userID, t.now)
	t.event.Detail, t.heard = w.remark, w.until
	return err
}

// sameResource checks the resource parameter against the one that was granted;
// it may be left out here (RFC 8707 §2.2).
func (t *tokenCall) sameResource(granted string) (*Resource, error) {
	res := t.policy.resources[granted]
	if res == nil {
		return nil, oauthErr(http.StatusBadRequest, "invalid_target", "The resource is no longer served here.")
	}
	if t.form.Get("resource") == "" && len(t.form["resource"]) <= 1 {
		return res, nil
	}
	named, err := t.policy.pickResource(t.form["resource"])
	if err == nil && named != res {
		err = oauthErr(http.StatusBadRequest, "invalid_target", "The resource is not the one that was granted.")
	}
	return res, err
}

// checkKey compares the proof's key with the one a code or grant is bound to.
func (t *tokenCall) checkKey(res *Resource, bound string) error {
	switch {
	case bound != "" && t.jkt != bound:
		return oauthErr(http.StatusBadRequest, "invalid_dpop_proof", "A DPoP proof by the key that the request was bound to is missing.")
	case t.jkt == "" && res.RequireDPoP:
		return errNeedDPoP
	}
	return nil
}

func (t *tokenCall) refreshEnd(g Grant) time.Time {
	end := t.now.Add(t.policy.Tokens.Refresh)
	if g.Expires.Before(end) {
		return g.Expires
	}
	return end
}

// refresh is RFC 6749 §6 with rotation (G-AS5): everything is compared before
// anything changes, so a wrong request costs the client nothing.
func (s *Server) refresh(r *http.Request, t *tokenCall) (*tokenResponse, error) {
	ctx := r.Context()
	presented := t.form.Get("refresh_token")
	if presented == "" {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The refresh_token is missing.")
	}
	dead := badGrant("The refresh token is not valid: it was revoked, has expired, or was given to another client.")
	if !strings.HasPrefix(presented, prefixRefresh) {
		return nil, dead
	}
	hash := hashToken(presented)
	_, g, err := s.deps.Store.Refresh(ctx, hash)
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return nil, dead
		}
		return nil, err
	}
	t.event.UserID, t.event.GrantID, t.event.Resource = g.UserID, g.ID, g.Resource
	if g.ClientID != t.client.ID || !g.Revoked.IsZero() {
		return nil, dead
	}
	res, err := t.sameResource(g.Resource)
	if err != nil {
		return nil, err
	}
	if err := t.checkKey(res, g.DPoPKey); err != nil {
		return nil, err
	}
	scopes, err := t.narrow(g.Scopes)
	if err != nil {
		return nil, err
	}
	// Before anything changes: whoever has to log in again keeps the grant.
	if err := s.heardOf(ctx, t, g.UserID); err != nil {
		return nil, err
	}
	successor := newToken(s.deps.Rand, prefixRefresh)
	sealed, err := sealSuccessor(s.deps.Rand, presented, successor)
	if err != nil {
		return nil, err
	}
	spent, stored, err := s.deps.Store.RotateRefresh(ctx, Rotation{Hash: hash, Now: t.now, Grace: t.policy.Tokens.Grace, Sealed: sealed,
		Successor: Refresh{Hash: hashToken(successor), GrantID: g.ID, Created: t.now, Expires: t.refreshEnd(g)}})
	if err != nil {
		return nil, err
	}
	switch spent {
	case SpendDone:
	case SpendGrace:
		if successor, err = openSuccessor(presented, stored); err != nil {
			return nil, err
		}
		t.event.Code = "same_successor"
	case SpendAgain:
		s.live.kill("g:" + g.ID)
		s.alert(ctx, kidoban.AlertRefreshReuse, g.ID, nil)
		return nil, dead
	default:
		return nil, dead
	}
	if cl := t.client; cl.Kind != ClientPre && t.now.Sub(cl.LastUsed) > 24*time.Hour {
		if err := s.deps.Store.TouchClient(ctx, cl.ID, t.now, t.policy.clientExpiry(cl, t.now)); err != nil {
			return nil, err
		}
	}
	return s.respond(t, g, scopes, successor, time.Time{})
}

// narrow applies a scope parameter, which may only narrow, and the ceiling as it
// is today: what the operator took away is not in new tokens.
func (t *tokenCall) narrow(granted []string) ([]string, error) {
	scopes := granted
	if asked := t.form.Get("scope"); asked != "" {
		if oauth.CheckScope(asked) != nil || !oauth.IsSubset(oauth.SplitScope(asked), granted) {
			return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "A refresh cannot give scopes that were not granted.")
		}
		scopes = oauth.SplitScope(asked)
	}
	if scopes = oauth.IntersectScopes(scopes, t.policy.ceiling(t.client)); len(scopes) == 0 {
		return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "None of the granted scopes can be given to this client any more.")
	}
	return scopes, nil
}

// respond signs the access token.
func (s *Server) respond(t *tokenCall, g Grant, scopes []string, refresh string, auth time.Time) (*tokenResponse, error) {
	life := min(t.policy.Tokens.Access, g.Expires.Sub(t.now))
	if life <= 0 {
		return nil, badGrant("The access that was granted has ended.")
	}
	sub := g.UserID
	if sub == "" {
		sub = g.ClientID // RFC 9068 §2.2: no person stands behind it
	}
	claims := accessClaims{Issuer: t.policy.Issuer, Subject: sub, Audience: g.Resource, ClientID: g.ClientID, Scope: oauth.JoinScope(scopes),
		IssuedAt: t.now.Unix(), Expires: t.now.Add(life).Unix(), ID: newID(s.deps.Rand, ""), Grant: g.ID, Until: g.Expires.Unix()}
	if !t.heard.IsZero() { // a stream that stays open must not spare its client the question
		claims.Until = min(claims.Until, max(claims.Expires, t.heard.Unix()))
	}
	if !auth.IsZero() {
		claims.AuthTime = auth.Unix()
	}
	resp := &tokenResponse{TokenType: "Bearer", ExpiresIn: int64(life.Seconds()), RefreshToken: refresh, Scope: claims.Scope}
	if t.jkt != "" {
		claims.Cnf = &confirmation{t.jkt}
		resp.TokenType = "DPoP"
	}
	var err error
	if resp.AccessToken, err = s.keys.sign(claims); err != nil {
		return nil, err
	}
	t.event.ClientID, t.event.UserID, t.event.GrantID, t.event.Resource, t.event.Scopes = g.ClientID, g.UserID, g.ID, g.Resource, scopes
	return resp, nil
}

// clientCredentials is RFC 6749 §4.4 for clients that the operator registered
// with it and that prove themselves (G-AS9).
func (s *Server) clientCredentials(r *http.Request, t *tokenCall) (*tokenResponse, error) {
	if t.client.pre == nil || t.client.public() || !t.client.mayUse(grantClient) {
		return nil, oauthErr(http.StatusBadRequest, "unauthorized_client", "The client is not registered for client_credentials.")
	}
	res, err := t.policy.pickResource(t.form["resource"])
	if err != nil {
		return nil, err
	}
	if err := t.checkKey(res, ""); err != nil {
		return nil, err
	}
	scopes, err := t.policy.pickScopes(t.form.Get("scope"), t.client)
	if err != nil {
		return nil, err
	}
	return s.bareGrant(r, t, "", res, scopes)
}

// bareGrant makes a grant that lives as long as its one access token.
func (s *Server) bareGrant(r *http.Request, t *tokenCall, userID string, res *Resource, scopes []string) (*tokenResponse, error) {
	g := Grant{ID: newID(s.deps.Rand, "g"), UserID: userID, ClientID: t.client.ID, Resource: res.URI, Scopes: scopes, DPoPKey: t.jkt,
		Created: t.now, Expires: t.now.Add(t.policy.Tokens.Access), Covers: CoversAll}
	if err := s.deps.Store.CreateGrant(r.Context(), g); err != nil {
		return nil, err
	}
	return s.respond(t, g, scopes, "", time.Time{})
}

// verifyAccess checks one of our own access tokens: signature, type, issuer and
// time. Liveness is asked separately.
func (s *Server) verifyAccess(token string, now time.Time) (accessClaims, error) {
	var claims accessClaims
	tok, err := jwt.ParseSigned(token, s.keys.Algorithms())
	if err != nil {
		return claims, err
	}
	if typ, _ := tok.Headers[0].ExtraHeaders["typ"].(string); len(tok.Headers) != 1 || typ != "at+jwt" {
		return claims, kidoban.Errorf(kidoban.KindInput, "not an access token")
	}
	key, ok := s.keys.Lookup(tok.Headers[0].KeyID)
	if !ok || key.Algorithm != tok.Headers[0].Algorithm {
		return claims, kidoban.Errorf(kidoban.KindInput, "unknown key")
	}
	if err := tok.Claims(key.Key, &claims); err != nil {
		return claims, err
	}
	if claims.Issuer != s.Issuer() || now.Unix() >= claims.Expires {
		return claims, kidoban.Errorf(kidoban.KindInput, "expired or foreign")
	}
	return claims, nil
}
