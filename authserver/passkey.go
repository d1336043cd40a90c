package authserver

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// Passkeys are the one place where a page needs a script: browsers offer them no
// other way. The challenge travels sealed in the form and is spent once.

const (
	purposePasskey = "passkey challenge"
	passkeyLife    = 5 * time.Minute
)

// passkeys tells whether passkeys work here: browsers bind them to a name, so
// not on an IP address.
func (p *policy) passkeys() bool {
	_, err := netip.ParseAddr(p.base.Hostname())
	return err != nil
}

func (s *Server) webauthn(p *policy) (*webauthn.WebAuthn, error) {
	return webauthn.New(&webauthn.Config{RPID: p.base.Hostname(), RPDisplayName: p.Name, RPOrigins: []string{p.origin}})
}

// passkeyUser is a user as the library wants it. The handle is the user id, which
// says nothing about the person.
type passkeyUser struct {
	User
	keys []webauthn.Credential
}

func (u passkeyUser) WebAuthnID() []byte                         { return []byte(u.ID) }
func (u passkeyUser) WebAuthnName() string                       { return u.Name }
func (u passkeyUser) WebAuthnDisplayName() string                { return u.Display }
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.keys }

func (s *Server) passkeyUser(ctx context.Context, u User) (passkeyUser, error) {
	out := passkeyUser{User: u}
	stored, err := s.deps.Store.Passkeys(ctx, u.ID)
	if err != nil {
		return out, err
	}
	for _, p := range stored {
		var c webauthn.Credential
		if err := json.Unmarshal(p.Data, &c); err != nil {
			return out, kidoban.Wrap(kidoban.KindInternal, err, "a stored passkey is damaged: remove it and add it again")
		}
		out.keys = append(out.keys, c)
	}
	return out, nil
}

// challenge is the state of one ceremony, sealed in its form.
type challenge struct {
	Session webauthn.SessionData `json:"s"`
	Login   loginTicket          `json:"l"` // for logins: the form it began with
}

// servePasskeyPage begins a login by passkey. It comes from the login page's link
// with the sealed ticket of that form.
func (s *Server) servePasskeyPage(w http.ResponseWriter, r *http.Request, c *call) {
	v, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	t, ok := s.openLogin(r, c, v)
	if !ok || !c.policy.passkeys() {
		s.showLogin(w, r, c, loginPage{Problem: "stale_form"}, http.StatusBadRequest)
		return
	}
	s.showPasskey(w, r, c, t, "")
}

func (s *Server) showPasskey(w http.ResponseWriter, r *http.Request, c *call, t loginTicket, problem string) {
	wa, err := s.webauthn(c.policy)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	options, session, err := wa.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	s.renderPasskey(w, c, "passkey_login", options, challenge{*session, t}, passkeyPage{Problem: problem, Next: t.Next})
}

// passkeyPage is a page with a ceremony.
type passkeyPage struct {
	Ticket  string
	Options template.JS // JSON in a script element of type application/json
	Problem string
	Next    string
	Form    string
	User    string
}

func (s *Server) renderPasskey(w http.ResponseWriter, c *call, name string, options any, ch challenge, p passkeyPage) {
	body, err := json.Marshal(options) // escapes <, > and &
	if err == nil {
		p.Ticket, err = s.box.seal(purposePasskey, ch, passkeyLife)
	}
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	p.Options = template.JS(body)
	w.Header().Set("Content-Security-Policy", strings.Replace(w.Header().Get("Content-Security-Policy"), "default-src 'none'", "default-src 'none'; script-src 'self'", 1))
	s.render(w, c, http.StatusOK, name, p)
}

// servePasskeyLogin ends a login by passkey.
func (s *Server) servePasskeyLogin(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "login"
	v, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	d := s.limits.Allow(limit.Ask{Limit: c.policy.Limits.LoginPerIP, Key: limit.IPKey(c.addr), Cost: 1})
	var ch challenge
	if !d.Allowed || s.box.open(purposePasskey, v.Get("t"), &ch) != nil || ch.Login.Cookie != base64Hash(c.policy.cookie(r, cookieLogin)) {
		c.event.Outcome, c.event.Code = "refused", "stale_form"
		s.showLogin(w, r, c, loginPage{Problem: "stale_form"}, http.StatusBadRequest)
		return
	}
	u, err := s.finishPasskey(r.Context(), c, ch, v.Get("credential"))
	if err != nil {
		c.event.Outcome, c.event.Code, c.event.Detail = "refused", "wrong_passkey", err.Error()
		s.showLogin(w, r, c, loginPage{Next: ch.Login.Next, Problem: "wrong_passkey"}, http.StatusOK)
		return
	}
	if err := s.logIn(r.Context(), w, r, c, u, "passkey"); err != nil {
		s.failPage(w, c, err)
		return
	}
	http.Redirect(w, r, ch.Login.Next, http.StatusSeeOther)
}

func (s *Server) finishPasskey(ctx context.Context, c *call, ch challenge, credential string) (User, error) {
	if err := s.spendChallenge(ctx, c, ch); err != nil {
		return User{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(credential))
	if err != nil {
		return User{}, err
	}
	wa, err := s.webauthn(c.policy)
	if err != nil {
		return User{}, err
	}
	var found passkeyUser
	key, err := wa.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
		u, err := s.deps.Store.User(ctx, string(handle))
		if err != nil {
			return nil, err
		}
		if u.Disabled {
			return nil, kidoban.Errorf(kidoban.KindRefused, "the user is switched off")
		}
		found, err = s.passkeyUser(ctx, u)
		return found, err
	}, ch.Session, parsed)
	if err != nil {
		return User{}, err
	}
	if key.Authenticator.CloneWarning {
		s.alert(ctx, kidoban.AlertClonedPasskey, found.ID, nil)
		return User{}, kidoban.Errorf(kidoban.KindRefused, "the passkey's counter went backwards")
	}
	data, err := json.Marshal(key)
	if err != nil {
		return User{}, err
	}
	return found.User, s.deps.Store.UpdatePasskey(ctx, Passkey{ID: key.ID, UserID: found.ID, Data: data, LastUsed: c.now})
}

func (s *Server) spendChallenge(ctx context.Context, c *call, ch challenge) error {
	fresh, err := s.deps.Store.UseOnce(ctx, "passkey:"+base64Hash(ch.Session.Challenge), c.now, c.now.Add(2*passkeyLife))
	if err == nil && !fresh {
		err = kidoban.Errorf(kidoban.KindRefused, "the challenge was used before")
	}
	return err
}

// serveAddPasskeyPage begins the registration of a passkey.
func (s *Server) serveAddPasskeyPage(w http.ResponseWriter, r *http.Request, c *call) {
	who := s.own(w, r, c, loginPage{})
	if who == nil {
		return
	}
	wa, err := s.webauthn(c.policy)
	if err != nil || !c.policy.passkeys() {
		s.refusePage(w, c, http.StatusNotFound, "no_passkeys", "no_passkeys")
		return
	}
	u, err := s.passkeyUser(r.Context(), who.User)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	options, session, err := wa.BeginRegistration(u, webauthn.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired),
		webauthn.WithExclusions(webauthn.Credentials(u.keys).CredentialDescriptors()))
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	s.renderPasskey(w, c, "passkey_add", options, challenge{Session: *session}, passkeyPage{Form: s.formToken(who), User: who.User.Name})
}

// serveAddPasskey ends the registration of a passkey.
func (s *Server) serveAddPasskey(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "add_passkey"
	v, who, ok := s.ownForm(w, r, c)
	if !ok {
		return
	}
	err := func() error {
		var ch challenge
		if err := s.box.open(purposePasskey, v.Get("challenge"), &ch); err != nil {
			return err
		}
		if err := s.spendChallenge(r.Context(), c, ch); err != nil {
			return err
		}
		parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(v.Get("credential")))
		if err != nil {
			return err
		}
		wa, err := s.webauthn(c.policy)
		if err != nil {
			return err
		}
		u, err := s.passkeyUser(r.Context(), who.User)
		if err != nil {
			return err
		}
		key, err := wa.CreateCredential(u, ch.Session, parsed)
		if err != nil {
			return err
		}
		data, err := json.Marshal(key)
		if err != nil {
			return err
		}
		label := strings.TrimSpace(v.Get("label"))
		if label == "" || !plainText(label) || len(label) > 60 {
			label = c.now.Format("2006-01-02 15:04")
		}
		return s.deps.Store.AddPasskey(r.Context(), Passkey{ID: key.ID, UserID: who.User.ID, Label: label, Data: data, Created: c.now})
	}()
	if err != nil {
		c.event.Outcome, c.event.Detail = "refused", err.Error()
		s.refusePage(w, c, http.StatusBadRequest, "wrong_passkey", "wrong_passkey")
		return
	}
	http.Redirect(w, r, c.policy.path+"/account", http.StatusSeeOther)
}
