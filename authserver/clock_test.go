package authserver_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
)

// TestGAS5_ClockJumps: the machine's clock leaps forward and is set back. Nobody
// is logged out, no token is good twice, no limit locks anybody out for long, and
// revocations are followed again by themselves.
func TestGAS5_ClockJumps(t *testing.T) {
	w := newWorld(t, func(w *world) {
		l := limit.Defaults()
		w.cfg.Limits = unlimited()
		w.cfg.Limits.RegistrationPerIP = l.RegistrationPerIP
	})
	alice := w.person()
	x := w.register("Client", loopback)
	first := x.tokens(alice)["refresh_token"].(string)
	live := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			ok, err := w.s.Liveness().Live("g", "t")
			if ok && err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("revocations are not followed: %v %v", ok, err)
			}
		}
	}
	// After a step back a limit that was in use has nothing left until one more of
	// its periods has passed; a client waits for what Retry-After names.
	ask := func(form func() answer) answer {
		t.Helper()
		a := form()
		if a.StatusCode == http.StatusTooManyRequests && a.Header.Get("Retry-After") == "1" {
			time.Sleep(time.Second)
			a = form()
		}
		return a
	}
	refresh := func(token string) string {
		t.Helper()
		a := ask(func() answer { return x.token(x.refreshForm(token)) })
		if a.StatusCode != http.StatusOK {
			t.Fatalf("refresh: %d %s", a.StatusCode, a.body)
		}
		return a.json(t)["refresh_token"].(string)
	}

	const leap = 3 * time.Hour
	w.clock.forward(leap)
	live()
	second := refresh(first)
	code := x.code(w.login("alice"), nil)
	for range 2 * limit.Defaults().RegistrationPerIP.Burst { // used up in the future
		w.postJSON("/register", map[string]any{"client_name": time.Now().String(), "redirect_uris": []string{loopback}})
	}

	w.clock.forward(-leap)
	live()
	third := refresh(second)
	if again := refresh(second); again != third {
		t.Error("a refresh token has two successors")
	}
	if a := x.token(x.refreshForm(first)); a.StatusCode == http.StatusOK && a.json(t)["refresh_token"] != second {
		t.Error("a refresh token of before the leap has two successors")
	}
	if a := x.token(x.redeemForm(code)); a.StatusCode != http.StatusOK {
		t.Errorf("a code of the leap: %d %s", a.StatusCode, a.body)
	}
	wantError(t, x.token(x.redeemForm(code)), http.StatusBadRequest, "invalid_grant")
	late := func() answer {
		return w.postJSON("/register", map[string]any{"client_name": "later", "redirect_uris": []string{loopback}})
	}
	// Three limits in a row, and what the database knows of them, each find a state of
	// the future and pull it in; then it takes what the limit itself takes, not the leap.
	made := false
	for range 6 {
		w.clock.forward(10 * time.Minute)
		made = made || late().StatusCode == http.StatusCreated
	}
	if !made {
		t.Error("the limits hold as long as the leap")
	}
	if a := alice.get("/account"); a.StatusCode != http.StatusOK {
		t.Errorf("the login did not outlive the leap: %d", a.StatusCode)
	}
	refresh(third)
}
