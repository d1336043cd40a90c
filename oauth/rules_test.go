package oauth

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The pair is that of RFC 7636 appendix B.
func TestCL05_PKCE(t *testing.T) {
	const v, c = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if S256(v) != c || !VerifyS256(c, v) || VerifyS256(c, v+"x") || VerifyS256(S256("short"), "short") || VerifyS256(v, v) || CheckChallenge(c) != nil {
		t.Error("RFC 7636 appendix B")
	}
	n := NewVerifier(rand.Reader)
	if CheckVerifier(n) != nil || n == NewVerifier(rand.Reader) {
		t.Error(n)
	}
	for _, bad := range []string{"", "short", strings.Repeat("a", 42), strings.Repeat("a", 129), strings.Repeat("a", 42) + "+", strings.Repeat("é", 30)} {
		if CheckVerifier(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, bad := range []string{"", c + "=", c[:42], strings.Repeat("x", 43) + "x", strings.Repeat("+", 43), c[:42] + "N"} {
		if CheckChallenge(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestRS12_CanonicalResource(t *testing.T) {
	for in, want := range map[string]string{
		"https://R.Example/mcp":       "https://r.example/mcp",
		"HTTPS://r.example:443/mcp/":  "https://r.example/mcp/",
		"https://r.example/":          "https://r.example",
		"https://r.example":           "https://r.example",
		"http://127.0.0.1:80/a?b=C":   "http://127.0.0.1/a?b=C",
		"https://r.example:8443/%7Ea": "https://r.example:8443/%7Ea",
		"http://[::1]:81":             "http://[::1]:81",
	} {
		got, err := CanonicalResource(in)
		if err != nil || got != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
		if again, err := CanonicalResource(got); err != nil || again != got {
			t.Errorf("%s is not stable: %s %v", got, again, err)
		}
	}
	for _, bad := range []string{"", "r.example", "urn:x", "https://r.example/#f", "https://u@r.example", "https://:80/", "https://r.example:99999/", "https://r.example\\x"} {
		if got, err := CanonicalResource(bad); err == nil {
			t.Errorf("%q gave %q", bad, got)
		}
	}
}

func TestE10_CompareResource(t *testing.T) {
	const want = "https://r.example/a/mcp"
	for got, rel := range map[string]ResourceRelation{
		want:                           ResourceIdentical,
		"https://R.example/a/mcp":      ResourceHostCase,
		"https://r.example:443/a/mcp":  ResourceHostCase,
		"https://r.example/a/mcp/":     ResourceTrailingSlash,
		"https://r.example/a/mcp?x=1":  ResourceQuery,
		"https://r.example/a":          ResourceParent,
		"https://r.example/a/":         ResourceParent,
		"https://r.example":            ResourceParent,
		"https://r.example/a/mc":       ResourcePath,
		"https://r.example/a/MCP":      ResourcePath,
		"https://r.example/a/mcp/b":    ResourcePath,
		"https://r.example:8443/a/mcp": ResourcePort,
		"http://r.example/a/mcp":       ResourceScheme,
		"https://evil.example/a/mcp":   ResourceOtherHost,
		"":                             ResourceInvalid,
		"mcp":                          ResourceInvalid,
	} {
		if r := CompareResource(want, got); r != rel {
			t.Errorf("%q: %s, want %s", got, r, rel)
		}
	}
}

func TestCL11_Scopes(t *testing.T) {
	if got := UnionScopes(SplitScope("a b  a"), []string{"c", "b"}); !cmp.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
	for s, ok := range map[string]bool{"a": true, "a b:c/d": true, "": false, "a  b": false, " a": false, "a\tb": false, `a"`: false, "é": false,
		strings.Repeat("x ", 120) + "x": false, strings.Repeat("x", 5000): false} {
		if (CheckScope(s) == nil) != ok {
			t.Errorf("%.20q: %v", s, CheckScope(s))
		}
	}
	list := rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}))
	same := func(a, b []string) bool { return IsSubset(a, b) && IsSubset(b, a) }
	rapid.Check(t, func(t *rapid.T) {
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		u, i := UnionScopes(a, b), IntersectScopes(a, b)
		if !IsSubset(a, u) || !IsSubset(b, u) || !IsSubset(i, a) || !IsSubset(i, b) || !same(u, UnionScopes(b, a)) {
			t.Fatalf("%v %v: %v %v", a, b, u, i)
		}
		if IsSubset(a, b) != same(b, u) {
			t.Fatalf("%v %v", a, b)
		}
	})
}

func TestCL04_CheckIss(t *testing.T) {
	const us = "https://a.example"
	for name, c := range map[string]struct {
		advertised bool
		iss        []string
		want       IssVerdict
		accept     bool
	}{
		"advertised, equal":      {true, []string{us}, IssOK, true},
		"advertised, missing":    {true, nil, IssMissing, false},
		"advertised, other":      {true, []string{"https://b.example"}, IssMismatch, false},
		"not advertised, absent": {false, nil, IssAbsent, true},
		"not advertised, equal":  {false, []string{us}, IssOK, true},
		"not advertised, other":  {false, []string{"https://b.example"}, IssMismatch, false},
		"trailing slash":         {true, []string{us + "/"}, IssMismatch, false},
		"host case":              {true, []string{"https://A.example"}, IssMismatch, false},
		"empty":                  {false, []string{""}, IssMismatch, false},
		"twice":                  {true, []string{us, us}, IssMismatch, false},
	} {
		if v := CheckIss(us, c.advertised, c.iss); v != c.want || v.Accept() != c.accept {
			t.Errorf("%s: %s", name, v)
		}
	}
}

func TestTokenResponse_SuccessIsFourThings(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		ok     bool
	}{
		"good":              {200, `{"access_token":"a","token_type":"Bearer","expires_in":3600}`, true},
		"expires as string": {200, `{"access_token":"a","expires_in":"3600"}`, true},
		"201":               {201, `{"access_token":"a"}`, false},
		"400":               {400, `{"access_token":"a"}`, false},
		"error beside it":   {200, `{"access_token":"a","error":null}`, false},
		"error in 200":      {200, `{"error":"invalid_grant"}`, false},
		"empty token":       {200, `{"access_token":""}`, false},
		"token is a number": {200, `{"access_token":7}`, false},
		"no JSON":           {200, `access_token=a&token_type=bearer`, false},
		"an array":          {200, `["access_token"]`, false},
	} {
		r, err := ParseTokenResponse(c.status, []byte(c.body))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && (r.AccessToken != "a" || r.ExpiresIn != 3600) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	e, ok := ParseErrorResponse([]byte(`{"error":"invalid_redirect_uri","error_description":"no"}`))
	if !ok || e.Code != "invalid_redirect_uri" || e.Description != "no" {
		t.Errorf("%+v", e)
	}
	for _, bad := range []string{`{"error":{"code":"x"}}`, `{"error":""}`, `{}`, `x`} {
		if e, ok := ParseErrorResponse([]byte(bad)); ok {
			t.Errorf("%s: %+v", bad, e)
		}
	}
}
