package audit

import (
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/wire"
)

// judge asks every judge that can work on recorded traffic. What the traffic
// does not show is left out of the answer; the caller says so.
func (t *traffic) judge() (out []kidoban.Result) {
	f := t.f
	add := func(rs ...kidoban.Result) { out = append(out, rs...) }
	if f.List != nil {
		add(judgeOpen(f), judgeGreeting(f), judgeKeyInURL(f))
	}
	if len(t.calls) > 0 {
		add(t.judgeCache(), t.judgeAllowed(), t.judgeSessionAlone(), t.judgeQueryToken(), judgeObservedIDs(t))
		add(t.judgeElicitations()...)
		add(t.judgeRequestStates()...)
	}
	add(t.judgeDocuments()...)
	if t.asDoc {
		add(judgeE11(f, t.otherDocuments())...)
		add(t.asVerdicts()...)
	}
	add(t.judgeFlows()...)
	add(t.judgeRegistrations()...)
	add(t.judgeTokens()...)
	if len(t.all) > 0 {
		seen := t.answers()
		add(judgeURLs(f, t.unasked(seen)), judgeLeavesTLS(f, t.besides(seen)), judgeCookies(f, seen), judgeHSTS(f, seen), judgeNoStore(f, seen), judgeInternals(f, seen), judgeSecrets(f, seen), t.judgePlainHTTP())
	}
	return out
}

// answers are copies with short bodies, as the judges of all answers want them.
func (t *traffic) answers() (out []*kidoban.Exchange) {
	for _, x := range t.all {
		if x.Response == nil {
			continue
		}
		c, resp := *x, *x.Response
		resp.Body = head(resp.Body, seenBody)
		if isMCP(x) && x.Status() == 200 {
			resp.Body = nil // what tools say is no error of the server's
		}
		c.Response = &resp
		out = append(out, &c)
	}
	return out
}

// besides leaves the authorization responses out: a client's own loopback address
// is none of the server's, whatever its port.
func (t *traffic) besides(seen []*kidoban.Exchange) (out []*kidoban.Exchange) {
	for _, x := range seen {
		loc := resolve(x.Request.URL, x.Header("Location"))
		if !slices.ContainsFunc(t.flows, func(fl *flow) bool { return startsURI(loc, fl.params.Get("redirect_uri")) }) {
			out = append(out, x)
		}
	}
	return out
}

// unasked leaves out the authorization responses with tokens that their clients
// asked for: that is E26.
func (t *traffic) unasked(seen []*kidoban.Exchange) (out []*kidoban.Exchange) {
	asked := map[int]bool{}
	for _, fl := range t.flows {
		if fl.callback != nil && strings.Contains(fl.params.Get("response_type"), "token") {
			asked[fl.callback.ID] = true
		}
	}
	for _, x := range seen {
		if !asked[x.ID] {
			out = append(out, x)
		}
	}
	return out
}

// judgeDocuments reads the resource metadata, as far as clients asked for them.
func (t *traffic) judgeDocuments() (out []kidoban.Result) {
	f := t.f
	if f.PRM == nil && len(f.PRMs) == 0 {
		return nil
	}
	for _, r := range judgeE10(f, otherCaller{}) {
		if r.Key() == "E10-a" && r.Outcome == kidoban.Fail && !t.askedEverywhere() {
			continue
		}
		if r.Key() != "E10-i" {
			out = append(out, r)
		}
	}
	for _, p := range []probe{probeE06(), probeE30()} {
		out = append(out, p.run(nil, nil)(f)...)
	}
	return out
}

// askedEverywhere tells whether a client looked at the root well-known place,
// the last one, before it gave up.
func (t *traffic) askedEverywhere() bool {
	urls, err := oauth.PRMURLs(t.f.URL)
	return err == nil && len(urls) > 0 && t.fetched(urls[len(urls)-1]) != nil
}

// asVerdicts reads the authorization server's own document.
func (t *traffic) asVerdicts() (out []kidoban.Result) {
	for _, p := range []probe{probeF5Metadata(), probeE25()} {
		out = append(out, p.run(nil, nil)(t.f)...)
	}
	return out
}

func (t *traffic) otherDocuments() (out []Document) {
	for _, d := range t.f.AS.Tried {
		if d.URL != t.f.AS.URL {
			out = append(out, d)
		}
	}
	return out
}

// judgeCache: E31-a and E31-c on every answer of the endpoint.
func (t *traffic) judgeCache() kidoban.Result {
	for _, x := range t.calls {
		if how := fromCache(x); how != "" {
			return positive("E31-c", kidoban.Signal, "an answer of the endpoint comes from a shared cache ("+how+")", x)
		}
	}
	return passed("E31-c", "no sign of a shared cache before the endpoint", t.calls[len(t.calls)-1])
}

// judgeAllowed: a page of any origin that was answered with its own origin.
func (t *traffic) judgeAllowed() kidoban.Result {
	const key = "E09-c"
	calls := slices.Clone(t.calls)
	for _, x := range t.all {
		if x.Request.Method == "OPTIONS" && bareURL(x.Request.URL) == bareURL(t.f.URL) && x.Response != nil {
			calls = append(calls, x)
		}
	}
	for _, x := range calls {
		origin := x.Request.Header.Get("Origin")
		allow := strings.TrimSpace(x.Header("Access-Control-Allow-Origin"))
		creds := strings.EqualFold(strings.TrimSpace(x.Header("Access-Control-Allow-Credentials")), "true")
		switch {
		case allow == "*" && creds:
			return exposed(positive(key, kidoban.Signal, "CORS allows any origin, and with the browser's credentials", x), t.f, kidoban.High, kidoban.Medium)
		case origin != "" && allow == origin && !t.f.owns(hostOf(origin)) && creds:
			return exposed(positive(key, kidoban.Signal, "CORS repeats a foreign origin, and allows the browser's credentials", x), t.f, kidoban.High, kidoban.Medium)
		}
	}
	return notShown(key)
}

// notShown is the answer of a judge whose question the traffic does not touch.
func notShown(key string) kidoban.Result { return untested(key, kidoban.ReasonTier, "") }

// judgeSessionAlone: a session id that works without the token that came with it.
func (t *traffic) judgeSessionAlone() kidoban.Result {
	const key = "E07-2"
	with := map[string]bool{}
	for _, x := range t.calls {
		id := x.Request.Header.Get("Mcp-Session-Id")
		if id == "" {
			continue
		}
		if hasCredential(x) {
			with[id] = true
		} else if with[id] && ReplyOf(answeredAs(x)).ok() && t.f.Refused != nil {
			return positive(key, kidoban.Confirmed, "a request with the session id and without the token was answered", t.f.Refused, x)
		}
	}
	return notShown(key)
}

func judgeObservedIDs(t *traffic) kidoban.Result {
	if len(t.sessions) == 0 {
		return notShown("E07-5")
	}
	for _, id := range t.sessions {
		if isMasked(id) {
			return notShown("E07-5")
		}
	}
	r := judgeIDs(t.sessions, t.sessionX)
	if r.Outcome == kidoban.Inconclusive {
		return notShown("E07-5")
	}
	return r
}

// judgeQueryToken: the endpoint took a token from the address.
func (t *traffic) judgeQueryToken() kidoban.Result {
	const key = "E23-a"
	for _, x := range t.calls {
		if x.Request.Header.Get("Authorization") == "" && len(secretsIn(x.Request.URL, tokenNames())) > 0 && ReplyOf(answeredAs(x)).ok() && t.f.Refused != nil {
			return positive(key, kidoban.Confirmed, "a token in the query opens the endpoint", t.f.Refused, x)
		}
	}
	return notShown(key)
}

// judgePlainHTTP: E29-a from the traffic: the endpoint or the authorization
// server answered over http off loopback, or on loopback beside https.
func (t *traffic) judgePlainHTTP() kidoban.Result {
	const key = "E29-a"
	for _, x := range t.all {
		beside := t.f.TLS && strings.EqualFold(hostOf(x.Request.URL), hostOf(t.f.URL))
		if strings.HasPrefix(x.Request.URL, "http://") && (beside || !isLoopbackURL(x.Request.URL)) && t.ofServer(x) && servesPlain(x) && x.Response != nil {
			return positive(key, kidoban.Confirmed, "the server answers over plain http (status "+itoa(x.Status())+")", x)
		}
	}
	return notShown(key)
}

// judgeElicitations: E35 from the addresses that the server asks people to open,
// and E31-a from the marks for caches on answers that only a person gets.
func (t *traffic) judgeElicitations() []kidoban.Result {
	direct, ready, public := notShown("E35-a"), notShown("E35-b"), notShown("E31-a")
	for _, x := range t.calls {
		if x.Response == nil || x.Status() != 200 {
			continue
		}
		for _, link := range elicited(x) {
			v, _ := callbackParams(link)
			switch host := hostOf(link); {
			case v.Get("client_id") != "" && (v.Get("response_type") != "" || v.Get("redirect_uri") != "") && !t.f.owns(host):
				direct = positive("E35-a", kidoban.Signal, "the server asks people to open a third party's authorization endpoint directly", x)
			case t.f.owns(host) && len(secretsIn(link, append(tokenNames(), "session", "sid", "ticket", "login_token"))) > 0:
				ready = positive("E35-b", kidoban.Signal, "an address that people are asked to open logs its opener in", x)
			}
		}
		if hasCredential(x) && publicScope(x) {
			public = positive("E31-a", kidoban.Signal, "an answer to a logged-in caller is marked as public for caches", x)
		}
	}
	return []kidoban.Result{direct, ready, public}
}

// publicScope tells an answer that depends on the caller and may be kept for all.
func publicScope(x *kidoban.Exchange) bool {
	switch rpcMethod(x) {
	case "tools/list", "resources/list", "resources/read", "prompts/list", "resources/templates/list":
	default:
		return false
	}
	r := ReplyOf(answeredAs(x))
	cc := strings.ToLower(x.Header("Cache-Control"))
	return r.ok() && (wire.LookupString(r.Result, "cacheScope") == "public" || strings.Contains(cc, "public"))
}

// elicited are the URLs of URL-mode elicitations in an answer, whichever era's
// envelope carries them.
func elicited(x *kidoban.Exchange) (out []string) {
	if !strings.Contains(string(x.Response.Body), `"url"`) {
		return nil
	}
	var walk func(raw wire.Raw, depth int)
	walk = func(raw wire.Raw, depth int) {
		if depth > 8 || len(out) > 20 || len(raw) == 0 {
			return
		}
		switch raw[0] {
		case '{':
			if wire.LookupString(raw, "mode") == "url" {
				if u := wire.LookupString(raw, "url"); u != "" {
					out = append(out, u)
				}
			}
			wire.Each(raw, func(_, v wire.Raw) bool { walk(v, depth+1); return true })
		case '[':
			wire.Elements(raw, func(v wire.Raw) bool { walk(v, depth+1); return true })
		}
	}
	if mediaType(x) == "text/event-stream" || looksLikeStream(x.Response.Body) {
		p := wire.NewEventParser(1 << 20)
		_ = p.Feed(x.Response.Body, func(e wire.Event) bool { walk(slices.Clone(wire.Raw(e.Data)), 0); return true }) // an event over the bound is left out
	} else {
		walk(wire.Raw(x.Response.Body), 0)
	}
	return out
}

// judgeRequestStates: E08-d, a requestState that anybody can read and that
// carries no sign of protection.
func (t *traffic) judgeRequestStates() []kidoban.Result {
	const key = "E08-d"
	out := notShown(key)
	for _, x := range t.calls {
		r := ReplyOf(answeredAs(x))
		s := wire.LookupString(r.Result, "requestState")
		if !r.ok() || s == "" || isMasked(s) {
			continue
		}
		reading := oauth.ReadState(s)
		if reading.Structure && !reading.Protected() {
			return []kidoban.Result{positive(key, kidoban.Signal, "a requestState can be read and carries no signature", x)}
		}
		out = passed(key, "the requestState cannot be read, or is signed", x)
	}
	return []kidoban.Result{out}
}
