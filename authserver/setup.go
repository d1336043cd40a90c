package authserver

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/kidoban/kidoban"
)

// setupLife is how long a set-up link works.
const setupLife = 24 * time.Hour

// setupPage is the page behind a set-up link.
type setupPage struct {
	Token   string
	First   bool   // the first administrator chooses a name
	Name    string // otherwise whose password it is
	Problem string // text id
}

// SetupLink returns a one-time link with which the first administrator makes an
// account, or "" when there is a user already. Each call makes a fresh link and
// ends the earlier one; it works for a day. Print it for the operator alone.
func (s *Server) SetupLink(ctx context.Context) (string, error) {
	users, err := s.deps.Store.Users(ctx, "", 1)
	if err != nil || len(users) > 0 {
		return "", err
	}
	return s.setupLink(ctx, "")
}

// ResetLink returns a one-time link with which a user sets a new password.
// Not found: KindNotFound.
func (s *Server) ResetLink(ctx context.Context, name string) (string, error) {
	u, err := s.deps.Store.UserByName(ctx, loginName(name))
	if err != nil {
		return "", err
	}
	return s.setupLink(ctx, u.ID)
}

// AddUser makes a user without a password and returns the link to set one.
func (s *Server) AddUser(ctx context.Context, name string, admin bool) (string, error) {
	name = loginName(name)
	if !goodName(name) {
		return "", kidoban.Errorf(kidoban.KindUsage, "the name must have 1 to 64 visible characters, without spaces and punctuation of HTML")
	}
	u := User{ID: newID(s.deps.Rand, "u_"), Name: name, Display: name, Admin: admin, Created: s.deps.Now()}
	if err := s.deps.Store.CreateUser(ctx, u); err != nil {
		return "", err
	}
	return s.setupLink(ctx, u.ID)
}

func (s *Server) setupLink(ctx context.Context, userID string) (string, error) {
	token := newToken(s.deps.Rand, "")
	if err := s.deps.Store.CreateSetup(ctx, Setup{Hash: hashToken(token), UserID: userID, Expires: s.deps.Now().Add(setupLife)}); err != nil {
		return "", err
	}
	return s.policy.Load().url("/setup?token=" + token), nil
}

// DisableUser ends a person's sessions and grants at once, here and on every
// replica, or lets the person in again.
func (s *Server) DisableUser(ctx context.Context, id string, disabled bool) error {
	if err := s.deps.Store.SetUserDisabled(ctx, id, disabled, s.deps.Now()); err != nil {
		return err
	}
	return s.live.follow(ctx)
}

// serveSetupPage only looks: mail scanners and previews open links too.
func (s *Server) serveSetupPage(w http.ResponseWriter, r *http.Request, c *call) {
	s.showSetup(w, r, c, setupPage{Token: r.URL.Query().Get("token")}, http.StatusOK)
}

func (s *Server) showSetup(w http.ResponseWriter, r *http.Request, c *call, p setupPage, status int) {
	link, err := s.deps.Store.Setup(r.Context(), hashToken(p.Token), c.now)
	if err == nil && link.UserID != "" {
		var u User
		u, err = s.deps.Store.User(r.Context(), link.UserID)
		p.Name = u.Name
	}
	switch {
	case err == nil:
		p.First = link.UserID == ""
		s.render(w, c, status, "setup", p)
	case kidoban.KindOf(err) == kidoban.KindNotFound:
		s.refusePage(w, c, http.StatusNotFound, "setup_gone", "setup_gone")
	default:
		s.failPage(w, c, err)
	}
}

// serveSetup uses the link: the token in the form is what authorises, so no
// other site can send it.
func (s *Server) serveSetup(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "setup"
	v, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	p, u, err := s.readSetup(r, c, v)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	if p.Problem == "" {
		u, err = s.deps.Store.RedeemSetup(r.Context(), hashToken(p.Token), c.now, u)
		switch {
		case err == nil:
		case kidoban.KindOf(err) == kidoban.KindConflict:
			p.Problem = "name_taken"
		case kidoban.KindOf(err) == kidoban.KindNotFound:
			s.refusePage(w, c, http.StatusNotFound, "setup_gone", "setup_gone")
			return
		default:
			s.failPage(w, c, err)
			return
		}
	}
	if p.Problem != "" {
		c.event.Outcome, c.event.Code = "refused", p.Problem
		s.showSetup(w, r, c, p, http.StatusOK)
		return
	}
	if err := s.logIn(r.Context(), w, r, c, u, "setup"); err != nil {
		s.failPage(w, c, err)
		return
	}
	http.Redirect(w, r, c.policy.path+"/account", http.StatusSeeOther)
}

func (s *Server) readSetup(r *http.Request, c *call, v url.Values) (setupPage, User, error) {
	p := setupPage{Token: v.Get("token"), Name: loginName(v.Get("name"))}
	link, err := s.deps.Store.Setup(r.Context(), hashToken(p.Token), c.now)
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return p, User{}, nil // RedeemSetup says so
		}
		return p, User{}, err
	}
	if link.UserID == "" && !goodName(p.Name) {
		p.Problem = "bad_name"
		return p, User{}, nil
	}
	if p.Problem = checkPassword(p.Name, v.Get("password")); p.Problem == "" && v.Get("password") != v.Get("again") {
		p.Problem = "password_differs"
	}
	if p.Problem != "" {
		return p, User{}, nil
	}
	hash, err := s.password.hash(r.Context(), s.deps.Rand, v.Get("password"))
	return p, User{ID: newID(s.deps.Rand, "u_"), Name: p.Name, Display: p.Name, PasswordHash: hash, Admin: true, Created: c.now}, err
}
