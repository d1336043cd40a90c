package console

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
)

const (
	// maxForm bounds a form's body in bytes.
	maxForm = 32 << 10
	// freshLogin is how old a login may be for what widens access.
	freshLogin = 15 * time.Minute
	// maxShown bounds what an audit record repeats of a form.
	maxShown = 200
)

// servePost does what a button says, and then leads to the page that shows it.
// Whose form it is was decided by the cookie; that it is our form is decided by
// what the browser says, the content type and the token (CSRF).
func (v *visit) servePost() {
	s := v.s
	if !s.deps.Auth.SameSite(v.r) {
		v.record("refused", "cross_site", "")
		v.refuse(http.StatusForbidden, "foreign_form")
		return
	}
	form, err := readForm(v.r)
	if err != nil {
		v.fail(err)
		return
	}
	if !s.deps.Auth.OwnForm(v.guest, form.Get("t")) {
		v.record("refused", "form_token", "")
		v.refuse(http.StatusForbidden, "stale_form")
		return
	}
	v.form = form
	name, arg, _ := strings.Cut(form.Get("do"), ":")
	a, ok := v.route.acts[name]
	if !ok {
		v.refuse(http.StatusBadRequest, "stale_form")
		return
	}
	if a.wide && v.now.Sub(v.guest.LoggedIn) > freshLogin {
		v.record("refused", "login_too_old", name)
		s.deps.Auth.ShowLogin(v.w, v.r, v.r.URL.RequestURI(), true)
		return
	}
	done, err := a.do(v, arg)
	detail := clip(strings.TrimSpace(name+" "+arg+" "+form.Get("kind")+" "+form.Get("pattern")+" "+form.Get("name")), maxShown)
	if err == nil {
		v.record("ok", "", detail)
		if v.link != "" { // a secret belongs on no address
			v.done = "done_" + done
			v.show(http.StatusOK)
			return
		}
		http.Redirect(v.w, v.r, v.back(done), http.StatusSeeOther)
		return
	}
	v.record("failed", string(kidoban.KindOf(err)), detail)
	switch kidoban.KindOf(err) {
	case kidoban.KindNotFound:
		v.bad = "already_gone"
	case kidoban.KindConflict:
		v.bad = "already_there"
	case kidoban.KindUsage, kidoban.KindRefused:
		v.said = sentence(err)
	default:
		v.fail(err)
		return
	}
	v.show(http.StatusOK)
}

// back is the page that the form stood on, with what was done.
func (v *visit) back(done string) string {
	q := v.r.URL.Query()
	q.Del("lang")
	q.Set("done", done)
	return v.r.URL.EscapedPath() + "?" + q.Encode()
}

func readForm(r *http.Request) (url.Values, error) {
	bad := func(text string) error { return kidoban.Errorf(kidoban.KindInput, "%s", text) }
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, bad("the form is not in the encoding that browsers use")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil || len(body) > maxForm {
		return nil, bad("the form is longer than 32 kB or broke off")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, bad("the form's fields are not correctly encoded")
	}
	for _, values := range form {
		for _, x := range values {
			if strings.ContainsRune(x, 0) || !utf8.ValidString(x) {
				return nil, bad("a field holds characters that are no text")
			}
		}
	}
	return form, nil
}

// clip cuts text to n bytes, at a character's boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// sentence is the part of an error that may be shown.
func sentence(err error) string {
	for e := err; e != nil; {
		if k, ok := e.(*kidoban.Error); ok {
			return k.Sentence
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			break
		}
		e = u.Unwrap()
	}
	return "It did not work."
}
