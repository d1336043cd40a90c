package outbound

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

const secretA = "s3cr3t-A-0123456789abcdefghij"
const secretB = "Zx9_secondSecret.4567890123456"

// places are templates of exchanges with %s where a secret stands.
func places() map[string]func(s string) kidoban.Exchange {
	body := func(ct, text string) func(string) kidoban.Exchange {
		return func(s string) kidoban.Exchange {
			return kidoban.Exchange{
				Request:  kidoban.Request{URL: "https://as.example/x", Header: kidoban.Fields{{Name: "Content-Type", Value: ct}}, Body: []byte(strings.ReplaceAll(text, "%s", s))},
				Response: &kidoban.Response{Status: 200, Header: kidoban.Fields{{Name: "Content-Type", Value: ct}}, Body: []byte(strings.ReplaceAll(text, "%s", s))}}
		}
	}
	head := func(name, text string) func(string) kidoban.Exchange {
		return func(s string) kidoban.Exchange {
			f := kidoban.Fields{{Name: name, Value: strings.ReplaceAll(text, "%s", s)}}
			return kidoban.Exchange{Request: kidoban.Request{Header: f}, Response: &kidoban.Response{Header: f}}
		}
	}
	target := func(text string) func(string) kidoban.Exchange {
		return func(s string) kidoban.Exchange {
			u := strings.ReplaceAll(text, "%s", s)
			return kidoban.Exchange{Request: kidoban.Request{URL: u, Target: u}, Response: &kidoban.Response{Header: kidoban.Fields{{Name: "Location", Value: u}}}}
		}
	}
	nested := func(s string) string { return url.QueryEscape("https://c.example/cb?x=1&code=" + s) }
	return map[string]func(string) kidoban.Exchange{
		"bearer":         head("Authorization", "Bearer %s"),
		"odd scheme":     head("Authorization", "%s"),
		"two words":      head("Authorization", "%s %s"),
		"proxy":          head("Proxy-Authorization", "DPoP  %s"),
		"cookie":         head("Cookie", "theme=%s; sid=%s"),
		"set-cookie":     head("Set-Cookie", "__Host-x=%s; Path=/; Secure"),
		"nameless":       head("Set-Cookie", "%s"),
		"api key":        head("X-Api-Key", "%s"),
		"session":        head("Mcp-Session-Id", "%s"),
		"vendor":         head("X-Acme-Token", "%s"),
		"refresh header": head("Refresh", "0; url=https://c.example/cb?code=%s"),
		"link":           head("Link", "<https://c.example/?access_token=%s>; rel=next"),
		"referer":        head("Referer", "https://c.example/cb?code=%s&state=x"),
		"query":          target("https://c.example/cb?state=1&code=%s"),
		"fragment":       target("https://c.example/cb#access_token=%s&token_type=bearer"),
		"escaped name":   target("https://c.example/cb?%63ode=%s"),
		"userinfo":       target("https://user:%s@c.example/"),
		"nested url":     func(s string) kidoban.Exchange { return target("https://as.example/login?next=" + nested(s))("") },
		"nested twice": func(s string) kidoban.Exchange {
			return target("https://as.example/login?next=" + url.QueryEscape("/go?to="+nested(s)))("")
		},
		"base64 state": func(s string) kidoban.Exchange {
			return target("https://as.example/cb?state=" + base64.RawURLEncoding.EncodeToString([]byte(`{"access_token":"`+s+`"}`)))("")
		},
		"form":            body("application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=%s&client_secret=%s&user[password]=%s"),
		"form undeclared": body("", "grant_type=authorization_code&code=%s&code_verifier=%s"),
		"form as json":    body("application/json", "client_assertion=%s"),
		"json":            body("application/json", `{"access_token":"%s","token_type":"Bearer","scope":"a b"}`),
		"json spaced":     body("application/json", "\n{ \"registration_access_token\" : \"%s\" ,\n \"client_secret\":\"%s\"}"),
		"json escaped":    body("application/json", `{"\u0061ccess_token":"%s"}`),
		"json nested":     body("application/json", `{"a":[{"b":{"idToken":"%s"}}],"x":1}`),
		"json array":      body("application/json", `{"tokens":["%s","%s"]}`),
		"json object":     body("application/json", `{"password":{"value":"%s","type":"string"}}`),
		"json in json":    body("application/json", `{"result":{"content":[{"type":"text","text":"{\"refresh_token\":\"%s\"}"}]}}`),
		"json url":        body("application/json", `{"registration_client_uri":"https://as.example/r?token=%s"}`),
		"json cut":        body("application/json", `{"a":1,"access_token":"%s`),
		"json lying type": body("text/html", `{"access_token":"%s"}`),
		"sse":             body("text/event-stream", "event: message\ndata: {\"result\":{\"access_token\":\"%s\"}}\n\n"),
		"sse split":       body("text/event-stream", "data: {\"access_token\":\ndata: \"%s\"}\n\n"),
		"html input":      body("text/html", `<form><input type=hidden name="code" value="%s"><input value='%s' name='client_secret'></form>`),
		"html link":       body("text/html", `<a href="https://c.example/cb?x=1&amp;code=%s">go</a>`),
		"script":          body("text/html", `<script>var x = {accessToken: "%s", 'id_token': '%s'}</script>`),
		"multipart":       body("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n%s\r\n--x--\r\n"),
		"prose bearer":    body("text/plain", "use Authorization: Bearer %s to call"),
		"echo": func(s string) kidoban.Exchange {
			x := head("Authorization", "Bearer %s")(s)
			x.Response.Body = []byte("unknown token: <" + s + "> at /register/" + url.PathEscape(s))
			x.Request.URL = "https://as.example/register/" + s
			x.Err = "no: " + s
			return x
		},
	}
}

// leaks searches every byte of x, and what it decodes to, for s.
func leaks(x kidoban.Exchange, s string) bool {
	all, _ := json.Marshal(x)
	text := string(all) + x.Request.URL + string(x.Request.Body)
	if x.Response != nil {
		text += string(x.Response.Body)
	}
	for range 4 {
		if strings.Contains(text, s) {
			return true
		}
		text = unescape(text)
	}
	return false
}

func TestRedactLeavesNoSecretAndIsIdempotent(t *testing.T) {
	for name, build := range places() {
		for _, s := range []string{secretA, secretB, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJlMTIz"} {
			x := build(s)
			before, _ := json.Marshal(x)
			once := Redact(x)
			if after, _ := json.Marshal(x); !bytes.Equal(before, after) {
				t.Errorf("%s: the original was changed", name)
			}
			if leaks(once, s) || leaks(once, s[7:]) {
				t.Errorf("%s: survived: %s %s %v %v", name, once.Request.URL, once.Request.Body, once.Request.Header, once.Response)
			}
			if twice := Redact(once); !reflect.DeepEqual(once, twice) {
				t.Errorf("%s: twice differs:\n%s %s %v\n%s %s %v", name, once.Request.URL, once.Request.Body, once.Request.Header, twice.Request.URL, twice.Request.Body, twice.Request.Header)
			}
			if b := x.Response.Body; json.Valid(b) != json.Valid(once.Response.Body) {
				t.Errorf("%s: JSON broke: %s", name, once.Response.Body)
			}
		}
	}
}

func TestRedactKeepsWhatJudgesNeed(t *testing.T) {
	keep := []string{
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}`,
		`{"issuer":"https://as.example","token_endpoint":"https://as.example/token","code_challenge_methods_supported":["S256"],"response_types_supported":["code"]}`,
		`{"tools":[{"name":"login","inputSchema":{"type":"object","properties":{"password":{"type":"string","description":"the password of the user"}},"required":["password"]}}]}`,
		`{"_meta":{"progressToken":"p-1"},"nextCursor":"abc","token_type":"Bearer","expires_in":3600}`,
		`{"error":"invalid_request","error_description":"code_challenge is required"}`,
		"response_type=code&client_id=abc&state=xyz123&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
	}
	for _, s := range keep {
		x := Redact(kidoban.Exchange{Response: &kidoban.Response{Body: []byte(s)}})
		if string(x.Response.Body) != s {
			t.Errorf("changed:\n%s\n%s", s, x.Response.Body)
		}
	}
	x := Redact(kidoban.Exchange{Request: kidoban.Request{Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer " + secretA}}}})
	if v := x.Request.Header[0].Value; !strings.HasPrefix(v, "Bearer "+secretA[:6]+"…sha256:") || len(v) != len("Bearer ")+6+len("…sha256:")+8 {
		t.Fatalf("%q", v)
	}
	x = Redact(kidoban.Exchange{Request: kidoban.Request{Body: []byte("password=hunter2&code=short")}})
	if b := string(x.Request.Body); strings.Contains(b, "hunter") || strings.Contains(b, "short") || !strings.Contains(b, url.QueryEscape("…redacted")) {
		t.Fatal(b)
	}
}

func TestRedactionsOfRandomSecretsNeverLeak(t *testing.T) {
	names := []string{}
	all := places()
	for n := range all {
		names = append(names, n)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[A-Z][0-9][A-Za-z0-9_-]{18,60}`).Draw(t, "secret")
		n := rapid.SampledFrom(names).Draw(t, "place")
		once := Redact(all[n](s))
		if leaks(once, s) {
			t.Fatalf("%s leaks", n)
		}
		if !reflect.DeepEqual(once, Redact(once)) {
			t.Fatalf("%s: twice differs", n)
		}
	})
}

func FuzzRedact(f *testing.F) {
	for _, build := range places() {
		x := build(secretA)
		f.Add(x.Request.URL, string(x.Request.Body), x.Request.Header.Get("Authorization"), x.Request.Header.Get("Set-Cookie"), secretB)
	}
	f.Fuzz(func(t *testing.T, u, body, auth, cookie, secret string) {
		x := kidoban.Exchange{Request: kidoban.Request{URL: u, Body: []byte(body),
			Header: kidoban.Fields{{Name: "Authorization", Value: auth}, {Name: "Cookie", Value: cookie}}},
			Response: &kidoban.Response{Header: kidoban.Fields{{Name: "Location", Value: u}, {Name: "Set-Cookie", Value: cookie}}, Body: []byte(body)}}
		once := Redact(x)
		twice := Redact(once)
		if !reflect.DeepEqual(once, twice) {
			t.Fatalf("twice differs:\n%q %q %q\n%q %q %q", once.Request.URL, once.Request.Body, once.Request.Header, twice.Request.URL, twice.Request.Body, twice.Request.Header)
		}
		if json.Valid([]byte(body)) && !json.Valid(once.Response.Body) {
			t.Fatalf("JSON broke: %q to %q", body, once.Response.Body)
		}
		// A secret wrapped in JSON beside arbitrary text never survives.
		if len(secret) < 16 || !strings.ContainsAny(secret, "0123456789") || masked(secret) {
			return
		}
		b, err := json.Marshal(map[string]string{"access_token": secret, "note": body})
		if err != nil {
			return
		}
		var back map[string]string
		if json.Unmarshal(Redact(kidoban.Exchange{Response: &kidoban.Response{Body: b}}).Response.Body, &back) != nil || back["access_token"] == secret || strings.Contains(back["note"], secret) {
			t.Fatalf("%q leaks: %q", secret, back)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	x := places()["json in json"](secretA)
	x.Request.Header = append(x.Request.Header, kidoban.Field{Name: "Authorization", Value: "Bearer " + secretB})
	x.Response.Body = append([]byte(`{"pad":[`+strings.Repeat(`{"name":"tool","description":"does something useful for somebody"},`, 100)+`{}],`), x.Response.Body[1:]...)
	b.ReportAllocs()
	b.SetBytes(int64(len(x.Response.Body)))
	for b.Loop() {
		Redact(x)
	}
}

// A body of the largest size, made to be slow, is redacted in bounded work:
// every stage is linear, and the nesting is capped.
func TestRedactIsBoundedOnHostileBodies(t *testing.T) {
	rep := func(s string) string { return strings.Repeat(s, DefaultMaxBody/len(s)) }
	quoted := "x"
	for range 6 { // JSON in JSON in JSON …
		quoted = quote(`{"a":` + quote(quoted) + `}`)
	}
	for name, body := range map[string]string{
		"pairs": rep("a=b&"), "pairs in text": rep("ab=b <"), "quotes": rep(`"a":"`), "arrays": rep("["), "members": rep(`{"a":`), "names": rep(`name="x"` + "\r\n"),
		"inputs": rep("<input "), "percent": "a=" + rep("%25"), "events": rep("data: {\"a\":1}\n"), "strings": `["` + rep(`\\\"`) + `"]`,
		"secrets": "[" + rep(`{"token":"0123456789abcdef"},`), "jwt": rep("eyJhbGciOiJub25lIn0."), "bearer": rep("bearer "), "nested": `{"a":` + quoted + `}`,
		"users": rep("//a:b@"), "base64": `["` + rep("YTpi") + `"]`, "queries": "https://a/?x=" + rep("?x="),
	} {
		once := Redact(kidoban.Exchange{Response: &kidoban.Response{Body: []byte(body)}})
		if len(once.Response.Body) == 0 || len(once.Response.Body) > 8*len(body)+1000 {
			t.Errorf("%s: %d bytes became %d", name, len(body), len(once.Response.Body))
		}
	}
}

// TestRedactKeepsChallenges: where the metadata are is no secret, and passive
// inspection reads it from recordings.
func TestRedactKeepsChallenges(t *testing.T) {
	for _, v := range []string{`Bearer resource_metadata="https://a.example/.well-known/oauth-protected-resource/mcp", scope="read"`, `Bearer error_description="expired token"`} {
		x := Redact(kidoban.Exchange{Response: &kidoban.Response{Header: kidoban.Fields{{Name: "WWW-Authenticate", Value: v}}}})
		if got := x.Response.Header[0].Value; got != v {
			t.Errorf("%s became %s", v, got)
		}
	}
}
