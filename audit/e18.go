package audit

import (
	"context"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// E18: may the registrant choose what it is allowed to do? One registration asks
// for scopes, grants and the switches of several vendors at once. Most servers
// drop what they do not grant; one that refuses is asked again for each.

var (
	greedyScopes = []string{"admin", "*"}
	greedyGrants = []string{"client_credentials", "password", "urn:ietf:params:oauth:grant-type:token-exchange"}
	greedyExtras = map[string]any{"require_pkce": false, "skip_consent": true, "access_token_ttl": 31_536_000}
)

type e18Evidence struct {
	scope, grants, extras attempt // the same one when all was asked at once
	nonsense              string  // a member without meaning, to see whether everything is echoed
	token                 *kidoban.Exchange
	tokenOf               attempt
}

func probeE18() probe {
	return define(spec{name: "registration that asks for privileges", keys: []string{"E18-a", "E18-b", "E18-c", "E18-d"}, tier: kidoban.T2, cost: 7},
		func(ctx context.Context, s *session) (ev e18Evidence) {
			ev.nonsense = "kidoban_" + s.nonce(8)
			all := s.askPrivileges(ctx, "scopes, grants and switches", ev.nonsense, true, true, true)
			ev.scope, ev.grants, ev.extras = all, all, all
			if all.refused() {
				ev.scope = s.askPrivileges(ctx, "any scope", ev.nonsense, true, false, false)
				ev.grants = s.askPrivileges(ctx, "any grant type", ev.nonsense, false, true, false)
				ev.extras = s.askPrivileges(ctx, "vendors' switches", ev.nonsense, false, false, true)
			}
			if ev.tokenOf = ev.grants; ev.grants.accepted() {
				s.facts.greedy = ev.grants.reg
				c := ev.grants.reg.Client
				if c.Secret != "" {
					s.facts.secretive = ev.grants.reg
				}
				if s.wants("E18-d") && (c.Secret != "" || len(shared(c.Meta.GrantTypes, greedyGrants[:1])) > 0) {
					ev.token = s.ownToken(ctx, c)
				}
			}
			return ev
		}, judgeE18)
}

func (s *session) askPrivileges(ctx context.Context, note, nonsense string, scope, grants, extras bool) attempt {
	meta := s.template(s.loopbackRedirect())
	meta["token_endpoint_auth_method"] = secretMethod(s.facts)
	if scope {
		meta["scope"] = strings.Join(greedyScopes, " ")
	}
	if grants {
		meta["grant_types"] = append([]string{"authorization_code"}, greedyGrants...)
	}
	if extras {
		for k, v := range greedyExtras {
			meta[k] = v
		}
		meta[nonsense] = true
	}
	return s.attempt(ctx, "E18", note, meta)
}

// ownToken asks once for a token in the client's own name. A token that comes is
// used for nothing and revoked at once.
func (s *session) ownToken(ctx context.Context, c *Client) *kidoban.Exchange {
	as := s.facts.AS.Meta
	if as.TokenEndpoint == "" {
		return nil
	}
	p := params{{"grant_type", "client_credentials"}, {"resource", s.facts.Resource}}
	x := s.asOwner(ctx, "E18-d", "a token in the client's own name", as.TokenEndpoint, c, p)
	if tok := tokenIn(x); tok != "" && as.RevocationEndpoint != "" {
		p, h := clientAuth(c.ID, c.Meta.AuthMethod(), c.Secret, params{{"token", tok}})
		h = append(h, kidoban.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
		s.final(ctx, outbound.Req{Method: "POST", URL: as.RevocationEndpoint, Probe: "clean-up", Note: "revoke the token", Header: h, Body: []byte(p.encode())})
	}
	return x
}

// asClient posts a form to the token endpoint with the client's authentication.
func (s *session) asClient(ctx context.Context, probe, note, endpoint string, c *Client, method, secret string, p params) *kidoban.Exchange {
	p, h := clientAuth(c.ID, method, secret, p)
	if method == "client_secret_basic" && s.idBeside.Load() {
		p = p.and("client_id", c.ID)
	}
	return s.form(ctx, probe, note, endpoint, p, h...)
}

// asOwner is asClient with the client's own secret and method. Some servers look for
// client_id in the body although Basic names the client: then it stands there too, for
// the rest of the run.
func (s *session) asOwner(ctx context.Context, probe, note, endpoint string, c *Client, p params) *kidoban.Exchange {
	method := c.Meta.AuthMethod()
	x := s.asClient(ctx, probe, note, endpoint, c, method, c.Secret, p)
	if method != "client_secret_basic" || s.idBeside.Load() || !clientRefused(x) {
		return x
	}
	s.idBeside.Store(true)
	again := s.asClient(ctx, probe, note+", and client_id in the body", endpoint, c, method, c.Secret, p)
	if clientRefused(again) || again.Response == nil {
		s.idBeside.Store(false)
		return x
	}
	return again
}

// clientRefused tells whether it was the client that an answer refuses.
func clientRefused(x *kidoban.Exchange) bool {
	e := oauthError(x)
	return (x.Status() == 400 || x.Status() == 401) && (e == "invalid_client" || e == "unauthorized_client")
}

// clientAuth adds client authentication (RFC 6749 §2.3.1): by Basic, in the body,
// or with "none" the client_id alone.
func clientAuth(id, method, secret string, p params) (params, kidoban.Fields) {
	switch method {
	case "client_secret_basic":
		v := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
		return p, kidoban.Fields{{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(v))}}
	case "client_secret_post":
		return p.and("client_id", id).and("client_secret", secret), nil
	}
	return p.and("client_id", id), nil
}

// tokenIn returns the access token of a successful token answer, or "": status
// 200, JSON, a non-empty access_token and no error.
func tokenIn(x *kidoban.Exchange) string {
	if x.Status() != 200 || oauthError(x) != "" {
		return ""
	}
	return jsonText(x, "access_token")
}

func judgeE18(f *Facts, ev e18Evidence) []kidoban.Result {
	return []kidoban.Result{judgeE18a(f, ev.scope), judgeE18b(f, ev), judgeE18c(f, ev), judgeE18d(f, ev)}
}

func judgeE18a(f *Facts, at attempt) kidoban.Result {
	const key = "E18-a"
	if r, ok := at.turnedDown(key, "the scopes admin and *", f); ok {
		return r
	}
	if got := shared(strings.Fields(at.meta().Scope), greedyScopes); len(got) > 0 {
		return positive(key, kidoban.Likely, "registration grants a stranger the scope "+strings.Join(got, " and "), at.x())
	}
	return passed(key, "registration grants none of the scopes admin and *", at.x())
}

func judgeE18b(f *Facts, ev e18Evidence) kidoban.Result {
	const key = "E18-b"
	at := ev.grants
	if r, ok := at.turnedDown(key, "grant types beyond authorization_code", f); ok {
		return r
	}
	got := shared(at.meta().GrantTypes, greedyGrants)
	if len(got) == 1 && got[0] == "client_credentials" && slices.Contains(f.AS.Meta.GrantTypesSupported, got[0]) {
		return passed(key, "of the grant types only client_credentials is registered, which the server offers on purpose", at.x())
	}
	if len(got) > 0 && len(f.AS.Meta.GrantTypesSupported) > 0 && len(shared(f.AS.Meta.GrantTypesSupported, got)) == 0 && noGrant(ev.token) {
		r := positive(key, kidoban.Likely, "registration writes down the grant types "+strings.Join(got, ", ")+", which the server does not offer: a request for a token in its own name is answered with "+oauthError(ev.token), at.x(), ev.token)
		r.Outcome, r.Severity = kidoban.Weak, kidoban.Low
		return r
	}
	if len(got) > 0 {
		return positive(key, kidoban.Likely, "registration grants a stranger the grant types "+strings.Join(got, ", "), at.x())
	}
	return passed(key, "registration grants none of the grant types "+strings.Join(greedyGrants, ", "), at.x())
}

// noGrant tells whether the token endpoint knows no such grant, or not for this client.
func noGrant(x *kidoban.Exchange) bool {
	if x == nil || x.Response == nil || x.Status() < 400 || x.Status() >= 500 {
		return false
	}
	switch oauthError(x) {
	case "unsupported_grant_type", "unauthorized_client", "invalid_request":
		return true
	}
	return false
}

// judgeE18c: a server that echoes even a member without meaning shows only that
// it keeps everything, not that it heeds it.
func judgeE18c(f *Facts, ev e18Evidence) kidoban.Result {
	const key = "E18-c"
	at := ev.extras
	if r, ok := at.turnedDown(key, "switches of its own", f); ok {
		return r
	}
	members := jsonObject(at.x().Response.Body)
	var got []string
	for _, name := range []string{"access_token_ttl", "require_pkce", "skip_consent"} {
		if raw, ok := members[name]; ok && sameJSON(raw, greedyExtras[name]) {
			got = append(got, name)
		}
	}
	switch _, echoes := members[ev.nonsense]; {
	case len(got) == 0:
		return passed(key, "registration drops switches that are not the client's to set", at.x())
	case echoes:
		return positive(key, kidoban.Signal, "registration keeps "+strings.Join(got, ", ")+", and any other member: whether they do anything shows after a login", at.x())
	}
	return positive(key, kidoban.Likely, "registration keeps the switches "+strings.Join(got, ", "), at.x())
}

func judgeE18d(f *Facts, ev e18Evidence) kidoban.Result {
	const key = "E18-d"
	if r, ok := ev.tokenOf.turnedDown(key, "a client for client_credentials", f); ok {
		return r
	}
	x := ev.token
	switch {
	case ev.tokenOf.reg.Client.Secret == "" && x == nil:
		return passed(key, "registration gives strangers no secret to ask for a token with", ev.tokenOf.x())
	case f.AS.Meta.TokenEndpoint == "":
		return absent(key, "the metadata name no token endpoint")
	}
	if r, bad := unanswered(key, x); bad {
		return r
	}
	if tokenIn(x) == "" {
		if x.Status() >= 500 {
			return unclear(key, kidoban.ReasonUnstable, "the token endpoint fails with status "+itoa(x.Status()), x)
		}
		return passed(key, "a stranger's client gets no token in its own name: status "+itoa(x.Status())+errorText(x), ev.tokenOf.x(), x)
	}
	if raw, named := jsonObject(x.Response.Body)["scope"]; named && string(raw) == `""` {
		r := positive(key, kidoban.Confirmed, "a stranger's client gets a token in its own name, without any scope", ev.tokenOf.x(), x)
		r.Severity = kidoban.Low // machine clients without rights are offered on purpose
		return r
	}
	return positive(key, kidoban.Confirmed, "a client that anybody can register gets a token in its own name", ev.tokenOf.x(), x)
}

// shared returns the members of have that stand in wanted.
func shared(have, wanted []string) []string {
	var out []string
	for _, w := range wanted {
		if slices.Contains(have, w) {
			out = append(out, w)
		}
	}
	return out
}
