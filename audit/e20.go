package audit

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// E20: does the management of registrations (RFC 7592) obey only the token of the
// client it is about? K1 is a client of this run that nothing else needs any
// more, K2 the control client. A management URI on another origin never sees a
// token, nor any request.

type e20Evidence struct {
	k1, k2  *Client
	at      attempt // to register K1, where there is none
	foreign bool

	own, bare, others, query *kidoban.Exchange // GET of K1's registration
	bad                      string            // the redirect URI that registration refused
	put                      *kidoban.Exchange
	putTrail                 *Trail
	del                      *kidoban.Exchange
	after                    Trials // an authorization request of K1 after its deletion
	frame                    Trials // what that is compared with
	late                     *Trail // once more after a pause, where it was taken
	asked                    bool
}

// forgetting is how long a server may take to forget a deleted client: caches are no
// flaw, and RFC 7592 §2.3 has no more than "immediately" as a SHOULD.
const forgetting = 30 * time.Second

func probeE20() probe {
	return define(spec{name: "registration management", keys: []string{"E20-a", "E20-b", "E20-c", "E20-d", "E20-e", "E20-f", "E20-g"}, tier: kidoban.T2, cost: 8},
		func(ctx context.Context, s *session) (ev e20Evidence) {
			ev.pick(ctx, s)
			c := ev.k1
			if c == nil || c.regURI == "" || c.regTok == "" {
				return ev
			}
			if as := s.facts.AS; !sameOrigin(c.regURI, as.Meta.RegistrationEndpoint) && !sameOrigin(c.regURI, as.Issuer) {
				ev.foreign = true
				return ev
			}
			if ev.own = s.manage(ctx, http.MethodGet, "the client with its own token", c, c.regURI, c.regTok, nil); ev.own.Status() != 200 {
				return ev
			}
			ev.read(ctx, s)
			if c != s.facts.Client { // the control client is still needed
				ev.change(ctx, s)
			}
			return ev
		}, judgeE20)
}

// pick chooses K1 and K2 among the clients of the run, and registers a K1 where
// there is none.
func (ev *e20Evidence) pick(ctx context.Context, s *session) {
	f := s.facts
	control := f.Client
	if control != nil && control.Pre {
		control = nil
	}
	for _, r := range []*Registration{f.secretive, f.greedy, f.script} {
		if r != nil && r.accepted() && !r.Client.removed {
			ev.k1, ev.k2 = r.Client, control
			return
		}
	}
	at := s.confidential(ctx)
	switch {
	case at.accepted():
		ev.k1, ev.k2 = at.reg.Client, control
	case control != nil:
		ev.k1 = control
	default:
		ev.at = at
	}
	if ev.k1 != nil && ev.k2 == nil && ev.k1 != control && s.wants("E20-b") {
		if at := s.attempt(ctx, "E20", "a second client", s.template(s.loopbackRedirect())); at.accepted() {
			ev.k2 = at.reg.Client
		}
	}
}

// baselines sends what a deleted client's request is compared with, where the run
// has no baseline of its own.
func (ev *e20Evidence) baselines(ctx context.Context, s *session) {
	if ev.frame = s.trials(); ev.frame.B != nil || s.left() < 4 {
		return
	}
	r := s.baseline(ev.k1)
	ev.frame.B = s.follow(ctx, "E20-e", "a valid request", r)
	r.Params = r.Params.with("client_id", s.word(32))
	ev.frame.N1 = s.follow(ctx, "E20-e", "an unknown client", r)
}

// refusal finds a redirect URI that registration refuses, and asks for one where
// the run has none.
func (s *session) refusal(ctx context.Context) string {
	if uri := s.facts.refusedURI(); uri != "" || s.facts.ForeignReg != nil {
		return uri
	}
	meta := s.template(s.foreign())
	meta["application_type"] = "web"
	if at := s.attempt(ctx, "E20-d", "a foreign redirect URI", meta); at.reg != nil {
		s.facts.ForeignReg = at.reg
	}
	return s.facts.refusedURI()
}

// manage sends one request to a client configuration endpoint. Answers may bring
// a new management token (RFC 7592 §3), without which nothing could be deleted.
func (s *session) manage(ctx context.Context, method, note string, c *Client, uri, token string, body []byte) *kidoban.Exchange {
	r := outbound.Req{Method: method, URL: uri, Probe: "E20", Note: note, Body: body, Credential: true, CredentialOrigin: c.regURI,
		Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}}
	if token != "" {
		r.Header = append(r.Header, kidoban.Field{Name: "Authorization", Value: "Bearer " + token})
	}
	if body != nil {
		r.Header = append(r.Header, kidoban.Field{Name: "Content-Type", Value: "application/json"})
	}
	x := s.do(ctx, r)
	if x.Status() == 200 && jsonText(x, "client_id") == c.ID {
		if tok := jsonText(x, "registration_access_token"); tok != "" && tok != c.regTok {
			c.regTok = tok
			_ = s.ledger.Registered(Entry{N: c.entry, ClientID: c.ID, ClientURI: c.regURI, Time: s.o.Now(), Expires: expiry(&c.Meta)}, tok)
		}
	}
	return x
}

// read asks for K1's data without its token.
func (ev *e20Evidence) read(ctx context.Context, s *session) {
	c := ev.k1
	if s.wants("E20-a", "E20-c") {
		ev.bare = s.manage(ctx, http.MethodGet, "without a token", c, c.regURI, "", nil)
	}
	if s.wants("E20-b") && ev.k2 != nil && ev.k2.regTok != "" {
		ev.others = s.manage(ctx, http.MethodGet, "with another client's token", c, c.regURI, ev.k2.regTok, nil)
	}
	if s.wants("E20-c") && ev.bare != nil && !shows(ev.bare, c) {
		ev.query = s.manage(ctx, http.MethodGet, "with its own token in the query", c, addQuery(c.regURI, "access_token", c.regTok), "", nil)
	}
}

// change tries a refused redirect URI in an update, then deletes K1 and uses it.
func (ev *e20Evidence) change(ctx context.Context, s *session) {
	c := ev.k1
	if s.wants("E20-d") {
		ev.bad = s.refusal(ctx)
	}
	if ev.bad != "" {
		meta := s.template(c.RedirectURI)
		meta["client_id"], meta["token_endpoint_auth_method"] = c.ID, c.Meta.AuthMethod()
		if c.Secret != "" {
			meta["client_secret"] = c.Secret
		}
		meta["redirect_uris"] = []string{c.RedirectURI, ev.bad}
		body, _ := json.Marshal(meta) // strings and lists of strings
		ev.put = s.manage(ctx, http.MethodPut, "an update with a redirect URI that registration refused", c, c.regURI, c.regTok, body)
		if keepsURI(ev.put, ev.bad) && s.facts.AS.Meta.AuthorizationEndpoint != "" {
			c2 := *c
			c2.RedirectURI = ev.bad
			ev.putTrail = s.follow(ctx, "E20-d", "authorization with the updated redirect URI", s.baseline(&c2))
		}
	}
	if !s.wants("E20-e", "E20-f") {
		return
	}
	if s.wants("E20-e") && s.facts.AS.Meta.AuthorizationEndpoint != "" {
		ev.baselines(ctx, s)
	}
	if ev.del = s.manage(ctx, http.MethodDelete, "delete the client", c, c.regURI, c.regTok, nil); !deleted(ev.del) {
		return
	}
	c.removed = true
	s.reserve -= cleanCost
	_ = s.ledger.Note(c.entry, "deleted", "", s.o.Now())
	if ev.frame.B != nil && ev.frame.N1 != nil && s.left() > 0 {
		ev.asked = true
		ev.after = s.mutate(ctx, "E20-e", "a request of the deleted client", s.baseline(c), ev.frame)
		if Decide(ev.after).Outcome != kidoban.Fail || s.left() == 0 {
			return
		}
		if s.o.Lab && s.o.Patience < forgetting || s.o.Wait(ctx, forgetting) == nil {
			ev.late = s.follow(ctx, "E20-e", "a request of the deleted client, half a minute later", s.baseline(c))
		}
	}
}

// refusedURI is a redirect URI that registration has refused, or "".
func (f *Facts) refusedURI() string {
	for _, r := range []*Registration{f.ForeignReg, f.script} {
		if r == nil || r.accepted() || r.X.Status() != 400 || rateLimited(r.X) {
			continue
		}
		if uris, _ := r.Asked["redirect_uris"].([]string); len(uris) > 0 {
			return uris[0]
		}
	}
	return ""
}

func deleted(x *kidoban.Exchange) bool {
	if challenged(x) {
		return false
	}
	switch x.Status() {
	case 200, 202, 204:
		return true
	}
	return false
}

// shows tells whether an answer holds c's registration.
func shows(x *kidoban.Exchange, c *Client) bool {
	return x.Status() == 200 && jsonText(x, "client_id") == c.ID
}

// keepsURI tells whether an answer to an update lists uri.
func keepsURI(x *kidoban.Exchange, uri string) bool {
	if x.Status() != 200 {
		return false
	}
	m, err := oauth.ParseClientMetadata(x.Response.Body)
	if err != nil {
		return false
	}
	for _, u := range m.RedirectURIs {
		if u == uri {
			return true
		}
	}
	return false
}
