package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver/authtest"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store/storetest"
)

// evil is what a stranger puts wherever a stranger chooses the words: it breaks
// out of text, attributes, scripts and addresses, and brings htmx along.
const evil = `"'><img src=x onerror=window.pwned=1><script>window.pwned=1</script><a href="javascript:window.pwned=1" hx-get="/console/deny" hx-trigger="load" hx-on:load="window.pwned=1">x</a></title></pre></option>{{.}}${7*7}` + "\u202e\u200b"

// elsewhere is an attacker's site: the same host under another port, so that to
// cookies it is the same site, and under another name.
func elsewhere(t *testing.T, page string) (samesite, foreign string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page)) // a test's page
	}))
	t.Cleanup(srv.Close)
	return srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
}

// TestConsole_CSRF: forms of other sites are not obeyed, with no token, a stolen
// one of another login, and from the same host under another port.
func TestConsole_CSRF(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	mallory := w.person("mallory", false)
	stolen := mallory.get("/console/mine").token(t)
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, logIn(w, "alice"))
	form := fmt.Sprintf(`<form id="f" method="post" action="%s/console/deny"><input name="t" value="%s"><input name="kind" value="host"><input name="pattern" value="innocent.example"><input name="do" value="deny:"></form><script>onload=()=>document.getElementById("f").submit()</script>`, w.url, stolen)
	near, far := elsewhere(t, form)
	for _, from := range []string{near, far} {
		authtest.Run(t, ctx, chromedp.Navigate(from), chromedp.WaitReady(`footer, input[name=password]`))
		text := authtest.Read(t, ctx, chromedp.Text("body"))
		if !strings.Contains(text, "another website") && !strings.Contains(text, "Log in") {
			t.Errorf("%s: %s", from, text)
		}
		if w.as.DeniedHost("innocent.example") != nil {
			t.Fatalf("%s: the foreign form was obeyed", from)
		}
	}
	// Without a browser that tells where a form comes from the token decides.
	alice := w.login("alice")
	good := alice.get("/console/deny").token(t)
	changed := "A" + good[1:]
	if changed == good { // one in 64 begins so
		changed = "B" + good[1:]
	}
	for name, token := range map[string]string{"none": "", "of another login": stolen, "changed": changed} {
		v := url.Values{"t": {token}, "kind": {"host"}, "pattern": {"innocent.example"}, "do": {"deny:"}}
		if a := alice.post("/console/deny", v); a.StatusCode != http.StatusForbidden || w.as.DeniedHost("innocent.example") != nil {
			t.Errorf("token %s: %d", name, a.StatusCode)
		}
	}
	if a := alice.do("GET", "/console/deny?do=deny:&kind=host&pattern=innocent.example&t="+good, nil); a.StatusCode != 200 || w.as.DeniedHost("innocent.example") != nil {
		t.Error("an address was enough")
	}
	if a := alice.do("POST", "/console/deny", url.Values{"t": {good}, "kind": {"host"}, "pattern": {"innocent.example"}, "do": {"deny:"}}, "Content-Type", "text/plain"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("text/plain: %d", a.StatusCode)
	}
	if a := alice.post("/console/deny", url.Values{"t": {good}, "kind": {"host"}, "pattern": {"guilty.example"}, "do": {"deny:"}}); a.StatusCode != http.StatusSeeOther || w.as.DeniedHost("guilty.example") == nil {
		t.Errorf("the control: %d %s", a.StatusCode, a.body)
	}
}

// TestConsole_XSS: words of strangers in names of clients and tools, reasons,
// alerts, audit entries, headers and addresses run nothing and change nothing,
// in a browser with scripts on.
func TestConsole_XSS(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed(evil)
	b := w.login("alice")
	// Through a header: the id and the agent of a request that is recorded.
	b.get("/console/clients", "X-Request-Id", evil[:40], "User-Agent", "<script>window.pwned=1</script>", "Accept-Language", `en"><script>`)
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, logIn(w, "alice"))
	for _, p := range everyPage {
		path := strings.Replace(p.path, "ALICE", w.user("alice").ID, 1)
		if p.name == "definition" {
			path = "/console/definition?server=files&kind=tool&name=" + url.QueryEscape("read_file"+evil)
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		for _, more := range []string{"", sep + "q=" + url.QueryEscape(evil) + "&user=" + url.QueryEscape(evil) + "&after=" + url.QueryEscape("1."+evil) + "&done=" + url.QueryEscape(evil) + "&kind=" + url.QueryEscape(evil)} {
			if p.name == "definition" && more != "" {
				continue
			}
			authtest.Run(t, ctx, chromedp.Navigate(w.url+path+more), chromedp.WaitReady(`footer`))
			state := evaluate(t, ctx, `String([window.pwned, document.querySelectorAll("main script, main img, [onerror], a[href^=javascript], main [hx-on\\:load]").length, document.querySelectorAll("#live ~ [hx-get], main table [hx-get]").length])`)
			if state != ",0,0" {
				t.Errorf("%s%s: %s", p.name, more, state)
			}
			if text := authtest.Read(t, ctx, chromedp.OuterHTML("html")); strings.Contains(text, "\u202e") || strings.Contains(text, "<img src=x") {
				t.Errorf("%s: the words came through unchanged", p.name)
			}
		}
	}
	if w.as.DeniedHost("innocent.example") != nil {
		t.Error("something was done")
	}
	// An answer that could be taken for a page is not one.
	a := b.get("/console/log.jsonl")
	if a.Header.Get("Content-Type") != "application/jsonl; charset=utf-8" || a.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(a.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%v", a.Header)
	}
}

// TestConsole_OddQueries: whatever stands in an address, the answer is a page and
// never a failure of the database, on both engines.
func TestConsole_OddQueries(t *testing.T) {
	for engine, database := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": cluster.Postgres(t)} {
		t.Run(engine, func(t *testing.T) {
			w := newWorld(t, database)
			b := w.person("alice", true)
			w.seed("")
			for _, p := range everyPage {
				path, _, _ := strings.Cut(p.path, "?")
				for _, odd := range []string{"%00", "%ff%fe", "%25_%5C", "1.%ff", "1.%00", "9223372036854775807.x", "-5", "%0A%0A%0A", "a%0Ab%0A%FF%0Ad", strings.Repeat("x", 3000), "%F0%9F%98%80", "99999999999999999999", "2026-13-45"} {
					q := "?"
					for _, name := range []string{"q", "after", "id", "name", "user", "client", "server", "request", "kind", "state", "span", "from", "to", "other", "c", "u", "done"} {
						q += name + "=" + odd + "&"
						if a := b.get(path + "?" + name + "=" + odd); a.StatusCode >= 500 {
							t.Errorf("%s?%s=%s: %d", path, name, odd, a.StatusCode)
						}
					}
					if a := b.get(path + q); a.StatusCode >= 500 {
						t.Errorf("%s%s: %d", path, q, a.StatusCode)
					}
				}
			}
		})
	}
}

// TestConsole_Clickjacking: no page shows in a frame of another site.
func TestConsole_Clickjacking(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, logIn(w, "alice"))
	near, _ := elsewhere(t, `<iframe id="f" src="`+w.url+`/console/deny"></iframe><p id="end">end</p>`)
	authtest.Run(t, ctx, chromedp.Navigate(near), chromedp.WaitReady(`#end`), chromedp.Sleep(500*time.Millisecond))
	// A refused frame is an error page of an opaque origin; a page of ours would be
	// of the gateway's.
	out := evaluate(t, ctx, `(()=>{try{return String(document.getElementById("f").contentWindow.location.href)}catch(e){return "closed"}})()`)
	shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`String(performance.getEntriesByType("resource").filter(e => e.name.includes("/console/assets/")).length)`))
	if err != nil || shown != "0" {
		t.Errorf("the frame loaded the page: %s %s %v", out, shown, err)
	}
	b := w.login("alice")
	for _, path := range []string{"/console", "/console/deny", "/console/nothing", "/console/log"} {
		a := b.get(path)
		if csp := a.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || a.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
	if a := b.get("/console"); strings.Count(a.body, nonceOf(a)) < 2 || nonceOf(a) == nonceOf(b.get("/console")) {
		t.Error("the nonce is missing or used twice")
	}
}

func nonceOf(a answer) string {
	_, rest, _ := strings.Cut(a.Header.Get("Content-Security-Policy"), "'nonce-")
	nonce, _, _ := strings.Cut(rest, "'")
	if len(nonce) < 22 {
		return "no nonce"
	}
	return nonce
}

// TestConsole_Fixation: a session that an attacker put into the browser is worth
// nothing after the login, before it neither.
func TestConsole_Fixation(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	mallory := w.person("mallory", false)
	name := ""
	for k := range mallory.Cookies {
		if strings.Contains(k, "-session-") {
			name = k
		}
	}
	old := mallory.Cookies[name]
	if name == "" || !strings.HasPrefix(name, "__Host-") {
		t.Fatalf("%v", mallory.Cookies)
	}
	ctx := chrome(t, "en")
	// The attacker's own login, and an id of nobody's, planted in the browser.
	for _, planted := range []string{old, strings.Repeat("A", 43)} {
		authtest.Run(t, ctx, chromedp.Navigate(w.url+"/login"), setCookie(w.url, name, planted), logIn2(w, "alice"))
		if fresh := cookieOf(t, ctx, w.url, name); fresh == planted || fresh == "" {
			t.Fatalf("the planted session was kept")
		}
		thief := w.browser()
		thief.Cookies[name] = planted
		if a := thief.get("/console/users"); strings.Contains(a.body, `href="/console/user?id=`) {
			t.Error("the planted session is the administrator's")
		}
	}
}

// TestConsole_UserAtAdminPages: a user who opens the administrators' addresses, or
// sends their forms, gets nothing; the attempt is in the audit log.
func TestConsole_UserAtAdminPages(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed("")
	bob := w.person("bob", false)
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, logIn(w, "bob"))
	token := bob.get("/console/mine").token(t)
	for _, p := range everyPage {
		if p.name == "mine" || p.name == "start" || p.name == "overview" {
			continue
		}
		path := strings.Replace(p.path, "ALICE", w.user("alice").ID, 1)
		authtest.Run(t, ctx, chromedp.Navigate(w.url+path), chromedp.WaitReady(`footer`))
		text := authtest.Read(t, ctx, chromedp.Text("html"))
		if !strings.Contains(text, "for administrators") || strings.Contains(text, p.text) {
			t.Errorf("%s: %s", p.name, text)
		}
		if a := bob.get(path); a.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", p.name, a.StatusCode)
		}
		for _, do := range []string{"deny_host:calendar-invites.example", "revoke:g_c_c1", "admin:" + w.user("bob").ID, "add:", "approve:x", "admit:new.example", "disable:" + w.user("alice").ID} {
			if a := bob.post(path, url.Values{"t": {token}, "do": {do}, "name": {"eve"}}); a.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s: %d", p.name, do, a.StatusCode)
			}
		}
	}
	authtest.Shoot(t, ctx, "refused-light")
	if bad := axe(t, ctx); bad != "" {
		t.Error(bad)
	}
	if a := bob.get("/console/log.jsonl"); a.StatusCode != http.StatusForbidden || strings.Contains(a.body, "REQ00") {
		t.Errorf("export: %d", a.StatusCode)
	}
	// Another person's grant is as if it were not there.
	if a := bob.act("/console/mine", "revoke:g_c_c1"); !strings.Contains(a.body, "gone already") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if g, err := w.db.Grant(t.Context(), "g_c_c1"); err != nil || !g.Revoked.IsZero() || w.user("bob").Admin || w.user("alice").Disabled {
		t.Errorf("something was done: %+v %v", g, err)
	}
	w.settle()
	log, err := w.db.PageJournal(t.Context(), console.JournalQuery{Query: console.Query{Limit: 500}, User: w.user("bob").ID, Other: true})
	must(t, err)
	n := 0
	for _, e := range log.Rows {
		if e.Record.Decision == "refused" && e.Record.Rule == "admin" {
			n++
		}
	}
	if n < 100 {
		t.Errorf("%d refusals in the log", n)
	}
}

// TestConsole_FreshLogin: what widens access asks for a login that is not older
// than a quarter of an hour; what narrows it does not.
func TestConsole_FreshLogin(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.person("alice", true)
	w.person("bob", false)
	w.seed("")
	bob := w.user("bob").ID
	wide := []struct{ page, do string }{{"/console/user?id=" + bob, "admin:" + bob}, {"/console/users", "add:"}, {"/console/user?id=" + bob, "reset:" + bob},
		{"/console/domains", "admit:new.example"}, {"/console/definition?server=files&kind=tool&name=send_mail", "approve:" + heldSum(w, "send_mail")}}
	w.ahead.Store(int64(20 * time.Minute))
	for _, x := range wide {
		if a := b.act(x.page, x.do, "name", "carol"); a.StatusCode != 200 || !strings.Contains(a.body, "once more") {
			t.Errorf("%s with an old login: %d %s", x.do, a.StatusCode, a.body)
		}
	}
	if w.user("bob").Admin || w.as.DeniedHost("x.example") != nil {
		t.Fatal("it was done")
	}
	if a := b.act("/console/deny", "deny:", "kind", "host", "pattern", "x.example"); a.StatusCode != 303 || w.as.DeniedHost("x.example") == nil {
		t.Errorf("blocking waits for a login: %d", a.StatusCode)
	}
	b = w.login("alice")
	for _, x := range wide {
		if a := b.act(x.page, x.do, "name", "carol"); a.StatusCode != 303 && !strings.Contains(a.body, "/setup?token=") {
			t.Errorf("%s with a fresh login: %d %s", x.do, a.StatusCode, a.body)
		}
	}
	if !w.user("bob").Admin {
		t.Error("bob is no administrator")
	}
	if c, err := w.db.Client(t.Context(), "https://new.example/client.json"); err != nil || c.Review {
		t.Errorf("the domain was not let in: %+v %v", c, err)
	}
	if a := b.act("/console/user?id="+w.user("alice").ID, "noadmin:"+w.user("alice").ID); !w.user("alice").Admin || !strings.Contains(a.body, "another administrator") {
		t.Errorf("one's own rights: %d %s", a.StatusCode, a.body)
	}
}

func heldSum(w *world, name string) string {
	w.t.Helper()
	all, err := w.db.Pins(w.t.Context(), "files", false)
	must(w.t, err)
	for _, p := range all {
		if p.Name == name && p.State == gateway.PinHeld {
			return p.SHA256
		}
	}
	w.t.Fatalf("%s is not held", name)
	return ""
}

func (w *world) login(name string) *browser {
	w.t.Helper()
	b := w.browser()
	v := b.get("/login").fields()
	v.Set("name", name)
	v.Set("password", password)
	if a := b.post("/login", v); a.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("login: %d %s", a.StatusCode, html.UnescapeString(a.body))
	}
	return b
}

// TestGRG8_AlertsInTheReadersLanguage: alerts are told in the language of the page,
// those that were stored without their words as they were stored.
func TestGRG8_AlertsInTheReadersLanguage(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed("")
	b := w.login("alice")
	for lang, says := range map[string]string{"en": "A client registered a callback at calendar-invites.example", "ja": "これまで見たことのないホスト calendar-invites.example", "zh": "从未见过的主机 calendar-invites.example"} {
		for _, page := range []string{"/console", "/console/alerts"} {
			a := b.get(page + "?lang=" + lang)
			if a.StatusCode != 200 || !strings.Contains(a.body, says) || !strings.Contains(a.body, `lang="en">Within 15 minutes several people`) {
				t.Errorf("%s in %s: %d, without %q", page, lang, a.StatusCode, says)
			}
		}
	}
}
