package lab

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// shapes are the labs in which the safe flow must work.
func shapes() map[string]Options {
	m := map[string]Options{
		"plain": {}, "issuer-path": {IssuerPath: true}, "jwt": {JWT: true}, "upstream": {Upstream: true}, "tls": {TLS: true},
		"all": {IssuerPath: true, JWT: true, Upstream: true, TLS: true}, "modern": {Era: eraModern}, "legacy": {Era: eraLegacy},
	}
	for _, p := range []string{profileLogin, profileDeep, profileNoise} {
		m[p] = Options{Profile: p}
		m[p+"-upstream"] = Options{Profile: p, Upstream: true}
	}
	return m
}

func TestSafeFlow(t *testing.T) {
	for name, o := range shapes() {
		t.Run(name, func(t *testing.T) {
			l := startLab(t, o)
			b := newAgent(t, l)
			id := b.client(nil)
			a, seen := b.follow(b.authorize(b.request(id)), "alice", "approve")
			q := a.location(t).Query()
			if !strings.HasPrefix(a.header.Get("Location"), testRedirect+"?") || q.Get("iss") != l.Issuer || q.Get("state") != "state-0123456789" {
				t.Fatalf("callback: %d %s %v %s", a.status, a.header.Get("Location"), seen, a.body)
			}
			if !strings.Contains(strings.Join(seen, " "), "decision") {
				t.Errorf("no decision page in %v", seen)
			}
			tok := b.redeem(id, q.Get("code"), url.Values{"resource": {l.MCPURL}})
			if tok.status != http.StatusOK || tok.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("token: %d %s", tok.status, tok.body)
			}
			access, refresh := str(tok.json(t), "access_token"), str(tok.json(t), "refresh_token")
			if l.opt.Era != eraLegacy {
				if !b.toolsOpen(access) || b.toolsOpen("") {
					t.Error("tools/list must work with the token and without not")
				}
				if got := b.call(access, "whoami", nil); got != "alice" {
					t.Errorf("whoami: %q", got)
				}
			}
			again := b.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {id}})
			if again.status != http.StatusOK || str(again.json(t), "refresh_token") == refresh {
				t.Errorf("refresh: %d %s", again.status, again.body)
			}
			if old := b.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {id}}); old.status != http.StatusBadRequest {
				t.Errorf("old refresh token: %d", old.status)
			}
		})
	}
}

func TestSafeMetadata(t *testing.T) {
	for name, o := range map[string]Options{"root": {}, "path": {IssuerPath: true}} {
		t.Run(name, func(t *testing.T) {
			l := startLab(t, o)
			b := newAgent(t, l)
			for _, p := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"} {
				if m := b.get(l.base + p).json(t); m["resource"] != l.MCPURL {
					t.Errorf("%s: %v", p, m)
				}
			}
			forms := []string{"/.well-known/oauth-authorization-server" + l.asPath, "/.well-known/openid-configuration" + l.asPath}
			if l.asPath != "" {
				forms = append(forms, l.asPath+"/.well-known/openid-configuration")
			}
			for _, p := range forms {
				if m := b.get(l.base + p).json(t); m["issuer"] != l.Issuer {
					t.Errorf("%s: %v", p, m)
				}
			}
			a := b.modern(l.MCPURL, "", "tools/list", nil, nil)
			if c := a.header.Get("WWW-Authenticate"); a.status != 401 || !strings.Contains(c, "resource_metadata=") || !strings.Contains(c, "scope=") || strings.Contains(c, "error=") {
				t.Errorf("challenge: %d %q", a.status, c)
			}
		})
	}
}

func TestLegacySession(t *testing.T) {
	l := startLab(t, Options{Era: eraLegacy})
	b := newAgent(t, l)
	_, tok := b.login("bob", nil)
	head := http.Header{"Authorization": {"Bearer " + str(tok, "access_token")}, "Accept": {"application/json, text/event-stream"}}
	for _, v := range legacyRevisions() {
		init := b.json("POST", l.MCPURL, map[string]any{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": map[string]any{"protocolVersion": v, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "t", "version": "1"}}}, head)
		sid := init.header.Get("Mcp-Session-Id")
		if sid == "" || !strings.Contains(init.body, v) {
			t.Fatalf("initialize: %d %s", init.status, init.body)
		}
		list := map[string]any{"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
		if a := b.json("POST", l.MCPURL, list, head); a.status != http.StatusBadRequest {
			t.Errorf("without session: %d", a.status)
		}
		with := head.Clone()
		with.Set("Mcp-Session-Id", sid)
		with.Set("MCP-Protocol-Version", v)
		if a := b.json("POST", l.MCPURL, list, with); !strings.Contains(a.body, "list_notes") {
			t.Errorf("tools/list: %d %s", a.status, a.body)
		}
		if a := b.send("DELETE", l.MCPURL, "", "", with); a.status != http.StatusNoContent {
			t.Errorf("DELETE: %d", a.status)
		}
		if a := b.json("POST", l.MCPURL, list, with); a.status != http.StatusNotFound {
			t.Errorf("after DELETE: %d", a.status)
		}
	}
}

func TestRegistrationManagement(t *testing.T) {
	l := startLab(t, Options{})
	b := newAgent(t, l)
	m := b.register(nil).json(t)
	uri, tok := str(m, "registration_client_uri"), http.Header{"Authorization": {"Bearer " + str(m, "registration_access_token")}}
	if len(l.Clients()) != 1 {
		t.Fatalf("clients: %v", l.Clients())
	}
	if a := b.get(uri); a.status != http.StatusUnauthorized {
		t.Errorf("GET without token: %d", a.status)
	}
	if a := b.send("GET", uri, "", "", tok); a.status != http.StatusOK {
		t.Errorf("GET: %d", a.status)
	}
	if a := b.json("PUT", uri, map[string]any{"redirect_uris": []string{foreign}, "token_endpoint_auth_method": "none"}, tok); a.status != http.StatusBadRequest {
		t.Errorf("PUT with a foreign redirect: %d", a.status)
	}
	if a := b.json("PUT", uri, map[string]any{"redirect_uris": []string{"http://127.0.0.1/other"}, "token_endpoint_auth_method": "none"}, tok); a.status != http.StatusOK {
		t.Errorf("PUT: %d %s", a.status, a.body)
	}
	if a := b.send("DELETE", uri, "", "", tok); a.status != http.StatusNoContent {
		t.Errorf("DELETE: %d", a.status)
	}
	if a := b.authorize(b.request(str(m, "client_id"))); a.status != http.StatusBadRequest || len(l.Clients()) != 0 {
		t.Errorf("after DELETE: %d, %v", a.status, l.Clients())
	}
}

func TestRegistrationLimit(t *testing.T) {
	clock := &Clock{}
	b := newAgent(t, startLab(t, Options{Registrations: 3, RegistrationWindow: time.Minute, Now: clock.Now}))
	for range 2 {
		for i := range 4 {
			a := b.register(nil)
			if (a.status == http.StatusTooManyRequests) != (i == 3) {
				t.Errorf("registration %d: %d", i+1, a.status)
			}
			if after := a.header.Get("Retry-After"); i == 3 && after != "60" {
				t.Errorf("Retry-After: %q", after)
			}
		}
		if err := clock.Wait(t.Context(), time.Minute+time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProfiles shows what a tester without a login sees of each profile.
func TestProfiles(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(p, func(t *testing.T) {
			l := startLab(t, Options{Profile: p, Flaws: []string{"F5-a"}})
			b := newAgent(t, l)
			good, bad := b.request(b.client(nil)), b.request("AbCdEf0123456789AbCdEf0123456789")
			end := func(v url.Values) (answer, int) {
				a, at, hops := b.authorize(v), l.base, 0
				for ; a.header.Get("Location") != "" && hops < 20; hops++ {
					to := a.header.Get("Location")
					if strings.HasPrefix(to, "/") {
						to = at + to
					}
					a = b.get(to)
				}
				return a, hops
			}
			g, hops := end(good)
			x, _ := end(bad)
			switch p {
			case profilePlain, profileNoise, profileDeep:
				if !strings.Contains(g.body, "password") || x.status != http.StatusBadRequest {
					t.Errorf("good %d, bad %d", g.status, x.status)
				}
				if p == profileDeep && hops < deepHops {
					t.Errorf("%d hops", hops)
				}
			case profileLogin:
				if !strings.Contains(g.body, "password") || !strings.Contains(x.body, "password") {
					t.Error("both must see the login")
				}
			case profileSPA:
				if g.status != 200 || !strings.Contains(g.body, "<script") || strings.Contains(g.body, "<form") || x.status != 200 {
					t.Errorf("%d %s", g.status, g.body)
				}
			case profileChallenge:
				if g.status != 403 || g.header.Get("cf-mitigated") != "challenge" {
					t.Errorf("%d %v", g.status, g.header)
				}
			}
		})
	}
}

func TestLogAndUsage(t *testing.T) {
	l := startLab(t, Options{})
	newAgent(t, l).get(l.base + "/")
	log := l.Log()
	if len(log) != 1 || log[0].Path != "/" || log[0].Server != "main" {
		t.Errorf("log: %+v", log)
	}
	for _, o := range []Options{{Flaws: []string{"F5-z"}}, {Profile: "spa"}, {Era: "modrn"}, {Addr: "192.0.2.1:0"}, {Addr: "0.0.0.0:0"}} {
		_, err := Start(t.Context(), o)
		if kidoban.KindOf(err) != kidoban.KindUsage {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Start(t.Context(), Options{Flaws: []string{"f5a"}}); err == nil || !strings.Contains(err.Error(), "F5-a") {
		t.Errorf("the nearest names are missing: %v", err)
	}
}

// TestStreamEra shows the two-endpoint transport in its safe form.
func TestStreamEra(t *testing.T) {
	b := newAgent(t, startLab(t, Options{Era: eraSSE}))
	_, tok := b.login("alice", nil)
	if b.overStream(b.l.MCPURL, "tools/list", bearerHeader(str(tok, "access_token"))) == "" || b.overStream(b.l.MCPURL, "tools/list", nil) != "" {
		t.Error("the stream must open with the token and without not")
	}
}

// TestLockout shows that guessing passwords ends soon, and not for good.
func TestLockout(t *testing.T) {
	b := newAgent(t, startLab(t, Options{}))
	page := b.get(b.l.base + b.authorize(b.request(b.client(nil))).header.Get("Location"))
	f := fields(page.body)
	f.Set("username", "alice")
	for i := range 6 {
		f.Set("password", "wrong")
		if i == 5 {
			f.Set("password", "alice-lab-password")
		}
		want := http.StatusUnauthorized
		if i >= 4 {
			want = http.StatusTooManyRequests
		}
		if a := b.form(b.l.Issuer+"/login", f); a.status != want {
			t.Errorf("try %d: %d", i+1, a.status)
		}
	}
}

// TestSecondFactor logs in as the person with an authenticator.
func TestSecondFactor(t *testing.T) {
	l := startLab(t, Options{})
	b := newAgent(t, l)
	page := b.get(l.base + b.authorize(b.request(b.client(nil))).header.Get("Location"))
	f := fields(page.body)
	f.Set("username", "carol")
	f.Set("password", "carol-lab-password")
	if a := b.form(l.Issuer+"/login", f); a.status != http.StatusUnauthorized {
		t.Errorf("without the code: %d", a.status)
	}
	f.Set("totp", TOTP(l.Accounts[2].TOTP, time.Now()))
	if a := b.form(l.Issuer+"/login", f); a.status != http.StatusSeeOther {
		t.Errorf("with the code: %d", a.status)
	}
}

// TestTOTP checks the numbers of RFC 6238 appendix B, cut to six digits.
func TestTOTP(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		if got := TOTP(secret, time.Unix(at, 0)); got != want {
			t.Errorf("%d: %s, want %s", at, got, want)
		}
	}
}

// TestErrorsAfterApproval holds the rule for redirecting: nothing is sent to an
// address nobody has vetted before somebody has agreed, and a refusal is not sent
// there either.
func TestErrorsAfterApproval(t *testing.T) {
	b := newAgent(t, startLab(t, Options{Flaws: []string{"F1-a"}}))
	v := with(b.request(b.client(map[string]any{"redirect_uris": []string{foreign}})), "redirect_uri", foreign)
	if a := b.authorize(with(url.Values(v), "scope", "kidoban_invalid")); a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
		t.Errorf("invalid scope: %d %s", a.status, a.header.Get("Location"))
	}
	v.Set("scope", scopeRead)
	if a, _ := b.follow(b.authorize(v), "alice", "deny"); a.header.Get("Location") != "" {
		t.Errorf("deny: %s", a.header.Get("Location"))
	}
	if to := b.authorizeAndGo(v); !strings.HasPrefix(to, foreign+"?code=") {
		t.Errorf("approve: %q", to)
	}
}
