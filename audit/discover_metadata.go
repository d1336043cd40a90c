package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// metadata finds the authorization servers: resource metadata first, and for
// servers of 2025-03-26 without it the server's own origin.
func (s *session) metadata(ctx context.Context) {
	f := s.facts
	s.resourceMetadata(ctx)
	f.Resource = f.URL
	if r, err := oauth.CanonicalResource(f.URL); err == nil {
		f.Resource = r
	}
	if f.PRM != nil {
		f.Issuers = f.PRM.PRM.AuthorizationServers
		if f.PRM.PRM.Resource != "" && oauth.CompareResource(f.URL, f.PRM.PRM.Resource).Equivalent() {
			f.Resource = f.PRM.PRM.Resource
		}
		f.Scopes = f.PRM.PRM.ScopesSupported
	}
	if len(f.Issuers) == 0 && f.Refused != nil {
		if iss, err := oauth.LegacyIssuer(f.URL); err == nil {
			f.Issuers, f.Fallback = []string{iss}, true
		}
	}
	for i, iss := range f.Issuers {
		if i == 3 {
			break // more authorization servers than any client would try
		}
		if f.AS != nil && sharedIssuer(hostOf(iss)) {
			continue // a public provider beside the server's own is not under test
		}
		as := s.serverMetadata(ctx, iss)
		f.Servers = append(f.Servers, as)
		if f.AS == nil && as.Err == "" {
			f.AS = as
		}
	}
	for _, c := range f.Asks {
		if sc := c.Scopes(); len(sc) > 0 {
			f.Scopes = sc
		}
	}
	if len(f.Scopes) == 0 && f.AS != nil {
		f.Scopes = f.AS.Meta.ScopesSupported
	}
	f.SmallestScope = smallest(f.Scopes)
}

// resourceMetadata asks the place in the challenge, then the path-inserted and
// the root well-known place, until one gives a document (RFC 9728 §3, §5.1).
func (s *session) resourceMetadata(ctx context.Context) {
	f := s.facts
	type place struct{ url, from string }
	var places []place
	for _, c := range f.Asks {
		if u, _ := c.ResourceMetadata(); u != "" {
			places = append(places, place{resolve(f.URL, u), "challenge"})
		}
	}
	if urls, err := oauth.PRMURLs(f.URL); err == nil {
		for i, u := range urls {
			from := "path"
			if i > 0 {
				from = "root"
			}
			places = append(places, place{u, from})
		}
	}
	asked := map[string]bool{}
	for _, p := range places {
		if asked[p.url] {
			continue
		}
		asked[p.url] = true
		d := Document{Kind: "prm", URL: p.url, From: p.from, X: s.patiently(ctx, func() *kidoban.Exchange {
			return s.get(ctx, "discover", "resource metadata ("+p.from+")", p.url)
		})}
		d.Err = usable(d.X)
		if d.Err == "" {
			prm, err := oauth.ParsePRM(d.X.Response.Body)
			if err != nil {
				d.Err = "it is no JSON object"
			}
			d.PRM = prm
		}
		f.PRMs = append(f.PRMs, d)
		if d.Err == "" && (d.PRM.Resource != "" || len(d.PRM.AuthorizationServers) > 0) {
			f.PRM = &f.PRMs[len(f.PRMs)-1]
			return
		}
	}
}

// serverMetadata finds out about an issuer, from memory where the run has one.
func (s *session) serverMetadata(ctx context.Context, issuer string) *AS {
	if s.o.Servers != nil {
		return s.known(ctx, issuer)
	}
	return s.askServer(ctx, issuer)
}

// askServer asks the well-known places of an issuer in the order of the
// specification and stops at the first document.
func (s *session) askServer(ctx context.Context, issuer string) *AS {
	as := &AS{Issuer: issuer, Err: "no metadata at any well-known place"}
	urls, err := oauth.MetadataURLs(issuer)
	if err != nil {
		as.Err = "the issuer is no usable URL"
		return as
	}
	for _, u := range urls {
		kind := "as"
		if strings.Contains(u, "openid-configuration") {
			kind = "oidc"
		}
		d := Document{Kind: kind, URL: u, X: s.patiently(ctx, func() *kidoban.Exchange {
			return s.get(ctx, "discover", "authorization server metadata", u)
		})}
		if d.Err = usable(d.X); d.Err == "" {
			m, err := oauth.ParseMetadata(d.X.Response.Body)
			switch {
			case err != nil:
				d.Err = "it is no JSON object"
			case m.Issuer == "" && m.AuthorizationEndpoint == "":
				d.Err = "it is no authorization server metadata"
			default:
				as.URL, as.X, as.Meta, as.Err = u, d.X, m, ""
			}
		}
		as.Tried = append(as.Tried, d)
		if as.Err == "" {
			return as
		}
	}
	return as
}

func usable(x *kidoban.Exchange) string {
	switch {
	case x.Response == nil:
		return "no answer: " + why(x)
	case x.Status() != 200:
		return "status " + itoa(x.Status())
	}
	return ""
}
