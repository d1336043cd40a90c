package authserver

import (
	"net/http"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// serveRevoke is RFC 7009. A refresh token ends its whole grant, an access token
// ends itself. The answer is 200 whether or not there was such a token; a token
// of another client is left alone (E25).
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "revoke"
	if err := s.revoke(w, r, c); err != nil {
		s.refuseJSON(w, c, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.RevokePerIP, Key: limit.IPKey(c.addr), Cost: 1}); err != nil {
		return err
	}
	v, err := form(r)
	if err != nil {
		return err
	}
	cl, err := s.authenticate(w, r, c, v)
	if err != nil {
		return err
	}
	token := v.Get("token")
	if token == "" {
		return oauthErr(http.StatusBadRequest, "invalid_request", "The token is missing.")
	}
	if strings.HasPrefix(token, prefixRefresh) {
		_, g, err := s.deps.Store.Refresh(r.Context(), hashToken(token))
		if err != nil || g.ClientID != cl.ID {
			if kidoban.KindOf(err) == kidoban.KindNotFound || err == nil {
				c.event.Code = "no_such_token"
				return nil
			}
			return err
		}
		c.event.GrantID, c.event.UserID = g.ID, g.UserID
		return s.RevokeGrant(r.Context(), g.ID, "revoked by the client")
	}
	claims, err := s.verifyAccess(token, c.now)
	if err != nil || claims.ClientID != cl.ID {
		c.event.Code = "no_such_token"
		return nil
	}
	c.event.GrantID, c.event.UserID = claims.Grant, claims.Subject
	if err := s.deps.Store.RevokeToken(r.Context(), claims.ID, c.now); err != nil {
		return err
	}
	s.live.kill("t:" + claims.ID)
	return nil
}

// introspection is RFC 7662 §2.2.
type introspection struct {
	Active   bool          `json:"active"`
	Scope    string        `json:"scope,omitempty"`
	ClientID string        `json:"client_id,omitempty"`
	Type     string        `json:"token_type,omitempty"`
	Expires  int64         `json:"exp,omitempty"`
	IssuedAt int64         `json:"iat,omitempty"`
	Subject  string        `json:"sub,omitempty"`
	Audience string        `json:"aud,omitempty"`
	Issuer   string        `json:"iss,omitempty"`
	ID       string        `json:"jti,omitempty"`
	Cnf      *confirmation `json:"cnf,omitempty"`
}

// serveIntrospect is RFC 7662 for callers that prove themselves: the configured
// introspectors ask about any token, other confidential clients about their own.
// Whatever is not good is only "not active".
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "introspect"
	v, err := form(r)
	if err == nil {
		err = s.take(w, limit.Ask{Limit: c.policy.Limits.TokenPerIP, Key: limit.IPKey(c.addr), Cost: 1})
	}
	var cl *client
	if err == nil {
		cl, err = s.authenticate(w, r, c, v)
	}
	if err == nil && cl.public() {
		err = badClient("Introspection is for callers that authenticate.")
	}
	if err != nil {
		s.refuseJSON(w, c, err)
		return
	}
	answer, err := s.introspect(r, c, cl, v.Get("token"))
	if err != nil {
		s.refuseJSON(w, c, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) introspect(r *http.Request, c *call, cl *client, token string) (introspection, error) {
	all := slices.Contains(c.policy.Introspectors, cl.ID)
	if strings.HasPrefix(token, prefixRefresh) {
		f, g, err := s.deps.Store.Refresh(r.Context(), hashToken(token))
		switch {
		case err != nil && kidoban.KindOf(err) != kidoban.KindNotFound:
			return introspection{}, err
		case err != nil || !all && g.ClientID != cl.ID || !g.Revoked.IsZero() || !f.Used.IsZero() || !f.Expires.After(c.now) || !g.Expires.After(c.now):
			return introspection{}, nil
		}
		return introspection{Active: true, Scope: strings.Join(g.Scopes, " "), ClientID: g.ClientID, Type: "refresh_token", Expires: f.Expires.Unix(),
			IssuedAt: f.Created.Unix(), Subject: g.UserID, Audience: g.Resource, Issuer: c.policy.Issuer}, nil
	}
	claims, err := s.verifyAccess(token, c.now)
	if err != nil || !all && claims.ClientID != cl.ID {
		return introspection{}, nil
	}
	live, err := s.live.Live(claims.Grant, claims.ID)
	if err != nil || !live {
		return introspection{}, err
	}
	typ := "Bearer"
	if claims.Cnf != nil {
		typ = "DPoP"
	}
	return introspection{true, claims.Scope, claims.ClientID, typ, claims.Expires, claims.IssuedAt, claims.Subject, claims.Audience, claims.Issuer, claims.ID, claims.Cnf}, nil
}
