package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/toolscan"
)

//go:embed pages
var pageFiles embed.FS

// The style sheet is ours; htmx lies beside it when the build has brought it.
//
//go:embed assets
var assets embed.FS

// pages parses each template when it is first shown: a gateway that nobody looks
// at pays nothing.
type pages struct {
	mu   sync.Mutex
	done map[string]*template.Template // guarded by mu
}

func (p *pages) get(name string) (*template.Template, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.done[name]; t != nil {
		return t, nil
	}
	t, err := template.New("frame.html").ParseFS(pageFiles, "pages/frame.html", "pages/"+name+".html")
	if err != nil {
		return nil, err
	}
	if p.done == nil {
		p.done = map[string]*template.Template{}
	}
	p.done[name] = t
	return t, nil
}

// frame is what every page gets beside its own data, which is P.
type frame struct {
	Lang  string
	Name  string
	Page  string
	Self  string // where links to other languages lead; see authserver.Languages
	ID    string
	Nonce string
	Live  bool // htmx is there
	Form  string
	Here  string // address of the page, for its forms
	Done  string
	Link  string
	Said  string
	Bad   string
	Admin bool
	User  string
	Nav   []navGroup
	// Calls wait for the person before the page, at CallsAt; Others for other people.
	Calls, Others int
	CallsAt       string
	P             any
	base          string
	root          string
	now           time.Time
}

// Held says in the page's language why a definition is held.
func (f *frame) Held(reason string) string { return heldText(f.Lang, reason) }

// Decided says in the page's language what the audit log notes in a word; a word
// without a text, as another version's, stands as it is.
func (f *frame) Decided(word string) string { return f.word("decision_", word) }

// Kind says in the page's language what a definition is of.
func (f *frame) Kind(k toolscan.Kind) string { return f.word("kind_", string(k)) }

// By says who decided about a definition: a person, or the first list.
func (f *frame) By(who string) string {
	if who == gateway.ByFirstUse {
		return f.T("by_first_use")
	}
	return f.Plain(who)
}

func (f *frame) word(group, word string) string {
	if _, ok := texts[group+word]; !ok {
		return f.Short(word)
	}
	return f.T(group + word)
}

// T returns a text of the page's language.
func (f *frame) T(id string, args ...any) string { return say(f.Lang, id, args...) }

// Path is the address of a page of the console; "" is the overview.
func (f *frame) Path(page string) string { return strings.TrimSuffix(f.base+"/"+page, "/") }

// Root is an address below the public URL.
func (f *frame) Root(path string) string { return f.root + path }

// Date shows a time; empty for none.
func (f *frame) Date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// Clock shows a time with seconds.
func (f *frame) Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// Num shows a number with its thousands apart.
func (f *frame) Num(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// Count shows a number that was counted up to Many.
func (f *frame) Count(n int) string {
	if n > Many {
		return f.Num(Many) + "+"
	}
	return f.Num(n)
}

// Many is a text about a number, in the singular where the number is one; more are
// further arguments.
func (f *frame) Many(id, n string, more ...any) string {
	if n == "1" {
		id += "_one"
	}
	return f.T(id, append([]any{n}, more...)...)
}

// Span shows a length of time in its largest unit that leaves no rest.
func (f *frame) Span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if d >= u.of && d%u.of == 0 {
			return f.Num(int64(d/u.of)) + " " + u.name
		}
	}
	return d.String()
}

// Plain makes hidden and direction-changing characters of strangers' text visible.
func (f *frame) Plain(s string) string { return toolscan.Visible(s, 300) }

// told is an alert's two sentences and their language.
type told struct{ Text, Do, Lang string }

// Told words an alert for the reader.
func (f *frame) Told(a kidoban.Alert) (t told) {
	t.Text, t.Do, t.Lang = a.Told(f.Lang)
	return t
}

// Short is Plain for identifiers in lists.
func (f *frame) Short(s string) string { return toolscan.Visible(s, 48) }

// Millis shows microseconds.
func (f *frame) Millis(us int64) string { return millis(us) }

// Place writes where the next page begins.
func (f *frame) Place(p Place) string { return p.String() }

// String writes a place for an address.
func (p Place) String() string { return strconv.FormatInt(p.At.UnixMilli(), 10) + "." + p.Key }

// readPlace reads one; what is not one is the beginning.
func readPlace(s string) Place {
	ms, key, ok := strings.Cut(s, ".")
	n, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil || n <= 0 || len(key) > 2048 || strings.ContainsRune(key, 0) || !utf8.ValidString(key) {
		return Place{}
	}
	return Place{At: time.UnixMilli(n), Key: key}
}

// policy is the content policy. Scripts run only with the page's nonce; htmx
// alone may write HTML.
func policy(nonce string, live bool) string {
	script := ""
	if live {
		script = "script-src 'nonce-" + nonce + "'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types htmx; "
	}
	return "default-src 'none'; " + script + "style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

func (v *visit) frame(page string, data any) *frame {
	f := &frame{Lang: v.langs[0], Name: v.s.name, Page: page, Self: v.self, ID: v.id, Nonce: v.nonce, Live: v.s.live(), Done: v.done, Link: v.link, Said: v.said, Bad: v.bad,
		P: data, base: v.s.Path(), root: v.s.base, now: v.now}
	q := v.r.URL.Query()
	q.Del("done")
	q.Del("lang")
	f.Here = v.r.URL.EscapedPath()
	if len(q) > 0 {
		f.Here += "?" + q.Encode()
	}
	if v.guest != nil {
		f.Form, f.Admin, f.User = v.s.deps.Auth.FormToken(v.guest), v.guest.Admin, v.guest.Name
		own, all, err := v.s.deps.Store.WaitingCalls(v.r.Context(), v.guest.ID, v.now)
		if err != nil { // the page is worth showing without
			v.s.deps.Log.Error("console: calls that wait cannot be counted", "request", v.id, "error", err)
		}
		f.Calls, f.Others = own, all-own
		for _, l := range v.s.deps.Pages {
			if l.Calls {
				f.CallsAt = v.s.base + l.Path
			}
		}
		f.Nav = v.nav(f)
	}
	return f
}

// render writes a page. It is built in memory first: a page is whole or an error.
// For htmx it is the part that renews itself.
func (v *visit) render(status int, page string, data any) {
	f := v.frame(page, data)
	t, err := v.s.pages.get(page)
	var b bytes.Buffer
	if err == nil {
		block := "frame.html"
		if v.r.Header.Get("HX-Request") == "true" && t.Lookup("live") != nil {
			block = "live"
		}
		err = t.ExecuteTemplate(&b, block, f)
	}
	if err != nil {
		v.s.deps.Log.Error("console page", "page", page, "request", v.id, "error", err)
		http.Error(v.w, "The page cannot be shown. Request id: "+v.id, http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", f.Lang)
	h.Set("Content-Security-Policy", policy(v.nonce, f.Live))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Vary", "Accept-Language, Cookie, HX-Request")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // the browser may have gone
}

// refuse shows a page that says why not.
func (v *visit) refuse(status int, text string) {
	v.self = ""
	v.render(status, "refused", text)
}

// fail answers an error. Its cause is for the log.
func (v *visit) fail(err error) {
	status, text := http.StatusInternalServerError, "went_wrong"
	switch kidoban.KindOf(err) {
	case kidoban.KindNotFound:
		status, text = http.StatusNotFound, "nothing_here"
	case kidoban.KindInput, kidoban.KindUsage:
		status, text = http.StatusBadRequest, "stale_form"
	case kidoban.KindUnreachable, kidoban.KindLimit:
		status, text = http.StatusServiceUnavailable, "not_now"
	}
	if status >= 500 {
		v.s.deps.Log.Error("console", "request", v.id, "error", err)
	}
	if v.langs == nil {
		v.langs = []string{"en"}
	}
	v.refuse(status, text)
}

// scripts are what make brings from npm, by hash. Another file under these names
// is not served.
var scripts = map[string]string{
	"htmx.min.js":   "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
	"hx-csp.min.js": "a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143",
}

// brought tells whether the build has brought htmx.
func brought() bool {
	for name, want := range scripts {
		body, err := assets.ReadFile("assets/htmx/" + name)
		sum := sha256.Sum256(body)
		if err != nil || hex.EncodeToString(sum[:]) != want {
			return false
		}
	}
	return true
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request, name string) {
	file, kind := "assets/"+name, "text/css; charset=utf-8"
	if path.Ext(name) == ".js" {
		file, kind = "assets/htmx/"+name, "text/javascript; charset=utf-8"
		if scripts[name] == "" || !s.live() {
			file = ""
		}
	}
	body, err := assets.ReadFile(file)
	if err != nil || r.Method != http.MethodGet && r.Method != http.MethodHead || path.Base(name) != name {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, max-age=3600")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(body) // the browser may have gone
}

// part is what a template inside a page gets: the page and a value.
type part struct {
	F *frame
	V any
}

// With makes a part.
func (f *frame) With(v any) part { return part{f, v} }

// Past tells whether a time has come.
func (f *frame) Past(t time.Time) bool { return !t.After(f.now) }

// Entry is Plain for whole entries of the audit log.
func (f *frame) Entry(b []byte) string { return toolscan.Visible(string(b), 8<<10) }
