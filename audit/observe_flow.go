package audit

import (
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// flow is one authorization as it went: the request of an MCP client (L1), the
// way of the browser, the callback bound by state, the token request bound by
// the code. Missing parts stay nil: traffic may begin late or end early.
type flow struct {
	params   url.Values // of the request; those of a pushed or JSON one filled in
	x        *kidoban.Exchange
	trail    *Trail // without anybody's input: up to the first page, upstream or callback
	answer   *Trail // the authorization response, wherever it came from
	callback *kidoban.Exchange
	token    *kidoban.Exchange
	pushed   bool
}

// tokenAnswer is one request to the token endpoint.
type tokenAnswer struct {
	x     *kidoban.Exchange
	p     url.Values
	reply oauth.TokenResponse
	ok    bool
}

func (t *traffic) findFlows() {
	f := t.f
	if f.AS == nil {
		return
	}
	pushed := map[string]url.Values{}
	for _, x := range t.all {
		switch kindOfMessage(x) {
		case askPushed:
			if x.Response == nil {
				continue
			}
			var m = jsonObject(x.Response.Body)
			if uri := textMember(m["request_uri"]); uri != "" {
				pushed[uri] = paramsOf(x)
			} else if t.atServer(x) { // a request by POST is legal (RFC 6749 §3.1)
				t.addFlow(x, paramsOf(x), false)
			}
		case askAuthorization:
			if !t.atServer(x) || x.Response == nil {
				continue
			}
			p := paramsOf(x)
			if whole, ok := pushed[p.Get("request_uri")]; ok {
				t.addFlow(x, whole, true)
			} else {
				t.addFlow(x, p, false)
			}
		}
	}
	t.bindCallbacks()
	t.upstreams()
	for _, fl := range t.flows {
		if f.Base == nil {
			f.Base = fl.trail
			if c := t.client(fl.params.Get("client_id")); c != nil {
				f.Client = c
			}
		}
	}
	if f.Base != nil && f.Client == nil {
		p := t.flows[0].params
		f.Client = &Client{ID: p.Get("client_id"), RedirectURI: p.Get("redirect_uri"), Redirects: []string{p.Get("redirect_uri")}, Pre: true}
	}
}

// atServer tells whether a request goes to the target's authorization endpoint.
func (t *traffic) atServer(x *kidoban.Exchange) bool {
	return bareURL(x.Request.URL) == bareURL(t.f.AS.Meta.AuthorizationEndpoint)
}

func (t *traffic) addFlow(x *kidoban.Exchange, p url.Values, pushed bool) {
	// The same request again, on the way through the server's own redirects, is no
	// second flow.
	for _, old := range t.flows {
		if old.params.Get("state") == p.Get("state") && old.params.Get("code_challenge") == p.Get("code_challenge") && old.params.Get("client_id") == p.Get("client_id") &&
			slices.Contains(old.trail.Exchanges, x) {
			return
		}
	}
	if layerOf(p.Get("redirect_uri"), t.f.URL, t.f.AS.Issuer) == 2 && !t.f.Local {
		return // the server as its own client: no MCP client's request
	}
	fl := &flow{params: p, x: x, pushed: pushed}
	fl.trail = t.follow(x, t.request(p))
	t.flows = append(t.flows, fl)
}

// request is the authorization request in the form the judges know.
func (t *traffic) request(p url.Values) authRequest {
	var ps params
	for k, vs := range p {
		for _, v := range vs {
			ps = append(ps, param{k, v})
		}
	}
	slices.SortFunc(ps, func(a, b param) int { return strings.Compare(a.name+a.value, b.name+b.value) })
	r := authRequest{Endpoint: t.f.AS.Meta.AuthorizationEndpoint, Params: ps, Registered: p.Get("redirect_uri")}
	if c := t.client(p.Get("client_id")); c != nil {
		r.Marker = c.Name
	}
	return r
}

// follow goes along recorded answers as the browser went: from Location to the
// next request for it, over any number of hops.
func (t *traffic) follow(x *kidoban.Exchange, r authRequest) *Trail {
	w := walker{s: &session{facts: t.f}, r: r, trail: &Trail{}}
	home, err := url.Parse(x.Request.URL)
	if err != nil {
		w.end(Other, x.Request.URL, "an address that cannot be read")
		return w.trail
	}
	used := map[*kidoban.Exchange]bool{}
	for at := x.Request.URL; ; {
		used[x] = true
		w.trail.Exchanges = append(w.trail.Exchanges, x)
		if x.Response == nil {
			w.end(Unanswered, at, "no answer was recorded")
			return w.trail
		}
		w.trail.Steps = append(w.trail.Steps, stepOf(x, at))
		w.trail.Cookies = append(w.trail.Cookies, x.Response.Header.Values("Set-Cookie")...)
		to, page, onPage := w.target(x, at)
		if to == "" {
			w.page(x, at, page)
			return w.trail
		}
		if onPage && page.hasConsent(r.Marker) {
			w.trail.Consents = true
		}
		if w.terminal(home, at, to) {
			return w.trail
		}
		next := t.after(x, to, used)
		if next == nil {
			w.end(Other, to, "the recording does not show where the browser went")
			return w.trail
		}
		x, at = next, to
	}
}

// after is the first request for u behind x.
func (t *traffic) after(x *kidoban.Exchange, u string, used map[*kidoban.Exchange]bool) *kidoban.Exchange {
	u, _, _ = strings.Cut(u, "#")
	for _, i := range t.byURL[u] {
		if y := t.all[i]; i > t.pos[x] && !used[y] {
			return y
		}
	}
	return nil
}

// bindCallbacks finds the authorization responses: in a Location, in a posted
// form, or in the request that the browser made of it. The state binds; where a
// server altered it, the redirect URI of the one flow that is still open does.
func (t *traffic) bindCallbacks() {
	bind := func(x *kidoban.Exchange, to string) {
		v, mode := callbackParams(to)
		c := url.Values{}
		for k, vs := range v {
			c[canonical(k)] = vs
		}
		if c.Get("code") == "" && c.Get("error") == "" && c.Get("access_token") == "" && c.Get("id_token") == "" {
			return
		}
		if fl := t.flowOf(x, to, c.Get("state")); fl != nil && fl.answer == nil {
			fl.answer, fl.callback = &Trail{Kind: CallbackCode, At: to, Params: c, Mode: mode, Error: c.Get("error"), Exchanges: []*kidoban.Exchange{x}}, x
			if c.Get("error") != "" {
				fl.answer.Kind = CallbackError
			}
		}
	}
	for _, x := range t.all {
		if loc := x.Header("Location"); loc != "" {
			bind(x, resolve(x.Request.URL, loc))
		}
	}
	for _, x := range t.all { // what was not seen leaving may be seen arriving
		if kindOfMessage(x) == isCallback && x.Request.Method == "GET" {
			bind(x, x.Request.URL)
		}
	}
	for _, fl := range t.flows {
		if fl.answer == nil && fl.trail.Mode == "form_post" {
			fl.answer, fl.callback = fl.trail, fl.trail.Last()
		}
	}
}

func (t *traffic) flowOf(x *kidoban.Exchange, to, state string) *flow {
	var open []*flow
	for _, fl := range t.flows {
		if !startsURI(to, fl.params.Get("redirect_uri")) || t.pos[fl.x] > t.pos[x] {
			continue
		}
		if state != "" && fl.params.Get("state") == state && (fl.answer == nil || fl.answer.At == to) {
			return fl
		}
		if fl.answer == nil {
			open = append(open, fl)
		}
	}
	if len(open) == 1 && t.ofServer(x) {
		return open[0]
	}
	return nil
}

// ofServer tells an answer of the target's own hosts.
func (t *traffic) ofServer(x *kidoban.Exchange) bool { return t.f.owns(hostOf(x.Request.URL)) }

// upstreams finds the requests of the server to its upstream: Locations of its
// own answers that lead to another authorization endpoint and come back to it.
// Authorization requests that lead elsewhere are other people's.
func (t *traffic) upstreams() {
	f := t.f
	if len(t.flows) == 0 {
		return
	}
	seen := map[string]bool{}
	for _, x := range t.all {
		loc := x.Header("Location")
		if loc == "" || !t.ofServer(x) && !t.onTheWay(x) {
			continue
		}
		var fl *flow
		for _, c := range t.flows {
			if t.pos[c.x] <= t.pos[x] {
				fl = c
			}
		}
		if fl == nil {
			continue
		}
		to := resolve(x.Request.URL, loc)
		r := t.request(fl.params)
		w := walker{s: &session{facts: f}, r: r, trail: &Trail{}}
		home, err := url.Parse(f.AS.Meta.AuthorizationEndpoint)
		if err != nil || seen[to] || !w.terminal(home, x.Request.URL, to) || w.trail.Kind != Upstream {
			continue
		}
		seen[to] = true
		tr := fl.trail
		if tr.At != to { // it came after a page
			w.trail.Exchanges = []*kidoban.Exchange{x}
			w.trail.Consents = t.consentBefore(fl, x)
			w.trail.Cookies = t.cookiesBefore(fl, x)
			tr = w.trail
		}
		if l, ok := readL2(tr, nil, r); ok {
			if f.L2 == nil {
				f.L2 = &Upstreams{}
			}
			f.L2.Samples = append(f.L2.Samples, l)
			f.L2.Delegated = f.L2.Delegated || l.delegated()
		}
	}
}

// consentBefore tells whether a consent page was shown between a flow's request
// and the answer x. A login page asks who the person is, not about the client.
func (t *traffic) consentBefore(fl *flow, x *kidoban.Exchange) bool {
	for _, y := range t.all[t.pos[fl.x]:t.pos[x]] {
		if y.Response == nil || !t.ofServer(y) || !strings.Contains(mediaType(y), "html") {
			continue
		}
		p := ParsePage(y.Response.Body)
		if kind, _ := classifyPage(y, &p, nil, t.marker()); kind == Consent {
			return true
		}
	}
	return false
}

// onTheWay tells whether x is a hop of a flow's trail.
func (t *traffic) onTheWay(x *kidoban.Exchange) bool {
	for _, fl := range t.flows {
		if slices.Contains(fl.trail.Exchanges, x) {
			return true
		}
	}
	return false
}

// cookiesBefore are the cookies that the server set between a flow's request and
// the answer x.
func (t *traffic) cookiesBefore(fl *flow, x *kidoban.Exchange) (out []string) {
	for _, y := range t.all[t.pos[fl.x] : t.pos[x]+1] {
		if y.Response != nil && t.ofServer(y) {
			out = append(out, y.Response.Header.Values("Set-Cookie")...)
		}
	}
	return out
}

// findTokens reads the token endpoint's traffic and binds it by code.
func (t *traffic) findTokens() {
	if t.f.AS == nil {
		return
	}
	for _, x := range t.all {
		if kindOfMessage(x) != askToken || x.Response == nil || !t.ofServer(x) {
			continue
		}
		if at := t.f.AS.Meta.TokenEndpoint; at != "" && bareURL(x.Request.URL) != bareURL(at) {
			continue
		}
		a := tokenAnswer{x: x, p: paramsOf(x)}
		r, err := oauth.ParseTokenResponse(x.Status(), x.Response.Body)
		a.reply, a.ok = r, err == nil
		t.tokens = append(t.tokens, a)
		code := a.p.Get("code")
		for _, fl := range t.flows {
			if code != "" && fl.answer != nil && fl.answer.Params.Get("code") == code && fl.token == nil && a.ok {
				fl.token = x
			}
		}
	}
	// A callback that went to the client's own machine is not in every recording:
	// the one flow of this client that is still open got the code.
	for _, a := range t.tokens {
		if code := a.p.Get("code"); code != "" && a.ok {
			t.bindLate(a, code)
		}
	}
}

func (t *traffic) bindLate(a tokenAnswer, code string) {
	var open []*flow
	for _, fl := range t.flows {
		if fl.token == a.x {
			return
		}
		if fl.answer == nil && fl.token == nil && t.pos[fl.x] < t.pos[a.x] && fl.params.Get("client_id") == a.p.Get("client_id") &&
			(a.p.Get("redirect_uri") == "" || a.p.Get("redirect_uri") == fl.params.Get("redirect_uri")) {
			if v := a.p.Get("code_verifier"); v != "" && fl.params.Get("code_challenge_method") == "S256" && !isMasked(v) && oauth.S256(v) != fl.params.Get("code_challenge") {
				continue
			}
			open = append(open, fl)
		}
	}
	if len(open) == 1 {
		open[0].token = a.x
	}
}

// isMasked tells a value that a recorder replaced.
func isMasked(s string) bool {
	return strings.Contains(s, "…sha256:") || strings.Contains(s, "…redacted")
}
