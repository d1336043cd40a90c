package audit_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
)

// tester is one of the lab's people.
func tester(l *lab.Lab, i int, driver browser.Driver) *audit.Tester {
	a := l.Accounts[i]
	return &audit.Tester{Account: browser.Account{User: a.User, Password: a.Password, TOTP: a.TOTP}, Browser: driver, Fast: true}
}

var labTools = []string{"whoami", "list_notes", "read_note", "start_report", "get_report", "add_note", "needs_input", "connect_account"}

// loginLab audits a lab with its accounts, on plain pages unless driver is given.
func loginLab(t testing.TB, lo lab.Options, driver browser.Driver, change func(*audit.Options)) (*audit.Report, *lab.Lab) {
	t.Helper()
	clock := &lab.Clock{}
	if lo.Now == nil {
		lo.Now = clock.Now
	}
	return auditLabWith(t, lo, func(l *lab.Lab, o *audit.Options) {
		o.Tiers = []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3, kidoban.T4}
		o.MaxRequests = 3000
		o.Login, o.Second, o.SecondURL, o.Tools = tester(l, 0, driver), tester(l, 1, driver), l.SecondURL, labTools
		o.Now, o.Wait, o.Patience = lo.Now, clock.Wait, time.Hour
		if change != nil {
			change(o)
		}
	})
}

// TestT3Switches: with a login every switch that needs one is found, and nothing
// else is.
func TestT3Switches(t *testing.T) {
	for _, s := range lab.Switches() {
		if s.Tier != kidoban.T3 && s.Tier != kidoban.T4 {
			continue
		}
		for _, era := range []string{"modern", "legacy"} {
			lo, ok := s.Options(lab.Options{Era: era})
			if !ok {
				continue
			}
			t.Run(s.Key+"/"+era, func(t *testing.T) {
				t.Parallel()
				r, _ := loginLab(t, lo, nil, nil)
				finds(t, r, s.Expect)
			})
		}
	}
}

// TestT3SafeLabIsClean: a safe lab stays without findings, its grants are revoked and
// no secret of the login is in the evidence.
func TestT3SafeLabIsClean(t *testing.T) {
	for _, lo := range []lab.Options{{Era: "modern"}, {Era: "legacy", JWT: true}, {Upstream: true}, {Profile: "login-first"}, {Profile: "deep-chain"}, {Profile: "noise", Upstream: true}} {
		r, l := loginLab(t, lo, nil, nil)
		if f := findings(r); len(f) > 0 {
			t.Errorf("%+v: found %v", lo, f)
			for _, k := range f {
				t.Log(k, result(t, r, k).Summary)
			}
		}
		if len(r.Residue.LeftBehind) > 0 || len(l.Clients()) > 0 {
			t.Errorf("%+v: left behind %+v, clients %v", lo, r.Residue.LeftBehind, l.Clients())
		}
		var har strings.Builder
		if err := r.WriteHAR(&har); err != nil {
			t.Fatal(err)
		}
		for _, a := range l.Accounts {
			if strings.Contains(har.String(), a.Password) {
				t.Errorf("the password of %s is in the evidence", a.User)
			}
		}
		if len(r.Shots) == 0 {
			t.Error("no page was kept")
		}
	}
}

// TestT3WithoutLoginStaysHonest: without an account nothing of T3 is called good or
// bad.
func TestT3WithoutLoginStaysHonest(t *testing.T) {
	r, _ := loginLab(t, lab.Options{Flaws: []string{"F9-2", "F6-H", "E22-3"}}, nil, func(o *audit.Options) { o.Login, o.Second = nil, nil })
	for _, x := range r.Results {
		c, _ := kidoban.CheckByKey(x.Key())
		if c.Tier.Rank() >= kidoban.T3.Rank() && (x.Outcome == kidoban.Pass || x.Outcome == kidoban.Fail || x.Outcome == kidoban.Weak) {
			t.Errorf("%s is %s without a login: %s", x.Key(), x.Outcome, x.Summary)
		}
	}
}

// auditLabWith runs an audit against a fresh lab, with a canary on loopback.
func auditLabWith(t testing.TB, lo lab.Options, change func(*lab.Lab, *audit.Options)) (*audit.Report, *lab.Lab) {
	t.Helper()
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	canary, err := audit.ListenCanary(context.Background(), "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(canary.Close)
	o := audit.Options{Lab: true, OwnServer: true, Authorized: "test", StateDir: t.TempDir(), Canary: canary}
	if l.CACert != nil {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AppendCertsFromPEM(l.CACert)
	}
	change(l, &o)
	r, err := audit.Run(context.Background(), o, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	return r, l
}

// TestE22_1GraceWindowAsksForPatience: a rotated refresh token that works at once may
// be within a grace window; that is no failing server, and the result names the wait
// that decides it.
func TestE22_1GraceWindowAsksForPatience(t *testing.T) {
	lo := lab.Options{Flaws: []string{"E22-1"}}
	r, _ := loginLab(t, lo, nil, func(o *audit.Options) { o.Only, o.Patience = []string{"E22-1", "F9-7"}, 0 })
	x := result(t, r, "E22-1")
	if x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonTime || x.Detail != "--patience 2m" {
		t.Errorf("without patience: %s(%s) %q: %s", x.Outcome, x.Reason, x.Detail, x.Summary)
	}
	if x := result(t, r, "F9-7"); x.Outcome != kidoban.NotTested || x.Reason != kidoban.ReasonTime || x.Detail != "--patience 11m" {
		t.Errorf("F9-7 without patience: %s(%s) %q: %s", x.Outcome, x.Reason, x.Detail, x.Summary)
	}
	r, _ = loginLab(t, lo, nil, func(o *audit.Options) { o.Only, o.Patience = []string{"E22-1"}, 2*time.Minute })
	if x := result(t, r, "E22-1"); x.Outcome != kidoban.Fail {
		t.Errorf("with the patience it asked for: %s(%s) %q: %s", x.Outcome, x.Reason, x.Detail, x.Summary)
	}
}
