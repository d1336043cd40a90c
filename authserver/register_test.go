package authserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/limit"
)

// manage calls RFC 7592.
func (w *world) manage(method, uri, token string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, uri, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var m json.RawMessage
	_ = json.NewDecoder(resp.Body).Decode(&m) // a 204 has no body
	return answer{resp, string(m)}
}

// TestGRG1_RFC7591Example registers the example of RFC 7591 §3.1 and reads it
// back.
func TestGRG1_RFC7591Example(t *testing.T) {
	w := newWorld(t, nil)
	a := w.postJSON("/register", `{"redirect_uris":["https://client.example.org/callback","https://client.example.org/callback2"],
		"client_name":"My Example Client","client_name#ja-Jpan-JP":"\u30AF\u30E9\u30A4\u30A2\u30F3\u30C8\u540D",
		"token_endpoint_auth_method":"client_secret_basic","logo_uri":"https://client.example.org/logo.png",
		"jwks_uri":"https://client.example.org/my_public_keys.jwks","example_extension_parameter":"example_value"}`)
	if a.StatusCode != http.StatusCreated || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatal(a.StatusCode, a.body)
	}
	m := a.json(t)
	if m["client_name#ja-Jpan-JP"] != "クライアント名" || m["client_secret"] == "" || m["client_secret_expires_at"].(float64) == 0 || m["logo_uri"] != "https://client.example.org/logo.png" {
		t.Fatal(m)
	}
	if strings.HasPrefix(m["client_id"].(string), "https://") {
		t.Fatal("a generated id looks like a document's")
	}
	back := w.manage("GET", m["registration_client_uri"].(string), m["registration_access_token"].(string))
	n := back.json(t)
	if back.StatusCode != 200 || n["client_name#ja-Jpan-JP"] != "クライアント名" || n["client_secret"] != nil || n["client_id"] != m["client_id"] {
		t.Fatal(back.body)
	}
	// The name is shown in the reader's language.
	x := &app{w: w, id: m["client_id"].(string), redirect: "https://client.example.org/callback", verifier: strings.Repeat("v", 43)}
	if page := w.person().get("/authorize?"+x.params().Encode(), "Accept-Language", "ja"); !strings.Contains(page.body, "クライアント名") || !strings.Contains(page.body, "未確認") {
		t.Fatal(page.body)
	}
}

// TestE20_RegistrationManagement: only the own token, only GET and DELETE.
func TestE20_RegistrationManagement(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.register("One", "http://127.0.0.1/one"), w.register("Two", "http://127.0.0.1/two")
	uri := w.url + "/register/" + a.id
	for _, token := range []string{"", "kdm_wrong", b.manage, a.manage + "x"} {
		for _, method := range []string{"GET", "DELETE"} {
			if r := w.manage(method, uri, token); r.StatusCode != 401 {
				t.Fatalf("%s with %q: %d", method, token, r.StatusCode)
			}
		}
	}
	if r := w.manage("PUT", uri, a.manage); r.StatusCode != 405 {
		t.Fatal(r.StatusCode)
	}
	m := a.tokens(w.person())
	if r := w.manage("DELETE", uri, a.manage); r.StatusCode != 204 {
		t.Fatal(r.StatusCode, r.body)
	}
	if r := w.manage("GET", uri, a.manage); r.StatusCode != 401 {
		t.Fatal(r.StatusCode)
	}
	wantPage(t, w.browser().get("/authorize?"+a.params().Encode()), 400)
	wantError(t, a.token(a.refreshForm(m["refresh_token"].(string))), 401, "invalid_client")
	if live(t, w.s, m["access_token"].(string)) {
		t.Fatal("the token outlived its client")
	}
}

// TestGRG1_Refusals: E13, E14, E17, E18 and what else a registration must not be.
func TestGRG1_Refusals(t *testing.T) {
	w := newWorld(t, nil)
	base := func(pairs ...any) map[string]any {
		return with(map[string]any{"client_name": "Probe", "redirect_uris": []string{"http://127.0.0.1:1/cb"}, "token_endpoint_auth_method": "none"}, pairs...)
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprintf("http://127.0.0.1/%d", i)
	}
	for name, c := range map[string]struct {
		body any
		code string
	}{
		"E13 javascript":       {base("redirect_uris", []string{"javascript:void(0)//x"}), "invalid_redirect_uri"},
		"E13 data":             {base("redirect_uris", []string{"data:text/plain,x"}), "invalid_redirect_uri"},
		"E13 no dot":           {base("redirect_uris", []string{"kidoban:/cb"}), "invalid_redirect_uri"},
		"E13 beside a good":    {base("redirect_uris", []string{"http://127.0.0.1/ok", "vbscript:x"}), "invalid_redirect_uri"},
		"F1-b http":            {base("redirect_uris", []string{"http://app.example/cb"}), "invalid_redirect_uri"},
		"F1-d userinfo":        {base("redirect_uris", []string{"https://good.example@evil.example/"}), "invalid_redirect_uri"},
		"F1-d loopback suffix": {base("redirect_uris", []string{"http://127.0.0.1.evil.example/"}), "invalid_redirect_uri"},
		"F1-d backslash":       {base("redirect_uris", []string{`https://evil.example\@good.example/`}), "invalid_redirect_uri"},
		"fragment":             {base("redirect_uris", []string{"https://a.example/#x"}), "invalid_redirect_uri"},
		"wildcard":             {base("redirect_uris", []string{"https://*.example/"}), "invalid_redirect_uri"},
		"none":                 {base("redirect_uris", []string{}), "invalid_redirect_uri"},
		"E17 200 URIs":         {base("redirect_uris", many), "invalid_redirect_uri"},
		"E17 64 kB":            {base("client_uri", "https://a.example/"+strings.Repeat("x", 70_000)), "invalid_request"},
		"E14 client_uri":       {base("client_uri", "javascript:void(0)"), "invalid_client_metadata"},
		"E14 logo http":        {base("logo_uri", "http://a.example/l.png"), "invalid_client_metadata"},
		"E14 long name":        {base("client_name", strings.Repeat("n", 10_000)), "invalid_client_metadata"},
		"E14 bidi name":        {base("client_name", "abc\u202ecba"), "invalid_client_metadata"},
		"E14 zero width":       {base("client_name", "a\u200bb"), "invalid_client_metadata"},
		"E14 newline":          {base("client_name", "a\nb"), "invalid_client_metadata"},
		"E14 localized bidi":   {base("client_name#ja", "a\u2066b"), "invalid_client_metadata"},
		"E14 filler":           {base("client_name", "a\u3164b"), "invalid_client_metadata"},
		"E18 machine grants":   {base("grant_types", []string{"client_credentials", "password"}), "invalid_client_metadata"},
		"implicit":             {base("response_types", []string{"token"}), "invalid_client_metadata"},
		"unknown method":       {base("token_endpoint_auth_method", "tls_client_auth"), "invalid_client_metadata"},
		"key without keys":     {base("token_endpoint_auth_method", "private_key_jwt"), "invalid_client_metadata"},
		"wrong type":           {base("redirect_uris", 7), "invalid_client_metadata"},
		"contacts":             {base("contacts", []string{"1", "2", "3", "4", "5", "6"}), "invalid_client_metadata"},
		"duplicate member":     {`{"redirect_uris":["http://127.0.0.1/a"],"redirect_uris":["https://evil.example/"]}`, "invalid_client_metadata"},
		"no object":            {`[]`, "invalid_client_metadata"},
		"no JSON":              {`x`, "invalid_client_metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.postJSON("/register", c.body)
			if a.StatusCode != 400 && a.StatusCode != 413 || a.json(t)["error"] != c.code {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	if a := w.browser().post("/register", url.Values{"client_name": {"x"}}); a.StatusCode != 400 {
		t.Fatal(a.StatusCode)
	}
}

// TestGRG2_ScopesOfAnonymousClients: E18, E30. What is outside the allow-list is
// dropped, the answer says what is left, and what a client registered with is
// not its ceiling.
func TestGRG2_ScopesOfAnonymousClients(t *testing.T) {
	w := newWorld(t, nil)
	a := w.postJSON("/register", map[string]any{"client_name": "P", "redirect_uris": []string{loopback}, "token_endpoint_auth_method": "none",
		"scope": "mcp:read admin * openid mcp:destroy", "grant_types": []string{"authorization_code", "client_credentials", "refresh_token"},
		"require_pkce": false, "skip_consent": true, "access_token_ttl": 999999})
	m := a.json(t)
	if a.StatusCode != 201 || m["scope"] != "mcp:read" || m["skip_consent"] != nil || m["require_pkce"] != nil || strings.Contains(a.body, "client_credentials") {
		t.Fatal(a.body)
	}
	x := &app{w: w, id: m["client_id"].(string), redirect: loopback, verifier: strings.Repeat("v", 43)}
	alice := w.person()
	page := alice.get("/authorize?" + set(x.params(), "scope", "mcp:read mcp:write mcp:destroy").Encode())
	if got := strings.Join(scopesOf(page), " "); got != "mcp:read mcp:write" {
		t.Fatal(got)
	}
	// Nor can the form widen it.
	v := page.hidden()
	v["scope_choice"] = []string{"mcp:read", "mcp:destroy"}
	v.Set("decision", "approve")
	tok := x.token(x.redeemForm(alice.post("/authorize/consent", v).location(t).Query().Get("code"))).json(t)
	if tok["scope"] != "mcp:read" {
		t.Fatal(tok)
	}
	if !w.s.Covers([]string{"mcp:write"}, "mcp:read") || w.s.Covers([]string{"mcp:read"}, "mcp:write") {
		t.Fatal("the hierarchy is wrong")
	}
}

func TestE19_ClientAuthenticationIsEnforced(t *testing.T) {
	w := newWorld(t, nil)
	m := w.postJSON("/register", map[string]any{"client_name": "Confidential", "redirect_uris": []string{loopback}, "grant_types": []string{"authorization_code"}}).json(t)
	x := &app{w: w, id: m["client_id"].(string), redirect: loopback, secret: m["client_secret"].(string), verifier: strings.Repeat("v", 43)}
	post := func(id, secret string) answer {
		r, _ := http.NewRequest("POST", w.url+"/token", strings.NewReader(set(x.redeemForm("kdc_dummy"), "client_id", drop).Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var raw json.RawMessage
		_ = json.NewDecoder(resp.Body).Decode(&raw)
		return answer{resp, string(raw)}
	}
	wantError(t, post(x.id, x.secret), 400, "invalid_grant")
	wrong := post(x.id, x.secret+"x")
	wantError(t, wrong, 401, "invalid_client")
	if wrong.Header.Get("WWW-Authenticate") == "" {
		t.Fatal("no challenge")
	}
	wantError(t, x.token(x.redeemForm("kdc_dummy")), 401, "invalid_client")
	wantError(t, x.token(set(x.redeemForm("kdc_dummy"), "client_secret", x.secret)), 401, "invalid_client")
	// PKCE is not relaxed for it (F5-j).
	if u := w.person().get("/authorize?" + set(x.params(), "code_challenge", drop).Encode()).location(t); u.Query().Get("error") != "invalid_request" {
		t.Fatal(u)
	}
	// It did not register for refresh tokens, so it gets none.
	alice := w.person()
	r, _ := http.NewRequest("POST", w.url+"/token", strings.NewReader(set(x.redeemForm(x.code(alice, nil)), "client_id", drop).Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(x.id, x.secret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var tok map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&tok); err != nil || tok["access_token"] == nil || tok["refresh_token"] != nil {
		t.Fatal(tok, err)
	}
}

func TestGRG3_FirstSeenHostRaisesAnAlert(t *testing.T) {
	w := newWorld(t, nil)
	w.register("Local", loopback)
	if w.seen.alerted("first_seen_host") {
		t.Fatal("loopback raised an alert")
	}
	w.register("Remote", "https://callback.example/x")
	w.register("Remote again", "https://callback.example/y")
	n := 0
	for _, a := range w.seen.alerts {
		if a.Kind == "first_seen_host" {
			n++
			if a.Subject != "callback.example" || a.Do == "" {
				t.Fatalf("%+v", a)
			}
		}
	}
	if n != 1 {
		t.Fatalf("%d alerts", n)
	}
	hosts, err := w.store.Hosts(t.Context(), 10)
	if err != nil || len(hosts) != 2 {
		t.Fatalf("%+v %v", hosts, err)
	}
	stored, err := w.store.Alerts(t.Context(), 10)
	if err != nil || len(stored) != 1 {
		t.Fatalf("%+v %v", stored, err)
	}
}

// TestGRG4_BannedHostInTwelveDisguises bans a callback and comes back.
func TestGRG4_BannedHostInTwelveDisguises(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x := w.register("Phish", "https://evil.example/cb")
	m := x.tokens(alice)
	waiting := x.code(alice, nil)
	page := alice.get("/authorize?" + x.params().Encode())
	n, err := w.s.Ban(t.Context(), authserver.DenyHost, "EVIL.example.", "phishing", "admin")
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if live(t, w.s, m["access_token"].(string)) {
		t.Fatal("the grant lives")
	}
	if a := x.token(x.refreshForm(m["refresh_token"].(string))); a.StatusCode < 400 {
		t.Fatal(a.body)
	}
	if a := x.token(x.redeemForm(waiting)); a.StatusCode < 400 {
		t.Fatal("a code from before the ban works")
	}
	wantPage(t, alice.approve(page), 403) // a consent page that was open
	wantPage(t, alice.get("/authorize?"+x.params().Encode()), 403)
	for i, u := range []string{"https://evil.example/cb", "https://EVIL.example/cb", "https://evil.example./cb", "https://evil.example:8443/cb", "https://evil.example/cb/sub",
		"https://evil.example/%63b", "https://evil.example//cb", "https://evil.example/other", "https://sub.evil.example/cb", "https://evil.example/cb?x=1",
		"https://evil.example/CB", "https://evil.example/cb;x", "https://a.b.EVIL.EXAMPLE:443/"} {
		a := w.postJSON("/register", map[string]any{"client_name": fmt.Sprint("Back ", i), "redirect_uris": []string{u}})
		if a.StatusCode != 400 || a.json(t)["error"] != "invalid_redirect_uri" {
			t.Errorf("%s came back: %d %s", u, a.StatusCode, a.body)
		}
	}
	if !w.seen.alerted("denied_registration") {
		t.Error("no alert")
	}
	w.register("Good", "https://good-evil.example/cb") // another domain
	list := w.s.DenyList()
	if err := w.s.Unban(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	w.register("Back", "https://evil.example/cb")
	// By URL: its sub-paths too, other paths not.
	if _, err := w.s.Ban(t.Context(), authserver.DenyURL, "https://shared.example/u/mallory", "x", "admin"); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[string]int{"https://shared.example/u/mallory/cb": 400, "https://shared.example:444/U/%6dallory": 400, "https://shared.example/u/mallory2": 201, "https://shared.example/u/alice": 201} {
		if a := w.postJSON("/register", map[string]any{"client_name": "U", "redirect_uris": []string{u}}); a.StatusCode != want {
			t.Errorf("%s: %d", u, a.StatusCode)
		}
	}
	if _, err := w.s.Ban(t.Context(), authserver.DenyHost, "127.0.0.1", "x", "admin"); err == nil {
		t.Error("loopback was banned for everybody")
	}
	// By client, on another replica too.
	y := w.register("One", "http://127.0.0.1/one")
	if _, err := w.s.Ban(t.Context(), authserver.DenyClient, y.id, "x", "admin"); err != nil {
		t.Fatal(err)
	}
	wantPage(t, alice.get("/authorize?"+y.params().Encode()), 403)
}

// TestGRG4_BanByConfiguration: an entry in a reloaded configuration ends grants.
func TestGRG4_BanByConfiguration(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Phish", "https://evil.example/cb")
	m := x.tokens(w.person())
	cfg := w.cfg
	cfg.Registration.Deny = []authserver.DenyRule{{Kind: "host", Pattern: "*.evil.example", Reason: "phishing"}}
	if err := w.s.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if live(t, w.s, m["access_token"].(string)) {
		t.Fatal("the grant lives")
	}
	if a := w.postJSON("/register", map[string]any{"client_name": "B", "redirect_uris": []string{"https://a.evil.example/"}}); a.StatusCode != 400 {
		t.Fatal(a.StatusCode)
	}
	cfg.Issuer = "https://elsewhere.example"
	if err := w.s.Reload(t.Context(), cfg); err == nil {
		t.Fatal("the issuer changed while running")
	}
	cfg = w.cfg
	cfg.Tokens.Alg = "none"
	if err := w.s.Reload(t.Context(), cfg); err == nil || w.postJSON("/register", map[string]any{"client_name": "B", "redirect_uris": []string{"https://evil.example/"}}).StatusCode != 400 {
		t.Fatal("a bad configuration changed something")
	}
}

func TestGRG5_RegistrationIsIdempotentAndEnds(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.register("Same", loopback), w.register("Same", loopback)
	if a.id != b.id || a.manage == b.manage {
		t.Fatal("the same registration twice gave two clients, or one token")
	}
	// One registrant's goodbye is not the other's.
	if r := w.manage("DELETE", w.url+"/register/"+a.id, a.manage); r.StatusCode != 204 {
		t.Fatal(r.StatusCode)
	}
	alice := w.person()
	b.tokens(alice)
	if c := w.register("Same", loopback); c.id == b.id {
		t.Fatal("a client that people approved was shared with a newcomer")
	}
	w.clock.forward(2 * time.Hour)
	short := w.register("Short", "http://127.0.0.1/short")
	w.clock.forward(time.Hour + time.Minute)
	wantPage(t, w.browser().get("/authorize?"+short.params().Encode()), 400)
	if page := w.browser().get("/authorize?" + b.params().Encode()); page.StatusCode != 200 {
		t.Fatal("the approved client is gone too")
	}
	w.clock.forward(91 * 24 * time.Hour)
	wantPage(t, w.browser().get("/authorize?"+b.params().Encode()), 400)
}

func TestGRG5_LimitsPerAddressPrefixAndAll(t *testing.T) {
	var from netip.Addr
	w := newWorld(t, func(w *world) {
		l := limit.Defaults()
		l.RegistrationPerIP.Count, l.RegistrationPerIP.Burst = 5, 5
		l.RegistrationPerPrefix.Count, l.RegistrationPerPrefix.Burst = 8, 8
		l.RegistrationGlobal.Count, l.RegistrationGlobal.Burst = 20, 20
		w.cfg.Limits = l
		w.cfg.Registration.MaxPending = 15
		w.deps.Address = func(*http.Request) netip.Addr { return from }
	})
	n := 0
	try := func(addr string) int {
		from = netip.MustParseAddr(addr)
		n++
		a := w.postJSON("/register", map[string]any{"client_name": fmt.Sprint("c", n), "redirect_uris": []string{fmt.Sprintf("http://127.0.0.1/%d", n)}})
		if a.StatusCode == 429 && a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return a.StatusCode
	}
	count := func(times int, addr func(i int) string) (ok int) {
		for i := range times {
			if try(addr(i)) == 201 {
				ok++
			}
		}
		return ok
	}
	if got := count(10, func(int) string { return "198.51.100.1" }); got != 5 {
		t.Fatalf("%d from one address", got)
	}
	if got := count(10, func(i int) string { return fmt.Sprint("198.51.100.", 10+i) }); got != 3 {
		t.Fatalf("%d more from one network", got)
	}
	if got := count(30, func(i int) string { return fmt.Sprintf("203.0.%d.1", i) }); got != 7 {
		t.Fatalf("%d more in all: the ceiling is 15", got)
	}
	if got := try("2001:db8::1"); got != 503 && got != 429 {
		t.Fatal(got)
	}
	if !w.seen.alerted("registration_burst") || !w.seen.alerted("registrations_full") {
		t.Fatal("no alert")
	}
}

// TestGRG7_Impersonation: E14. A borrowed name with a foreign callback is
// refused, in disguise too; the same name on loopback is a claim like any other.
func TestGRG7_Impersonation(t *testing.T) {
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		name, redirect string
		ok             bool
	}{
		"foreign":               {"Claude", "https://evil.example/cb", false},
		"foreign, longer":       {"Claude Desktop Connector", "https://evil.example/cb", false},
		"case":                  {"CLAUDE", "https://evil.example/cb", false},
		"spaces":                {"Chat GPT", "https://evil.example/cb", false},
		"Cyrillic":              {"Сlаudе", "https://evil.example/cb", false},
		"Cyrillic on loopback":  {"Сlаudе", loopback, false},
		"Greek":                 {"Cursοr", "https://evil.example/cb", false},
		"full width":            {"Claude", "https://evil.example/cb", false},
		"digits":                {"C1aude", "https://evil.example/cb", false},
		"accents":               {"Cláude", "https://evil.example/cb", false},
		"math letters":          {"𝐂𝐥𝐚𝐮𝐝𝐞", "https://evil.example/cb", false},
		"own host":              {"Claude", "https://claude.ai/api/mcp/auth_callback", true},
		"suffix is not own":     {"Claude", "https://claude.ai.evil.example/cb", false},
		"on loopback":           {"Claude Code (files)", loopback, true},
		"app scheme":            {"Cursor", "cursor://anysphere.cursor-mcp/oauth/callback", true},
		"part of another word":  {"Precursor", "https://precursor.example/cb", true},
		"spelled out":           {"C u r 5 0 r", "https://evil.example/cb", false},
		"a number is no word":   {"flood 90053", "https://numbers.example/cb", true},
		"unrelated":             {"Tanaka's tools", "https://tanaka.example/cb", true},
		"Japanese":              {"田中さんのツール", "https://tanaka.example/cb", true},
		"one foreign among own": {"Claude", "https://claude.ai/cb", true},
	} {
		a := w.postJSON("/register", map[string]any{"client_name": c.name, "redirect_uris": []string{c.redirect}})
		if (a.StatusCode == 201) != c.ok {
			t.Errorf("%s: %q at %s: %d %s", name, c.name, c.redirect, a.StatusCode, a.body)
		}
	}
	a := w.postJSON("/register", map[string]any{"client_name": "Tool", "client_name#ja": "Claude", "redirect_uris": []string{"https://evil.example/"}})
	if a.StatusCode != 400 {
		t.Error("a localized name was not looked at")
	}
	flag := newWorld(t, func(w *world) { w.cfg.Registration.Impersonation = "flag" })
	x := flag.register("Claude", "https://evil.example/cb")
	if page := flag.person().get("/authorize?" + x.params().Encode()); !strings.Contains(page.body, "reads like that of a well-known program") {
		t.Error(page.body)
	}
}

// TestGRG8_CampaignRaisesAnAlert: several people approve one new client within
// minutes; a client that each of them has for itself raises none.
func TestGRG8_CampaignRaisesAnAlert(t *testing.T) {
	w := newWorld(t, nil)
	people := []*browser{w.person(), w.another("bob"), w.another("carol")}
	for i, b := range people {
		w.register(fmt.Sprint("Own ", i), fmt.Sprintf("http://127.0.0.1/%d", i)).tokens(b)
	}
	if w.seen.alerted("consent_campaign") {
		t.Fatal("a normal day raised an alert")
	}
	phish := w.register("Phish", "https://phish.example/cb")
	for _, b := range people {
		phish.tokens(b)
	}
	if !w.seen.alerted("consent_campaign") {
		t.Fatal("no alert")
	}
}

// TestGRG1_F1a: by default a stranger's client cannot return to a stranger's
// host. Hosted clients in wide use can, and so can client documents.
func TestGRG1_F1a_RemoteHostsByDefault(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Registration.RemoteHosts = nil })
	for u, want := range map[string]int{"https://anything.example/cb": 400, "https://claude.ai/api/mcp/auth_callback": 201, "https://claude.ai.evil.example/": 400,
		loopback: 201, "http://localhost:3334/oauth/callback": 201, "cursor://anysphere.cursor-mcp/cb": 201} {
		if a := w.postJSON("/register", map[string]any{"client_name": "X", "redirect_uris": []string{u}}); a.StatusCode != want {
			t.Errorf("%s: %d", u, a.StatusCode)
		}
	}
}

func TestRemoteHostsPolicy(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Registration.RemoteHosts = []string{"claude.ai", ".corp.example"} })
	for u, want := range map[string]int{"https://claude.ai/cb": 201, "https://x.claude.ai/cb": 400, "https://a.corp.example/": 201, "https://corp.example/": 201,
		"https://evilcorp.example/": 400, loopback: 201, "https://evil.example/?https://claude.ai": 400} {
		if a := w.postJSON("/register", map[string]any{"client_name": "X", "redirect_uris": []string{u}}); a.StatusCode != want {
			t.Errorf("%s: %d", u, a.StatusCode)
		}
	}
}
