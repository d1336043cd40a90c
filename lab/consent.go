package lab

import (
	"cmp"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// consent asks the person, and takes the answer.
func (l *Lab) consent(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && l.on("E28-c") && r.FormValue("decision") == "approve":
		if t := l.liveTxn(r.FormValue("tx")); t != nil && t.stage == stageConsent {
			l.approved(w, r, t)
			return
		}
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This login has expired.")
	case r.Method == http.MethodGet, l.on("E28-f") && r.FormValue("decision") == "":
		t := l.txnOf(w, r)
		if t == nil {
			return
		}
		if t.stage != stageConsent {
			l.advance(w, r, t)
			return
		}
		l.consentPage(w, t)
	case r.Method == http.MethodPost:
		l.decide(w, r)
	default:
		methodNotAllowed(w, "GET, POST")
	}
}

// decide takes the answer of the decision page: from this origin, from the browser
// that started, with the form's own token, once. Anything but the word approve is a
// no.
func (l *Lab) decide(w http.ResponseWriter, r *http.Request) {
	if !isForm(r) || !l.sameOrigin(r) && !l.on("E28-c") {
		l.errorPage(w, http.StatusForbidden, "access_denied", "This form was sent from another page.")
		return
	}
	var t *txn
	if l.on("E28-c") {
		t = l.liveTxn(r.FormValue("tx"))
	}
	if t == nil {
		if t = l.txnOf(w, r); t == nil {
			return
		}
	}
	if t.stage != stageConsent {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "Nothing is to be decided here.")
		return
	}
	if !l.any("E28-b", "E28-c") && !same(t.csrf, r.PostFormValue("csrf")) {
		l.errorPage(w, http.StatusForbidden, "access_denied", "This form has expired. Start again from your application.")
		return
	}
	if l.on("F7-14") { // the form's own copy of the redirect URI is believed
		if u := r.PostFormValue("redirect_uri"); u != "" {
			t.redirect = u
		}
	}
	if r.PostFormValue("decision") != "approve" {
		l.deny(w, r, t)
		return
	}
	l.rememberConsent(r, t)
	l.approved(w, r, t)
}

// consentView is what the page shows. Every string of it was written by a stranger.
type consentView struct {
	Action, Tx, CSRF string
	Client           string
	ClientHost       string // host of a client document's URL
	Unverified       bool
	Host             string // where the code goes, in large type
	Redirect         string
	Loopback         bool
	Scopes           []string
	User             string
	Hidden           map[string]string // extra hidden fields
	RawClient        bool              // E28-e: write the name as it is
	Link             template.URL      // E14-a: the client's own address
}

// consentPage shows who asks, where the access would go and what it allows. The host
// stands alone and in large type (MCP security considerations, localhost redirect
// URI risks); the full URI, the mark and the loopback warning are beside it.
func (l *Lab) consentPage(w http.ResponseWriter, t *txn) {
	// A redirect URI that is no URL, which only switches let through, is shown whole.
	u, _ := url.Parse(t.redirect)
	host := t.redirect
	if u != nil {
		host = cmp.Or(u.Host, t.redirect)
	}
	v := consentView{
		Action: l.asPath + "/consent", Tx: t.id, CSRF: t.csrf, Client: shown(t.client.name), Unverified: true,
		Host: host, Redirect: t.redirect, Loopback: u != nil && isLoopbackHost(u.Hostname()),
		Scopes: strings.Fields(t.scope), User: t.user, Hidden: map[string]string{},
	}
	if t.client.document {
		if d, err := url.Parse(t.client.id); err == nil {
			v.ClientHost = d.Host
		}
	}
	l.weakConsent(t, &v)
	l.pageHeaders(w)
	l.pages.render(w, http.StatusOK, "consent", v)
}

// shown makes a stranger's name fit for a page: printable, on one line, bounded.
func shown(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || invisible(r) {
			return '\uFFFD'
		}
		return r
	}, name)
	if runes := []rune(clean); len(runes) > 100 {
		clean = string(runes[:100]) + "…"
	}
	if clean == "" {
		return "(an application without a name)"
	}
	return clean
}

// invisible tells whether a rune shows nothing or turns the direction of text.
func invisible(r rune) bool {
	return r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x206f ||
		r == 0xfeff || r == 0x00ad || r == 0x061c || r >= 0xe0000 && r <= 0xe007f || r == 0x2028 || r == 0x2029
}

// scopeText says what a scope allows.
func scopeText(scope string) string {
	switch scope {
	case scopeRead:
		return "read your notes"
	case scopeWrite:
		return "write notes in your name"
	case scopeMail:
		return "send mail in your name"
	case scopeOffline:
		return "stay connected when you are away"
	}
	return "unknown"
}

// consentKey is what a remembered decision hangs on; "" where nothing is
// remembered, which is the safe lab's way.
func (l *Lab) consentKey(t *txn) string {
	switch {
	case l.any("F6-G", "E01-b"):
		return "any client"
	case l.on("E01-c") && t.client.document:
		return t.client.id + " " + t.client.docHash
	case l.on("E16-j") && t.client.document:
		return t.client.id + " " + t.redirect
	}
	return ""
}

// rememberConsent notes a decision under the key of the switches that remember any.
func (l *Lab) rememberConsent(r *http.Request, t *txn) {
	key := l.consentKey(t)
	if key == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.cookie(r, cookieSession)
	if id == "" { // people of the upstream have no session here, only a browser
		id = l.cookie(r, cookieFlow)
	}
	b := l.st.browsers[id]
	if b == nil {
		b = &browser{consents: map[string]bool{}, created: l.now()}
		put(l.st.browsers, id, b)
	}
	b.consents[key] = true
}

// consentRemembered tells whether the page may be left out, which a safe lab never
// does: every client here gave itself its name.
func (l *Lab) consentRemembered(r *http.Request, t *txn) bool {
	if l.on("F1-e") && t.client != nil && !slices.ContainsFunc(t.client.redirects, trusted) {
		return true // a registration with a web address is taken for a known partner
	}
	if t.client != nil && t.client.extra["skip_consent"] == true {
		return true // E18-c
	}
	key := l.consentKey(t)
	if key == "" {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range []string{cookieSession, cookieFlow} {
		if b := l.st.browsers[l.cookie(r, name)]; b != nil && b.consents[key] {
			return true
		}
	}
	return false
}
