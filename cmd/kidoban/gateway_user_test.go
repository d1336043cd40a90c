package main

import (
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
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
