package account

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
)

// desk is a token endpoint that notes what it is asked and answers as told.
type desk struct {
	*httptest.Server
	asked  []url.Values
	header []http.Header
	answer func(f url.Values) (int, map[string]any)
}

func newDesk(t *testing.T, methods ...string) *desk {
	t.Helper()
	d := &desk{answer: func(url.Values) (int, map[string]any) {
		return 200, map[string]any{"access_token": "machine-token", "token_type": "Bearer", "expires_in": 3600}
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": d.URL, "token_endpoint": d.URL + "/token", "token_endpoint_auth_methods_supported": methods})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		f, _ := url.ParseQuery(string(raw))
		d.asked, d.header = append(d.asked, f), append(d.header, r.Header)
		status, m := d.answer(f)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(m)
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func testKey(t *testing.T) (*Key, *ecdsa.PublicKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "k1")
	if err != nil {
		t.Fatal(err)
	}
	return key, &private.PublicKey
}

// TestGVA2_ClientCredentials: with a secret in the header, in the form, and with
// a key; the assertion is for the issuer alone, short-lived and used once. The
// next token is got when the server refuses the last.
func TestGVA2_ClientCredentials(t *testing.T) {
	key, public := testKey(t)
	for method, app := range map[string]App{methodBasic: {ClientSecret: "s&cret"}, methodPost: {ClientSecret: "s&cret"}, methodKey: {Key: key}} {
		d := newDesk(t, method)
		w, _ := newWallet(t, nil, time.Now)
		app.URL, app.Issuer, app.ClientID, app.Grant, app.Scopes, app.Loopback = "https://tools.example/mcp", d.URL, "gate", GrantClient, []string{"run"}, true
		w.SetApps(map[string]*App{"tools": &app})
		for range 3 {
			if h, err := w.Credential(t.Context(), "", "tools", false); err != nil || h[0].Value != "Bearer machine-token" {
				t.Fatalf("%s: %v %v", method, h, err)
			}
		}
		f := d.asked[0]
		if len(d.asked) != 1 || f.Get("grant_type") != "client_credentials" || f.Get("scope") != "run" || f.Get("resource") != "https://tools.example/mcp" {
			t.Errorf("%s: %v", method, d.asked)
		}
		user, pass, basic := (&http.Request{Header: d.header[0]}).BasicAuth()
		switch method {
		case methodBasic:
			if !basic || user != "gate" || pass != url.QueryEscape("s&cret") || f.Has("client_secret") || f.Has("client_id") {
				t.Errorf("basic: %s %s %v", user, pass, f)
			}
		case methodPost:
			if basic || f.Get("client_secret") != "s&cret" || f.Get("client_id") != "gate" {
				t.Errorf("post: %v", f)
			}
		case methodKey:
			var ids []string
			for range 2 {
				_, _ = w.grant(t.Context(), &app, "", "tools", token{})
				tok, err := jwt.ParseSigned(d.asked[len(d.asked)-1].Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
				var c jwt.Claims
				if err == nil {
					err = tok.Claims(public, &c)
				}
				if err != nil || tok.Headers[0].KeyID != "k1" || c.Issuer != "gate" || c.Subject != "gate" || len(c.Audience) != 1 || c.Audience[0] != d.URL || c.Expiry.Time().Sub(c.IssuedAt.Time()) > time.Minute {
					t.Errorf("%+v %v", c, err)
				}
				ids = append(ids, c.ID)
			}
			if ids[0] == ids[1] || len(ids[0]) < 22 {
				t.Errorf("jti %v", ids)
			}
		}
	}
}

// TestGVA2_TokenExchangeAndIDJAG: the login at the provider is exchanged for a
// token in the user's name; without a login, or with an old one, the user must
// log in again; a stranger's login is never used; nothing is kept of providers
// that no app exchanges with.
func TestGVA2_TokenExchangeAndIDJAG(t *testing.T) {
	for _, grant := range []Grant{GrantExchange, GrantAssert} {
		t.Run(string(grant), func(t *testing.T) {
			idp, as := newDesk(t), newDesk(t)
			idp.answer = func(url.Values) (int, map[string]any) {
				return 200, map[string]any{"access_token": "the-assertion", "issued_token_type": typeAssertion, "token_type": "N_A", "expires_in": 60}
			}
			w, s := newWallet(t, nil, time.Now)
			w.SetApps(map[string]*App{"tools": {URL: "https://tools.example/mcp", Issuer: as.URL, ClientID: "gate", ClientSecret: "x", Grant: grant, Loopback: true, Scopes: []string{"run"},
				Provider: &Provider{Issuer: idp.URL, ClientID: "gate-at-idp", ClientSecret: "y"}}})
			if _, err := w.Credential(t.Context(), "alice", "tools", false); kidoban.KindOf(err) != kidoban.KindNotFound {
				t.Errorf("without a login: %v", err)
			}
			keep := func(user, issuer, token string, life time.Duration) {
				t.Helper()
				if err := w.KeepProof(t.Context(), user, Login{Issuer: issuer, Subject: "sub-" + user, IDToken: token, Expires: time.Now().Add(life)}); err != nil {
					t.Fatal(err)
				}
			}
			keep("alice", idp.URL, "old-id-token", -time.Second)
			if _, err := w.Credential(t.Context(), "alice", "tools", false); kidoban.KindOf(err) != kidoban.KindNotFound || len(as.asked)+len(idp.asked) != 0 {
				t.Errorf("with an old login: %v", err)
			}
			keep("alice", idp.URL, "id-token-of-alice", time.Hour)
			keep("alice", "https://other.example", "unneeded", time.Hour)
			h, err := w.Credential(t.Context(), "alice", "tools", false)
			if err != nil || h[0].Value != "Bearer machine-token" {
				t.Fatalf("%v %v", h, err)
			}
			if _, err := w.Credential(t.Context(), "bob", "tools", false); kidoban.KindOf(err) != kidoban.KindNotFound {
				t.Errorf("bob: %v", err)
			}
			if _, err := w.Credential(t.Context(), "", "tools", false); err == nil {
				t.Error("nobody got a token")
			}
			last := as.asked[len(as.asked)-1]
			if grant == GrantExchange {
				if last.Get("grant_type") != grantExchange || last.Get("subject_token") != "id-token-of-alice" || last.Get("subject_token_type") != TypeIDToken || last.Get("resource") != "https://tools.example/mcp" || len(idp.asked) != 0 {
					t.Errorf("%v", last)
				}
			} else {
				first := idp.asked[0]
				if first.Get("requested_token_type") != typeAssertion || first.Get("audience") != as.URL || first.Get("resource") != "https://tools.example/mcp" || first.Get("subject_token") != "id-token-of-alice" {
					t.Errorf("%v", first)
				}
				if last.Get("grant_type") != grantAssertion || last.Get("assertion") != "the-assertion" || strings.Contains(last.Encode(), "id-token") {
					t.Errorf("%v", last)
				}
			}
			for k, a := range s.all {
				if strings.Contains(string(a.Sealed), "id-token") || strings.Contains(k.server, "other.example") {
					t.Errorf("%v %q", k, a.Sealed)
				}
			}
		})
	}
}

// TestProviderQuirks: what the table says reaches the requests.
func TestProviderQuirks(t *testing.T) {
	ask := func(issuer string) url.Values {
		t.Helper()
		w, _ := newWallet(t, nil, time.Now)
		w.SetApps(map[string]*App{"s": {URL: "https://mcp.example/mcp", Issuer: issuer, ClientID: "c", Authorization: issuer + "/authorize", Token: issuer + "/token", Params: map[string]string{"hint": "x"}}})
		to, _, err := w.Begin(t.Context(), "alice", "s", "st", "ch", callback)
		if err != nil {
			t.Fatalf("%s: %v", issuer, err)
		}
		u, _ := url.Parse(to)
		return u.Query()
	}
	for issuer, want := range map[string]map[string]string{
		"https://as.example":                             {"resource": "https://mcp.example/mcp", "audience": "", "hint": "x", "state": "st"},
		"https://accounts.google.com":                    {"access_type": "offline", "prompt": "consent", "resource": ""},
		"https://login.microsoftonline.com/tenant/v2.0":  {"resource": ""},
		"https://login.microsoftonline.com.evil.example": {"resource": "https://mcp.example/mcp"},
		"https://shop.eu.auth0.com":                      {"audience": "https://mcp.example/mcp", "resource": ""},
		"https://evilauth0.com":                          {"audience": "", "resource": "https://mcp.example/mcp"},
		"https://auth.atlassian.com":                     {"audience": "api.atlassian.com", "resource": ""},
	} {
		q := ask(issuer)
		for k, v := range want {
			if q.Get(k) != v {
				t.Errorf("%s: %s = %q, want %q", issuer, k, q.Get(k), v)
			}
		}
	}
	if e := quirkOf("https://github.com/login/oauth"); !e.ends("bad_refresh_token") || e.endpoints == nil || quirkOf("https://as.example").ends("bad_refresh_token") {
		t.Error("GitHub")
	}
	for _, bad := range []string{"", "no pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ParseKey([]byte(bad), ""); kidoban.KindOf(err) != kidoban.KindUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestGVA2_OldLoginsAreRenewedOnce: of a hundred calls one renews the login; what it
// got serves the others and the next ones; a provider that is away is asked again
// later, one that says no is not; and nobody's login serves another.
func TestGVA2_OldLoginsAreRenewedOnce(t *testing.T) {
	const issuer = "https://idp.example"
	now := time.Now()
	w, _ := newWallet(t, nil, func() time.Time { return now })
	w.SetApps(map[string]*App{"tools": {Provider: &Provider{Issuer: issuer}}})
	var mu sync.Mutex
	var asked []string
	var fails error
	w.Renew = func(_ context.Context, l Login, _ func(string)) (Login, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, l.Subject+" "+l.Refresh)
		return Login{l.User, issuer, l.Subject, fmt.Sprint("fresh ", len(asked)), fmt.Sprint("next ", len(asked)), now.Add(time.Minute)}, fails
	}
	keep := func(user, refresh string) {
		t.Helper()
		if err := w.KeepProof(t.Context(), user, Login{user, issuer, "sub-" + user, "old", refresh, now.Add(5 * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	keep("alice", "first")
	keep("bob", "")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got, kind, err := w.Subject(t.Context(), "alice", issuer); err != nil || got != "fresh 1" || kind != TypeIDToken {
				t.Errorf("%q %q %v", got, kind, err)
			}
		})
	}
	wg.Wait()
	if _, _, err := w.Subject(t.Context(), "bob", issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("without a refresh token: %v", err)
	}
	now = now.Add(55 * time.Second)
	fails = kidoban.Errorf(kidoban.KindUnreachable, "away")
	if _, _, err := w.Subject(t.Context(), "alice", issuer); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("away: %v", err)
	}
	fails = kidoban.Errorf(kidoban.KindNotFound, "no")
	for range 3 {
		if _, _, err := w.Subject(t.Context(), "alice", issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("ended: %v", err)
		}
	}
	if proven, err := w.Proven(t.Context(), "alice", issuer); proven || err != nil {
		t.Errorf("a login that ended proves: %v", err)
	}
	keep("alice", "second")
	if proven, err := w.Proven(t.Context(), "alice", issuer); !proven || err != nil {
		t.Errorf("a login that can be renewed: %v", err)
	}
	if got := strings.Join(asked, ", "); got != "sub-alice first, sub-alice next 1, sub-alice next 1" {
		t.Errorf("asked: %s", got)
	}
}
