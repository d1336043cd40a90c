package audit

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/report"
)

// Tester is one test account of the tester and the way to log in with it. Its
// secrets go into login forms and nowhere else.
type Tester struct {
	browser.Account

	// Browser opens real browsers: consent is judged in one, with pictures, and
	// pages that are nothing without their scripts are passed in one. Without it
	// only plain pages are passed.
	Browser browser.Driver
	// Fast judges consent without a real browser where the pages are plain.
	Fast bool
	// Hands waits for the person at the browser's window to log in; the decision is
	// the pilot's all the same.
	Hands bool
	// Own is the person's own browser: she logs in and decides in it, once for each of
	// a few codes, and no page of it is judged.
	Own *browser.Own
	// Script plays a recorded login instead of finding the fields by itself.
	Script *browser.Script
}

// Shot is one page as a person saw it: evidence beside the exchanges.
type Shot = report.Shot

const (
	maxShots    = 60
	maxShotText = 8 << 10
	loginTime   = 60 * time.Second // of one walk through the pages
	handTime    = 5 * time.Minute  // of one in which a person logs in
)

// person is one profile of a browser: a real one, or a jar of cookies with the
// run's own client.
type person struct {
	s    *session
	who  *Tester
	name string
	jar  *outbound.Jar
	tab  browser.Tab // nil: plain pages

	probe, note string
	capture     func(string) bool
	hops        []*kidoban.Exchange
	known       bool // somebody asked who this person is
}

// person opens a fresh profile. real asks for a real browser where there is one.
func (s *session) person(ctx context.Context, who *Tester, name string, real bool) (*person, error) {
	p := &person{s: s, who: who, name: name, jar: outbound.NewJar()}
	p.jar.Name = name
	if (real || who.Script.NeedsBrowser()) && who.Browser != nil {
		if err := p.open(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// open gives the person a real browser with a profile of its own.
func (p *person) open(ctx context.Context) (err error) {
	p.tab, err = p.who.Browser.Open(ctx, browser.Policy{Pictures: true, Seen: p.seen,
		Capture: func(to string) bool { return p.capture != nil && p.capture(to) }})
	return err
}

func (p *person) close() {
	if p != nil && p.tab != nil {
		p.tab.Close()
	}
}

// seen numbers and records an exchange of a real browser.
func (p *person) seen(x *kidoban.Exchange) int {
	s := p.s
	x.ID, x.Probe, x.Note, x.Jar = s.ids(), p.probe, p.note, p.name
	s.mu.Lock()
	s.sent++
	s.mu.Unlock()
	s.rec.Add(*x)
	s.keep(x)
	s.miss(x)
	s.mu.Lock()
	p.hops = append(p.hops, x)
	s.mu.Unlock()
	return x.ID
}

// errand is one walk of a person.
type errand struct {
	key, note string
	start     string // "" goes on from the page of a real browser
	decision  browser.Decision
	marker    string
	capture   func(string) bool
	before    func(browser.Tab, *browser.Visit) error
	first     func(*outbound.Req) // changes the first request, plain pages only
}

// walked is how a walk went.
type walked struct {
	*browser.Journey
	hops []*kidoban.Exchange
	err  error
	tab  browser.Tab
}

// walk sends the person on an errand.
func (p *person) walk(ctx context.Context, e errand) walked {
	if p.who.Own != nil {
		return p.visit(ctx, e)
	}
	patience := loginTime
	if p.who.Hands {
		patience = handTime
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := p.s
	if s.refused[p.who] { // once is enough: more wrong tries lock accounts
		return walked{Journey: &browser.Journey{Why: browser.EndRefused}}
	}
	p.probe, p.note, p.capture, p.hops = e.key, e.note, e.capture, nil
	tab := p.tab
	if tab == nil {
		first := e.first
		tab = browser.NewForms(func(ctx context.Context, method, to string, h kidoban.Fields, body []byte) *kidoban.Exchange {
			r := outbound.Req{Method: method, URL: to, Header: h, Body: body, Jar: p.jar, Probe: e.key, Note: e.note}
			if first != nil {
				first(&r)
				first = nil
			}
			x := s.do(ctx, r)
			p.hops = append(p.hops, x)
			return x
		}, e.capture)
	} else if r, ok := tab.(interface{ Again() }); ok {
		r.Again()
	}
	be := browser.Errand{Account: p.who.Account, Decision: e.decision, Name: e.marker, Quick: p.tab == nil, Hands: p.who.Hands, Now: s.o.Now,
		Own: func(at string) bool { return s.facts.owns(hostOf(at)) }, Script: p.who.Script}
	if e.before != nil {
		be.Before = func(v *browser.Visit) error { return e.before(tab, v) }
	}
	j, err := browser.Walk(ctx, tab, e.start, be)
	if errors.Is(err, browser.ErrScript) && p.who.Browser != nil && s.forScript(ctx, p) {
		return p.walk(ctx, e)
	}
	s.mu.Lock()
	hops := p.hops
	s.mu.Unlock()
	s.shots(e, j)
	in := false
	for _, v := range j.Visits {
		in = in || v.Did == "login"
	}
	p.known = p.known || in
	switch {
	case j.Why != browser.EndRefused:
		s.welcome = s.welcome || in && err == nil && p.who == s.o.Login
	case !s.welcome || p.who != s.o.Login: // once the account was taken, it is the request that a login page stays for
		if s.refused == nil {
			s.refused = map[*Tester]bool{}
		}
		s.refused[p.who] = true
	}
	return walked{j, hops, err, tab}
}

// forScript gives the person a real browser, and everybody after: the pages need their
// scripts.
func (s *session) forScript(ctx context.Context, p *person) bool {
	if p.tab != nil || p.open(ctx) != nil {
		return false
	}
	s.needsScripts = true
	return true
}

// ownCodes are the questions for which the person's own browser is opened: each
// needs a code of its own, and patience is short.
func ownCodes() []string { return []string{"F9-2", "E24", "E22-1", "E25-b"} }

// visit sends the person's own browser.
func (p *person) visit(ctx context.Context, e errand) walked {
	at, err := p.who.Own.Visit(ctx, e.start)
	w := walked{Journey: &browser.Journey{}, err: err}
	if err == nil && e.capture != nil && e.capture(at) {
		w.Captured = at
	}
	return w
}

// ownOnly says of what was left out for want of codes how it is decided.
func ownOnly(out []kidoban.Result) {
	for i, r := range out {
		if check(r.Key()).Tier == kidoban.T3 && r.Outcome == kidoban.NotTested && (r.Reason == kidoban.ReasonBudget || r.Reason == kidoban.ReasonTime || r.Reason == kidoban.ReasonLogin) {
			out[i].Reason, out[i].Detail = kidoban.ReasonLogin, "--login-window, or --login-as NAME"
		}
	}
}

// shots keeps what was seen.
func (s *session) shots(e errand, j *browser.Journey) {
	for _, v := range j.Visits {
		if len(s.pages) >= maxShots || v.Page == nil {
			return
		}
		note := e.note
		if v.Did != "" {
			note += ": " + v.Did
		}
		at, _, _ := strings.Cut(v.URL, "?")
		s.pages = append(s.pages, Shot{XID: v.XID, Check: e.key, Note: note, URL: at, Title: clean(v.Title), Text: string(head([]byte(v.Text), maxShotText)), PNG: v.PNG})
	}
}

// silent tells whether the walk ended at a callback with a code although no page of
// the server's own asked for a decision.
func (w walked) silent() bool { return w.code() != "" && len(w.Consents()) == 0 }

// code is the code that the walk ended with.
func (w walked) code() string {
	if w.Journey == nil || w.Captured == "" {
		return ""
	}
	v, _ := callbackParams(w.Captured)
	return v.Get("code")
}

// failed gives the result of a walk that proves nothing.
func (w walked) failed(key string) (kidoban.Result, bool) {
	switch {
	case w.Journey == nil:
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin)), true
	case w.err != nil:
		return unclear(key, kidoban.ReasonUnstable, "the login did not work: "+firstLine(w.err.Error()), w.last()), true
	case w.Captured != "":
		return kidoban.Result{}, false
	}
	if x := w.last(); x != nil && rateLimited(x) {
		return unclear(key, kidoban.ReasonRateLimit, "the server limits logins; a limit is not a refusal", x), true
	} else if x != nil && (outage(x) || crashed(x)) {
		return undecided(key, "a page of the login", x)
	}
	if p := w.Last(); p != nil {
		for _, x := range w.hops {
			if x.Response != nil && challenged(x) {
				return unclear(key, kidoban.ReasonChallenge, "a content network asks for proof of a browser", x), true
			}
		}
		pg := ParsePage(p.HTML)
		if pg.needsScript() {
			return unclear(key, kidoban.ReasonJSOnly, "the page is nothing without its script", w.last()), true
		}
	}
	if w.Why == browser.EndRefused {
		return unclear(key, kidoban.ReasonUnstable, "the login was refused: check the account", w.last()), true
	}
	return kidoban.Result{}, false
}

func (w walked) last() *kidoban.Exchange {
	for i := len(w.hops) - 1; i >= 0; i-- {
		if w.hops[i].Response != nil {
			return w.hops[i]
		}
	}
	return nil
}

// ends are the exchanges that show how a walk ended.
func (w walked) ends() []*kidoban.Exchange {
	var out []*kidoban.Exchange
	if cs := w.consentX(); cs != nil {
		out = append(out, cs)
	}
	return append(out, w.last())
}

// consentX is the exchange of the first consent page.
func (w walked) consentX() *kidoban.Exchange {
	if w.Journey == nil {
		return nil
	}
	for _, c := range w.Consents() {
		for _, x := range w.hops {
			if x.ID == c.XID {
				return x
			}
		}
	}
	return nil
}

// toCallback captures the navigation to the redirect URIs of r and to any probe
// domain.
func (s *session) toCallback(r authRequest) func(string) bool {
	return func(to string) bool {
		w := walker{s: s, r: r, trail: &Trail{}}
		_, ok := w.callback(to)
		return ok
	}
}

// toUpstream captures also the request to an upstream.
func (s *session) toUpstream(r authRequest) func(string) bool {
	return func(to string) bool {
		w := walker{s: s, r: r, trail: &Trail{}}
		return w.terminal(homeOf(r.Endpoint), "", to)
	}
}

// through follows an authorization request by logging in on the way, for servers
// that show a login before they look at anything. It stops where a trail stops: at
// a decision of the server's own, at an upstream, at a callback.
func (w *walker) through(ctx context.Context, first string) {
	s := w.s
	p, err := s.person(ctx, s.o.Login, w.jar.Name, s.needsScripts)
	if err != nil {
		w.end(Unanswered, first, err.Error())
		return
	}
	defer p.close()
	p.jar, w.trail.Browser = w.jar, s.needsScripts
	home := homeOf(w.r.Endpoint)
	decision := browser.Look
	if s.approving {
		decision = browser.Approve
	}
	got := p.walk(ctx, errand{key: w.probe, note: w.note, start: s.viaScript(first), decision: decision, marker: w.r.Marker,
		capture: func(to string) bool { return w.terminal(home, first, to) },
		first: func(r *outbound.Req) {
			for _, h := range w.r.Header {
				r.Header = r.Header.Set(h.Name, h.Value)
			}
			if w.r.Host != "" {
				r.Header = r.Header.Set("Host", w.r.Host)
			}
		}})
	w.trail.Browser = s.needsScripts
	for _, x := range got.hops {
		w.trail.Exchanges = append(w.trail.Exchanges, x)
		if x.Response == nil {
			w.trail.Budget = x.Err == errBudget
			w.end(Unanswered, x.Request.URL, x.Err)
			return
		}
		w.trail.Steps = append(w.trail.Steps, stepOf(x, x.Request.URL))
		w.trail.Cookies = append(w.trail.Cookies, x.Response.Header.Values("Set-Cookie")...)
	}
	if got.Captured != "" {
		if len(got.Consents()) > 0 {
			w.trail.Consents = true
		}
		return // terminal has noted it
	}
	last, x := got.Last(), w.trail.Last()
	if last == nil || x == nil {
		w.end(Unanswered, first, "the browser showed no page")
		return
	}
	page := ParsePage(last.HTML)
	if s.needsScripts {
		page.Text, page.Scripts = last.Text, 0
	}
	w.page(x, last.URL, &page)
}

// learnScript passes the script page of the baseline in a real browser once. Where
// the script only leads on with the same query, later requests take that way
// without it; where it does more, every walk is made in the real browser.
func (s *session) learnScript(ctx context.Context, req authRequest) {
	who := s.o.Login
	if who == nil || who.Browser == nil {
		return
	}
	p, err := s.person(ctx, who, "script", true)
	if err != nil {
		return
	}
	defer p.close()
	query := req.Params.encode()
	got := p.walk(ctx, errand{key: "baseline", note: "the page's script in a real browser", start: addParams(req.Endpoint, query), decision: browser.Look,
		marker: req.Marker, capture: s.toUpstream(req)})
	if got.err != nil {
		return
	}
	for i, x := range got.hops {
		if i == 0 || x.Request.Method != http.MethodGet {
			continue
		}
		if way, ok := strings.CutSuffix(x.Request.URL, query); ok && way != req.Endpoint+"?" {
			s.scriptWay, s.scriptFrom = way, req.Endpoint+"?"
			return
		}
	}
	if len(got.Visits) > 1 || got.Captured != "" {
		s.needsScripts = true
	}
}

// viaScript is where a script would lead from an address.
func (s *session) viaScript(first string) string {
	if rest, ok := strings.CutPrefix(first, s.scriptFrom); ok && s.scriptWay != "" {
		return s.scriptWay + rest
	}
	return first
}

func addParams(endpoint, query string) string {
	if strings.Contains(endpoint, "?") {
		return endpoint + "&" + query
	}
	return endpoint + "?" + query
}
