package audit_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// watched gives a run a collector on loopback.
func watched(t testing.TB) func(*audit.Options) {
	t.Helper()
	c, err := audit.ListenCanary(context.Background(), "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(o *audit.Options) { o.Canary = c }
}

// registrationFlaws are the flaws whose probes this file's tests answer for.
var registrationFlaws = []string{"E13", "E14", "E15", "E16", "E17", "E18", "E19", "E20"}

func registrationSwitches() []lab.Switch {
	var out []lab.Switch
	for _, s := range lab.Switches() {
		id, _, _ := strings.Cut(s.Key, "-")
		if slices.Contains(registrationFlaws, id) && s.Tier == kidoban.T2 {
			out = append(out, s)
		}
	}
	return out
}

// keepsClients are switches under which clients cannot be deleted: that is what
// they are about, and the report names what is left.
var keepsClients = []string{"E20-f", "E20-g"}

// TestRegistrationSwitches: with one switch of registration on, exactly its
// findings; in both eras; and nothing is left on the server unsaid.
func TestRegistrationSwitches(t *testing.T) {
	for _, era := range []string{"modern", "legacy"} {
		for _, s := range registrationSwitches() {
			t.Run(era+"/"+s.Key, func(t *testing.T) {
				t.Parallel()
				lo, ok := s.Options(lab.Options{Era: era})
				if !ok {
					return
				}
				r, l := runLab(t, lo, watched(t))
				finds(t, r, lab.Within(s.Expect, activeTiers))
				if left := l.Clients(); len(left) != len(r.Residue.LeftBehind) || len(left) > 0 && !slices.Contains(keepsClients, s.Key) {
					t.Errorf("left behind: %v, reported %v", left, r.Residue.LeftBehind)
				}
			})
		}
	}
}

// TestSafeRegistration: a safe server with a collector passes every check of
// registration that tiers without a login decide.
func TestSafeRegistration(t *testing.T) {
	for _, era := range []string{"modern", "legacy"} {
		r, l := runLab(t, lab.Options{Era: era, LoopbackDocuments: true}, watched(t))
		show(t, r)
		for _, s := range registrationSwitches() {
			if x := result(t, r, s.Key); x.Outcome != kidoban.Pass {
				t.Errorf("%s: %s is %s %s: %s", era, s.Key, x.Outcome, x.Reason, x.Summary)
			}
		}
		if f := findings(r); len(f) > 0 {
			t.Errorf("%s: found %v", era, f)
		}
		if left := l.Clients(); len(left) > 0 || len(r.Residue.LeftBehind) > 0 {
			t.Errorf("%s: left behind %v, reported %v", era, left, r.Residue.LeftBehind)
		}
	}
}

// TestRegistrationOnly: a check that is asked alone answers as it does among the
// others, on a weak server and on a safe one.
func TestRegistrationOnly(t *testing.T) {
	for _, s := range registrationSwitches() {
		lo, _ := s.Options(lab.Options{})
		canary := watched(t)
		only := func(o *audit.Options) { canary(o); o.Only = []string{s.Key} }
		r, _ := runLab(t, lo, only)
		if f := findings(r); !slices.Equal(f, []string{s.Key}) {
			x := result(t, r, s.Key)
			t.Errorf("%s on: found %v; %s %s %s", s.Key, f, x.Outcome, x.Reason, x.Summary)
		}
		lo.Flaws = nil
		r, _ = runLab(t, lo, only)
		if x := result(t, r, s.Key); x.Outcome != kidoban.Pass && x.Outcome != kidoban.NotApplicable {
			t.Errorf("%s off: %s %s %s", s.Key, x.Outcome, x.Reason, x.Summary)
		}
	}
}

// TestRegistrationProfiles: what /authorize decides stays open behind a login, a
// script page or a challenge, with the right reason; what registration itself
// shows is found all the same.
func TestRegistrationProfiles(t *testing.T) {
	for _, c := range []struct {
		profile string
		reason  kidoban.Reason
	}{{"login-first", kidoban.ReasonDeferred}, {"spa-consent", kidoban.ReasonJSOnly}, {"cdn-challenge", kidoban.ReasonChallenge}} {
		for _, s := range registrationSwitches() {
			t.Run(c.profile+"/"+s.Key, func(t *testing.T) {
				t.Parallel()
				lo, _ := s.Options(lab.Options{Profile: c.profile})
				r, _ := runLab(t, lo, watched(t))
				x := result(t, r, s.Key)
				found := x.Outcome == kidoban.Fail || x.Outcome == kidoban.Weak
				if lab.Undecided(s.Key, c.profile) {
					if x.Outcome != kidoban.Inconclusive || x.Reason != c.reason {
						show(t, r)
						t.Errorf("%s is %s %s: %s", s.Key, x.Outcome, x.Reason, x.Summary)
					}
				} else if !found {
					t.Errorf("%s is %s %s: %s", s.Key, x.Outcome, x.Reason, x.Summary)
				}
				for _, k := range findings(r) {
					if !slices.Contains(s.Expect, k) {
						t.Errorf("%s is found too: %s", k, result(t, r, k).Summary)
					}
				}
			})
		}
	}
}

// TestRegistrationDeepChain: redirects before the validation hide nothing, and
// neither does the traffic of others.
func TestRegistrationDeepChain(t *testing.T) {
	for _, profile := range []string{"deep-chain", "noise"} {
		for _, key := range []string{"", "E16-a", "E16-c", "E16-i", "E16-k", "E20-e", "E13-a"} {
			lo, canary := lab.Options{Profile: profile, Depth: 3, LoopbackDocuments: true}, watched(t)
			var want []string
			if key != "" {
				lo.Flaws, want = []string{key}, []string{key}
			}
			r, _ := runLab(t, lo, func(o *audit.Options) { canary(o); o.MaxRequests = 1000 })
			if f := findings(r); !slices.Equal(f, want) {
				t.Errorf("%s: found %v, want %v", profile, f, want)
			}
		}
	}
}

// TestThorough: the thorough budget reaches every check, the default one stays
// within its sixty requests, and what it leaves out says so.
func TestThorough(t *testing.T) {
	for _, era := range []string{"modern", "legacy"} {
		canary := watched(t)
		lo := lab.Options{Era: era, LoopbackDocuments: true}
		r, _ := runLab(t, lo, func(o *audit.Options) { canary(o); o.MaxRequests, o.Thorough = 0, true })
		for _, x := range r.Results {
			if x.Reason == kidoban.ReasonBudget {
				t.Errorf("%s: %s is left out", era, x.Key())
			}
		}
		if r.Requests > audit.ThoroughRequests {
			t.Errorf("%s: %d requests", era, r.Requests)
		}
		r, _ = runLab(t, lo, func(o *audit.Options) { canary(o); o.MaxRequests = 0 })
		if r.Requests > audit.DefaultRequestsT2 {
			t.Errorf("%s: %d requests by default", era, r.Requests)
		}
		for _, k := range []string{"E13-a", "E18-a", "E18-b", "E18-c", "E18-d", "E19-a", "E20-a", "E20-d", "E20-e"} {
			if x := result(t, r, k); x.Outcome != kidoban.Pass {
				t.Errorf("%s: %s is %s %s by default", era, k, x.Outcome, x.Reason)
			}
		}
	}
}
