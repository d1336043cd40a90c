package main

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// habit is something that ordinary clients do not do, and that a tester's client, a
// careless one or an attacker's does. Recorded traffic shows some flaws only where
// somebody had the habit.
type habit func(*driver)

// testersHabits are those of somebody who tries out by hand what the study tried:
// every one of its flaws that an ordinary login does not show.
func testersHabits() []habit {
	return []habit{registersForeignHost, comesUnregistered, leavesPKCEOut, namesOtherRedirects, redeemsTwice}
}

const foreignRedirect = "https://editor.kidoban-probe.invalid/cb"

// registersForeignHost is F1: a client of a foreign web host, up to its code.
func registersForeignHost(d *driver) {
	own, was := d.client, d.redirect
	defer func() { d.client, d.redirect = own, was }()
	c := d.newClient("Web editor", foreignRedirect, map[string]any{"application_type": "web"})
	if c.ClientID == "" || len(c.RedirectURIs) == 0 {
		return
	}
	d.client, d.redirect = c, foreignRedirect
	d.ask(nil)
}

// comesUnregistered is F2: two clients that nobody registered.
func comesUnregistered(d *driver) {
	for range 2 {
		id := strings.Map(func(r rune) rune {
			if r == '-' || r == '_' {
				return 'x'
			}
			return r
		}, oauth.NewVerifier(rand.Reader))[:32]
		d.ask(func(q url.Values) { q.Set("client_id", id) })
	}
}

// leavesPKCEOut is F5: no challenge, a plain one, one without a method, and no
// verifier.
func leavesPKCEOut(d *driver) {
	if back, _ := d.ask(func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }); back.Get("code") != "" {
		d.redeem(back.Get("code"), "", func(f url.Values) { f.Del("code_verifier") })
	}
	plain := oauth.NewVerifier(rand.Reader)
	for _, method := range []string{"plain", ""} {
		back, _ := d.ask(func(q url.Values) {
			q.Set("code_challenge", plain)
			q.Set("code_challenge_method", method)
			if method == "" {
				q.Del("code_challenge_method")
			}
		})
		if back.Get("code") != "" {
			d.redeem(back.Get("code"), plain, nil)
		}
	}
	if back, _ := d.ask(nil); back.Get("code") != "" {
		d.redeem(back.Get("code"), "", func(f url.Values) { f.Del("code_verifier") })
	}
}

// namesOtherRedirects is F7: a foreign host, a path below the registered one, and
// another spelling of the loopback host.
func namesOtherRedirects(d *driver) {
	for _, to := range []string{foreignRedirect, d.redirect + "/below", strings.Replace(d.redirect, "127.0.0.1", "2130706433", 1)} {
		d.ask(func(q url.Values) { q.Set("redirect_uri", to) })
	}
}

// redeemsTwice is F9: the same code again.
func redeemsTwice(d *driver) {
	back, verifier := d.ask(nil)
	if back.Get("code") == "" {
		return
	}
	for range 2 {
		d.redeem(back.Get("code"), verifier, nil)
	}
}

// everyHabit is the testers' and those that show the flaws of the extensions.
func everyHabit() []habit {
	return append(testersHabits(), registersOddly, putsTokenInAddress, keepsSessionOnly, asksForTokens, givesPassword, keepsOldRefreshToken, asksFromForeignPage, talksInClear)
}

// registersOddly is E13, E14, E18 and F1-b: addresses and texts that have no place in
// a registration, each in one of its own; and a client with a secret, for E17-c.
func registersOddly(d *driver) {
	for _, redirect := range []string{"http://editor.kidoban-probe.invalid/cb", "javascript:void(0)//cb", "data:text/plain,cb", "editor:/cb"} {
		d.newClient("Editor", redirect, nil)
	}
	for _, more := range []map[string]any{{"client_uri": "javascript:void(0)"}, {"client_name": "Edi\u202etor"}, {"scope": "*"},
		{"grant_types": []string{"authorization_code", "client_credentials", "password"}}, {"token_endpoint_auth_method": "client_secret_basic"}} {
		d.newClient("Editor", d.redirect, more)
	}
}

// tokens is one more login.
func (d *driver) tokens() oauth.TokenResponse {
	back, verifier := d.ask(nil)
	if back.Get("code") == "" {
		return oauth.TokenResponse{}
	}
	return d.redeem(back.Get("code"), verifier, nil)
}

// putsTokenInAddress is E23-a.
func putsTokenInAddress(d *driver) {
	d.session = ""
	if t := d.tokens(); t.AccessToken != "" {
		was := d.endpoint
		d.endpoint += "?access_token=" + url.QueryEscape(t.AccessToken)
		d.hello("")
		d.endpoint, d.session = was, ""
	}
}

// keepsSessionOnly is E07-2: the session goes on without the token.
func keepsSessionOnly(d *driver) {
	if t := d.tokens(); t.AccessToken != "" {
		d.hello(t.AccessToken)
		if d.session != "" {
			d.rpc("", "tools/list", nil)
		}
		d.session = ""
	}
}

// asksForTokens is E26-a and b.
func asksForTokens(d *driver) {
	for _, kind := range []string{"token", "code token"} {
		d.ask(func(q url.Values) { q.Set("response_type", kind) })
	}
}

// givesPassword is E26-c.
func givesPassword(d *driver) {
	d.token(url.Values{"grant_type": {"password"}, "username": {d.l.Accounts[0].User}, "password": {d.l.Accounts[0].Password}, "client_id": {d.client.ClientID}})
}

// keepsOldRefreshToken is E22-1: the token that was exchanged, once more.
func keepsOldRefreshToken(d *driver) {
	t := d.tokens()
	for range 2 {
		if t.RefreshToken != "" {
			d.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.RefreshToken}, "client_id": {d.client.ClientID}})
		}
	}
}

// asksFromForeignPage is E09-c: a browser asks whether another site's page may call.
func asksFromForeignPage(d *driver) {
	d.do(outbound.Req{Method: http.MethodOptions, URL: d.endpoint, Header: kidoban.Fields{{Name: "Origin", Value: "https://editor.kidoban-probe.invalid"},
		{Name: "Access-Control-Request-Method", Value: "POST"}, {Name: "Access-Control-Request-Headers", Value: "authorization,content-type"}}})
}

// talksInClear is E29-a: the address typed without its s.
func talksInClear(d *driver) {
	if was := d.endpoint; strings.HasPrefix(was, "https://") {
		d.endpoint = "http://" + strings.TrimPrefix(was, "https://")
		d.rpc("", "tools/list", nil)
		d.endpoint = was
	}
}
