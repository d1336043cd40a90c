package oauth

import (
	"bytes"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const nested = "http://127.0.0.1:5100/callback/n0nce"

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func deflate(s string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return string(b)
}

// leafOf is where needle occurs inside a decoded leaf, innermost leaves first.
func leafOf(r StateReading, needle string) (path string, ok bool) {
	for _, opened := range [...]bool{false, true} {
		for _, l := range r.Leaves {
			if l.Opened == opened && strings.Contains(l.Value, needle) {
				return l.Path, true
			}
		}
	}
	return "", false
}

func TestF4_ReadState(t *testing.T) {
	payload := `{"redirect_uri":"` + nested + `","n":7}`
	jwt := func(alg, sig string) string {
		return b64(`{"alg":"`+alg+`","typ":"JWT"}`) + "." + b64(payload) + "." + b64(sig)
	}
	for name, c := range map[string]struct {
		state     string
		path      string // where the nested URI is found; "" not at all
		signature string
		structure bool
	}{
		"JSON":                  {payload, "json.redirect_uri", "", true},
		"base64url":             {b64(payload), "base64url.json.redirect_uri", "", true},
		"base64 padded":         {base64.StdEncoding.EncodeToString([]byte(payload + "??>>")), "base64", "", true},
		"percent":               {url.QueryEscape(payload), "percent.json.redirect_uri", "", true},
		"hex":                   {hex.EncodeToString([]byte(payload)), "hex.json.redirect_uri", "", true},
		"zlib":                  {b64(deflate(payload)), "base64url.zlib.json.redirect_uri", "", true},
		"nested base64 in JSON": {b64(`{"s":"` + b64(payload) + `"}`), "base64url.json.s.base64url.json.redirect_uri", "", true},
		"three deep":            {b64(b64(b64(payload))), "base64url.base64url.base64url.json.redirect_uri", "", true},
		"four deep":             {b64(b64(b64(b64(payload)))), "", "", true},
		"form":                  {"id=5&redirect_uri=" + url.QueryEscape(nested), "form.redirect_uri", "", true},
		"bare URL in base64":    {b64(nested), "base64url", "", true},
		"JWT HS256":             {jwt("HS256", random(32)), "jwt.json.redirect_uri", "jwt HS256", true},
		"JWT none":              {jwt("none", ""), "jwt.json.redirect_uri", "jwt none", true},
		"JWT stripped":          {jwt("RS256", ""), "jwt.json.redirect_uri", "jwt none", true},
		"JWE":                   {b64(`{"alg":"dir","enc":"A256GCM"}`) + "..AAAA.AAAA.AAAA", "", "jwe", false},
		"itsdangerous":          {b64(payload) + ".ZxYwVQ." + b64(random(20)), "signed.0.base64url.json.redirect_uri", "mac", true},
		"Rails":                 {b64(payload) + "--" + hex.EncodeToString([]byte(random(20))), "signed.0.base64url.json.redirect_uri", "mac", true},
		"Rails, encrypted":      {"/wECAwQFBgcI--/zIzNDU2Nzg5MDEy--" + base64.StdEncoding.EncodeToString([]byte("\xff"+random(15))), "", "mac", false},
		"JSON and MAC in one":   {b64(payload + "\xff\x00" + random(30)), "base64url.json.redirect_uri", "mac", true},
		"iron":                  {"Fe26.2**" + b64(random(32)) + "*" + b64(random(16)), "", "iron", false},
		"opaque base64url":      {b64("\xff\x00" + random(30)), "", "", false},
		"opaque hex":            {hex.EncodeToString([]byte("\xff\x00" + random(14))), "", "", false},
		"uuid":                  {"3b241101-e2bb-4255-8caf-4136c566a962", "", "", false},
		"word":                  {"login", "", "", false},
		"empty":                 {"", "", "", false},
	} {
		r := ReadState(c.state)
		path, _ := leafOf(r, nested)
		if path != c.path || r.Signature != c.signature || r.Structure != c.structure {
			t.Errorf("%s: path %q signature %q structure %v, codings %v", name, path, r.Signature, r.Structure, r.Codings)
		}
	}
	r := ReadState(b64(`{"a":"` + strings.Repeat("x", 20000) + `"}`))
	if len(r.Leaves) != 1 {
		t.Error("a long state is not opened")
	}
}

func TestF8_CompareStates(t *testing.T) {
	make5 := func(f func(i int) string) (out []string) {
		for i := range 5 {
			out = append(out, f(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		states                     []string
		fixed, sequential, stamped bool
		randomAtLeast, randomBelow float64
	}{
		"random 256":      {make5(func(int) string { return b64("\xff" + random(31)) }), false, false, false, 200, 300},
		"uuid 4":          {make5(func(i int) string { return fmt.Sprintf("%x3b24101-e2bb-4255-8caf-4136c566a96%x", 3+i, i) }), false, false, false, 100, 123},
		"fixed":           {make5(func(int) string { return "xyz" }), true, false, false, 0, 1},
		"counter":         {make5(func(i int) string { return fmt.Sprint(1000 + i) }), false, true, false, 0, 1},
		"counter in hex":  {make5(func(i int) string { return fmt.Sprintf("%08x", 0xabc0+i) }), false, true, false, 0, 1},
		"time":            {make5(func(i int) string { return fmt.Sprint(1795000000 + i) }), false, false, true, 0, 1},
		"time in ms":      {make5(func(i int) string { return fmt.Sprint(1795000000000 + int64(i)*977) }), false, false, true, 0, 1},
		"short":           {make5(func(i int) string { return string(rune('a'+i)) + "7q2x" }), false, false, false, 1, 64},
		"JSON with time":  {make5(func(i int) string { return b64(fmt.Sprintf(`{"t":%d,"u":"https://a.example/"}`, 1795000000+i)) }), false, false, true, 0, 1},
		"JSON with nonce": {make5(func(int) string { return b64(`{"n":"` + hex.EncodeToString([]byte(random(16))) + `"}`) }), false, false, false, 100, 140},
	} {
		s := CompareStates(c.states)
		if s.Fixed() != c.fixed || s.Sequential != c.sequential || s.Timestamps != c.stamped || s.RandomBits < c.randomAtLeast || s.RandomBits >= c.randomBelow {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := CompareStates([]string{"", ""}); s.Absent != 2 || s.Fixed() {
		t.Errorf("%+v", s)
	}
}

func TestF8_PossibleBits(t *testing.T) {
	for s, want := range map[string]int{
		"0123456789": 33, "deadbeef": 32, "abcdefgh": 37, strings.Repeat("a-_Z", 8): 192,
		"3b241101-e2bb-4255-8caf-4136c566a962": 122, "3b241101-e2bb-1255-8caf-4136c566a962": 0, "": 0,
	} {
		if got := int(PossibleBits(s)); got != want {
			t.Errorf("%q: %d", s, got)
		}
	}
}

// Whatever the wrapping, a nested URI is found and reading ends.
func TestF4_ReadStateProperty(t *testing.T) {
	wraps := []func(string) string{b64, url.QueryEscape, func(s string) string { return hex.EncodeToString([]byte(s)) },
		func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }}
	rapid.Check(t, func(t *rapid.T) {
		s := `{"a":[1,{"u":"` + nested + `"}],"x":"` + rapid.StringMatching(`[a-z]{0,20}`).Draw(t, "x") + `"}`
		for range rapid.IntRange(0, 3).Draw(t, "layers") {
			s = rapid.SampledFrom(wraps).Draw(t, "wrap")(s)
		}
		r := ReadState(s)
		if path, ok := leafOf(r, nested); !ok || !strings.HasSuffix(path, "json.a.1.u") {
			t.Fatalf("%q: %q %v", s, path, ok)
		}
	})
}

// Random values stay opaque, whatever stands in them by chance: two hyphens, the
// beginning of a JSON text or of a compressed one.
func TestF8_RandomValuesAreOpaque(t *testing.T) {
	for _, s := range []string{
		"Xk3v9Qm2Lr8Tz5Wp1N--c7Hd4Jf6Bs0GyA1b2C3d4E5f", "-vX8--QzRk2mT9wLp4sYc7bN1hJ6gF3dK5uA0eM8iOzQ",
		"e307cde6140ffdbdda927f0a1a48badd", "e32c16bd9e1adaf54b8a3fa400d01480", "e30bXk3v9Qm2Lr8Tz5Wp1Nc7Hd4Jf6Bs0GyA1b2C3d4",
		b64("\x78\x9c" + "\x4b\xff\xfe\x01\x02" + strings.Repeat("\xfd", 24)),
	} {
		if r := ReadState(s); r.Signature != "" || r.Structure || len(r.Leaves) != 1 || r.Leaves[0].Opened {
			t.Errorf("%s: %+v", s, r)
		}
	}
	codings := []func(string) string{b64, func(s string) string { return hex.EncodeToString([]byte(s)) }}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 24, 48).Draw(t, "bytes")
		b[0], b[1] = 0xff, 0 // no text
		s := rapid.SampledFrom(codings).Draw(t, "coding")(string(b))
		if r := ReadState(s); r.Signature != "" || r.Structure {
			t.Fatalf("%s: %+v", s, r)
		}
	})
}

func FuzzReadState(f *testing.F) {
	f.Add(b64(`{"a":"b"}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		r := ReadState(s)
		if len(r.Leaves) > maxStateLeaves {
			t.Fatal("more leaves than the bound")
		}
		CompareStates([]string{s, s + "1", "x" + s})
	})
}

func TestLayer_ClassifyCallback(t *testing.T) {
	own := []string{"https://mcp.shop.example.co.uk/mcp", "https://login.vendor.com", "http://127.0.0.1:8080/mcp"}
	for uri, want := range map[string]CallbackKind{
		"http://127.0.0.1:5000/cb":                CallbackLoopback,
		"http://127.0.0.1:8080/upstream/cb":       CallbackOwn,
		"http://localhost:8080/cb":                CallbackLoopback,
		"http://[::1]:1/cb":                       CallbackLoopback,
		"cursor://anysphere/cb":                   CallbackPrivateUse,
		"com.example.app:/cb":                     CallbackPrivateUse,
		"https://api.shop.example.co.uk/cb":       CallbackOwn,
		"https://other.co.uk/cb":                  CallbackCloudClient,
		"https://auth.vendor.com/cb":              CallbackOwn,
		"https://claude.ai/api/mcp/auth_callback": CallbackCloudClient,
		"https://vendor.com.evil.example/cb":      CallbackCloudClient,
		"/relative":                               CallbackInvalid,
		"":                                        CallbackInvalid,
	} {
		if got := ClassifyCallback(uri, own...); got != want {
			t.Errorf("%q: %s", uri, got)
		}
	}
	if SameSite("a.github.io", "b.github.io") || !SameSite("x.a.github.io", "a.github.io") || SameSite("10.0.0.1", "10.0.0.2") || SameSite("", "") {
		t.Error("registrable domains")
	}
	if CallbackOwn.Layer() != 2 || CallbackCloudClient.Layer() != 1 || CallbackInvalid.Layer() != 0 {
		t.Error("layers")
	}
}

func TestPeekJWT(t *testing.T) {
	j, ok := PeekJWT(b64(`{"alg":"ES256","typ":"at+jwt","kid":"k"}`) + "." + b64(`{"iss":"https://a","aud":"https://r","exp":1795000000,"jti":"j","scope":"a b","client_id":"c","sub":"s"}`) + "." + b64("sig"))
	if !ok || j.Alg != "ES256" || j.Typ != "at+jwt" || j.Audience[0] != "https://r" || j.Expires != 1795000000 || j.ID != "j" || j.ClientID != "c" || len(j.Claims.Faults()) != 0 {
		t.Errorf("%+v %v", j, ok)
	}
	for _, bad := range []string{"", "a.b.c", "eyJ.e.e", "opaque", b64(`{"alg":1}`) + "." + b64("x") + ".", strings.Repeat("ey", maxJWT)} {
		if _, ok := PeekJWT(bad); ok {
			t.Errorf("%.20q is no JWT", bad)
		}
	}
}
