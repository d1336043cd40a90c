package oauth

import (
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

func TestGAS3_MatchRedirect(t *testing.T) {
	for _, c := range []struct {
		registered, requested string
		want                  bool
	}{
		{"https://a.example/cb", "https://a.example/cb", true},
		{"https://a.example/cb", "https://a.example/cb/", false},
		{"https://a.example/cb", "https://a.example/CB", false},
		{"https://a.example/cb", "https://A.example/cb", false},
		{"https://a.example/cb", "HTTPS://a.example/cb", false},
		{"https://a.example/cb", "https://a.example:443/cb", false},
		{"https://a.example/cb", "https://a.example:8443/cb", false},
		{"https://a.example/cb", "http://a.example/cb", false},
		{"https://a.example/cb", "https://a.example/cb?x=1", false},
		{"https://a.example/cb", "https://a.example/cb#f", false},
		{"https://a.example/cb", "https://a.example/cb/../cb", false},
		{"https://a.example/cb", "https://a.example/%63b", false},
		{"https://a.example/cb", "https://u@a.example/cb", false},
		{"https://a.example/cb", "https://a.example.evil.example/cb", false},
		{"https://a.example/cb", "https://sub.a.example/cb", false},
		{"https://a.example/cb", " https://a.example/cb", false},
		{"https://a.example/cb", "https://a.example/cb%00", false},
		{"", "", false},
		// The port of a loopback redirect.
		{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", true},
		{"http://127.0.0.1:80/cb", "http://127.0.0.1/cb", true},
		{"http://[::1]:1/cb", "http://[::1]:65535/cb", true},
		{"http://localhost:3000/cb?x=1", "http://localhost:4000/cb?x=1", true},
		{"http://localhost:3000", "http://localhost:4000", true},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb2", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb?x=1", false},
		{"http://127.0.0.1:1/cb", "http://localhost:1/cb", false},
		{"http://localhost:1/cb", "http://127.0.0.1:1/cb", false},
		{"http://localhost:1/cb", "http://[::1]:1/cb", false},
		{"http://127.0.0.1:1/cb", "https://127.0.0.1:1/cb", false},
		{"https://127.0.0.1:1/cb", "https://127.0.0.1:2/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:0/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:65536/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:080/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:2@evil.example/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1.evil.example:1/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:2\\.evil.example/cb", false},
		{"http://127.0.0.1:1/cb", "http://127.1:1/cb", false},
		{"http://localhost:1/cb", "http://LOCALHOST:1/cb", false},
		{"http://localhost:1/cb", "http://localhost.:1/cb", false},
		{"http://127.0.0.2:1/cb", "http://127.0.0.2:2/cb", false},
		{"cursor://cb", "cursor://cb", true},
		{"cursor://cb", "cursor://cb:1", false},
	} {
		if got := MatchRedirect(c.registered, c.requested); got != c.want {
			t.Errorf("MatchRedirect(%q, %q) = %v", c.registered, c.requested, got)
		}
	}
}

// Whatever is accepted beyond equal bytes differs in its port alone.
func TestGAS3_OnlyThePortMayDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.SampledFrom(loopbackHosts[:]).Draw(t, "host")
		path := rapid.StringMatching(`(/[a-z0-9?=%.]{0,8}){0,3}`).Draw(t, "path")
		p1, p2 := rapid.IntRange(1, 65535).Draw(t, "p1"), rapid.IntRange(1, 65535).Draw(t, "p2")
		a, b := "http://"+host+":"+itoa(p1)+path, "http://"+host+":"+itoa(p2)+path
		if !MatchRedirect(a, b) || !MatchRedirect(b, a) {
			t.Fatalf("%q and %q do not match", a, b)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		m := b[:i] + rapid.StringN(1, 1, 4).Draw(t, "put") + b[i+1:]
		if m != a && MatchRedirect(a, m) {
			h, rest, ok := splitLoopback(m)
			if !ok || h != host || rest != path {
				t.Fatalf("%q matches %q", a, m)
			}
		}
	})
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestE13_CheckRedirect(t *testing.T) {
	policy := RedirectPolicy{AppSchemes: []string{"cursor", "vscode"}}
	for raw, code := range map[string]string{
		"https://a.example/cb":                             "",
		"https://a.example":                                "",
		"https://a.example:8443/cb?x=%20":                  "",
		"https://xn--bcher-kva.example/cb":                 "",
		"https://192.0.2.1/cb":                             "",
		"http://127.0.0.1:3000/cb":                         "",
		"http://localhost/cb":                              "",
		"http://[::1]:1/cb":                                "",
		"cursor://anysphere.cursor-retrieval/oauth":        "",
		"vscode://x/y":                                     "",
		"":                                                 CodeEmpty,
		"/cb":                                              CodeNotAbsolute,
		"//a.example/cb":                                   CodeNotAbsolute,
		"HTTPS://a.example/cb":                             CodeNotAbsolute,
		"javascript:alert(1)":                              CodeDangerousScheme,
		"JavaScript:alert(1)":                              CodeDangerousScheme,
		"java\tscript:alert(1)":                            CodeControlChar,
		"\x01javascript:alert(1)":                          CodeControlChar,
		" javascript:alert(1)":                             CodeBadCharacter,
		"data:text/html,x":                                 CodeDangerousScheme,
		"vbscript:x":                                       CodeDangerousScheme,
		"file:///etc/passwd":                               CodeDangerousScheme,
		"blob:https://a.example/1":                         CodeDangerousScheme,
		"ms-msdt:x":                                        CodeDangerousScheme,
		"intent://x":                                       CodeDangerousScheme,
		"myapp://cb":                                       CodeSchemeNoDot,
		"com.example.app:/cb":                              CodeSchemeNotListed,
		"http://a.example/cb":                              CodeHTTPNotLoopback,
		"http://127.0.0.1.evil.example/cb":                 CodeHTTPNotLoopback,
		"http://127.0.0.2/cb":                              CodeHTTPNotLoopback,
		"http://0.0.0.0/cb":                                CodeHTTPNotLoopback,
		"http://2130706433/cb":                             CodeBadHost,
		"https://0x7f.1/cb":                                CodeBadHost,
		"https://127.1/cb":                                 CodeBadHost,
		"https://[::ffff:127.0.0.1]x/cb":                   CodeBadHost,
		"https://[0:0::1]/cb":                              CodeBadHost,
		"https://a.example/cb#f":                           CodeFragment,
		"https://a.example/cb#":                            CodeFragment,
		"https://u:p@a.example/cb":                         CodeUserinfo,
		"https://@a.example/cb":                            CodeUserinfo,
		"https://a.example\\@evil.example/cb":              CodeBackslash,
		"https://*.a.example/cb":                           CodeWildcard,
		"https://bücher.example/cb":                        CodeNonASCII,
		"https://a.example/../cb":                          CodeDotSegment,
		"https://a.example/x/%2e%2E/cb":                    CodeDotSegment,
		"https://a.example/x/%252e%252e/cb":                CodeDotSegment,
		"https://a.example/x/..;a/cb":                      CodeDotSegment,
		"https://a.example/%zz":                            CodeBadEscape,
		"https://a.example:0/cb":                           CodeBadPort,
		"https://a.example:99999/cb":                       CodeBadPort,
		"https:///cb":                                      CodeNoHost,
		"https:a.example/cb":                               CodeNoHost,
		"https://a..example/cb":                            CodeBadHost,
		"https://a.example/<script>":                       CodeBadCharacter,
		"https://a.example/" + strings.Repeat("x", MaxURL): CodeTooLong,
	} {
		err := CheckRedirect(raw, policy)
		if CodeOf(err) != code || (err == nil) != (code == "") {
			t.Errorf("%q: code %q, want %q (%v)", clip(raw, 60), CodeOf(err), code, err)
		}
		if err != nil && (kidoban.KindOf(err) != kidoban.KindRefused || !strings.HasSuffix(err.Error(), ".")) {
			t.Errorf("%q: %v is no sentence of kind refused", clip(raw, 60), err)
		}
	}
	if err := CheckRedirect("com.example.app:/cb", RedirectPolicy{PrivateUse: true}); err != nil {
		t.Error(err)
	}
	if c := CodeOf(CheckRedirect("http://localhost/cb", RedirectPolicy{NoLoopback: true})); c != CodeLoopbackRefused {
		t.Error(c)
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("https://a.example/cb", "http://127.0.0.1:1/cb")
	f.Fuzz(func(t *testing.T, a, b string) {
		if err := CheckRedirect(a, RedirectPolicy{PrivateUse: true}); err == nil && strings.ContainsAny(a, "#\\\r\n\t <>\"") {
			t.Errorf("accepted %q", a)
		}
		if MatchRedirect(a, b) != MatchRedirect(b, a) {
			t.Errorf("not symmetric: %q %q", a, b)
		}
		if MatchRedirect(a, b) && a != b && !(IsLoopbackRedirect(a) && IsLoopbackRedirect(b)) {
			t.Errorf("%q matches %q", a, b)
		}
	})
}
