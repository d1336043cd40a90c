package authserver

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// maxManagers bounds the registration access tokens of one shared registration.
// Who registers the same client later gets it without one and lets it expire.
const maxManagers = 16

// serveRegister is RFC 7591, open to strangers under the operator's policy. What
// comes out is a claim, not an identity: the consent page says so.
func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "register"
	m, err := s.register(w, r, c)
	if err != nil {
		switch asOAuth(err).Cause {
		case errDenied:
			s.alert(r.Context(), kidoban.AlertDeniedRegistration, c.event.Host, nil)
		case errBorrowed:
			s.alert(r.Context(), kidoban.AlertImpersonation, c.event.Host, kidoban.AlertWords{"host": c.event.Host})
		}
		s.refuseJSON(w, c, err)
		return
	}
	writeJSON(w, http.StatusCreated, m)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request, c *call) (*oauth.ClientMetadata, error) {
	// An attempt costs little and stores nothing; what counts against the limits of
	// registration is what would be stored.
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.TokenPerIP, Key: limit.IPKey(c.addr), Cost: 1}); err != nil {
		return nil, err
	}
	// A flood is turned away before anything is read or parsed: asking costs nothing.
	if err := s.takeRegistration(r, c, func(asks ...limit.Ask) error { return refused(w, s.limits.Would(asks...)) }); err != nil {
		return nil, err
	}
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return nil, badMetadata("The body must be application/json.", nil)
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	m, err := oauth.ParseClientMetadata(body)
	if err != nil {
		return nil, badMetadata("The body is not a JSON object.", err)
	}
	if len(m.RedirectURIs) > 0 {
		c.event.Host, _ = redirectHost(m.RedirectURIs[0])
	}
	m.ClientID, m.ClientSecret, m.RegistrationAccessToken, m.RegistrationClientURI = "", "", "", ""
	m.ClientIDIssuedAt, m.ClientSecretExpiresAt = nil, nil
	if err := s.checkMetadata(c.policy, &m, ClientDCR, ""); err != nil {
		return nil, err
	}
	if err := s.takeRegistration(r, c, func(asks ...limit.Ask) error { return s.takeEverywhere(w, r, c, asks...) }); err != nil {
		return nil, err
	}
	if err := s.roomForClients(r, c); err != nil {
		return nil, err
	}
	return s.storeRegistration(r, c, &m)
}

// takeRegistration charges the address, its network and everybody, through take
// or, to ask only, through would. The share of everybody does not bind networks
// whose people are known here.
func (s *Server) takeRegistration(r *http.Request, c *call, take func(...limit.Ask) error) error {
	l, prefix := c.policy.Limits, limit.PrefixKey(c.addr)
	err := take(limit.Ask{Limit: l.RegistrationPerIP, Key: limit.IPKey(c.addr), Cost: 1}, limit.Ask{Limit: l.RegistrationPerPrefix, Key: prefix, Cost: 1})
	if err != nil {
		s.alert(r.Context(), kidoban.AlertRegistrationBurst, prefix, kidoban.AlertWords{"network": prefix})
		return err
	}
	if s.known.has(prefix, c.now) {
		return nil
	}
	if err := take(limit.Ask{Limit: l.RegistrationGlobal, Cost: 1}); err != nil {
		s.alert(r.Context(), kidoban.AlertRegistrationFlood, "all", nil)
		return err
	}
	return nil
}

// takeEverywhere charges limits in this process and, when it gives, in the database
// for all replicas. What the database refuses is spent here, too, so that a flood
// costs it no more writes than the limits give.
func (s *Server) takeEverywhere(w http.ResponseWriter, r *http.Request, c *call, asks ...limit.Ask) error {
	if err := s.take(w, asks...); err != nil {
		return err
	}
	shares := make([]Share, len(asks))
	for i, a := range asks {
		shares[i] = Share{"rate:" + limit.Key(a.Limit.Name, a.Key), a.Limit.Per / time.Duration(max(a.Limit.Count, 1)), a.Limit.Burst}
	}
	spent, wait, err := s.deps.Store.TakeLimits(r.Context(), c.now, shares...)
	if err != nil || wait == 0 {
		return err
	}
	a := asks[spent]
	s.limits.Charge(c.policy.Limits, []limit.Taken{{Limit: a.Limit.Name, Key: a.Key, Cost: a.Limit.Burst}})
	return refused(w, limit.Decision{Limit: a.Limit.Name, RetryAfter: wait})
}

// roomForClients refuses when too many registrations wait for a first consent.
// Each of them ends within the hour.
func (s *Server) roomForClients(r *http.Request, c *call) error {
	n, err := s.deps.Store.CountPending(r.Context(), c.now)
	if err != nil || n < c.policy.Registration.MaxPending || s.known.has(limit.PrefixKey(c.addr), c.now) {
		return err
	}
	s.alert(r.Context(), kidoban.AlertRegistrationsFull, "all", nil)
	return oauthErr(http.StatusServiceUnavailable, "temporarily_unavailable", "Too many registrations are waiting: try again later, or use a client document.")
}

func (s *Server) storeRegistration(r *http.Request, c *call, m *oauth.ClientMetadata) (*oauth.ClientMetadata, error) {
	m.TokenEndpointAuthMethod = m.AuthMethod()
	if m.GrantTypes == nil {
		m.GrantTypes = []string{grantCode}
	}
	if m.ResponseTypes == nil {
		m.ResponseTypes = []string{"code"}
	}
	allowed := c.policy.ceiling(&client{Client: Client{Kind: ClientDCR}})
	if granted := oauth.IntersectScopes(oauth.SplitScope(m.Scope), allowed); len(granted) > 0 {
		m.Scope = oauth.JoinScope(granted)
	} else {
		m.Scope = oauth.JoinScope(allowed)
	}
	row := Client{ID: newID(s.deps.Rand, "c_"), Kind: ClientDCR, Created: c.now, Expires: c.now.Add(c.policy.Registration.FirstConsent)}
	secret := ""
	if m.TokenEndpointAuthMethod == methodBasic || m.TokenEndpointAuthMethod == methodPost {
		secret = newToken(s.deps.Rand, prefixSecret)
		row.SecretHash = hashToken(secret)
	}
	var err error
	if row.Metadata, err = json.Marshal(m); err != nil {
		return nil, err
	}
	if len(row.Metadata) > 16<<10 {
		return nil, badMetadata("The metadata is longer than 16 kB.", nil)
	}
	row.Fingerprint = fingerprint(m, secret != "")
	manage := newToken(s.deps.Rand, prefixManage)
	// A client with a secret is never shared: its secret cannot be told twice.
	row, created, attached, err := s.deps.Store.RegisterClient(r.Context(), row, hashToken(manage), secret == "", maxManagers)
	if err != nil {
		return nil, err
	}
	c.event.ClientID, c.event.Code = row.ID, "created"
	if !created {
		c.event.Code = "shared"
	} else if err := s.watchHosts(r.Context(), row.ID, m.RedirectURIs, ClientDCR); err != nil {
		return nil, err
	}
	stamp(row, m)
	if secret != "" {
		m.ClientSecret = secret
		ends := row.Created.Add(c.policy.Registration.Idle).Unix()
		m.ClientSecretExpiresAt = &ends
	}
	if attached {
		m.RegistrationAccessToken, m.RegistrationClientURI = manage, c.policy.url("/register/"+row.ID)
	}
	return m, nil
}

// stamp writes what the server decided about a client into its metadata.
func stamp(row Client, m *oauth.ClientMetadata) {
	issued := row.Created.Unix()
	m.ClientID, m.ClientIDIssuedAt = row.ID, &issued
}

// managed finds the client that a request's registration access token manages
// (RFC 7592). A wrong token and an unknown client are the same answer (E20).
func (s *Server) managed(r *http.Request, c *call) (Client, []byte, error) {
	c.event.Name = "manage_client"
	id := strings.TrimPrefix(r.URL.Path, c.policy.path+"/register/")
	refuse := oauthErr(http.StatusUnauthorized, "invalid_token", "There is no such registration for this token.")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || id == "" || len(id) > 256 || strings.ContainsRune(id, 0) || !utf8.ValidString(id) || !strings.HasPrefix(token, prefixManage) {
		return Client{}, nil, refuse
	}
	row, err := s.deps.Store.ClientByToken(r.Context(), id, hashToken(token))
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil || err == nil && !row.Expires.IsZero() && !row.Expires.After(c.now) {
		return Client{}, nil, refuse
	}
	c.event.ClientID = row.ID
	return row, hashToken(token), err
}

func (s *Server) refuseManaged(w http.ResponseWriter, c *call, err error) {
	if asOAuth(err).Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	s.refuseJSON(w, c, err)
}

// serveReadClient is RFC 7592 §2.1.
func (s *Server) serveReadClient(w http.ResponseWriter, r *http.Request, c *call) {
	row, _, err := s.managed(r, c)
	var cl *client
	if err == nil {
		cl, err = loadClient(row)
	}
	if err != nil {
		s.refuseManaged(w, c, err)
		return
	}
	stamp(row, &cl.meta)
	cl.meta.RegistrationClientURI = c.policy.url("/register/" + row.ID)
	if row.SecretHash != nil {
		ends := row.Created.Add(c.policy.Registration.Idle).Unix()
		cl.meta.ClientSecretExpiresAt = &ends
	}
	writeJSON(w, http.StatusOK, cl.meta)
}

// serveDeleteClient is RFC 7592 §2.3. A registration that several registrants
// share ends with the last of them.
func (s *Server) serveDeleteClient(w http.ResponseWriter, r *http.Request, c *call) {
	row, token, err := s.managed(r, c)
	if err == nil {
		_, err = s.deps.Store.DropToken(r.Context(), row.ID, token, c.now)
	}
	if err == nil {
		err = s.live.follow(r.Context())
	}
	if err != nil {
		s.refuseManaged(w, c, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// DeleteClient removes a client with its grants and consents, for the console.
func (s *Server) DeleteClient(ctx context.Context, id string) error {
	if err := s.deps.Store.DeleteClient(ctx, id, s.deps.Now()); err != nil {
		return err
	}
	return s.live.follow(ctx)
}
