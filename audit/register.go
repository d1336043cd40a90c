package audit

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// Client is an OAuth client that the run may use: registered by it, or brought
// along by the operator.
type Client struct {
	ID          string
	Secret      string
	Name        string // the client_name it was registered with
	RedirectURI string // the first one that the server echoed
	Redirects   []string
	Pre         bool // brought along; never deleted
	Meta        oauth.ClientMetadata
	X           *kidoban.Exchange // the registration

	entry   int
	regURI  string
	regTok  string
	removed bool
}

// Registration is one registration request and its answer.
type Registration struct {
	Asked  map[string]any // the metadata that was sent
	X      *kidoban.Exchange
	Client *Client // nil when the server gave no client_id
}

// accepted tells whether the server registered a client (RFC 7591 §3.2.1; some
// servers say 200 where 201 is meant).
func (r Registration) accepted() bool { return r.Client != nil }

// Limits on registrations (catalogue 5.9): three on a stranger's server.
const (
	maxPosts    = 3
	maxPostsOwn = 48
)

// template returns C0, the least risky registration (catalogue 5.4), for the
// given redirect URI. Probes change what they test and leave the rest.
func (s *session) template(redirect string) map[string]any {
	m := map[string]any{
		"client_name":                "kidoban security probe " + s.runID,
		"redirect_uris":              []string{redirect},
		"grant_types":                []string{"authorization_code"},
		"response_types":             []string{"code"},
		"token_endpoint_auth_method": "none",
		"application_type":           "native",
		"client_uri":                 "https://github.com/kidoban/kidoban",
	}
	if as := s.facts.AS; as != nil && slices.Contains(as.Meta.GrantTypesSupported, "refresh_token") {
		m["grant_types"] = []string{"authorization_code", "refresh_token"}
	}
	if s.facts.SmallestScope != "" {
		m["scope"] = s.facts.SmallestScope
	}
	return m
}

// loopbackRedirect returns a fresh loopback redirect URI. Nothing listens there:
// the oracle never follows it.
func (s *session) loopbackRedirect() string {
	if who := s.o.Login; who != nil && who.Own != nil {
		return who.Own.Base() + s.nonce(8)
	}
	var b [2]byte
	s.read(b[:])
	port := 49152 + (int(b[0])<<8|int(b[1]))%16000
	return "http://127.0.0.1:" + itoa(port) + "/callback/" + s.nonce(8)
}

// register sends one registration. The ledger has the intent on disk before the
// request goes out. ok is false when the limit on registrations or the budget
// forbids it; then nothing was sent.
func (s *session) register(ctx context.Context, probe, note string, meta map[string]any, header ...kidoban.Field) (Registration, bool) {
	as := s.facts.AS
	if ctx.Err() != nil || s.ledger == nil || as == nil || as.Meta.RegistrationEndpoint == "" || s.postsSpent() || s.left() < 4 {
		return Registration{}, false
	}
	r := Registration{Asked: maps.Clone(meta)}
	body, err := json.Marshal(meta)
	if err != nil {
		return r, false
	}
	n, err := s.ledger.Intend(Entry{Probe: probe, Issuer: as.Issuer, Endpoint: as.Meta.RegistrationEndpoint, Time: s.o.Now(), Lab: s.o.Lab})
	if err != nil {
		return r, false // without a ledger nothing is left on anybody's server
	}
	s.posts[as.Issuer]++
	// An interruption waits for the answer: without it nobody knows what to remove.
	r.X = s.do(context.WithoutCancel(ctx), outbound.Req{Method: http.MethodPost, URL: as.Meta.RegistrationEndpoint, Probe: probe, Note: note, Body: body,
		Header: append(kidoban.Fields{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json"}}, header...)})
	s.settle(&r, n)
	if r.X.Response != nil && rateLimited(r.X) {
		s.facts.limited = &r
	}
	return r, true
}

// postsSpent tells whether no more registrations may be sent to this server.
func (s *session) postsSpent() bool {
	limit := maxPosts
	if s.o.Lab || s.o.OwnServer {
		limit = maxPostsOwn
	}
	return s.posts[s.facts.AS.Issuer] >= limit
}

// settle reads the answer and writes it into the ledger.
func (s *session) settle(r *Registration, n int) {
	refused := func(why string) { _ = s.ledger.Note(n, "refused", why, s.o.Now()) }
	switch {
	case r.X.Response == nil && r.X.Err == errBudget:
		refused("not sent")
		return
	case r.X.Response == nil:
		_ = s.ledger.Note(n, "left", "no answer: whether a client was created is unknown", s.o.Now())
		return
	case r.X.Status() != 200 && r.X.Status() != 201:
		refused("status " + itoa(r.X.Status()))
		return
	}
	m, err := oauth.ParseClientMetadata(r.X.Response.Body)
	if err != nil || m.ClientID == "" || oauthError(r.X) != "" {
		refused("no client_id in the answer")
		return
	}
	name, _ := r.Asked["client_name"].(string)
	secret := m.ClientSecret
	if m.TokenEndpointAuthMethod == "none" {
		secret = "" // some servers give one to public clients as well, and take no request with it
	}
	c := &Client{ID: m.ClientID, Secret: secret, Name: name, Redirects: m.RedirectURIs, Meta: m, X: r.X, entry: n,
		regURI: m.RegistrationClientURI, regTok: m.RegistrationAccessToken}
	if asked, _ := r.Asked["redirect_uris"].([]string); len(m.RedirectURIs) == 0 && !m.Has("redirect_uris") {
		c.Redirects = asked // a server that echoes nothing took what was asked, as far as anyone can tell
	}
	if len(c.Redirects) > 0 {
		c.RedirectURI = c.Redirects[0]
	}
	r.Client = c
	e := Entry{N: n, ClientID: c.ID, ClientURI: c.regURI, Time: s.o.Now(), Expires: expiry(&m)}
	_ = s.ledger.Registered(e, c.regTok) // the entry stays an open intent when this fails, and is named as left behind
	s.facts.registered = append(s.facts.registered, c)
	s.reserve += cleanCost
}

func expiry(m *oauth.ClientMetadata) string {
	if raw, ok := m.Raw("client_id_expires_at"); ok { // not in the RFC; several servers say it of public clients
		var n int64
		if json.Unmarshal(raw, &n) == nil && n > 0 {
			return time.Unix(n, 0).UTC().Format(time.RFC3339)
		}
	}
	if m.ClientSecretExpiresAt != nil && *m.ClientSecretExpiresAt > 0 {
		return time.Unix(*m.ClientSecretExpiresAt, 0).UTC().Format(time.RFC3339)
	}
	return ""
}

// control makes the client that all probes of the run share: a pre-registered
// one, or C0. A refusal of optional members is answered once with the bare
// minimum. The second value says why there is none.
func (s *session) control(ctx context.Context) (*Client, kidoban.Reason) {
	if len(s.o.Clients) > 0 {
		p := s.o.Clients[0]
		return &Client{ID: p.ID, Secret: p.Secret, RedirectURI: p.RedirectURI, Redirects: []string{p.RedirectURI}, Pre: true}, ""
	}
	if !s.o.has(kidoban.T2) || s.facts.AS.Meta.RegistrationEndpoint == "" {
		return nil, kidoban.ReasonClient
	}
	meta := s.template(s.loopbackRedirect())
	r, ok := s.register(ctx, "C0", "control registration", meta)
	if !ok {
		return nil, kidoban.ReasonBudget
	}
	s.facts.C0 = append(s.facts.C0, r)
	if !r.accepted() && r.X.Status() == 400 && !rateLimited(r.X) {
		for _, k := range []string{"client_uri", "scope", "application_type"} {
			delete(meta, k)
		}
		meta["redirect_uris"] = []string{s.loopbackRedirect()}
		if r2, ok := s.register(ctx, "C0", "control registration, required members only", meta); ok {
			s.facts.C0 = append(s.facts.C0, r2)
			r = r2
		}
	}
	switch {
	case r.accepted() && r.Client.RedirectURI != "":
		return r.Client, ""
	case r.X.Response == nil:
		return nil, kidoban.ReasonNetwork
	case rateLimited(r.X):
		return nil, kidoban.ReasonRateLimit
	case challenged(r.X):
		return nil, kidoban.ReasonChallenge
	case hidden(r.X):
		return nil, kidoban.ReasonNetwork
	}
	return nil, kidoban.ReasonClient
}

// sameOrigin compares scheme, host and port of two URLs.
func sameOrigin(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && x.Host != "" && x.Host == y.Host
}
