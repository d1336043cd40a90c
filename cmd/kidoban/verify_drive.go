package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// driver is an ordinary MCP client with an ordinary person at an ordinary
// browser: it discovers, registers, logs in, lists the tools and calls two. It
// tests nothing; its traffic is what passive inspection is verified on.
type driver struct {
	ctx  context.Context
	out  *outbound.Client
	l    *lab.Lab
	seen func(*kidoban.Exchange)

	meta     oauth.Metadata
	prm      oauth.PRM
	client   oauth.ClientMetadata
	scope    string
	endpoint string
	redirect string
	session  string
	modern   bool
	odd      bool // the client spells parameters as only its server does
}

const driverHops = 60

// drive makes logins logins and gives every exchange to seen, in order.
// After them come the habits, each of which needs the server's metadata.
func drive(ctx context.Context, l *lab.Lab, era string, logins int, seen func(*kidoban.Exchange), habits ...habit) error {
	return (&driver{}).run(ctx, l, era, logins, seen, habits)
}

func (d *driver) run(ctx context.Context, l *lab.Lab, era string, logins int, seen func(*kidoban.Exchange), habits []habit) error {
	o := outbound.Options{Lab: true}
	if len(l.CACert) > 0 {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AppendCertsFromPEM(l.CACert)
	}
	d.ctx, d.out, d.l, d.seen = ctx, outbound.New(o), l, seen
	d.endpoint = l.MCPURL
	d.redirect, d.modern = "http://127.0.0.1:4711/callback", era != "legacy" && era != "sse"
	defer d.out.Close()
	d.hello("")
	d.discover()
	if d.meta.AuthorizationEndpoint == "" {
		return nil // an open server: the list has been seen
	}
	d.register()
	for n := range logins {
		if n > 0 && len(d.prm.ScopesSupported) > 0 {
			d.scope = strings.Join(d.prm.ScopesSupported, " ") // the second time it wants to write too
		}
		token, refresh := d.login()
		if token == "" {
			continue
		}
		d.hello(token)
		if refresh != "" {
			d.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {d.client.ClientID}})
		}
	}
	for _, h := range habits {
		h(d)
	}
	return nil
}

func (d *driver) do(r outbound.Req) *kidoban.Exchange {
	x, _ := d.out.Do(d.ctx, r) // a failed exchange is traffic too
	d.seen(x)
	return x
}

func (d *driver) rpc(token, method string, params map[string]any) *kidoban.Exchange {
	if params == nil {
		params = map[string]any{}
	}
	h := kidoban.Fields{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json, text/event-stream"}}
	if d.modern {
		params["_meta"] = map[string]any{"io.modelcontextprotocol/protocolVersion": wire.LatestModern,
			"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "editor", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}, "url": map[string]any{}}}}
		h = append(h, kidoban.Field{Name: "Mcp-Protocol-Version", Value: wire.LatestModern}, kidoban.Field{Name: "Mcp-Method", Value: method})
		if name, ok := params["name"].(string); ok {
			h = append(h, kidoban.Field{Name: "Mcp-Name", Value: name})
		}
	} else if method != wire.MethodInitialize {
		h = append(h, kidoban.Field{Name: "Mcp-Protocol-Version", Value: wire.LatestLegacy})
	}
	if token != "" {
		h = append(h, kidoban.Field{Name: "Authorization", Value: "Bearer " + token})
	}
	if d.session != "" {
		h = append(h, kidoban.Field{Name: "Mcp-Session-Id", Value: d.session})
	}
	msg := map[string]any{"jsonrpc": "2.0", "method": method, "params": params}
	if !strings.HasPrefix(method, "notifications/") {
		msg["id"] = 7
	}
	body, err := json.Marshal(msg)
	if err != nil {
		panic("verify: a call cannot be encoded") // our own maps only
	}
	return d.do(outbound.Req{Method: http.MethodPost, URL: d.endpoint, Header: h, Body: body})
}

// hello is what clients do at first: greet and list the tools, and with a token
// call two of them.
func (d *driver) hello(token string) {
	d.session = ""
	if d.modern {
		d.rpc(token, wire.MethodDiscover, nil)
	} else {
		x := d.rpc(token, wire.MethodInitialize, map[string]any{"protocolVersion": wire.LatestLegacy, "capabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}, "url": map[string]any{}}}, "clientInfo": map[string]any{"name": "editor", "version": "1"}})
		if x.Status() == 200 {
			d.session = x.Header("Mcp-Session-Id")
			d.rpc(token, "notifications/initialized", nil)
		}
	}
	d.rpc(token, "tools/list", nil)
	if token != "" {
		d.rpc(token, "tools/call", map[string]any{"name": "needs_input", "arguments": map[string]any{"amount": 3}})
		d.rpc(token, "tools/call", map[string]any{"name": "connect_account", "arguments": map[string]any{}})
	}
}

func (d *driver) get(u string) *kidoban.Exchange {
	return d.do(outbound.Req{Method: http.MethodGet, URL: u, Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}})
}

// discover follows the challenge, then the well-known places.
func (d *driver) discover() {
	x := d.rpc("", "tools/list", nil)
	var places []string
	if x.Response != nil {
		for _, c := range oauth.ParseChallenges(x.Response.Header.Values("WWW-Authenticate")) {
			if u, _ := c.ResourceMetadata(); u != "" {
				places = append(places, u)
			}
			if s := c.Scopes(); len(s) > 0 {
				d.scope = strings.Join(s, " ")
			}
		}
	}
	known, _ := oauth.PRMURLs(d.l.MCPURL)
	for _, u := range append(places, known...) {
		if x := d.get(u); x.Status() == 200 {
			if prm, err := oauth.ParsePRM(x.Response.Body); err == nil && len(prm.AuthorizationServers) > 0 {
				d.prm = prm
				break
			}
		}
	}
	issuers := d.prm.AuthorizationServers
	if len(issuers) == 0 {
		if iss, err := oauth.LegacyIssuer(d.l.MCPURL); err == nil {
			issuers = []string{iss}
		}
	}
	for _, iss := range issuers {
		urls, _ := oauth.MetadataURLs(iss)
		found := 0
		for _, u := range urls { // some clients read both kinds of document
			if x := d.get(u); x.Status() == 200 {
				if m, err := oauth.ParseMetadata(x.Response.Body); err == nil && m.AuthorizationEndpoint != "" {
					if d.meta.AuthorizationEndpoint == "" {
						d.meta = m
					}
					found++
				}
			}
		}
		if found > 0 {
			return
		}
	}
}

// register makes the client that logs in.
func (d *driver) register() { d.client = d.newClient("Editor", d.redirect, nil) }

// newClient registers a client; the zero value was refused.
func (d *driver) newClient(name, redirect string, more map[string]any) oauth.ClientMetadata {
	ask := map[string]any{"client_name": name, "redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "token_endpoint_auth_method": "none", "application_type": "native"}
	for k, v := range more {
		ask[k] = v
	}
	body, err := json.Marshal(ask)
	if err != nil {
		panic("verify: a registration cannot be encoded") // our own map only
	}
	x := d.do(outbound.Req{Method: http.MethodPost, URL: d.meta.RegistrationEndpoint, Body: body, Header: kidoban.Fields{{Name: "Content-Type", Value: "application/json"}}})
	if x.Response == nil {
		return oauth.ClientMetadata{}
	}
	c, err := oauth.ParseClientMetadata(x.Response.Body)
	if err != nil || x.Status() >= 300 {
		return oauth.ClientMetadata{}
	}
	return c
}

// login is one login in a fresh browser, up to the tokens.
func (d *driver) login() (token, refresh string) {
	back, verifier := d.ask(nil)
	if back.Get("code") == "" {
		return "", ""
	}
	r := d.redeem(back.Get("code"), verifier, nil)
	return r.AccessToken, r.RefreshToken
}

// ask sends a person to the authorization endpoint and returns the answer's
// parameters, those of a fragment included; change makes the request another one.
func (d *driver) ask(change func(url.Values)) (back url.Values, verifier string) {
	verifier = oauth.NewVerifier(rand.Reader)
	q := url.Values{"response_type": {"code"}, "client_id": {d.client.ClientID}, "redirect_uri": {d.redirect}, "state": {oauth.NewVerifier(rand.Reader)},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "resource": {d.l.MCPURL}}
	if d.scope != "" {
		q.Set("scope", d.scope)
	}
	if change != nil {
		change(q)
	}
	sep := "?"
	if strings.Contains(d.meta.AuthorizationEndpoint, "?") {
		sep = "&"
	}
	u, err := url.Parse(d.browse(d.meta.AuthorizationEndpoint+sep+d.spelled(q).Encode(), q.Get("redirect_uri")))
	if err != nil {
		return nil, verifier
	}
	back = u.Query()
	if v, err := url.ParseQuery(u.Fragment); err == nil {
		for k := range v {
			back.Set(k, v.Get(k))
		}
	}
	return back, verifier
}

// redeem exchanges a code; what comes back empty was refused.
func (d *driver) redeem(code, verifier string, change func(url.Values)) oauth.TokenResponse {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {d.client.ClientID},
		"redirect_uri": {d.redirect}, "code_verifier": {verifier}, "resource": {d.l.MCPURL}}
	if change != nil {
		change(form)
	}
	return answered(d.token(form))
}

// spelled writes client_id as clientId where the client has that habit.
func (d *driver) spelled(v url.Values) url.Values {
	if !d.odd {
		return v
	}
	out := url.Values{}
	for name, vs := range v {
		parts := strings.Split(name, "_")
		for i, p := range parts[1:] {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
		out[strings.Join(parts, "")] = vs
	}
	return out
}

func answered(x *kidoban.Exchange) oauth.TokenResponse {
	if x.Response == nil {
		return oauth.TokenResponse{}
	}
	r, err := oauth.ParseTokenResponse(x.Status(), x.Response.Body)
	if err != nil {
		return oauth.TokenResponse{}
	}
	return r
}

func (d *driver) token(form url.Values) *kidoban.Exchange {
	return d.do(outbound.Req{Method: http.MethodPost, URL: d.meta.TokenEndpoint, Body: []byte(d.spelled(form).Encode()),
		Header: kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}})
}

// browse goes where a browser goes, fills the login in and approves, until the
// way leads to the client.
func (d *driver) browse(at, client string) string {
	jar := outbound.NewJar()
	r := outbound.Req{Method: http.MethodGet, URL: at, Jar: jar}
	for range driverHops {
		r.Header = append(r.Header, kidoban.Field{Name: "Accept", Value: "text/html"})
		x := d.do(r)
		if x.Response == nil {
			return ""
		}
		base, err := url.Parse(r.URL)
		if err != nil {
			return ""
		}
		if loc := x.Header("Location"); loc != "" && x.Status() < 400 {
			to, err := base.Parse(loc)
			if err != nil {
				return ""
			}
			if strings.HasPrefix(to.String(), client) || strings.HasPrefix(to.String(), d.redirect) {
				return to.String()
			}
			next := outbound.Req{Method: http.MethodGet, URL: to.String(), Jar: jar}
			if st := x.Status(); st == 307 || st == 308 {
				next.Method, next.Body, next.Header = r.Method, r.Body, formType(base)
			}
			r = next
			continue
		}
		p := audit.ParsePage(x.Response.Body)
		if p.Refresh != "" {
			if to, err := base.Parse(p.Refresh); err == nil {
				r = outbound.Req{Method: http.MethodGet, URL: to.String(), Jar: jar}
				continue
			}
		}
		if len(p.Forms) == 0 {
			to := d.scripted(base, string(x.Response.Body), jar)
			if to == "" {
				return ""
			}
			r = outbound.Req{Method: http.MethodGet, URL: to, Jar: jar}
			continue
		}
		f := p.Forms[0]
		to, err := base.Parse(f.Action)
		if err != nil {
			return ""
		}
		v := d.fill(p, f)
		if f.Method == http.MethodPost {
			r = outbound.Req{Method: http.MethodPost, URL: to.String(), Jar: jar, Header: formType(base), Body: []byte(v.Encode())}
			continue
		}
		to.RawQuery = v.Encode()
		r = outbound.Req{Method: http.MethodGet, URL: to.String(), Jar: jar}
	}
	return ""
}

// scripted does what the script of the lab's application page does when its button
// is pressed: a browser sends just these requests. "" for pages of another kind.
func (d *driver) scripted(page *url.URL, html string, jar *outbound.Jar) string {
	_, rest, ok := strings.Cut(html, `<script src="`)
	src, _, ok2 := strings.Cut(rest, `"`)
	at, err := page.Parse(src)
	if !ok || !ok2 || err != nil {
		return ""
	}
	x := d.do(outbound.Req{Method: http.MethodGet, URL: at.String(), Jar: jar})
	if x.Response == nil {
		return ""
	}
	_, rest, ok = strings.Cut(string(x.Response.Body), `location.replace("`)
	next, _, ok2 := strings.Cut(rest, `"+location.search`)
	to, err := page.Parse(next + page.RawQuery)
	if !ok || !ok2 || err != nil {
		return ""
	}
	return to.String()
}

func formType(from *url.URL) kidoban.Fields {
	return kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Origin", Value: from.Scheme + "://" + from.Host}}
}

func (d *driver) fill(p audit.Page, f audit.Form) url.Values {
	v := url.Values{}
	for _, in := range f.Inputs {
		switch {
		case in.Type == "password":
			v.Set(in.Name, d.l.Accounts[0].Password)
		case in.Type == "hidden":
			v.Add(in.Name, in.Value)
		case in.Type == "submit" || in.Type == "checkbox" || in.Type == "radio":
		case in.Name != "":
			v.Set(in.Name, d.l.Accounts[0].User)
		}
	}
	if !p.Password {
		v.Set("decision", "approve")
	}
	return v
}
