package authserver_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver/authtest"
)

func (p *thirdParty) breaks(yes bool) { p.mu.Lock(); defer p.mu.Unlock(); p.broken = yes }

var noticed = regexp.MustCompile(`<p class="(note|done)" role="(alert|status)" tabindex="-1" autofocus>([^<]*)</p>`)

// notice is what a page says of what was just done: its sort and its words.
func (a answer) notice() (role, text string) {
	if m := noticed.FindStringSubmatch(a.body); m != nil {
		return m[2], m[3]
	}
	return "", ""
}

// noteOf finds the note among a browser's cookies.
func (b *browser) noteOf() (name, value string) {
	for k, v := range b.Cookies {
		if strings.Contains(k, "kidoban-note-") {
			return k, v
		}
	}
	return "", ""
}

// TestGVA3_PersonIsToldWhatBecameOfTheStep: the first connection, connecting again, a
// no at the third party, a failure; told once, in the person's language, with nothing
// of it in the address.
func TestGVA3_PersonIsToldWhatBecameOfTheStep(t *testing.T) {
	w, p := newUpstreamWorld(t)
	alice := w.person()
	id := claims(t, w.register("C", "http://127.0.0.1/c").filesToken(alice))["sub"].(string)
	link, err := w.s.ConnectURL(id, w.url+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	for _, page := range []string{"/connect", u.RequestURI()} {
		for _, step := range []struct{ does, role, en, ja, zh string }{
			{"agrees", "status", "Your account at Third party is connected.", "Third party のアカウントを接続しました。", "您在 Third party 的账户已连接。"},
			{"agrees", "status", "Your account at Third party is connected.", "Third party のアカウントを接続しました。", "您在 Third party 的账户已连接。"},
			{"refuses", "alert", "Third party gave no access. Nothing has changed", "Third party でアクセスが許可されませんでした", "Third party 未授予访问权限"},
			{"breaks", "alert", "Connecting Third party did not succeed", "Third party の接続に失敗しました", "连接 Third party 未成功"},
		} {
			for lang, want := range map[string]string{"en": step.en, "ja": step.ja, "zh": step.zh} {
				p.breaks(step.does == "breaks")
				callback := alice.connect(alice.get(page))
				if step.does == "refuses" {
					callback.RawQuery = url.Values{"error": {"access_denied"}, "state": callback.Query()["state"]}.Encode()
				}
				back := alice.get(callback.String())
				if back.StatusCode != http.StatusSeeOther || back.location(t).String() != page {
					t.Fatalf("%s: %d to %s, not back to %s", step.does, back.StatusCode, back.Header.Get("Location"), page)
				}
				told := alice.get(page, "Accept-Language", lang)
				role, text := told.notice()
				if told.StatusCode != http.StatusOK || role != step.role || !strings.Contains(text, want) {
					t.Fatalf("%s in %s: %s %q", step.does, lang, role, text)
				}
				if !strings.Contains(told.body, "<title>"+text+" – ") {
					t.Errorf("the title, which is read out first, does not say %q", text)
				}
				if request := back.Header.Get("X-Request-Id"); strings.Contains(text, request) != (step.does == "breaks") {
					t.Errorf("%s: %q and the request id %s", step.does, text, request)
				}
				if all := strings.Contains(told.body, "Everything is connected"); lang == "en" && all != (step.role == "status") {
					t.Errorf("%s: everything is connected: %v", step.does, all)
				}
				if _, text := alice.get(page).notice(); text != "" {
					t.Fatalf("told twice: %q", text)
				}
			}
		}
	}
	p.breaks(false)
}

// TestGVA3_NobodyElseMakesThePageSaySomething: a stranger's link, a note of another
// login, one that was changed, an old one, one about what is not on the page.
func TestGVA3_NobodyElseMakesThePageSaySomething(t *testing.T) {
	w, _ := newUpstreamWorld(t)
	alice, mallory := w.person(), w.another("mallory")
	alice.get(alice.startStep(t)) // so that there is something to say
	name, own := alice.noteOf()
	if !strings.HasPrefix(name, "__Host-") || strings.Contains(own, "connect") {
		t.Fatalf("the note is %s=%s", name, own)
	}
	alice.get("/connect")
	if _, left := alice.noteOf(); left != "" {
		t.Fatal("the note stays after it was read")
	}
	mallory.get(mallory.startStep(t))
	_, foreign := mallory.noteOf()
	for what, value := range map[string]string{"of another login": foreign, "changed": own[:len(own)-4] + "AAAA", "not sealed": "connect_ok:tp"} {
		for _, page := range []string{"/connect", "/account"} {
			alice.Cookies[name] = value
			if _, text := alice.get(page).notice(); text != "" {
				t.Errorf("%s says %q for a note that is %s", page, text, what)
			}
			if _, left := alice.noteOf(); left != "" {
				t.Errorf("a note that is %s stays", what)
			}
		}
	}
	for _, link := range []string{"/connect?done=ok&account=tp&note=" + own, "/connect?failed=tp&n=" + own, "/account?done=revoked", "/account?done=changed&note=" + own} {
		if a := alice.get(link); a.StatusCode != 200 || strings.Contains(a.body, `role="status"`) || strings.Contains(a.body, `role="alert"`) {
			t.Errorf("%s makes the page say something", link)
		}
	}
	// The same person after another login, what was done long ago, and what is about an
	// account that the page does not show.
	alice.get(alice.startStep(t))
	_, own = alice.noteOf()
	again := w.login(w.admin)
	again.Cookies[name] = own
	if _, text := again.get("/connect").notice(); text != "" {
		t.Errorf("after another login: %q", text)
	}
	id := claims(t, w.register("C", "http://127.0.0.1/c").filesToken(alice))["sub"].(string)
	link, err := w.s.ConnectURL(id, w.url+"/s/files/mcp")
	if err != nil {
		t.Fatal(err)
	}
	if _, text := alice.get(link).notice(); text != "" {
		t.Errorf("about an account that is not on the page: %q", text)
	}
	alice.get(alice.startStep(t))
	w.clock.forward(noteLife)
	if _, text := alice.get("/connect").notice(); text != "" {
		t.Errorf("too late: %q", text)
	}
}

// noteLife is longer than a note is good for.
const noteLife = 3 * 60 * 1e9

// TestGCO6_AccountPageSaysWhatWasDone, once, and not because of a link.
func TestGCO6_AccountPageSaysWhatWasDone(t *testing.T) {
	w, _ := newUpstreamWorld(t)
	alice := w.person()
	alice.get(alice.startStep(t))
	alice.get("/connect")
	a := alice.post("/account", set(alice.get("/account").hidden(), "do", "disconnect:tp"))
	if to := a.location(t).String(); to != "/account" {
		t.Fatal(to)
	}
	if role, text := alice.get("/account").notice(); role != "status" || text != "Removed." {
		t.Fatal(role, text)
	}
	if _, text := alice.get("/account").notice(); text != "" {
		t.Fatalf("told twice: %q", text)
	}
}

// TestGVA3_RealBrowserIsTold: without script, what happened is on the page that the
// browser lands on, has the focus, and is in the title.
func TestGVA3_RealBrowserIsTold(t *testing.T) {
	w, p := newUpstreamWorld(t)
	w.person()
	for i, lang := range []string{"en", "ja", "zh"} {
		ctx := chrome(t, lang)
		const start = `button[name=account]`
		say := func(picture, class string) {
			t.Helper()
			authtest.Run(t, ctx, chromedp.WaitVisible(`p.`+class+`:focus`))
			title, where := authtest.Read(t, ctx, chromedp.Title()), authtest.Read(t, ctx, chromedp.Location())
			if text := authtest.Read(t, ctx, chromedp.Text(`p.`+class)); !strings.Contains(title, text) || where != w.url+"/connect" {
				t.Fatalf("%q on %q at %s", text, title, where)
			}
			authtest.Shoot(t, ctx, picture+"-"+lang)
		}
		authtest.Run(t, ctx, chromedp.Navigate(w.url+"/connect"), logInWith(w.admin), chromedp.WaitVisible(start),
			chromedp.Click(start), chromedp.WaitVisible(`#refuse`), chromedp.Click(`#refuse`))
		say("connect-refused", "note")
		authtest.Run(t, ctx, chromedp.Click(start), chromedp.WaitVisible(`#agree`), chromedp.Click(`#agree`))
		say("connect-done", "done")
		p.breaks(true)
		authtest.Run(t, ctx, chromedp.Click(start))
		say("connect-failed", "note")
		p.breaks(false)
		if i > 0 {
			continue
		}
		authtest.Run(t, ctx, chromedp.Reload(), chromedp.WaitVisible(start))
		if text := authtest.Read(t, ctx, chromedp.Text("main")); strings.Contains(text, "did not succeed") {
			t.Fatal("told twice")
		}
	}
}
