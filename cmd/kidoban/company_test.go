package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// company is an identity provider over HTTP, with one person, Dana. Its refresh tokens
// are good for one use each: one that comes a second time ends the login.
type company struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	mu     sync.Mutex
	claims map[string]any // over the good ones; guarded by mu, as what follows
	gone   bool           // Dana is disabled
	fails  int            // status of every token answer
	slow   chan struct{}  // not nil: token answers wait for it
	codes  map[string]string
	fresh  string // the refresh token that is good
	n      int    // refresh tokens given
	asked  int    // refreshes
	reused int    // refresh tokens that came again
}

func newCompany(t *testing.T) *company {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &company{key: key, codes: map[string]string{}}
	mux := http.NewServeMux()
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	say := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, map[string]any{"issuer": c.URL, "authorization_endpoint": c.URL + "/authorize", "token_endpoint": c.URL + "/token", "jwks_uri": c.URL + "/keys", "scopes_supported": []string{"openid", "offline_access"},
			"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		q := r.URL.Query()
		answer := url.Values{"state": {q.Get("state")}}
		if c.gone {
			answer.Set("error", "access_denied")
		} else {
			code := fmt.Sprint("code-", len(c.codes))
			c.codes[code] = q.Get("nonce")
			if strings.Contains(q.Get("scope"), "offline_access") {
				code += "+"
				c.codes[code] = q.Get("nonce")
			}
			answer.Set("code", code)
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		wait := c.slow
		c.mu.Unlock()
		if wait != nil {
			select {
			case <-wait:
			case <-r.Context().Done():
				return
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = r.ParseForm()
		nonce, known := c.codes[r.Form.Get("code")]
		offline := strings.HasSuffix(r.Form.Get("code"), "+")
		if r.Form.Get("grant_type") == "refresh_token" {
			c.asked++
			known, offline = r.Form.Get("refresh_token") == c.fresh, true
			if !known && c.fails == 0 {
				c.reused++
				c.fresh = ""
			}
		}
		switch {
		case c.fails != 0:
			w.WriteHeader(c.fails)
			return
		case !known || c.gone:
			say(w, 400, map[string]any{"error": "invalid_grant"})
			return
		}
		delete(c.codes, r.Form.Get("code"))
		claims := map[string]any{"iss": c.URL, "aud": "gate", "sub": "42", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "email": "dana@corp.example", "email_verified": true, "jti": fmt.Sprint(c.n, c.asked)}
		if nonce != "" {
			claims["nonce"] = nonce
		}
		for k, v := range c.claims {
			claims[k] = v
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
		if err != nil {
			panic(err)
		}
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			panic(err)
		}
		answer := map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": token}
		if offline {
			c.n++
			c.fresh = fmt.Sprint("company-refresh-", c.n, "-", rand.Text())
			answer["refresh_token"] = c.fresh
		}
		say(w, 200, answer)
	})
	return c
}

// set changes what the company says from now on.
func (c *company) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *company) groups(names ...string) {
	c.set(func() { c.claims = map[string]any{"groups": names} })
}

// count is how often it was asked to refresh a login, and with what it had taken before.
func (c *company) count() (asked, reused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked, c.reused
}

// companyConfig is a gateway whose people come from a company and may call what its
// engineers may.
func companyConfig(t *testing.T, c *company, more string) string {
	t.Helper()
	return `
login:
  providers: [{id: corp, name: Corp, issuer: "` + c.URL + `", client_id: gate, secret_file: ` + putText(t, t.TempDir()+"/secret", "gate-secret") + `, groups_claim: groups, recheck: 1h` + more + `}]
policy:
  default: deny
  flow: "off"
  rules: [{allow: ["two/look"], groups: ["corp:engineering"]}]
servers:
  two: {url: "` + twoTools(t) + `", address: loopback}
`
}

// atCompany logs Dana in and returns the last page, or none when the login succeeded.
func (b *person) atCompany() (page string) {
	b.p.t.Helper()
	body, _, err := b.open(b.p.url+"/login", nil)
	if err != nil {
		b.p.t.Fatal(err)
	}
	at, form := b.p.url+"/login/corp", fields(body)
	for range 3 {
		body, resp, err := b.open(at, form)
		if err != nil {
			b.p.t.Fatal(err)
		}
		if form = nil; resp.StatusCode != http.StatusSeeOther {
			return body
		}
		at = resp.Header.Get("Location")
	}
	return ""
}

// grant gets tokens for a client of the person's.
func (a *proofApp) grant() tokens {
	a.p.t.Helper()
	code, verifier, err := a.code()
	if err != nil {
		a.p.t.Fatal(err)
	}
	status, tok := a.redeem(code, verifier)
	if status != http.StatusOK || tok.Refresh == "" {
		a.p.t.Fatalf("%d %+v\n%s", status, tok, a.p.log)
	}
	return tok
}

// longAgo makes what a company said of everybody two hours old.
func longAgo(t *testing.T, driver, source string) {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `UPDATE heard SET heard_ms = heard_ms - 7200000`); err != nil {
		t.Fatal(err)
	}
}
