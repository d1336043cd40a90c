package lab

import (
	"fmt"
	"slices"
)

// The population of "A First Measurement Study on Authentication Security in
// Real-World Remote MCP Servers" (arXiv:2605.22333): 119 servers with the study's
// distribution of its nine flaws, so that a tester can be held against its figures.
// The study published no server by server data. What is fixed are the totals; which
// flaws meet at one server is chosen so that its unions come out.

// StudyServer is one server of the population.
type StudyServer struct {
	Name      string   // "study-001" to "study-119"
	Flaws     []string // of the study, F1 to F9, in order
	Situation string   // what made the study's tool raise a false alarm here: truncation-F2, truncation-F7, noise-F3, noise-F8; "" for none
	Delegated bool     // the server sends people on to an upstream
	OddNames  bool     // its clients spell the parameters of OAuth otherwise: the flaw that the study's tool missed
	Options   Options  // of the lab that plays it
}

// span is the servers from first to last, counted from 0.
type span struct{ first, last int }

func (s span) has(n int) bool { return s.first <= n && n <= s.last }

func within(n int, spans ...span) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.has(n) })
}

// studyFlaws are the flaws of server n. Servers 0 to 38 hit three categories, 39 to
// 51 the first and one of the rarer ones, 52 to 55 the first alone, 56 to 114 the
// first and the third, 115 to 118 the third alone.
func studyFlaws(n int) (out []string) {
	for _, f := range []struct {
		id    string
		where []span
	}{
		{"F1", []span{{0, 113}}},
		{"F2", []span{{20, 24}, {52, 53}, {110, 114}}},
		{"F3", []span{{0, 11}}},
		{"F4", []span{{11, 17}}},
		{"F5", []span{{0, 38}, {56, 97}}},
		{"F6", []span{{57, 118}}},
		{"F7", []span{{18, 45}}},
		{"F8", []span{{46, 48}}},
		{"F9", []span{{18, 20}, {49, 51}}},
	} {
		if within(n, f.where...) {
			out = append(out, f.id)
		}
	}
	return out
}

// studySwitches are the lab's switches for a flaw of the study: the forms that it
// describes, in turn.
func studySwitches(flaw string, n int, delegated bool) []string {
	pick := func(keys ...string) []string { return []string{keys[n%len(keys)]} }
	switch flaw {
	case "F1":
		return []string{"F1-a"}
	case "F2":
		return []string{"F2-a"}
	case "F3":
		return pick("F3-a", "F3-b")
	case "F4":
		return pick("F4-1", "F4-3")
	case "F5":
		return pick("F5-a", "F5-b", "F5-c", "F5-f")
	case "F6":
		if delegated { // what comes at once never goes upstream
			return []string{"F6-B"}
		}
		return pick("F6-B", "F6-A", "F6-B")
	case "F7":
		if n < 18+15 { // 15 took a foreign host, 13 something weaker
			return []string{"F7-1"}
		}
		return pick("F7-2", "F7-11")
	case "F8":
		return pick("F8-a", "F8-b", "F8-e")
	}
	return []string{"F9-2"}
}

// Study returns the population, in order.
func Study() []StudyServer {
	var out []StudyServer
	for n := range 119 {
		s := StudyServer{Name: fmt.Sprintf("study-%03d", n+1), Flaws: studyFlaws(n), OddNames: n == 60,
			Delegated: within(n, span{0, 41}, span{46, 48}, span{74, 98}, span{99, 109})}
		o := Options{Profile: profilePlain, Era: eraModern, IssuerPath: n%3 == 1, JWT: n/2%2 == 1, Upstream: s.Delegated, AnySpelling: s.OddNames}
		if n%2 == 1 {
			o.Era = eraLegacy
		}
		switch {
		case within(n, span{56, 73}):
			s.Situation, o.Profile, o.Depth = "truncation-F2", profileDeep, 5+n%14
		case within(n, span{74, 98}):
			s.Situation, o.Profile, o.Depth = "truncation-F7", profileDeep, 5+n%14
		case within(n, span{99, 105}):
			s.Situation, o.Profile, o.Noise = "noise-F3", profileNoise, n-98
		case within(n, span{106, 109}):
			s.Situation, o.Profile, o.Noise = "noise-F8", profileNoise, n-98
		}
		for _, f := range s.Flaws {
			for _, k := range studySwitches(f, n, s.Delegated) {
				if sw, ok := switchByKey(k); ok {
					sw.throwInto(&o)
				}
			}
		}
		s.Options = o
		out = append(out, s)
	}
	return out
}
