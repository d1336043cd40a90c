package authserver

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"
)

// Guest is a person who is logged in, as the gateway's other pages (the console)
// see them: same login, same session, same forms' token.
type Guest struct {
	User
	Method   string    // how they proved themselves
	LoggedIn time.Time // when
	hash     []byte
}

// Guest finds who is behind a request; nil when nobody is logged in.
func (s *Server) Guest(r *http.Request) (*Guest, error) {
	v, err := s.visitor(r, &call{policy: s.policy.Load(), now: s.deps.Now()})
	if err != nil || v == nil {
		return nil, err
	}
	return &Guest{User: v.User, Method: v.Method, LoggedIn: v.Created, hash: v.Hash}, nil
}

// FormToken is the hidden field t of every form that g is shown.
func (s *Server) FormToken(g *Guest) string {
	return s.formToken(&visitor{Session: Session{Hash: g.hash}})
}

// OwnForm tells whether a form with this token was shown to this login.
func (s *Server) OwnForm(g *Guest, token string) bool {
	var session string
	return s.box.open(purposeForm, token, &session) == nil && session == base64.RawURLEncoding.EncodeToString(g.hash)
}

// SameSite tells whether a browser says that a form came from our own pages.
func (s *Server) SameSite(r *http.Request) bool { return sameSite(r, s.policy.Load().origin) }

// ShowLogin shows the login page in the place of another one. next is the path of
// this server to go to afterwards; again says that the person is logged in and is
// asked to prove it once more.
func (s *Server) ShowLogin(w http.ResponseWriter, r *http.Request, next string, again bool) {
	c := &call{policy: s.policy.Load(), id: requestID(r), addr: s.deps.Address(r), now: s.deps.Now(), langs: preferred(r)}
	if c.id == "" {
		c.id = newID(s.deps.Rand, "")
	}
	s.pageHeaders(w.Header())
	s.language(w, r, c)
	p := loginPage{Next: next, Why: "login_to_console"}
	if again {
		p.Why = "login_again"
	}
	s.showLogin(w, r, c, p, http.StatusOK)
}

// Languages are what the person reads, best first, the first being one that pages
// are written in. A choice made with lang= is remembered. self is where a link to
// another language leads: append en, ja or zh; empty after a form.
func (s *Server) Languages(w http.ResponseWriter, r *http.Request) (langs []string, self string) {
	c := &call{policy: s.policy.Load()}
	s.language(w, r, c)
	if c.self != "" {
		c.self += "lang="
	}
	return preferred(r), c.self
}

// EndGrant revokes a grant, here and on every replica, and disconnects the
// accounts at third parties that no other grant of its user needs (G-CO6).
// Not found: KindNotFound.
func (s *Server) EndGrant(ctx context.Context, id, reason string) error {
	g, err := s.deps.Store.Grant(ctx, id)
	if err != nil {
		return err
	}
	if err := s.RevokeGrant(ctx, id, reason); err != nil || g.UserID == "" {
		return err
	}
	return s.letGo(ctx, g.UserID)
}

// Accounts lists a user's accounts at third parties, connected or not.
func (s *Server) Accounts(ctx context.Context, userID string) ([]UpstreamAccount, error) {
	if s.deps.Upstream == nil {
		return nil, nil
	}
	return s.deps.Upstream.Accounts(ctx, userID, "")
}

// Disconnect forgets a user's account and ends its tokens at the third party.
func (s *Server) Disconnect(ctx context.Context, userID, account string) error {
	if s.deps.Upstream == nil {
		return nil
	}
	return s.deps.Upstream.Disconnect(ctx, userID, account)
}

// DocumentHost is the domain that publishes a client document; empty when the
// client id is not a URL.
func DocumentHost(clientID string) string { return documentHost(clientID) }

// RedirectHost is the host of a redirect URI as the watch and the deny-list name
// it; "scheme:" and the scheme for a private one.
func RedirectHost(uri string) string { h, _ := redirectHost(uri); return h }

// DeniedHost finds the entry of the deny-list that blocks a redirect host as the
// watch names it; nil when none does.
func (s *Server) DeniedHost(host string) *Deny {
	list := *s.deny.entries.Load()
	for i, d := range list {
		if d.Kind == DenyHost && under(host, d.Pattern) {
			return &list[i]
		}
	}
	return nil
}
