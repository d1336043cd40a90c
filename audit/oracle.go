package audit

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// The authorization-endpoint oracle: how requests are sent and followed. What
// they mean is decided in decide.go.
//
// Every mutation stands beside a baseline and two negative controls that all
// probes of a run share. Redirects are followed by hand, GET only, with a fresh
// cookie jar, and never to a redirect URI or to an upstream: those end the
// trail. Forms are never submitted. The catalogue asks for each mutation twice;
// the second run is left out where the first one is no finding, because only a
// finding gains from being seen twice.

const (
	maxHops = 20 // five were too few: they made most of the study's false alarms
	maxLoop = 2  // the same URL more often is a loop
)

// params are query parameters in order; duplicates are allowed.
type params []param

type param struct{ name, value string }

func (p params) get(name string) string {
	for _, q := range p {
		if q.name == name {
			return q.value
		}
	}
	return ""
}

// with returns a copy with name set to value, in place or at the end.
func (p params) with(name, value string) params {
	out, done := params{}, false
	for _, q := range p {
		if q.name == name {
			q.value, done = value, true
		}
		out = append(out, q)
	}
	if !done {
		out = append(out, param{name, value})
	}
	return out
}

// without returns a copy that lacks names.
func (p params) without(names ...string) params {
	out := params{}
next:
	for _, q := range p {
		for _, n := range names {
			if q.name == n {
				continue next
			}
		}
		out = append(out, q)
	}
	return out
}

// and returns a copy with one more parameter at the end, even if it is there.
func (p params) and(name, value string) params {
	return append(append(params{}, p...), param{name, value})
}

func (p params) encode() string {
	var b strings.Builder
	for i, q := range p {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(q.name) + "=" + url.QueryEscape(q.value))
	}
	return b.String()
}

// authRequest is an authorization request before it is sent.
type authRequest struct {
	Endpoint   string
	Params     params
	Registered string   // the redirect URI the client registered
	Targets    []string // other redirect URIs supplied in this request
	Marker     string   // client_name of the client
	Header     kidoban.Fields
	Host       string // Host header of the first request, when it differs
}

// baseline builds the request that a well-behaved client would send.
func (s *session) baseline(c *Client) authRequest {
	as := s.facts.AS
	p := params{
		{"response_type", "code"},
		{"client_id", c.ID},
		{"redirect_uri", c.RedirectURI},
	}
	if scope := s.facts.SmallestScope; scope != "" {
		p = append(p, param{"scope", scope})
	}
	p = append(p,
		param{"state", s.secret(24)}, // some servers refuse fewer than 8 characters
		param{"code_challenge", oauth.S256(s.secret(32))},
		param{"code_challenge_method", "S256"},
		param{"resource", s.facts.Resource},
	)
	return authRequest{Endpoint: as.Meta.AuthorizationEndpoint, Params: p, Registered: c.RedirectURI, Marker: c.Name}
}

// follow sends one authorization request in a fresh jar.
func (s *session) follow(ctx context.Context, probe, note string, r authRequest) *Trail {
	jar := outbound.NewJar()
	jar.Name = note
	return s.followIn(ctx, jar, probe, note, r)
}

// followIn sends one authorization request in the given jar and follows it.
func (s *session) followIn(ctx context.Context, jar *outbound.Jar, probe, note string, r authRequest) *Trail {
	if !s.throughLogin {
		return s.followFront(ctx, jar, probe, note, r)
	}
	w := walker{s: s, jar: jar, probe: probe, note: note, r: r, trail: &Trail{}, seen: map[string]int{}}
	w.through(ctx, addParams(r.Endpoint, r.Params.encode()))
	return w.trail
}

// followFront follows a request without logging in, whatever the server shows.
func (s *session) followFront(ctx context.Context, jar *outbound.Jar, probe, note string, r authRequest) *Trail {
	w := walker{s: s, jar: jar, probe: probe, note: note, r: r, trail: &Trail{}, seen: map[string]int{}}
	w.walk(ctx, s.viaScript(addParams(r.Endpoint, r.Params.encode())))
	return w.trail
}

type walker struct {
	s           *session
	jar         *outbound.Jar
	probe, note string
	r           authRequest
	trail       *Trail
	seen        map[string]int
}

func (w *walker) walk(ctx context.Context, next string) {
	home := homeOf(next)
	for hop := 0; ; hop++ {
		if hop == maxHops {
			w.end(Other, next, "more than 20 redirects")
			return
		}
		if w.seen[next]++; w.seen[next] > maxLoop {
			w.end(Other, next, "a redirect loop")
			return
		}
		x := w.send(ctx, next, hop)
		w.trail.Exchanges = append(w.trail.Exchanges, x)
		if x.Response == nil {
			w.trail.Budget = x.Err == errBudget
			w.end(Unanswered, next, x.Err)
			return
		}
		w.trail.Steps = append(w.trail.Steps, stepOf(x, next))
		w.trail.Cookies = append(w.trail.Cookies, x.Response.Header.Values("Set-Cookie")...)
		to, page, onPage := w.target(x, next)
		if to == "" {
			w.page(x, next, page)
			return
		}
		if onPage && page.hasConsent(w.r.Marker) {
			w.trail.Consents = true
		}
		if w.terminal(home, next, to) {
			return
		}
		next = to
	}
}

func (w *walker) send(ctx context.Context, raw string, hop int) *kidoban.Exchange {
	req := outbound.Req{Method: http.MethodGet, URL: raw, Jar: w.jar, Probe: w.probe, Note: w.note,
		Header: kidoban.Fields{{Name: "Accept", Value: "text/html,application/xhtml+xml,*/*;q=0.8"}}}
	if hop == 0 {
		for _, h := range w.r.Header {
			req.Header = req.Header.Set(h.Name, h.Value)
		}
		if w.r.Host != "" {
			req.Header = req.Header.Set("Host", w.r.Host)
		}
	}
	return w.s.do(ctx, req)
}

// target returns where an answer sends the browser: its Location, or the meta
// refresh of its page. "" means that it stays.
func (w *walker) target(x *kidoban.Exchange, at string) (to string, page *Page, onPage bool) {
	if st := x.Status(); st >= 300 && st < 400 && st != 304 {
		if loc := x.Header("Location"); loc != "" {
			return resolve(at, loc), nil, false
		}
	}
	if !strings.Contains(mediaType(x), "html") {
		return "", nil, false
	}
	p := ParsePage(x.Response.Body)
	if p.Refresh != "" {
		return resolve(at, p.Refresh), &p, true
	}
	return "", &p, true
}

func resolve(base, ref string) string { return browser.Resolve(base, ref) }

// terminal notes a Location that ends the trail.
func (w *walker) terminal(home *url.URL, from, to string) bool {
	if kind, ok := w.callback(to); ok {
		w.end(kind, to, "")
		return true
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		w.end(Other, to, "a Location that is no http URL")
		return true
	}
	q := u.Query()
	elsewhere := home != nil && site(u.Host) != site(home.Host)
	if !elsewhere && q.Get("client_id") != "" && q.Get("client_id") != w.r.Params.get("client_id") && (q.Has("response_type") || q.Has("request_uri")) {
		elsewhere = true
	}
	if !elsewhere || w.ours(u.Host) && q.Get("client_id") == "" {
		return false
	}
	if q.Has("client_id") && (q.Has("response_type") || q.Has("request_uri") || q.Has("request")) {
		if !w.returnsHome(q) {
			return false // unrelated traffic that passes through the same browser
		}
		w.end(Upstream, to, "")
		w.trail.Params = q
		return true
	}
	if q.Has("SAMLRequest") || q.Has("wa") {
		w.end(Upstream, to, "another sign-in protocol")
		w.trail.Params = q
		return true
	}
	return false
}

// ours tells whether host belongs to the server under test.
func (w *walker) ours(host string) bool { return w.s.facts.owns(host) }

// returnsHome tells whether an authorization request to another server comes
// back to the server under test. One that goes elsewhere is unrelated traffic
// (analytics, advertising): taking it for the upstream made 11 of the study's
// false alarms. A pushed or signed request hides its redirect URI and counts.
func (w *walker) returnsHome(q url.Values) bool {
	r, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		return false
	}
	if r.Host == "" {
		return q.Has("request_uri") || q.Has("request")
	}
	if e, err := url.Parse(w.r.Endpoint); err == nil && r.Host == e.Host && r.Path == e.Path {
		return false // a detour that comes back to the very request, not to a callback
	}
	return w.ours(r.Host) || site(r.Host) == site(hostOf(w.r.Endpoint))
}

// callback tells whether to is a redirect URI that this request supplied, or
// any name under the probe domain, and what it carries.
func (w *walker) callback(to string) (Kind, bool) {
	hit, foreign := "", false
	for _, t := range append([]string{w.r.Registered}, w.r.Targets...) {
		if len(t) > len(hit) && startsURI(to, t) {
			hit, foreign = t, t != w.r.Registered
		}
	}
	for _, t := range w.r.Targets {
		if hit == w.r.Registered && keepsExtra(to, t, w.r.Registered) {
			hit, foreign = t, true
		}
	}
	if hit == "" {
		for _, t := range w.r.Targets {
			if t != w.r.Registered && samePlace(to, t) && !samePlace(to, w.r.Registered) {
				hit, foreign = t, true
			}
		}
	}
	if u, err := url.Parse(to); err == nil && strings.HasSuffix(strings.ToLower(u.Hostname()), probeDomain) && !startsURI(to, w.r.Registered) {
		hit, foreign = to, true
	}
	if hit == "" {
		return "", false
	}
	v, mode := callbackParams(to)
	w.trail.Params, w.trail.Mode, w.trail.Foreign, w.trail.Error = v, mode, foreign, v.Get("error")
	switch {
	case v.Get("code") != "" || v.Get("access_token") != "" || v.Get("id_token") != "":
		return CallbackCode, true
	case v.Get("error") != "":
		return CallbackError, true
	}
	return CallbackBare, true
}

// startsURI tells whether to is the URI t with parameters added, byte for byte.
// Nothing is normalised: the byte-exact rule is what is under test.
func startsURI(to, t string) bool {
	rest, ok := strings.CutPrefix(to, t)
	if !ok || t == "" {
		return false
	}
	return rest == "" || strings.ContainsRune("?&#", rune(rest[0])) || strings.Count(t, "/") == 2 && strings.HasPrefix(rest, "/?")
}

// keepsExtra tells whether a Location at the registered URI still carries the
// query or fragment by which t differs from it: some servers put the URI
// together anew.
func keepsExtra(to, t, registered string) bool {
	x, err1 := url.Parse(to)
	m, err2 := url.Parse(t)
	r, err3 := url.Parse(registered)
	if err1 != nil || err2 != nil || err3 != nil || m.Host != r.Host || m.Path != r.Path {
		return false
	}
	if m.Fragment != r.Fragment && x.Fragment == m.Fragment {
		return true
	}
	for k, v := range m.Query() {
		if !r.Query().Has(k) && x.Query().Get(k) == v[0] {
			return true
		}
	}
	return false
}

// samePlace compares where two URIs lead after a URL parser has had its way with
// them: some servers write the Location anew.
func samePlace(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	if err1 != nil || err2 != nil || x.Host == "" {
		return false
	}
	x, y = x.ResolveReference(&url.URL{Path: x.Path}), y.ResolveReference(&url.URL{Path: y.Path})
	return x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host) && x.Path == y.Path
}

// callbackParams reads the parameters of a callback from its query, else from its
// fragment.
func callbackParams(to string) (url.Values, string) {
	bare, frag, _ := strings.Cut(to, "#")
	_, q, _ := strings.Cut(bare, "?")
	query, _ := url.ParseQuery(q)
	if query.Has("code") || query.Has("error") || frag == "" {
		return query, "query"
	}
	if _, after, ok := strings.Cut(frag, "?"); ok { // a query glued behind a fragment
		frag = after
	}
	v, _ := url.ParseQuery(frag)
	return v, "fragment"
}

// page ends the trail on an answer that stays where it is.
func (w *walker) page(x *kidoban.Exchange, at string, p *Page) {
	t := w.trail
	if p != nil {
		t.Page = *p
	}
	u, _ := url.Parse(at)
	t.At = at
	if len(t.Page.Forms) > 0 {
		if f, err := url.Parse(resolve(at, t.Page.Forms[0].Action)); err == nil {
			t.Form = t.Page.Forms[0].Method + " " + f.Host + templatePath(f.Path)
		}
		if w.posted(t.Page.Forms[0], at) {
			return
		}
	}
	t.Kind, t.Error = classifyPage(x, &t.Page, u, w.r.Marker)
	t.Consents = t.Consents || t.Kind == Consent || t.Page.hasConsent(w.r.Marker)
}

// posted notes a page that would post the authorization response by script
// (response_mode=form_post).
func (w *walker) posted(f Form, at string) bool {
	if f.Method != "POST" {
		return false
	}
	v := url.Values{}
	for _, in := range f.Inputs {
		v.Set(in.Name, in.Value)
	}
	if v.Get("code") == "" && v.Get("error") == "" && v.Get("access_token") == "" {
		return false
	}
	action := resolve(at, f.Action)
	kind, ok := w.callback(action + "?" + v.Encode())
	if !ok {
		return false
	}
	w.end(kind, action, "")
	w.trail.Params, w.trail.Mode, w.trail.Error = v, "form_post", v.Get("error")
	return true
}

// classifyPage says what an answer without redirect is.
func classifyPage(x *kidoban.Exchange, p *Page, at *url.URL, marker string) (Kind, string) {
	switch {
	case challenged(x):
		return Challenge, ""
	case rateLimited(x):
		return RateLimit, ""
	case outage(x):
		return Unanswered, ""
	}
	if e := oauthError(x); e != "" {
		return ErrorPage, e
	}
	st := x.Status()
	isHTML := strings.Contains(mediaType(x), "html")
	if isHTML && (st < 400 || st == 401) {
		switch {
		case p.Password:
			return Login, ""
		case p.hasConsent(marker) && !p.Identity: // who are you, for the client's sake
			return Consent, ""
		case p.hasLogin():
			return Login, ""
		}
	}
	code := p.errorCode(at)
	switch {
	case st >= 400 || code != "":
		return ErrorPage, code
	case isHTML && p.needsScript():
		return JSOnly, ""
	}
	return Other, ""
}

func (w *walker) end(k Kind, at, why string) { w.trail.Kind, w.trail.At, w.trail.Why = k, at, why }

func homeOf(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	return u
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
