package authserver

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// accountPage is a person's own page: what may act for them, and how to end it
// (G-CO6).
type accountPage struct {
	User     User
	Grants   []grantView
	Accounts []UpstreamAccount
	Passkeys []Passkey
	CanAdd   bool // passkeys work here
	Password bool
	Form     string
	Problem  string
	Notice   *notice
	ID       func([]byte) string
	Console  string
}

type grantView struct {
	Grant
	Name     string
	Kind     string
	Resource string
	Texts    []string
	Left     []string // servers that it does not cover
}

func (s *Server) serveAccount(w http.ResponseWriter, r *http.Request, c *call) {
	who := s.own(w, r, c, loginPage{})
	if who == nil {
		return
	}
	s.showAccount(w, r, c, who, "")
}

func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, c *call, who *visitor, problem string) {
	p := accountPage{User: who.User, Form: s.formToken(who), Problem: problem, Console: s.deps.Console, CanAdd: c.policy.passkeys(), Password: who.User.PasswordHash != "",
		ID: base64.RawURLEncoding.EncodeToString}
	grants, err := s.deps.Store.UserGrants(r.Context(), who.User.ID, c.now)
	if err == nil {
		p.Passkeys, err = s.deps.Store.Passkeys(r.Context(), who.User.ID)
	}
	if err == nil && s.deps.Upstream != nil {
		p.Accounts, err = s.deps.Upstream.Accounts(r.Context(), who.User.ID, "")
	}
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	p.Notice = s.remarked(w, r, c, who, p.Accounts)
	for _, g := range grants {
		p.Grants = append(p.Grants, s.viewGrant(r.Context(), c, g))
	}
	s.render(w, c, http.StatusOK, "account", p)
}

func (s *Server) viewGrant(ctx context.Context, c *call, g Grant) grantView {
	v := grantView{Grant: g, Name: g.ClientID, Resource: g.Resource}
	if row, err := s.deps.Store.Client(ctx, g.ClientID); err == nil {
		v.Kind = row.Kind
		if cl, err := loadClient(row); err == nil && cl.meta.ClientName != "" {
			v.Name = cl.meta.In("client_name", c.langs...)
		}
	}
	if res := c.policy.resources[g.Resource]; res != nil {
		v.Resource = res.nameIn(c.langs[0])
	}
	v.Left = left(s.covers(g.Resource), g.Covers)
	for _, sc := range g.Scopes {
		v.Texts = append(v.Texts, c.policy.scopeText(sc, c.langs[0]))
	}
	return v
}

// serveAccountChange does what a button of the page says.
func (s *Server) serveAccountChange(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "account"
	v, who, ok := s.ownForm(w, r, c)
	if !ok {
		return
	}
	action, arg, _ := strings.Cut(v.Get("do"), ":")
	c.event.Code = printable(action, 32)
	done, problem, err := s.changeAccount(r.Context(), c, who, action, arg, v)
	switch {
	case kidoban.KindOf(err) == kidoban.KindNotFound && err != nil:
		s.showAccount(w, r, c, who, "already_gone")
	case err != nil:
		s.failPage(w, c, err)
	case problem != "":
		s.showAccount(w, r, c, who, problem)
	default:
		if err := s.remark(w, c, who, note{Did: done}); err != nil {
			s.failPage(w, c, err)
			return
		}
		http.Redirect(w, r, c.policy.path+"/account", http.StatusSeeOther)
	}
}

func (s *Server) changeAccount(ctx context.Context, c *call, who *visitor, action, arg string, v url.Values) (done, problem string, err error) {
	switch action {
	case "revoke":
		g, err := s.deps.Store.Grant(ctx, arg)
		if err == nil && g.UserID != who.User.ID {
			err = kidoban.Errorf(kidoban.KindNotFound, "there is no such grant")
		}
		if err == nil {
			c.event.GrantID, c.event.ClientID = g.ID, g.ClientID
			err = s.RevokeGrant(ctx, g.ID, "revoked by the user")
		}
		if err == nil {
			err = s.letGo(ctx, who.User.ID)
		}
		return "revoked", "", err
	case "revoke_all":
		return "revoked", "", s.RevokeUser(ctx, who.User.ID, "revoked by the user")
	case "disconnect":
		if s.deps.Upstream == nil {
			return "", "already_gone", nil
		}
		return "removed", "", s.deps.Upstream.Disconnect(ctx, who.User.ID, arg)
	case "remove_passkey":
		id, err := base64.RawURLEncoding.DecodeString(arg)
		if err == nil {
			err = s.deps.Store.DeletePasskey(ctx, who.User.ID, id)
		}
		return "removed", "", err
	case "sessions":
		return "removed", "", s.deps.Store.EndSessions(ctx, who.User.ID)
	case "password":
		problem, err := s.changePassword(ctx, c, who, v)
		return "changed", problem, err
	}
	return "", "stale_form", nil
}

func (s *Server) changePassword(ctx context.Context, c *call, who *visitor, v url.Values) (problem string, err error) {
	// The old password is asked for: a browser left open is not its owner, and whoever
	// sits before it has as few guesses as at the login.
	if who.User.PasswordHash != "" {
		key, wait, err := s.guess(ctx, c, who.User.Name)
		if err != nil || wait > 0 {
			return "too_many", err
		}
		ok, err := s.password.verify(ctx, who.User.PasswordHash, v.Get("old"))
		if err == nil && ok {
			err = s.deps.Store.ClearLimit(ctx, key)
		}
		if err != nil || !ok {
			return "wrong_password", err
		}
	}
	if problem = checkPassword(who.User.Name, v.Get("password")); problem == "" && v.Get("password") != v.Get("again") {
		problem = "password_differs"
	}
	if problem != "" {
		return problem, nil
	}
	hash, err := s.password.hash(ctx, s.deps.Rand, v.Get("password"))
	if err != nil {
		return "", err
	}
	return "", s.deps.Store.SetPassword(ctx, who.User.ID, hash, who.Hash)
}

// RevokeGrant ends a grant: at once here, within [FollowInterval] on every
// replica. Not found: KindNotFound.
func (s *Server) RevokeGrant(ctx context.Context, id, reason string) error {
	if err := s.deps.Store.RevokeGrant(ctx, id, reason, s.deps.Now()); err != nil {
		return err
	}
	s.live.kill("g:" + id)
	return nil
}

// RevokeUser ends all grants of a user, codes that wait to be redeemed, and the
// accounts that served them.
func (s *Server) RevokeUser(ctx context.Context, userID, reason string) error {
	_, err := s.deps.Store.RevokeUserGrants(ctx, userID, reason, s.deps.Now())
	if err == nil {
		err = s.live.follow(ctx)
	}
	return errors.Join(err, s.letGo(ctx, userID))
}

// letGo disconnects the accounts at third parties that no grant of the user needs
// any more, so that taking access back reaches the third party too (G-CO6).
func (s *Server) letGo(ctx context.Context, userID string) error {
	if s.deps.Upstream == nil {
		return nil
	}
	grants, err := s.deps.Store.UserGrants(ctx, userID, s.deps.Now())
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, g := range grants {
		accounts, err := s.deps.Upstream.Accounts(ctx, userID, g.Resource)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			needed[a.ID] = true
		}
	}
	all, err := s.deps.Upstream.Accounts(ctx, userID, "")
	for _, a := range all {
		if !a.Since.IsZero() && !needed[a.ID] { // one that has ended, too
			err = errors.Join(err, s.deps.Upstream.Disconnect(ctx, userID, a.ID))
		}
	}
	return err
}

// ago says a duration in a person's words.
func ago(lang string, d time.Duration) string {
	unit, n := "minutes", int(d.Minutes())
	switch {
	case d >= 48*time.Hour:
		unit, n = "days", int(d.Hours()/24)
	case d >= 2*time.Hour:
		unit, n = "hours", int(d.Hours())
	case n < 1:
		return textf(lang, "ago_now")
	}
	return counted(lang, "ago_"+unit, n)
}
