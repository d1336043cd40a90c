package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/base32"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
)

// Decisions are the pages on which people decide: about calls that wait for
// them, and about what their agents count as having read; and the page before those
// that servers would have them open. Administrators find the way to the console, where held definitions are decided. They need no script. A decision needs the person's login in
// a browser and a form that was given to that person for exactly this: what an
// agent has (a token, the address of the page) opens nothing.
type Decisions struct {
	deps DecisionDeps
	base string
	path string
	self string // origin
	seal *sealer
}

// DecisionDeps are what the pages need.
type DecisionDeps struct {
	PublicURL string
	Name      string // of the service
	// Visitor finds who is logged in in the browser; KindNotFound: nobody.
	Visitor func(*http.Request) (Person, error)
	// Login shows the login form, which leads back to the path next.
	Login func(w http.ResponseWriter, r *http.Request, next string, status int)
	// Client gives a name for a client id, for people.
	Client    func(ctx context.Context, id string) string
	Approvals *ApprovalGuard
	Policy    *PolicyGuard
	Pins      PinStore
	// Held is the path of the page that decides about held definitions.
	Held     string
	Journal  *Journal                             // may be nil
	Alert    func(context.Context, kidoban.Alert) // may be nil
	StateKey []byte
	Now      func() time.Time
}

// decisionPolicy is the content policy of the pages: no script at all.
const decisionPolicy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const (
	formLife = 30 * time.Minute
	maxForm  = 16 << 10
)

//go:embed pages
var decisionFiles embed.FS

var decisionPages = template.Must(template.New("").Funcs(template.FuncMap{
	"date": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
}).ParseFS(decisionFiles, "pages/*.html"))

// NewDecisions returns the pages.
func NewDecisions(d DecisionDeps) (*Decisions, error) {
	u, err := url.Parse(d.PublicURL)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the public URL is not a URL")
	}
	seal, err := newSealer(d.StateKey, rand.Reader, d.Now)
	if err != nil {
		return nil, err
	}
	if d.Name == "" {
		d.Name = "Kidoban"
	}
	return &Decisions{deps: d, base: strings.TrimSuffix(d.PublicURL, "/"), path: strings.TrimSuffix(u.Path, "/"), self: u.Scheme + "://" + u.Host, seal: seal}, nil
}

// ApprovalPage gives the address of the page on which a call is decided.
func ApprovalPage(publicURL, id string) string {
	return strings.TrimSuffix(publicURL, "/") + "/decisions/call/" + id
}

// Serves tells whether the pages answer a path.
func (d *Decisions) Serves(path string) bool {
	return path == d.path+"/decisions" || strings.HasPrefix(path, d.path+"/decisions/")
}

// view is one request to the pages.
type view struct {
	*Decisions
	w    http.ResponseWriter
	r    *http.Request
	who  Person
	lang string
	id   string // of the request
	form url.Values
}

// frame is what every page gets beside its own data.
type pageFrame struct {
	Lang, Base, Name, Self, ID string
	Who                        Person
	P                          any
}

// T returns a text of the page's language.
func (f pageFrame) T(id string, args ...any) string { return textIn(f.Lang, id, args...) }

// ServeHTTP answers the paths that Serves knows.
func (d *Decisions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &view{Decisions: d, w: w, r: r, lang: pageLanguage(r)}
	var id [10]byte
	_, _ = io.ReadFull(rand.Reader, id[:]) // an id is for finding, not for secrecy
	v.id = base32.StdEncoding.EncodeToString(id[:])
	h := w.Header()
	h.Set("X-Request-Id", v.id)
	h.Set("Content-Security-Policy", decisionPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if strings.HasPrefix(d.base, "https://") {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		h.Set("Allow", "GET, POST")
		http.Error(w, "Method not allowed.", http.StatusMethodNotAllowed)
		return
	}
	who, err := d.deps.Visitor(r)
	switch {
	case err != nil && kidoban.KindOf(err) != kidoban.KindNotFound:
		http.Error(w, textIn(v.lang, "no_store"), http.StatusServiceUnavailable)
		return
	case err != nil && r.Method == http.MethodPost:
		v.note("", "", "", "refused", "nobody is logged in")
		d.deps.Login(w, r, r.URL.EscapedPath(), http.StatusForbidden)
		return
	case err != nil:
		d.deps.Login(w, r, r.URL.EscapedPath(), http.StatusOK)
		return
	}
	v.who = who
	if l := r.URL.Query().Get("lang"); r.Method == http.MethodGet && l == v.lang {
		http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: l, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	}
	if r.Method == http.MethodPost && !v.readForm() {
		return
	}
	v.route(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, d.path), "/decisions"))
}

func (v *view) route(path string) {
	post := v.r.Method == http.MethodPost
	call, isCall := strings.CutPrefix(path, "/call/")
	sealed, isPage := strings.CutPrefix(path, strings.TrimPrefix(pagePath, "/decisions"))
	switch {
	case (path == "" || path == "/") && !post:
		v.overview()
	case path == "/session" && post:
		v.forget()
	case path == "/definitions" && !post: // the page of earlier versions
		http.Redirect(v.w, v.r, v.deps.Held, http.StatusSeeOther)
	case isPage && !post:
		v.leaveTo(sealed)
	case isCall && !post:
		v.call(call)
	case isCall:
		v.decideCall(call)
	default:
		v.refuse(http.StatusNotFound, "no_page_here")
	}
}

// readForm reads a form that came from one of our pages and was given to this
// person. A browser says by itself when a form is foreign; the ticket decides.
func (v *view) readForm() bool {
	no := func(why string) bool {
		v.note("", "", "", "refused", why)
		v.outcome(http.StatusForbidden, "no_title", "warn strong", textIn(v.lang, "no_form"))
		return false
	}
	if s := v.r.Header.Get("Sec-Fetch-Site"); s == "cross-site" || s == "same-site" {
		return no("the form came from another site")
	}
	if o := v.r.Header.Get("Origin"); o != "" && o != v.self {
		return no("the form came from another origin")
	}
	body, err := io.ReadAll(io.LimitReader(v.r.Body, maxForm+1))
	if err != nil || len(body) > maxForm || !strings.HasPrefix(v.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return no("the form cannot be read")
	}
	if v.form, err = url.ParseQuery(string(body)); err != nil {
		return no("the form cannot be read")
	}
	if _, ok := v.seal.open(v.form.Get("t"), v.formBinding(v.r.URL.Path)); !ok {
		return no("the form's ticket does not hold")
	}
	return true
}

func (v *view) formBinding(path string) []byte { return binding("decision form", v.who.ID, path) }

// ticket binds a form to its person and its target.
func (v *view) ticket(path string) string {
	t, err := v.seal.seal([]byte{1}, v.formBinding(v.path+path), formLife)
	if err != nil {
		return "" // the form will be refused
	}
	return t
}

func (v *view) render(status int, name string, data any) {
	self := ""
	if v.r.Method != http.MethodPost {
		self = v.r.URL.EscapedPath() + "?"
	}
	var b bytes.Buffer
	f := pageFrame{Lang: v.lang, Base: v.path, Name: v.deps.Name, Self: self, ID: v.id, Who: v.who, P: data}
	if err := decisionPages.ExecuteTemplate(&b, name+".html", f); err != nil {
		http.Error(v.w, "The page cannot be shown. Request id: "+v.id, http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.lang)
	h.Set("Vary", "Accept-Language, Cookie")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // the browser may have gone
}

type outcomePage struct{ Title, Style, Text string }

func (v *view) outcome(status int, title, style, text string) {
	v.render(status, "outcome", outcomePage{title, style, text})
}

func (v *view) refuse(status int, id string, args ...any) {
	v.outcome(status, "no_title", "warn strong", textIn(v.lang, id, args...))
}

// failed answers for a store that does not answer.
func (v *view) failed(err error) {
	v.note("", "", "", "failed", err.Error())
	v.refuse(http.StatusServiceUnavailable, "no_store")
}

// note records what a person decided, or tried to.
func (v *view) note(client, server, name, decision, detail string) {
	if v.deps.Journal != nil {
		v.deps.Journal.Append(v.r.Context(), Record{ID: v.id, At: v.deps.Now(), User: v.who.ID, Client: client, Server: server, Method: "decision", Name: toolscan.Visible(name, 120), Decision: decision, Detail: detail})
	}
}

// overview is a person's own page.
func (v *view) overview() {
	ctx := v.r.Context()
	type waiting struct {
		Approval
		Client, Brief string
	}
	type page struct {
		Waiting  []waiting
		Session  []SessionLabel
		Held     int
		HeldPage string
		Ticket   string
	}
	p := page{HeldPage: v.deps.Held}
	var errs [3]error
	all, err := v.deps.Approvals.store.WaitingApprovals(ctx, v.who.ID, v.deps.Now())
	errs[0] = err
	for _, a := range all {
		w := waiting{Approval: a, Client: v.client(a.Client)}
		w.Tool = toolscan.Visible(a.Tool, 200)
		if asked, ok := v.deps.Approvals.shown(a); ok {
			w.Brief = inBrief(asked.Arguments)
		}
		p.Waiting = append(p.Waiting, w)
	}
	p.Session, errs[1] = v.deps.Policy.Session(ctx, v.who.ID)
	if v.who.Admin {
		p.Held, errs[2] = v.heldPins(ctx)
	}
	if err := errors.Join(errs[:]...); err != nil {
		v.failed(err)
		return
	}
	p.Ticket = v.ticket("/decisions/session")
	v.render(http.StatusOK, "decisions", p)
}

func (v *view) forget() {
	if err := v.deps.Policy.Forget(v.r.Context(), v.who.ID); err != nil {
		v.failed(err)
		return
	}
	v.note("", "", "", "forgot", "the session begins anew")
	v.outcome(http.StatusOK, "done_forget", "done", textIn(v.lang, "done_forget_text"))
}

// mine finds a call that this person may decide now, or says why there is none.
func (v *view) mine(id string) (Approval, bool) {
	a, err := v.deps.Approvals.store.Approval(v.r.Context(), id)
	switch {
	case len(id) > 64 || kidoban.KindOf(err) == kidoban.KindNotFound && err != nil:
		v.refuse(http.StatusNotFound, "no_unknown")
	case err != nil:
		v.failed(err)
	case a.User != v.who.ID: // nothing of it is shown
		v.note(a.Client, a.Server, a.Tool, "refused", "another person's call "+a.ID)
		v.refuse(http.StatusForbidden, "no_other")
	case a.State != ApprovalWaiting:
		v.note(a.Client, a.Server, a.Tool, "refused", "decided before: "+string(a.State))
		v.decided(a)
	case !a.Expires.After(v.deps.Now()):
		v.note(a.Client, a.Server, a.Tool, "refused", "too late")
		v.refuse(http.StatusGone, "no_expired")
	default:
		return a, true
	}
	return Approval{}, false
}

// call shows one call, whole.
func (v *view) call(id string) {
	a, ok := v.mine(id)
	if !ok {
		return
	}
	asked, ok := v.deps.Approvals.shown(a)
	if !ok {
		v.refuse(http.StatusGone, "no_expired")
		return
	}
	type page struct {
		ID, Server, Tool, Class, Arguments, Client, Ticket string
		Why, LookAlikes                                    []string
		Session                                            []SessionLabel
		Expires                                            time.Time
		Minutes                                            int // left, begun ones too
	}
	p := page{ID: a.ID, Server: a.Server, Tool: toolscan.Visible(a.Tool, 300), Class: asked.Class, Arguments: readable(asked.Arguments), Client: v.client(a.Client), Expires: a.Expires, Ticket: v.ticket("/decisions/call/" + a.ID)}
	p.Minutes = int((a.Expires.Sub(v.deps.Now()) + time.Minute - 1) / time.Minute)
	p.LookAlikes = toolscan.LookAlikes(a.Tool+"\n"+words(asked.Arguments), maxLookAlikes)
	flow := false
	for _, id := range asked.Policies {
		flow = flow || policy.Barrier(id)
		if _, ok := pageTexts["why_"+id]; ok {
			p.Why = append(p.Why, textIn(v.lang, "why_"+id))
		} else {
			p.Why = append(p.Why, textIn(v.lang, "why_policy", id))
		}
	}
	if flow {
		var err error
		if p.Session, err = v.deps.Policy.Session(v.r.Context(), a.User); err != nil {
			v.failed(err)
			return
		}
	}
	v.render(http.StatusOK, "approval", p)
}

// maxLookAlikes words are spelled out; one is enough to look twice.
const maxLookAlikes = 5

// client names a program, for people.
func (v *view) client(id string) string {
	if v.deps.Client == nil {
		return id
	}
	return toolscan.Visible(v.deps.Client(v.r.Context(), id), 200)
}

// shown opens what the page shows.
func (g *ApprovalGuard) shown(a Approval) (askedCall, bool) {
	var asked askedCall
	plain, ok := g.seal.open(a.Sealed, binding("approval", a.ID))
	if ok {
		ok = json.Unmarshal(plain, &asked) == nil
	}
	return asked, ok
}

func (v *view) decideCall(id string) {
	a, ok := v.mine(id)
	if !ok {
		return
	}
	now := v.deps.Now()
	a.By, a.Decided, a.State, a.Expires = v.who.Name, now, ApprovalRefused, now.Add(v.deps.Approvals.rules.Load().Wait)
	if v.form.Get("do") == "approve" {
		a.State = ApprovalApproved
	}
	switch err := v.deps.Approvals.store.DecideApproval(v.r.Context(), a); {
	case err != nil && kidoban.KindOf(err) == kidoban.KindConflict: // another tab was faster
		v.mine(id)
		return
	case err != nil:
		v.failed(err)
		return
	}
	v.note(a.Client, a.Server, a.Tool, string(a.State), a.ID)
	v.answered(a.State)
}

// answered says what the person has decided.
func (v *view) answered(s ApprovalState) {
	style := "done"
	if s == ApprovalRefused {
		style = "note"
	}
	v.outcome(http.StatusOK, "done_"+string(s), style, textIn(v.lang, "done_"+string(s)+"_text"))
}

// decided answers for a call that was decided before. A button that was pressed twice
// gets what the first press got; whoever would decide otherwise now is told that it is
// too late.
func (v *view) decided(a Approval) {
	was := textIn(v.lang, "no_decided", textIn(v.lang, "state_"+string(a.State)))
	refused := a.State == ApprovalRefused
	switch do := v.form.Get("do"); {
	case do != "" && refused == (do == "approve"):
		v.outcome(http.StatusConflict, "no_title", "warn strong", was)
	case do != "" && a.State != ApprovalUsed:
		v.answered(a.State)
	case refused:
		v.outcome(http.StatusConflict, "done_refused", "note", was)
	default:
		v.outcome(http.StatusConflict, "done_approved", "note", was)
	}
}

// languageCookie is the choice of language that all pages share.
const languageCookie = "kidoban-lang"

var pageMatcher = language.NewMatcher([]language.Tag{language.English, language.Japanese, language.Chinese})

// pageLanguage is the choice in the URL, then the cookie's, then the browser's.
func pageLanguage(r *http.Request) string {
	langs := []string{"en", "ja", "zh"}
	if l := r.URL.Query().Get("lang"); slices.Contains(langs, l) {
		return l
	}
	if k, err := r.Cookie(languageCookie); err == nil && slices.Contains(langs, k.Value) {
		return k.Value
	}
	header := r.Header.Get("Accept-Language")
	if len(header) > 256 {
		return "en"
	}
	tags, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return "en"
	}
	_, i, _ := pageMatcher.Match(tags...)
	return langs[i]
}
