package authserver

import (
	"net/http"
	"time"

	"github.com/kidoban/kidoban/limit"
)

// pushedPrefix begins every request_uri of the PAR endpoint (RFC 9126 §2.2).
const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushedLife is how long a pushed request may wait for its browser.
const pushedLife = 90 * time.Second

// servePAR is RFC 9126: the client sends its parameters itself, proving who it
// is, and gets a handle for the browser. The handle is the sealed request, so
// nothing is stored and nothing can be filled up.
func (s *Server) servePAR(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "par"
	uri, err := s.push(w, r, c)
	if err != nil {
		s.refuseJSON(w, c, err)
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": int(pushedLife.Seconds())})
}

func (s *Server) push(w http.ResponseWriter, r *http.Request, c *call) (string, error) {
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.AuthorizePerIP, Key: limit.IPKey(c.addr), Cost: 1}); err != nil {
		return "", err
	}
	v, err := form(r)
	if err != nil {
		return "", err
	}
	cl, err := s.authenticate(w, r, c, v)
	if err != nil {
		return "", err
	}
	jkt, err := s.checkDPoP(w, r, c)
	if err != nil {
		return "", err
	}
	switch {
	case v.Has("request_uri"):
		return "", oauthErr(http.StatusBadRequest, "invalid_request", "A pushed request cannot name another one.")
	case v.Has("request"):
		return "", oauthErr(http.StatusBadRequest, "request_not_supported", "Request objects are not supported.")
	case jkt != "" && v.Has("dpop_jkt") && v.Get("dpop_jkt") != jkt:
		return "", oauthErr(http.StatusBadRequest, "invalid_dpop_proof", "The dpop_jkt is not the key of the DPoP proof.")
	}
	v.Set("client_id", cl.ID)
	if jkt != "" {
		v.Set("dpop_jkt", jkt)
	}
	for _, secret := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		v.Del(secret)
	}
	if _, err := s.checkAuthorize(r.Context(), c, v); err != nil {
		return "", err
	}
	sealed, err := s.box.seal(purposePAR, ticket{v.Encode(), c.now}, pushedLife)
	return pushedPrefix + sealed, err
}
