package lab

import (
	"html/template"
	"net/http"
	"net/url"
)

// consentSwitches are the flaws of the decision page (F6) and of the web security
// of the pages (E28).
func consentSwitches() []Switch {
	return []Switch{
		{Key: "F6-A", Title: "A valid request gets its code at once: no login, no decision; the person is always alice."},
		{Key: "F6-B", Title: "The decision page does not say where the access goes."},
		{Key: "F6-C", Title: "The decision page names no application and does not say that it is unverified."},
		{Key: "F6-D", Title: "The decision page does not warn of programs on this computer."},
		{Key: "F6-E", Title: "/continue?tx= opened in another browser takes the decision as made."},
		{Key: "F6-F", Title: "The decision page does not say what is allowed."},
		{Key: "F6-G", Title: "A decision for one client counts for every other in the same session."},
		{Key: "F6-H", Title: "Deny sends a code all the same."},
		{Key: "E28-a", Title: "Login and decision page may be framed."},
		{Key: "E28-b", Title: "The decision form has no token against forgery; the browser's cookie is still needed.", Needs: Needs{Upstream: true}},
		{Key: "E28-c", Title: "The decision is taken by GET, and from any browser that knows the transaction."},
		{Key: "E28-d", Title: "Login and decision page may be stored by caches."},
		{Key: "E28-e", Title: "The client's name is written into the decision page as HTML.", Needs: Needs{Upstream: true}},
		{Key: "E28-f", Title: "Forms are answered with 307, which sends the password on."},
		{Key: "E28-g", Title: "Login and decision page send their address along as Referer."},
	}
}

// weakConsent takes things off the page.
func (l *Lab) weakConsent(t *txn, v *consentView) {
	if l.on("F6-B") {
		v.Host, v.Redirect = "", ""
	}
	if l.on("F6-C") {
		v.Client, v.ClientHost, v.Unverified = "", "", false
	}
	if l.on("F6-D") || l.on("E16-m") && t.client.document {
		v.Loopback = false
	}
	if l.on("F6-F") {
		v.Scopes = nil
	}
	if l.on("E28-b") {
		v.CSRF = ""
	}
	if l.any("E14-b", "E14-c") {
		v.Client = t.client.name
	}
	if l.on("E14-a") {
		v.Link = template.URL(t.client.uri)
	}
	if l.on("E28-e") {
		v.Client, v.RawClient = t.client.name, true
	}
	if l.on("F7-14") {
		v.Hidden["redirect_uri"] = t.redirect
	}
	if l.on("E16-l") {
		v.ClientHost = ""
	}
}

// weakPageHeaders takes protections off login and decision pages.
func (l *Lab) weakPageHeaders(h http.Header) {
	if l.on("E28-a") {
		h.Set("Content-Security-Policy", l.pagePolicy(""))
		h.Del("X-Frame-Options")
	}
	if l.on("E28-d") {
		h.Set("Cache-Control", "max-age=3600")
	}
	if l.on("E28-g") {
		h.Del("Referrer-Policy")
	}
}

// weakCookie changes a cookie's name and attributes.
func (l *Lab) weakCookie(c *http.Cookie, name string) {
	if l.on("E02-c") && name == cookieUp {
		c.Name, c.HttpOnly, c.SameSite, c.Secure = name, false, http.SameSiteDefaultMode, false
	}
	if l.on("E29-d") {
		c.Name, c.Secure = name, false
	}
}

// skipForFreshBrowser is F6-E: a browser that did not start the transaction is taken
// for one that has decided already.
func (l *Lab) skipForFreshBrowser(w http.ResponseWriter, r *http.Request) bool {
	if !l.on("F6-E") {
		return false
	}
	t := l.liveTxn(r.FormValue("tx"))
	if t == nil || t.browser == l.cookie(r, cookieFlow) {
		return false
	}
	if user := l.sessionUser(r); user != "" {
		t.user = user
	}
	if t.user == "" {
		l.redirect(w, r, l.asPath+"/login?"+url.Values{"tx": {t.id}}.Encode())
		return true
	}
	l.finish(w, r, t)
	return true
}
