package authserver

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// UpstreamAccount is an account of a user at a third party.
type UpstreamAccount struct {
	ID        string // of the upstream server: [a-z0-9-]
	Name      string // for people
	Host      string // where the person will be sent
	Scopes    []string
	Connected bool      // and of use; false for one that its issuer has ended
	Since     time.Time // when it was connected; zero when nothing is held
}

// Upstream is the part of the gateway that holds users' accounts at third
// parties. This server keeps the browser's part: consent first, then state, PKCE
// and the transaction cookie; Upstream builds the request and keeps the tokens
// (PX-01…PX-10, G-VA2, G-VA3).
type Upstream interface {
	// Accounts lists the accounts that resource needs for the user, connected or
	// not; with an empty resource, all that the user could connect.
	Accounts(ctx context.Context, userID, resource string) ([]UpstreamAccount, error)
	// Begin returns the authorization URL at the third party for a state, an S256
	// challenge and our callback, and a memo of whom it asked, which is kept with
	// the state.
	Begin(ctx context.Context, userID, account, state, challenge, callback string) (to, memo string, err error)
	// Finish takes the memo of Begin, the callback's parameters and the verifier,
	// exchanges the code and stores the tokens. The state has been checked.
	Finish(ctx context.Context, userID, account, memo string, params url.Values, verifier, callback string) error
	// Disconnect forgets the account and ends its tokens at the third party.
	Disconnect(ctx context.Context, userID, account string) error
	// LoginEnded tells whether servers of the resource are used in the user's name by
	// a login at an identity provider that has ended: it must be repeated there.
	LoginEnded(ctx context.Context, userID, resource string) (bool, error)
}

// connectTicket says what the connect page is for. For is the user it was made
// for: nobody else may use the page (G-VA3, E35).
type connectTicket struct {
	For      string       `json:"u"`
	Resource string       `json:"r"`
	Resume   *resumeGrant `json:"g,omitempty"`
}

// resumeGrant is an approved authorization that waits for accounts. It is sealed
// and bound to the login that approved it.
type resumeGrant struct {
	Values      string    `json:"v"`
	Asked       time.Time `json:"a"`
	Session     string    `json:"s"`
	Fingerprint string    `json:"f"`
	Approval    approval  `json:"y"`
}

// step is one connection under way, kept in the store until the callback.
type step struct {
	UserID   string `json:"u"`
	Account  string `json:"a"`
	Verifier string `json:"v"`
	Ticket   string `json:"t"`
	Memo     string `json:"m,omitempty"` // of Upstream
}

const (
	purposeConnect = "connect page"
	purposeStep    = "upstream step"
	stepLife       = 10 * time.Minute
)

// connectPage is what the connect page shows.
type connectPage struct {
	Accounts []UpstreamAccount
	Missing  int
	Resource string
	Ticket   string
	Form     string
	Resume   bool
	User     string
	Notice   *notice
}

// ConnectURL returns the page on which one user, and nobody else, connects the
// accounts that a resource needs: for URL elicitations. It works for an hour and
// is no login.
func (s *Server) ConnectURL(userID, resource string) (string, error) {
	t, err := s.box.seal(purposeConnect, connectTicket{For: userID, Resource: resource}, time.Hour)
	return s.policy.Load().url("/connect?c=" + t), err
}

func (s *Server) missing(ctx context.Context, userID, resource string) ([]UpstreamAccount, error) {
	all, err := s.deps.Upstream.Accounts(ctx, userID, resource)
	return slices.DeleteFunc(all, func(a UpstreamAccount) bool { return a.Connected }), err
}

// askToConnect shows the connect page after consent. Only here, after the yes,
// does a ticket exist that leads to a third party (PX-09).
func (s *Server) askToConnect(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, who *visitor, a approval) {
	t, err := s.box.seal(purposeConnect, connectTicket{who.User.ID, req.resource.URI, &resumeGrant{
		req.values.Encode(), req.asked, base64Hash(string(who.Hash)), req.client.Fingerprint, a}}, ticketLife)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	http.Redirect(w, r, c.policy.path+"/connect?c="+t, http.StatusSeeOther)
}

// serveConnect shows which accounts are missing. Without a ticket it is the
// user's own page of all accounts.
func (s *Server) serveConnect(w http.ResponseWriter, r *http.Request, c *call) {
	who, t, ok := s.connectVisitor(w, r, c, r.URL.Query().Get("c"))
	if !ok {
		return
	}
	if t.Resume == nil {
		ended, err := s.deps.Upstream.LoginEnded(r.Context(), who.User.ID, t.Resource)
		if err != nil {
			s.failPage(w, c, err)
			return
		}
		if ended {
			s.showLogin(w, r, c, loginPage{Next: localPath(c, r), Why: "login_ended"}, http.StatusOK)
			return
		}
	}
	s.showConnect(w, r, c, who, t, r.URL.Query().Get("c"))
}

// connectVisitor finds who is at a connect page and refuses everybody but the
// user it was made for.
func (s *Server) connectVisitor(w http.ResponseWriter, r *http.Request, c *call, sealed string) (*visitor, connectTicket, bool) {
	var t connectTicket
	who, err := s.visitor(r, c)
	switch {
	case err != nil:
		s.failPage(w, c, err)
	case s.deps.Upstream == nil:
		s.refusePage(w, c, http.StatusNotFound, "nothing_to_connect", "nothing_to_connect")
	case who == nil:
		s.showLogin(w, r, c, loginPage{Next: localPath(c, r), Why: "login_to_connect"}, http.StatusOK)
	case sealed != "" && s.box.open(purposeConnect, sealed, &t) != nil:
		s.refusePage(w, c, http.StatusBadRequest, "stale_form", "stale_form")
	case sealed != "" && t.For != who.User.ID:
		c.event.Name, c.event.Outcome, c.event.Code = "connect", "refused", "other_user"
		s.alert(r.Context(), kidoban.AlertConnectOtherUser, t.For, nil)
		s.refusePage(w, c, http.StatusForbidden, "other_user", "other_user")
	default:
		return who, t, true
	}
	return nil, t, false
}

func (s *Server) showConnect(w http.ResponseWriter, r *http.Request, c *call, who *visitor, t connectTicket, sealed string) {
	accounts, err := s.deps.Upstream.Accounts(r.Context(), who.User.ID, t.Resource)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	p := connectPage{Accounts: accounts, Ticket: sealed, Form: s.formToken(who), Resume: t.Resume != nil, User: who.User.Name,
		Notice: s.remarked(w, r, c, who, accounts)}
	if res := c.policy.resources[t.Resource]; res != nil {
		p.Resource = res.nameIn(c.langs[0])
	}
	for _, a := range accounts {
		if !a.Connected {
			p.Missing++
		}
	}
	s.render(w, c, http.StatusOK, "connect", p)
}

// serveConnectStart sends the browser to a third party: state and verifier are
// made now, and the cookie that must come back with the answer is set now.
func (s *Server) serveConnectStart(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "connect"
	v, who, ok := s.ownForm(w, r, c)
	if !ok {
		return
	}
	if _, _, ok := s.connectVisitor(w, r, c, v.Get("c")); !ok {
		return
	}
	err := s.take(w, limit.Ask{Limit: c.policy.Limits.ConnectPerUser, Key: limit.Key(who.User.ID), Cost: 1})
	var to string
	if err == nil {
		to, err = s.beginStep(w, r, c, who, v.Get("account"), v.Get("c"))
	}
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	c.event.Code = "to_upstream"
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *Server) beginStep(w http.ResponseWriter, r *http.Request, c *call, who *visitor, account, ticket string) (string, error) {
	state, browser := newToken(s.deps.Rand, ""), newToken(s.deps.Rand, "")
	st := step{UserID: who.User.ID, Account: account, Verifier: oauth.NewVerifier(s.deps.Rand), Ticket: ticket}
	to, memo, err := s.deps.Upstream.Begin(r.Context(), who.User.ID, account, state, oauth.S256(st.Verifier), c.policy.url("/connect/callback"))
	if err != nil {
		return "", err
	}
	st.Memo = memo
	data, err := s.box.seal(purposeStep, st, stepLife)
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(to); err != nil || u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackName(u.Hostname())) {
		return "", kidoban.Errorf(kidoban.KindRefused, "the third party's authorization URL is not an https URL")
	}
	err = s.deps.Store.CreateTransaction(r.Context(), Transaction{Hash: hashToken(state), Browser: hashToken(browser), Data: []byte(data), Expires: c.now.Add(stepLife)})
	c.policy.setCookie(w, stepCookie(state), browser, stepLife)
	return to, err
}

// stepCookie has the state's hash in its name, so that steps in two tabs live
// side by side.
func stepCookie(state string) string { return cookieStep + "-" + base64Hash(state)[:8] }

// serveConnectCallback is the third party's way back. Only the browser that began
// the step may end it, once, within ten minutes, and only as the same user
// (G-CO4, E02, PX-08).
func (s *Server) serveConnectCallback(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "connect_callback"
	q, err := form(r)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	state := q.Get("state")
	name := stepCookie(state)
	tx, err := s.deps.Store.UseTransaction(r.Context(), hashToken(state), hashToken(c.policy.cookie(r, name)), c.now)
	if err != nil {
		s.refuseCallback(w, r, c, err)
		return
	}
	c.policy.setCookie(w, name, "", -1)
	var st step
	who, err := s.visitor(r, c)
	if err == nil {
		err = s.box.open(purposeStep, string(tx.Data), &st)
	}
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	if who == nil || who.User.ID != st.UserID || s.deps.Upstream == nil {
		s.refuseCallback(w, r, c, kidoban.Errorf(kidoban.KindRefused, "the login is another one than when the step began"))
		return
	}
	var t connectTicket
	if st.Ticket != "" && s.box.open(purposeConnect, st.Ticket, &t) != nil {
		t, st.Ticket = connectTicket{}, ""
	}
	if err := s.deps.Upstream.Finish(r.Context(), st.UserID, st.Account, st.Memo, q, st.Verifier, c.policy.url("/connect/callback")); err != nil {
		c.event.Outcome, c.event.Code, c.event.Detail = "failed", "upstream", err.Error()
		n := note{"failed", st.Account, c.id}
		if q.Get("error") == "access_denied" {
			n = note{Did: "no", Account: st.Account}
		}
		s.afterStep(w, r, c, who, t, st, n)
		return
	}
	s.afterStep(w, r, c, who, t, st, note{Did: "ok", Account: st.Account})
}

// afterStep goes on by itself when nothing is missing any more; otherwise it leads
// back to the page, which says what became of the step. It always leads away from the
// callback's address, which is good for one time only.
func (s *Server) afterStep(w http.ResponseWriter, r *http.Request, c *call, who *visitor, t connectTicket, st step, n note) {
	if t.Resume != nil && n.Did == "ok" {
		missing, err := s.missing(r.Context(), who.User.ID, t.Resource)
		if err != nil {
			s.failPage(w, c, err)
			return
		}
		if len(missing) == 0 {
			s.finish(w, r, c, who, t)
			return
		}
	}
	if err := s.remark(w, c, who, n); err != nil {
		s.failPage(w, c, err)
		return
	}
	to := c.policy.path + "/connect"
	if st.Ticket != "" {
		to += "?c=" + st.Ticket
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *Server) refuseCallback(w http.ResponseWriter, r *http.Request, c *call, err error) {
	c.event.Outcome, c.event.Code, c.event.Detail = "refused", "session_mismatch", err.Error()
	switch kidoban.KindOf(err) {
	case kidoban.KindRefused:
		s.alert(r.Context(), kidoban.AlertCallbackElsewhere, c.addr.String(), nil)
		s.refusePage(w, c, http.StatusForbidden, "session_mismatch", "other_browser")
	case kidoban.KindNotFound:
		s.refusePage(w, c, http.StatusBadRequest, "session_mismatch", "stale_form")
	default:
		s.failPage(w, c, err)
	}
}

// serveFinish goes on without the accounts that are still missing: a person may
// connect them later.
func (s *Server) serveFinish(w http.ResponseWriter, r *http.Request, c *call) {
	v, who, ok := s.ownForm(w, r, c)
	if !ok {
		return
	}
	var t connectTicket
	if err := s.box.open(purposeConnect, v.Get("c"), &t); err != nil || t.Resume == nil || t.For != who.User.ID {
		s.refusePage(w, c, http.StatusBadRequest, "stale_form", "stale_form")
		return
	}
	s.finish(w, r, c, who, t)
}

// finish delivers the code of an approved authorization after its accounts. All
// checks are made again: minutes have passed.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, c *call, who *visitor, t connectTicket) {
	c.event.Name = "consent"
	g := t.Resume
	values, err := url.ParseQuery(g.Values)
	if err != nil {
		s.failPage(w, c, err)
		return
	}
	req, err := s.checkAuthorize(r.Context(), c, values)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	req.asked = g.Asked
	if base64Hash(string(who.Hash)) != g.Session || req.client.Fingerprint != g.Fingerprint || !oauth.IsSubset(g.Approval.Scopes, req.scopes) {
		s.showConsent(w, r, c, req, who, "changed")
		return
	}
	s.deliver(w, r, c, req, who, g.Approval)
}
