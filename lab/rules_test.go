package lab

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMatchRedirectProperty: the safe matcher accepts the registered URI, another
// port of a loopback literal, and nothing else.
func TestMatchRedirectProperty(t *testing.T) {
	l := &Lab{}
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.SampledFrom([]string{"127.0.0.1", "[::1]", "localhost", "claude.example"}).Draw(t, "host")
		scheme := rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme")
		path := rapid.StringMatching(`/[a-z]{0,6}`).Draw(t, "path")
		uri := func(port int) string { return fmt.Sprintf("%s://%s:%d%s", scheme, host, port, path) }
		reg := uri(rapid.IntRange(1, 65535).Draw(t, "port"))
		if !l.matchRedirect([]string{reg}, reg) {
			t.Fatalf("%s does not match itself", reg)
		}
		other := uri(rapid.IntRange(1, 65535).Draw(t, "other port"))
		literal := scheme == "http" && (host == "127.0.0.1" || host == "[::1]")
		if got := l.matchRedirect([]string{reg}, other); got != (literal || other == reg) {
			t.Fatalf("%s for %s: %v", other, reg, got)
		}
		i := rapid.IntRange(0, len(reg)).Draw(t, "at")
		bent := reg[:i] + rapid.SampledFrom([]string{"x", "/", "@", ".", "%2e", "#", "?", "\\", "..", "//"}).Draw(t, "insert") + reg[i:]
		if l.matchRedirect([]string{reg}, bent) {
			t.Fatalf("%s for %s is accepted", bent, reg)
		}
	})
}

// FuzzCheckRedirect: whatever registration accepts leads to loopback or to a trusted
// host, for every parser.
func FuzzCheckRedirect(f *testing.F) {
	for _, s := range []string{testRedirect, "https://claude.example/api/mcp/auth_callback", "http://127.0.0.1@evil/", `https://evil\@claude.example/`, "javascript:alert(1)", "https://claude.example.evil/", "http://[::1]:80/x", "https://claude.example:443/"} {
		f.Add(s)
	}
	l := &Lab{}
	f.Fuzz(func(t *testing.T, raw string) {
		if l.checkRedirect(raw) != nil {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.User != nil || u.Fragment != "" || strings.ContainsAny(raw, "\\@#\x00 ") && !strings.Contains(u.RequestURI(), "@") {
			t.Fatalf("%q is accepted", raw)
		}
		if !(u.Scheme == "http" && isLoopbackHost(u.Hostname())) && !(u.Scheme == "https" && slices.Contains(trustedHosts(), u.Host)) {
			t.Fatalf("%q leads to %q", raw, u.Host)
		}
		if !trusted(raw) {
			t.Fatalf("%q is registered and not trusted", raw)
		}
	})
}

// FuzzStrictJSON: what the strict reader accepts, encoding/json reads as well, and
// no member stands twice.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `[{"a":{"b":[1,2,{"c":null}]}}]`, `{"a":1}{}`, `"x"`, strings.Repeat("[", 100)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if strictJSON(body, false) != nil {
			return
		}
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatalf("%q is accepted and not JSON: %v", body, err)
		}
	})
}

// FuzzState: no input of a stranger's opens a sealed state.
func FuzzState(f *testing.F) {
	l := &Lab{seal: []byte("0123456789abcdef0123456789abcdef")}
	f.Add("")
	f.Add("AAAA")
	f.Add(strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, raw string) {
		if _, ok := l.openState(raw); ok {
			t.Fatalf("%q is opened", raw)
		}
		if n, ok := readNested(raw); ok && n.Tx == "" {
			t.Fatalf("%q names no transaction", raw)
		}
	})
}
