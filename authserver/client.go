package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// client is a registration as a request works with it.
type client struct {
	Client
	meta oauth.ClientMetadata
	pre  *PreRegistered // nil unless the operator configured it
}

// anonymous tells whether nobody vouches for the client: it registered itself.
func (c *client) anonymous() bool { return c.Kind == ClientDCR }

// mayUse tells whether the client registered a grant type. RFC 7591 §2: without
// the member it is authorization_code alone.
func (c *client) mayUse(grant string) bool {
	if c.meta.GrantTypes == nil {
		return grant == grantCode
	}
	return slices.Contains(c.meta.GrantTypes, grant)
}

// public tells whether the client has no way to prove itself.
func (c *client) public() bool { return c.meta.AuthMethod() == methodNone }

// matchRedirect returns the request's redirect URI when it is one of the
// client's. This is the only comparison there is (G-AS3).
func (c *client) matchRedirect(requested string) bool {
	return slices.ContainsFunc(c.meta.RedirectURIs, func(r string) bool { return oauth.MatchRedirect(r, requested) })
}

var errUnknownClient = oauthErr(http.StatusUnauthorized, "invalid_client", "This client is not registered here, or its registration has ended: register again.")

// client finds a client before anything else is done with a request (F2). The
// error is errUnknownClient, an OAuthError of a client document, or a store's.
func (s *Server) client(ctx context.Context, c *call, id string) (*client, error) {
	switch {
	case id == "":
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The client_id is missing.")
	case len(id) > oauth.MaxURL, strings.ContainsRune(id, 0), !utf8.ValidString(id): // out of an assertion or a header, which no form has refused
		return nil, errUnknownClient
	}
	var cl *client
	var err error
	if pre, ok := c.policy.pre[id]; ok {
		cl = pre
	} else if oauth.LooksLikeClientIDURL(id) {
		cl, err = s.documentClient(ctx, c, id)
	} else {
		cl, err = s.registeredClient(ctx, c, id)
	}
	if err != nil {
		return nil, err
	}
	if rule := s.deniedClient(cl); rule != nil {
		c.event.Detail = "deny-list " + rule.ID
		return nil, &OAuthError{http.StatusForbidden, "access_denied", "The operator of this server has blocked this client.", errDenied}
	}
	return cl, nil
}

var errDenied = kidoban.Errorf(kidoban.KindRefused, "the client or its callback is on the deny-list")

func (s *Server) registeredClient(ctx context.Context, c *call, id string) (*client, error) {
	row, err := s.deps.Store.Client(ctx, id)
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return nil, errUnknownClient
		}
		return nil, err
	}
	if row.Kind != ClientDCR || !row.Expires.IsZero() && !row.Expires.After(c.now) {
		return nil, errUnknownClient
	}
	return loadClient(row)
}

func loadClient(row Client) (*client, error) {
	meta, err := oauth.ParseClientMetadata(row.Metadata)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the stored registration of a client is damaged")
	}
	return &client{Client: row, meta: meta}, nil
}

// fingerprint hashes what a person's consent depends on. When it changes,
// remembered consents fall (G-CO5, E16-j).
func fingerprint(m *oauth.ClientMetadata, secret bool) string {
	redirects := slices.Clone(m.RedirectURIs)
	slices.Sort(redirects)
	body, err := json.Marshal(map[string]any{
		"redirects": redirects, "name": m.ClientName, "names": m.Localized["client_name"], "jwks": m.JWKS, "jwks_uri": m.JWKSURI,
		"method": m.AuthMethod(), "scope": m.Scope, "logo": m.LogoURI, "uri": m.ClientURI, "grants": m.GrantTypes, "secret": secret,
		"software": m.SoftwareID, "version": m.SoftwareVersion, "dpop": m.DPoPBoundAccessTokens, "type": m.ApplicationType, "extra": m.Extra,
		"contacts": m.Contacts, "tos": m.TosURI, "policy": m.PolicyURI, "localized": m.Localized,
	})
	if err != nil {
		panic(err) // strings and JSON that was parsed before
	}
	h := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// putPreRegistered stores the configured clients, so that a change drops
// remembered consents and the console can list them.
func (s *Server) putPreRegistered(ctx context.Context, p *policy) error {
	p.pre = map[string]*client{}
	now := s.deps.Now()
	for i := range p.Clients {
		pre := &p.Clients[i]
		m := oauth.ClientMetadata{ClientID: pre.ID, ClientName: pre.Name, RedirectURIs: pre.RedirectURIs,
			TokenEndpointAuthMethod: pre.AuthMethod, GrantTypes: pre.Grants, JWKS: pre.JWKS, Scope: strings.Join(pre.Scopes, " ")}
		if m.TokenEndpointAuthMethod == "" {
			m.TokenEndpointAuthMethod = methodNone
		}
		if m.GrantTypes == nil {
			m.GrantTypes = []string{grantCode, grantRefresh}
		}
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		row := Client{ID: pre.ID, Kind: ClientPre, Metadata: body, Fingerprint: fingerprint(&m, false), Created: now}
		if pre.Secret != "" {
			row.SecretHash = hashToken(pre.Secret)
		}
		if row, err = s.deps.Store.PutClient(ctx, row); err != nil {
			return err
		}
		p.pre[pre.ID] = &client{Client: row, meta: m, pre: pre}
	}
	return nil
}

// redirectHost names where a redirect URI leads, in one form for the log, the
// consent page and the watch over callbacks: the host in lower case and Punycode
// without port, or "scheme:" and the scheme of a private-use URI.
func redirectHost(raw string) (host string, loopback bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return "invalid", false
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "scheme:" + strings.ToLower(u.Scheme), false
	}
	host = canonicalHost(u.Hostname())
	return host, isLoopbackName(host)
}

// canonicalHost is a host in the form that the deny-list and the watch compare:
// lower case, Punycode, no trailing dot.
func canonicalHost(h string) string {
	h = strings.TrimSuffix(strings.ToLower(h), ".")
	if a, err := idna.Lookup.ToASCII(h); err == nil {
		return a
	}
	return h
}

// hostMatches tells whether host falls under an entry of a host list:
// "example.com" means itself, ".example.com" also everything below.
func hostMatches(host string, list []string) bool {
	return slices.ContainsFunc(list, func(e string) bool {
		e = strings.ToLower(e)
		if below, ok := strings.CutPrefix(e, "."); ok {
			return host == below || strings.HasSuffix(host, e)
		}
		return host == e
	})
}
