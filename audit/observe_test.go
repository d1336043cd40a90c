package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// Exchanges as a recording has them, written by hand: one server, one client.

const (
	obsMCP = "https://mcp.acme.example/mcp"
	obsAS  = "https://mcp.acme.example"
	obsCB  = "http://127.0.0.1:33418/callback"
)

type story struct{ list []*kidoban.Exchange }

func (s *story) add(method, to string, body string, status int, answer string, headers ...string) *kidoban.Exchange {
	x := &kidoban.Exchange{Request: kidoban.Request{Method: method, URL: to, Body: []byte(body)}, Response: &kidoban.Response{Status: status, Proto: "HTTP/1.1", Body: []byte(answer)}}
	ct := "application/json"
	if strings.HasPrefix(answer, "<") {
		ct = "text/html"
	}
	x.Response.Header = kidoban.Fields{{Name: "Content-Type", Value: ct}}
	if method == "POST" {
		ct := "application/json"
		if !strings.HasPrefix(body, "{") {
			ct = "application/x-www-form-urlencoded"
		}
		x.Request.Header = kidoban.Fields{{Name: "Content-Type", Value: ct}}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if name, ok := strings.CutPrefix(headers[i], ">"); ok {
			x.Request.Header = append(x.Request.Header, kidoban.Field{Name: name, Value: headers[i+1]})
		} else {
			x.Response.Header = append(x.Response.Header, kidoban.Field{Name: headers[i], Value: headers[i+1]})
		}
	}
	s.list = append(s.list, x)
	return x
}

func (s *story) discovery() {
	s.add("POST", obsMCP, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`, 401, `{}`, "WWW-Authenticate", `Bearer resource_metadata="https://mcp.acme.example/.well-known/oauth-protected-resource/mcp", scope="read"`)
	s.add("GET", "https://mcp.acme.example/.well-known/oauth-protected-resource/mcp", "", 200, `{"resource":"https://mcp.acme.example/mcp","authorization_servers":["https://mcp.acme.example"]}`)
	s.add("GET", "https://mcp.acme.example/.well-known/oauth-authorization-server", "", 200, `{"issuer":"https://mcp.acme.example","authorization_endpoint":"https://mcp.acme.example/authorize","token_endpoint":"https://mcp.acme.example/token","registration_endpoint":"https://mcp.acme.example/register","revocation_endpoint":"https://mcp.acme.example/revoke","code_challenge_methods_supported":["S256"],"response_types_supported":["code"],"token_endpoint_auth_methods_supported":["none"],"client_id_metadata_document_supported":true}`)
	s.register("c1", obsCB)
}

func (s *story) register(id, redirect string) {
	s.add("POST", obsAS+"/register", `{"client_name":"Editor","redirect_uris":["`+redirect+`"]}`, 201, `{"client_id":"`+id+`","client_name":"Editor","redirect_uris":["`+redirect+`"],"client_id_expires_at":4102444800}`, "Cache-Control", "no-store")
}

func authorizeURL(change map[string]string) string {
	q := url.Values{"response_type": {"code"}, "client_id": {"c1"}, "redirect_uri": {obsCB}, "state": {"st-0123456789abcdefghij"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	for k, v := range change {
		if v == "" {
			q.Del(k)
		} else {
			q.Set(k, v)
		}
	}
	return obsAS + "/authorize?" + q.Encode()
}

const loginPage = `<html><head><title>Sign in</title></head><body><form method="post" action="/login"><input name="user"><input type="password" name="password"><button>Sign in</button></form></body></html>`

// login is a flow with a login page; the client's state and code come back.
func (s *story) login(ask, back, token string, tokenStatus int) {
	s.add("GET", ask, "", 200, loginPage, "Cache-Control", "no-store", "Referrer-Policy", "no-referrer", "Content-Security-Policy", "frame-ancestors 'none'")
	s.add("POST", obsAS+"/login", "user=a&password=b", 303, "", "Location", back)
	if token != "" {
		s.add("POST", obsAS+"/token", token, tokenStatus, `{"access_token":"at-0123456789","token_type":"Bearer","expires_in":600}`, "Cache-Control", "no-store")
	}
}

const back1 = obsCB + "?code=code-1&state=st-0123456789abcdefghij"
const token1 = "grant_type=authorization_code&code=code-1&client_id=c1&code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

func (s *story) observe(t *testing.T) *audit.Report {
	t.Helper()
	o := audit.Observe()
	for _, x := range s.list {
		o.Add(x)
	}
	r, err := o.Report(audit.ObservedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != len(kidoban.Checks()) {
		t.Errorf("%d results for %d checks", len(r.Results), len(kidoban.Checks()))
	}
	for _, x := range r.Results {
		if x.Outcome == kidoban.NotTested && !strings.HasPrefix(x.Detail, "kidoban audit ") {
			t.Errorf("%s is not tested and says %q", x.Key(), x.Detail)
		}
	}
	return r
}

// base are findings of the short story itself, which has no iss and no HSTS.
func observed(r *audit.Report) []string {
	var out []string
	for _, k := range findings(r) {
		if k != "E12-a" && k != "E29-e" {
			out = append(out, k)
		}
	}
	return out
}

func wantObserved(t *testing.T, r *audit.Report, want ...string) {
	t.Helper()
	got := observed(r)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		for _, k := range got {
			t.Logf("%s: %s", k, result(t, r, k).Summary)
		}
		t.Errorf("found %v, want %v", got, want)
	}
}

func TestObservedOrdinaryLogin(t *testing.T) {
	var s story
	s.discovery()
	s.login(authorizeURL(nil), back1, token1, 200)
	r := s.observe(t)
	wantObserved(t, r)
	if r.Target.URL != obsMCP || r.Target.Issuer != obsAS || r.Target.Headline != "graded" || len(r.Meta.Tiers) != 1 || r.Meta.Tiers[0] != kidoban.T0 || r.Requests != 0 {
		t.Errorf("%+v %+v", r.Target, r.Meta)
	}
}

func TestObservedF5(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		token  string
		want   []string
	}{
		"no challenge":  {map[string]string{"code_challenge": "", "code_challenge_method": ""}, "grant_type=authorization_code&code=code-1&client_id=c1", []string{"F5-a"}},
		"plain":         {map[string]string{"code_challenge_method": "plain"}, token1, []string{"F5-b"}},
		"no method":     {map[string]string{"code_challenge_method": ""}, token1, []string{"F5-c"}},
		"no verifier":   {nil, "grant_type=authorization_code&code=code-1&client_id=c1", []string{"F5-f"}},
		"JSON to token": {nil, `{"grant_type":"authorization_code","code":"code-1","client_id":"c1","code_verifier":"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var s story
			s.discovery()
			s.login(authorizeURL(c.change), back1, c.token, 200)
			wantObserved(t, s.observe(t), c.want...)
		})
	}
}

// TestObservedOtherNames: the study missed one flaw because of the names.
func TestObservedOtherNames(t *testing.T) {
	for _, challenge := range []string{"", "&codeChallenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&codeChallengeMethod=S256"} {
		var s story
		s.discovery()
		s.login(obsAS+"/authorize?responseType=code&clientId=c1&redirectUri="+url.QueryEscape(obsCB)+"&state=st-0123456789abcdefghij"+challenge, back1, "grantType=authorization_code&authCode=code-1&clientId=c1&codeVerifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", 200)
		if challenge == "" {
			wantObserved(t, s.observe(t), "F5-a")
		} else {
			wantObserved(t, s.observe(t))
		}
	}
}

// TestObservedPAR: what was pushed counts as if it stood in the address.
func TestObservedPAR(t *testing.T) {
	for _, challenge := range []string{"", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"} {
		var s story
		s.discovery()
		u, _ := url.Parse(authorizeURL(map[string]string{"code_challenge": challenge}))
		s.add("POST", obsAS+"/par", u.RawQuery, 201, `{"request_uri":"urn:x:1","expires_in":60}`)
		s.login(obsAS+"/authorize?client_id=c1&request_uri=urn%3Ax%3A1", back1, token1, 200)
		if challenge == "" {
			wantObserved(t, s.observe(t), "F5-a")
		} else {
			wantObserved(t, s.observe(t))
		}
	}
}

func TestObservedLayers(t *testing.T) {
	up := "https://github.com/login/oauth/authorize?client_id=up&response_type=code&redirect_uri=" + url.QueryEscape(obsAS+"/callback") + "&scope=repo"
	good := func(state string) string {
		return up + "&state=" + state + "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	}
	tell := func(cb string, locations ...string) *audit.Report {
		var s story
		s.discovery()
		for i, loc := range locations {
			state := fmt.Sprintf("st-0123456789abcdefghi%d", i)
			s.add("GET", authorizeURL(map[string]string{"state": state, "redirect_uri": cb}), "", 302, "", "Location", loc, "Set-Cookie", "__Host-tx=abcdefghijkl; Secure; HttpOnly; SameSite=Lax; Path=/")
			s.add("GET", obsAS+"/callback?code=up&state=x", "", 302, "", "Location", fmt.Sprintf("%s?code=code-%d&state=%s", cb, i, state))
		}
		return s.observe(t)
	}
	a, b := good("Zk3vT9Qw7Lm2Xc5Rn8Yp4Ha6Jd1Gs0Bf"), good("pX7Kq2Vw9Ny4Tb6Mc1Rz8Lf3Hj5Gd0Sa")
	wantObserved(t, tell(obsCB, a, b), "E01-a")
	wantObserved(t, tell(obsCB, up+"&state=Zk3vT9Qw7Lm2Xc5Rn8Yp4Ha6Jd1Gs0Bf", up+"&state=pX7Kq2Vw9Ny4Tb6Mc1Rz8Lf3Hj5Gd0Sa"), "F3-a", "E01-a")
	wantObserved(t, tell(obsCB, up, up), "F3-a", "F8-a", "E01-a")
	wantObserved(t, tell(obsCB, up+"&state=same-same-same-same-same-same-same", up+"&state=same-same-same-same-same-same-same&x=1"), "F3-a", "F8-b", "E01-a")
	nested := base64.RawURLEncoding.EncodeToString([]byte(`{"redirect_uri":"` + obsCB + `","n":1}`))
	wantObserved(t, tell(obsCB, good(nested), good(nested+"A")), "F4-0", "E01-a")
	// A cloud client's callback is https elsewhere, and still layer 1.
	if r := tell("https://claude.ai/api/mcp/auth_callback", a, b); result(t, r, "F3-a").Outcome != kidoban.Pass {
		t.Errorf("F3-a: %+v", result(t, r, "F3-a"))
	}
}

// TestObservedNoise: other people's logins in the same browser are not the server's.
func TestObservedNoise(t *testing.T) {
	var s story
	s.discovery()
	s.add("GET", "https://sso.other.example/authorize?response_type=code&client_id=x&redirect_uri=https%3A%2F%2Fshop.example%2Fcb&state=1", "", 302, "", "Location", "https://shop.example/cb?code=a&state=1")
	s.add("GET", "https://shop.example/cb?code=a&state=1", "", 200, "<p>hi</p>")
	noise := "https://ads.example/authorize?response_type=token&client_id=ads&redirect_uri=https%3A%2F%2Fads.example%2Fmatch&continue=x"
	x := s.add("GET", authorizeURL(nil), "", 302, "", "Location", noise)
	s.add("GET", noise, "", 302, "", "Location", x.Request.URL+"&_seen=1")
	s.login(x.Request.URL+"&_seen=1", back1, token1, 200)
	s.add("POST", "https://sso.other.example/token", "grant_type=authorization_code&code=a&client_id=x", 200, `{"access_token":"zzzzzzzzzzzz"}`)
	wantObserved(t, s.observe(t))
}

// TestObservedManyHops: the study's tool gave up after five.
func TestObservedManyHops(t *testing.T) {
	var s story
	s.discovery()
	at := authorizeURL(nil)
	for i := range 200 {
		next := fmt.Sprintf("%s/hop?n=%d", obsAS, i)
		s.add("GET", at, "", 302, "", "Location", next)
		at = next
	}
	s.login(at, back1, token1, 200)
	r := s.observe(t)
	wantObserved(t, r)
	if result(t, r, "F6-A").Outcome != kidoban.Pass {
		t.Errorf("%+v", result(t, r, "F6-A"))
	}
}

func TestObservedLifecycle(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(*story)
		want []string
	}{
		"F6-A, no page":          {func(s *story) { s.add("GET", authorizeURL(nil), "", 302, "", "Location", back1) }, []string{"F6-A"}},
		"F6-A, logged in before": {func(s *story) { s.add("GET", authorizeURL(nil), "", 302, "", "Location", back1, ">Cookie", "sid=1") }, nil},
		"F7-1": {func(s *story) {
			s.login(authorizeURL(map[string]string{"redirect_uri": "https://evil.example/cb"}), "https://evil.example/cb?code=c&state=st-0123456789abcdefghij", "", 0)
		}, []string{"F7-1"}},
		"F7, another port": {func(s *story) {
			s.login(authorizeURL(map[string]string{"redirect_uri": "http://127.0.0.1:9/callback"}), "http://127.0.0.1:9/callback?code=c&state=st-0123456789abcdefghij", "", 0)
		}, nil},
		"F7-2": {func(s *story) {
			s.login(authorizeURL(map[string]string{"redirect_uri": obsCB + "/x"}), obsCB+"/x?code=c&state=st-0123456789abcdefghij", "", 0)
		}, []string{"F7-2"}},
		"F8-d, state altered": {func(s *story) { s.login(authorizeURL(nil), obsCB+"?code=code-1&state=other", token1, 200) }, []string{"F8-d"}},
		"F9-2": {func(s *story) {
			s.login(authorizeURL(nil), back1, token1, 200)
			s.add("POST", obsAS+"/token", token1, 200, `{"access_token":"bbbbbbbbbbbb","expires_in":60}`, "Cache-Control", "no-store")
		}, []string{"F9-2"}},
		"F1-a, a cloud client": {func(s *story) { s.register("c2", "https://chat.example/cb") }, []string{"F1-a"}},
		"E13-a":                {func(s *story) { s.register("c2", "javascript:alert(1)") }, []string{"E13-a"}},
		"E29-a": {func(s *story) {
			s.add("POST", "http://mcp.acme.example/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, 200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`, ">Authorization", "Bearer x")
		}, []string{"E29-a"}},
		"callback not in the file": {func(s *story) {
			s.add("GET", authorizeURL(nil), "", 200, loginPage, "Cache-Control", "no-store", "Referrer-Policy", "no-referrer", "X-Frame-Options", "DENY")
			s.add("POST", obsAS+"/token", "grant_type=authorization_code&code=z&client_id=c1", 200, `{"access_token":"bbbbbbbbbbbb","expires_in":60}`, "Cache-Control", "no-store")
		}, []string{"F5-f"}},
		"E26-c": {func(s *story) {
			s.add("POST", obsAS+"/token", "grant_type=password&username=a&password=b&client_id=c1", 200, `{"access_token":"bbbbbbbbbbbb","expires_in":60}`, "Cache-Control", "no-store")
		}, []string{"E26-c"}},
		"E26-a": {func(s *story) {
			s.login(authorizeURL(map[string]string{"response_type": "token"}), obsCB+"#access_token=bbbbbbbbbbbb&state=st-0123456789abcdefghij", "", 0)
		}, []string{"E26-a"}},
		"E22-1": {func(s *story) {
			s.login(authorizeURL(nil), back1, token1, 200)
			for _, next := range []string{"rt-2", "rt-3"} {
				s.add("POST", obsAS+"/token", "grant_type=refresh_token&refresh_token=rt-1&client_id=c1", 200, `{"access_token":"bbbbbbbbbbbb","expires_in":60,"refresh_token":"`+next+`"}`, "Cache-Control", "no-store")
			}
		}, []string{"E22-1"}},
		"E07-2": {func(s *story) {
			for _, token := range []string{"Bearer x", ""} {
				s.add("POST", obsMCP, `{"jsonrpc":"2.0","id":3,"method":"ping"}`, 200, `{"jsonrpc":"2.0","id":3,"result":{}}`, ">Mcp-Session-Id", "8f0e5a3c9b7d41e2a6c8f0e5a3c9b7d4", ">Authorization", token)
			}
		}, []string{"E07-2"}},
		"E23-a": {func(s *story) {
			s.add("POST", obsMCP+"?access_token=bbbbbbbbbbbb", `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`, 200, `{"jsonrpc":"2.0","id":3,"result":{"tools":[]}}`)
		}, []string{"E23-a"}},
		"F1-b":            {func(s *story) { s.register("c2", "http://chat.example/cb") }, []string{"F1-b"}},
		"E13-b":           {func(s *story) { s.register("c2", "data:text/html,x") }, []string{"E13-b"}},
		"E13-c":           {func(s *story) { s.register("c2", "editor://cb") }, []string{"E13-c"}},
		"an app's scheme": {func(s *story) { s.register("c2", "com.example.editor:/cb") }, nil},
		"F2-a": {func(s *story) {
			for i, id := range []string{"nobody-1", "nobody-2"} {
				state := fmt.Sprintf("st-nobody-0123456789-%d", i)
				s.login(authorizeURL(map[string]string{"client_id": id, "state": state}), obsCB+"?code=n"+id+"&state="+state, "", 0)
			}
		}, []string{"F2-a"}},
		"one client registered before": {func(s *story) {
			s.login(authorizeURL(map[string]string{"client_id": "old"}), back1, "", 0)
		}, nil},
		"E35-a": {func(s *story) {
			s.add("POST", obsMCP, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{}}`, 200, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"elicitation/create\",\"params\":{\"mode\":\"url\",\"url\":\"https://github.com/login/oauth/authorize?client_id=a&response_type=code\"}}\n\n", ">Authorization", "Bearer x")
		}, []string{"E35-a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s story
			s.discovery()
			c.tell(&s)
			wantObserved(t, s.observe(t), c.want...)
		})
	}
}

func harOf(t testing.TB, list []*kidoban.Exchange) []byte {
	t.Helper()
	type m = map[string]any
	pairs := func(f kidoban.Fields) []m {
		out := []m{}
		for _, h := range f {
			out = append(out, m{"name": h.Name, "value": h.Value})
		}
		return out
	}
	entries := []m{}
	for _, x := range list {
		entries = append(entries, m{"startedDateTime": "2026-11-01T10:00:00Z", "request": m{"method": x.Request.Method, "url": x.Request.URL, "headers": pairs(x.Request.Header), "postData": m{"text": string(x.Request.Body)}},
			"response": m{"status": x.Response.Status, "headers": pairs(x.Response.Header), "content": m{"text": base64.StdEncoding.EncodeToString(x.Response.Body), "encoding": "base64"}}})
	}
	b, err := json.Marshal(m{"log": m{"version": "1.2", "entries": entries}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestObservedFromHAR(t *testing.T) {
	var s story
	s.discovery()
	s.login(authorizeURL(map[string]string{"code_challenge": ""}), back1, "grant_type=authorization_code&code=code-1&client_id=c1", 200)
	har := harOf(t, s.list)
	o := audit.Observe()
	if err := o.ReadHAR(t.Context(), "f.har", bytes.NewReader(har)); err != nil || len(o.Notes()) > 0 {
		t.Fatal(err, o.Notes())
	}
	r, err := o.Report(audit.ObservedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantObserved(t, r, "F5-a")
	if x := result(t, r, "F5-a").Exchanges; len(x) != 3 || x[0] != 5 || len(r.Exchanges) == 0 {
		t.Errorf("the evidence is not numbered by entry: %v", x)
	}
	// Cut off: what was read counts, and the report says so.
	o = audit.Observe()
	if err := o.ReadHAR(t.Context(), "f.har", bytes.NewReader(har[:len(har)-400])); err != nil {
		t.Fatal(err)
	}
	if r, err = o.Report(audit.ObservedOptions{}); err != nil || len(o.Notes()) != 1 || !strings.Contains(o.Notes()[0], "after entry 6") || !strings.Contains(r.Target.Detail, "partial") {
		t.Errorf("%v %q %q", err, o.Notes(), r.Target.Detail)
	}
	for _, bad := range []string{"", "hello", `{"log":{}}`, "PK\x03\x04"} {
		if err := audit.Observe().ReadHAR(t.Context(), "f.har", strings.NewReader(bad)); kidoban.KindOf(err) != kidoban.KindInput || !strings.Contains(err.Error(), "f.har is no HAR file") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := audit.Observe().Report(audit.ObservedOptions{}); kidoban.KindOf(err) != kidoban.KindInput {
		t.Errorf("nothing seen: %v", err)
	}
}

func TestObservedFromBurp(t *testing.T) {
	var s story
	s.discovery()
	s.login(authorizeURL(map[string]string{"code_challenge": ""}), back1, "grant_type=authorization_code&code=code-1&client_id=c1", 200)
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<items burpVersion=\"2026.1\">\n")
	raw := func(first string, f kidoban.Fields, body []byte) string {
		out := first + "\r\n"
		for _, h := range f {
			out += h.Name + ": " + h.Value + "\r\n"
		}
		return base64.StdEncoding.EncodeToString([]byte(out + "\r\n" + string(body)))
	}
	s.add("GET", "https://cdn.example/logo.png", "", 200, "\x89PNG\r\n\x1a\n\x00\xff")
	for _, x := range s.list {
		fmt.Fprintf(&b, "<item><url><![CDATA[%s]]></url><request base64=\"true\"><![CDATA[%s]]></request><response base64=\"true\"><![CDATA[%s]]></response></item>\n",
			x.Request.URL, raw(x.Request.Method+" / HTTP/1.1", x.Request.Header, x.Request.Body), raw(fmt.Sprintf("HTTP/1.1 %d X", x.Response.Status), x.Response.Header, x.Response.Body))
	}
	read := func(text string) (*audit.Observation, error) {
		o := audit.Observe()
		return o, o.ReadBurp(t.Context(), "f.xml", strings.NewReader(text))
	}
	o, err := read(b.String() + "</items>")
	if err != nil || len(o.Notes()) > 0 {
		t.Fatal(err, o.Notes())
	}
	r, err := o.Report(audit.ObservedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantObserved(t, r, "F5-a")
	// Binary bodies without base64 are no XML: a sentence, and what came before counts.
	o, err = read(b.String() + "<item><url>http://x/</url><request base64=\"false\"><![CDATA[GET / HTTP/1.1\r\n\r\n\x00\xff]]></request></item></items>")
	if err != nil || len(o.Notes()) != 1 || !strings.Contains(o.Notes()[0], "base64") || !strings.Contains(o.Notes()[0], "item 8") {
		t.Errorf("%v %q", err, o.Notes())
	}
	if _, err := read("not xml at all"); kidoban.KindOf(err) != kidoban.KindInput {
		t.Errorf("%v", err)
	}
}

func FuzzReadHAR(f *testing.F) {
	var s story
	s.discovery()
	f.Add(harOf(f, s.list))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := audit.Observe()
		if o.ReadHAR(context.Background(), "f", bytes.NewReader(b)) == nil {
			_, _ = o.Report(audit.ObservedOptions{})
		}
	})
}

// manyEntries is a HAR of n entries of no interest, with bodies of size bytes.
func manyEntries(n, size int) io.Reader {
	entry := `{"startedDateTime":"2026-11-01T10:00:00Z","time":3,"request":{"method":"GET","url":"https://cdn.example/a.js?v=1","headers":[{"name":"Accept","value":"*/*"}]},"response":{"status":200,"headers":[{"name":"Content-Type","value":"text/javascript"}],"content":{"size":1,"mimeType":"text/javascript","text":"` + strings.Repeat(`let a = \"x\";\n`, size/16) + `"}}}`
	return io.MultiReader(strings.NewReader(`{"log":{"version":"1.2","entries":[`+entry), &repeated{unit: []byte("," + entry), n: n - 1}, strings.NewReader("]}}"))
}

type repeated struct {
	unit []byte
	n    int
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.n <= 0 {
		return 0, io.EOF
	}
	k := copy(p, r.unit[r.at:])
	if r.at += k; r.at == len(r.unit) {
		r.at = 0
		r.n--
	}
	return k, nil
}

// TestObservedBounds: traffic that is nothing but messages of interest is judged up
// to the bound, and the report says how many were left out.
func TestObservedBounds(t *testing.T) {
	var s story
	s.discovery()
	head := harOf(t, s.list)
	entry := `,{"request":{"method":"POST","url":"https://as.example/token","headers":[],"postData":{"text":"grant_type=refresh_token&refresh_token=rrrrrrrrrr&client_id=c1"}},"response":{"status":400,"headers":[],"content":{"text":"{}"}}}`
	const more = 30_000
	o := audit.Observe()
	err := o.ReadHAR(t.Context(), "f.har", io.MultiReader(bytes.NewReader(head[:bytes.LastIndexByte(head, ']')]), &repeated{unit: []byte(entry), n: more}, strings.NewReader("]}}")))
	if err != nil {
		t.Fatal(err)
	}
	all, kept := o.Seen()
	r, err := o.Report(audit.ObservedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("partial: %d messages beyond the bound were not judged", all-kept); all != more+len(s.list) || kept >= all || !strings.Contains(r.Target.Detail, want) {
		t.Errorf("%d of %d kept, %q", kept, all, r.Target.Detail)
	}
}

// peak begins to watch the memory of the process; the function it returns reports
// the most that was resident since. Linux only; elsewhere nothing is reported.
func peak(b *testing.B) func() {
	debug.FreeOSMemory()
	if os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) != nil {
		return func() {}
	}
	return func() {
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			var kb float64
			if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
				b.ReportMetric(kb/1024, "MB-peak")
			}
		}
	}
}

// BenchmarkReadHAR reads one GB (audit.md 8: at most 10 s and 200 MB).
func BenchmarkReadHAR(b *testing.B) {
	b.SetBytes(1 << 30)
	defer peak(b)()
	for b.Loop() {
		if err := audit.Observe().ReadHAR(b.Context(), "f.har", manyEntries(1<<30/20000, 20000)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadHARTiny reads ten million entries.
func BenchmarkReadHARTiny(b *testing.B) {
	defer peak(b)()
	for b.Loop() {
		o := audit.Observe()
		if err := o.ReadHAR(b.Context(), "f.har", manyEntries(10_000_000, 0)); err != nil {
			b.Fatal(err)
		}
		if n, kept := o.Seen(); n != 10_000_000 || kept != 0 {
			b.Fatal(n, kept)
		}
	}
}
