package oauth

import (
	"strings"
	"testing"
)

func TestRS08_ParseChallenges(t *testing.T) {
	const prm = "https://r.example/.well-known/oauth-protected-resource/mcp"
	for in, want := range map[string]struct {
		schemes, prm, scope, err string
		typo, faults             bool
	}{
		`Bearer`: {schemes: "Bearer"},
		`Bearer resource_metadata="` + prm + `", scope="a b"`:                           {"Bearer", prm, "a b", "", false, false},
		`Bearer error="insufficient_scope", scope="x", resource_metadata="` + prm + `"`: {"Bearer", prm, "x", "insufficient_scope", false, false},
		`bearer Resource_Metadata="` + prm + `"`:                                        {"bearer", prm, "", "", false, false},
		`Bearer resource_metadata=` + prm:                                               {"Bearer", prm, "", "", false, true},
		`Bearer resource_metadata=` + prm + `, scope=a b c, error=invalid_token`:        {"Bearer", prm, "a b c", "invalid_token", false, true},
		`Bearer resource_metadata='` + prm + `'`:                                        {"Bearer", prm, "", "", false, true},
		`Bearer error="invalid_token" resource_metadata="` + prm + `"`:                  {"Bearer", prm, "", "invalid_token", false, true},
		`Bearer realm="x", resource="` + prm + `"`:                                      {"Bearer", prm, "", "", true, false},
		`Bearer realm="x", resource="https://r.example/mcp"`:                            {"Bearer", "", "", "", false, false},
		`Bearer resource_metadata="` + prm:                                              {"Bearer", prm, "", "", false, true},
		`Bearer realm="a \"quoted\", comma", scope="s"`:                                 {"Bearer", "", "s", "", false, false},
		`Basic realm="x", Bearer scope="s", DPoP algs="ES256"`:                          {"Basic Bearer DPoP", "", "s", "", false, false},
		`Negotiate YWJjZGVmZw==, Bearer scope=s`:                                        {"Negotiate Bearer", "", "s", "", false, false},
		`Bearer realm=, scope="s"`:                                                      {"Bearer", "", "s", "", false, false},
		`Bearer scope = "s"`:                                                            {"Bearer", "", "s", "", false, false},
		`realm="x"`:                                                                     {"", "", "", "", false, true},
		`, ,Bearer ,, scope="s"`:                                                        {"Bearer", "", "s", "", false, false},
		``:                                                                              {},
		`"`:                                                                             {},
	} {
		cs := ParseChallenges([]string{in})
		var schemes []string
		got := want
		got.prm, got.scope, got.err, got.typo, got.faults = "", "", "", false, false
		for _, c := range cs {
			schemes = append(schemes, c.Scheme)
			if u, typo := c.ResourceMetadata(); u != "" {
				got.prm, got.typo = u, typo
			}
			if s := c.Get("scope"); s != "" {
				got.scope = s
			}
			if e := c.Get("error"); e != "" {
				got.err = e
			}
			got.faults = got.faults || len(c.Faults) > 0
		}
		got.schemes = strings.Join(schemes, " ")
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v (%+v)", in, got, want, cs)
		}
	}
}

func TestRS08_ChallengesAreBounded(t *testing.T) {
	cs := ParseChallenges([]string{strings.Repeat("S a=1, ", 100), "T b=2"})
	if len(cs) != maxChallenges {
		t.Errorf("%d challenges", len(cs))
	}
	cs = ParseChallenges([]string{"Bearer a=1" + strings.Repeat(", a=1", 100)})
	if len(cs) != 1 || len(cs[0].Params) != maxParams || len(cs[0].Faults) == 0 {
		t.Errorf("%+v", cs)
	}
	cs = ParseChallenges([]string{`Bearer a="` + strings.Repeat("x", 2*MaxChallenge) + `"`})
	if len(cs[0].Get("a")) > MaxChallenge || len(cs[0].Faults) == 0 {
		t.Error("not cut")
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer resource_metadata=https://x/y, scope="a b"`, "Basic x==")
	f.Fuzz(func(t *testing.T, a, b string) {
		n := 0
		for _, c := range ParseChallenges([]string{a, b}) {
			for _, p := range c.Params {
				n += len(p.Name) + len(p.Value)
			}
		}
		if n > len(a)+len(b) {
			t.Errorf("more came out than went in: %q %q", a, b)
		}
	})
}
