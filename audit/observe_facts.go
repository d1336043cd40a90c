package audit

import (
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/wire"
)

// traffic is an observation sorted for the judges: the facts that discovery
// would have found, the flows, and what only a logged-in client sees.
type traffic struct {
	f        *Facts
	all      []*kidoban.Exchange
	pos      map[*kidoban.Exchange]int
	byURL    map[string][]int // positions in all, ascending
	asDoc    bool             // f.AS was read from a document, not guessed from the traffic
	calls    []*kidoban.Exchange
	flows    []*flow
	tokens   []tokenAnswer
	regs     []Registration
	sessions []string // session ids, in order of first sight
	sessionX []*kidoban.Exchange
}

// mcpPlaces counts the addresses that MCP messages went to, in order of first
// sight.
func (o *Observation) mcpPlaces() (places []string) {
	count := map[string]int{}
	for _, x := range o.kept {
		if !isMCP(x) || x.Response == nil || x.Status() == 404 {
			continue
		}
		place := bareURL(x.Request.URL)
		if count[place]++; count[place] == 1 {
			places = append(places, place)
		}
	}
	slices.SortStableFunc(places, func(a, b string) int { return count[b] - count[a] })
	return places
}

func bareURL(raw string) string {
	raw, _, _ = strings.Cut(raw, "#")
	raw, _, _ = strings.Cut(raw, "?")
	return raw
}

// sortTraffic builds the facts about target. It does no I/O.
func (o *Observation) sortTraffic(target string) *traffic {
	local := isLoopbackURL(target)
	t := &traffic{all: o.kept, pos: map[*kidoban.Exchange]int{}, byURL: map[string][]int{},
		f: &Facts{URL: target, Origin: originOf(target), Local: local, Lab: local, TLS: strings.HasPrefix(target, "https://"), Resource: target}}
	for i, x := range t.all {
		t.pos[x] = i
		t.byURL[x.Request.URL] = append(t.byURL[x.Request.URL], i)
	}
	t.endpoint()
	t.metadata()
	t.registrations()
	t.findFlows()
	t.findTokens()
	t.f.Headline, t.f.Detail = t.headline()
	return t
}

func (t *traffic) headline() (string, string) {
	f := t.f
	switch {
	case f.AS != nil || f.Refused != nil || len(t.flows) > 0:
		return kidoban.HeadlineGraded, ""
	case f.Open:
		return kidoban.HeadlineOpen, answering(f.Tools)
	case len(t.calls) > 0:
		return kidoban.HeadlineGraded, ""
	}
	return kidoban.HeadlineNotMCP, "the traffic holds no message to or from an MCP server at this address"
}

// endpoint reads the MCP messages of the target.
func (t *traffic) endpoint() {
	f := t.f
	for _, x := range t.all {
		if !isMCP(x) && x.Request.Method != "GET" || bareURL(x.Request.URL) != bareURL(f.URL) || x.Response == nil {
			continue
		}
		if !isMCP(x) && x.Status() != 401 {
			continue
		}
		t.calls = append(t.calls, x)
		method := rpcMethod(x)
		open := !hasCredential(x)
		y := answeredAs(x)
		switch {
		case method == wire.MethodInitialize && open && f.Init == nil:
			f.Init = y
		case method == wire.MethodDiscover && open && f.Discover == nil:
			f.Discover = y
		case method == "tools/list" && open && (f.List == nil || refused(f.List)) && x.Request.Header.Get("Mcp-Session-Id") == "":
			f.List = y
		}
		t.era(method, ReplyOf(y), y)
		if open && (x.Status() == 401 || x.Status() == 403 && !challenged(x) || ReplyOf(y).authWording()) && (f.Refused == nil || f.Refused.Status() != 401 && x.Status() == 401) {
			f.Refused = y
		}
		if id := x.Header("Mcp-Session-Id"); id != "" && len(id) <= 1024 && !slices.Contains(t.sessions, id) {
			t.sessions, t.sessionX = append(t.sessions, id), append(t.sessionX, x)
		}
	}
	if f.Refused != nil {
		f.Asks = oauth.ParseChallenges(f.Refused.Response.Header.Values("WWW-Authenticate"))
		if f.List == nil {
			f.List = f.Refused // any method that is refused shows the door
		}
	}
	// A client that held no credentials and worked in a session shows an open door.
	for _, x := range t.calls {
		if f.Refused == nil && rpcMethod(x) == "tools/list" && !hasCredential(x) && f.List == nil {
			f.List = answeredAs(x)
		}
	}
	f.Tools, f.Open = ReplyOf(f.List).tools()
	f.Greets = ReplyOf(f.Init).ok() || ReplyOf(f.Discover).ok()
}

func (t *traffic) era(method string, r Reply, x *kidoban.Exchange) {
	f := t.f
	v := x.Request.Header.Get("Mcp-Protocol-Version")
	if method == wire.MethodInitialize && r.ok() {
		if s := wire.LookupString(r.Result, "protocolVersion"); s != "" && len(s) <= 32 {
			v = s
		}
		if f.Software == "" {
			f.Software = software(r.Result)
		}
	}
	if method == wire.MethodDiscover && r.ok() && f.Software == "" {
		f.Software = software(r.Result)
	}
	if !r.ok() || v == "" {
		return
	}
	era, known := wire.EraOf(v)
	if !known {
		return
	}
	if !slices.Contains(f.Versions, v) {
		f.Versions = append(f.Versions, v)
	}
	f.Modern, f.Legacy = f.Modern || era == wire.Modern, f.Legacy || era == wire.Legacy
}

func rpcMethod(x *kidoban.Exchange) string {
	return wire.LookupString(wire.Raw(x.Request.Body), "method")
}

// answeredAs returns x with the answer's id put in the form that the judges know
// their own requests by, when it is the answer to this very request.
func answeredAs(x *kidoban.Exchange) *kidoban.Exchange {
	id, ok := wire.Lookup(wire.Raw(x.Request.Body), "id")
	if !ok || x.Response == nil || len(x.Response.Body) == 0 {
		return x
	}
	var answer wire.Raw
	take := func(b []byte) bool {
		got, ok := wire.Lookup(wire.Raw(b), "id")
		if ok && string(got) == string(id) {
			answer = slices.Clone(wire.Raw(b))
		}
		return answer == nil
	}
	if mediaType(x) == "text/event-stream" || looksLikeStream(x.Response.Body) {
		p := wire.NewEventParser(1 << 20)
		_ = p.Feed(x.Response.Body, func(e wire.Event) bool { return take(e.Data) }) // an event over the bound is no answer to judge
	} else {
		take(x.Response.Body)
	}
	if answer == nil {
		return x
	}
	c, resp := *x, *x.Response
	resp.Body = wire.SetMember(answer, "id", wire.Raw(itoa(callID)))
	resp.Header = resp.Header.Set("Content-Type", "application/json")
	c.Response = &resp
	return &c
}

// metadata reads the documents that were fetched.
func (t *traffic) metadata() {
	f := t.f
	t.resourceMetadata()
	if f.PRM != nil {
		f.Issuers, f.Scopes = f.PRM.PRM.AuthorizationServers, f.PRM.PRM.ScopesSupported
		if r := f.PRM.PRM.Resource; r != "" && oauth.CompareResource(f.URL, r).Equivalent() {
			f.Resource = r
		}
	}
	if len(f.Issuers) == 0 {
		if iss, err := oauth.LegacyIssuer(f.URL); err == nil {
			f.Issuers, f.Fallback = []string{iss}, true
		}
	}
	for _, iss := range f.Issuers[:min(3, len(f.Issuers))] {
		if as := t.serverMetadata(iss); as != nil {
			f.Servers = append(f.Servers, as)
			if f.AS == nil && as.Err == "" {
				f.AS, t.asDoc = as, true
			}
		}
	}
	if f.AS == nil {
		f.AS = t.guessServer()
	}
	for _, c := range f.Asks {
		if sc := c.Scopes(); len(sc) > 0 {
			f.Scopes = sc
		}
	}
	f.SmallestScope = smallest(f.Scopes)
}

func (t *traffic) resourceMetadata() {
	f := t.f
	var places []string
	for _, c := range f.Asks {
		if u, _ := c.ResourceMetadata(); u != "" {
			places = append(places, resolve(f.URL, u))
		}
	}
	if urls, err := oauth.PRMURLs(f.URL); err == nil {
		places = append(places, urls...)
	}
	for _, u := range slices.Compact(places) {
		x := t.fetched(u)
		if x == nil || slices.ContainsFunc(f.PRMs, func(d Document) bool { return d.URL == u }) {
			continue
		}
		d := Document{Kind: "prm", URL: u, From: "traffic", X: x, Err: usable(x)}
		if d.Err == "" {
			prm, err := oauth.ParsePRM(x.Response.Body)
			if err != nil {
				d.Err = "it is no JSON object"
			}
			d.PRM = prm
		}
		f.PRMs = append(f.PRMs, d)
		if f.PRM == nil && d.Err == "" && (d.PRM.Resource != "" || len(d.PRM.AuthorizationServers) > 0) {
			c := d
			f.PRM = &c
		}
	}
}

// fetched is the last answered GET of a document, preferring one that worked.
func (t *traffic) fetched(u string) (out *kidoban.Exchange) {
	for _, i := range t.byURL[u] {
		x := t.all[i]
		if x.Request.Method == "GET" && x.Response != nil && x.Status() != 304 && (out == nil || out.Status() != 200) {
			out = x
		}
	}
	return out
}

func (t *traffic) serverMetadata(issuer string) *AS {
	as := &AS{Issuer: issuer, Err: "no metadata in the traffic"}
	urls, err := oauth.MetadataURLs(issuer)
	if err != nil {
		return nil
	}
	for _, u := range urls {
		x := t.fetched(u)
		if x == nil {
			continue
		}
		d := Document{Kind: kindOfPlace(u), URL: u, X: x, Err: usable(x)}
		if d.Err == "" {
			m, err := oauth.ParseMetadata(x.Response.Body)
			switch {
			case err != nil:
				d.Err = "it is no JSON object"
			case m.Issuer == "" && m.AuthorizationEndpoint == "":
				d.Err = "it is no authorization server metadata"
			case as.Err != "":
				as.URL, as.X, as.Meta, as.Err = u, x, m, ""
			}
			d.Meta = m
		}
		as.Tried = append(as.Tried, d)
	}
	if len(as.Tried) == 0 {
		return nil
	}
	return as
}

// guessServer puts an authorization server together from the requests of
// clients, for traffic that begins after discovery.
func (t *traffic) guessServer() *AS {
	as := &AS{}
	for _, x := range t.all {
		switch kindOfMessage(x) {
		case askAuthorization:
			p := paramsOf(x)
			if as.Meta.AuthorizationEndpoint == "" && x.Response != nil && layerOf(p.Get("redirect_uri"), t.f.URL, "") == 1 &&
				(oauth.SameSite(hostname(x.Request.URL), hostname(t.f.URL)) && !t.f.Local || sameOrigin(x.Request.URL, t.f.URL) || p.Get("resource") != "" && oauth.CompareResource(t.f.URL, p.Get("resource")).Equivalent()) {
				as.Meta.AuthorizationEndpoint = bareURL(x.Request.URL)
				as.Issuer = strings.TrimSuffix(originText(x.Request.URL), "/")
				as.Meta.Issuer, as.X = as.Issuer, x
			}
		case askToken:
			if as.Issuer != "" && as.Meta.TokenEndpoint == "" && sameOrigin(x.Request.URL, as.Issuer) {
				as.Meta.TokenEndpoint = bareURL(x.Request.URL)
			}
		case askRegistration:
			if sameOrigin(x.Request.URL, t.f.URL) {
				as.Meta.RegistrationEndpoint = bareURL(x.Request.URL)
			}
		}
	}
	if as.Issuer == "" {
		return nil
	}
	return as
}

func originText(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func hostname(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// registrations reads the clients that were registered at the target's server.
func (t *traffic) registrations() {
	if t.f.AS == nil {
		return
	}
	at := t.f.AS.Meta.RegistrationEndpoint
	for _, x := range t.all {
		if kindOfMessage(x) != askRegistration || x.Response == nil || at != "" && bareURL(x.Request.URL) != bareURL(at) {
			continue
		}
		r := Registration{Asked: map[string]any{}, X: x}
		if m, err := oauth.ParseClientMetadata(x.Response.Body); err == nil && m.ClientID != "" && x.Status() < 300 {
			c := &Client{ID: m.ClientID, Secret: m.ClientSecret, Name: m.ClientName, Redirects: m.RedirectURIs, Meta: m, X: x}
			if asked, err := oauth.ParseClientMetadata(x.Request.Body); err == nil {
				if len(c.Redirects) == 0 {
					c.Redirects = asked.RedirectURIs
				}
				if c.Name == "" {
					c.Name = asked.ClientName
				}
			}
			if len(c.Redirects) > 0 {
				c.RedirectURI = c.Redirects[0]
			}
			r.Client = c
			t.f.registered = append(t.f.registered, c)
		}
		t.regs = append(t.regs, r)
	}
	for i := range t.regs {
		if c := t.regs[i].Client; c != nil && t.f.Client == nil {
			t.f.Client = c
		}
	}
}

// client finds a registered client by its id.
func (t *traffic) client(id string) *Client {
	for _, c := range t.f.registered {
		if c.ID == id {
			return c
		}
	}
	return nil
}
