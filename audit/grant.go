package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Grants of the tester's own account. A code serves one probe. Every request for
// tokens is in the ledger before it is sent, and what was given is revoked at the
// end of the run, or by the next start when this one dies.

const grantEntry = "grant"

// issued is what one code brought and has to be revoked.
type issued struct {
	client *Client
	token  string // the newest refresh token, else the access token
	entry  int
	done   bool // a probe revoked it, or saw that it is dead
}

// ticket is an authorization code and what belongs to it.
type ticket struct {
	client   *Client
	req      authRequest
	verifier string
	code     string
	walked   walked
}

// tokens is an answer of the token endpoint.
type tokens struct {
	x       *kidoban.Exchange
	Access  string
	Refresh string
	ID      string
	Scope   string
	Type    string
	Expires int64 // seconds; -1 when the answer does not say
	client  *Client
	grant   *issued
}

// issued tells whether tokens came: 200, JSON, an access token and no error.
func (t *tokens) issued() bool { return t != nil && t.Access != "" }

// otherClient registers the second client, with two redirect URIs.
func (s *session) otherClient(ctx context.Context) {
	f := s.facts
	if f.Other != nil {
		return
	}
	if len(s.o.Clients) > 1 {
		p := s.o.Clients[1]
		f.Other = &Client{ID: p.ID, Secret: p.Secret, RedirectURI: p.RedirectURI, Redirects: []string{p.RedirectURI}, Pre: true}
		return
	}
	meta := s.template(s.loopbackRedirect())
	meta["client_name"] = "kidoban second client " + s.runID
	meta["redirect_uris"] = []string{s.loopbackRedirect(), s.loopbackRedirect()}
	if r, ok := s.register(ctx, "C1", "another client", meta); ok && r.accepted() && r.Client.RedirectURI != "" {
		f.Other = r.Client
	}
}

// request is an authorization request of c with a verifier that is known.
func (s *session) request(c *Client) (authRequest, string) {
	verifier := s.secret(32)
	r := s.baseline(c)
	r.Params = r.Params.with("code_challenge", oauth.S256(verifier))
	return r, verifier
}

// home is the profile in which the tester is logged in once for all grants.
func (s *session) home(ctx context.Context, who *Tester) (*person, error) {
	if s.homes == nil {
		s.homes = map[*Tester]*person{}
	}
	if p := s.homes[who]; p != nil {
		return p, nil
	}
	p, err := s.person(ctx, who, "tester", s.needsScripts || who.Script != nil || who.Hands)
	if err == nil {
		s.homes[who] = p
	}
	return p, err
}

func (s *session) closeHomes() {
	for _, p := range s.homes {
		p.close()
	}
	if s.first != nil {
		s.first.p.close()
	}
}

// ticket gets one fresh code for c in the tester's browser. change may change the
// request. It returns nil, with the walk, when no code came.
func (s *session) ticket(ctx context.Context, key, note string, c *Client, change func(*authRequest)) (*ticket, walked) {
	return s.ticketOf(ctx, s.o.Login, key, note, c, change)
}

func (s *session) ticketOf(ctx context.Context, who *Tester, key, note string, c *Client, change func(*authRequest)) (*ticket, walked) {
	if who == nil || c == nil || s.left() < 8 || who.Own != nil && !slices.Contains(ownCodes(), key) {
		return nil, walked{}
	}
	p, err := s.home(ctx, who)
	if err != nil {
		return nil, walked{Journey: &browser.Journey{}, err: err}
	}
	r, verifier := s.request(c)
	if change != nil {
		change(&r)
	}
	w := p.walk(ctx, errand{key: key, note: note, start: s.viaScript(addParams(r.Endpoint, r.Params.encode())), marker: r.Marker, capture: s.toCallback(r)})
	if p.tab == nil && w.code() == "" && who.Browser != nil && !who.Fast && w.Journey != nil && w.Captured == "" {
		// Plain pages do not get there: a real browser for this and all that follow.
		if real, err := s.person(ctx, who, "tester", true); err == nil {
			s.homes[who] = real
			w = real.walk(ctx, errand{key: key, note: note, start: addParams(r.Endpoint, r.Params.encode()), marker: r.Marker, capture: s.toCallback(r)})
		}
	}
	if w.code() == "" {
		return nil, w
	}
	if s.firstHops == nil {
		s.firstHops = w.hops
	}
	s.codes = append(s.codes, w.code())
	return &ticket{client: c, req: r, verifier: verifier, code: w.code(), walked: w}, w
}

// form is the token request for a ticket.
func (t *ticket) form() params {
	p := params{{"grant_type", "authorization_code"}, {"code", t.code}, {"redirect_uri", t.req.Params.get("redirect_uri")}, {"client_id", t.client.ID}, {"code_verifier", t.verifier}}
	if r := t.req.Params.get("resource"); r != "" {
		p = append(p, param{"resource", r})
	}
	return p
}

// redeem sends a token request; change may change it. Without a ledger nothing is
// asked for.
func (s *session) redeem(ctx context.Context, key, note string, t *ticket, change func(params) params) *tokens {
	if t == nil {
		return nil
	}
	p := t.form()
	if change != nil {
		return s.ask(ctx, key, note, t.client, change(p), nil)
	}
	got := s.ask(ctx, key, note, t.client, p, nil)
	if got != nil && got.x.Status() >= 500 && s.o.Wait(ctx, afterFailure) == nil {
		// A server that fails at an honest request has said nothing of the code.
		// Some fail at the second token of one second, which is the same JWT.
		failed := got.x
		if got = s.ask(ctx, key, note+", after an error of the server", t.client, p, nil); got != nil {
			s.made(failed)
		}
	}
	return got
}

// afterFailure is the time until an honest request is sent again: more than the
// second that JWTs count in.
const afterFailure = 1100 * time.Millisecond

// refresh exchanges a refresh token.
func (s *session) refresh(ctx context.Context, key, note string, c *Client, old *tokens, refresh string, more ...param) *tokens {
	p := append(params{{"grant_type", "refresh_token"}, {"refresh_token", refresh}, {"client_id", c.ID}}, more...)
	return s.ask(ctx, key, note, c, p, old.grant)
}

// ask sends a request to the token endpoint and notes what it gave.
func (s *session) ask(ctx context.Context, key, note string, c *Client, p params, g *issued) *tokens {
	as := s.facts.AS
	if as.Meta.TokenEndpoint == "" || s.ledger == nil || ctx.Err() != nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // an interruption waits for the answer, which has to be revoked
	fresh := g == nil
	if fresh {
		s.ledgerMu.Lock()
		n, err := s.ledger.Intend(Entry{Kind: grantEntry, Probe: key, Issuer: as.Issuer, Endpoint: as.Meta.RevocationEndpoint, Time: s.o.Now(), Lab: s.o.Lab})
		s.ledgerMu.Unlock()
		if err != nil {
			return nil
		}
		g = &issued{client: c, entry: n}
	}
	var header []kidoban.Field
	var beside params // the request with client_id in the body as well, where Basic names the client
	if c.Secret != "" && p.get("client_id") == c.ID {
		if c.Meta.TokenEndpointAuthMethod == "client_secret_post" {
			p = p.with("client_secret", c.Secret)
		} else {
			p, beside = p.without("client_id"), p
			header = append(header, kidoban.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.ID)+":"+url.QueryEscape(c.Secret)))})
		}
	}
	if beside != nil && s.idBeside.Load() {
		p, beside = beside, nil
	}
	t := readTokens(s.form(ctx, key, note, as.Meta.TokenEndpoint, p, header...))
	if beside != nil && clientRefused(t.x) { // see asOwner
		if again := readTokens(s.form(ctx, key, note+", and client_id in the body", as.Meta.TokenEndpoint, beside, header...)); again.x.Response != nil && !clientRefused(again.x) {
			s.idBeside.Store(true)
			t = again
		}
	}
	t.client, t.grant = c, g
	s.ledgerMu.Lock()
	defer s.ledgerMu.Unlock()
	switch {
	case !t.issued() && fresh:
		_ = s.ledger.Note(g.entry, "refused", "no tokens", s.o.Now())
	case t.issued():
		s.mu.Lock()
		s.access = append(s.access, t.Access)
		if g.token = t.Refresh; g.token == "" {
			g.token = t.Access
		}
		g.done = false
		if fresh {
			s.grants = append(s.grants, g)
		}
		s.mu.Unlock()
		if fresh {
			_ = s.ledger.Registered(Entry{Kind: grantEntry, N: g.entry, ClientID: c.ID, Time: s.o.Now()}, g.token)
		}
	}
	return t
}

func readTokens(x *kidoban.Exchange) *tokens {
	t := &tokens{x: x, Expires: -1}
	if x.Status() != http.StatusOK {
		return t
	}
	m := jsonObject(x.Response.Body)
	if m == nil || m["error"] != nil {
		return t
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(m[name], &s) // what is no string is absent
		return s
	}
	t.Access, t.Refresh, t.ID, t.Scope, t.Type = text("access_token"), text("refresh_token"), text("id_token"), text("scope"), text("token_type")
	var n float64
	if json.Unmarshal(m["expires_in"], &n) == nil && n >= 0 {
		t.Expires = int64(n)
	}
	return t
}

// revoke asks the server to revoke a token of a client (RFC 7009 §2.1).
func (s *session) revoke(ctx context.Context, key, note string, c *Client, token, hint string) *kidoban.Exchange {
	p := params{{"token", token}, {"token_type_hint", hint}}
	var header []kidoban.Field
	if c != nil && c.Secret != "" {
		header = append(header, kidoban.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.ID)+":"+url.QueryEscape(c.Secret)))})
	} else if c != nil {
		p = append(p, param{"client_id", c.ID})
	}
	return s.form(ctx, key, note, s.facts.AS.Meta.RevocationEndpoint, p, header...)
}

// withdraw revokes one grant and returns "" or why it is left behind.
func withdraw(ctx context.Context, send sender, endpoint, clientID, secret, token string) string {
	switch {
	case token == "":
		return "the run ended before the server's answer was written down"
	case endpoint == "":
		return "the server names no revocation endpoint"
	}
	p := params{{"token", token}, {"client_id", clientID}}
	h := kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Accept", Value: "application/json"}}
	if secret != "" {
		p = p.without("client_id")
		h = append(h, kidoban.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(clientID)+":"+url.QueryEscape(secret)))})
	}
	x := send(ctx, outbound.Req{Method: http.MethodPost, URL: endpoint, Probe: "clean-up", Note: "revoke the test grant", Header: h, Body: []byte(p.encode()), Credential: true, CredentialOrigin: endpoint})
	if x.Status() != http.StatusOK {
		return "its revocation was answered with status " + itoa(x.Status())
	}
	return ""
}

// revokeAll ends every grant of the run. What could not be ended is listed, one
// line a reason.
func (s *session) revokeAll(ctx context.Context) []kidoban.LeftOver {
	s.closeHomes()
	left := map[string]int{}
	var order []string
	for _, g := range s.grants {
		why := ""
		if !g.done {
			why = withdraw(ctx, s.final, s.facts.AS.Meta.RevocationEndpoint, g.client.ID, g.client.Secret, g.token)
		}
		switch {
		case why == "":
			_ = s.ledger.Note(g.entry, "deleted", "", s.o.Now())
			continue
		case ctx.Err() != nil:
			why = noTime
		default:
			_ = s.ledger.Note(g.entry, "left", why, s.o.Now())
		}
		if left[why]++; left[why] == 1 {
			order = append(order, why)
		}
	}
	var out []kidoban.LeftOver
	for _, why := range order {
		out = append(out, kidoban.LeftOver{Kind: grantEntry, Issuer: s.facts.AS.Issuer, Reason: kidoban.Count(left[why], "grant", "grants") + " of the test account: " + why})
	}
	return out
}

// The revisions that a good token is tried with.
const (
	latestModern = wire.LatestModern
	latestLegacy = wire.LatestLegacy
)

// entrance is how the endpoint is entered with a good token.
type entrance struct {
	modern, legacy bool
	version        string
}

// listWith knocks at the endpoint with a token: is the list served?
func (s *session) listWith(ctx context.Context, key, note, token string) reached {
	if s.facts.Session == "" || s.facts.SSE {
		if s.facts.Session == "" || s.facts.SSE {
			return s.reach(ctx, key, note, with(s.shows(token)))
		}
		// The discovery's session is nobody's: a token needs one of its own.
		version := s.facts.Version()
		sid, x := s.sessionFor(ctx, key, token, version)
		r := reached{}
		if sid == "" {
			r.xs, r.reply = append(r.xs, x), ReplyOf(x)
			return r
		}
		c := with(s.shows(token))
		c.Version, c.Session = version, sid
		r.add(s.rpc(ctx, key, note, c))
		s.endSession(ctx, call{Header: c.Header}, sid)
		return r
	}
	// The session that discovery opened without a token is nobody's: the owner of
	// the token opens an own one, or is refused it for what the token is.
	var r reached
	h := kidoban.Fields{s.shows(token)}
	sid, init := s.sessionFor(ctx, key, token, latestLegacy)
	r.add(init)
	if !r.reply.ok() {
		return r
	}
	r.add(s.rpc(ctx, key, note, call{Method: "tools/list", Version: latestLegacy, Header: h, Session: sid, Drop: dropWithout(sid)}))
	if sid != "" {
		s.endSession(ctx, call{Header: h}, sid)
	}
	return r
}

// alive tells whether a token opens the endpoint.
func (s *session) alive(ctx context.Context, key, note, token string) (bool, *kidoban.Exchange) {
	r := s.listWith(ctx, key, note, token)
	return r.listed, r.last()
}

// opens learns once whether a genuine token opens the endpoint: the control of all
// that is read from a token's being refused.
func (s *session) opens(ctx context.Context, token string) {
	if s.tried {
		return
	}
	works, x := s.alive(ctx, "control", "control: a genuine token", token)
	s.facts.mute, s.tried = !works && !hidden(x), !hidden(x)
}

// invoke calls a tool, as the owner of a token. With the session era
// it opens a session first and returns its id.
func (s *session) invoke(ctx context.Context, key, note, token, method string, p map[string]any, more ...kidoban.Field) *kidoban.Exchange {
	e := s.enter(ctx, token)
	h := kidoban.Fields{s.shows(token)}
	c := call{Method: method, Params: p, Header: h, Version: e.version, Caps: map[string]any{"elicitation": map[string]any{"form": map[string]any{}, "url": map[string]any{}}}}
	if s.facts.SSE {
		c.Header = mergeFields(c.Header, more)
		return s.overStream(ctx, key, note, c).stream
	}
	if e.modern {
		c.Header = append(c.Header, nameField(method, p)...)
		c.Header = mergeFields(c.Header, more)
		return s.rpc(ctx, key, note, c)
	}
	sid, _ := s.sessionFor(ctx, key, token, e.version)
	c.Session = sid
	c.Header = mergeFields(c.Header, more)
	x := s.rpc(ctx, key, note, c)
	if sid != "" {
		s.endSession(ctx, call{Header: h}, sid)
	}
	return x
}

// nameField is the mirrored name of the stateless era.
func nameField(method string, p map[string]any) kidoban.Fields {
	name := ""
	switch method {
	case "tools/call", "prompts/get":
		name, _ = p["name"].(string)
	case "resources/read":
		name, _ = p["uri"].(string)
	}
	if name == "" {
		return nil
	}
	return kidoban.Fields{{Name: "Mcp-Name", Value: name}}
}

func mergeFields(h kidoban.Fields, more []kidoban.Field) kidoban.Fields {
	for _, f := range more {
		h = h.Set(f.Name, f.Value)
	}
	return h
}

// sessionFor opens a session of the older era for a token.
func (s *session) sessionFor(ctx context.Context, key, token, version string) (string, *kidoban.Exchange) {
	h := kidoban.Fields{s.shows(token)}
	x := s.rpc(ctx, key, "open a session", call{Method: "initialize", Version: version, Header: h, Drop: []string{"Mcp-Session-Id"}, Session: "none",
		Params: map[string]any{"protocolVersion": version, "capabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}, "url": map[string]any{}}}, "clientInfo": clientInfo()}})
	sid := x.Header("Mcp-Session-Id")
	if !ReplyOf(x).ok() || len(sid) > 1024 {
		return "", x
	}
	s.rpc(ctx, key, "initialized", call{Method: "notifications/initialized", Version: version, Header: h, Session: sid, Drop: dropWithout(sid)})
	return sid, x
}

func dropWithout(sid string) []string {
	if sid == "" {
		return []string{"Mcp-Session-Id"}
	}
	return nil
}

// enter learns once how the endpoint is entered.
func (s *session) enter(ctx context.Context, token string) *entrance {
	if s.entered != nil {
		return s.entered
	}
	e := &entrance{version: s.facts.Version()}
	if s.facts.SSE {
		e.legacy = true
		s.entered = e
		return e
	}
	h := kidoban.Fields{s.shows(token)}
	modern := s.rpc(ctx, "enter", "the stateless era", call{Method: "tools/list", Version: latestModern, Header: h, Drop: []string{"Mcp-Session-Id"}, Session: "none"})
	_, e.modern = listIn(ReplyOf(modern))
	sid, init := s.sessionFor(ctx, "enter", token, latestLegacy)
	e.legacy = ReplyOf(init).ok()
	if sid != "" {
		s.endSession(ctx, call{Header: h}, sid)
	}
	switch {
	case e.modern:
		e.version = latestModern
	case e.legacy:
		e.version = latestLegacy
	}
	if !hidden(modern) && !hidden(init) { // otherwise the next probe asks again
		s.entered = e
	}
	return e
}

// jwtOf reads a token that is a JWT: header and claims.
func jwtOf(token string) (header, claims map[string]any, ok bool) {
	p := strings.Split(token, ".")
	if len(p) != 3 {
		return nil, nil, false
	}
	for i, m := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(p[i], "="))
		if err != nil || json.Unmarshal(b, m) != nil || *m == nil {
			return nil, nil, false
		}
	}
	return header, claims, true
}

// audiences of a JWT's claims.
func audiences(claims map[string]any) []string {
	switch a := claims["aud"].(type) {
	case string:
		return []string{a}
	case []any:
		var out []string
		for _, x := range a {
			if t, ok := x.(string); ok {
				out = append(out, t)
			}
		}
		return out
	}
	return nil
}

// namesResource tells whether an audience is the resource, in any usual spelling.
func namesResource(aud []string, resource string) bool {
	want, err := oauth.CanonicalResource(resource)
	if err != nil {
		want = resource
	}
	return slices.ContainsFunc(aud, func(a string) bool {
		got, err := oauth.CanonicalResource(a)
		return a == resource || err == nil && strings.TrimSuffix(got, "/") == strings.TrimSuffix(want, "/")
	})
}

// patient waits for d when the tester allowed it.
func (s *session) patient(ctx context.Context, d time.Duration) bool {
	return d <= s.o.Patience && s.o.Wait(ctx, d) == nil
}
