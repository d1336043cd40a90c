package authserver_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/oauth"
)

// idp is an OpenID Connect provider over HTTP whose answers a test may spoil.
type idp struct {
	*httptest.Server
	mu     sync.Mutex
	signer signer
	codes  map[string]url.Values
	claims map[string]any // laid over the good ID token
	sign   *signer        // another key
	iss    string         // iss parameter of the answer
	next   string         // refresh token of the answer
	shut   bool           // the keys are away
	refuse int            // status of the answer to a code; -1 for none
	said   string         // and its body
	scopes []string       // scopes_supported
}

func newIDP(t *testing.T) *idp {
	p := &idp{signer: newSigner(t, "idp"), codes: map[string]url.Values{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/a", "token_endpoint": p.URL + "/t", "jwks_uri": p.URL + "/k",
				"scopes_supported": p.scopes, "id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}})
		case "/k":
			if p.shut {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write(p.signer.jwks())
		case "/a":
			q := r.URL.Query()
			code := fmt.Sprint("c", len(p.codes))
			p.codes[code] = q
			v := url.Values{"code": {code}, "state": {q.Get("state")}}
			if p.iss != "" {
				v.Set("iss", p.iss)
			}
			http.Redirect(w, r, q.Get("redirect_uri")+"?"+v.Encode(), http.StatusSeeOther)
		case "/t":
			if p.refuse < 0 {
				panic(http.ErrAbortHandler)
			}
			if p.refuse > 0 {
				w.WriteHeader(p.refuse)
				fmt.Fprint(w, p.said)
				return
			}
			_ = r.ParseForm()
			q := p.codes[r.Form.Get("code")]
			id, secret, _ := r.BasicAuth()
			if r.Form.Get("refresh_token") == "granted" {
				q = url.Values{}
			} else if q != nil && !oauth.VerifyS256(q.Get("code_challenge"), r.Form.Get("code_verifier")) {
				q = nil
			}
			if q == nil || id != "rp" || secret != "rp-secret" {
				w.WriteHeader(400)
				fmt.Fprint(w, `{"error":"invalid_grant"}`)
				return
			}
			delete(p.codes, r.Form.Get("code"))
			claims := map[string]any{"iss": p.URL, "aud": "rp", "sub": "42", "nonce": q.Get("nonce"), "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(),
				"email": "dana@corp.example", "email_verified": true, "name": "Dana"}
			for k, v := range p.claims {
				claims[k] = v
			}
			s := p.signer
			if p.sign != nil {
				s = *p.sign
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "refresh_token": p.next, "id_token": s.sign("JWT", false, claims)})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (b *browser) toProvider(page answer) *url.URL {
	b.w.t.Helper()
	a := b.post("/login/corp", page.hidden())
	return b.w.browser().get(a.location(b.w.t).String()).location(b.w.t)
}

func newIDPWorld(t *testing.T) (*world, *idp) {
	p := newIDP(t)
	w := newWorld(t, func(w *world) {
		w.cfg.Login.Providers = []authserver.Provider{{ID: "corp", Name: "Corp", Issuer: p.URL, ClientID: "rp", ClientSecret: "rp-secret",
			AllowDomains: []string{"corp.example"}, AdminEmails: []string{"dana@corp.example"}}}
	})
	return w, p
}

func TestProviderLogin(t *testing.T) {
	w, _ := newIDPWorld(t)
	x := w.register("Client", loopback)
	b := w.browser()
	page := b.get("/authorize?" + x.params().Encode())
	if !strings.Contains(page.body, "Log in with Corp") {
		t.Fatal(page.body)
	}
	back := b.toProvider(page)
	a := b.get(back.String())
	if a.StatusCode != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/authorize?t=") {
		t.Fatal(a.StatusCode, a.body)
	}
	if consent := b.get(a.Header.Get("Location")); len(scopesOf(consent)) == 0 || !strings.Contains(consent.body, "dana@corp.example") {
		t.Fatal(consent.body)
	}
	u, err := w.store.UserByName(t.Context(), "dana@corp.example")
	if err != nil || !u.Admin {
		t.Fatal(u, err)
	}
	// The same person again is the same user; the answer works once.
	if a := b.get(back.String()); a.StatusCode != 403 {
		t.Fatal("the answer worked twice")
	}
	c := w.browser()
	if a := c.get(c.toProvider(c.get("/login")).String()); a.StatusCode != 303 {
		t.Fatal(a.body)
	}
	users, err := w.store.Users(t.Context(), "", 10)
	if err != nil || len(users) != 1 {
		t.Fatal(users, err)
	}
}

// TestGVA2_LoginsProveTheirUser: the verified ID token of a login is handed on for
// exchanges; one that was refused is not.
func TestGVA2_LoginsProveTheirUser(t *testing.T) {
	var kept []string
	p := newIDP(t)
	w := newWorld(t, func(w *world) {
		w.cfg.Login.Providers = []authserver.Provider{{ID: "corp", Name: "Corp", Issuer: p.URL, ClientID: "rp", ClientSecret: "rp-secret", AllowDomains: []string{"corp.example"}}}
		w.deps.Proof = func(_ context.Context, user string, l authserver.ProviderLogin) error {
			if l.Issuer != p.URL || l.Subject != "42" || strings.Count(l.IDToken, ".") != 2 || !l.Expires.After(w.clock.now()) {
				t.Errorf("%+v", l)
			}
			kept = append(kept, user)
			return nil
		}
	})
	b := w.browser()
	if a := b.get(b.toProvider(b.get("/login")).String()); a.StatusCode != 303 {
		t.Fatal(a.body)
	}
	u, err := w.store.UserByName(t.Context(), "dana@corp.example")
	if err != nil || len(kept) != 1 || kept[0] != u.ID {
		t.Errorf("%v %v %v", kept, u, err)
	}
	p.mu.Lock()
	p.claims = map[string]any{"email": "eve@elsewhere.example"}
	p.mu.Unlock()
	c := w.browser()
	if a := c.get(c.toProvider(c.get("/login")).String()); a.StatusCode == 303 || len(kept) != 1 {
		t.Errorf("%d, %v", a.StatusCode, kept)
	}
}

// TestGVA2_RenewedLoginsAreVerified: a fresh ID token is believed as little as the
// first one.
func TestGVA2_RenewedLoginsAreVerified(t *testing.T) {
	w, p := newIDPWorld(t)
	old := authserver.ProviderLogin{Issuer: p.URL, Subject: "42", IDToken: "old", Refresh: "granted"}
	l, err := w.s.RenewLogin(t.Context(), old, nil)
	if err != nil || l.Subject != "42" || strings.Count(l.IDToken, ".") != 2 || l.Refresh != "granted" || l.Issuer != p.URL {
		t.Fatalf("%+v %v", l, err)
	}
	foreign := newSigner(t, "idp")
	for name, c := range map[string]struct {
		claims map[string]any
		sign   *signer
		change func(*authserver.ProviderLogin)
	}{
		"another subject":       {claims: map[string]any{"sub": "43"}},
		"another audience":      {claims: map[string]any{"aud": "other"}},
		"another issuer":        {claims: map[string]any{"iss": "https://evil.example"}},
		"over":                  {claims: map[string]any{"exp": 1}},
		"another key":           {sign: &foreign},
		"a dead refresh token":  {change: func(l *authserver.ProviderLogin) { l.Refresh = "dead" }},
		"no refresh token":      {change: func(l *authserver.ProviderLogin) { l.Refresh = "" }},
		"a provider not in use": {change: func(l *authserver.ProviderLogin) { l.Issuer = "https://gone.example" }},
	} {
		p.mu.Lock()
		p.claims, p.sign = c.claims, c.sign
		p.mu.Unlock()
		one := old
		if c.change != nil {
			c.change(&one)
		}
		if l, err := w.s.RenewLogin(t.Context(), one, nil); kidoban.KindOf(err) != kidoban.KindNotFound || l.IDToken != "" {
			t.Errorf("%s: %+v %v", name, l, err)
		}
	}
	p.Close()
	if _, err := w.s.RenewLogin(t.Context(), old, nil); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("a provider that is away: %v", err)
	}
}

// TestGVA2_KeysThatAreAwayEndNoLogin: the refresh token that comes with an ID token is
// handed over before that is looked at, and that it cannot be looked at may pass.
func TestGVA2_KeysThatAreAwayEndNoLogin(t *testing.T) {
	w, p := newIDPWorld(t)
	p.mu.Lock()
	p.next, p.shut = "rotated", true
	p.mu.Unlock()
	var told []string
	tell := func(refresh string) { told = append(told, refresh) }
	old := authserver.ProviderLogin{Issuer: p.URL, Subject: "42", IDToken: "old", Refresh: "granted"}
	if l, err := w.s.RenewLogin(t.Context(), old, tell); kidoban.KindOf(err) != kidoban.KindUnreachable || l.IDToken != "" {
		t.Errorf("without keys: %+v %v", l, err)
	}
	p.mu.Lock()
	p.shut = false
	p.mu.Unlock()
	if l, err := w.s.RenewLogin(t.Context(), old, tell); err != nil || l.Refresh != "rotated" {
		t.Errorf("with keys: %+v %v", l, err)
	}
	p.mu.Lock()
	p.next = ""
	p.mu.Unlock()
	if _, err := w.s.RenewLogin(t.Context(), old, tell); err != nil {
		t.Error(err)
	}
	if len(told) != 2 || told[0] != "rotated" || told[1] != "rotated" {
		t.Errorf("told of %q", told)
	}
}

func TestProviderLoginRefusals(t *testing.T) {
	thief := newSigner(t, "idp")
	for name, spoil := range map[string]func(p *idp){
		"another key":       func(p *idp) { p.sign = &thief },
		"another audience":  func(p *idp) { p.claims = map[string]any{"aud": "other"} },
		"another issuer":    func(p *idp) { p.claims = map[string]any{"iss": "https://evil.example"} },
		"another nonce":     func(p *idp) { p.claims = map[string]any{"nonce": rand.Text()} },
		"expired":           func(p *idp) { p.claims = map[string]any{"exp": time.Now().Add(-time.Hour).Unix()} },
		"foreign domain":    func(p *idp) { p.claims = map[string]any{"email": "x@evil.example"} },
		"unverified e-mail": func(p *idp) { p.claims = map[string]any{"email_verified": false} },
		"iss of another":    func(p *idp) { p.iss = "https://evil.example" },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := newIDPWorld(t)
			b := w.browser()
			back := ""
			p.mu.Lock()
			spoil(p)
			p.mu.Unlock()
			back = b.toProvider(b.get("/login")).String()
			a := b.get(back)
			if a.StatusCode != 403 {
				t.Fatal(a.StatusCode, a.Header.Get("Location"))
			}
			if users, err := w.store.Users(t.Context(), "", 10); err != nil || len(users) != 0 {
				t.Fatal(users, err)
			}
		})
	}
	t.Run("another browser", func(t *testing.T) {
		w, _ := newIDPWorld(t)
		attacker, victim := w.browser(), w.browser()
		victim.get("/login")
		if a := victim.get(attacker.toProvider(attacker.get("/login")).String()); a.StatusCode != 403 {
			t.Fatal(a.StatusCode)
		}
	})
	t.Run("another state", func(t *testing.T) {
		w, _ := newIDPWorld(t)
		b := w.browser()
		u := b.toProvider(b.get("/login"))
		q := u.Query()
		q.Set("state", rand.Text())
		if a := b.get(u.Path + "?" + q.Encode()); a.StatusCode != 403 {
			t.Fatal(a.StatusCode)
		}
	})
	t.Run("a name is not taken over", func(t *testing.T) {
		w, _ := newIDPWorld(t)
		local := w.another("dana@corp.example")
		b := w.browser()
		if a := b.get(b.toProvider(b.get("/login")).String()); a.StatusCode != 303 {
			t.Fatal(a.body)
		}
		if p := b.get("/account"); !strings.Contains(p.body, "dana@corp.example~") {
			t.Fatal(p.body)
		}
		if p := local.get("/account"); strings.Contains(p.body, "dana@corp.example~") {
			t.Fatal("the accounts were joined")
		}
	})
	t.Run("provider away", func(t *testing.T) {
		w, p := newIDPWorld(t)
		p.Close()
		b := w.browser()
		if a := b.post("/login/corp", b.get("/login").hidden()); a.StatusCode != 502 || !strings.Contains(a.body, "does not answer") {
			t.Fatal(a.StatusCode, a.body)
		}
	})
}

// TestProviderLoginSaysWhy: who may not use the gateway is not told that the login
// failed, a gateway that its provider does not know does not look like the person's
// fault, and the audit log has the reason without the provider's words.
func TestProviderLoginSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		spoil        func(p *idp)
		status       int
		says, logged string
	}{
		"no e-mail":         {func(p *idp) { p.claims = map[string]any{"email": nil, "email_verified": nil} }, 403, "may not use this gateway", "tells no e-mail address"},
		"unverified e-mail": {func(p *idp) { p.claims = map[string]any{"email_verified": false} }, 403, "may not use this gateway", "has not verified"},
		"foreign domain":    {func(p *idp) { p.claims = map[string]any{"email": "x@evil.example"} }, 403, "may not use this gateway", "domain may not log in"},
		"wrong secret":      {func(p *idp) { p.refuse, p.said = 401, `{"error":"invalid_client","error_description":"rp-secret"}` }, 502, "refuses this gateway, not you", "status 401 invalid_client"},
		"code refused":      {func(p *idp) { p.refuse, p.said = 400, `{"error":"invalid_grant"}` }, 403, "did not succeed", "status 400 invalid_grant"},
		"strange words":     {func(p *idp) { p.refuse, p.said = 400, `{"error":"<b>rp-secret"}` }, 403, "did not succeed", "status 400"},
		"broken":            {func(p *idp) { p.refuse, p.said = 500, `rp-secret` }, 502, "does not answer", "failed with status 500"},
		"gone":              {func(p *idp) { p.refuse = -1 }, 502, "does not answer", "did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := newIDPWorld(t)
			b := w.browser()
			back := b.toProvider(b.get("/login")).String()
			p.mu.Lock()
			c.spoil(p)
			p.mu.Unlock()
			a := b.get(back)
			if a.StatusCode != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			detail := w.seen.detail(a.Header.Get("X-Request-Id"))
			if !strings.Contains(detail, c.logged) || strings.Contains(detail, "rp-secret") {
				t.Errorf("the audit log has %q", detail)
			}
		})
	}
}

// TestGTG5_UnverifiedAddressesNameNobody: two people with one address are two users,
// and rules know neither by it.
func TestGTG5_UnverifiedAddressesNameNobody(t *testing.T) {
	p := newIDP(t)
	w := newWorld(t, func(w *world) {
		w.cfg.Login.Providers = []authserver.Provider{{ID: "corp", Name: "Corp", Issuer: p.URL, ClientID: "rp", ClientSecret: "rp-secret", AdminEmails: []string{"boss@corp.example"}}}
	})
	for _, subject := range []string{"1", "2"} {
		p.mu.Lock()
		p.claims = map[string]any{"sub": subject, "email": "boss@corp.example", "email_verified": false, "preferred_username": "boss@corp.example", "name": "The Boss"}
		p.mu.Unlock()
		b := w.browser()
		if a := b.get(b.toProvider(b.get("/login")).String()); a.StatusCode != 303 {
			t.Fatal(a.body)
		}
	}
	users, err := w.store.Users(t.Context(), "", 10)
	if err != nil || len(users) != 2 {
		t.Fatal(users, err)
	}
	for _, u := range users {
		if strings.Contains(u.Name, "boss") || u.Admin || u.Display != "The Boss" {
			t.Errorf("%+v", u)
		}
	}
}
