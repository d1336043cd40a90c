package audit_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

var activeTiers = []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}

// runLab audits a fresh lab with every request allowed, and gives the findings.
func runLab(t testing.TB, lo lab.Options, change func(*audit.Options)) (*audit.Report, *lab.Lab) {
	t.Helper()
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 600}
	if change != nil {
		change(&o)
	}
	r, err := audit.Run(context.Background(), o, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Results {
		if x.Summary == "the probe gave no verdict" || x.Summary == "" {
			t.Errorf("%s has no verdict", x.Key())
		}
	}
	return r, l
}

func findings(r *audit.Report) []string {
	var out []string
	for _, x := range r.Results {
		if x.Outcome == kidoban.Fail || x.Outcome == kidoban.Weak {
			out = append(out, x.Key())
		}
	}
	return out
}

func result(t testing.TB, r *audit.Report, key string) kidoban.Result {
	t.Helper()
	for _, x := range r.Results {
		if x.Key() == key {
			return x
		}
	}
	t.Fatalf("no result for %s", key)
	return kidoban.Result{}
}

// finds fails the test when the run found anything else than what is expected.
func finds(t testing.TB, r *audit.Report, expected []string) {
	t.Helper()
	got, want := slices.Sorted(slices.Values(findings(r))), slices.Sorted(slices.Values(expected))
	if slices.Equal(got, want) {
		return
	}
	show(t, r)
	t.Errorf("found %v, want %v", got, want)
	for _, k := range append(got, want...) {
		x := result(t, r, k)
		t.Logf("%s %s(%s): %s", k, x.Outcome, x.Reason, x.Summary)
	}
}

func show(t testing.TB, r *audit.Report) {
	if os.Getenv("SHOW") == "" {
		return
	}
	for _, x := range r.Results {
		if x.Outcome != kidoban.NotApplicable {
			t.Logf("%-6s %-14s %-18s %-9s %s", x.Key(), x.Outcome, x.Reason, x.Evidence, x.Summary)
		}
	}
	for _, x := range r.Exchanges {
		t.Logf("#%d %s [%s] %s %s → %d", x.ID, x.Probe, x.Note, x.Request.Method, x.Request.URL, x.Status())
	}
	for _, c := range r.Chains {
		b, _ := json.Marshal(c)
		t.Logf("chain %s", b)
	}
	t.Logf("requests %d duration %d ms grade %+v coverage %+v residue %+v", r.Requests, r.DurationMS, r.Grade, r.Coverage, r.Residue)
}

// TestSafeLabIsClean: the default lab has no flaw, and none is found.
func TestSafeLabIsClean(t *testing.T) {
	for _, era := range lab.Eras() {
		for _, up := range []bool{false, true} {
			r, l := runLab(t, lab.Options{Era: era, Upstream: up}, nil)
			show(t, r)
			if f := findings(r); len(f) > 0 {
				for _, k := range f {
					t.Errorf("era %s upstream %v: %s: %s", era, up, k, result(t, r, k).Summary)
				}
			}
			if len(r.Results) != len(kidoban.Checks()) {
				t.Errorf("%d results for %d checks", len(r.Results), len(kidoban.Checks()))
			}
			if left := l.Clients(); len(left) > 0 || len(r.Residue.LeftBehind) > 0 {
				t.Errorf("left behind: %v, reported %v", left, r.Residue.LeftBehind)
			}
		}
	}
}

// mine are the flaws whose probes this file's tests answer for.
var mine = []string{"F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "E01", "E02", "E05", "E12", "E26", "E27", "E28"}

// TestEachSwitch: with one switch on, the audit reports what a perfect tester
// would, as far as the tiers without a login reach, and nothing else.
func TestEachSwitch(t *testing.T) {
	for _, s := range lab.Switches() {
		id, _, _ := strings.Cut(s.Key, "-")
		if !slices.Contains(mine, id) || s.Tier == kidoban.T3 || s.Tier == kidoban.T4 {
			continue
		}
		t.Run(s.Key, func(t *testing.T) {
			r, l := runLab(t, lab.Options{Flaws: []string{s.Key}}, nil)
			var want []string
			for _, k := range s.Expect {
				if c, _ := kidoban.CheckByKey(k); c.Tier != kidoban.T3 && c.Tier != kidoban.T4 {
					want = append(want, k)
				}
			}
			finds(t, r, want)
			if left := l.Clients(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func tlsLab(t *testing.T) (*lab.Lab, *x509.CertPool) {
	t.Helper()
	l, err := lab.Start(context.Background(), lab.Options{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(l.CACert) {
		t.Fatal("the lab's authority cannot be read")
	}
	return l, pool
}
