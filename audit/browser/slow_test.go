package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/audit/browser"
)

// slowLogin is a login whose page stays as it is for a good while after its button
// was pressed. mode says what takes the time.
func slowLogin(t *testing.T, mode string) (start string, logins, consents *atomic.Int32) {
	logins, consents = new(atomic.Int32), new(atomic.Int32)
	const long = 900 * time.Millisecond
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>Slow</title>%s", body)
	}
	const form = `<form method=post action=/login><label>User <input name=username autocomplete=username></label>
		<label>Password <input type=password name=password autocomplete=current-password></label><button>Log in</button></form>`
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		switch mode {
		case "fetch":
			page(w, form+`<p id=said></p><script>document.forms[0].addEventListener("submit", async e => { e.preventDefault();
				const a = await fetch("/login", {method: "POST", body: new URLSearchParams(new FormData(e.target))});
				if (a.ok) location = "/consent"; else said.textContent = "Wrong password" })</script>`)
		case "timer":
			page(w, form+`<script>document.forms[0].addEventListener("submit", e => { e.preventDefault(); setTimeout(() => e.target.submit(), 900) })</script>`)
		default:
			page(w, form)
		}
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		logins.Add(1)
		time.Sleep(long)
		switch {
		case r.FormValue("password") != "right":
			w.WriteHeader(http.StatusForbidden)
		case mode == "fetch":
		default:
			http.Redirect(w, r, "/consent", http.StatusSeeOther)
		}
	})
	mux.HandleFunc("GET /consent", func(w http.ResponseWriter, r *http.Request) {
		page(w, `<p>Walk wants to read your notes.</p><form method=post action=/decide><button name=d value=yes>Allow</button><button name=d value=no>Deny</button></form>`)
	})
	mux.HandleFunc("POST /decide", func(w http.ResponseWriter, r *http.Request) {
		consents.Add(1)
		time.Sleep(long)
		http.Redirect(w, r, redirect+"?code=c", http.StatusSeeOther)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/start", logins, consents
}

// TestT3WalkWaitsForSlowPages: a page that has not moved yet is not a login that was
// refused, and nothing is sent twice.
func TestT3WalkWaitsForSlowPages(t *testing.T) {
	c := chromium(t)
	for _, mode := range []string{"form", "fetch", "timer"} {
		for _, password := range []string{"right", "wrong"} {
			t.Run(mode+"/"+password, func(t *testing.T) {
				start, logins, consents := slowLogin(t, mode)
				tab, err := c.Open(t.Context(), browser.Policy{Capture: capture})
				if err != nil {
					t.Fatal(err)
				}
				defer tab.Close()
				j, err := browser.Walk(t.Context(), tab, start, browser.Errand{Account: browser.Account{User: "alice", Password: password}, Name: "Walk"})
				if err != nil {
					t.Fatal(err)
				}
				if logins.Load() != 1 {
					t.Errorf("the password was sent %d times", logins.Load())
				}
				if password == "wrong" {
					if j.Captured != "" || j.Why == "" {
						t.Errorf("captured %q, why %q", j.Captured, j.Why)
					}
					return
				}
				if j.Captured != redirect+"?code=c" || len(j.Consents()) != 1 || consents.Load() != 1 {
					t.Errorf("captured %q, why %q, %d consent pages, answered %d times", j.Captured, j.Why, len(j.Consents()), consents.Load())
				}
			})
		}
	}
}
