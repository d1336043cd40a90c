package main

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
)

// TestUserCommands makes the people of a running gateway from the command line.
func TestUserCommands(t *testing.T) {
	g := startGateway(t, "")
	at := []string{"-c", g.config, "--data", g.data, "--listen", strings.TrimPrefix(g.url, "http://")}
	user := func(want int, says string, args ...string) string {
		t.Helper()
		code, said := operate(t, append(append([]string{"gateway", "user"}, args...), at...)...)
		if code != want || !strings.Contains(said, says) {
			t.Errorf("user %v: exit %d, %q; want %d, %q", args, code, said, want, says)
		}
		return said
	}
	if said := user(exitClean, "is the administrator", "add", "zoe"); strings.Contains(said, "zoe") { // the name is chosen on the page
		t.Error(said)
	}
	user(exitClean, "alice can log in.", "add", "alice", "--password-env", "PASSWORD")
	link := user(exitClean, "works once", "add", "Bob")
	if !strings.Contains(link, g.url+"/setup?token=") {
		t.Errorf("no link in %q", link)
	}
	user(exitUsage, "there is a user bob already", "add", "bob")
	user(exitUsage, "NOTHING is empty", "add", "carol", "--password-env", "NOTHING")
	user(exitUsage, "there is no user mallory", "reset", "mallory")
	list := user(exitClean, "alice  administrator", "list")
	if strings.Contains(list, "bob  administrator") || strings.Contains(list, "argon2") {
		t.Errorf("list: %s", list)
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.browser = &http.Client{Jar: loopbackJar{jar}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	login := func(password string) int {
		page, _ := g.page(g.url+"/login", nil)
		v := fields(page)
		v.Set("name", "alice")
		v.Set("password", password)
		_, resp := g.page(g.url+"/login", v)
		return resp.StatusCode
	}
	if code := login("correct horse battery staple"); code != http.StatusSeeOther {
		t.Fatalf("login: %d", code)
	}
	loggedIn := func() bool {
		page, _ := g.page(g.url+"/account", nil)
		return !strings.Contains(page, `name="password"`) || strings.Contains(page, "/logout")
	}
	if !loggedIn() {
		t.Fatal("nobody is logged in")
	}
	user(exitClean, "is out", "disable", "alice")
	if loggedIn() {
		t.Error("a disabled user's session still works")
	}
	user(exitClean, "may log in again", "enable", "alice")
	if code := login("correct horse battery staple"); code != http.StatusSeeOther {
		t.Errorf("login after enable: %d", code)
	}
	g.stop()
	user(exitIncomplete, "is it running?", "reset", "alice", "--password-env", "PASSWORD")
}

// TestUserListIsWhole: everybody is listed, once, however many there are, with what the
// identity provider said of them.
func TestUserListIsWhole(t *testing.T) {
	data := t.TempDir()
	config := putText(t, filepath.Join(data, "c.yaml"), "name: x\n")
	db, err := store.Open(t.Context(), store.Options{URL: filepath.Join(data, "kidoban.db")})
	if err != nil {
		t.Fatal(err)
	}
	const n = 450
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range n {
		if err := db.CreateUser(t.Context(), authserver.User{ID: fmt.Sprintf("u_%03d", i*7%n), Name: fmt.Sprintf("p%03d", i), Created: at}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.PutHeard(t.Context(), authserver.Heard{UserID: "u_007", Provider: "corp", Groups: []string{"a", "b\u202e"}, At: at}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out, errs, code := invoke(t, "gateway", "user", "list", "-c", config, "--data", data)
	if code != exitClean || strings.Count(out, "\n") != n {
		t.Errorf("exit %d, %d of %d users\n%s", code, strings.Count(out, "\n"), n, errs)
	}
	for i := range n {
		if strings.Count(out, fmt.Sprintf("  p%03d", i)) != 1 {
			t.Errorf("p%03d is not there once", i)
		}
	}
	if !strings.Contains(out, "u_007  p001  corp:a, corp:b") || !strings.Contains(out, "(2026-01-02T03:04:05Z)") || strings.Contains(out, "\u202e") {
		t.Error(out[:200])
	}
	out, _, _ = invoke(t, "gateway", "user", "list", "--json", "-c", config, "--data", data)
	if !strings.Contains(out, `"groups":["corp:a","corp:b`) || !strings.Contains(out, `"heard":"2026-01-02T03:04:05Z"`) || strings.Count(out, `"groups"`) != 1 {
		t.Error(out[:400])
	}
}
