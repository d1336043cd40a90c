package lab

import (
	"slices"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// Switch opens one sub-flaw.
type Switch struct {
	Key    string       // catalogue key, "F5-a"
	Title  string       // what the server does wrong when the switch is on, in one line
	Tier   kidoban.Tier // the lowest tier that can see it
	Expect []string     // every finding a perfect tester reports with only this switch on
	Chains []string     // ids of the attack chains the findings make
	Needs  Needs        // what the switch forces on the lab
	Eras   []string     // eras in which the flaw exists; empty means all

	// Authorize tells that the finding is decided by what /authorize and the pages
	// behind it answer; Undecided says what that means in a profile.
	Authorize bool
}

// Needs is what a switch forces on the lab it is thrown in: a flaw of the
// upstream leg needs an upstream.
type Needs struct {
	Upstream  bool     `json:"upstream,omitempty"`
	JWT       bool     `json:"jwt,omitempty"`
	TLS       bool     `json:"tls,omitempty"`
	Documents bool     `json:"documents,omitempty"` // loopback client documents, for a canary on loopback
	Flaws     []string `json:"flaws,omitempty"`     // flaws without which this one cannot be reached
	// RootIssuer forbids a path in the issuer: without other hints, clients look for
	// the authorization server at the root of the MCP server's origin.
	RootIssuer bool `json:"rootIssuer,omitempty"`
}

// Switches returns every switch in catalogue order.
func Switches() []Switch {
	var all []Switch
	for _, group := range [][]Switch{
		registrationSwitches(), clientSwitches(), upstreamSwitches(), pkceSwitches(),
		consentSwitches(), redirectSwitches(), codeSwitches(), tokenSwitches(), responseSwitches(),
		endpointSwitches(), metadataSwitches(), manageSwitches(), documentSwitches(), inputSwitches(),
	} {
		all = append(all, group...)
	}
	order := map[string]int{}
	for i, c := range kidoban.Checks() {
		order[c.Key()] = i
	}
	for i := range all {
		s := &all[i]
		if c, ok := kidoban.CheckByKey(s.Key); ok && s.Tier == "" {
			s.Tier = c.Tier
		}
		if s.Expect == nil {
			s.Expect = append(slices.Clone(s.Needs.Flaws), s.Key)
		}
		s.Chains, s.Authorize = chainsOf(s.Expect), decidedAtAuthorize(s.Key)
	}
	sort.SliceStable(all, func(i, j int) bool { return order[all[i].Key] < order[all[j].Key] })
	return all
}

// switchByKey finds a switch by catalogue key, whatever the case, or by slug.
func switchByKey(key string) (Switch, bool) {
	if c, ok := kidoban.CheckByKey(key); ok {
		key = c.Key()
	}
	for _, s := range Switches() {
		if strings.EqualFold(s.Key, key) {
			return s, true
		}
	}
	return Switch{}, false
}

// The profiles.
const (
	profilePlain     = "plain"
	profileLogin     = "login-first"
	profileDeep      = "deep-chain"
	profileSPA       = "spa-consent"
	profileChallenge = "cdn-challenge"
	profileNoise     = "noise"
)

// Profiles returns the names of the profiles: ways of behaving that are no flaws
// and that a tester must not mistake for one.
//
//	plain          validates a request before it shows a login
//	login-first    shows a login before it validates anything
//	deep-chain     redirects Options.Depth times before it validates
//	spa-consent    answers with a page that is nothing without its script
//	cdn-challenge  a content network stands before /authorize and asks for proof of a browser
//	noise          unrelated OAuth traffic of the kind Options.Noise runs through the same browser
func Profiles() []string {
	return []string{profilePlain, profileLogin, profileDeep, profileSPA, profileChallenge, profileNoise}
}

// The eras.
const (
	eraModern = "modern"
	eraLegacy = "legacy"
	eraDual   = "dual"
	eraSSE    = "sse"
)

// Eras returns the names of the eras a lab can live in: modern (2026-07-28, no
// sessions), legacy (2025-11-25 and before, sessions), dual (both on one URL)
// and sse (the two-endpoint transport of 2024-11-05).
func Eras() []string { return []string{eraModern, eraLegacy, eraDual, eraSSE} }

// nearest returns up to three of names that resemble got, closest first.
func nearest(got string, names []string) []string {
	type scored struct {
		name string
		d    int
	}
	var s []scored
	for _, n := range names {
		d := distance(strings.ToLower(got), strings.ToLower(n))
		if got != "" && strings.HasPrefix(strings.ToLower(n), strings.ToLower(got)) {
			d = 0 // a beginning is what people type
		}
		s = append(s, scored{n, d})
	}
	sort.SliceStable(s, func(i, j int) bool { return s[i].d < s[j].d })
	var out []string
	for _, x := range s[:min(3, len(s))] {
		out = append(out, x.name)
	}
	return out
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cur := row[j]
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j]+1, row[j-1]+1, prev+cost)
			prev = cur
		}
	}
	return row[len(b)]
}
