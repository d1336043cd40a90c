package main

import (
	"crypto/rand"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban/oauth"
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
