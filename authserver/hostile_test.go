package authserver_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/limit"
)

// TestGAS9_WhoHangsUpSpoilsNoKeys: anybody may name a client whose keys lie at its
// own server. One who leaves while they are fetched must not make the failure stick
// for the client itself, nor may many callers at once fetch them many times.
func TestGAS9_WhoHangsUpSpoilsNoKeys(t *testing.T) {
	calls := make(chan context.Context, 16)
	w, l := newLibraryWorld(t, func(w *world) {
		w.deps.Address = func(r *http.Request) netip.Addr { calls <- r.Context(); return netip.IPv6Loopback() }
	})
	s := newSigner(t, "k1")
	asked, release := make(chan struct{}, 16), make(chan struct{})
	l.put("/jwks", func(rw http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write(s.jwks())
	})
	id := l.doc("/client.json", "token_endpoint_auth_method", "private_key_jwt", "jwks_uri", l.URL+"/jwks")
	x := w.document(id)
	form := func(by signer) url.Values {
		now := time.Now().Unix()
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"kdr_none"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion": {by.sign("JWT", false, map[string]any{"iss": id, "sub": id, "aud": w.url, "exp": now + 60, "jti": rand.Text()})}}
	}
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/token", strings.NewReader(form(newSigner(t, "k1")).Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	<-asked
	leave()
	wg.Wait()
	<-(<-calls).Done() // the server has noticed
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = x.token(form(s)) })
	}
	close(release)
	wg.Wait()
	for _, a := range answers {
		wantError(t, a, 400, "invalid_grant") // it is the client; the token is none
	}
	if n := len(asked); n > 0 {
		t.Errorf("the keys were fetched %d times more", n)
	}
}

// TestGRG3_HostsOfChangedDocumentsAreWatched: a client document may name a new host
// after its first sight.
func TestGRG3_HostsOfChangedDocumentsAreWatched(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	x := w.document(l.doc("/client.json"))
	x.tokens(w.person())
	l.doc("/client.json", "redirect_uris", []string{loopback, "https://fresh.example/cb"})
	w.clock.forward(11 * time.Minute)
	x.tokens(w.login("alice"))
	hosts, err := w.store.Hosts(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(hosts, func(h authserver.Host) bool { return h.Host == "fresh.example" }) {
		t.Errorf("the new host is not in the watch: %v", hosts)
	}
	if !slices.ContainsFunc(w.seen.list(), func(a authserver.Alert) bool { return a.Subject == "fresh.example" }) {
		t.Error("nobody is told of the new host")
	}
}

// TestAS10_DenyingAStrangerIsNoRedirect: publishing a document is no reason to be
// trusted with the browser of somebody who said no.
func TestAS10_DenyingAStrangerIsNoRedirect(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	x := w.document(l.doc("/client.json"))
	x.redirect = "https://app.example/cb"
	alice := w.person()
	page := alice.get("/authorize?" + x.params().Encode())
	a := alice.post("/authorize/consent", set(page.hidden(), "decision", "deny"))
	if a.StatusCode != 200 || a.Header.Get("Location") != "" || !strings.Contains(a.body, `href="https://app.example/cb?error=access_denied`) {
		t.Errorf("%d to %q: %s", a.StatusCode, a.Header.Get("Location"), a.body)
	}
}

// TestGCO6_RevokeEverythingEndsCodesToo: a person who sees the mistake at once is not
// outrun by a code that is not redeemed yet.
func TestGCO6_RevokeEverythingEndsCodesToo(t *testing.T) {
	w := newWorld(t, nil)
	x, alice := w.register("phish", loopback), w.person()
	x.tokens(alice)
	code := x.code(alice, nil)
	page := alice.get("/account")
	if a := alice.post("/account", set(page.hidden(), "do", "revoke_all")); a.StatusCode != http.StatusSeeOther {
		t.Fatal(a.StatusCode, a.body)
	}
	wantError(t, x.token(x.redeemForm(code)), 400, "invalid_grant")
}

// TestLoginPasswordsAreNotGuessedAtThePasswordForm: a browser that was left open
// gives no more guesses than the login page.
func TestLoginPasswordsAreNotGuessedAtThePasswordForm(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Limits.LoginPerName = limit.Defaults().LoginPerName })
	alice := w.person()
	change := func(old string) answer {
		return alice.post("/account", set(alice.get("/account").hidden(), "do", "password", "old", old, "password", "another good password", "again", "another good password"))
	}
	for range limit.Defaults().LoginPerName.Burst {
		if a := change("not my password"); a.StatusCode != 200 {
			t.Fatal(a.StatusCode)
		}
	}
	if a := change(password); a.StatusCode != 200 || !strings.Contains(a.body, "Too many attempts") {
		t.Errorf("a sixth guess counts: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	w.clock.forward(16 * time.Minute)
	if a := change(password); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the right password after a while: %d %s", a.StatusCode, a.body)
	}
}

// TestGAS7_WhatNoDatabaseTakesIsNoFaultOfOurs: bytes that PostgreSQL refuses are a
// client's mistake wherever they stand.
func TestGAS7_WhatNoDatabaseTakesIsNoFaultOfOurs(t *testing.T) {
	w := newWorld(t, func(w *world) { w.store = openStore(t, cluster.Postgres(t)) })
	for _, bytes := range []string{"%ff", "a%00b"} {
		req, err := http.NewRequest(http.MethodGet, w.url+"/register/"+bytes, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer kdm_x")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("register/%s: %d", bytes, resp.StatusCode)
		}
		for _, at := range []string{"token", "introspect", "revoke"} {
			resp, err := http.Post(w.url+"/"+at, "application/x-www-form-urlencoded", strings.NewReader("grant_type=refresh_token&refresh_token=x&token=x&client_id="+bytes))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s with %s: %d", at, bytes, resp.StatusCode)
			}
			req, err := http.NewRequest(http.MethodPost, w.url+"/"+at, strings.NewReader("grant_type=refresh_token&refresh_token=x&token=x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.SetBasicAuth(bytes, "x")
			if resp, err = http.DefaultClient.Do(req); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s with %s in its header: %d", at, bytes, resp.StatusCode)
			}
		}
	}
}

// TestGAS7_AnAddressThatIsNone: a person gets a page in their language with the way on,
// a program one line, whatever stands in the address.
func TestGAS7_AnAddressThatIsNone(t *testing.T) {
	w := newWorld(t, nil)
	b := w.browser()
	for lang, want := range map[string]string{"en": "There is no page at this address.", "ja": "このアドレスにはページがありません。", "zh-CN": "此地址没有页面。"} {
		a := b.get("/nothing/%3Cscript%3E?x=<b>", "Accept", "text/html,*/*;q=0.8", "Accept-Language", lang)
		if a.StatusCode != 404 || !strings.Contains(a.body, want) || !strings.Contains(a.body, `href="/account"`) || strings.Contains(a.body, "<script") || strings.Contains(a.body, "<b>") {
			t.Errorf("%s: %d %s", lang, a.StatusCode, a.body)
		}
		if p := a.Header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") {
			t.Error(p)
		}
	}
	if a := b.get(w.url+"//evil.example/x", "Accept", "text/html"); a.StatusCode != 404 || strings.Contains(a.body, "evil") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	for _, accept := range []string{"", "application/json, text/event-stream", "*/*"} {
		if a := b.get("/nothing", "Accept", accept, "Accept-Language", "ja"); a.StatusCode != 404 || a.body != "There is nothing here.\n" {
			t.Errorf("%q: %d %s", accept, a.StatusCode, a.body)
		}
	}
	if a := b.post("/nothing", nil); a.StatusCode != 404 || strings.Contains(a.body, "<html") {
		t.Errorf("a form: %d %s", a.StatusCode, a.body)
	}
}
