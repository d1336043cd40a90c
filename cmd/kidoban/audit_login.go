package main

import (
	"context"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
)

// testers are the options of the tiers that log in.
type testers struct {
	Login       bool          `help:"Log in with your own browser, which is opened up to four times (T3)."`
	LoginWindow bool          `help:"Log in by hand in a window of Chromium, where pages are judged too (T3)."`
	LoginAs     string        `help:"Log in as this user of yours in a headless browser (T3)." placeholder:"USER"`
	PasswordEnv string        `help:"Environment variable with the password." placeholder:"VAR"`
	TOTPEnv     string        `name:"totp-env" help:"Environment variable with the base32 secret of the second factor." placeholder:"VAR"`
	LoginScript string        `help:"Play the steps of this file to log in." type:"existingfile" placeholder:"FILE"`
	Browser     string        `help:"The Chromium to use; found by itself." placeholder:"PATH"`
	Profile     string        `name:"browser-profile" help:"Use this directory as the browser's profile, with the session in it." type:"existingdir" placeholder:"DIR"`
	Tool        []string      `help:"A tool that may be called; repeatable." placeholder:"NAME"`
	Patience    time.Duration `help:"How long to wait for codes and tokens to expire." placeholder:"11m"`

	SecondLoginAs     string `help:"A second user of yours (T4)." placeholder:"USER"`
	SecondPasswordEnv string `help:"Environment variable with that user's password." placeholder:"VAR"`
	SecondTOTPEnv     string `name:"second-totp-env" help:"Environment variable with the secret of that user's second factor." placeholder:"VAR"`
	SecondLoginScript string `help:"Play the steps of this file to log in as the second user." type:"existingfile" placeholder:"FILE"`
	SecondURL         string `help:"Another MCP server of yours under the same authorization server (T4)." placeholder:"URL"`
}

// wanted tells whether the run logs in.
func (t testers) wanted() bool {
	return t.Login || t.LoginWindow || t.LoginAs != "" || t.LoginScript != "" || t.Profile != ""
}

// apply gives the run its testers and starts their browser. done ends it.
func (t testers) apply(ctx context.Context, e *env, o *audit.Options) (done func(), err error) {
	done = func() {}
	if !t.wanted() {
		if t.SecondLoginAs != "" || t.SecondLoginScript != "" {
			return done, kidoban.Errorf(kidoban.KindUsage, "a second login needs a first one: --login-as or --login-script")
		}
		return done, nil
	}
	first, err := tester(e, t.LoginAs, t.PasswordEnv, t.TOTPEnv, t.LoginScript, t.Profile != "")
	if err != nil {
		return done, err
	}
	if (t.Login || t.LoginWindow) && t.LoginAs+t.LoginScript != "" || t.Login && t.LoginWindow {
		return done, kidoban.Errorf(kidoban.KindUsage, "either you log in (--login with your own browser, --login-window in one that is watched) or the tool does (--login-as, --login-script)")
	}
	if t.Login {
		return t.ownBrowser(e, o, first)
	}
	var second *audit.Tester
	if t.SecondLoginAs != "" || t.SecondLoginScript != "" {
		if second, err = tester(e, t.SecondLoginAs, t.SecondPasswordEnv, t.SecondTOTPEnv, t.SecondLoginScript, false); err != nil {
			return done, err
		}
		if t.Profile != "" {
			return done, kidoban.Errorf(kidoban.KindUsage, "two people need two browsers: leave --browser-profile out")
		}
	}
	c, err := browser.StartChromium(ctx, browser.ChromiumOptions{Path: t.Browser, ProfileDir: t.Profile, Visible: t.LoginWindow, Lab: o.Lab, RootCAs: o.RootCAs, Resolve: o.Resolve})
	if err != nil {
		return done, err
	}
	first.Browser, first.Hands = c, t.LoginWindow
	if second != nil {
		second.Browser = c
	}
	t.tiers(o, first, second)
	return c.Close, nil
}

// ownBrowser lets the person log in with her own browser.
func (t testers) ownBrowser(e *env, o *audit.Options, first *audit.Tester) (func(), error) {
	if t.SecondLoginAs+t.SecondLoginScript+t.Profile+t.SecondURL != "" {
		return func() {}, kidoban.Errorf(kidoban.KindUsage, "your own browser is logged in as one person: for a second account or another profile take --login-as or --login-window")
	}
	own := browser.OwnOptions{Program: e.env("BROWSER"), Tell: e.stderr}
	if len(o.Clients) > 0 { // the client's redirect URI says where the answer comes
		u, err := url.Parse(o.Clients[0].RedirectURI)
		if err != nil || u.Scheme != "http" {
			return func() {}, kidoban.Errorf(kidoban.KindUsage, "with --login the redirect URI of the client has to be http on this machine; --login-window takes any")
		}
		own.Addr = u.Host
	}
	w, err := browser.ListenOwn(own)
	if err != nil {
		return func() {}, err
	}
	first.Own = w
	t.tiers(o, first, nil)
	return w.Close, nil
}

// tiers turns on what a login is for.
func (t testers) tiers(o *audit.Options, first, second *audit.Tester) {
	o.Login, o.Second, o.SecondURL, o.Tools, o.Patience = first, second, t.SecondURL, t.Tool, t.Patience
	// The catalogue's tiers contain each other: who may log in may register.
	for _, tier := range []kidoban.Tier{kidoban.T2, kidoban.T3, kidoban.T4} {
		if !slices.Contains(o.Tiers, tier) && (tier != kidoban.T4 || second != nil || t.SecondURL != "") {
			o.Tiers = append(o.Tiers, tier)
		}
	}
}

// tester reads one account. Its secrets come from the environment only.
func tester(e *env, user, passwordEnv, totpEnv, script string, session bool) (*audit.Tester, error) {
	secret := func(name, option string) (string, error) {
		if name == "" {
			return "", nil
		}
		v := e.env(name)
		if v == "" {
			return "", kidoban.Errorf(kidoban.KindUsage, "the environment variable %s of %s is empty", name, option)
		}
		return v, nil
	}
	t := &audit.Tester{Account: browser.Account{User: user}}
	var err error
	if t.Password, err = secret(passwordEnv, "--password-env"); err != nil {
		return nil, err
	}
	if t.TOTP, err = secret(totpEnv, "--totp-env"); err != nil {
		return nil, err
	}
	if t.TOTP != "" && browser.TOTP(t.TOTP, time.Now()) == "" {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the secret in %s is not base32", totpEnv)
	}
	if script != "" {
		raw, err := os.ReadFile(script)
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot read %s", script)
		}
		if t.Script, err = browser.ParseScript(script, raw, e.env); err != nil {
			return nil, err
		}
		return t, nil
	}
	if user != "" && t.Password == "" && !session {
		return nil, kidoban.Errorf(kidoban.KindUsage, "give the password of %s in an environment variable: --password-env VAR", user)
	}
	return t, nil
}
