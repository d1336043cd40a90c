package authserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver/authtest"
)

type step = authtest.Step

// chrome starts a real browser with JavaScript off.
func chrome(t *testing.T, lang string) context.Context {
	t.Helper()
	return authtest.Chromium(t, lang, 800, 1100, false)
}

// tab opens a tab beside another.
func tab(t *testing.T, parent context.Context) context.Context {
	t.Helper()
	return authtest.Tab(t, parent, false)
}

// receiver is a client's callback.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []url.Values
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/landed" {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(`<p id="landed">You can close this window.</p>`))
			return
		}
		if q.URL.Path != "/callback" {
			http.NotFound(w, q)
			return
		}
		r.mu.Lock()
		r.got = append(r.got, q.URL.Query())
		r.mu.Unlock()
		// Many clients redirect once more, to another origin: Chrome's form-action
		// rule follows that too.
		http.Redirect(w, q, strings.Replace(r.URL, "127.0.0.1", "localhost", 1)+"/landed", http.StatusSeeOther)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) received() []url.Values {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]url.Values(nil), r.got...)
}

func logInWith(name string) step {
	return chromedp.Steps(
		chromedp.WaitVisible(`input[name=password]`),
		chromedp.SendKeys(`input[name=name]`, name),
		chromedp.SendKeys(`input[name=password]`, password),
		chromedp.Click(`form button.approve`),
	)
}

const allow, deny = `button[value=approve]`, `button[value=deny]`

// TestGCO3_RealBrowserWithoutScript: login, consent and the way back in Chrome
// with JavaScript off, in two tabs whose pages do not kill each other.
func TestGCO3_RealBrowserWithoutScript(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	back := newReceiver(t)
	x := w.register("Desk assistant", back.URL+"/callback")
	ctx := chrome(t, "en")
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/authorize?"+x.params().Encode()), chromedp.WaitVisible(`input[name=password]`))
	authtest.Shoot(t, ctx, "login-en")
	authtest.Run(t, ctx, logInWith(w.admin), chromedp.WaitVisible(allow))
	authtest.Shoot(t, ctx, "consent-loopback-en")
	second := tab(t, ctx)
	authtest.Run(t, second, chromedp.Navigate(w.url+"/authorize?"+set(x.params(), "state", "two").Encode()), chromedp.WaitVisible(allow))
	authtest.Run(t, ctx, chromedp.Click(allow), chromedp.WaitVisible(`#landed`))
	authtest.Run(t, second, chromedp.Click(allow), chromedp.WaitVisible(`#landed`))
	got := back.received()
	if len(got) != 2 || got[0].Get("state") != "st-ate" || got[1].Get("state") != "two" || got[1].Get("iss") != w.url {
		t.Fatalf("%v", got)
	}
	for _, v := range got {
		if tok := x.token(x.redeemForm(v.Get("code"))); tok.StatusCode != 200 {
			t.Fatal(tok.body)
		}
	}
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/account"), chromedp.WaitVisible(`button[value=revoke_all]`))
	authtest.Shoot(t, ctx, "account-en")
	authtest.Run(t, ctx, chromedp.Click(`button[value^="revoke:"]`), chromedp.WaitVisible(`.done`))
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/authorize?"+set(x.params(), "state", "three").Encode()), chromedp.WaitVisible(deny),
		chromedp.Click(deny), chromedp.WaitVisible(`#landed`))
	if last := back.received()[2]; last.Get("error") != "access_denied" || last.Has("code") {
		t.Fatal(last)
	}
	authtest.Run(t, ctx, chromedp.Navigate(w.url+"/authorize?client_id=stale"), chromedp.WaitVisible(`h1`))
	authtest.Shoot(t, ctx, "error-en")
}

// TestGCO2_RealBrowserPhishing is the self-registered client with a fixed
// challenge: the link ends at the page, which names the host in large type, in
// the reader's language.
func TestGCO2_RealBrowserPhishing(t *testing.T) {
	w := newWorld(t, nil)
	w.person()
	x := w.register("Team calendar", "https://calendar-invites.example/oauth/done")
	for _, lang := range []string{"ja", "zh", "en"} {
		ctx := chrome(t, lang)
		authtest.Run(t, ctx, chromedp.Navigate(w.url+"/authorize?"+set(x.params(), "scope", "mcp:read mcp:write").Encode()), logInWith(w.admin),
			chromedp.WaitVisible(allow))
		host, where := authtest.Read(t, ctx, chromedp.Text(`.redirect-host`)), authtest.Read(t, ctx, chromedp.Location())
		authtest.Shoot(t, ctx, "consent-phishing-"+lang)
		if host != "calendar-invites.example" || !strings.HasPrefix(where, w.url) {
			t.Fatal(host, where)
		}
	}
	if !w.seen.alerted("first_seen_host") {
		t.Fatal("no alert")
	}
}

// TestGCO4_RealBrowsers replays the two attacks on a gateway before a third party
// that remembers its consent: a new client by a link in the same browser, and
// consent in one browser with the answer in another.
func TestGCO4_RealBrowsers(t *testing.T) {
	w, p := newUpstreamWorld(t)
	w.person()
	w.another("mallory")
	back := newReceiver(t)
	x := w.register("Desk assistant", back.URL+"/callback")
	victim := chrome(t, "en")
	authtest.Run(t, victim, chromedp.Navigate(w.url+"/authorize?"+x.params().Encode()), logInWith(w.admin), chromedp.WaitVisible(allow),
		chromedp.Click(allow), chromedp.WaitVisible(`button[name=account]`))
	authtest.Shoot(t, victim, "connect-en")
	authtest.Run(t, victim, chromedp.Click(`button[name=account]`), chromedp.WaitVisible(`#agree`),
		chromedp.Click(`#agree`), chromedp.WaitVisible(`#landed`))
	if got := back.received(); len(got) != 1 || got[0].Get("code") == "" {
		t.Fatal(got)
	}
	// The confused deputy: the third party would not ask again.
	evil := newReceiver(t)
	y := w.register("Desk assistant 2", evil.URL+"/callback")
	asked := p.requests
	authtest.Run(t, victim, chromedp.Navigate(w.url+"/authorize?"+y.params().Encode()), chromedp.WaitVisible(allow))
	authtest.Shoot(t, victim, "confused-deputy-stopped-en")
	if len(evil.received()) != 0 || p.requests != asked {
		t.Fatal("the deputy was confused")
	}
	// Consent in the attacker's browser, the rest in the victim's.
	attacker := chrome(t, "en")
	authtest.Run(t, attacker, chromedp.Navigate(w.url+"/authorize?"+y.params().Encode()), logInWith("mallory"), chromedp.WaitVisible(allow),
		chromedp.Click(allow), chromedp.WaitVisible(`button[name=account]`),
		chromedp.Click(`button[name=account]`), chromedp.WaitVisible(`#agree`))
	link := authtest.Read(t, attacker, chromedp.Location())
	if !strings.HasPrefix(link, p.URL) {
		t.Fatal(link)
	}
	authtest.Run(t, victim, chromedp.Navigate(link), chromedp.WaitVisible(`h1`))
	text := authtest.Read(t, victim, chromedp.Text("body"))
	authtest.Shoot(t, victim, "other-browser-refused-en")
	if !strings.Contains(text, "another browser") || len(evil.received()) != 0 || !w.seen.alerted("callback_other_browser") {
		t.Fatalf("%s %v", text, evil.received())
	}
}
