package lab

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"

	"github.com/kidoban/kidoban"
)

// pages holds the parsed templates.
type pages struct{ t *template.Template }

// newPages parses the templates; html/template escapes every value by its place.
func newPages() (*pages, error) {
	t, err := template.New("pages").Funcs(template.FuncMap{
		"scope": scopeText,
		"raw":   func(s string) template.HTML { return template.HTML(s) }, // only E28-e asks for it
	}).Parse(pageTexts)
	return &pages{t}, kidoban.Wrap(kidoban.KindInternal, err, "the lab's pages do not parse")
}

// pageTexts are the pages. They hold no script, so that the content policy can
// forbid it.
const pageTexts = `
{{define "head"}}<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.}}</title>
<style>body{font:16px system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1b1b1f}h1{font-size:1.3rem}
.host{font-size:1.7rem;font-weight:700;word-break:break-all}.mark{background:#fff3cd;padding:.5rem .8rem;border-radius:.4rem}
label{display:block;margin:.8rem 0}input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box}button{font:inherit;padding:.5rem 1.2rem;margin-right:.8rem}code{word-break:break-all}</style></head><body>{{end}}

{{define "login"}}{{template "head" "Log in"}}<main><h1>Log in to the lab</h1>{{with .Fault}}<p role="alert" class="mark">{{.}}</p>{{end}}
<form method="post" action="{{.Action}}"><input type="hidden" name="tx" value="{{.Tx}}"><input type="hidden" name="csrf" value="{{.CSRF}}">
<label>User <input name="username" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<label>Code of your authenticator, if you have one <input name="totp" autocomplete="one-time-code" inputmode="numeric"></label>
<button type="submit">Log in</button></form>{{with .Passkey}}<p><a href="{{.}}">Log in with a passkey</a></p>{{end}}</main>
{{with .Noise}}<img alt="" width="1" height="1" src="{{.}}/g/collect?client_id=GA1&amp;state=1&amp;redirect_uri=https%3A%2F%2Fads.example%2Fcb"><iframe hidden title="analytics" src="{{.}}/o/oauth2/auth?response_type=token&amp;client_id=ads&amp;scope=openid&amp;redirect_uri=https%3A%2F%2Fads.example%2Fcb"></iframe>{{end}}</body></html>{{end}}

{{define "consent"}}{{template "head" "Allow access?"}}<main><h1>Allow access?</h1>
{{with .Client}}<p>The application <strong>{{if $.RawClient}}{{raw .}}{{else}}{{.}}{{end}}</strong> asks for access over the Model Context Protocol (MCP).</p>{{else}}<p>An application asks for access over the Model Context Protocol (MCP).</p>{{end}}
{{with .Link}}<p><a href="{{.}}">About the application</a></p>{{end}}
{{with .ClientHost}}<p>It is described at <strong>{{.}}</strong>.</p>{{end}}
{{if .Unverified}}<p class="mark">It is <strong>unverified</strong>: it gave itself this name, nobody has checked it.</p>{{end}}
{{with .Host}}<p>Your access would be sent to</p><p class="host">{{.}}</p>{{end}}
{{with .Redirect}}<p><code>{{.}}</code></p>{{end}}
{{if .Loopback}}<p class="mark">That is a program on this computer. Any program on this computer can pretend to be it: go on only if you have just started it yourself.</p>{{end}}
{{with .Scopes}}<p>It could then:</p><ul>{{range .}}<li>{{scope .}} (<code>{{.}}</code>)</li>{{end}}</ul>{{end}}
{{with .User}}<p>You are logged in as {{.}}.</p>{{end}}
<form method="post" action="{{.Action}}"><input type="hidden" name="tx" value="{{.Tx}}">{{with .CSRF}}<input type="hidden" name="csrf" value="{{.}}">{{end}}
{{range $k, $v := .Hidden}}<input type="hidden" name="{{$k}}" value="{{$v}}">{{end}}
<button type="submit" name="decision" value="deny" autofocus>Deny</button><button type="submit" name="decision" value="approve">Allow</button></form></main></body></html>{{end}}

{{define "passkey"}}{{template "head" "Log in"}}<main><h1>Log in to the lab</h1>
<form method="post" action="{{.Action}}" data-challenge="{{.Challenge}}"><input type="hidden" name="tx" value="{{.Tx}}"><input type="hidden" name="csrf" value="{{.CSRF}}"><input type="hidden" name="assertion">
<button type="button" id="use">Use the passkey</button></form></main><script src="{{.Script}}"></script></body></html>{{end}}

{{define "error"}}{{template "head" "Not possible"}}<main><h1>Not possible</h1><p>{{.Text}}</p><p><code>{{.Code}}</code></p>{{with .Debug}}<pre>{{.}}</pre>{{end}}</main></body></html>{{end}}

{{define "post"}}{{template "head" "Continue"}}<main><form method="post" action="{{.To}}">{{range $k, $v := .Params}}<input type="hidden" name="{{$k}}" value="{{index $v 0}}">{{end}}<button type="submit">Continue</button></form></main></body></html>{{end}}

{{define "app"}}<!doctype html><html><head><meta charset="utf-8"><title>Lab</title></head><body><div id="root"></div><script src="{{.}}"></script></body></html>{{end}}

{{define "connect"}}{{template "head" "Connect an account"}}<main><h1>Connect an account</h1><p>{{.Text}}</p>{{with .Handle}}<form method="post" action="/connect"><input type="hidden" name="h" value="{{.}}"><input type="hidden" name="csrf" value="{{$.CSRF}}"><button type="submit">Connect</button></form>{{end}}</main></body></html>{{end}}
`

// render writes a page. A template that fails is a defect; the answer is then 500.
func (p *pages) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := p.t.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// post writes the page of the form_post and web_message response modes.
func (p *pages) post(w http.ResponseWriter, to string, params url.Values) {
	p.render(w, http.StatusOK, "post", struct {
		To     string
		Params url.Values
	}{to, params})
}

// pageHeaders sets what login and consent pages need: no frames, no cache, no
// referrer, nothing loaded from elsewhere.
func (l *Lab) pageHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", l.pagePolicy("frame-ancestors 'none'"))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	l.weakPageHeaders(h)
}

// loginPage shows the login form, with a sentence about what went wrong.
func (l *Lab) loginPage(w http.ResponseWriter, status int, t *txn, fault string) {
	l.pageHeaders(w)
	l.pages.render(w, status, "login", map[string]string{"Action": l.asPath + "/login", "Tx": t.id, "CSRF": t.csrf, "Fault": fault, "Noise": l.noise, "Passkey": l.passkeyLink(t)})
}

// pagePolicy is the content security policy of a page. In the noise profile it lets
// the analytics host in.
func (l *Lab) pagePolicy(frames string) string {
	p := "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"
	if l.noise != "" {
		p += "; img-src " + l.noise + "; frame-src " + l.noise
	}
	if frames != "" {
		p += "; " + frames
	}
	return p
}

// errorPage tells a person what went wrong. Its texts are fixed: nothing a
// stranger sent is repeated on it.
func (l *Lab) errorPage(w http.ResponseWriter, status int, code, text string) {
	l.pageHeaders(w)
	l.pages.render(w, status, "error", map[string]string{"Code": code, "Text": text, "Debug": l.indiscretion()})
}
