package authserver_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestWholeFlow(t *testing.T) {
	w := newWorld(t, nil)
	b := w.browser()
	x := w.register("Test client", loopback)
	page := b.get("/authorize?" + x.params().Encode())
	if !strings.Contains(page.body, `name="password"`) {
		t.Fatalf("no login page: %s", page.body)
	}
	b = w.person()
	page = b.get("/authorize?" + x.params().Encode())
	if page.StatusCode != http.StatusOK || !strings.Contains(page.body, "Test client") || !strings.Contains(page.body, "127.0.0.1") {
		t.Fatalf("no consent page: %d %s", page.StatusCode, page.body)
	}
	a := b.approve(page)
	if a.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	q := a.location(t).Query()
	if q.Get("state") != "st-ate" || q.Get("iss") != w.url {
		t.Fatalf("response %v", q)
	}
	tok := x.token(x.redeemForm(q.Get("code")))
	if tok.StatusCode != http.StatusOK || tok.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", tok.StatusCode, tok.body)
	}
	m := tok.json(t)
	r := x.token(x.refreshForm(m["refresh_token"].(string)))
	if r.StatusCode != http.StatusOK || r.json(t)["refresh_token"] == m["refresh_token"] {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
}
