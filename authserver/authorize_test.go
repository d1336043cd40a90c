package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/authserver"
)

// TestGAS1_AuthorizeRefusals is every refusal that may be sent to a good client's
// redirect URI: with the right code, the state, and iss (AS-06, E12).
func TestGAS1_AuthorizeRefusals(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	for name, c := range map[string]struct {
		change []string
		code   string
	}{
		"F5-a no challenge":         {[]string{"code_challenge", drop, "code_challenge_method", drop}, "invalid_request"},
		"F5-b plain":                {[]string{"code_challenge_method", "plain"}, "invalid_request"},
		"F5-c no method":            {[]string{"code_challenge_method", drop}, "invalid_request"},
		"F5-d s256":                 {[]string{"code_challenge_method", "s256"}, "invalid_request"},
		"F5-d S512":                 {[]string{"code_challenge_method", "S512"}, "invalid_request"},
		"F5-d empty":                {[]string{"code_challenge_method", ""}, "invalid_request"},
		"challenge too short":       {[]string{"code_challenge", "abc"}, "invalid_request"},
		"E26 token":                 {[]string{"response_type", "token"}, "unsupported_response_type"},
		"E26 code token":            {[]string{"response_type", "code token"}, "unsupported_response_type"},
		"E26 id_token":              {[]string{"response_type", "id_token"}, "unsupported_response_type"},
		"no response_type":          {[]string{"response_type", drop}, "invalid_request"},
		"F7-15 fragment":            {[]string{"response_mode", "fragment"}, "invalid_request"},
		"F7-15 form_post":           {[]string{"response_mode", "form_post"}, "invalid_request"},
		"F7-15 web_message":         {[]string{"response_mode", "web_message"}, "invalid_request"},
		"unknown resource":          {[]string{"resource", "https://elsewhere.example/mcp"}, "invalid_target"},
		"resource is no URL":        {[]string{"resource", "mcp"}, "invalid_target"},
		"no scope left":             {[]string{"scope", "admin openid"}, "invalid_scope"},
		"offline alone":             {[]string{"scope", "offline_access"}, "invalid_scope"},
		"scope syntax":              {[]string{"scope", "mcp:read\"x"}, "invalid_scope"},
		"prompt none, no login":     {[]string{"prompt", "none"}, "login_required"},
		"prompt none and more":      {[]string{"prompt", "none login"}, "invalid_request"},
		"authorization details":     {[]string{"authorization_details", "[]"}, "invalid_authorization_details"},
		"dpop_jkt":                  {[]string{"dpop_jkt", "x"}, "invalid_request"},
		"reserved for others":       {[]string{"scope", "mcp:destroy"}, "invalid_scope"},
		"state of more than 4096 b": {[]string{"state", strings.Repeat("s", 5000)}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST"} {
				v := set(x.params(), c.change...)
				a := answer{}
				if method == "GET" {
					a = w.browser().get("/authorize?" + v.Encode())
				} else {
					a = w.browser().post("/authorize", v)
				}
				u := a.location(t)
				q := u.Query()
				if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(u.String(), loopback+"?") || q.Get("error") != c.code || q.Get("iss") != w.url || q.Has("code") {
					t.Fatalf("%s: %d %s", method, a.StatusCode, u)
				}
				if len(v.Get("state")) < 4096 && q.Get("state") != "st-ate" {
					t.Fatalf("state %q", q.Get("state"))
				}
			}
		})
	}
}

// TestGAS1_AuthorizeErrorPages is every refusal that must never leave the server
// (AS-10, F2).
func TestGAS1_AuthorizeErrorPages(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	for name, c := range map[string]struct {
		query  string
		status int
	}{
		"F2 unknown client":       {set(x.params(), "client_id", "Xk3v9Qm2Lr8Tz5Wp1Nc7Hd4Jf6Bs0Gy").Encode(), 400},
		"F2 one character":        {set(x.params(), "client_id", x.id[:len(x.id)-1]+"-").Encode(), 400},
		"F2 no client":            {set(x.params(), "client_id", drop).Encode(), 400},
		"unknown redirect":        {set(x.params(), "redirect_uri", "https://evil.example/").Encode(), 400},
		"no redirect":             {set(x.params(), "redirect_uri", drop).Encode(), 400},
		"repeated parameter":      {x.params().Encode() + "&state=again", 400},
		"repeated redirect":       {x.params().Encode() + "&redirect_uri=https%3A%2F%2Fevil.example", 400},
		"null character":          {set(x.params(), "state", "a\x00b").Encode(), 400},
		"not UTF-8":               {set(x.params(), "client_id", "\xff\xfe").Encode(), 400},
		"request object":          {set(x.params(), "request", "eyJ").Encode(), 400},
		"request_uri of others":   {set(x.params(), "request_uri", "https://evil.example/r").Encode(), 400},
		"request_uri made up":     {set(x.params(), "request_uri", "urn:ietf:params:oauth:request_uri:abc").Encode(), 400},
		"ticket made up":          {"t=abc", 400},
		"broken encoding":         {x.params().Encode() + "&%zz=1", 400},
		"E16-b http client_id":    {set(x.params(), "client_id", "http://evil.example/c.json").Encode(), 400},
		"E16-b client_id no path": {set(x.params(), "client_id", "https://evil.example").Encode(), 400},
		"E16-b fragment":          {set(x.params(), "client_id", "https://evil.example/c#x").Encode(), 400},
		"E16-b userinfo":          {set(x.params(), "client_id", "https://a@evil.example/c").Encode(), 400},
		"E16-b dots":              {set(x.params(), "client_id", "https://evil.example/a/../c").Encode(), 400},
		"E16-k private address":   {set(x.params(), "client_id", "https://10.0.0.1/c.json").Encode(), 400},
		"E16-k metadata service":  {set(x.params(), "client_id", "https://169.254.169.254/c.json").Encode(), 400},
		"longer than 16 kB":       {set(x.params(), "state", strings.Repeat("s", 20000)).Encode(), 414},
	} {
		t.Run(name, func(t *testing.T) {
			for _, b := range []*browser{w.browser(), w.person()} {
				a := b.get("/authorize?" + c.query)
				wantPage(t, a, c.status)
				id := a.Header.Get("X-Request-Id") // G-AS7: the page names the id, and the log has it
				if id == "" || !strings.Contains(a.body, id) || !w.seen.requestLogged(id) {
					t.Fatalf("request id %q", id)
				}
			}
		})
	}
}

// TestGAS3_F7Mutations sends the eighteen mutations of a redirect URI, with and
// without a login. None may lead anywhere but to a page here, or, where the
// mutation is allowed, to consent.
func TestGAS3_F7Mutations(t *testing.T) {
	const registered = "https://app.example/callback/x"
	const local = "http://127.0.0.1:4711/callback/n"
	w := newWorld(t, nil)
	remote, loop := w.register("Remote", registered), w.register("Local", local)
	alice := w.person()
	for name, uris := range map[string][]string{
		"01 foreign host":      {"https://evil.example/callback/x"},
		"02 sub-path":          {registered + "/x"},
		"03 dot segments":      {registered + "/../x", registered + "/%2e%2e/x", registered + "/..;/x", registered + "/%252e%252e%252fx"},
		"04 query":             {registered + "?a=b", registered + "&a=b"},
		"05 fragment":          {registered + "#x", registered + "%23x"},
		"06 path case, slash":  {"https://app.example/Callback/x", registered + "/", "https://app.example", "https://app.example/"},
		"07 host affixes":      {"https://app.example.evil.example/callback/x", "https://evil-app.example/callback/x", "https://a.app.example/callback/x", "https://app.example./callback/x"},
		"08 userinfo":          {"https://app.example@evil.example/callback/x", `https://evil.example\@app.example/callback/x`},
		"09 scheme":            {"http://app.example/callback/x", "HTTPS://app.example/callback/x", "evil://app.example/callback/x"},
		"10 port":              {"https://app.example:8443/callback/x", "https://app.example:443/callback/x"},
		"11 loopback aliases":  {"http://localhost:4711/callback/n", "http://[::1]:4711/callback/n", "http://2130706433:4711/callback/n", "http://0x7f.1:4711/callback/n", "http://127.0.0.1.evil.example:4711/callback/n", "http://127.0.0.1@evil.example/callback/n"},
		"17 encodings":         {"https://app.example/%63allback/x", "https://app.example//callback/x", "https://app%2eexample/callback/x", " " + registered, registered + "%00", registered + "\n"},
		"18 loopback variants": {"http://127.0.0.1:4711/callback/n/", "http://127.0.0.1:4711/callback/n?x", "https://127.0.0.1:4711/callback/n", "http://127.0.0.1:/callback/n", "http://127.0.0.1:99999/callback/n", "http://127.0.0.1:4711callback/n"},
	} {
		for _, u := range uris {
			x := remote
			if strings.Contains(u, "/n") || strings.Contains(u, "callback/n") {
				x = loop
			}
			for _, b := range []*browser{w.browser(), alice} {
				wantPage(t, b.get("/authorize?"+set(x.params(), "redirect_uri", u).Encode()), 400)
				// The error oracle: a provoked error must not be sent there either.
				wantPage(t, b.get("/authorize?"+set(x.params(), "redirect_uri", u, "response_type", "kidoban_invalid").Encode()), 400)
			}
			if t.Failed() {
				t.Fatalf("%s: %q", name, u)
			}
		}
	}
	t.Run("10 loopback port may differ", func(t *testing.T) { // RFC 8252 §7.3
		a := alice.approve(alice.get("/authorize?" + set(loop.params(), "redirect_uri", "http://127.0.0.1:59999/callback/n").Encode()))
		u := a.location(t)
		if u.Host != "127.0.0.1:59999" || u.Query().Get("code") == "" {
			t.Fatal(u)
		}
		// The code is bound to the exact URI that was used.
		wantError(t, loop.token(set(loop.redeemForm(u.Query().Get("code")), "redirect_uri", local)), 400, "invalid_grant")
		if tok := loop.token(set(loop.redeemForm(u.Query().Get("code")), "redirect_uri", "http://127.0.0.1:59999/callback/n")); tok.StatusCode != 200 {
			t.Fatal(tok.body)
		}
	})
	t.Run("12 duplicate parameter", func(t *testing.T) {
		wantPage(t, alice.get("/authorize?redirect_uri=https%3A%2F%2Fevil.example&"+remote.params().Encode()), 400)
		wantPage(t, alice.get("/authorize?"+remote.params().Encode()+"&redirect_uri=https%3A%2F%2Fevil.example"), 400)
	})
	t.Run("13 array", func(t *testing.T) {
		wantPage(t, alice.get("/authorize?"+set(remote.params(), "redirect_uri", drop, "redirect_uri[]", registered).Encode()), 400)
	})
	t.Run("14 in the form of a later step", func(t *testing.T) {
		page := alice.get("/authorize?" + remote.params().Encode())
		a := alice.approve(page, "redirect_uri", "https://evil.example/", "client_id", loop.id, "state", "changed")
		if u := a.location(t); !strings.HasPrefix(u.String(), registered+"?") || u.Query().Get("state") != "st-ate" {
			t.Fatal(u)
		}
	})
	t.Run("15 response modes", func(t *testing.T) {
		for _, m := range []string{"fragment", "form_post", "web_message", "jwt"} {
			wantPage(t, alice.get("/authorize?"+set(remote.params(), "response_mode", m).Encode()), 400)
		}
	})
	t.Run("16 omitted", func(t *testing.T) {
		wantPage(t, alice.get("/authorize?"+set(remote.params(), "redirect_uri", drop).Encode()), 400)
	})
	t.Run("17 Host header", func(t *testing.T) {
		a := alice.get("/authorize?"+loop.params().Encode(), "X-Forwarded-Host", "evil.example")
		if strings.Contains(a.body, "evil.example") {
			t.Fatal("the host of a header is on the page")
		}
	})
	t.Run("18 token request with another", func(t *testing.T) {
		code := remote.code(alice, nil)
		wantError(t, remote.token(set(remote.redeemForm(code), "redirect_uri", registered+"/x")), 400, "invalid_grant")
	})
}

// TestGAS3_NoOpenRedirector: an error for an anonymous remote client is a page
// with a link, never a redirect, also for people who are logged in (E27, AS-11).
func TestGAS3_NoOpenRedirector(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Phish", "https://landing.example/page")
	for _, b := range []*browser{w.browser(), w.person()} {
		a := b.get("/authorize?" + set(x.params(), "scope", "nonsense").Encode())
		wantPage(t, a, 400)
		if !strings.Contains(a.body, `href="https://landing.example/page?error=invalid_scope`) {
			t.Fatal(a.body)
		}
		a = b.get("/authorize?" + set(x.params(), "prompt", "none").Encode())
		wantPage(t, a, 400)
	}
}

func TestResourceIsFoundInEverySpelling(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x := w.register("Client", loopback)
	upper := strings.Replace(w.url, "http://", "HTTP://", 1)
	for _, r := range []string{w.url + "/mcp", w.url + "/mcp/", upper + "/mcp", ""} {
		a := alice.get("/authorize?" + set(x.params(), "resource", r).Encode())
		if a.StatusCode != 200 || !strings.Contains(a.body, w.url+"/mcp") {
			t.Errorf("%q: %d", r, a.StatusCode)
		}
	}
	two := set(x.params())
	two["resource"] = []string{w.url + "/mcp", w.url + "/s/files/mcp"}
	if u := alice.get("/authorize?" + two.Encode()).location(t); u.Query().Get("error") != "invalid_target" {
		t.Error(u)
	}
}

func TestGAS8_PushedAuthorizationRequests(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x := w.register("Client", loopback)
	a := w.browser().post("/par", x.params())
	if a.StatusCode != http.StatusCreated {
		t.Fatal(a.body)
	}
	uri := a.json(t)["request_uri"].(string)
	q := url.Values{"client_id": {x.id}, "request_uri": {uri}}
	page := alice.get("/authorize?" + q.Encode())
	code := alice.approve(page).location(t).Query().Get("code")
	if tok := x.token(x.redeemForm(code)); tok.StatusCode != 200 {
		t.Fatal(tok.body)
	}
	// Through a login too.
	fresh := w.browser()
	v := fresh.get("/authorize?" + q.Encode()).hidden()
	v.Set("name", w.admin)
	v.Set("password", password)
	back := fresh.post("/login", v).Header.Get("Location")
	if page := fresh.get(back); !strings.Contains(page.body, "scope_choice") {
		t.Fatal(page.body)
	}
	wantPage(t, alice.get("/authorize?"+set(q, "client_id", w.register("Other", "http://127.0.0.1/o").id).Encode()), 400)
	wantError(t, w.browser().post("/par", set(x.params(), "redirect_uri", "https://evil.example/")), 400, "invalid_redirect_uri")
	wantError(t, w.browser().post("/par", set(x.params(), "code_challenge_method", "plain")), 400, "invalid_request")
	wantError(t, w.browser().post("/par", set(x.params(), "request_uri", uri)), 400, "invalid_request")
	w.clock.forward(2 * 60e9)
	wantPage(t, alice.get("/authorize?"+q.Encode()), 400)
}

func TestConfigIsCheckedWhole(t *testing.T) {
	c := authserver.Config{Issuer: "http://public.example/", Resources: []authserver.Resource{{URI: "HTTPS://A/"}},
		Tokens: authserver.Tokens{Access: 1e15, Alg: "none"}, Registration: authserver.Registration{CIMDMode: "x", Deny: []authserver.DenyRule{{Kind: "host", Pattern: "localhost"}}},
		Clients: []authserver.PreRegistered{{ID: "a", AuthMethod: "client_secret_basic", Secret: "short"}}, Login: authserver.Login{Providers: []authserver.Provider{{ID: "Bad Id"}}}}
	err := c.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n < 8 {
		t.Fatalf("%d problems named:\n%v", n, err)
	}
}
