package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/kidoban/kidoban"
)

// Cookies are named after the issuer, because a browser tells the servers of one
// host apart by name only, not by port. All carry __Host-: no other host, no
// other path, never without Secure. Browsers keep Secure cookies on plain
// loopback too.
const (
	cookieSession = "session" // a login
	cookieLogin   = "login"   // binds a login form to the browser it was given to
	cookieNote    = "note"    // what the next page says once
	cookieStep    = "step"    // binds a third party's answer to the browser; exists after consent only (PX-09)
)

func (p *policy) cookieName(what string) string {
	h := sha256.Sum256([]byte(p.Issuer))
	return "__Host-kidoban-" + what + "-" + hex.EncodeToString(h[:4])
}

func (p *policy) setCookie(w http.ResponseWriter, what, value string, life time.Duration) {
	k := &http.Cookie{Name: p.cookieName(what), Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if life > 0 {
		k.MaxAge = int(life.Seconds())
	} else if life < 0 {
		k.MaxAge = -1
	}
	http.SetCookie(w, k)
}

func (p *policy) cookie(r *http.Request, what string) string {
	k, err := r.Cookie(p.cookieName(what))
	if err != nil || len(k.Value) > 256 {
		return ""
	}
	return k.Value
}

// visitor is the person behind a request, if there is one.
type visitor struct {
	Session
	User User
}

// visitor finds the login of a request; nil when there is none that holds.
func (s *Server) visitor(r *http.Request, c *call) (*visitor, error) {
	token := c.policy.cookie(r, cookieSession)
	if token == "" {
		return nil, nil
	}
	ses, u, err := s.deps.Store.Session(r.Context(), hashToken(token))
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return nil, nil
		}
		return nil, err
	}
	if !ses.Expires.After(c.now) || !ses.LastSeen.Add(c.policy.Login.SessionIdle).After(c.now) {
		return nil, s.deps.Store.EndSession(r.Context(), ses.Hash)
	}
	// Once a minute is enough to know about idleness.
	if c.now.Sub(ses.LastSeen) > time.Minute {
		if w, err := s.stillIn(r.Context(), c.policy, u.ID, c.now); err != nil {
			if ended := new(OAuthError); errors.As(err, &ended) { // and this login with it
				return nil, nil
			}
			return nil, err
		} else if c.event.Detail == "" {
			c.event.Detail = w.remark
		}
		if err := s.deps.Store.TouchSession(r.Context(), ses.Hash, c.now); err != nil {
			return nil, err
		}
	}
	c.event.UserID = u.ID
	return &visitor{ses, u}, nil
}

// Visitor returns the user that is logged in with the request's cookie, for
// other pages of the gateway. Not found: KindNotFound.
func (s *Server) Visitor(r *http.Request) (User, error) {
	v, err := s.visitor(r, &call{policy: s.policy.Load(), now: s.deps.Now()})
	if err != nil {
		return User{}, err
	}
	if v == nil {
		return User{}, kidoban.Errorf(kidoban.KindNotFound, "nobody is logged in")
	}
	return v.User, nil
}

// AskLogin shows the login form to a browser in which nobody is logged in; it
// leads back to next, a path of the gateway's own pages.
func (s *Server) AskLogin(w http.ResponseWriter, r *http.Request, next string, status int) {
	c := &call{policy: s.policy.Load(), id: requestID(r), addr: s.deps.Address(r), now: s.deps.Now(), langs: preferred(r)}
	h := w.Header()
	if c.id == "" {
		c.id = h.Get("X-Request-Id") // of the page in whose place the form stands
	}
	s.pageHeaders(h)
	h.Set("Referrer-Policy", "same-origin")
	s.language(w, r, c)
	s.showLogin(w, r, c, loginPage{Next: next, Why: "login_to_console"}, status)
	s.record(c)
}

// logIn begins a session under a fresh id, whatever cookie the browser came with
// (no fixation), and ends the one it had.
func (s *Server) logIn(ctx context.Context, w http.ResponseWriter, r *http.Request, c *call, u User, method string) error {
	if old := c.policy.cookie(r, cookieSession); old != "" {
		if err := s.deps.Store.EndSession(ctx, hashToken(old)); err != nil {
			return err
		}
	}
	if method != "oidc" { // a passkey does not bring back whom the provider has let go
		if _, err := s.stillIn(ctx, c.policy, u.ID, c.now); err != nil {
			return err
		}
	}
	token := newToken(s.deps.Rand, "")
	life := c.policy.Login.SessionMax
	err := s.deps.Store.CreateSession(ctx, Session{Hash: hashToken(token), UserID: u.ID, Method: method, Created: c.now, LastSeen: c.now, Expires: c.now.Add(life)})
	if err != nil {
		return err
	}
	c.policy.setCookie(w, cookieSession, token, life)
	c.policy.setCookie(w, cookieLogin, "", -1)
	c.event.UserID = u.ID
	s.present(u.ID, c.addr, c.now)
	return nil
}
