package oauth

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCL01_PRMURLs(t *testing.T) {
	const wk = "/.well-known/oauth-protected-resource"
	for in, want := range map[string][]string{
		"https://h.example/mcp":         {"https://h.example" + wk + "/mcp", "https://h.example" + wk},
		"https://h.example/mcp/":        {"https://h.example" + wk + "/mcp/", "https://h.example" + wk},
		"https://h.example:8443/a/b":    {"https://h.example:8443" + wk + "/a/b", "https://h.example:8443" + wk},
		"https://h.example":             {"https://h.example" + wk},
		"https://h.example/":            {"https://h.example" + wk},
		"https://h.example/mcp?t=1":     {"https://h.example" + wk + "/mcp?t=1", "https://h.example" + wk},
		"https://h.example?t=1":         {"https://h.example" + wk + "?t=1", "https://h.example" + wk},
		"https://h.example/a%2Fb":       {"https://h.example" + wk + "/a%2Fb", "https://h.example" + wk},
		"http://127.0.0.1:8787/s/x/mcp": {"http://127.0.0.1:8787" + wk + "/s/x/mcp", "http://127.0.0.1:8787" + wk},
		"http://[::1]:80/mcp":           {"http://[::1]:80" + wk + "/mcp", "http://[::1]:80" + wk},
	} {
		got, err := PRMURLs(in)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}

func TestCL02_MetadataURLs(t *testing.T) {
	const as, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	for in, want := range map[string][]string{
		"https://a.example":            {"https://a.example" + as, "https://a.example" + oidc},
		"https://a.example/":           {"https://a.example" + as, "https://a.example" + oidc},
		"https://a.example:9/":         {"https://a.example:9" + as, "https://a.example:9" + oidc},
		"https://a.example/tenant1":    {"https://a.example" + as + "/tenant1", "https://a.example" + oidc + "/tenant1", "https://a.example/tenant1" + oidc},
		"https://a.example/tenant1/":   {"https://a.example" + as + "/tenant1", "https://a.example" + oidc + "/tenant1", "https://a.example/tenant1" + oidc},
		"https://a.example:444/r/x%20": {"https://a.example:444" + as + "/r/x%20", "https://a.example:444" + oidc + "/r/x%20", "https://a.example:444/r/x%20" + oidc},
	} {
		got, err := MetadataURLs(in)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "a.example", "ftp://a.example", "https://", "https://u:p@a.example", "https://a.example/#x",
		"https://a.example?x=1", "https://a.example?", "https://a.example/\\evil", "https://a.example/ x", "//a.example", "https:a.example",
		"https://a.example/" + strings.Repeat("a", MaxURL)} {
		if got, err := MetadataURLs(bad); err == nil {
			t.Errorf("%q gave %v", clip(bad, 40), got)
		}
	}
}

func TestLegacy20250326_FallbackIsTheOrigin(t *testing.T) {
	m, err := LegacyMetadata("https://h.example:8443/deep/mcp?x=1")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{m.Issuer, m.AuthorizationEndpoint, m.TokenEndpoint, m.RegistrationEndpoint}
	const o = "https://h.example:8443"
	if want := []string{o, o + "/authorize", o + "/token", o + "/register"}; !cmp.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// The well-known URLs never leave the origin they were asked for: nothing in a
// path or query may move them to another host.
func TestCL01_WellKnownStaysAtTheOrigin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		origin := rapid.SampledFrom([]string{"https://h.example", "http://127.0.0.1:81", "https://[::1]:9"}).Draw(t, "origin")
		raw := origin + "/" + rapid.String().Draw(t, "rest")
		for _, f := range []func(string) ([]string, error){PRMURLs, MetadataURLs} {
			urls, err := f(raw)
			if err != nil {
				continue
			}
			for _, u := range urls {
				if got, err := Origin(u); err != nil || got != origin {
					t.Fatalf("%q → %q at %q (%v)", raw, u, got, err)
				}
			}
		}
	})
}
