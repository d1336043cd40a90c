package main

import (
	"os"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
)

// TestScriptsAllTheWay audits a server that nobody gets through without running its
// script, so that every walk is made in the real browser: the leg over the upstream
// is seen and judged there too, and never called absent unseen. With KIDOBAN_LONG
// set the safe server and those of other shapes are audited as well.
func TestScriptsAllTheWay(t *testing.T) {
	b, err := browser.StartChromium(t.Context(), browser.ChromiumOptions{Lab: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		name string
		o    lab.Options
		want map[string]kidoban.Outcome
	}{
		{"E02-b", lab.Options{Flaws: []string{"E02-b"}, Upstream: true}, map[string]kidoban.Outcome{"E02-b": kidoban.Fail, "F4-3": kidoban.Pass, "F6-B": kidoban.Pass}},
		{"F4-3", lab.Options{Flaws: []string{"F4-3", "E01-a"}, Upstream: true}, map[string]kidoban.Outcome{"F4-3": kidoban.Fail, "E02-c": kidoban.Inconclusive}},
		{"safe", lab.Options{Upstream: true}, map[string]kidoban.Outcome{"E02-b": kidoban.Pass, "F4-3": kidoban.Pass}},
		{"no upstream", lab.Options{}, map[string]kidoban.Outcome{"E02-b": kidoban.NotApplicable, "F4-3": kidoban.NotApplicable}},
	} {
		if c.name != "E02-b" && os.Getenv("KIDOBAN_LONG") == "" {
			continue // half a minute each
		}
		t.Run(c.name, func(t *testing.T) {
			clock := &lab.Clock{}
			c.o.Profile, c.o.ScriptPosts, c.o.Now = "spa-consent", true, clock.Now
			l, err := lab.Start(t.Context(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			rep, err := auditLab(t.Context(), l, []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3}, b, clock)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rep.Results {
				if want, ok := c.want[r.Key()]; ok && r.Outcome != want {
					t.Errorf("%s is %s (%s) %s, want %s", r.Key(), r.Outcome, r.Reason, r.Summary, want)
				}
			}
		})
	}
}
