package authserver_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
)

func (b *browser) tryLogin(name, pass string) answer {
	b.w.t.Helper()
	v := b.get("/login").hidden()
	v.Set("name", name)
	v.Set("password", pass)
	return b.post("/login", v)
}

var hiddenInput = regexp.MustCompile(`<input type="hidden"[^>]*>`) // tickets, which differ

func TestLoginTellsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	wrong, unknown := w.browser().tryLogin("alice", "not the password"), w.browser().tryLogin("nobody", "not the password")
	clean := func(a answer) string {
		s := hiddenInput.ReplaceAllString(a.body, "")
		s = strings.ReplaceAll(s, a.Header.Get("X-Request-Id"), "")
		return strings.NewReplacer("alice", "", "nobody", "").Replace(s)
	}
	if wrong.StatusCode != unknown.StatusCode || clean(wrong) != clean(unknown) {
		t.Fatal("a wrong password and an unknown name look different")
	}
	for _, a := range []answer{wrong, unknown} {
		if !strings.Contains(a.body, "can give you a link for a new one") {
			t.Error("nobody is told what to do without a password")
		}
		for _, k := range a.Cookies() {
			if strings.Contains(k.Name, "session") {
				t.Fatal("a session was given")
			}
		}
	}
}

func TestLoginSessionCookie(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	b := w.browser()
	b.Cookies["__Host-kidoban-session"] = "fixed"
	a := b.tryLogin("ALICE ", password) // the name's case does not matter
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/account" {
		t.Fatal(a.StatusCode, a.body)
	}
	for _, k := range a.Cookies() {
		if strings.Contains(k.Name, "session") && (!strings.HasPrefix(k.Name, "__Host-") || !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteLaxMode || k.Path != "/" || k.Domain != "" || len(k.Value) != 43) {
			t.Fatalf("%+v", k)
		}
	}
	before := b.clone()
	if again := b.tryLogin("alice", password); again.StatusCode != 303 {
		t.Fatal(again.StatusCode)
	}
	if a := before.get("/account"); strings.Contains(a.body, "revoke_all") || !strings.Contains(a.body, `name="password"`) {
		t.Fatal("the session from before the login lives (fixation)")
	}
	v := b.get("/account").hidden()
	if a := b.post("/logout", set(v, "t", "forged")); a.StatusCode != 403 {
		t.Fatal("a forged logout worked")
	}
	old := b.clone()
	if a := b.post("/logout", v); a.StatusCode != 303 {
		t.Fatal(a.StatusCode)
	}
	if a := old.get("/account"); !strings.Contains(a.body, `autocomplete="current-password" required`) {
		t.Fatal("the session lives after logout")
	}
}

func TestLoginSessionsEnd(t *testing.T) {
	w := newWorld(t, nil)
	b := w.person()
	out := func() bool { return strings.Contains(b.get("/account").body, `name="name"`) }
	w.clock.forward(11 * time.Hour)
	if out() {
		t.Fatal("ended while in use")
	}
	w.clock.forward(12*time.Hour + time.Minute)
	if !out() {
		t.Fatal("an idle session lives")
	}
	b = w.login("alice")
	for range 17 {
		w.clock.forward(10 * time.Hour)
		b.get("/account")
	}
	if !out() {
		t.Fatal("a session lives for ever")
	}
}

// TestLoginCSRF: a form made for one browser does not log another one in.
func TestLoginCSRF(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	attacker, victim := w.browser(), w.browser()
	v := attacker.get("/login").hidden()
	v.Set("name", "alice")
	v.Set("password", password)
	if a := victim.post("/login", v); a.StatusCode != 400 {
		t.Fatal(a.StatusCode)
	}
	victim.get("/login") // now it has a cookie, another one
	if a := victim.post("/login", v); a.StatusCode != 400 {
		t.Fatal(a.StatusCode)
	}
	own := victim.get("/login").hidden()
	own.Set("name", "alice")
	own.Set("password", password)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		if a := victim.post("/login", own, h...); a.StatusCode != 403 {
			t.Fatal(h, a.StatusCode)
		}
	}
	if a := victim.post("/login", own, "Sec-Fetch-Site", "same-origin", "Origin", w.url); a.StatusCode != 303 {
		t.Fatal(a.StatusCode)
	}
}

func TestLoginReturnsOnlyHere(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	for _, q := range []string{"?next=https://evil.example", "?returnTo=//evil.example", "?redirect=https://evil.example", "?Next=/\\evil.example"} {
		b := w.browser()
		v := b.get("/login" + q).hidden()
		v.Set("name", "alice")
		v.Set("password", password)
		v.Set("next", "https://evil.example")
		if a := b.post("/login"+q, v); a.Header.Get("Location") != "/account" {
			t.Fatal(a.Header.Get("Location"))
		}
	}
}

func TestLoginBruteForce(t *testing.T) {
	w := newWorld(t, func(w *world) {
		l := unlimited()
		l.LoginPerName = limit.Defaults().LoginPerName
		w.cfg.Limits = l
	})
	w.person()
	for i := range 20 { // a person who knows the password is not charged
		if a := w.browser().tryLogin("alice", password); a.StatusCode != 303 {
			t.Fatal(i, a.StatusCode)
		}
	}
	for _, name := range []string{"alice", "nobody"} {
		codes := map[int]int{}
		for range 12 {
			codes[w.browser().tryLogin(name, "guess guess guess").StatusCode]++
		}
		if codes[200] != 5 || codes[429] != 7 {
			t.Fatalf("%s: %v", name, codes)
		}
	}
	if !w.seen.alerted("login_guessing") {
		t.Fatal("no alert")
	}
	w.clock.forward(time.Hour)
	if a := w.browser().tryLogin("alice", password); a.StatusCode != 303 {
		t.Fatal("locked out for ever")
	}
}

func TestSetupLinkWorksOnce(t *testing.T) {
	w := newWorld(t, nil)
	link, err := w.s.SetupLink(t.Context())
	if err != nil || link == "" {
		t.Fatal(link, err)
	}
	b := w.browser()
	for range 3 { // link previews look and do not use
		if a := b.get(link); a.StatusCode != 200 || a.Header.Get("Referrer-Policy") == "" {
			t.Fatal(a.StatusCode)
		}
	}
	v := b.get(link).hidden()
	for problem, f := range map[string][]string{
		"at least 12": {"name", "root", "password", "short", "again", "short"}, "two passwords differ": {"name", "root", "password", "correct horse battery", "again", "x"},
		"too easy": {"name", "superadmin", "password", "superadmin-superadmin", "again", "superadmin-superadmin"}, "Choose a name": {"name", "<b>", "password", password, "again", password},
	} {
		if a := b.post("/setup", set(v, f...)); a.StatusCode != 200 || !strings.Contains(a.body, problem) {
			t.Errorf("%s: %d %s", problem, a.StatusCode, a.body)
		}
	}
	if a := b.post("/setup", set(v, "name", "root", "password", password, "again", password)); a.StatusCode != 303 {
		t.Fatal(a.body)
	}
	wantPage(t, w.browser().get(link), 404)
	wantPage(t, w.browser().post("/setup", set(v, "name", "other", "password", password, "again", password)), 404)
	if again, err := w.s.SetupLink(t.Context()); again != "" || err != nil {
		t.Fatal("a second first administrator")
	}
}

func TestPasswordChangeEndsOtherLogins(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.person(), w.login("alice")
	v := set(b.get("/account").hidden(), "do", "password", "old", "wrong", "password", "another long password", "again", "another long password")
	if r := b.post("/account", v); r.StatusCode != 200 || !strings.Contains(r.body, "old password is wrong") {
		t.Fatal(r.StatusCode, r.body)
	}
	if r := b.post("/account", set(v, "old", password)); r.StatusCode != 303 {
		t.Fatal(r.body)
	}
	if !strings.Contains(a.get("/account").body, `name="name"`) || strings.Contains(b.get("/account").body, `name="name"`) {
		t.Fatal("the wrong login ended")
	}
	if r := w.browser().tryLogin("alice", "another long password"); r.StatusCode != 303 {
		t.Fatal(r.StatusCode)
	}
}
