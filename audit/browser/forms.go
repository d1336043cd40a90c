package browser

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/kidoban/kidoban"
)

// Send sends one request of a tab with the tab's cookies, and never follows a
// redirect. It returns an exchange without response when none came.
type Send func(ctx context.Context, method, url string, header kidoban.Fields, body []byte) *kidoban.Exchange

// NewForms returns a browser without scripts on top of send, for one walk. The
// cookies are send's business.
func NewForms(send Send, capture func(url string) bool) Tab {
	return &forms{send: send, capture: capture}
}

type forms struct {
	send     Send
	capture  func(string) bool
	captured string
	at       string
	page     *Page
	docs     int       // documents so far
	doc      []docForm // forms of the page, by number
}

// docForm is one form and what it would send.
type docForm struct {
	action, method, enctype string
	scripted                bool // it has a handler of its own
	members                 []member
}

type member struct {
	name, value string
	on          bool // sent; buttons are sent only when pressed
	element     int  // index of the element on the page, -1
}

const maxRedirects = 24

func (t *forms) Captured() string { return t.captured }
func (t *forms) Close()           {}

func (t *forms) Goto(ctx context.Context, to string) error {
	return t.load(ctx, http.MethodGet, to, nil)
}

// load sends a request and follows what a browser follows: Locations with the
// method that the status demands (RFC 9110 §15.4), and refreshes of pages.
func (t *forms) load(ctx context.Context, method, to string, body []byte) error {
	from := t.at
	for range maxRedirects {
		if t.capture != nil && t.capture(to) {
			t.captured = to
			return nil
		}
		x := t.send(ctx, method, to, t.headers(from, to, method), body)
		if x.Response == nil {
			return &kidoban.Error{Kind: kidoban.KindUnreachable, Sentence: "the page " + place(to) + " did not answer: " + x.Err}
		}
		from = to
		next := ""
		if st := x.Status(); st >= 300 && st < 400 && st != 304 && x.Header("Location") != "" {
			next = Resolve(to, x.Header("Location"))
			if st != 307 && st != 308 && method != http.MethodHead {
				method, body = http.MethodGet, nil
			}
		}
		if next == "" {
			t.at = to
			if next = t.parse(x, to); next == "" {
				return nil
			}
			method, body = http.MethodGet, nil
		}
		to = next
	}
	return kidoban.Errorf(kidoban.KindInput, "the login redirects more than %d times in a row, last to %s", maxRedirects, place(to))
}

func (t *forms) headers(from, to, method string) kidoban.Fields {
	h := kidoban.Fields{{Name: "Accept", Value: "text/html,application/xhtml+xml,*/*;q=0.8"}}
	site := "none"
	if from != "" {
		site = "cross-site"
		if origin(from) == origin(to) {
			site = "same-origin"
		}
	}
	h = append(h, kidoban.Field{Name: "Sec-Fetch-Site", Value: site}, kidoban.Field{Name: "Sec-Fetch-Mode", Value: "navigate"}, kidoban.Field{Name: "Sec-Fetch-Dest", Value: "document"})
	if method == http.MethodPost {
		h = append(h, kidoban.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
		if from != "" {
			h = append(h, kidoban.Field{Name: "Origin", Value: origin(from)})
		}
	}
	return h
}

func (t *forms) Page(context.Context) (*Page, error) {
	if t.page == nil {
		return nil, kidoban.Errorf(kidoban.KindInternal, "no page has been opened")
	}
	return t.page, nil
}

func (t *forms) Fill(_ context.Context, index int, value string) error {
	for f := range t.doc {
		for m := range t.doc[f].members {
			if x := &t.doc[f].members[m]; x.element == index {
				x.value = value
				return nil
			}
		}
	}
	return kidoban.Errorf(kidoban.KindInput, "the field %d of %s belongs to no form", index, place(t.at))
}

func (t *forms) Set(_ context.Context, form int, name, value string) error {
	if form < 0 || form >= len(t.doc) {
		return kidoban.Errorf(kidoban.KindInput, "the page %s has no form of that number", place(t.at))
	}
	f := &t.doc[form]
	for m := range f.members {
		if f.members[m].name == name {
			f.members[m].value = value
			return nil
		}
	}
	f.members = append(f.members, member{name, value, true, -1})
	return nil
}

func (t *forms) Click(ctx context.Context, index int) error {
	if t.page == nil || index < 0 || index >= len(t.page.Elements) {
		return kidoban.Errorf(kidoban.KindInput, "there is nothing to press on %s", place(t.at))
	}
	e := t.page.Elements[index]
	if e.Kind == "link" {
		return t.load(ctx, http.MethodGet, Resolve(t.at, e.Href), nil)
	}
	if e.Form < 0 {
		return kidoban.Errorf(kidoban.KindInput, "the button %.40q of %s works with a script only", e.Label, place(t.at))
	}
	if t.byScript(e.Form) {
		return &kidoban.Error{Kind: kidoban.KindInput, Sentence: "the form with the password on " + place(t.at) + " is sent by a script, which takes a real browser", Cause: ErrScript}
	}
	method, to, body := t.doc[e.Form].submission(t.at, index)
	return t.load(ctx, method, to, body)
}

// ErrScript is the cause when a form cannot be sent without its page's script.
var ErrScript = errors.New("the form is sent by a script")

// byScript tells whether a form that holds a password is sent by a script: it says so,
// or it would put the password into the address, which no page means to do.
func (t *forms) byScript(form int) bool {
	f := &t.doc[form]
	if f.method == http.MethodPost && !f.scripted {
		return false
	}
	return slices.ContainsFunc(t.page.Elements, func(e Element) bool { return e.Form == form && e.Kind == "input" && e.Type == "password" })
}

// submission is what pressing a button sends (HTML, form submission).
func (f *docForm) submission(at string, pressed int) (method, to string, body []byte) {
	var b strings.Builder
	for _, m := range f.members {
		if m.name == "" || !m.on && m.element != pressed {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(m.name) + "=" + url.QueryEscape(m.value))
	}
	to = at
	if f.action != "" {
		to = Resolve(at, f.action)
	}
	if f.method == http.MethodPost {
		return http.MethodPost, to, []byte(b.String())
	}
	to, _, _ = strings.Cut(to, "#")
	to, _, _ = strings.Cut(to, "?")
	return http.MethodGet, to + "?" + b.String(), nil
}

// parse reads the document and returns the target of a refresh.
func (t *forms) parse(x *kidoban.Exchange, at string) (refresh string) {
	body := x.Response.Body
	p := &Page{URL: at, Status: x.Status(), Header: x.Response.Header, HTML: body[:min(len(body), MaxHTML)], XID: x.ID}
	t.docs++
	p.Doc = t.docs
	t.page, t.doc = p, nil
	if !strings.Contains(strings.ToLower(x.Header("Content-Type")), "html") {
		p.Text = fold(string(body[:min(len(body), MaxText)]))
		return ""
	}
	root, err := html.Parse(bytes.NewReader(p.HTML))
	if err != nil {
		return ""
	}
	r := reader{t: t, p: p, labels: map[string]string{}, form: -1}
	r.collectLabels(root)
	r.walk(root)
	p.Text = fold(r.text.String())
	if len(p.Text) > MaxText {
		p.Text = p.Text[:MaxText]
	}
	if r.refresh != "" {
		return Resolve(at, r.refresh)
	}
	return ""
}

type reader struct {
	t       *forms
	p       *Page
	labels  map[string]string // by id of the field
	form    int
	around  string // text of the label around
	text    strings.Builder
	refresh string
}

func (r *reader) collectLabels(n *html.Node) {
	if n.DataAtom == atom.Label && attr(n, "for") != "" {
		r.labels[attr(n, "for")] = inner(n)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		r.collectLabels(c)
	}
}

func (r *reader) walk(n *html.Node) {
	if n.Type == html.TextNode {
		r.text.WriteString(n.Data + " ")
	}
	form, around := r.form, r.around
	if n.Type == html.ElementNode {
		switch n.DataAtom {
		case atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Svg:
			return
		case atom.Title:
			r.p.Title = fold(inner(n))
			return
		case atom.Meta:
			if strings.EqualFold(attr(n, "http-equiv"), "refresh") {
				if i := strings.Index(strings.ToLower(attr(n, "content")), "url="); i >= 0 {
					r.refresh = strings.Trim(attr(n, "content")[i+4:], ` '"`)
				}
			}
		case atom.Form:
			r.t.doc = append(r.t.doc, docForm{action: attr(n, "action"), method: strings.ToUpper(attr(n, "method")), enctype: attr(n, "enctype"), scripted: attr(n, "onsubmit") != ""})
			r.form = len(r.t.doc) - 1
		case atom.Label:
			r.around = inner(n)
		case atom.Input, atom.Button, atom.Textarea, atom.Select:
			r.element(n)
		case atom.A:
			if h := attr(n, "href"); h != "" {
				r.add(Element{Kind: "link", Label: fold(inner(n)), Href: h, Form: -1, ID: attr(n, "id")})
			}
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		r.walk(c)
	}
	r.form, r.around = form, around
}

func (r *reader) add(e Element) int {
	if len(r.p.Elements) >= MaxElements {
		return -1
	}
	e.Index = len(r.p.Elements)
	r.p.Elements = append(r.p.Elements, e)
	return e.Index
}

func (r *reader) element(n *html.Node) {
	e := Element{Kind: n.Data, Type: strings.ToLower(attr(n, "type")), Name: attr(n, "name"), ID: attr(n, "id"),
		Autocomplete: strings.ToLower(attr(n, "autocomplete")), Value: attr(n, "value"), Form: r.form}
	e.Label = fold(strings.Join([]string{r.labels[e.ID], r.around, attr(n, "aria-label"), attr(n, "placeholder")}, " "))
	on := true
	switch n.DataAtom {
	case atom.Button:
		if e.Type == "" {
			e.Type = "submit"
		}
		e.Label, on = fold(attr(n, "aria-label")+" "+inner(n)), false
	case atom.Input:
		switch e.Type {
		case "submit", "button", "image", "reset":
			e.Label, on = fold(e.Value), false
		case "checkbox", "radio":
			on = has(n, "checked")
		case "hidden":
			e.Kind = "hidden"
		case "":
			e.Type = "text"
		}
	case atom.Textarea:
		e.Value = inner(n)
	case atom.Select:
		e.Value = selected(n)
	}
	if has(n, "disabled") {
		return
	}
	i := r.add(e)
	if r.form >= 0 && i >= 0 {
		f := &r.t.doc[r.form]
		v := e.Value
		if v == "" && (e.Type == "checkbox" || e.Type == "radio") {
			v = "on"
		}
		f.members = append(f.members, member{e.Name, v, on, i})
	}
}

func selected(n *html.Node) string {
	first, chosen := "", ""
	var visit func(*html.Node)
	visit = func(n *html.Node) {
		if n.DataAtom == atom.Option {
			v := attr(n, "value")
			if first == "" {
				first = v
			}
			if has(n, "selected") {
				chosen = v
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c)
		}
	}
	visit(n)
	if chosen != "" {
		return chosen
	}
	return first
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

// inner is the text below a node.
func inner(n *html.Node) string {
	var b strings.Builder
	var visit func(*html.Node)
	visit = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c)
		}
	}
	visit(n)
	return b.String()
}

func fold(s string) string { return strings.Join(strings.Fields(s), " ") }

// Resolve joins a reference to the URL it came from. One that no browser could read is
// kept as it is: it may be a redirect URI under test.
func Resolve(base, ref string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ref
	}
	r, err := url.Parse(ref)
	if err != nil {
		return ref
	}
	return b.ResolveReference(r).String()
}

func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
