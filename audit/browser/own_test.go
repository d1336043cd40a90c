package browser_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/audit/browser"
)

// TestT3OwnBrowser: without a program the address is printed; the answer with the
// right state is taken once, and nothing else is.
func TestT3OwnBrowser(t *testing.T) {
	in, out := io.Pipe()
	w, err := browser.ListenOwn(browser.OwnOptions{Program: "/nonexistent/browser", Tell: out, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	back := w.Base() + "x"
	get := func(query string) int {
		res, err := http.Get(back + query)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	var page sync.WaitGroup
	page.Go(func() {
		lines := bufio.NewScanner(in)
		told := ""
		for lines.Scan() && !strings.Contains(told, "https://as.example/authorize") {
			told += lines.Text()
			if strings.Contains(told, "https://as.example/authorize?state=right") {
				break
			}
		}
		if !strings.Contains(told, "cannot be opened from here") {
			t.Errorf("told %q", told)
		}
		for query, want := range map[string]int{"?code=stolen&state=wrong": 400, "?code=stolen": 400} {
			if st := get(query); st != want {
				t.Errorf("%s: status %d", query, st)
			}
		}
		if st := get("?code=c&state=right"); st != 200 {
			t.Errorf("status %d", st)
		}
		if st := get("?code=again&state=right"); st != 400 {
			t.Errorf("a second answer: status %d", st)
		}
		_, _ = io.Copy(io.Discard, in)
	})
	defer page.Wait() // it asks once more after the answer was taken
	defer out.Close()
	at, err := w.Visit(t.Context(), "https://as.example/authorize?state=right")
	if err != nil {
		t.Fatal(err)
	}
	if u, err := url.Parse(at); err != nil || u.Query().Get("code") != "c" {
		t.Errorf("came back at %s", at)
	}
	for _, to := range []string{"javascript:alert(1)?state=x", "file:///etc/passwd?state=x", "https://as.example/"} {
		if _, err := w.Visit(t.Context(), to); err == nil {
			t.Errorf("%s was opened", to)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Visit(ctx, "https://as.example/?state=x"); err == nil {
		t.Error("no error for an interrupted login")
	}
	if _, err := browser.ListenOwn(browser.OwnOptions{Addr: "0.0.0.0:0"}); err == nil {
		t.Error("listens for strangers")
	}
}
