package authserver

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

// The pages need no script, so the policy of content forbids all of it; the style
// sheet is a file of our own. There is no form-action: Chrome applies it to every
// redirect that follows a form, and the last of those is the client's callback
// and whatever that redirects to (G-CO3).
const contentPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed pages
var pageFiles embed.FS

// templates are parsed once; a page that does not parse is a defect that every
// test finds.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"date": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
}).ParseFS(pageFiles, "pages/*.html"))

// frame is what every page gets beside its own data.
type frame struct {
	Lang string
	Base string // path of the issuer
	Name string
	Self string // the page's address up to its last parameter, for the language links; empty after a form
	ID   string // request id
	P    any
}

// T returns a text of the page's language.
func (f frame) T(id string, args ...any) string { return textf(f.Lang, id, args...) }

// Days says how many days.
func (f frame) Days(n int) string { return counted(f.Lang, "days", n) }

// counted is textf for a text with one number; a text whose wording of one is
// another has that beside it, under its id and "_one".
func counted(lang, id string, n int) string {
	if _, ok := texts[id+"_one"]; ok && n == 1 {
		id += "_one"
	}
	return textf(lang, id, n)
}

func textf(lang, id string, args ...any) string {
	t, ok := texts[id]
	if !ok {
		return id
	}
	s := t.in(lang)
	if len(args) > 0 {
		return fmt.Sprintf(s, args...)
	}
	return s
}

func (s *Server) pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
}

// render writes a page. It is built in memory first: a page is whole or an error.
func (s *Server) render(w http.ResponseWriter, c *call, status int, name string, data any) {
	b, err := s.paint(c, name, data)
	if err != nil {
		c.event.Outcome, c.event.Detail = "failed", err.Error()
		http.Error(w, "The page cannot be shown. Request id: "+c.id, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", c.langs[0])
	h.Set("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may have gone
}

// paint makes a page.
func (s *Server) paint(c *call, name string, data any) ([]byte, error) {
	var b bytes.Buffer
	f := frame{Lang: c.langs[0], Base: c.policy.path, Name: c.policy.Name, Self: c.self, ID: c.id, P: data}
	// Pages for strangers are made a few at a time: a flood of them waits here, and
	// not before those who are known, for a processor. Nothing in between can block.
	if c.event.UserID == "" {
		s.painters <- struct{}{}
		defer func() { <-s.painters }()
	}
	err := templates.ExecuteTemplate(&b, name+".html", f)
	return b.Bytes(), err
}

// errorPage says what failed, what the person can do, and under which id the
// operator finds it (G-AS7).
type errorPage struct {
	Code   string
	Detail string       // for the developer of the client
	Back   template.URL // the way back to the client, where there is a safe one
	Host   string
	What   string
	Do     string
	Home   bool // lead to the account page
}

func (s *Server) errorPage(w http.ResponseWriter, c *call, status int, p errorPage) {
	lang := c.langs[0]
	id := "error_" + p.Code
	if _, ok := texts[id]; !ok {
		id = "error_request"
		if status >= 500 {
			id = "error_server_error"
		}
	}
	p.What, p.Do = textf(lang, id), textf(lang, id+"_do")
	s.render(w, c, status, "error", p)
}

// refusePage is an error page for a person whose client has no part in it.
func (s *Server) refusePage(w http.ResponseWriter, c *call, status int, code, text string) {
	c.event.Outcome, c.event.Code = "refused", code
	s.errorPage(w, c, status, errorPage{Code: text})
}

// failPage answers with whatever error came up.
func (s *Server) failPage(w http.ResponseWriter, c *call, err error) {
	e := asOAuth(err)
	c.event.Outcome, c.event.Code, c.event.Detail = "failed", e.Code, err.Error()
	if e.Cause != nil {
		c.event.Detail = e.Error() + ": " + e.Cause.Error()
	}
	if c.event.Name == "" {
		c.event.Name = "page"
	}
	s.errorPage(w, c, e.Status, errorPage{Code: e.Code, Detail: e.Text})
}

func (s *Server) serveStyle(w http.ResponseWriter, _ *http.Request, _ *call) {
	s.serveFile(w, "pages/style.css", "text/css; charset=utf-8")
}

func (s *Server) servePasskeyScript(w http.ResponseWriter, _ *http.Request, _ *call) {
	s.serveFile(w, "pages/passkey.js", "text/javascript; charset=utf-8")
}

func (s *Server) serveFile(w http.ResponseWriter, name, contentType string) {
	body, err := pageFiles.ReadFile(name)
	if err != nil {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(body) // the client may have gone
}
