package authserver_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/oauth"
)

// TestGAS7_TokenErrors: every refusal of the token endpoint has its right code.
func TestGAS7_TokenErrors(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x, other := w.register("Client", loopback), w.register("Other", "http://127.0.0.1/other")
	tok := x.tokens(alice)
	refresh, access := tok["refresh_token"].(string), tok["access_token"].(string)
	for name, c := range map[string]struct {
		form   url.Values
		status int
		code   string
	}{
		"no grant":                 {set(x.refreshForm(refresh), "grant_type", drop), 400, "invalid_request"},
		"E26 password":             {set(x.refreshForm(refresh), "grant_type", "password"), 400, "unsupported_grant_type"},
		"E26 token exchange":       {set(x.refreshForm(refresh), "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), 400, "unsupported_grant_type"},
		"ID-JAG without IdPs":      {set(x.refreshForm(refresh), "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), 400, "unsupported_grant_type"},
		"no client":                {set(x.refreshForm(refresh), "client_id", drop), 400, "invalid_request"},
		"unknown client":           {set(x.refreshForm(refresh), "client_id", "nobody"), 401, "invalid_client"},
		"secret of a public one":   {set(x.refreshForm(refresh), "client_secret", "x"), 401, "invalid_client"},
		"assertion of a public":    {set(x.refreshForm(refresh), "client_assertion", "x", "client_assertion_type", "y"), 401, "invalid_client"},
		"E22-3 refresh of another": {set(x.refreshForm(refresh), "client_id", other.id), 400, "invalid_grant"},
		"E22-4 wider scope":        {set(x.refreshForm(refresh), "scope", "mcp:read mcp:write"), 400, "invalid_scope"},
		"E22-4 other resource":     {set(x.refreshForm(refresh), "resource", w.url+"/s/files/mcp"), 400, "invalid_target"},
		"unknown resource":         {set(x.refreshForm(refresh), "resource", "https://x.example/"), 400, "invalid_target"},
		"E22-5 access as refresh":  {x.refreshForm(access), 400, "invalid_grant"},
		"unknown refresh":          {x.refreshForm("kdr_" + strings.Repeat("A", 43)), 400, "invalid_grant"},
		"no refresh":               {x.refreshForm(""), 400, "invalid_request"},
		"unknown code":             {x.redeemForm("kdc_unknown"), 400, "invalid_grant"},
		"no code":                  {x.redeemForm(""), 400, "invalid_request"},
		"client_credentials":       {set(x.refreshForm(""), "grant_type", "client_credentials"), 400, "unauthorized_client"},
	} {
		t.Run(name, func(t *testing.T) {
			a := x.token(c.form)
			wantError(t, a, c.status, c.code)
			if a.Header.Get("Cache-Control") != "no-store" || !w.seen.requestLogged(a.json(t)["request_id"].(string)) {
				t.Fatal("no-store or the request id is missing")
			}
		})
	}
	t.Run("repeated parameter", func(t *testing.T) {
		v := x.refreshForm(refresh)
		v["refresh_token"] = []string{refresh, refresh}
		wantError(t, x.token(v), 400, "invalid_request")
	})
	t.Run("JSON body", func(t *testing.T) { wantError(t, w.postJSON("/token", "{}"), 400, "invalid_request") })
	t.Run("too large", func(t *testing.T) {
		wantError(t, x.token(set(x.refreshForm(refresh), "x", strings.Repeat("y", 70_000))), 413, "invalid_request")
	})
	t.Run("GET", func(t *testing.T) {
		if a := w.browser().get("/token?" + x.refreshForm(refresh).Encode()); a.StatusCode != 405 {
			t.Fatal(a.StatusCode)
		}
	})
	t.Run("nothing above cost the client its token", func(t *testing.T) {
		if a := x.token(x.refreshForm(refresh)); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
	})
}

// TestGAS4_CodeIsBound: F5-f…i, F9-5, E21, each with a fresh code.
func TestGAS4_CodeIsBound(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x, other := w.register("Client", loopback), w.register("Other", "http://127.0.0.1/other")
	good := func(t *testing.T, code string, want int) {
		t.Helper()
		if a := x.token(x.redeemForm(code)); a.StatusCode != want {
			t.Fatalf("afterwards: %d %s", a.StatusCode, a.body)
		}
	}
	t.Run("E21 another client", func(t *testing.T) {
		code := x.code(alice, nil)
		wantError(t, x.token(set(x.redeemForm(code), "client_id", other.id)), 400, "invalid_grant")
		good(t, code, 200)
	})
	t.Run("E21 no client", func(t *testing.T) {
		wantError(t, x.token(set(x.redeemForm(x.code(alice, nil)), "client_id", drop)), 400, "invalid_request")
	})
	t.Run("F5-f no verifier", func(t *testing.T) {
		wantError(t, x.token(set(x.redeemForm(x.code(alice, nil)), "code_verifier", drop)), 400, "invalid_request")
	})
	t.Run("F5-g wrong verifier burns the code", func(t *testing.T) {
		code := x.code(alice, nil)
		wantError(t, x.token(set(x.redeemForm(code), "code_verifier", strings.Repeat("a", 43))), 400, "invalid_grant")
		good(t, code, 400)
	})
	t.Run("F5-i short verifier", func(t *testing.T) {
		short := strings.Repeat("v", 42)
		code := x.code(alice, set(x.params(), "code_challenge", oauth.S256(short)))
		wantError(t, x.token(set(x.redeemForm(code), "code_verifier", short)), 400, "invalid_grant")
	})
	t.Run("another resource", func(t *testing.T) {
		code := x.code(alice, nil)
		wantError(t, x.token(set(x.redeemForm(code), "resource", w.url+"/s/files/mcp")), 400, "invalid_target")
		good(t, code, 200)
	})
	t.Run("F9-7 lifetime", func(t *testing.T) {
		code := x.code(alice, nil)
		w.clock.forward(61 * time.Second)
		good(t, code, 400)
	})
	t.Run("redirect_uri may be left out", func(t *testing.T) { // OAuth 2.1 §4.1.3
		if a := x.token(set(x.redeemForm(x.code(alice, nil)), "redirect_uri", drop)); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
	})
}

// live asks the index that the resource server asks.
func live(t *testing.T, s *authserver.Server, token string) bool {
	t.Helper()
	c := claims(t, token)
	// A test that moves the clock makes the index stale until its next reading.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ok, err := s.Liveness().Live(c["kidoban_grant"].(string), c["jti"].(string))
		if err == nil {
			return ok
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGAS4_ReplayRevokesOnlyWithTheRightVerifier(t *testing.T) {
	w := newWorld(t, nil)
	alice := w.person()
	x := w.register("Client", loopback)
	code := x.code(alice, nil)
	tok := x.token(x.redeemForm(code)).json(t)
	access := tok["access_token"].(string)
	// F9-6: a replay with a wrong verifier must not end anything.
	wantError(t, x.token(set(x.redeemForm(code), "code_verifier", strings.Repeat("a", 50))), 400, "invalid_grant")
	if !live(t, w.s, access) || w.seen.alerted("code_replay") {
		t.Fatal("a stranger ended the grant")
	}
	// F9-2, F9-3.
	wantError(t, x.token(x.redeemForm(code)), 400, "invalid_grant")
	if live(t, w.s, access) || !w.seen.alerted("code_replay") {
		t.Fatal("the replay was not answered")
	}
	wantError(t, x.token(x.refreshForm(tok["refresh_token"].(string))), 400, "invalid_grant")
}

// parallelPosts posts the same form n times at once.
func (x *app) parallelPosts(n int, form url.Values) []answer {
	out := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = x.token(form) })
	}
	wg.Wait()
	return out
}

func TestGAS4_HundredParallelRedemptions(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	ok := 0
	for _, a := range x.parallelPosts(100, x.redeemForm(x.code(w.person(), nil))) {
		switch a.StatusCode {
		case 200:
			ok++
		default:
			wantError(t, a, 400, "invalid_grant")
		}
	}
	if ok != 1 {
		t.Fatalf("%d token pairs", ok)
	}
}

func TestGAS5_HundredParallelRefreshes(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	first := x.tokens(w.person())
	successors := map[string]bool{}
	for _, a := range x.parallelPosts(100, x.refreshForm(first["refresh_token"].(string))) {
		if a.StatusCode != 200 {
			t.Fatal(a.body)
		}
		m := a.json(t)
		successors[m["refresh_token"].(string)] = true
		if !live(t, w.s, m["access_token"].(string)) {
			t.Fatal("a fresh token is dead")
		}
	}
	if len(successors) != 1 {
		t.Fatalf("%d successors", len(successors))
	}
	if !live(t, w.s, first["access_token"].(string)) {
		t.Fatal("rotation ended the access token")
	}
}

func TestGAS5_GraceThenFamilyDeath(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	m := x.tokens(w.person())
	r1 := m["refresh_token"].(string)
	r2 := x.token(x.refreshForm(r1)).json(t)["refresh_token"].(string)
	w.clock.forward(30 * time.Second) // a response that was lost
	if again := x.token(x.refreshForm(r1)).json(t)["refresh_token"]; again != r2 {
		t.Fatalf("another successor: %v", again)
	}
	r3 := x.token(x.refreshForm(r2)).json(t)["refresh_token"].(string)
	if again := x.token(x.refreshForm(r1)).json(t)["refresh_token"]; again != r2 {
		t.Fatalf("another successor after its use: %v", again)
	}
	w.clock.forward(31 * time.Second)
	wantError(t, x.token(x.refreshForm(r1)), 400, "invalid_grant")
	if !w.seen.alerted("refresh_reuse") {
		t.Fatal("no alert")
	}
	wantError(t, x.token(x.refreshForm(r3)), 400, "invalid_grant")
	if live(t, w.s, m["access_token"].(string)) {
		t.Fatal("the access token lives")
	}
}

func TestGAS5_RefreshNarrowsAndComesBack(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	m := x.token(x.redeemForm(x.code(w.person(), set(x.params(), "scope", "mcp:read mcp:write")))).json(t)
	n := x.token(set(x.refreshForm(m["refresh_token"].(string)), "scope", "mcp:read")).json(t)
	if n["scope"] != "mcp:read" {
		t.Fatal(n)
	}
	if all := x.token(x.refreshForm(n["refresh_token"].(string))).json(t); all["scope"] != "mcp:read mcp:write" {
		t.Fatal(all)
	}
}

func TestGAS6_AccessTokenIsRFC9068(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256"} {
		w := newWorld(t, func(w *world) { w.cfg.Tokens.Alg = alg })
		x := w.register("Client", loopback)
		m := x.tokens(w.person())
		tok, err := jose.ParseSignedCompact(m["access_token"].(string), []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		h := tok.Signatures[0].Header
		if h.Algorithm != alg || h.ExtraHeaders["typ"] != "at+jwt" {
			t.Fatalf("%+v", h)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(w.browser().get("/jwks").body), &set); err != nil {
			t.Fatal(err)
		}
		keys := set.Key(h.KeyID)
		if len(keys) != 1 || !keys[0].IsPublic() {
			t.Fatalf("%+v", set)
		}
		if _, err := tok.Verify(keys[0]); err != nil {
			t.Fatal(err)
		}
		if _, ok := w.s.KeySet().Lookup(h.KeyID); !ok {
			t.Fatal("the key set does not know the key")
		}
		c := claims(t, m["access_token"].(string))
		if c["iss"] != w.url || c["aud"] != w.url+"/mcp" || c["client_id"] != x.id || c["scope"] != "mcp:read" || c["sub"] == "" || c["jti"] == "" ||
			c["exp"].(float64)-c["iat"].(float64) > 600 || m["expires_in"].(float64) > 600 {
			t.Fatal(c)
		}
		if g, err := w.store.UserGrants(t.Context(), c["sub"].(string), w.clock.now()); err != nil || len(g) != 1 || c["kidoban_until"] != float64(g[0].Expires.Unix()) {
			t.Fatalf("the grant does not end at %v: %+v %v", c["kidoban_until"], g, err)
		}
		if strings.Contains(string(mustJSON(t, c)), w.admin) {
			t.Fatal("the token tells the user's name")
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// replica starts a second server on the first one's database.
func (w *world) replica() *authserver.Server {
	w.t.Helper()
	s, err := authserver.New(w.t.Context(), w.cfg, w.deps)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

func TestGAS6_RevocationReachesEveryReplica(t *testing.T) {
	w := newWorld(t, func(w *world) { w.store = openStore(t, cluster.Postgres(t)) })
	b := w.replica()
	x := w.register("Client", loopback)
	alice := w.person()
	for name, revoke := range map[string]func(m map[string]any){
		"refresh token": func(m map[string]any) {
			if a := w.browser().post("/revoke", url.Values{"client_id": {x.id}, "token": {m["refresh_token"].(string)}}); a.StatusCode != 200 {
				t.Fatal(a.body)
			}
		},
		"access token": func(m map[string]any) {
			w.browser().post("/revoke", url.Values{"client_id": {x.id}, "token": {m["access_token"].(string)}})
		},
		"user": func(m map[string]any) {
			v := alice.get("/account").hidden()
			v.Set("do", "revoke:"+claims(t, m["access_token"].(string))["kidoban_grant"].(string))
			if a := alice.post("/account", v); a.StatusCode != 303 {
				t.Fatal(a.body)
			}
		},
		"user disabled": func(m map[string]any) {
			if err := w.s.DisableUser(t.Context(), claims(t, m["access_token"].(string))["sub"].(string), true); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if name == "user disabled" {
			continue // last, below: it ends everything
		}
		m := x.tokens(alice)
		if !live(t, b, m["access_token"].(string)) {
			t.Fatal("dead at birth")
		}
		revoke(m)
		if live(t, w.s, m["access_token"].(string)) {
			t.Fatalf("%s: alive where it was revoked", name)
		}
		// The requirement is one second; the wait is generous because machines stall.
		for deadline := time.Now().Add(time.Minute); live(t, b, m["access_token"].(string)); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: alive on the other replica", name)
			}
		}
	}
	m := x.tokens(alice)
	if err := w.s.DisableUser(t.Context(), claims(t, m["access_token"].(string))["sub"].(string), true); err != nil {
		t.Fatal(err)
	}
	if live(t, w.s, m["access_token"].(string)) {
		t.Fatal("a disabled user's token lives")
	}
	wantError(t, x.token(x.refreshForm(m["refresh_token"].(string))), 400, "invalid_grant")
	if a := alice.get("/account"); !strings.Contains(a.body, `name="password"`) || strings.Contains(a.body, "revoke_all") {
		t.Fatal("the session lives")
	}
}

// TestGAS6_LivenessFailsClosed: without the log of revocations nothing is called
// alive.
func TestGAS6_LivenessFailsClosed(t *testing.T) {
	w := newWorld(t, nil)
	m := w.register("Client", loopback).tokens(w.person())
	c := claims(t, m["access_token"].(string))
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	w.clock.forward(authserver.StaleAfter + time.Second)
	if ok, err := w.s.Liveness().Live(c["kidoban_grant"].(string), c["jti"].(string)); ok || err == nil {
		t.Fatal("a token is alive although nobody knows")
	}
}

// TestGAS6_RevocationsOfALateClockAreSeen: another replica's clock is minutes behind,
// and so is the time of what it revokes.
func TestGAS6_RevocationsOfALateClockAreSeen(t *testing.T) {
	w := newWorld(t, nil)
	access := w.register("Client", loopback).tokens(w.person())["access_token"].(string)
	if !live(t, w.s, access) {
		t.Fatal("a new token is dead")
	}
	if err := w.store.RevokeToken(t.Context(), claims(t, access)["jti"].(string), w.clock.now().Add(-4*time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.clock.forward(15 * time.Second)
	for deadline := time.Now().Add(time.Minute); live(t, w.s, access); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a revoked token is alive")
		}
	}
}

func TestGAS6_KeysRotateWithOverlap(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	alice := w.person()
	kids := map[string]bool{}
	kid := func() string {
		m := x.tokens(alice)
		tok, err := jose.ParseSignedCompact(m["access_token"].(string), []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		k := tok.Signatures[0].Header.KeyID
		if !strings.Contains(w.browser().get("/jwks").body, k) {
			t.Fatal("signed with a key that is not published")
		}
		kids[k] = true
		return k
	}
	first := kid()
	step := func(d time.Duration) { // as the background loop does, without waiting for it
		w.clock.forward(d)
		if err := w.s.RefreshKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step(29*24*time.Hour + time.Hour)
	before := w.browser().get("/jwks").body
	if strings.Count(before, `"kid"`) != 2 {
		t.Fatalf("the successor is not published a day before: %s", before)
	}
	alice = w.login(w.admin)
	x = w.register("Client", loopback)
	if kid() != first {
		t.Fatal("the successor signs too early")
	}
	step(24 * time.Hour)
	alice = w.login(w.admin)
	x = w.register("Client", loopback)
	if second := kid(); second == first || !strings.Contains(before, second) {
		t.Fatal("the successor does not sign, or was not published before")
	}
	if !strings.Contains(w.browser().get("/jwks").body, first) {
		t.Fatal("the old key is gone while its tokens live")
	}
	step(2 * 24 * time.Hour)
	if strings.Contains(w.browser().get("/jwks").body, first) {
		t.Fatal("the old key stays for ever")
	}
}

func TestE25_RevocationAndIntrospection(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Clients = []authserver.PreRegistered{{ID: "rs", Name: "Resource server", AuthMethod: "client_secret_basic", Secret: strings.Repeat("s", 40), Grants: []string{"client_credentials"}}}
		w.cfg.Introspectors = []string{"rs"}
	})
	x, other := w.register("Client", loopback), w.register("Other", "http://127.0.0.1/other")
	m := x.tokens(w.person())
	access, refresh := m["access_token"].(string), m["refresh_token"].(string)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("rs:"+strings.Repeat("s", 40)))
	active := func(token string) bool {
		a := w.browser().post("/introspect", url.Values{"token": {token}}, "Authorization", basic)
		if a.StatusCode != 200 {
			t.Fatal(a.body)
		}
		return a.json(t)["active"].(bool)
	}
	if !active(access) || !active(refresh) || active("nonsense") || active(access+"x") {
		t.Fatal("introspection is wrong")
	}
	wantError(t, w.browser().post("/introspect", url.Values{"token": {access}, "client_id": {x.id}}), 401, "invalid_client")
	wantError(t, w.browser().post("/introspect", url.Values{"token": {access}}), 400, "invalid_request")
	// A stranger's revocation changes nothing and says nothing.
	for _, token := range []string{access, refresh, "nonsense"} {
		if a := w.browser().post("/revoke", url.Values{"client_id": {other.id}, "token": {token}}); a.StatusCode != http.StatusOK || a.body != "" {
			t.Fatal(a.StatusCode, a.body)
		}
	}
	if !active(access) || !active(refresh) {
		t.Fatal("a stranger revoked")
	}
	w.browser().post("/revoke", url.Values{"client_id": {x.id}, "token": {access}})
	if active(access) || !active(refresh) {
		t.Fatal("the access token alone should have ended")
	}
	m = x.token(x.refreshForm(refresh)).json(t)
	w.browser().post("/revoke", url.Values{"client_id": {x.id}, "token": {m["refresh_token"].(string)}, "token_type_hint": {"access_token"}})
	if active(m["access_token"].(string)) || active(m["refresh_token"].(string)) {
		t.Fatal("the grant lives")
	}
	wantError(t, x.token(x.refreshForm(m["refresh_token"].(string))), 400, "invalid_grant")
}
