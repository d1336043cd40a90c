package lab

import (
	"crypto/subtle"
	"net/http"
	"net/url"
)

// Cookies of the authorization server. They carry Secure on loopback http as well:
// browsers treat loopback as a secure context.
const (
	cookieFlow    = "lab_flow"     // binds transactions to the browser that started them
	cookieSession = "lab_session"  // the login
	cookieUp      = "lab_upstream" // set after consent, binds the upstream callback
)

// setCookie sets a host-bound cookie; it lives as long as the browser.
func (l *Lab) setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{Name: "__Host-" + name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	l.weakCookie(c, name)
	http.SetCookie(w, c)
}

// cookie reads a cookie set by setCookie.
func (l *Lab) cookie(r *http.Request, name string) string {
	c := &http.Cookie{Name: "__Host-" + name}
	l.weakCookie(c, name)
	got, err := r.Cookie(c.Name)
	if err != nil || len(got.Value) > 200 {
		return ""
	}
	return got.Value
}

// start stores a new transaction, binds it to this browser and goes to its first
// step.
func (l *Lab) start(w http.ResponseWriter, r *http.Request, t *txn) {
	t.id, t.csrf, t.created = l.random(16), l.random(16), l.now()
	t.browser = l.cookie(r, cookieFlow)
	if t.browser == "" {
		t.browser = l.random(16)
	}
	l.setCookie(w, cookieFlow, t.browser)
	l.mu.Lock()
	full := len(l.st.txns) >= maxEntries
	if full {
		l.dropOldTxns()
		full = len(l.st.txns) >= maxEntries
	}
	if !full {
		l.st.txns[t.id] = t
	}
	l.mu.Unlock()
	if full {
		l.errorPage(w, http.StatusServiceUnavailable, "temporarily_unavailable", "Too many people are logging in. Try again in some minutes.")
		return
	}
	l.advance(w, r, t)
}

// dropOldTxns forgets expired transactions. Lab.mu is held.
func (l *Lab) dropOldTxns() {
	for id, t := range l.st.txns {
		if l.now().Sub(t.created) > txnTTL {
			delete(l.st.txns, id)
		}
	}
}

// txnOf finds the live transaction that a request names and that this browser
// started. It answers the request itself when there is none.
func (l *Lab) txnOf(w http.ResponseWriter, r *http.Request) *txn {
	t := l.liveTxn(r.FormValue("tx"))
	if t == nil {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This login has expired. Start again from your application.")
		return nil
	}
	holder := l.cookie(r, cookieFlow)
	if id := r.FormValue("session_id"); id != "" && l.on("E23-c") {
		holder = id
	}
	if !same(t.browser, holder) {
		l.errorPage(w, http.StatusForbidden, "access_denied", "This login was started in another browser. Start again from your application.")
		return nil
	}
	return t
}

// liveTxn finds a transaction that has neither ended nor expired.
func (l *Lab) liveTxn(id string) *txn {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.st.txns[id]
	if t == nil || l.now().Sub(t.created) > txnTTL || t.stage == stageDone {
		return nil
	}
	return t
}

// same compares two secrets; an empty one equals nothing.
func same(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// sessionUser is who is logged in at this browser, or "".
func (l *Lab) sessionUser(r *http.Request) string {
	b := l.browserOf(r)
	if b == nil {
		return ""
	}
	return b.user
}

// browserOf finds the login session of a request, nil without one.
func (l *Lab) browserOf(r *http.Request) *browser {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.browsers[l.cookie(r, cookieSession)]
}

// advance sends the browser to the step its transaction waits for.
func (l *Lab) advance(w http.ResponseWriter, r *http.Request, t *txn) {
	v := url.Values{"tx": {t.id}}
	if l.on("E23-c") {
		v.Set("session_id", t.browser)
	}
	q := "?" + v.Encode()
	switch t.stage {
	case stageLogin:
		if user := l.sessionUser(r); user != "" && t.raw == "" {
			t.user, t.stage = user, stageConsent
			l.advance(w, r, t)
			return
		}
		l.redirect(w, r, l.asPath+"/login"+q)
	case stageConsent:
		if l.consentRemembered(r, t) {
			l.approved(w, r, t)
			return
		}
		if l.on("E01-a") && t.upState == "" {
			l.goUpstream(w, r, t)
			return
		}
		l.redirect(w, r, l.asPath+"/consent"+q)
	default:
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This login waits for another page.")
	}
}

// cont is the step after a login: it brings the browser to the decision.
func (l *Lab) cont(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && !l.on("E28-f") {
		methodNotAllowed(w, "GET")
		return
	}
	if l.skipForFreshBrowser(w, r) {
		return
	}
	t := l.txnOf(w, r)
	if t == nil {
		return
	}
	if t.stage == stageLogin {
		l.redirect(w, r, l.asPath+"/login?"+url.Values{"tx": {t.id}}.Encode())
		return
	}
	l.advance(w, r, t)
}

// approved goes on after a person said yes.
func (l *Lab) approved(w http.ResponseWriter, r *http.Request, t *txn) {
	if l.opt.Upstream && t.user == "" || l.opt.Upstream && t.upState == "" {
		l.goUpstream(w, r, t)
		return
	}
	l.finish(w, r, t)
}

// finish ends a transaction with a code at the client.
func (l *Lab) finish(w http.ResponseWriter, r *http.Request, t *txn) {
	l.mu.Lock()
	t.stage = stageDone
	delete(l.st.txns, t.id)
	l.mu.Unlock()
	params := url.Values{}
	if t.response == "code" || t.response == "" {
		params.Set("code", l.issueCode(t))
	} else {
		l.weakResponse(t, params)
	}
	l.respond(w, r, t, params)
}

// deny ends a transaction without one.
func (l *Lab) deny(w http.ResponseWriter, r *http.Request, t *txn) {
	if l.on("F6-H") {
		l.finish(w, r, t)
		return
	}
	l.mu.Lock()
	t.stage = stageDone
	delete(l.st.txns, t.id)
	l.mu.Unlock()
	if !trusted(t.redirect) {
		l.errorPage(w, http.StatusOK, "access_denied", "You said no. Nothing was given to the application; you can close this page.")
		return
	}
	l.respond(w, r, t, url.Values{"error": {"access_denied"}, "error_description": {"The person said no."}})
}
