package lab

import (
	"slices"

	"github.com/kidoban/kidoban"
)

// What a verification of the tester needs to know about the switches: which of them
// stand in which era, which are decided behind /authorize, which findings make an
// attack chain together.

// Options returns base with the switch thrown and everything set that it needs. It
// says false, and returns base as it was, when there is no such flaw in base's era or
// profile.
func (s Switch) Options(base Options) (Options, bool) {
	if !s.existsIn(base.Era) || base.Profile == profileLogin && slices.Contains(endedByLogin(), s.Key) {
		return base, false
	}
	o := base
	o.Flaws = slices.Clone(base.Flaws)
	s.throwInto(&o)
	return o, true
}

func (s Switch) throwInto(o *Options) {
	if slices.Contains(o.Flaws, s.Key) {
		return
	}
	o.Flaws = append(o.Flaws, s.Key)
	s.Needs.apply(o)
	for _, k := range s.Needs.Flaws {
		if need, ok := switchByKey(k); ok {
			need.throwInto(o)
		}
	}
}

func (s Switch) existsIn(era string) bool {
	if era == "" {
		era = eraDual
	}
	if len(s.Eras) > 0 && !slices.Contains(s.Eras, era) {
		return false
	}
	for _, k := range s.Needs.Flaws {
		if need, ok := switchByKey(k); ok && !need.existsIn(era) {
			return false
		}
	}
	return true
}

// apply sets what n forces on a lab.
func (n Needs) apply(o *Options) {
	o.Upstream = o.Upstream || n.Upstream
	o.JWT = o.JWT || n.JWT
	o.TLS = o.TLS || n.TLS
	o.LoopbackDocuments = o.LoopbackDocuments || n.Documents
	o.IssuerPath = o.IssuerPath && !n.RootIssuer
}

// Within returns those of keys that a tester of the given tiers can decide, in the
// order given. Where no page stands before a code (F6-A), nobody has to log in to
// see it reach a stranger (F1-e).
func Within(keys []string, tiers []kidoban.Tier) []string {
	early := slices.Contains(keys, "F6-A") && slices.Contains(tiers, kidoban.T2)
	var out []string
	for _, k := range keys {
		if c, ok := kidoban.CheckByKey(k); ok && (slices.Contains(tiers, c.Tier) || early && k == "F1-e") {
			out = append(out, k)
		}
	}
	return out
}

// endedByLogin are flaws that the login-first profile leaves no room for: those of
// what happens before a login, and those of a decision that is remembered with the
// login, because every request there begins with a new one.
func endedByLogin() []string { return []string{"E27-a", "F6-A", "F6-G", "E01-b", "E01-c", "E16-j"} }

// Undecided tells whether a tester that cannot log in has to leave a finding open in
// a profile, because something stands before the place where it shows.
func Undecided(key, profile string) bool {
	switch profile {
	case profileLogin:
		return decidedAtAuthorize(key) && !slices.Contains(shownByLogin(), key)
	case profileSPA, profileChallenge:
		return decidedAtAuthorize(key)
	}
	return false
}

// UndecidedAfterLogin tells whether a tester that logs in with a real browser has
// to leave a finding open in a profile all the same. A content network that lets no
// browser through leaves everything open that needs a login.
func UndecidedAfterLogin(key, profile string) bool {
	c, ok := kidoban.CheckByKey(key)
	switch profile {
	case profileChallenge:
		return decidedAtAuthorize(key) || ok && c.Tier.Rank() >= kidoban.T3.Rank()
	}
	return false
}

// shownByLogin are findings about the login page itself and the way to it: they
// stand behind /authorize, and the login-first profile shows them all the same.
func shownByLogin() []string {
	return []string{"E23-c", "E27-b", "E28-a", "E28-d", "E28-g", "E29-b", "E29-d", "E34-c", "F7-17"}
}

// decidedAtAuthorize tells whether a finding is decided by what /authorize and the
// pages behind it answer. What a registration, a document, the token endpoint or
// the MCP endpoint shows is not: for example a registered client_name (E14) counts
// as kept when the registration says so.
func decidedAtAuthorize(key string) bool {
	c, ok := kidoban.CheckByKey(key)
	if !ok {
		return false
	}
	switch c.ID {
	case "F1", "F2", "F3", "F4", "F6", "F7", "F8", "E01", "E02", "E12", "E16", "E28":
		return true // F1: registered is not delivered
	case "F5":
		return c.Variant != "e"
	}
	return slices.Contains([]string{"E05-a", "E20-e", "E23-c", "E26-a", "E26-b", "E27-a", "E27-b", "E29-b", "E29-d", "E34-c"}, key)
}

// chainRule names findings that make one way in when one of each family is there.
type chainRule struct {
	id       string
	families [][]string
}

// chainRules are the chains of the catalogue (section 8), written down anew: the
// tester's own table must agree with it.
func chainRules() []chainRule {
	foreign := []string{"F7-1", "F7-7", "F7-8", "F7-12", "F7-13", "F7-17"}
	open := []string{"F1-a", "F1-b", "F1-d"}
	return []chainRule{
		{"F7+F5", [][]string{foreign, {"F5-a", "F5-b", "F5-c", "F5-d", "F5-f", "F5-g"}}},
		{"F1+F6", [][]string{open, {"F6-A", "F6-B"}}},
		{"F1+E01", [][]string{open, {"E01-a", "E01-b"}}},
		{"F1+E02", [][]string{open, {"E02-a", "E02-b"}}},
		{"F2+F7", [][]string{{"F2-a", "F2-b", "F2-c", "F2-d"}, foreign}},
		{"F4+L2", [][]string{{"F4-1", "F4-3", "F4-4"}}},
		{"E13+E28", [][]string{{"E13-a", "E13-b"}, {"E28-a", "E28-c", "E28-e"}}},
		{"E03+E09", [][]string{{"E03-a", "E03-b", "E03-c", "E03-d", "E03-e", "E03-f"}, {"E09-a", "E09-c", "E09-d", "E09-e"}}},
		{"E12+multi-AS", [][]string{{"E12-a", "E12-b", "E12-c"}, {"E10-f"}}},
		{"F9+E23", [][]string{{"F9-2", "F9-4"}, {"E23-a"}}}, // E23-c is a signal, and signals are no links
		{"E17+F1", [][]string{{"E17-a", "E17-d"}, open}},
	}
}

// chainsOf returns the ids of the chains that findings make.
func chainsOf(findings []string) []string {
	var out []string
	for _, r := range chainRules() {
		whole := !slices.ContainsFunc(r.families, func(family []string) bool {
			return !slices.ContainsFunc(family, func(k string) bool { return slices.Contains(findings, k) })
		})
		if whole {
			out = append(out, r.id)
		}
	}
	return out
}

// Combo is a set of switches that together open a way in.
type Combo struct {
	Name    string
	Flaws   []string
	Options Options  // what the flaws need; Flaws, Profile and Era are left empty
	Expect  []string // every finding, those that the flaws force included
	Chains  []string // ids of the chains
}

// Combos returns the attack chains of the catalogue (section 8) as labs, each in the
// smallest form that makes it, and one in which several meet.
func Combos() []Combo {
	all := []Combo{
		{Name: "foreign redirect, no PKCE", Flaws: []string{"F7-1", "F5-a"}},
		{Name: "host suffix, plain PKCE", Flaws: []string{"F7-7", "F5-b"}},
		{Name: "open registration, no interaction", Flaws: []string{"F1-a", "F6-A"}},
		{Name: "open registration, consent hides the host", Flaws: []string{"F1-a", "F6-B"}},
		{Name: "open registration, upstream without consent", Flaws: []string{"F1-a", "E01-a"}},
		{Name: "open registration, unbound callback", Flaws: []string{"F1-a", "E02-a"}},
		{Name: "unknown client, foreign redirect", Flaws: []string{"F2-b", "F7-1"}},
		{Name: "routing in the upstream state", Flaws: []string{"F4-1"}},
		{Name: "script redirect, frameable page", Flaws: []string{"E13-a", "E28-a"}},
		{Name: "open endpoint, any origin", Flaws: []string{"E03-a", "E09-a"}},
		{Name: "open endpoint, any host", Flaws: []string{"E03-a", "E09-d"}},
		{Name: "two authorization servers, no iss", Flaws: []string{"E10-f", "E12-a"}},
		{Name: "codes used twice, tokens in addresses", Flaws: []string{"F9-2", "E23-a"}},
		{Name: "phishing clients without limit", Flaws: []string{"E17-a", "F1-a"}},
		{Name: "everything at once", Flaws: []string{"F1-a", "F5-a", "F7-8", "E17-a", "E10-f", "E12-b"}},
	}
	for i := range all {
		c := &all[i]
		for _, k := range c.Flaws {
			s, ok := switchByKey(k)
			if !ok {
				continue // a test demands that there is none
			}
			s.throwInto(&c.Options)
			for _, e := range s.Expect {
				if !slices.Contains(c.Expect, e) {
					c.Expect = append(c.Expect, e)
				}
			}
		}
		if slices.Contains(c.Expect, "E03-a") { // an open list says more than an open handshake
			c.Expect = slices.DeleteFunc(c.Expect, func(k string) bool { return k == "E03-g" })
		}
		if slices.Contains(c.Expect, "F1-a") && slices.Contains(c.Expect, "F6-A") {
			c.Expect = append(c.Expect, "F1-e")
		}
		c.Options.Flaws = nil
		c.Chains = chainsOf(c.Expect)
	}
	return all
}
