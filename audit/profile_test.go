package audit_test

import (
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// weakEverywhere are switches of the authorization endpoint that profiles hide.
var weakEverywhere = []string{"F2-a", "F5-a", "F7-2", "E26-a", "E05-a", "E28-a"}

// TestProfilesHide: behind a login, a script page or a challenge nothing is
// called vulnerable, and the reason is the right one. The study's tool raised
// 18 + 25 false alarms here.
func TestProfilesHide(t *testing.T) {
	for _, c := range []struct {
		profile string
		reason  kidoban.Reason
	}{{"login-first", kidoban.ReasonDeferred}, {"spa-consent", kidoban.ReasonJSOnly}, {"cdn-challenge", kidoban.ReasonChallenge}} {
		for _, flaws := range [][]string{nil, weakEverywhere} {
			r, _ := runLab(t, lab.Options{Profile: c.profile, Flaws: flaws}, nil)
			for _, key := range []string{"F2-a", "F2-b", "F2-c", "F2-d", "F5-a", "F5-b", "F5-c", "F5-d", "F7-1", "F7-2", "F7-7", "F7-15", "E05-a", "E26-a", "E26-b"} {
				if x := result(t, r, key); x.Outcome != kidoban.Inconclusive || x.Reason != c.reason {
					t.Errorf("%s %v: %s is %s %s: %s", c.profile, flaws, key, x.Outcome, x.Reason, x.Summary)
				}
			}
			for _, x := range r.Results {
				page := x.Key() == "E28-a" && flaws != nil && c.profile == "login-first" // the login page itself is weak, and seen
				if (x.Outcome == kidoban.Fail || x.Outcome == kidoban.Weak) && !page {
					t.Errorf("%s %v: %s %s: %s", c.profile, flaws, x.Key(), x.Outcome, x.Summary)
				}
			}
		}
	}
}

// TestDeepChain: eight redirects before anything is validated hide nothing (the
// study's tool stopped after five).
func TestDeepChain(t *testing.T) {
	for _, s := range []string{"F2-a", "F5-a", "F7-2", "F7-1", "E26-a", "F6-A"} {
		r, _ := runLab(t, lab.Options{Profile: "deep-chain", Flaws: []string{s}}, nil)
		if f := findings(r); len(f) != 1 || f[0] != s {
			t.Errorf("%s: found %v", s, f)
		}
	}
	r, _ := runLab(t, lab.Options{Profile: "deep-chain"}, nil)
	if f := findings(r); len(f) > 0 {
		t.Errorf("safe: found %v", f)
	}
}

// TestNoise: OAuth traffic of others in the same browser is not taken for the
// upstream (7 + 4 false alarms of the study).
func TestNoise(t *testing.T) {
	r, _ := runLab(t, lab.Options{Profile: "noise"}, nil)
	if f := findings(r); len(f) > 0 || len(r.Target.Upstreams) > 0 {
		t.Errorf("safe: found %v, upstreams %v", f, r.Target.Upstreams)
	}
	for _, s := range []string{"F3-a", "F8-a", "F5-a"} {
		r, _ := runLab(t, lab.Options{Profile: "noise", Flaws: []string{s}}, nil)
		if x := result(t, r, s); x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak {
			t.Errorf("%s: %s %s %s", s, x.Outcome, x.Reason, x.Summary)
		}
		if s == "F5-a" && len(findings(r)) != 1 {
			t.Errorf("%s: found %v", s, findings(r))
		}
	}
}

// TestIssuerWithPath: metadata of an issuer with a path are found, in every era.
func TestIssuerWithPath(t *testing.T) {
	for _, era := range lab.Eras() {
		r, l := runLab(t, lab.Options{IssuerPath: true, Era: era, JWT: true}, nil)
		if r.Target.Issuer != l.Issuer || len(findings(r)) > 0 {
			t.Errorf("era %s: issuer %q, findings %v", era, r.Target.Issuer, findings(r))
		}
	}
}

// TestTLSLab: the same over TLS with a private authority.
func TestTLSLab(t *testing.T) {
	l, pool := tlsLab(t)
	r, err := audit.Run(t.Context(), audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 600, RootCAs: pool}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	if f := findings(r); len(f) > 0 || r.Target.Headline != kidoban.HeadlineGraded {
		show(t, r)
		t.Errorf("headline %s, findings %v", r.Target.Headline, f)
	}
}

// TestBudgets: T1 in 20 requests and the default T2 in 60, clean-up included, and
// nothing is left unsaid.
func TestBudgets(t *testing.T) {
	for _, up := range []bool{false, true} {
		r, _ := runLab(t, lab.Options{Upstream: up}, func(o *audit.Options) { o.Tiers = nil; o.MaxRequests = 0 })
		if r.Requests > 20 {
			t.Errorf("T1, upstream %v: %d requests", up, r.Requests)
		}
		r, l := runLab(t, lab.Options{Upstream: up, Flaws: []string{"F1-a", "F4-1"}}, func(o *audit.Options) { o.MaxRequests = 0 })
		if r.Requests > 60 || len(l.Clients()) > 0 {
			t.Errorf("T2, upstream %v: %d requests, left %v", up, r.Requests, l.Clients())
		}
	}
}
