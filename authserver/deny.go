package authserver

import (
	"context"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// Kinds of deny-list entries.
const (
	DenyHost   = "host"   // a redirect host and every host below it; "scheme:name" for a private scheme
	DenyURL    = "url"    // a redirect URL: its host, any port and scheme, its path and everything below
	DenyCIMD   = "cimd"   // the domain of client documents and every domain below it
	DenyClient = "client" // one client id
)

// denylist is the deny-list in memory: the configuration's entries and the
// database's, followed by every replica.
type denylist struct {
	entries atomic.Pointer[[]Deny]
	reading sync.Mutex // a slow reading must not undo what a later one has found
}

// canonicalDeny brings an entry's pattern into the form that is compared. The
// comparison is on parsed components, so that case, ports, encodings and
// sub-paths are no disguise (G-RG4).
func canonicalDeny(kind, pattern string) (string, error) {
	bad := func(text string) (string, error) {
		return "", kidoban.Errorf(kidoban.KindUsage, "deny-list entry %q: %s", printable(pattern, 80), text)
	}
	switch kind {
	case DenyHost, DenyCIMD:
		p := strings.TrimPrefix(strings.TrimPrefix(pattern, "*"), ".")
		if scheme, ok := strings.CutPrefix(p, "scheme:"); ok && kind == DenyHost {
			return "scheme:" + strings.ToLower(scheme), nil
		}
		if strings.Contains(p, "/") {
			u, err := url.Parse(p)
			if err != nil || u.Host == "" {
				return bad("give a host name")
			}
			p = u.Hostname()
		}
		p = canonicalHost(p)
		if p == "" || !strings.Contains(p, ".") && !strings.Contains(p, ":") {
			return bad("give a host name with a dot")
		}
		if isLoopbackName(p) {
			return bad("this would lock out every local client; block a client id or a URL instead")
		}
		return p, nil
	case DenyURL:
		c, ok := components(pattern)
		if !ok {
			return bad("give an absolute URL")
		}
		return c, nil
	case DenyClient:
		if pattern == "" || len(pattern) > oauth.MaxURL {
			return bad("give a client id")
		}
		return pattern, nil
	}
	return bad("its kind must be host, url, cimd or client")
}

// components is a URL reduced to what an attacker cannot vary and still own the
// place: the canonical host and the decoded, resolved, lower-case path.
func components(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		return "", false
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "scheme:" + strings.ToLower(u.Scheme), true
	}
	if u.Host == "" {
		return "", false
	}
	p := u.Path // decoded once
	for range 3 {
		next, err := url.PathUnescape(p)
		if err != nil || next == p {
			break
		}
		p = next
	}
	p = strings.ReplaceAll(p, "\\", "/")
	segments := strings.Split(p, "/")
	for i, seg := range segments {
		segments[i], _, _ = strings.Cut(seg, ";")
	}
	p = path.Clean("/" + strings.ToLower(strings.Join(segments, "/")))
	return canonicalHost(u.Hostname()) + strings.TrimSuffix(p, "/"), true
}

func under(host, domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }

// deniedRedirect finds the entry that a redirect URI falls under, or nil.
func (s *Server) deniedRedirect(raw string) *Deny {
	host, _ := redirectHost(raw)
	var comp string
	for i, d := range *s.deny.entries.Load() {
		hit := false
		switch d.Kind {
		case DenyHost:
			hit = under(host, d.Pattern)
		case DenyURL:
			if comp == "" {
				comp, _ = components(raw)
			}
			hit = comp == d.Pattern || strings.HasPrefix(comp, d.Pattern+"/")
		}
		if hit {
			return &(*s.deny.entries.Load())[i]
		}
	}
	return nil
}

// deniedClient finds the entry that a client falls under: by id, by the domain of
// its document, or by any of its redirect URIs.
func (s *Server) deniedClient(cl *client) *Deny {
	list := *s.deny.entries.Load()
	if len(list) == 0 {
		return nil
	}
	for i, d := range list {
		if d.Kind == DenyClient && d.Pattern == cl.ID || d.Kind == DenyCIMD && cl.Kind == ClientCIMD && under(documentHost(cl.ID), d.Pattern) {
			return &list[i]
		}
	}
	for _, r := range cl.meta.RedirectURIs {
		if d := s.deniedRedirect(r); d != nil {
			return d
		}
	}
	return nil
}

// loadDeny reads the deny-list; a reading replaces the view at once.
func (s *Server) loadDeny(ctx context.Context, p *policy) error {
	s.deny.reading.Lock()
	defer s.deny.reading.Unlock()
	stored, err := s.deps.Store.DenyList(ctx)
	if err != nil {
		return err
	}
	for _, r := range p.Registration.Deny {
		pattern, err := canonicalDeny(r.Kind, r.Pattern)
		if err != nil {
			return err
		}
		stored = append(stored, Deny{ID: "config:" + r.Kind + ":" + pattern, Kind: r.Kind, Pattern: pattern, Reason: r.Reason, By: "config"})
	}
	s.deny.entries.Store(&stored)
	return nil
}

// Ban puts an entry on the deny-list: at once here, within [FollowInterval] on
// every replica. Registration and authorization of what matches are refused, and
// live grants of matching clients are revoked before Ban returns (G-RG4). It
// returns how many grants ended.
func (s *Server) Ban(ctx context.Context, kind, pattern, reason, by string) (int, error) {
	canonical, err := canonicalDeny(kind, pattern)
	if err != nil {
		return 0, err
	}
	d := Deny{ID: newID(s.deps.Rand, "d"), Kind: kind, Pattern: canonical, Reason: reason, By: by, Created: s.deps.Now()}
	if err := s.deps.Store.AddDeny(ctx, d); err != nil {
		return 0, err
	}
	if err := s.loadDeny(ctx, s.policy.Load()); err != nil {
		return 0, err
	}
	n, err := s.EnforceDenyList(ctx)
	s.deps.Observer.Event(Event{At: s.deps.Now(), Name: "ban", Outcome: "ok", Code: kind, Detail: canonical, UserID: by})
	return n, err
}

// Unban takes an entry off. Grants that ended stay ended.
func (s *Server) Unban(ctx context.Context, id string) error {
	if err := s.deps.Store.RemoveDeny(ctx, id); err != nil {
		return err
	}
	return s.loadDeny(ctx, s.policy.Load())
}

// DenyList returns the entries in force, the configuration's last.
func (s *Server) DenyList() []Deny { return *s.deny.entries.Load() }

// EnforceDenyList revokes the live grants of every client that the deny-list
// matches, and returns how many ended. Ban and Reload do it themselves.
func (s *Server) EnforceDenyList(ctx context.Context) (int, error) {
	ids, err := s.deps.Store.ClientGrants(ctx, s.deps.Now())
	if err != nil {
		return 0, err
	}
	total := 0
	for _, id := range ids {
		row, err := s.deps.Store.Client(ctx, id)
		if err != nil {
			if kidoban.KindOf(err) == kidoban.KindNotFound {
				continue
			}
			return total, err
		}
		cl, err := loadClient(row)
		if err != nil {
			return total, err
		}
		if s.deniedClient(cl) == nil {
			continue
		}
		n, err := s.deps.Store.RevokeClientGrants(ctx, id, "deny-list", s.deps.Now())
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, s.live.follow(ctx)
}
