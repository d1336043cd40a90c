package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// The passive half of the proof: the matrix again, from recorded traffic alone.
// An ordinary client logs in to each lab server; its exchanges are judged without
// sending anything.

// passiveMatrix is every switch in every profile and era. Switches of flaws that
// ordinary traffic does not show belong to it too: nothing may be found there.
func (c *verifyCmd) passiveMatrix() []verifyCase {
	profiles, eras := c.shapes()
	var cases []verifyCase
	for _, profile := range profiles {
		for _, era := range eras {
			if len(c.Only) == 0 {
				for _, o := range offVariants(profile, era) {
					cases = append(cases, verifyCase{group: "off", lab: o, passive: true})
				}
			}
			for i, sw := range lab.Switches() {
				if len(c.Only) > 0 && !slices.Contains(c.Only, sw.Key) {
					continue
				}
				o, ok := sw.Options(lab.Options{Profile: profile, Era: era, IssuerPath: i%2 == 1, JWT: i/2%2 == 1})
				if !ok {
					continue
				}
				cases = append(cases, verifyCase{group: "switch", lab: o, passive: true, expect: shownInTraffic(sw.Expect, profile)})
			}
		}
	}
	if len(c.Only) == 0 {
		for _, vc := range falseAlarmCases(nil) {
			vc.passive = true
			cases = append(cases, vc)
		}
	}
	return append(cases, c.oddMatrix(profiles, eras)...)
}

// oddMatrix is the switches that ordinary traffic does not show, judged from the
// traffic of a client with every habit; and safe servers, where the same client
// must be refused everywhere without an alarm.
func (c *verifyCmd) oddMatrix(profiles, eras []string) (cases []verifyCase) {
	for _, profile := range profiles {
		for _, era := range eras {
			if profile == "cdn-challenge" {
				continue // nobody gets through, whatever the habits
			}
			if len(c.Only) == 0 {
				for _, o := range offVariants(profile, era) {
					cases = append(cases, verifyCase{group: "odd-off", lab: o, passive: true, habits: everyHabit()})
				}
			}
			for i, sw := range lab.Switches() {
				if !slices.Contains(oddClients(), sw.Key) || len(c.Only) > 0 && !slices.Contains(c.Only, sw.Key) {
					continue
				}
				o, ok := sw.Options(lab.Options{Profile: profile, Era: era, IssuerPath: i%2 == 1, JWT: i/2%2 == 1})
				if !ok {
					continue
				}
				var expect []string
				for _, k := range sw.Expect {
					if check, ok := kidoban.CheckByKey(k); ok && check.Passive && !slices.Contains(otherWires(), k) {
						expect = append(expect, k)
					}
				}
				cases = append(cases, verifyCase{group: "odd", lab: o, passive: true, habits: everyHabit(), expect: expect})
			}
		}
	}
	return cases
}

// shownInTraffic are those of keys that the traffic of an ordinary client shows.
func shownInTraffic(keys []string, profile string) (out []string) {
	for _, k := range keys {
		check, ok := kidoban.CheckByKey(k)
		if !ok || !check.Passive || slices.Contains(oddClients(), k) || slices.Contains(otherWires(), k) || hiddenBehind(k, profile) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// oddClients are passive checks that need a client with other habits than ordinary
// ones: foreign redirect URIs, no PKCE, a code twice, a token in the address.
func oddClients() []string {
	return []string{"F1-a", "F1-b", "F2-a", "F5-a", "F5-b", "F5-c", "F5-f", "F7-1", "F7-2", "F7-11", "F9-2", "E07-2", "E09-c",
		"E13-a", "E13-b", "E13-c", "E14-a", "E14-c", "E17-c", "E18-a", "E18-b", "E22-1", "E23-a", "E26-a", "E26-b", "E26-c", "E29-a"}
}

// otherWires are passive checks whose sign passes where the client's traffic does
// not: between the server and its upstream.
func otherWires() []string { return []string{"E06-b"} }

// hiddenBehind tells findings that a profile keeps from everybody: a content network
// that lets no browser through leaves no login to record.
func hiddenBehind(key, profile string) bool {
	switch profile {
	case "cdn-challenge":
		return behindLogin(key)
	case "spa-consent", "login-first": // a page that is nothing without its script may have asked
		return key == "F6-A"
	}
	return false
}

// behindLogin are findings that only finished logins show; E07-5 wants more than
// the one session of a greeting.
func behindLogin(key string) bool {
	c, _ := kidoban.CheckByKey(key)
	if c.Tier == kidoban.T3 || c.Tier == kidoban.T4 {
		return true
	}
	return strings.HasPrefix(key, "E28") || strings.HasPrefix(key, "E12") || strings.HasPrefix(key, "E01") || strings.HasPrefix(key, "E02") ||
		slices.Contains([]string{"F3-a", "F3-b", "F4-0", "F6-A", "F8-a", "F8-b", "F8-d", "F8-e", "E07-5", "E08-d", "E23-c", "E29-b", "E29-d", "E35-a", "E35-b"}, key)
}

// recordedLogins are enough for states and session ids to be compared.
const recordedLogins = 3

// observeLab records an ordinary client's traffic with a lab and judges it.
func observeLab(ctx context.Context, l *lab.Lab, era string, habits []habit) (*audit.Report, error) {
	o := audit.Observe()
	if err := drive(ctx, l, era, recordedLogins, o.Add, habits...); err != nil {
		return nil, err
	}
	return o.Report(audit.ObservedOptions{Target: l.MCPURL, Now: time.Now})
}
