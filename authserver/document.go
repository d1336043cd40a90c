package authserver

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// documents fetches client ID metadata documents, each URL at most once at a
// time. The cache is the store's client row, so that all replicas share it.
type documents struct{ flight singleflight.Group }

// Bounds of the cache, whatever the document's server says. Errors are never
// kept (AS-19).
const (
	docMinLife     = time.Minute
	docDefaultLife = 10 * time.Minute
	docMaxLife     = 24 * time.Hour
	// docStale is how long the token endpoint may go on with an old copy while the
	// document's server is away. The authorization endpoint never does.
	docStale = 24 * time.Hour
)

// documentHost is the host of a client id that is a URL.
func documentHost(id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	return canonicalHost(u.Hostname())
}

func docErr(code, text string, cause error) *OAuthError {
	return &OAuthError{http.StatusBadRequest, code, text, cause}
}

// documentClient finds a client whose id is a URL: by the cached document while
// it is fresh, else by fetching it (AS-15…AS-20, G-RG6).
func (s *Server) documentClient(ctx context.Context, c *call, id string) (*client, error) {
	reg := c.policy.Registration
	if reg.DisableCIMD || s.deps.Outbound == nil {
		return nil, errUnknownClient
	}
	if err := oauth.CheckClientIDURL(id); err != nil {
		return nil, docErr("invalid_client", "The client_id is not a usable URL of a client document.", err)
	}
	host := documentHost(id)
	if err := s.checkDocumentPlace(id); err != nil {
		return nil, docErr("invalid_client", "The client_id URL must name a public host on port 443.", err)
	}
	if s.deniedClient(&client{Client: Client{ID: id, Kind: ClientCIMD}}) != nil {
		return nil, &OAuthError{http.StatusForbidden, "access_denied", "The operator of this server has blocked this client.", errDenied}
	}
	if reg.CIMDMode == "allowlist" && !hostMatches(host, reg.CIMDAllow) {
		return nil, &OAuthError{http.StatusForbidden, "access_denied", "This server accepts client documents of certain domains only, and this one is not among them.", nil}
	}
	row, err := s.deps.Store.Client(ctx, id)
	known := err == nil && row.Kind == ClientCIMD
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return nil, err
	}
	if known && row.FreshUntil.After(c.now) {
		return loadClient(row)
	}
	fetched, err := s.fetchDocument(ctx, c, id, host, known)
	if err == nil {
		return fetched, nil
	}
	// A refresh must not fail because a web server is being restarted. What the
	// server answered with an error or a bad document counts at once.
	if known && c.event.Name == "token" && kidoban.KindOf(err) == kidoban.KindUnreachable && row.FreshUntil.Add(docStale).After(c.now) {
		return loadClient(row)
	}
	return nil, err
}

// checkDocumentPlace refuses IP literals and odd ports; a laboratory client that
// may reach loopback may do so here too.
func (s *Server) checkDocumentPlace(id string) error {
	if err := s.deps.Outbound.CheckURL(id); err != nil {
		return err
	}
	u, err := url.Parse(id)
	if err != nil {
		return err
	}
	_, notIP := netip.ParseAddr(u.Hostname())
	if (notIP == nil || u.Port() != "") && !isLoopbackName(u.Hostname()) {
		return kidoban.Errorf(kidoban.KindRefused, "client documents are fetched by name, on port 443")
	}
	return nil
}

func (s *Server) fetchDocument(ctx context.Context, c *call, id, host string, known bool) (*client, error) {
	l := c.policy.Limits
	d := s.limits.Allow(limit.Ask{Limit: l.DocumentPerSource, Key: limit.IPKey(c.addr), Cost: 1},
		limit.Ask{Limit: l.DocumentPerHost, Key: limit.Key(host), Cost: 1}, limit.Ask{Limit: l.DocumentGlobal, Cost: 1})
	if !d.Allowed {
		return nil, &OAuthError{http.StatusTooManyRequests, "temporarily_unavailable", "Too many client documents were asked for: wait a moment.", d.Err()}
	}
	// The flight outlives the request that began it: others may wait for it.
	v, err, _ := s.docs.flight.Do(id, func() (any, error) {
		// One that looked at the cache before the last flight ended comes too late for it.
		if row, err := s.deps.Store.Client(ctx, id); err == nil && row.Kind == ClientCIMD && row.FreshUntil.After(s.deps.Now()) {
			return loadClient(row)
		}
		return s.fetchDocumentOnce(context.WithoutCancel(ctx), c.policy, id, host, known)
	})
	if err != nil {
		return nil, err
	}
	return v.(*client), nil
}

func (s *Server) fetchDocumentOnce(ctx context.Context, p *policy, id, host string, known bool) (*client, error) {
	x, err := s.deps.Outbound.Do(ctx, outbound.Req{Method: http.MethodGet, URL: id, Timeout: 5 * time.Second, MaxBody: oauth.MaxClientDocument + 1,
		Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}})
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindRefused {
			return nil, docErr("invalid_client", "The client document is at an address that this server does not fetch from.", err)
		}
		return nil, docErr("invalid_client", "The client document cannot be fetched.", kidoban.Wrap(kidoban.KindUnreachable, err, "the client document's server did not answer"))
	}
	now := s.deps.Now()
	switch {
	case x.Status() >= 500:
		return nil, docErr("invalid_client", "The client document's server answered with an error.", kidoban.Errorf(kidoban.KindUnreachable, "status %d", x.Status()))
	case x.Status() != http.StatusOK:
		return nil, docErr("invalid_client", "The client document's server did not answer with status 200; redirects are not followed.", kidoban.Errorf(kidoban.KindInput, "status %d", x.Status()))
	case x.Response.Truncated || len(x.Response.Body) > oauth.MaxClientDocument:
		return nil, docErr("invalid_client", "The client document is longer than 5 kB.", nil)
	case x.Err != "":
		return nil, docErr("invalid_client", "The client document broke off.", kidoban.Errorf(kidoban.KindUnreachable, "%s", x.Err))
	case !isJSON(x.Header("Content-Type")):
		return nil, docErr("invalid_client", "The client document is not served as JSON.", nil)
	}
	m, err := oauth.ParseClientDocument(x.Response.Body, id)
	if err != nil {
		return nil, docErr("invalid_client", "The client document is not valid: "+sentenceOf(err), err)
	}
	if err := s.checkMetadata(p, &m, ClientCIMD, host); err != nil {
		return nil, docErr("invalid_client", "The client document is not acceptable: "+asOAuth(err).Text, err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	row := Client{ID: id, Kind: ClientCIMD, Metadata: body, Fingerprint: fingerprint(&m, false), Created: now,
		Expires: now.Add(p.Registration.FirstConsent), FreshUntil: now.Add(documentLife(x.Header("Cache-Control"), x.Header("Age"))),
		Review: !known && p.Registration.CIMDMode == "open-with-review" && !hostMatches(host, p.Registration.CIMDAllow) && !s.admitted.has(host)}
	if row, err = s.deps.Store.PutClient(ctx, row); err != nil {
		return nil, err
	}
	if !known && row.Review {
		s.alert(ctx, kidoban.AlertDocumentReview, id, kidoban.AlertWords{"host": host})
	}
	// A document may name other hosts each time it is fetched.
	if err := s.watchHosts(ctx, id, m.RedirectURIs, ClientCIMD); err != nil {
		return nil, err
	}
	return &client{Client: row, meta: m}, nil
}

func isJSON(contentType string) bool {
	mt, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mt == "application/json" || strings.HasPrefix(mt, "application/") && strings.HasSuffix(mt, "+json"))
}

// documentLife reads Cache-Control within our bounds.
func documentLife(control, age string) time.Duration {
	life := docDefaultLife
	for _, d := range strings.Split(strings.ToLower(control), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch name {
		case "no-store", "no-cache", "must-revalidate":
			if name != "must-revalidate" {
				return docMinLife
			}
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				life = time.Duration(n) * time.Second
			}
		}
	}
	if n, err := strconv.ParseInt(age, 10, 32); err == nil && n > 0 {
		life -= time.Duration(n) * time.Second
	}
	return min(max(life, docMinLife), docMaxLife)
}

// PurgeDocument forgets the cached copy of a client document: the next request
// fetches it anew.
func (s *Server) PurgeDocument(ctx context.Context, id string) error {
	row, err := s.deps.Store.Client(ctx, id)
	if err != nil {
		return err
	}
	if row.Kind != ClientCIMD {
		return kidoban.Errorf(kidoban.KindUsage, "that client has no document")
	}
	row.FreshUntil = time.Time{}
	_, err = s.deps.Store.PutClient(ctx, row)
	return err
}

// sentenceOf is the part of an error that may be shown.
func sentenceOf(err error) string {
	if o, ok := err.(*OAuthError); ok {
		return o.Text
	}
	var r *oauth.Refusal
	if asRefusal(err, &r) {
		return r.Err.Sentence
	}
	return "it cannot be read"
}
