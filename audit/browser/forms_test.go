package browser_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban/audit/browser"
)

// TestT3PasswordFormsOfScripts: a form with a password that is sent by a script is left
// to a real browser. Sent without one, the password would stand in the address.
func TestT3PasswordFormsOfScripts(t *testing.T) {
	const fields = `<label>User <input name=user></label><label>Password <input name=password type=password></label><button>Sign in</button></form>`
	for form, scripted := range map[string]bool{
		`<form>`: true, `<form method=get>`: true, `<form method=post onsubmit="go(event)">`: true, `<form method=post>`: false,
	} {
		var sent atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost || strings.Contains(r.URL.RawQuery, "password") {
				sent.Add(1)
			}
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html><title>Sign in</title>"+form+fields)
		}))
		tab := formsTab(t)
		_, err := browser.Walk(t.Context(), tab, srv.URL+"/login", browser.Errand{Account: browser.Account{User: "alice", Password: "correct horse"}, Quick: true})
		srv.Close()
		if errors.Is(err, browser.ErrScript) != scripted || (sent.Load() == 0) != scripted {
			t.Errorf("%s: sent %d times, %v", form, sent.Load(), err)
		}
	}
}
