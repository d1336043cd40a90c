package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// What a token is: how long it lives and what it says (E24), for whom it was made
// (E05), how much it allows (E30-c), and how else it opens the endpoint (E04-j,
// E06-b, E07-2, E23-a).

type tokenLook struct {
	none kidoban.Result
	has  bool
	t    *tokens
	req  authRequest

	works  bool // the token opens the endpoint: the control of all that follows
	worksX *kidoban.Exchange

	id        bool // the ID token opens it too
	idX       *kidoban.Exchange
	tampered  bool
	tamperedX *kidoban.Exchange
	how       string // what was changed
	query     reached
	bareSID   *kidoban.Exchange // the list with a session id and no token
	sid       string
	legacy    bool
	modern    bool

	other      *tokens // a token request for another resource
	otherWorks bool
	foreign    *tokens // a grant for a foreign resource
	foreignW   walked
	foreignOK  bool // that token opens this endpoint
	foreignAs  string

	upstream string // origin of the upstream, "" when none was seen
	info     *kidoban.Exchange
	noInfo   string

	resources *kidoban.Exchange
	codes     []string
	access    []string
}

func probeTokens() probe {
	keys := []string{"E24-a", "E24-b", "E24-c", "E24-d", "E24-e", "E24-f", "E24-g", "E24-h", "E05-b", "E05-c", "E05-e", "E30-c", "E04-j", "E06-b", "E07-2", "E23-a", "E31-a"}
	return define(spec{name: "what a token is", keys: keys, tier: kidoban.T3}, collectTokens, func(f *Facts, e tokenLook) []kidoban.Result {
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		return judgeTokens(f, &e)
	})
}

func collectTokens(ctx context.Context, s *session) (e tokenLook) {
	f := s.facts
	if s.o.keyed() {
		return s.collectHeld(ctx)
	}
	if f.Client == nil {
		e.none = untested("E24-a", kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return e
	}
	tk, w := s.ticket(ctx, "E24", "a grant to look at", f.Client, nil)
	if tk == nil {
		e.none = w.noCode("E24-a")
		return e
	}
	if e.t, e.req = s.redeem(ctx, "E24", "tokens for it", tk, nil), tk.req; e.t == nil {
		e.none = untested("E24-a", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
		return e
	}
	if !e.t.issued() {
		e.none = unclear("E24-a", kidoban.ReasonUnstable, "the server gives no tokens for a genuine code", e.t.x)
		return e
	}
	e.has = true
	s.openings(ctx, &e)
	s.collectResources(ctx, &e)
	s.collectUpstream(ctx, tk.walked, &e)
	e.codes, e.access = distinct(s.codes), distinct(s.access)
	return e
}

// collectHeld looks at the key that was handed over.
func (s *session) collectHeld(ctx context.Context) (e tokenLook) {
	e.t, _ = s.admission(ctx, "E24-c", "E24", "")
	s.openings(ctx, &e)
	e.has = e.works || s.facts.blind()
	if r, bad := undecided("E24-c", "the request with the key that was handed over", e.worksX); bad {
		e.none = r
	} else {
		e.none = unclear("E24-c", kidoban.ReasonUnstable, "the key that was handed over does not open the endpoint", e.worksX)
	}
	return e
}

// openings tries what opens the endpoint beside the token itself.
func (s *session) openings(ctx context.Context, e *tokenLook) {
	f := s.facts
	in := s.enter(ctx, e.t.Access)
	e.legacy, e.modern = in.legacy, in.modern
	e.works, e.worksX = s.alive(ctx, "E24", "control: the genuine token", e.t.Access)
	if e.t.ID != "" {
		e.id, e.idX = s.alive(ctx, "E24-g", "the ID token", e.t.ID)
	}
	var changed string
	changed, e.how = tamperToken(e.t.Access)
	if s.o.Key != nil {
		s.rec.Conceal(changed) // it is the key but for one character
	}
	e.tampered, e.tamperedX = s.alive(ctx, "E04-j", "the token with "+e.how, changed)
	e.query = s.reach(ctx, "E23-a", "the token in the query", call{Method: "tools/list", URL: addQuery(f.URL, s.o.Key.param(), e.t.Access)})
	if e.legacy && !f.SSE {
		sid, _ := s.sessionFor(ctx, "E07-2", e.t.Access, latestLegacy)
		if e.sid = sid; sid != "" {
			e.bareSID = s.rpc(ctx, "E07-2", "the session id without the token", call{Method: "tools/list", Version: latestLegacy, Session: sid})
			s.endSession(ctx, call{Header: kidoban.Fields{s.shows(e.t.Access)}}, sid)
		}
	}
	if e.modern {
		e.resources = s.invoke(ctx, "E31-a", "what is the person's own", e.t.Access, "resources/list", nil)
	}
}

// collectResources asks for tokens that are for somebody else.
func (s *session) collectResources(ctx context.Context, e *tokenLook) {
	f := s.facts
	stranger := "https://" + s.nonce(10) + probeDomain + "/mcp"
	if t, _ := s.ticket(ctx, "E05-e", "a code for another resource", f.Client, nil); t != nil {
		e.other = s.redeem(ctx, "E05-e", "a token request for a resource of somebody else", t, func(p params) params { return p.with("resource", stranger) })
		if e.other.issued() {
			e.otherWorks, _ = s.alive(ctx, "E05-e", "that token here", e.other.Access)
		}
	}
	ft, fw := s.ticket(ctx, "E05-b", "a grant for a resource of somebody else", f.Client, func(r *authRequest) { r.Params = r.Params.with("resource", stranger) })
	e.foreignAs, e.foreignW = stranger, fw
	if ft != nil {
		e.foreign = s.redeem(ctx, "E05-b", "tokens for it", ft, nil)
		if e.foreign.issued() {
			e.foreignOK, _ = s.alive(ctx, "E05-b", "that token here", e.foreign.Access)
		}
	}
}

// collectUpstream tries the token at the upstream's userinfo endpoint, on servers
// of the tester's own only: the token leaves for another host.
func (s *session) collectUpstream(ctx context.Context, w walked, e *tokenLook) {
	for _, x := range append(w.hops, s.firstHops...) {
		u, err := url.Parse(x.Request.URL)
		if err == nil && !s.facts.owns(u.Host) && u.Query().Get("client_id") != "" && u.Query().Get("redirect_uri") != "" && s.facts.owns(hostOf(u.Query().Get("redirect_uri"))) &&
			!strings.HasPrefix(u.Query().Get("redirect_uri"), e.req.Endpoint+"?") {
			e.upstream = u.Scheme + "://" + u.Host
		}
	}
	if e.upstream == "" {
		return
	}
	if !s.o.Lab && !s.o.OwnServer {
		e.noInfo = "own"
		return
	}
	x := s.get(ctx, "E06-b", "the upstream's metadata", e.upstream+"/.well-known/openid-configuration")
	m, err := oauth.ParseMetadata(bodyOf(x))
	if err != nil || m.UserinfoEndpoint == "" || !sameOrigin(m.UserinfoEndpoint, e.upstream) {
		e.noInfo = "none"
		return
	}
	e.info = s.do(ctx, outbound.Req{Method: http.MethodGet, URL: m.UserinfoEndpoint, Probe: "E06-b", Note: "our token at the upstream",
		Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer " + e.t.Access}, {Name: "Accept", Value: "application/json"}}})
}

func bodyOf(x *kidoban.Exchange) []byte {
	if x == nil || x.Response == nil {
		return nil
	}
	return x.Response.Body
}

func distinct(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	out = slices.Compact(out)
	// In the order in which they were made: counters show in it.
	slices.SortStableFunc(out, func(a, b string) int { return slices.Index(in, a) - slices.Index(in, b) })
	return out
}

// tamperToken changes one thing in a token and keeps the rest, its signature
// included.
func tamperToken(token string) (string, string) {
	if _, claims, ok := jwtOf(token); ok {
		p := strings.Split(token, ".")
		if exp, isNum := claims["exp"].(float64); isNum {
			claims["exp"] = int64(exp) + 1
		} else {
			claims["kidoban"] = 1
		}
		return p[0] + "." + base64.RawURLEncoding.EncodeToString(mustJSON(claims)) + "." + p[2], "a changed payload"
	}
	i := len(token) / 2
	other := byte('A')
	if token[i] == 'A' {
		other = 'B'
	}
	return token[:i] + string(other) + token[i+1:], "one character changed"
}

func judgeTokens(f *Facts, e *tokenLook) []kidoban.Result {
	out := judgeLifetime(e)
	out = append(out, judgeJWT(e)...)
	out = append(out, judgeAudience(f, e)...)
	out = append(out, judgeScope(e), judgeUpstreamToken(e), judgeEntropy(e), judgeOwnAnswers(e))
	out = append(out, judgeOpenings(f, e)...)
	return out
}

func judgeLifetime(e *tokenLook) []kidoban.Result {
	if e.t.Expires < 0 {
		return []kidoban.Result{absent("E24-a", "the token answer does not say how long the token lives (E24-b)", e.t.x),
			positive("E24-b", kidoban.Confirmed, "the token answer has no expires_in", e.t.x)}
	}
	long := passed("E24-a", "access tokens live for "+itoa(int(e.t.Expires))+" seconds", e.t.x)
	switch {
	case e.t.Expires > 24*3600:
		long = positive("E24-a", kidoban.Confirmed, "access tokens live for "+kidoban.Count(int(e.t.Expires/3600), "hour", "hours"), e.t.x)
	case e.t.Expires > 3600:
		long = positive("E24-a", kidoban.Confirmed, "access tokens live for more than an hour", e.t.x)
		long.Severity = kidoban.Low
	}
	return []kidoban.Result{long, passed("E24-b", "the token answer says when the token ends", e.t.x)}
}

// sampleSecrets are keys that documentation is full of: a signature under one of
// them is no signature.
func sampleSecrets() []string {
	return []string{"secret", "password", "changeme", "jwt_secret", "jwt-secret", "your-256-bit-secret", "your_jwt_secret", "your-secret-key", "mysecret", "supersecret", "super-secret", "test", "key", "private", "dev", "development", "default", "admin", "123456", "secretkey", "secret_key", "secret-key", "my-secret-key", "topsecret", "shhhhh", "token", "example", "insecure", "app_secret", "a-string-secret-at-least-256-bits-long"}
}

func judgeJWT(e *tokenLook) []kidoban.Result {
	head, claims, ok := jwtOf(e.t.Access)
	if !ok {
		return everyone([]string{"E24-c", "E24-d", "E24-e", "E24-f"}, func(k string) kidoban.Result { return absent(k, "access tokens are opaque", e.t.x) })
	}
	var out []kidoban.Result
	alg, _ := head["alg"].(string)
	weak := ""
	switch {
	case strings.EqualFold(alg, "none"):
		weak = "access tokens are not signed (alg none)"
	case alg == "HS256":
		input, sig, _ := cutLast(e.t.Access, ".")
		for _, k := range sampleSecrets() {
			mac := hmac.New(sha256.New, []byte(k))
			mac.Write([]byte(input))
			if base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) == sig {
				weak = "access tokens are signed with a key out of documentation"
			}
		}
	}
	if weak != "" {
		out = append(out, positive("E24-c", kidoban.Confirmed, weak, e.t.x))
	} else {
		out = append(out, passed("E24-c", "access tokens are signed ("+alg+")", e.t.x))
	}
	var missing []string
	for _, c := range []string{"iss", "aud", "sub", "exp"} {
		if claims[c] == nil {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		out = append(out, positive("E24-d", kidoban.Confirmed, "access tokens lack "+strings.Join(missing, ", "), e.t.x))
	} else {
		out = append(out, passed("E24-d", "access tokens have iss, aud, sub and exp", e.t.x))
	}
	if typ, _ := head["typ"].(string); strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt") {
		out = append(out, passed("E24-e", "access tokens say that they are (typ at+jwt)", e.t.x))
	} else {
		out = append(out, positive("E24-e", kidoban.Confirmed, "the typ of access tokens is not at+jwt", e.t.x))
	}
	if told := tooMuch(claims); len(told) > 0 {
		return append(out, positive("E24-f", kidoban.Confirmed, "access tokens carry "+strings.Join(told, ", "), e.t.x))
	}
	return append(out, passed("E24-f", "access tokens carry no personal data and no other tokens", e.t.x))
}

func cutLast(s, sep string) (string, string, bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// tooMuch names the claims that do not belong into an access token.
func tooMuch(claims map[string]any) []string {
	var out []string
	for k, v := range claims {
		low := strings.ToLower(k)
		text, _ := v.(string)
		switch {
		case slices.Contains([]string{"email", "mail", "phone_number", "phone", "address", "birthdate", "given_name", "family_name", "picture"}, low) && v != nil,
			strings.Contains(low, "access_token"), strings.Contains(low, "refresh_token"), strings.Contains(low, "upstream") && len(text) > 16, strings.Contains(low, "password"):
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func judgeAudience(f *Facts, e *tokenLook) []kidoban.Result {
	var out []kidoban.Result
	if _, claims, ok := jwtOf(e.t.Access); !ok {
		out = append(out, absent("E05-c", "access tokens are opaque: only a second server shows whom they are for (E05-d)", e.t.x))
	} else if aud := audiences(claims); namesResource(aud, f.Resource) {
		out = append(out, passed("E05-c", "the audience of access tokens is this server", e.t.x))
	} else {
		out = append(out, positive("E05-c", kidoban.Confirmed, "the audience of access tokens is not this server: "+orNone(strings.Join(aud, ", ")), e.t.x))
	}
	switch {
	case !e.other.issued():
		out = append(out, refusedToken("E05-e", "a token request for a resource of somebody else", e.other))
	default:
		r := positive("E05-e", kidoban.Confirmed, "a token request may name another resource than the authorization request", e.other.x)
		if e.otherWorks && !f.blind() {
			r.Severity, r.Summary = kidoban.Low, "a foreign resource in the token request is ignored; the token is for this server"
		}
		out = append(out, r)
	}
	switch {
	case e.foreign == nil:
		if r, bad := e.foreignW.failed("E05-b"); bad {
			out = append(out, r)
		} else {
			out = append(out, passed("E05-b", "an authorization request for a resource of somebody else gets no code", e.foreignW.last()))
		}
	case !e.foreign.issued():
		out = append(out, refusedToken("E05-b", "a token for a resource of somebody else", e.foreign))
	default:
		_, claims, isJWT := jwtOf(e.foreign.Access)
		if isJWT && namesResource(audiences(claims), e.foreignAs) || !e.foreignOK && e.works && !f.blind() {
			out = append(out, positive("E05-b", kidoban.Confirmed, "a token for a resource of somebody else is given", e.foreign.x))
		} else {
			out = append(out, passed("E05-b", "the foreign resource is ignored: the token is for this server (E05-a)", e.foreign.x))
		}
	}
	return out
}

func judgeScope(e *tokenLook) kidoban.Result {
	const key = "E30-c"
	asked := e.req.Params.get("scope")
	got := e.t.Scope
	if _, claims, ok := jwtOf(e.t.Access); ok && got == "" {
		got, _ = claims["scope"].(string)
	}
	if asked == "" || got == "" {
		return absent(key, "no scope was asked for, or the answer names none", e.t.x)
	}
	var more []string
	for _, g := range strings.Fields(got) {
		if g != "offline_access" && g != "openid" && !slices.Contains(strings.Fields(asked), g) {
			more = append(more, g)
		}
	}
	if len(more) > 0 {
		return positive(key, kidoban.Confirmed, "the token carries more than was asked for: "+strings.Join(more, " "), e.t.x)
	}
	return passed(key, "the token carries what was asked for and no more", e.t.x)
}

func judgeUpstreamToken(e *tokenLook) kidoban.Result {
	const key = "E06-b"
	switch {
	case e.upstream == "":
		return absent(key, noUpstream, e.t.x)
	case e.noInfo == "own":
		return untested(key, kidoban.ReasonOwnServer, detailFor(kidoban.ReasonOwnServer))
	case e.info == nil:
		return unclear(key, kidoban.ReasonUpstream, "the upstream has no userinfo endpoint to try the token at", e.t.x)
	}
	if m := jsonObject(bodyOf(e.info)); e.info.Status() == 200 && m != nil && m["error"] == nil && (m["sub"] != nil || m["id"] != nil || m["email"] != nil) {
		return positive(key, kidoban.Likely, "the token that clients get works at the upstream", e.t.x, e.info)
	}
	if r, bad := unanswered(key, e.info); bad {
		return r
	}
	return passed(key, "the token that clients get is worth nothing at the upstream", e.info)
}

func judgeEntropy(e *tokenLook) kidoban.Result {
	const key = "E24-h"
	why := poor(e.codes)
	what := "codes"
	if why == "" {
		var opaque []string
		for _, a := range e.access {
			if _, _, ok := jwtOf(a); !ok {
				opaque = append(opaque, a)
			}
		}
		why, what = poor(opaque), "access tokens"
	}
	if why != "" {
		return positive(key, kidoban.Confirmed, what+" can be guessed: "+why, e.t.x)
	}
	if len(e.codes) < 5 {
		return unclear(key, kidoban.ReasonUnstable, "fewer than five codes were seen; they look random", e.t.x)
	}
	return passed(key, "codes and tokens look random ("+itoa(len(e.codes))+" codes seen)", e.t.x)
}

// poor says why values of the run's own can be guessed, "" when they look random.
func poor(values []string) string {
	if len(values) < 3 {
		return ""
	}
	c := oauth.CompareStates(values)
	switch {
	case c.Sequential:
		return "they count upwards"
	case c.Timestamps && c.RandomBits < idBits:
		return "they are made of the time"
	case c.RandomBits > 0 && c.RandomBits < idBits, c.Bits < idBits:
		return "too little of them is random"
	}
	return ""
}

// judgeOwnAnswers: is an answer that belongs to the person marked as public?
func judgeOwnAnswers(e *tokenLook) kidoban.Result {
	const key = "E31-a"
	r := ReplyOf(e.resources)
	if !r.ok() {
		return absent(key, "the server has no cache hints, or no resources to list", e.worksX)
	}
	n, _ := listIn(r)
	if n > 0 && wire.LookupString(r.Result, "cacheScope") == "public" {
		return positive(key, kidoban.Signal, "the list of resources is the person's own and marked as public", e.resources)
	}
	return passed(key, "the list of resources is not marked as public", e.resources)
}

func judgeOpenings(f *Facts, e *tokenLook) []kidoban.Result {
	var out []kidoban.Result
	if !e.works || f.blind() {
		return everyone([]string{"E24-g", "E04-j", "E23-a", "E07-2"}, func(k string) kidoban.Result {
			if f.blind() {
				return absent(k, cannotSee, f.List)
			}
			return unclear(k, kidoban.ReasonUnstable, "the genuine token does not open the endpoint, so there is nothing to compare with", e.worksX)
		})
	}
	switch {
	case e.t.ID == "":
		out = append(out, absent("E24-g", "no ID token is given", e.t.x))
	case e.id:
		out = append(out, positive("E24-g", kidoban.Confirmed, "the ID token opens the endpoint like an access token", e.t.x, e.idX))
	default:
		out = append(out, passed("E24-g", "the ID token does not open the endpoint", e.idX))
	}
	if e.tampered {
		out = append(out, positive("E04-j", kidoban.Confirmed, "a token with "+e.how+" opens the endpoint", e.worksX, e.tamperedX))
	} else {
		out = append(out, passed("E04-j", "a token with "+e.how+" is refused", e.worksX, e.tamperedX))
	}
	if e.query.listed {
		out = append(out, positive("E23-a", kidoban.Confirmed, "the access token opens the endpoint from the query", e.worksX, e.query.last()))
	} else {
		out = append(out, passed("E23-a", "an access token in the query does not open the endpoint", e.worksX, e.query.last()))
	}
	_, bare := listIn(ReplyOf(e.bareSID))
	switch {
	case !e.legacy || f.SSE || e.sid == "":
		out = append(out, absent("E07-2", "the server hands out no sessions", e.worksX))
	case bare:
		out = append(out, positive("E07-2", kidoban.Confirmed, "a session id opens the endpoint without the token", e.worksX, e.bareSID))
	default:
		out = append(out, passed("E07-2", "a session id without the token is refused", e.worksX, e.bareSID))
	}
	return out
}

// textOf is the text of a tool's result.
func textOf(x *kidoban.Exchange) string {
	var r struct {
		Content []struct{ Text string } `json:"content"`
	}
	if rep := ReplyOf(x); rep.ok() && json.Unmarshal(rep.Result, &r) == nil {
		var b strings.Builder
		for _, c := range r.Content {
			b.WriteString(c.Text + "\n")
		}
		return strings.TrimSpace(b.String())
	}
	return ""
}
