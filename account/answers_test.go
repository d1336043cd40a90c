package account

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// TestGVA2_EveryProviderOfTheTable: each row reaches the requests that it is about, for
// its own hosts and no others; a row without a case here fails.
func TestGVA2_EveryProviderOfTheTable(t *testing.T) {
	const resource = "https://mcp.example/mcp"
	type row struct {
		issuers []string
		asks    map[string]string // of the authorization request; "" is absent
		tokens  map[string]string // of the token request
		ended   []string
		at      string // token endpoint, where there is no metadata
	}
	none := map[string]string{"resource": "", "audience": ""}
	rows := map[string]row{
		"accounts.google.com":       {issuers: []string{"https://accounts.google.com"}, asks: map[string]string{"access_type": "offline", "prompt": "consent", "resource": ""}, tokens: none},
		"login.microsoftonline.com": {issuers: []string{"https://login.microsoftonline.com/tenant/v2.0"}, asks: none, tokens: none},
		".b2clogin.com":             {issuers: []string{"https://contoso.b2clogin.com/x/v2.0"}, asks: none, tokens: none},
		".ciamlogin.com":            {issuers: []string{"https://contoso.ciamlogin.com/x/v2.0"}, asks: none, tokens: none},
		"github.com":                {issuers: []string{"https://github.com/login/oauth"}, asks: map[string]string{"resource": resource}, ended: []string{"bad_refresh_token", "bad_verification_code"}, at: "https://github.com/login/oauth/access_token"},
		"auth.atlassian.com":        {issuers: []string{"https://auth.atlassian.com"}, asks: map[string]string{"audience": "api.atlassian.com", "prompt": "consent", "resource": ""}, tokens: none, ended: []string{"unauthorized_client"}},
		".auth0.com":                {issuers: []string{"https://shop.auth0.com", "https://shop.eu.auth0.com"}, asks: map[string]string{"audience": resource, "resource": ""}, tokens: map[string]string{"audience": resource, "resource": ""}},
		"www.dropbox.com":           {issuers: []string{"https://www.dropbox.com"}, asks: map[string]string{"token_access_type": "offline", "resource": ""}, tokens: none, at: "https://api.dropboxapi.com/oauth2/token"},
		"slack.com":                 {issuers: []string{"https://slack.com"}, asks: none, tokens: none, ended: []string{"token_revoked", "invalid_refresh_token", "token_expired"}},
	}
	check := func(what string, got url.Values, want map[string]string) {
		t.Helper()
		for k, v := range want {
			if got.Get(k) != v || v == "" && got.Has(k) {
				t.Errorf("%s: %s = %q, want %q", what, k, got.Get(k), v)
			}
		}
	}
	for _, q := range quirks {
		r, ok := rows[q.host]
		if !ok {
			t.Errorf("%s has no case", q.host)
			continue
		}
		for _, issuer := range r.issuers {
			got := quirkOf(issuer)
			w, _ := newWallet(t, nil, time.Now)
			app := &App{URL: resource, Issuer: issuer, ClientID: "c", ClientSecret: "s"}
			app.Authorization, app.Token = issuer+"/authorize", issuer+"/token"
			if r.at != "" { // it publishes no metadata
				if got.endpoints == nil || got.endpoints.token != r.at {
					t.Fatalf("%s: its endpoints are not known", issuer)
				}
				app.Authorization, app.Token = got.endpoints.authorize, got.endpoints.token
			}
			w.SetApps(map[string]*App{"s": app})
			to, _, err := w.Begin(t.Context(), "alice", "s", "st", "ch", callback)
			if err != nil {
				t.Fatalf("%s: %v", issuer, err)
			}
			u, _ := url.Parse(to)
			check(issuer+", authorization request", u.Query(), r.asks)
			if u.Query().Get("state") != "st" || u.Query().Get("code_challenge_method") != "S256" {
				t.Errorf("%s: %s", issuer, to)
			}
			// The token request, at a desk in the provider's place.
			d := newDesk(t, methodPost)
			local := &App{ClientID: "c", ClientSecret: "s", Loopback: true}
			e := endpoints{issuer: issuer, token: d.URL + "/token", methods: []string{methodPost}, quirk: got}
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}}
			if _, err := w.post(t.Context(), local, e, local.preRegistered(), form, resource); err != nil {
				t.Fatalf("%s: %v", issuer, err)
			}
			check(issuer+", token request", d.asked[0], r.tokens)
			for _, code := range append(r.ended, "invalid_grant") { // GitHub says so with status 200
				d.answer = func(url.Values) (int, map[string]any) {
					return 200, map[string]any{"error": code, "error_description": "words of theirs"}
				}
				_, err := w.post(t.Context(), local, e, local.preRegistered(), form, resource)
				if kidoban.KindOf(err) != kidoban.KindNotFound || strings.Contains(err.Error(), "words of theirs") {
					t.Errorf("%s, %s: %v", issuer, code, err)
				}
			}
			for _, other := range []string{strings.Replace(issuer, "https://", "https://evil", 1), strings.Replace(issuer, ".com", ".com.evil.example", 1)} {
				if o := quirkOf(other); !strings.HasPrefix(q.host, ".") && (o.noResource || o.audience || o.endpoints != nil || o.ended != nil) || strings.Contains(other, "evil.example") && (o.noResource || o.audience) {
					t.Errorf("%s counts as %s", other, q.host)
				}
			}
		}
	}
}

// TestGVA2_AnswersOfTokenEndpoints: whatever a token endpoint answers to a grant that
// needs no person, but a usable token, is an error of the right kind, repeats nothing,
// stores nothing, and is asked again by the next call.
func TestGVA2_AnswersOfTokenEndpoints(t *testing.T) {
	const words = "words-of-theirs"
	oops := func(code string) map[string]any { return map[string]any{"error": code, "error_description": words} }
	for name, c := range map[string]struct {
		status int
		answer map[string]any
		kind   kidoban.Kind
	}{
		"the grant has ended":      {400, oops("invalid_grant"), kidoban.KindNotFound},
		"the client is not known":  {401, oops("invalid_client"), kidoban.KindUnreachable},
		"the client may not":       {400, oops("unauthorized_client"), kidoban.KindUnreachable},
		"not for this resource":    {400, oops("invalid_target"), kidoban.KindUnreachable},
		"not these scopes":         {400, oops("invalid_scope"), kidoban.KindUnreachable},
		"no such grant":            {400, oops("unsupported_grant_type"), kidoban.KindUnreachable},
		"an error with status 200": {200, oops("slow_down"), kidoban.KindUnreachable},
		"a failure":                {503, map[string]any{"access_token": words, "token_type": "Bearer"}, kidoban.KindUnreachable},
		"a redirect":               {307, map[string]any{"access_token": words, "token_type": "Bearer"}, kidoban.KindUnreachable},
		"no token":                 {200, map[string]any{"token_type": "Bearer", "note": words}, kidoban.KindUnreachable},
		"a token that is a number": {200, map[string]any{"access_token": 7, "token_type": "Bearer"}, kidoban.KindUnreachable},
		"a token and an error":     {200, map[string]any{"access_token": words, "token_type": "Bearer", "error": "x"}, kidoban.KindUnreachable},
		"another kind of token":    {200, map[string]any{"access_token": words, "token_type": "DPoP"}, kidoban.KindInput},
		"two lines":                {200, map[string]any{"access_token": words + "\r\nX: y", "token_type": "Bearer"}, kidoban.KindInput},
		"an endless token":         {200, map[string]any{"access_token": strings.Repeat("x", 20<<10), "token_type": "Bearer"}, kidoban.KindInput},
	} {
		for _, grant := range []Grant{GrantClient, GrantExchange, GrantAssert} {
			as, idp := newDesk(t), newDesk(t)
			w, s := newWallet(t, nil, time.Now)
			w.SetApps(map[string]*App{"tools": {URL: "https://tools.example/mcp", Issuer: as.URL, ClientID: "gate", ClientSecret: "x", Grant: grant, Loopback: true,
				Provider: &Provider{Issuer: idp.URL, ClientID: "gate-at-idp", ClientSecret: "y"}}})
			if err := w.KeepProof(t.Context(), "alice", Login{Issuer: idp.URL, Subject: "a", IDToken: "id-token", Expires: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			kept := len(s.all)
			as.answer = func(url.Values) (int, map[string]any) { return c.status, c.answer }
			h, err := w.Credential(t.Context(), "alice", "tools", false)
			if kidoban.KindOf(err) != c.kind || err != nil && strings.Contains(err.Error(), words) || len(h) > 0 || len(s.all) != kept {
				t.Errorf("%s, %s: %v %v (%s), %d stored", name, grant, h, err, kidoban.KindOf(err), len(s.all)-kept)
			}
			as.answer = func(url.Values) (int, map[string]any) {
				return 200, map[string]any{"access_token": "good-token", "token_type": "bearer", "expires_in": 3600, "refresh_token": "unneeded"}
			}
			if h, err := w.Credential(t.Context(), "alice", "tools", false); err != nil || h[0].Value != "Bearer good-token" {
				t.Errorf("%s, %s, then: %v %v", name, grant, h, err)
			}
			if acc, err := s.Account(t.Context(), "alice", "tools"); err != nil {
				t.Error(err)
			} else if tok, err := w.token(t.Context(), acc); err != nil || grant != GrantClient && tok.Refresh != "" {
				t.Errorf("%s: a refresh token is kept where each token needs a proof: %v", grant, err)
			}
			if grant == GrantAssert { // and what the provider may answer instead of an assertion
				w.forget(walletKey{"alice", "tools"})
				if _, err := s.DeleteAccount(t.Context(), "alice", "tools"); err != nil {
					t.Fatal(err)
				}
				before := len(as.asked)
				idp.answer = func(url.Values) (int, map[string]any) { return c.status, c.answer }
				if h, err := w.Credential(t.Context(), "alice", "tools", false); kidoban.KindOf(err) != c.kind || len(h) > 0 || len(as.asked) != before {
					t.Errorf("%s at the provider: %v %v", name, h, err)
				}
			}
		}
	}
}
