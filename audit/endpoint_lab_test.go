package audit_test

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// endpointFlaws are the flaws whose probes these tests answer for.
var endpointFlaws = []string{"E03", "E04", "E06", "E07", "E09", "E10", "E11", "E23", "E25", "E29", "E30", "E31", "E32", "E33", "E34"}

// auditLab runs an audit against a fresh lab. Names are never resolved, so that
// nothing can leave the machine.
func auditLab(t testing.TB, lo lab.Options, change func(*audit.Options)) (*audit.Report, *lab.Lab) {
	t.Helper()
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := audit.Options{Lab: true, OwnServer: true, Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}, StateDir: t.TempDir(), MaxRequests: 300,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, kidoban.Errorf(kidoban.KindUnreachable, "the name is not resolved in a test")
		}}
	if l.CACert != nil {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AppendCertsFromPEM(l.CACert)
	}
	if change != nil {
		change(&o)
	}
	r, err := audit.Run(context.Background(), o, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	show(t, r)
	return r, l
}

// TestEndpointSwitches: with one switch on, in every era where it exists and with
// both kinds of issuer, the audit finds what a perfect tester would find without
// a login, and nothing else.
func TestEndpointSwitches(t *testing.T) {
	for _, s := range lab.Switches() {
		id, _, _ := strings.Cut(s.Key, "-")
		if !slices.Contains(endpointFlaws, id) || s.Tier == kidoban.T3 || s.Tier == kidoban.T4 {
			continue
		}
		eras := s.Eras
		if len(eras) == 0 {
			eras = lab.Eras()
		}
		for _, era := range eras {
			for _, path := range []bool{false, true} {
				name := s.Key + "/" + era
				if path {
					name += "/path"
				}
				t.Run(name, func(t *testing.T) {
					r, l := auditLab(t, lab.Options{Flaws: []string{s.Key}, Era: era, IssuerPath: path}, nil)
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
	}
}

// TestEndpointSafeLab: nothing is found where nothing is wrong, in every era, with
// every kind of token, upstream and transport.
func TestEndpointSafeLab(t *testing.T) {
	for _, era := range lab.Eras() {
		for _, lo := range []lab.Options{{}, {JWT: true, IssuerPath: true}, {TLS: true, Upstream: true}} {
			lo.Era = era
			r, _ := auditLab(t, lo, nil)
			for _, k := range findings(r) {
				t.Errorf("%+v: %s: %s", lo, k, result(t, r, k).Summary)
			}
			if len(r.Results) != len(kidoban.Checks()) {
				t.Errorf("%d results for %d checks", len(r.Results), len(kidoban.Checks()))
			}
		}
	}
}

// TestEndpointBudget: a read-only run against a lab needs no more than twenty
// requests, whatever the era, and what they leave out is said.
func TestEndpointBudget(t *testing.T) {
	for _, era := range lab.Eras() {
		for _, lo := range []lab.Options{{}, {JWT: true, IssuerPath: true}, {TLS: true}, {Flaws: []string{"E03-g"}}} {
			lo.Era = era
			r, _ := auditLab(t, lo, func(o *audit.Options) { o.Tiers, o.MaxRequests = nil, 0 })
			if r.Requests > 20 {
				t.Errorf("%+v: %d requests", lo, r.Requests)
			}
		}
	}
}

// TestE06aIsNotContacted: a public provider that the metadata name beside the
// server's own is reported, and nothing is sent to it.
func TestE06aIsNotContacted(t *testing.T) {
	var asked []string
	r, _ := auditLab(t, lab.Options{Flaws: []string{"E06-a"}}, func(o *audit.Options) {
		o.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			asked = append(asked, host)
			return nil, kidoban.Errorf(kidoban.KindUnreachable, "the name is not resolved in a test")
		}
	})
	if x := result(t, r, "E06-a"); x.Outcome != kidoban.Weak || x.Evidence != kidoban.Signal {
		t.Errorf("E06-a: %s %s", x.Outcome, x.Evidence)
	}
	if len(asked) > 0 {
		t.Errorf("names were resolved: %v", asked)
	}
}
