package audit

import (
	"bytes"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Page is what a browser without scripts would find in an HTML answer.
type Page struct {
	Title    string
	Text     string // visible text, white space folded
	Forms    []Form
	Buttons  []string // labels of buttons outside forms
	Links    []string // href of <a>
	Marks    map[string]bool
	Scripts  int
	Script   string // inline script text, bounded
	Refresh  string // target of <meta http-equiv=refresh>, "" without
	Password bool   // a password field
	Identity bool   // a field for an account name, e-mail or passkey
	MetaCSP  string
	Noscript string // text inside <noscript>
}

// Form is one form of a page.
type Form struct {
	Action  string // as written; "" is the page itself
	Method  string // upper case
	Inputs  []Input
	Buttons []string
}

// Input is one field of a form.
type Input struct{ Name, Type, Value, Autocomplete string }

const (
	maxText   = 64 << 10
	maxScript = 64 << 10
	maxForms  = 32
	maxInputs = 64
)

// ParsePage reads an HTML document. It never fails: a body that is no HTML
// gives a page of text. Elements that carry data-kidoban are kept in Marks: they
// show that text of ours came back as markup.
func ParsePage(body []byte) Page {
	p := Page{Marks: map[string]bool{}}
	z := html.NewTokenizer(bytes.NewReader(body))
	z.SetMaxBuf(1 << 20)
	r := pageReader{p: &p}
	for {
		switch z.Next() {
		case html.ErrorToken:
			p.Title = fold(r.title.String())
			p.Text = fold(r.text.String())
			p.Noscript = fold(r.noscript.String())
			p.Script = r.script.String()
			return p
		case html.TextToken:
			r.write(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			r.open(z.Token())
		case html.EndTagToken:
			r.close(z.Token().DataAtom)
		}
	}
}

type pageReader struct {
	p                             *Page
	text, title, noscript, script strings.Builder
	in                            atom.Atom // title, script, style, noscript, button
	button                        strings.Builder
	form                          *Form
}

func (r *pageReader) write(s string) {
	switch r.in {
	case atom.Title:
		bounded(&r.title, s, 512)
	case atom.Script:
		bounded(&r.script, s, maxScript)
	case atom.Style, atom.Template, atom.Svg:
	case atom.Noscript:
		bounded(&r.noscript, s, maxText)
	default:
		if r.in == atom.Button {
			bounded(&r.button, s, 512)
		}
		bounded(&r.text, s+" ", maxText)
	}
}

func bounded(b *strings.Builder, s string, limit int) {
	if room := limit - b.Len(); room > 0 {
		b.WriteString(s[:min(len(s), room)])
	}
}

func (r *pageReader) open(t html.Token) {
	a := attrs(t)
	if m, ok := a["data-kidoban"]; ok {
		r.p.Marks[m] = true
	}
	switch t.DataAtom {
	case atom.Title, atom.Style, atom.Noscript, atom.Template:
		r.in = t.DataAtom
	case atom.Script:
		r.in = atom.Script
		r.p.Scripts++
	case atom.Button:
		r.in = atom.Button
		r.button.Reset()
		bounded(&r.button, a["aria-label"]+" "+a["value"]+" ", 256)
	case atom.Form:
		if len(r.p.Forms) < maxForms {
			method := strings.ToUpper(a["method"])
			if method == "" {
				method = "GET"
			}
			r.p.Forms = append(r.p.Forms, Form{Action: a["action"], Method: method})
			r.form = &r.p.Forms[len(r.p.Forms)-1]
		}
	case atom.Input:
		r.input(a)
	case atom.A:
		if len(r.p.Links) < 256 && a["href"] != "" {
			r.p.Links = append(r.p.Links, a["href"])
		}
	case atom.Meta:
		switch strings.ToLower(a["http-equiv"]) {
		case "refresh":
			r.p.Refresh = refreshTarget(a["content"])
		case "content-security-policy":
			r.p.MetaCSP = a["content"]
		}
	}
}

func (r *pageReader) input(a map[string]string) {
	in := Input{Name: a["name"], Type: strings.ToLower(a["type"]), Value: a["value"], Autocomplete: strings.ToLower(a["autocomplete"])}
	name := strings.ToLower(in.Name + " " + a["id"])
	switch in.Type {
	case "password":
		r.p.Password = true
	case "submit", "button", "image":
		r.label(in.Value)
	case "email":
		r.p.Identity = true
	case "hidden", "checkbox", "radio":
	default:
		for _, w := range []string{"username", "email", "user", "login", "identifier", "webauthn"} {
			if strings.Contains(in.Autocomplete, w) || strings.Contains(name, w) {
				r.p.Identity = true
			}
		}
	}
	if r.form != nil && len(r.form.Inputs) < maxInputs {
		r.form.Inputs = append(r.form.Inputs, in)
	}
}

// label notes a button's text in the form that is open, or on the page.
func (r *pageReader) label(s string) {
	s = fold(s)
	if r.form != nil && len(r.form.Buttons) < maxInputs {
		r.form.Buttons = append(r.form.Buttons, s)
	} else if len(r.p.Buttons) < maxInputs {
		r.p.Buttons = append(r.p.Buttons, s)
	}
}

func (r *pageReader) close(a atom.Atom) {
	switch a {
	case atom.Form:
		r.form = nil
	case atom.Button:
		if r.in == atom.Button {
			r.label(r.button.String())
			r.in = 0
		}
	case r.in:
		r.in = 0
	}
}

func attrs(t html.Token) map[string]string {
	m := make(map[string]string, len(t.Attr))
	for _, a := range t.Attr {
		if _, dup := m[a.Key]; !dup {
			m[a.Key] = a.Val
		}
	}
	return m
}

func refreshTarget(content string) string {
	_, after, ok := strings.Cut(strings.ToLower(content), "url=")
	if !ok {
		return ""
	}
	return strings.Trim(content[len(content)-len(after):], ` '"`)
}

func fold(s string) string { return strings.Join(strings.FieldsFunc(s, unicode.IsSpace), " ") }

// Words of buttons, in the languages that consent pages are mostly written in.
// They only help to tell pages apart; no verdict hangs on one of them.
var (
	approveWords = []string{"approve", "allow", "authorize", "authorise", "accept", "agree", "grant", "consent", "connect", "continue",
		"zulassen", "erlauben", "zustimmen", "autorisieren", "autoriser", "accepter", "permitir", "autorizar", "aceptar", "consenti", "autorizza", "許可", "承認", "允许", "授权", "同意"}
	denyWords = []string{"deny", "cancel", "decline", "reject", "refuse", "disallow", "don't allow", "not now",
		"ablehnen", "abbrechen", "refuser", "annuler", "rechazar", "cancelar", "denegar", "rifiuta", "annulla", "拒否", "キャンセル", "拒绝", "取消"}
	idpHosts = []string{"accounts.google.com", "github.com/login", "login.microsoftonline.com", "appleid.apple.com", "login.live.com", "slack.com/openid", "gitlab.com/oauth"}
)

// hasConsent tells whether the page asks for a decision: an approving and a
// refusing button, or marker (the name our client registered) beside an
// approving one.
func (p *Page) hasConsent(marker string) bool {
	yes, no := false, false
	each := func(labels []string) {
		for _, b := range labels {
			yes = yes || containsWord(b, approveWords)
			no = no || containsWord(b, denyWords)
		}
	}
	each(p.Buttons)
	for _, f := range p.Forms {
		each(f.Buttons)
	}
	return yes && no || yes && marker != "" && strings.Contains(p.Text, marker)
}

// hasLogin tells whether the page asks who the person is.
func (p *Page) hasLogin() bool {
	if p.Password || p.Identity || strings.Contains(p.Script, "navigator.credentials") {
		return true
	}
	for _, l := range p.Links {
		for _, h := range idpHosts {
			if strings.Contains(l, h) {
				return true
			}
		}
	}
	for _, f := range p.Forms {
		for _, b := range f.Buttons {
			if containsWord(b, []string{"sign in", "log in", "login", "passkey", "anmelden", "se connecter", "iniciar sesión"}) {
				return true
			}
		}
	}
	low := strings.ToLower(p.Text)
	return strings.Contains(low, "sign in with ") || strings.Contains(low, "log in with ") || strings.Contains(low, "continue with google")
}

// needsScript tells whether the page says nothing without its scripts.
func (p *Page) needsScript() bool {
	return p.Scripts > 0 && len(p.Forms) == 0 && len(p.Buttons) == 0 && len(p.Text) < 80
}

func containsWord(s string, words []string) bool {
	s = strings.ToLower(s)
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// oauthCodes are the error codes a page may name (RFC 6749 §4.1.2.1, RFC 8707,
// RFC 7591, OpenID Connect).
var oauthCodes = []string{
	"invalid_request", "invalid_client", "unauthorized_client", "access_denied", "unsupported_response_type", "invalid_scope",
	"server_error", "temporarily_unavailable", "invalid_target", "invalid_redirect_uri", "redirect_uri_mismatch", "invalid_client_metadata",
	"unsupported_response_mode", "login_required", "consent_required", "interaction_required", "request_not_supported", "invalid_grant",
}

// errorCode finds an OAuth error code in the query of u, else in the page's text.
func (p *Page) errorCode(u *url.URL) string {
	if u != nil {
		if e := u.Query().Get("error"); e != "" && len(e) < 64 {
			return e
		}
	}
	for _, c := range oauthCodes {
		if strings.Contains(p.Text, c) || strings.Contains(p.Title, c) {
			return c
		}
	}
	return ""
}
