package authserver

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban/oauth"
)

// identityAssertion is the ID-JAG grant of enterprise-managed authorization: an
// identity provider that the operator trusts says that this client may act for
// this user at this server (G-AS9). No refresh token: the provider stays in
// control.
func (s *Server) identityAssertion(r *http.Request, t *tokenCall) (*tokenResponse, error) {
	ctx := r.Context()
	if t.client.public() {
		return nil, oauthErr(http.StatusBadRequest, "unauthorized_client", "This grant is for clients that authenticate.")
	}
	assertion := t.form.Get("assertion")
	if assertion == "" {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The assertion is missing.")
	}
	issuer, err := claimedIssuer(assertion)
	if err != nil {
		return nil, badGrant("The assertion is not a signed JWT.")
	}
	i := slices.IndexFunc(t.policy.TrustedIdPs, func(p TrustedIdP) bool { return p.Issuer == issuer })
	if i < 0 {
		return nil, badGrant("The assertion's issuer is not trusted here.")
	}
	idp := t.policy.TrustedIdPs[i]
	var keys jose.JSONWebKeySet
	if idp.JWKS != nil {
		keys, err = parseJWKS(idp.JWKS)
	} else {
		keys, err = s.remoteKeySet(ctx, idp.JWKSURI)
	}
	if err != nil {
		return nil, err
	}
	claims, _, err := s.verifyAssertion(assertion, keys, "oauth-id-jag+jwt")
	if err != nil {
		return nil, &OAuthError{http.StatusBadRequest, "invalid_grant", "The assertion is not signed by its issuer, or is not an ID-JAG.", err}
	}
	switch {
	case len(claims.Audience) != 1 || claims.Audience[0] != t.policy.Issuer:
		return nil, badGrant("The assertion is for another authorization server.")
	case claims.ClientID != t.client.ID:
		return nil, badGrant("The assertion was issued to another client.")
	case claims.Subject == "":
		return nil, badGrant("The assertion names nobody.")
	case claims.Cnf != nil && claims.Cnf.JKT != "" && claims.Cnf.JKT != t.jkt:
		return nil, oauthErr(http.StatusBadRequest, "invalid_dpop_proof", "The assertion is bound to a key: send a DPoP proof by it.")
	}
	res, err := t.assertedResource(claims.Resource)
	if err != nil {
		return nil, err
	}
	if err := t.checkKey(res, ""); err != nil {
		return nil, err
	}
	scopes, err := t.assertedScopes(claims.Scope)
	if err != nil {
		return nil, err
	}
	// The single use comes last: a request that fails for another reason may be
	// repeated with the same assertion.
	if err := s.checkLife(ctx, t.call, "idp:"+issuer, claims); err != nil {
		return nil, badGrant("The assertion " + err.Error() + ".")
	}
	name := "" // of an address that nobody verified, rules know nothing
	if claims.EmailVerified == true || claims.EmailVerified == "true" {
		name = claims.Email
	}
	user, _, err := s.identityUser(ctx, issuer, claims.Subject, name, claims.Email)
	if err != nil {
		return nil, err
	}
	if user.Disabled {
		return nil, badGrant("This person's access has been switched off.")
	}
	return s.bareGrant(r, t, user.ID, res, scopes)
}

// assertedResource reads the resource claim. It may be missing only where there
// is one resource and so no doubt.
func (t *tokenCall) assertedResource(raw json.RawMessage) (*Resource, error) {
	var named []string
	var one string
	switch {
	case len(raw) == 0:
		if len(t.policy.Resources) != 1 {
			return nil, badGrant("The assertion names no resource.")
		}
		return &t.policy.Resources[0], nil
	case json.Unmarshal(raw, &one) == nil:
		named = []string{one}
	case json.Unmarshal(raw, &named) != nil || len(named) != 1:
		return nil, badGrant("The assertion must name one resource.")
	}
	res, err := t.policy.pickResource(named)
	if err != nil || named[0] == "" {
		return nil, badGrant("The assertion is for a resource that is not served here.")
	}
	if asked := t.form["resource"]; len(asked) > 0 {
		if also, err := t.policy.pickResource(asked); err != nil || also != res {
			return nil, oauthErr(http.StatusBadRequest, "invalid_target", "The resource is not the one of the assertion.")
		}
	}
	return res, nil
}

func (t *tokenCall) assertedScopes(asserted string) ([]string, error) {
	scopes, err := t.policy.pickScopes(t.form.Get("scope"), t.client)
	if err != nil {
		return nil, err
	}
	if asserted != "" {
		if t.form.Get("scope") == "" {
			if scopes, err = t.policy.pickScopes(asserted, t.client); err != nil {
				return nil, err
			}
		}
		scopes = oauth.IntersectScopes(scopes, oauth.SplitScope(asserted))
	}
	if len(scopes) == 0 {
		return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "The assertion allows none of these scopes.")
	}
	return scopes, nil
}
