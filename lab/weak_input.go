package lab

import (
	"encoding/base64"
	"net/http"
	"net/url"
)

// inputSwitches are the flaws of requestState (E08) and of URL elicitation (E35).
func inputSwitches() []Switch {
	modern := []string{eraDual, eraModern}
	return []Switch{
		{Key: "E08-a", Title: "The requestState of needs_input is plain JSON and believed: the amount in it is paid.", Eras: modern, Expect: []string{"E08-a", "E08-d"}},
		{Key: "E08-b", Title: "A requestState is good more than once.", Eras: modern},
		{Key: "E08-c", Title: "A requestState works for another call of the same person.", Eras: modern},
		{Key: "E08-d", Title: "The requestState is plain JSON; it is compared with the server's copy, so changing it is useless.", Eras: modern},
		{Key: "E08-e", Title: "A requestState works for another person.", Eras: modern},
		{Key: "E35-a", Title: "connect_account hands out the address of a third party's authorization endpoint."},
		{Key: "E35-b", Title: "The address that connect_account hands out logs its opener in as the person."},
		{Key: "E35-c", Title: "Whoever opens the address of connect_account connects an account for the person."},
	}
}

// weakSeal makes a requestState that can be read.
func (l *Lab) weakSeal(plain []byte) (string, bool) {
	if !l.any("E08-a", "E08-d") {
		return "", false
	}
	raw := base64.RawURLEncoding.EncodeToString(plain)
	l.mu.Lock()
	defer l.mu.Unlock()
	put(l.st.used, "sealed "+raw, true)
	return raw, true
}

// weakOpen reads a requestState of weakSeal.
func (l *Lab) weakOpen(plain []byte) ([]byte, bool) {
	if l.on("E08-a") {
		return plain, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return plain, l.on("E08-d") && l.st.used["sealed "+base64.RawURLEncoding.EncodeToString(plain)]
}

// connectURL is the address of the connect page for a handle.
func (l *Lab) connectURL(handle, user string) string {
	q := url.Values{"h": {handle}}
	switch {
	case l.on("E35-a"):
		return "https://auth.lab-stranger.invalid/oauth/authorize?" + url.Values{
			"response_type": {"code"}, "client_id": {"lab"}, "redirect_uri": {l.base + "/connect"}, "scope": {"repo"}, "state": {handle},
		}.Encode()
	case l.on("E35-b"):
		id := l.random(32)
		l.mu.Lock()
		put(l.st.browsers, id, &browser{user: user, created: l.now(), consents: map[string]bool{}})
		l.mu.Unlock()
		q.Set("token", id)
	}
	return l.base + "/connect?" + q.Encode()
}

// connector is the person at the connect page.
func (l *Lab) connector(r *http.Request) string {
	if id := r.FormValue("token"); id != "" && l.on("E35-b") {
		l.mu.Lock()
		defer l.mu.Unlock()
		if b := l.st.browsers[id]; b != nil {
			return b.user
		}
	}
	return l.sessionUser(r)
}

// mayConnect lets only the person through whom the elicitation was made for. It
// answers the request itself for everybody else.
func (l *Lab) mayConnect(w http.ResponseWriter, k *link, user string) bool {
	if user != k.user && !l.on("E35-c") {
		l.errorPage(w, http.StatusForbidden, "access_denied", "Log in as the person who asked for this connection, then open the address again.")
		return false
	}
	return true
}
