package authserver

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// loginTicket is the hidden field of a login form. Cookie binds it to the browser
// that asked for the form, so that nobody can log a stranger's browser in to an
// account of his own (login CSRF). Next is a path of this server; it is sealed,
// so a login link cannot lead elsewhere.
type loginTicket struct {
	Next   string `json:"n"`
	Cookie string `json:"c"`
}

const (
	purposeLogin = "login form"
	purposeForm  = "form"
)

// loginPage is what the login page shows.
type loginPage struct {
	Next      string // path to return to
	Why       string // text id: why the person is asked
	Problem   string // text id: what was wrong
	Name      string
	Ticket    string
	Passwords bool
	Passkeys  bool
	Providers []Provider
}

// showLogin shows the login form. The cookie it is bound to is kept when there is
// one, so that forms in two tabs both work.
func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, c *call, p loginPage, status int) {
	s.renderLogin(w, r, c, "login", p, status)
}

func (s *Server) renderLogin(w http.ResponseWriter, r *http.Request, c *call, name string, p loginPage, status int) {
	if p.Next == "" {
		p.Next = c.policy.path + "/account"
	}
	var err error
	if p.Ticket, err = s.loginTicket(w, r, c, p.Next); err != nil {
		s.failPage(w, c, err)
		return
	}
	p.Passwords, p.Providers = !c.policy.Login.DisablePasswords, c.policy.Login.Providers
	p.Passkeys = c.policy.passkeys()
	s.render(w, c, status, name, p)
}

func (s *Server) loginTicket(w http.ResponseWriter, r *http.Request, c *call, next string) (string, error) {
	cookie := c.policy.cookie(r, cookieLogin)
	if len(cookie) != 43 {
		cookie = newToken(s.deps.Rand, "")
		c.policy.setCookie(w, cookieLogin, cookie, 0)
	}
	return s.box.seal(purposeLogin, loginTicket{next, base64Hash(cookie)}, ticketLife)
}

// openLogin reads and checks the hidden field of a login form.
func (s *Server) openLogin(r *http.Request, c *call, v url.Values) (loginTicket, bool) {
	var t loginTicket
	if s.box.open(purposeLogin, v.Get("t"), &t) != nil || base64Hash(c.policy.cookie(r, cookieLogin)) != t.Cookie {
		return loginTicket{}, false
	}
	return t, true
}

func (s *Server) serveLoginPage(w http.ResponseWriter, r *http.Request, c *call) {
	s.showLogin(w, r, c, loginPage{}, http.StatusOK)
}

// serveLogin checks a name and a password. A wrong name, a wrong password and a
// disabled user look the same and take the same time.
func (s *Server) serveLogin(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "login"
	v, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	t, ok := s.openLogin(r, c, v)
	if !ok {
		c.event.Outcome, c.event.Code = "refused", "stale_form"
		s.showLogin(w, r, c, loginPage{Problem: "stale_form"}, http.StatusBadRequest)
		return
	}
	name := loginName(v.Get("name"))
	if len(name) > 256 || len(v.Get("password")) > 512 || c.policy.Login.DisablePasswords {
		name = ""
	}
	u, ok, err := s.checkLogin(r, c, name, v.Get("password"))
	if err != nil {
		if e := asOAuth(err); e.Status == http.StatusTooManyRequests {
			c.event.Outcome, c.event.Code = "refused", "rate_limited"
			s.alert(r.Context(), kidoban.AlertLoginGuessing, limit.PrefixKey(c.addr), kidoban.AlertWords{"network": limit.PrefixKey(c.addr)})
			s.showLogin(w, r, c, loginPage{Next: t.Next, Problem: "too_many"}, http.StatusTooManyRequests)
			return
		}
		s.failPage(w, c, err)
		return
	}
	if !ok {
		c.event.Outcome, c.event.Code = "refused", "wrong_login"
		s.showLogin(w, r, c, loginPage{Next: t.Next, Problem: "wrong_login", Name: printable(name, 64)}, http.StatusOK)
		return
	}
	if err := s.logIn(r.Context(), w, r, c, u, "password"); err != nil {
		s.failPage(w, c, err)
		return
	}
	http.Redirect(w, r, t.Next, http.StatusSeeOther)
}

// checkLogin checks a name and a password within the limits. Failures are charged
// to the address and its network here, and attempts at one name over all replicas
// until the right password clears them. A name is limited whether or not it
// exists, so the limit tells nothing.
func (s *Server) checkLogin(r *http.Request, c *call, name, password string) (User, bool, error) {
	l := c.policy.Limits
	charge := func(cost int) limit.Decision {
		return s.limits.Allow(limit.Ask{Limit: l.LoginPerIP, Key: limit.IPKey(c.addr), Cost: cost}, limit.Ask{Limit: l.LoginPerPrefix, Key: limit.PrefixKey(c.addr), Cost: cost})
	}
	tooMany := &OAuthError{http.StatusTooManyRequests, "temporarily_unavailable", "Too many wrong logins.", nil}
	if d := charge(0); !d.Allowed || d.Remaining < 1 {
		return User{}, false, tooMany
	}
	key, wait, err := s.guess(r.Context(), c, name)
	if err != nil {
		return User{}, false, err
	}
	if wait > 0 {
		return User{}, false, tooMany
	}
	u, err := s.deps.Store.UserByName(r.Context(), name)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return User{}, false, err
	}
	if err != nil || u.Disabled {
		u = User{}
	}
	ok, err := s.password.verify(r.Context(), u.PasswordHash, password)
	switch {
	case err != nil:
		return User{}, false, err
	case !ok:
		charge(1)
		return User{}, false, nil
	}
	return u, true, s.deps.Store.ClearLimit(r.Context(), key)
}

// guess takes one attempt at a name's password, over all replicas. wait is how long
// there are none; the right password clears the key.
func (s *Server) guess(ctx context.Context, c *call, name string) (key string, wait time.Duration, err error) {
	key, per := "login:"+limit.Key(name), c.policy.Limits.LoginPerName
	wait, err = s.deps.Store.TakeLimit(ctx, key, c.now, per.Per/time.Duration(max(per.Count, 1)), per.Burst)
	return key, wait, err
}

// serveLogout ends the session. The form's token keeps others from doing it.
func (s *Server) serveLogout(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "logout"
	_, who, ok := s.ownForm(w, r, c)
	if !ok {
		return
	}
	if err := s.deps.Store.EndSession(r.Context(), who.Hash); err != nil {
		s.failPage(w, c, err)
		return
	}
	c.policy.setCookie(w, cookieSession, "", -1)
	http.Redirect(w, r, c.policy.path+"/login", http.StatusSeeOther)
}

// formToken is the hidden field of every form for people who are logged in.
func (s *Server) formToken(who *visitor) string {
	t, err := s.box.seal(purposeForm, base64.RawURLEncoding.EncodeToString(who.Hash), 12*time.Hour)
	if err != nil {
		panic(err) // a string always marshals
	}
	return t
}

// own finds who is at a page of their own. A nil visitor has been answered: with the
// login page, or with what failed.
func (s *Server) own(w http.ResponseWriter, r *http.Request, c *call, login loginPage) *visitor {
	who, err := s.visitor(r, c)
	if err != nil {
		s.failPage(w, c, err)
		return nil
	}
	if who == nil {
		s.showLogin(w, r, c, login, http.StatusOK)
	}
	return who
}

// ownForm reads a form that only a logged-in person's own page can have sent. It
// answers itself when it is not one.
func (s *Server) ownForm(w http.ResponseWriter, r *http.Request, c *call) (url.Values, *visitor, bool) {
	v, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return nil, nil, false
	}
	who := s.own(w, r, c, loginPage{Next: localPath(c, r)})
	if who == nil {
		return nil, nil, false
	}
	var session string
	if s.box.open(purposeForm, v.Get("t"), &session) != nil || session != base64.RawURLEncoding.EncodeToString(who.Hash) {
		s.refusePage(w, c, http.StatusForbidden, "stale_form", "stale_form")
		return nil, nil, false
	}
	return v, who, true
}

// localPath is where a page that needs a login is found again with GET.
func localPath(c *call, r *http.Request) string {
	switch p := strings.TrimPrefix(r.URL.Path, c.policy.path); p {
	case "/connect":
		if r.Method == http.MethodGet && len(r.URL.RawQuery) < 8<<10 {
			return c.policy.path + p + "?" + r.URL.RawQuery
		}
		return c.policy.path + p
	default:
		return c.policy.path + "/account"
	}
}

// identityUser finds or makes the user of an identity at a provider. A name that
// belongs to somebody else is not taken over: the newcomer gets a name with a
// suffix, and accounts are never joined by an address somebody claims. made tells
// that this is the first login.
func (s *Server) identityUser(ctx context.Context, issuer, subject, name, display string) (u User, made bool, err error) {
	if len(subject) > 512 || len(issuer) > 2048 {
		return User{}, false, kidoban.Errorf(kidoban.KindInput, "the identity provider's subject is too long")
	}
	if name = loginName(name); !goodProviderName(name) {
		name = "user-" + strings.ToLower(base64Hash(issuer + "\x00" + subject)[:12])
	}
	if display == "" || !plainText(display) || len(display) > 200 {
		display = name
	}
	fresh := User{ID: newID(s.deps.Rand, "u_"), Name: name, Display: display, Created: s.deps.Now()}
	u, err = s.deps.Store.UserForIdentity(ctx, issuer, subject, fresh)
	if kidoban.KindOf(err) == kidoban.KindConflict && err != nil {
		fresh.Name = name + "~" + strings.ToLower(base64Hash(issuer + "\x00" + subject)[:8])
		u, err = s.deps.Store.UserForIdentity(ctx, issuer, subject, fresh)
	}
	return u, u.ID == fresh.ID, err
}
