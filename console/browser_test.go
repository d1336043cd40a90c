package console_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/authserver/authtest"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store/storetest"
)

type step = authtest.Step

// chrome starts a real browser.
func chrome(t *testing.T, lang string) context.Context {
	t.Helper()
	return authtest.Chromium(t, lang, 1280, 900, true)
}

func logIn(w *world, name string) step {
	return chromedp.Steps(chromedp.Navigate(w.url+"/console"), chromedp.WaitVisible(`input[name=password]`),
		chromedp.SendKeys(`input[name=name]`, name), chromedp.SendKeys(`input[name=password]`, password),
		chromedp.Click(`form button.approve`), chromedp.WaitVisible(`nav.main`))
}

// scheme switches between light and dark.
func scheme(name string) step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
		return chromedp.Void{}, err
	}
}

// size is a window's; a phone's is 390 wide.
func size(width int) step { return chromedp.EmulateViewport(int64(width), 900) }

// axe judges the page before it and returns what is wrong, one line a violation.
func axe(t *testing.T, ctx context.Context) string {
	t.Helper()
	cache := os.Getenv("KIDOBAN_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "kidoban")
	}
	source, err := os.ReadFile(filepath.Join(cache, "axe/node_modules/axe-core/axe.min.js"))
	if err != nil {
		t.Fatalf("%v: run scripts/setup.sh axe", err)
	}
	out := evaluate(t, ctx, string(source)+`; axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + " " + n.failureSummary)}))))`)
	var list []struct {
		ID, Help string
		Nodes    []string
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("axe: %v %s", err, out)
	}
	var b strings.Builder
	for _, v := range list {
		b.WriteString(v.ID + ": " + v.Help + "\n  " + strings.Join(v.Nodes, "\n  ") + "\n")
	}
	return b.String()
}

// everyPage lists all pages of the console, with what must be on them.
var everyPage = []struct{ name, path, text string }{
	{"overview", "/console", "Within 15 minutes"},
	{"servers", "/console/servers", "Issue tracker"},
	{"clients", "/console/clients", "Desk assistant"},
	{"client", "/console/client?id=c_desk", "alice"},
	{"hosts", "/console/hosts", "calendar-invites.example"},
	{"host", "/console/host?name=calendar-invites.example", "Team calendar"},
	{"domains", "/console/domains", "new.example"},
	{"deny", "/console/deny", "bad.example"},
	{"mine", "/console/mine", "Desk assistant"},
	{"start", "/console/start?server=files", "claude mcp add --transport http files"},
	{"alerts", "/console/alerts", "Ask them whether"},
	{"log", "/console/log", "upstream:unreachable"},
	{"definitions", "/console/definitions", "send_mail"},
	{"definition", "/console/definition?server=files&kind=tool&name=read_file", "id_rsa"},
	{"grants", "/console/grants", "Team calendar"},
	{"users", "/console/users", "alice"},
	{"user", "/console/user?id=ALICE", "Issue tracker"},
	{"limits", "/console/limits", "registration_per_ip"},
	{"settings", "/console/settings", "X-Team: (hidden)"},
}

// TestConsole_EveryPage: in a real browser, light and dark, wide and on a phone,
// in three languages, with a script and without, axe finds nothing.
func TestConsole_EveryPage(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed("")
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, size(1280), logIn(w, "alice"))
	for _, look := range []struct {
		name, scheme, lang string
		width              int
	}{{"light", "light", "en", 1280}, {"dark", "dark", "en", 1280}, {"phone", "light", "ja", 390}, {"phone-dark", "dark", "zh", 390}} {
		authtest.Run(t, ctx, scheme(look.scheme), size(look.width))
		for _, p := range everyPage {
			t.Run(p.name+" "+look.name, func(t *testing.T) {
				sep := "?"
				if strings.Contains(p.path, "?") {
					sep = "&"
				}
				path := strings.Replace(p.path, "ALICE", w.user("alice").ID, 1)
				authtest.Run(t, ctx, chromedp.Navigate(w.url+path+sep+"lang="+look.lang), chromedp.WaitReady(`footer`))
				authtest.Shoot(t, ctx, p.name+"-"+look.name)
				if bad := axe(t, ctx); bad != "" {
					t.Error(bad)
				}
				if text := authtest.Read(t, ctx, chromedp.Text("main")); !strings.Contains(text, p.text) {
					t.Errorf("%q is not there: %s", p.text, text)
				}
				if over := evaluate(t, ctx, `String(document.documentElement.scrollWidth - document.documentElement.clientWidth)`); over != "0" {
					t.Errorf("the page is %s pixels too wide", over)
				}
			})
		}
	}
}

// TestConsole_WordsOfOurs: words that the gateway noted itself, what was decided,
// of what kind a definition is, that nobody decided, are in the page's language.
func TestConsole_WordsOfOurs(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed("")
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, size(1280), logIn(w, "alice"))
	english := map[string][]string{
		"/console/log?":         {"allowed", "refused"},
		"/console/mine?":        {"allowed", "refused"},
		"/console/definitions?": {"first use", "tool"},
		"/console/definition?server=files&kind=tool&name=write_file&": {"first use", "tool"},
	}
	for path, words := range english {
		for lang, own := range map[string]map[string]string{
			"en": {"allowed": "allowed", "refused": "refused", "first use": "first use", "tool": "tool"},
			"ja": {"allowed": "許可", "refused": "拒否", "first use": "初回使用時に自動承認", "tool": "ツール"},
			"zh": {"allowed": "已允许", "refused": "已拒绝", "first use": "首次使用时自动批准", "tool": "工具"},
		} {
			authtest.Run(t, ctx, chromedp.Navigate(w.url+path+"lang="+lang), chromedp.WaitReady(`footer`))
			text := evaluate(t, ctx, `[...document.querySelectorAll("td:not(:has(details)), p.big, p.hint")].map(x => x.innerText).join(" | ")`)
			for _, word := range words {
				if !strings.Contains(text, own[word]) {
					t.Errorf("%s lacks %q: %s", path+lang, own[word], text)
				}
				if lang != "en" && regexp.MustCompile(`(^|[|·\n] *)`+word+`\b`).MatchString(text) {
					t.Errorf("%s says %q in English: %s", path+lang, word, text)
				}
			}
		}
	}
}

// TestConsole_RefusalPages: what is refused looks like the rest, in each language
// and width, and says what to do.
func TestConsole_RefusalPages(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.person("bob", false)
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, size(1280), chromedp.Navigate(w.url+"/login"), chromedp.WaitVisible(`input[name=password]`), chromedp.SendKeys(`input[name=name]`, "bob"),
		chromedp.SendKeys(`input[name=password]`, password), chromedp.Click(`form button.approve`), chromedp.WaitReady(`button[value=sessions]`))
	for _, look := range []struct {
		name, scheme, lang string
		width              int
	}{{"light", "light", "en", 1280}, {"phone", "light", "ja", 390}, {"phone-dark", "dark", "zh", 390}} {
		authtest.Run(t, ctx, scheme(look.scheme), size(look.width))
		for name, path := range map[string]string{"refused": "/console/users", "missing": "/console/no-such-page"} {
			authtest.Run(t, ctx, chromedp.Navigate(w.url+path+"?lang="+look.lang), chromedp.WaitReady(`footer`))
			authtest.Shoot(t, ctx, name+"-"+look.name)
			if bad := axe(t, ctx); bad != "" {
				t.Errorf("%s %s: %s", name, look.name, bad)
			}
			if text := authtest.Read(t, ctx, chromedp.Text("main")); strings.Contains(text, "alice") || len(text) < 8 {
				t.Errorf("%s %s: %q", name, look.name, text)
			}
			if over := evaluate(t, ctx, `String(document.documentElement.scrollWidth - document.documentElement.clientWidth)`); over != "0" {
				t.Errorf("%s %s is %s pixels too wide", name, look.name, over)
			}
		}
	}
}

// evaluate runs a script of the test in the page and waits for its promise.
func evaluate(t *testing.T, ctx context.Context, source string) string {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := chromedp.Run(limited, chromedp.Evaluate[string](source, func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGRG4_ConsoleDeny: one click blocks a callback host; what stood on it ends at once
// (G-RG3, G-RG4), and the audit log says who did it.
func TestGRG4_ConsoleDeny(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.person("alice", true)
	w.seed("")
	if a := b.act("/console/hosts", "deny_host:calendar-invites.example"); a.StatusCode != 303 || !strings.Contains(a.Header.Get("Location"), "done=denied") {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if d := w.as.DeniedHost("www.calendar-invites.example"); d == nil || d.By != w.user("alice").ID {
		t.Fatalf("%+v", d)
	}
	g, err := w.db.Grant(t.Context(), "g_c_c1")
	must(t, err)
	if g.Revoked.IsZero() {
		t.Error("the grant lives")
	}
	w.settle()
	p, err := w.db.PageJournal(t.Context(), console.JournalQuery{Query: console.Query{Text: "console:hosts", Limit: 5, Look: 1000}})
	must(t, err)
	if len(p.Rows) != 1 || p.Rows[0].Record.User != w.user("alice").ID || !strings.Contains(p.Rows[0].Record.Detail, "deny_host calendar-invites.example") {
		t.Errorf("%+v", p.Rows)
	}
}

// TestConsole_LogSaysWhy: the reason of what was not plainly allowed stands in its row,
// made harmless; what was allowed has none there.
func TestConsole_LogSaysWhy(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.person("alice", true)
	w.journal.Append(t.Context(), gateway.Record{ID: "r1", At: w.now(), Method: "auth:authorize", Decision: "refused", Detail: "invalid_target <b>of\u202e nobody"})
	w.journal.Append(t.Context(), gateway.Record{ID: "r2", At: w.now(), Method: "auth:consent", Decision: "ok", Detail: "plainly fine"})
	w.settle()
	page := b.get("/console/log").body
	if !strings.Contains(page, "<small><bdi>invalid_target &lt;b&gt;of⟨U&#43;202E⟩ nobody</bdi></small></td>") {
		t.Errorf("the row does not say why: %s", page)
	}
	if strings.Contains(page, "<bdi>plainly fine") {
		t.Error("a row of what was allowed has a reason")
	}
}

// logIn2 logs in through the login page that is open.
func logIn2(w *world, name string) step {
	return chromedp.Steps(chromedp.Navigate(w.url+"/login"), chromedp.WaitReady(`input[name=password]`),
		chromedp.SendKeys(`input[name=name]`, name), chromedp.SendKeys(`input[name=password]`, password),
		chromedp.Click(`form button.approve`), chromedp.WaitReady(`button[value=sessions]`))
}

func setCookie(where, name, value string) step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, network.SetCookie, network.SetCookieParams{URL: where, Name: name, Value: value, Path: "/", Secure: new(true), HTTPOnly: new(true)})
		return chromedp.Void{}, err
	}
}

func cookieOf(t *testing.T, ctx context.Context, where, name string) string {
	t.Helper()
	got, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (string, error) {
		r, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{where}})
		if err != nil {
			return "", err
		}
		for _, k := range r.Cookies {
			if k.Name == name {
				return k.Value, nil
			}
		}
		return "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestConsole_WithoutScript: with JavaScript off a person logs in, searches, pages,
// blocks, unblocks, changes the language, revokes and logs out.
func TestConsole_WithoutScript(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.person("alice", true)
	w.seed("")
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, size(1280), authtest.Script(false), logIn(w, "alice"), chromedp.WaitReady(`svg.plot`))
	authtest.Run(t, ctx, chromedp.Click(`a[href="/console/log"]`), chromedp.WaitReady(`input[name=other]`),
		chromedp.Click(`input[name=other]`), chromedp.Click(`form.filter button`), chromedp.WaitReady(`input[name=other][checked]`))
	if text := authtest.Read(t, ctx, chromedp.Text("table.list tbody")); strings.Contains(text, "allowed") {
		t.Error(text)
	}
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/console/log"), chromedp.WaitReady(`a[rel=next]`), chromedp.Click(`a[rel=next]`), chromedp.WaitReady(`.pager a:not([rel])`))
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/console/hosts"), chromedp.SendKeys(`input[name=q]`, "INVITES"), chromedp.Click(`form.filter button`),
		chromedp.WaitReady(`input[value=INVITES]`), chromedp.Click(`button[value^="deny_host:calendar"]`), chromedp.WaitReady(`.done`))
	if w.as.DeniedHost("calendar-invites.example") == nil {
		t.Error("not blocked")
	}
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/console/deny"), chromedp.Click(`button[value^="undeny:"]`), chromedp.WaitReady(`.done`))
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/console/definition?server=files&kind=tool&name=send_mail"), chromedp.Click(`button[value^="approve:"]`), chromedp.WaitReady(`.done`))
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/console/mine"), chromedp.Click(`.langs a[lang=ja]`), chromedp.WaitReady(`html[lang=ja]`),
		chromedp.Click(`button[value^="revoke:"]`), chromedp.WaitReady(`.done`), chromedp.Click(`button[value^="disconnect:"]`), chromedp.WaitReady(`main:not(:has(button[value^="disconnect:"])) .done`))
	if !w.upstream.gone[w.user("alice").ID] {
		t.Error("the account is still connected")
	}
	authtest.Run(t, ctx, chromedp.Click(`form.who button`), chromedp.WaitReady(`input[name=password]`))
}

// TestConsole_Live: with htmx the overview renews itself under the content policy;
// without it the page says so.
func TestConsole_Live(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.person("alice", true)
	w.seed("")
	if !strings.Contains(b.get("/console").body, "htmx.min.js") {
		t.Fatal("built without htmx: run scripts/htmx.sh")
	}
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, logIn(w, "alice"), chromedp.WaitReady(`#live`))
	before := authtest.Read(t, ctx, chromedp.Text(`.tiles dd`))
	for range 50 {
		w.journal.Append(t.Context(), gateway.Record{At: time.Now(), Method: "tools/call", Decision: "allowed", Status: 200, Micros: 500})
	}
	w.settle()
	// What is written now may miss one renewal; every renewal must come, and the next
	// ones show it.
	for renewed := 1; ; renewed++ {
		evaluate(t, ctx, `document.getElementById("live").dataset.old = "yes"; ""`)
		authtest.Run(t, ctx, chromedp.WaitReady(`#live:not([data-old])`))
		after := authtest.Read(t, ctx, chromedp.Text(`.tiles dd`))
		if after != before {
			break
		}
		if renewed == 10 {
			t.Fatalf("still %s", after)
		}
	}
	if state := evaluate(t, ctx, `String(document.querySelectorAll("svg.plot").length) + document.querySelectorAll("main h1").length + document.querySelectorAll("#live").length`); state != "411" {
		t.Errorf("the page is not what it was: %s", state)
	}
}

// TestGCO6_ConsoleRevokes: users end their own grants, administrators everybody's;
// both reach the account at the third party.
func TestGCO6_ConsoleRevokes(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	b := w.person("alice", true)
	w.seed("")
	id := w.user("alice").ID
	ended := func(grant string) bool {
		g, err := w.db.Grant(t.Context(), grant)
		must(t, err)
		return !g.Revoked.IsZero()
	}
	bob := w.person("bob", false)
	must(t, w.db.CreateGrant(t.Context(), authserver.Grant{ID: "g_bob", UserID: w.user("bob").ID, ClientID: "c_desk", Resource: w.url + "/mcp", Created: w.now(), Expires: w.now().Add(time.Hour)}))
	if a := bob.act("/console/mine", "revoke:g_bob"); a.StatusCode != 303 || !ended("g_bob") || !w.upstream.gone[w.user("bob").ID] {
		t.Errorf("one's own: %d %s", a.StatusCode, a.body)
	}
	if a := b.act("/console/grants", "revoke:g_c_c1"); a.StatusCode != 303 || !ended("g_c_c1") || ended("g_c_d0") {
		t.Errorf("one of anybody: %d %s", a.StatusCode, a.body)
	}
	if live, err := w.as.Liveness().Live("g_c_c1", "none"); err != nil || live {
		t.Errorf("a token of the grant still works: %v %v", live, err)
	}
	if w.upstream.gone[id] {
		t.Error("the account went although a grant needs it")
	}
	if a := b.act("/console/user?id="+id, "revoke_all:"+id); a.StatusCode != 303 || !ended("g_c_d0") || !w.upstream.gone[id] {
		t.Errorf("all of a person: %d %s", a.StatusCode, a.body)
	}
}
