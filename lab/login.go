package lab

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// login shows the login form and takes it.
func (l *Lab) login(w http.ResponseWriter, r *http.Request) {
	if l.loginNext(w, r) {
		return
	}
	switch r.Method {
	case http.MethodGet:
		if t := l.txnOf(w, r); t != nil {
			l.loginPage(w, http.StatusOK, t, "")
		}
	case http.MethodPost:
		if !l.sameOrigin(r) || !isForm(r) {
			l.errorPage(w, http.StatusForbidden, "access_denied", "This form was sent from another page.")
			return
		}
		t := l.txnOf(w, r)
		if t == nil {
			return
		}
		if !same(t.csrf, r.PostFormValue("csrf")) {
			l.errorPage(w, http.StatusForbidden, "access_denied", "This form has expired. Start again from your application.")
			return
		}
		user := l.checkPassword(r.PostFormValue("username"), r.PostFormValue("password"), r.PostFormValue("totp"))
		if l.tooManyTries(r.PostFormValue("username"), user == "") {
			l.loginPage(w, http.StatusTooManyRequests, t, "Too many wrong tries. Wait a minute.")
			return
		}
		if user == "" {
			l.loginPage(w, http.StatusUnauthorized, t, "User, password or code is wrong.")
			return
		}
		l.loggedIn(w, r, t, user)
	default:
		methodNotAllowed(w, "GET, POST")
	}
}

// loggedIn opens a session and goes on; with the login-first profile this is where
// the request is validated at last.
func (l *Lab) loggedIn(w http.ResponseWriter, r *http.Request, t *txn, user string) {
	// A new session id for every login: one that was planted before is worth nothing.
	id := l.random(32)
	l.mu.Lock()
	put(l.st.browsers, id, &browser{user: user, created: l.now(), consents: map[string]bool{}})
	l.mu.Unlock()
	l.setCookie(w, cookieSession, id)
	if t.raw != "" {
		late, f := l.validate(t.raw)
		if f != nil {
			l.refuse(w, r, late, f)
			return
		}
		if l.on("F6-A") {
			late.user = user
			l.finish(w, r, late)
			return
		}
		late.id, late.csrf, late.browser, late.created = t.id, t.csrf, t.browser, t.created
		t = late
		l.mu.Lock()
		l.st.txns[t.id] = t
		l.mu.Unlock()
	}
	t.user, t.stage = user, stageConsent
	l.redirect(w, r, l.asPath+"/continue?"+url.Values{"tx": {t.id}}.Encode())
}

// logout ends the session. It goes nowhere else: a parameter that says where would
// make it a redirector.
func (l *Lab) logout(w http.ResponseWriter, r *http.Request) {
	if l.loginNext(w, r) {
		return
	}
	if r.Method != http.MethodPost || !l.sameOrigin(r) {
		methodNotAllowed(w, "POST")
		return
	}
	l.mu.Lock()
	delete(l.st.browsers, l.cookie(r, cookieSession))
	l.mu.Unlock()
	l.setCookie(w, cookieSession, "")
	l.errorPage(w, http.StatusOK, "logged_out", "You are logged out.")
}

// sameOrigin refuses forms that a browser says come from elsewhere.
func (l *Lab) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == l.base || origin == "null" && r.Header.Get("Sec-Fetch-Site") == "same-origin" || origin == scheme(r)+r.Host && l.hostKnown(r)
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https://"
	}
	return "http://"
}

// checkPassword returns the user when password and, where there is one, the
// second factor are right.
func (l *Lab) checkPassword(user, password, totp string) string {
	for _, a := range l.Accounts {
		if a.User != user || !same(a.Password, password) {
			continue
		}
		if a.TOTP != "" && !l.checkTOTP(a.TOTP, totp) {
			return ""
		}
		return a.User
	}
	return ""
}

// checkTOTP accepts the code of the present half minute and of its neighbours
// (RFC 6238 section 5.2).
func (l *Lab) checkTOTP(secret, given string) bool {
	for d := -1; d <= 1; d++ {
		if same(TOTP(secret, l.now().Add(time.Duration(d)*30*time.Second)), given) {
			return true
		}
	}
	return false
}

// TOTP returns the six-digit code of a base32 secret at a time (RFC 6238, SHA-1,
// 30 seconds); "" for a malformed secret.
func TOTP(secret string, at time.Time) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		return ""
	}
	var msg [8]byte
	binary.BigEndian.PutUint64(msg[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, key)
	mac.Write(msg[:])
	sum := mac.Sum(nil)
	o := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[o:o+4])&0x7fffffff)%1_000_000)
}
