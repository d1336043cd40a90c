package audit

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/outbound"
)

// The decision, judged behind a login (F6, E28, E01, E02, F1-e, F4-3, F7-14): what
// the page says, whether the answer counts, and for whom. The first profile belongs
// to the person, the second is a fresh browser of the same person: whatever ends
// there without a decision was decided by nobody.

type consentTrials struct {
	first  walked // a first-time client, up to the decision
	method string // of the form that approves

	midflow []walked // links of the open flow in a fresh browser
	links   []string

	foreignPost, byGet *Trail // the form's answer from a foreign browser, and by GET

	approved walked // the first client once more, approved
	second   walked // the second client in the same browser
	noOther  bool
	denied   walked
	swapped  walked // approved with another redirect URI in the form
	stranger walked // the client of F1-a
	noForein bool
	mark     string // in the name of the client marked, whose page is behind the login
	marked   Registration
	markup   walked

	toUp   walked // up to the request to the upstream
	thence walked // that request in a fresh browser
	upLink string

	back    walked // up to the upstream's answer
	forged  walked // that answer with another redirect URI in its state
	state   string
	what    string // routing data in the state
	signed  bool
	changed bool
}

func probeConsent() probe {
	keys := []string{"F6-A", "F6-B", "F6-C", "F6-D", "F6-E", "F6-F", "F6-G", "F6-H", "F7-14", "F1-e", "F4-3", "E01-b", "E02-b", "E28-a", "E28-b", "E28-c", "E28-d", "E28-e", "E28-f", "E28-g"}
	return define(spec{name: "the decision", keys: keys, tier: kidoban.T3}, collectConsent, judgeConsent)
}

func collectConsent(ctx context.Context, s *session) (c consentTrials) {
	f := s.facts
	if f.Client == nil || !s.o.walks() {
		return c
	}
	real := !s.o.Login.Fast || s.needsScripts
	look := s.lookFirst(ctx)
	p, r := look.p, look.r
	defer p.close()
	c.first = look.walked
	if c.first.err != nil || c.first.Why != browser.EndLook {
		s.collectStranger(ctx, p, &c)
		return c
	}
	s.midflow(ctx, real, r, &c)
	s.otherHands(ctx, p, r, &c)
	approve := func(key, note string, client *Client, d browser.Decision, before func(browser.Tab, *browser.Visit) error) walked {
		r, start := s.start(client)
		return p.walk(ctx, errand{key: key, note: note, start: start, decision: d, marker: r.Marker, capture: s.toCallback(r), before: before})
	}
	c.approved = approve("F6", "consent for the first client", f.Client, browser.Approve, nil)
	if f.Other != nil {
		r, start := s.start(f.Other)
		c.second = p.walk(ctx, errand{key: "F6-G", note: "another client in the same browser", start: start, decision: browser.Look, marker: r.Marker, capture: s.toCallback(r)})
	} else {
		c.noOther = true
	}
	// Some servers remember a yes: a client that has none yet is asked about.
	fresh := f.Client
	if f.Other != nil && !c.second.silent() {
		fresh = f.Other
	}
	c.denied = approve("F6-H", "the person says no", fresh, browser.Deny, nil)
	stranger := s.foreign()
	c.swapped = approve("F7-14", "approved with another redirect URI in the form", fresh, browser.Approve, func(tab browser.Tab, v *browser.Visit) error {
		for _, e := range v.Elements {
			if e.Form >= 0 && e.Index == v.ApproveAt() {
				return tab.Set(ctx, e.Form, "redirect_uri", stranger)
			}
		}
		return nil
	})
	s.collectStranger(ctx, p, &c)
	s.collectMarkup(ctx, p, &c)
	s.collectUpstreamLeg(ctx, real, &c)
	if c.upLink != "" {
		s.sampleBehind(ctx)
	}
	return c
}

// firstLook is the walk of somebody who has never met the client, up to the
// decision, and the browser in which it stays open.
type firstLook struct {
	walked
	p *person
	r authRequest
}

// lookFirst makes that walk, once in a run and before anything is approved.
func (s *session) lookFirst(ctx context.Context) *firstLook {
	if s.first != nil {
		return s.first
	}
	l := &firstLook{}
	s.first = l
	var start string
	l.r, start = s.start(s.facts.Client)
	var err error
	if l.p, err = s.person(ctx, s.o.Login, "the person's browser", !s.o.Login.Fast || s.needsScripts); err != nil {
		l.walked = walked{Journey: &browser.Journey{}, err: err}
		return l
	}
	l.walked = l.p.walk(ctx, errand{key: "F6", note: "a first-time client", start: start, decision: browser.Look, marker: l.r.Marker, capture: s.toCallback(l.r)})
	return l
}

// start is a fresh authorization request of a client and its address.
func (s *session) start(c *Client) (authRequest, string) {
	r, _ := s.request(c)
	return r, s.viaScript(addParams(r.Endpoint, r.Params.encode()))
}

// collectStranger sends the person to the client that a stranger registered.
func (s *session) collectStranger(ctx context.Context, p *person, c *consentTrials) {
	if s.facts.Foreign == nil || !s.wants("F1-e") {
		c.noForein = true
		return
	}
	r, start := s.start(s.facts.Foreign)
	c.stranger = p.walk(ctx, errand{key: "F1-e", note: "a stranger's client", start: start, decision: browser.Look, marker: r.Marker, capture: s.toCallback(r)})
}

// collectMarkup sends the person to a client whose name is markup, where the page that
// shows it comes after the login only.
func (s *session) collectMarkup(ctx context.Context, p *person, c *consentTrials) {
	f := s.facts
	if !s.wants("E28-e") || !s.o.has(kidoban.T2) || f.AS.Meta.RegistrationEndpoint == "" || f.Base == nil || f.Base.Kind == Consent {
		return
	}
	c.mark = s.nonce(8)
	var ok bool
	if c.marked, ok = s.registerMarkup(ctx, c.mark); ok && c.marked.accepted() {
		r, start := s.start(c.marked.Client)
		c.markup = p.walk(ctx, errand{key: "E28-e", note: "a client whose name is markup", start: start, decision: browser.Look, marker: r.Marker, capture: s.toCallback(r)})
	}
}

// midflow opens the links of the open flow in a fresh browser of the same person.
func (s *session) midflow(ctx context.Context, real bool, r authRequest, c *consentTrials) {
	seen := map[string]bool{}
	hops := slices.Clone(c.first.hops)
	slices.Reverse(hops) // the latest first: it is the nearest to the end
	for i, x := range hops {
		u := x.Request.URL
		if x.Request.Method != http.MethodGet || seen[u] || !s.facts.owns(hostOf(u)) || i == len(hops)-1 || strings.HasPrefix(u, r.Endpoint+"?") || !strings.Contains(u, "?") {
			continue
		}
		if seen[u] = true; len(c.links) >= 4 {
			return
		}
		p, err := s.person(ctx, s.o.Login, "a fresh browser", real && len(c.links) == 0)
		if err != nil {
			return
		}
		w := p.walk(ctx, errand{key: "F6-E", note: "a link of the open flow in a fresh browser", start: u, decision: browser.Look, marker: r.Marker, capture: s.toCallback(r)})
		p.close()
		c.links, c.midflow = append(c.links, u), append(c.midflow, w)
		if w.silent() {
			return
		}
	}
}

// otherHands answers the open decision from a browser that knows its fields only,
// and by GET.
func (s *session) otherHands(ctx context.Context, p *person, r authRequest, c *consentTrials) {
	page := c.first.Last()
	at := page.ApproveAt()
	if at < 0 || at >= len(page.Elements) || page.Elements[at].Form < 0 {
		return
	}
	button := page.Elements[at]
	forms := ParsePage(page.HTML).Forms
	if button.Form >= len(forms) {
		return
	}
	f := forms[button.Form]
	c.method = f.Method
	v := url.Values{}
	for _, e := range page.Elements {
		if e.Form == button.Form && e.Name != "" && (e.Kind == "hidden" || e.Index == at) {
			v.Set(e.Name, e.Value)
		}
	}
	action := resolve(page.URL, f.Action)
	if !s.facts.owns(hostOf(action)) {
		return
	}
	bare, _, _ := strings.Cut(action, "?")
	c.byGet = s.send(ctx, p.jar, r, "E28-c", "the approval by GET", outbound.Req{Method: http.MethodGet, URL: bare + "?" + v.Encode()})
	if f.Method == http.MethodPost {
		c.foreignPost = s.send(ctx, outbound.NewJar(), r, "E28-c", "the approval from a foreign browser", outbound.Req{Method: http.MethodPost, URL: action, Body: []byte(v.Encode()),
			Header: kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Origin", Value: "https://" + s.nonce(8) + probeDomain}, {Name: "Sec-Fetch-Site", Value: "cross-site"}}})
	}
}

// send sends one request and says where its answer leads, without going there.
func (s *session) send(ctx context.Context, jar *outbound.Jar, r authRequest, key, note string, req outbound.Req) *Trail {
	req.Jar, req.Probe, req.Note = jar, key, note
	x := s.do(ctx, req)
	w := walker{s: s, jar: jar, probe: key, note: note, r: r, trail: &Trail{Exchanges: []*kidoban.Exchange{x}}}
	if x.Response == nil {
		w.end(Unanswered, req.URL, x.Err)
		return w.trail
	}
	loc, page, _ := w.target(x, req.URL)
	switch {
	case loc == "":
		w.page(x, req.URL, page)
	case !w.terminal(homeOf(r.Endpoint), req.URL, loc):
		w.end(Other, loc, "a redirect to another page of the server")
	}
	return w.trail
}

// collectUpstreamLeg tests the way over the upstream: the request to it in another
// browser (E02-b), and its answer with a changed state (F4-3).
func (s *session) collectUpstreamLeg(ctx context.Context, real bool, c *consentTrials) {
	f := s.facts
	here, err := s.person(ctx, s.o.Login, "the one who consents", s.needsScripts)
	if err != nil {
		return
	}
	defer here.close()
	r, start := s.start(f.Client)
	giver, err := s.person(ctx, s.o.Login, "the one who consents", real)
	if err != nil {
		return
	}
	defer giver.close()
	c.toUp = giver.walk(ctx, errand{key: "E02-b", note: "consent in one browser, up to the upstream", start: start, marker: r.Marker, capture: s.toUpstream(r)})
	u, err := url.Parse(c.toUp.Captured)
	if err != nil || c.toUp.Captured == "" || s.facts.owns(u.Host) && u.Query().Get("redirect_uri") == "" || c.toUp.code() != "" || u.Query().Get("client_id") == "" {
		return
	}
	c.upLink = c.toUp.Captured
	there, err := s.person(ctx, s.o.Login, "another browser", real)
	if err != nil {
		return
	}
	c.thence = there.walk(ctx, errand{key: "E02-b", note: "the upstream's link in another browser, where nobody has consented", start: c.upLink, decision: browser.Look, marker: r.Marker, capture: s.toCallback(r)})
	there.close()

	back := u.Query().Get("redirect_uri")
	r, start = s.start(f.Client)
	c.back = here.walk(ctx, errand{key: "F4-3", note: "up to the upstream's answer", start: start, marker: r.Marker, capture: func(to string) bool {
		v, _ := callbackParams(to)
		return startsURI(to, back) && v.Get("code") != ""
	}})
	answer, err := url.Parse(c.back.Captured)
	if err != nil || c.back.Captured == "" {
		return
	}
	q := answer.Query()
	c.state = q.Get("state")
	c.what, c.signed = routing(c.state, r)
	stranger := s.foreign()
	changed, ok := retarget(c.state, r.Registered, stranger)
	if c.what == "" || c.signed || !ok {
		return
	}
	c.changed = true
	q.Set("state", changed)
	answer.RawQuery = q.Encode()
	r.Targets = []string{stranger}
	c.forged = here.walk(ctx, errand{key: "F4-3", note: "the upstream's answer with another redirect URI in its state", start: answer.String(), marker: r.Marker, capture: s.toCallback(r)})
}

func judgeConsent(f *Facts, c consentTrials) []kidoban.Result {
	keys := []string{"F6-B", "F6-C", "F6-D", "F6-E", "F6-F", "F6-G", "F6-H", "F7-14", "F4-3", "E01-b", "E02-b", "E28-b", "E28-c", "E28-f"}
	if f.Client == nil {
		return everyone(append(keys, "F6-A", "F1-e", "E28-a", "E28-d", "E28-e", "E28-g"), func(k string) kidoban.Result {
			return untested(k, kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		})
	}
	out := []kidoban.Result{judgeF1e(f, &c)}
	if c.first.Journey == nil || c.first.err != nil || c.first.Why != browser.EndLook {
		out = append(out, judgeNoDecision(&c))
		keys = append(keys, "E28-a", "E28-d", "E28-e", "E28-g")
		if c.first.silent() {
			return append(out, everyone(keys, func(k string) kidoban.Result { return absent(k, "no decision is asked for (F6-A)", c.first.last()) })...)
		}
		return append(out, everyone(keys, func(k string) kidoban.Result { return c.first.noCode(k) })...)
	}
	x := c.first.consentX()
	out = append(out, passed("F6-A", "a person is asked to decide about a first-time client", x))
	out = append(out, judgeWords(f, c.first.Consents()[0], x)...)
	out = append(out, judgeDecisionPage(&c, x)...)
	out = append(out, judgeMidflow(&c), judgeRemembered(&c, "F6-G"), judgeRemembered(&c, "E01-b"), judgeDeny(&c), judgeSwapped(&c))
	return append(out, judgeHands(&c), judge307(&c), judgeShownMarkup(&c), judgeOtherBrowser(&c), judgeForgedAnswer(&c))
}

// judgeNoDecision: a code that comes after the login with no decision.
func judgeNoDecision(c *consentTrials) kidoban.Result {
	if c.first.silent() {
		return positive("F6-A", kidoban.Confirmed, "a first-time client gets a code and nobody is asked", c.first.last())
	}
	return c.first.noCode("F6-A")
}

func judgeF1e(f *Facts, c *consentTrials) kidoban.Result {
	const key = "F1-e"
	switch {
	case c.noForein && f.ForeignReg != nil && !f.ForeignReg.accepted():
		if r, bad := undecided(key, "the registration of a stranger's web address", f.ForeignReg.X); bad {
			return r
		}
		return passed(key, "a stranger's web address cannot be registered", f.ForeignReg.X)
	case c.first.err != nil || c.first.Journey != nil && c.first.Captured == "" && c.first.Why != browser.EndLook:
		return c.first.noCode(key)
	case c.noForein || c.stranger.Journey == nil:
		return untested(key, kidoban.ReasonTier, detailFor(kidoban.ReasonTier))
	case c.stranger.silent():
		return positive(key, kidoban.Confirmed, "a code for the stranger's client is sent to its own host after the login, and nobody is asked", f.ForeignReg.X, c.stranger.last())
	case len(c.stranger.Consents()) > 0:
		return passed(key, "a person is asked before a stranger's client gets a code", c.stranger.ends()...)
	}
	return c.stranger.noCode(key)
}

// judgeWords reads the decision page as it was rendered.
func judgeWords(f *Facts, p *browser.Page, x *kidoban.Exchange) []kidoban.Result {
	g := *f
	page := ParsePage(p.HTML)
	page.Text, page.Scripts = p.Text, 0
	g.Base = &Trail{Kind: Consent, Page: page, Exchanges: []*kidoban.Exchange{x}}
	return judgeF6Static(&g)
}

// judgeDecisionPage judges the web security of the decision page.
func judgeDecisionPage(c *consentTrials, x *kidoban.Exchange) []kidoban.Result {
	p := c.first.Consents()[0]
	shown := &kidoban.Exchange{ID: x.ID, Request: x.Request, Response: x.Response}
	g := &Facts{Base: &Trail{Kind: Consent, Page: ParsePage(p.HTML), Exchanges: []*kidoban.Exchange{shown}}}
	return judgeE28(g)
}

func judgeMidflow(c *consentTrials) kidoban.Result {
	const key = "F6-E"
	if len(c.midflow) == 0 {
		return passed(key, "no link of the open flow could be opened elsewhere", c.first.consentX())
	}
	for _, w := range c.midflow {
		if w.silent() {
			return positive(key, kidoban.Confirmed, "a link of somebody else's flow, opened in a fresh browser, gives a code without a decision there", c.first.consentX(), w.last())
		}
	}
	return passed(key, "links of the open flow give nothing in a fresh browser", c.midflow[0].ends()...)
}

// judgeRemembered: does a decision for one client count for another? With an
// upstream on the way it is the confused deputy.
func judgeRemembered(c *consentTrials, key string) kidoban.Result {
	switch {
	case c.noOther:
		return untested(key, kidoban.ReasonClient, "a second --client-id, or open registration")
	case c.approved.code() == "":
		return c.approved.noCode(key)
	case (c.upLink != "") != (key == "E01-b"):
		if key == "E01-b" {
			return absent(key, "there is no upstream", c.second.last())
		}
		return absent(key, "with an upstream it is counted as E01-b", c.second.last())
	case c.second.silent():
		what := "a decision for one client counts for another: its code comes without a page"
		if key == "E01-b" {
			what = "a second client gets its code over the upstream's remembered consent, without any page that asks about it"
		}
		return positive(key, kidoban.Confirmed, what, c.approved.consentX(), c.approved.last(), c.second.last())
	case len(c.second.Consents()) > 0:
		return passed(key, "another client is asked about anew", c.second.ends()...)
	}
	return c.second.noCode(key)
}

func judgeDeny(c *consentTrials) kidoban.Result {
	const key = "F6-H"
	said := c.denied.Journey != nil && len(c.denied.Visits) > 0 && slices.ContainsFunc(c.denied.Visits, func(v browser.Visit) bool { return v.Did == "deny" })
	switch {
	case c.denied.err != nil, c.denied.Journey == nil:
		return c.denied.noCode(key)
	case !said && c.denied.Why == browser.EndStuck:
		return unclear(key, kidoban.ReasonNeedsUI, "the decision page has no button that says no", c.denied.last())
	case !said:
		return unclear(key, kidoban.ReasonUnstable, "no decision was asked for this time", c.denied.last())
	case c.denied.code() != "":
		return positive(key, kidoban.Confirmed, "saying no sends a code all the same", c.denied.ends()...)
	}
	return passed(key, "saying no gives no code", c.denied.ends()...)
}

func judgeSwapped(c *consentTrials) kidoban.Result {
	const key = "F7-14"
	if r, bad := c.swapped.failed(key); bad {
		return r
	}
	if at := c.swapped.Captured; at != "" && isProbeURL(at) {
		return positive(key, kidoban.Confirmed, "the redirect URI in the decision's form is believed: the answer goes to a stranger", c.swapped.ends()...)
	}
	return passed(key, "a redirect URI in the decision's form changes nothing", c.swapped.ends()...)
}

func judgeHands(c *consentTrials) kidoban.Result {
	const key = "E28-c"
	tried := 0
	for _, t := range []struct {
		trail *Trail
		what  string
	}{{c.byGet, "the decision is taken by GET"}, {c.foreignPost, "the decision is taken from a foreign browser that knows the form's fields"}} {
		if t.trail == nil || t.trail.Kind == Unanswered {
			continue
		}
		tried++
		if t.trail.Kind == CallbackCode || t.trail.Kind == Upstream {
			return positive(key, kidoban.Confirmed, t.what, c.first.consentX(), t.trail.Last())
		}
	}
	if tried == 0 {
		return unclear(key, kidoban.ReasonNeedsUI, "the decision is sent by a script; its form could not be read", c.first.consentX())
	}
	return passed(key, "the decision counts only from the browser that was asked, as a POST", c.first.consentX(), c.foreignPost.Last())
}

// judgeShownMarkup looks for the element that the client's name would have become.
func judgeShownMarkup(c *consentTrials) kidoban.Result {
	const key = "E28-e"
	switch {
	case c.marked.X == nil:
		return untested(key, kidoban.ReasonTier, detailFor(kidoban.ReasonTier))
	case !c.marked.accepted():
		if r, bad := unanswered(key, c.marked.X); bad {
			return r
		}
		return passed(key, "a client name that is markup is refused", c.marked.X)
	case c.markup.err != nil || len(c.markup.Consents()) == 0:
		return c.markup.noCode(key)
	}
	for _, p := range c.markup.Consents() {
		if ParsePage(p.HTML).Marks[c.mark] {
			return positive(key, kidoban.Confirmed, "the client's name is written into the page as markup", c.marked.X, c.markup.consentX())
		}
	}
	return passed(key, "the client's name is shown as text", c.marked.X, c.markup.consentX())
}

func judge307(c *consentTrials) kidoban.Result {
	const key = "E28-f"
	var last *kidoban.Exchange
	for _, w := range []walked{c.first, c.approved} {
		for _, x := range w.hops {
			if x.Request.Method != http.MethodPost || x.Response == nil {
				continue
			}
			if last = x; x.Status() == 307 || x.Status() == 308 {
				return positive(key, kidoban.Confirmed, "a form is answered with "+itoa(x.Status())+", which sends its fields on", x)
			}
		}
	}
	if last == nil {
		return absent(key, "no form was posted", c.first.last())
	}
	return passed(key, "forms are answered with a status that drops their fields", last)
}

func judgeOtherBrowser(c *consentTrials) kidoban.Result {
	const key = "E02-b"
	switch {
	case c.upLink == "":
		return c.noUpstream(key)
	case c.thence.silent():
		return positive(key, kidoban.Confirmed, "a decision made in one browser lets another one finish: the code comes without a decision there", c.toUp.consentX(), c.toUp.last(), c.thence.last())
	case c.thence.err != nil:
		return c.thence.noCode(key)
	}
	return passed(key, "the upstream's answer in another browser gives no code without a decision there", c.toUp.last(), c.thence.last())
}

// noUpstream says that there is none only where a walk ended with a code and met none
// on its way; a walk that did not get there says nothing.
func (c *consentTrials) noUpstream(key string) kidoban.Result {
	if c.toUp.code() == "" {
		return c.toUp.noCode(key)
	}
	return absent(key, noUpstream, c.toUp.last())
}

func judgeForgedAnswer(c *consentTrials) kidoban.Result {
	const key = "F4-3"
	switch {
	case c.upLink == "":
		return c.noUpstream(key)
	case c.back.Captured == "":
		return c.back.noCode(key)
	case c.what == "":
		return passed(key, "the upstream state is opaque: there is nothing to change", c.back.last())
	case c.signed:
		return absent(key, "counted as F4-4: the state is signed", c.back.last())
	case !c.changed:
		return unclear(key, kidoban.ReasonNeedsUI, "the state carries routing data in a form that cannot be rewritten", c.back.last())
	case c.forged.code() != "" && isProbeURL(c.forged.Captured):
		return positive(key, kidoban.Confirmed, "an upstream state with a changed redirect URI sends the code to a stranger", c.back.last(), c.forged.last())
	}
	return passed(key, "a changed state sends no code to a stranger", c.back.last(), c.forged.last())
}
