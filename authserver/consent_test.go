package authserver_test

import (
	"context"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/oauth"
)

// thirdParty is an authorization server that knows the gateway by one static
// client id and, like many, does not ask again once a browser has said yes: the
// ground on which the confused deputy stands. It is also the Upstream that uses
// it over HTTP.
type thirdParty struct {
	none      bool // no server wants an account
	loggedOut bool // the login that proves who the user is has ended
	broken    bool // gives no token; guarded by mu
	*httptest.Server
	mu         sync.Mutex
	requests   int
	challenges map[string]string // code → challenge
	connected  map[string]time.Time
	ended      []string
}

func newThirdParty(t testing.TB) *thirdParty {
	p := &thirdParty{challenges: map[string]string{}, connected: map[string]time.Time{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch r.URL.Path {
		case "/authorize":
			p.requests++
			q := r.URL.Query()
			if _, err := r.Cookie("agreed"); err != nil && r.Method == http.MethodGet {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, `<title>Third party</title><form method="post" action="/authorize?%s"><button id="agree">Agree</button></form><a id="refuse" href="%s">No</a>`,
					html.EscapeString(r.URL.RawQuery), html.EscapeString(q.Get("redirect_uri")+"?error=access_denied&state="+url.QueryEscape(q.Get("state"))))
				return
			}
			http.SetCookie(w, &http.Cookie{Name: "agreed", Value: "1", Path: "/"})
			code := fmt.Sprint("code", len(p.challenges))
			p.challenges[code] = q.Get("code_challenge")
			http.Redirect(w, r, q.Get("redirect_uri")+"?code="+code+"&state="+url.QueryEscape(q.Get("state")), http.StatusSeeOther)
		case "/token":
			if p.broken || !oauth.VerifyS256(p.challenges[r.FormValue("code")], r.FormValue("code_verifier")) {
				http.Error(w, `{"error":"invalid_grant"}`, 400)
				return
			}
			delete(p.challenges, r.FormValue("code"))
			fmt.Fprint(w, `{"access_token":"upstream"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *thirdParty) key(user, account string) string { return user + "|" + account }

func (p *thirdParty) Accounts(_ context.Context, user, resource string) ([]authserver.UpstreamAccount, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.none || strings.HasSuffix(resource, "/s/files/mcp") {
		return nil, nil
	}
	since, ok := p.connected[p.key(user, "tp")]
	return []authserver.UpstreamAccount{{ID: "tp", Name: "Third party", Host: strings.TrimPrefix(p.URL, "http://"), Scopes: []string{"repo"}, Connected: ok, Since: since}}, nil
}

func (p *thirdParty) Begin(_ context.Context, _, account, state, challenge, callback string) (to, memo string, err error) {
	if account != "tp" {
		return "", "", kidoban.Errorf(kidoban.KindNotFound, "there is no such account")
	}
	return p.URL + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"kidoban-static"}, "redirect_uri": {callback}, "state": {state},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}}.Encode(), "memo of " + account, nil
}

func (p *thirdParty) Finish(_ context.Context, user, account, memo string, q url.Values, verifier, callback string) error {
	if memo != "memo of "+account {
		return kidoban.Errorf(kidoban.KindInput, "the memo was lost on the way")
	}
	resp, err := http.PostForm(p.URL+"/token", url.Values{"code": {q.Get("code")}, "code_verifier": {verifier}, "redirect_uri": {callback}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		return kidoban.Errorf(kidoban.KindRefused, "the third party refused the code")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected[p.key(user, account)] = time.Now()
	return nil
}

func (p *thirdParty) LoginEnded(context.Context, string, string) (bool, error) {
	return p.loggedOut, nil
}

func (p *thirdParty) Disconnect(_ context.Context, user, account string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connected, p.key(user, account))
	p.ended = append(p.ended, account)
	return nil
}

func newUpstreamWorld(t *testing.T) (*world, *thirdParty) {
	p := newThirdParty(t)
	return newWorld(t, func(w *world) { w.deps.Upstream = p }), p
}

// connect presses the connect button and lets the third party agree; it returns
// the third party's answer, not yet delivered.
func (b *browser) connect(page answer) *url.URL {
	b.w.t.Helper()
	v := set(page.hidden(), "account", "tp")
	a := b.post("/connect", v)
	to := a.location(b.w.t)
	back := b.post(to.String(), url.Values{})
	return back.location(b.w.t)
}

// TestGCO6_AccountPageHasNoEmptyPart: connected accounts are spoken of where a server
// wants one.
func TestGCO6_AccountPageHasNoEmptyPart(t *testing.T) {
	w, p := newUpstreamWorld(t)
	alice := w.person()
	if body := alice.get("/account").body; !strings.Contains(body, "Connected accounts") {
		t.Error("the account is not there")
	}
	p.none = true
	if body := alice.get("/account").body; strings.Contains(body, "Connected accounts") || !strings.Contains(body, "Your account") {
		t.Error("a heading stands over nothing")
	}
}

// TestGCO1_ConsentStandsBeforeTheThirdParty is the attack of the confused deputy:
// the victim has connected once, the third party remembers, and a new client
// comes by a link.
func TestGCO1_ConsentStandsBeforeTheThirdParty(t *testing.T) {
	w, p := newUpstreamWorld(t)
	alice := w.person()
	x := w.register("Good", loopback)
	page := alice.get("/authorize?" + x.params().Encode())
	if p.requests != 0 {
		t.Fatal("the third party was asked before the person")
	}
	to := alice.approve(page).location(t)
	if to.Path != "/connect" {
		t.Fatal(to)
	}
	done := alice.get(alice.connect(alice.get(to.String())).String())
	code := done.location(t).Query().Get("code")
	if tok := x.token(x.redeemForm(code)); tok.StatusCode != 200 {
		t.Fatal(tok.body)
	}
	// An account that is connected can be connected again: the third party may know
	// better whether it still works.
	if a := alice.get("/connect"); !strings.Contains(a.body, "Connect again") {
		t.Error(a.body)
	}
	alice.startStep(t)
	// Now the attacker's client. The victim's cookies are all there.
	n := p.requests
	evil := w.register("Evil", "https://evil.example/cb")
	a := alice.get("/authorize?" + evil.params().Encode())
	if a.StatusCode != 200 || !strings.Contains(a.body, "evil.example") || !strings.Contains(a.body, "Danger") || p.requests != n {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	// Also for a second client of the same name on loopback (E01, F6-G), and for the
	// first one again (a public client is asked about every time).
	for _, y := range []*app{w.register("Good", "http://127.0.0.1/second"), x} {
		if a := alice.get("/authorize?" + y.params().Encode()); a.StatusCode != 200 || len(scopesOf(a)) == 0 {
			t.Fatal(a.StatusCode)
		}
	}
}

// TestGCO4_CallbackBelongsToTheBrowserThatAgreed: E02, F6-E. The attacker agrees
// and hands the third party's URL, or its answer, to the victim.
func TestGCO4_CallbackBelongsToTheBrowserThatAgreed(t *testing.T) {
	w, p := newUpstreamWorld(t)
	attacker, victim := w.another("mallory"), w.person()
	x := w.register("Evil", loopback)
	before := len(attacker.Cookies)
	page := attacker.get("/authorize?" + x.params().Encode())
	if len(attacker.Cookies) != before {
		t.Fatal("a cookie was set before the answer (PX-09)")
	}
	connect := attacker.get(attacker.approve(page).location(t).String())
	callback := attacker.connect(connect).String()
	for name, b := range map[string]*browser{"victim": victim, "stranger": w.browser()} {
		a := b.get(callback)
		wantPage(t, a, 403)
		if strings.Contains(a.body, "code=") {
			t.Fatalf("%s got a code", name)
		}
	}
	if !w.seen.alerted("callback_other_browser") || len(p.connected) != 0 {
		t.Fatal("no alert, or an account was connected")
	}
	// The state of the right browser is not used up by that, and works once.
	if a := attacker.get(callback); a.location(t).Query().Get("code") == "" {
		t.Fatal(a.StatusCode, a.body)
	}
	wantPage(t, attacker.get(callback), 400)
	wantPage(t, attacker.get("/connect/callback?error=access_denied&state=unknown"), 400)
	wantPage(t, attacker.get("/connect/callback"), 400)
	// F8: state is opaque, 256 bit, fresh; the transaction ends after ten minutes.
	late := w.another("late")
	step := late.startStep(t)
	w.clock.forward(11 * time.Minute)
	wantPage(t, late.get(step), 400)
}

// startStep begins a connection from the user's own page and returns the answer
// of the third party.
func (b *browser) startStep(t *testing.T) string {
	a := b.post("/connect", set(b.get("/connect").hidden(), "account", "tp"))
	to := a.location(t)
	state := to.Query().Get("state")
	if len(state) != 43 || to.Query().Get("code_challenge_method") != "S256" {
		t.Fatal(to)
	}
	found := false
	for _, k := range a.Cookies() {
		if strings.Contains(k.Name, "step") {
			found = strings.HasPrefix(k.Name, "__Host-") && k.Secure && k.HttpOnly && k.SameSite == http.SameSiteLaxMode
		}
	}
	if !found {
		t.Fatal("no transaction cookie")
	}
	return b.post(to.String(), url.Values{}).Header.Get("Location")
}

// TestGCO4_CallbackBelongsToTheUserWhoBegan: somebody else has logged in in the same
// browser meanwhile. Nothing is connected, for neither of them.
func TestGCO4_CallbackBelongsToTheUserWhoBegan(t *testing.T) {
	w, p := newUpstreamWorld(t)
	shared, bob := w.person(), w.another("bob")
	step := shared.startStep(t)
	maps.Copy(shared.Cookies, bob.Cookies)
	wantPage(t, shared.get(step), http.StatusForbidden)
	if len(p.connected) != 0 || !w.seen.alerted("callback_other_browser") {
		t.Errorf("connected: %v", p.connected)
	}
}

func TestGCO4_ConnectPageIsForOneUser(t *testing.T) {
	w, _ := newUpstreamWorld(t)
	alice, bob := w.person(), w.another("bob")
	id := claims(t, w.register("C", "http://127.0.0.1/c").filesToken(alice))["sub"].(string)
	link, err := w.s.ConnectURL(id, w.url+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	wantPage(t, bob.get(link), 403) // E35
	if !w.seen.alerted("connect_other_user") {
		t.Fatal("no alert")
	}
	if a := w.browser().get(link); !strings.Contains(a.body, `name="password"`) {
		t.Fatal("the link is a login")
	}
	page := alice.get(link)
	if a := alice.get(alice.connect(page).String()); a.StatusCode != 303 {
		t.Fatal(a.body)
	}
	if a := alice.get(link); !strings.Contains(a.body, "Everything is connected") {
		t.Fatal(a.body)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	wantPage(t, bob.post("/connect", set(bob.get("/connect").hidden(), "account", "tp", "c", u.Query().Get("c"))), 403)
}

// filesToken gets a token for the resource without accounts.
func (x *app) filesToken(b *browser) string {
	p := set(x.params(), "resource", x.w.url+"/s/files/mcp")
	return x.token(set(x.redeemForm(x.code(b, p)), "resource", x.w.url+"/s/files/mcp")).json(x.w.t)["access_token"].(string)
}

func TestGCO1_FinishWithoutAccounts(t *testing.T) {
	w, _ := newUpstreamWorld(t)
	alice, bob := w.person(), w.another("bob")
	x := w.register("Good", loopback)
	page := alice.get(alice.approve(alice.get("/authorize?" + x.params().Encode())).location(t).String())
	v := page.hidden()
	if a := bob.post("/authorize/finish", v); a.StatusCode < 400 {
		t.Fatal("another user finished it")
	}
	if a := bob.post("/authorize/finish", set(bob.get("/account").hidden(), "c", v.Get("c"))); a.StatusCode < 400 {
		t.Fatal("another user finished it")
	}
	if code := alice.post("/authorize/finish", v).location(t).Query().Get("code"); code == "" {
		t.Fatal("no code")
	}
}

// TestGCO2_PageSaysWhatIsAsked: for each sort of client and callback, in each
// language.
func TestGCO2_PageSaysWhatIsAsked(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Resources[0].Names = map[string]string{"ja": "全サーバー", "zh": "所有服务器"}
		w.deps.Describe = func(_ context.Context, u authserver.User, _ string) []authserver.Behind {
			return []authserver.Behind{{Name: "files", Tools: map[authserver.Class][]string{"read": {"list_files"}, "destructive": {"delete_file"}}, UpstreamName: "Drive", UpstreamScopes: []string{"drive.readonly"}}, {Name: "wiki", UpstreamName: "Wiki"}}
		}
	})
	alice := w.person()
	local, remote, private := w.register("Local <b data-x=1>", loopback), w.register("Remote", "https://far.example/cb"), w.register("App", "cursor://anysphere.cursor-mcp/cb")
	for lang, c := range map[string][4]string{
		"en": {"AI agent", "anyone can register this name", "your own computer only", "Danger"},
		"ja": {"AIエージェント", "誰でも登録できます", "あなた自身のコンピューターにのみ", "危険"},
		"zh": {"AI代理", "任何人都可以注册", "仅返回到您自己的电脑", "危险"},
	} {
		on := map[string]string{"en": "All servers", "ja": "全サーバー", "zh": "所有服务器"}[lang]
		p := alice.get("/authorize?"+local.params().Encode(), "Accept-Language", lang+";q=0.9, fr;q=0.1")
		for _, want := range []string{c[0], c[1], c[2], "<bdi>" + on + "</bdi>", `<p class="redirect-host"><bdi>127.0.0.1</bdi></p>`, loopback, "list_files", "delete_file", "Drive", "drive.readonly", `<html lang="` + lang + `"`} {
			if !strings.Contains(p.body, want) {
				t.Errorf("%s: %q is missing", lang, want)
			}
		}
		if account := map[string]string{"en": "It uses your account at Wiki.", "ja": "Wiki のあなたのアカウントを使用します。", "zh": "将使用您在 Wiki 的账户。"}[lang]; !strings.Contains(p.body, account+"</p>") {
			t.Errorf("%s: an account of which no scopes are known has no sentence of its own", lang)
		}
		if strings.Index(p.body, "list_files") > strings.Index(p.body, "delete_file") || !strings.Contains(p.body, "<details open><summary><bdi>files</bdi>") {
			t.Errorf("%s: the tools are not in sight, from harmless to harmful", lang)
		}
		if strings.Contains(p.body, c[3]) {
			t.Errorf("%s: the strong warning stands with loopback", lang)
		}
		p = alice.get("/authorize?"+remote.params().Encode()+"&lang="+lang, "Accept-Language", "de")
		if !strings.Contains(p.body, c[3]) || !strings.Contains(p.body, `<bdi>far.example</bdi>`) {
			t.Errorf("%s: the strong warning or the host is missing", lang)
		}
		delete(alice.Cookies, "kidoban-lang")
	}
	p := alice.get("/authorize?" + local.params().Encode())
	if strings.Contains(p.body, "<b data-x") || !strings.Contains(p.body, "&lt;b data-x=1&gt;") { // E28
		t.Error("the name is not escaped")
	}
	if strings.Index(p.body, `value="deny"`) > strings.Index(p.body, `value="approve"`) || !strings.Contains(p.body, `value="deny" class="deny" autofocus`) {
		t.Error("deny does not come first")
	}
	if !strings.Contains(p.body, "just now") || !strings.Contains(p.body, "30 days") || !strings.Contains(p.body, ">1 day<") || !strings.Contains(p.body, "/account") || !strings.Contains(p.body, "unverified") {
		t.Error("registration time, duration, revocation or the mark is missing")
	}
	if strings.Contains(p.body, `name="remember"`) {
		t.Error("an anonymous loopback client can be remembered")
	}
	if p := alice.get("/authorize?" + private.params().Encode()); !strings.Contains(p.body, "whichever app") || !strings.Contains(p.body, "cursor://") {
		t.Error(p.body)
	}
}

// TestGCO2_ToolsThatWereNotAskedFor: the page names as open what the scopes asked
// for open, in what they imply too, and counts apart what stays refused whatever
// the person answers; a server whose classes ask for no scope is shown whole.
func TestGCO2_ToolsThatWereNotAskedFor(t *testing.T) {
	needs := map[authserver.Class]string{"read": "mcp:read", "write": "mcp:write", "destructive": "mcp:destroy"}
	w := newWorld(t, func(w *world) {
		w.cfg.Registration.AnonymousScopes = []string{"mcp:read", "mcp:write", "mcp:destroy"}
		w.deps.Describe = func(context.Context, authserver.User, string) []authserver.Behind {
			tools := map[authserver.Class][]string{"read": {"look"}, "write": {"put"}, "destructive": {"drop_a", "drop_b"}}
			return []authserver.Behind{{Name: "files", Needs: needs, Tools: tools}, {Name: "own", Tools: map[authserver.Class][]string{"destructive": {"own_drop"}}},
				{Name: "shut", Needs: needs, Tools: map[authserver.Class][]string{"destructive": {"shut_drop"}}}}
		}
	})
	alice, cl := w.person(), w.register("C", loopback)
	for scope, want := range map[string]struct {
		shown, hidden []string
	}{
		"mcp:read":  {[]string{"<code>look</code>", "<code>own_drop</code>", "unless you are asked again: write 1 destructive 2<", "asked again: destructive 1<"}, []string{"<code>put</code>", "drop_a", "shut_drop"}},
		"mcp:write": {[]string{"<code>look</code>", "<code>put</code>", "<code>own_drop</code>", "asked again: destructive 2<"}, []string{"drop_a", "shut_drop"}},
		"mcp:destroy": {[]string{"<code>look</code>", "<code>put</code>", "<code>drop_a</code>, <code>drop_b</code>", "<code>own_drop</code>", "<code>shut_drop</code>"},
			[]string{"Not asked for"}},
	} {
		body := alice.get("/authorize?" + set(cl.params(), "scope", scope).Encode()).body
		for _, s := range want.shown {
			if !strings.Contains(body, s) {
				t.Errorf("%s: %q is missing:\n%s", scope, s, body)
			}
		}
		for _, s := range append(want.hidden, "not known yet") {
			if strings.Contains(body, s) {
				t.Errorf("%s: %q is there", scope, s)
			}
		}
	}
}

// TestGCO3_HeadersOfEveryPage: no script, no frames, no cache, E28.
func TestGCO3_HeadersOfEveryPage(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("C", loopback)
	alice := w.person()
	for _, a := range []answer{w.browser().get("/login"), w.browser().get("/authorize?" + x.params().Encode()), alice.get("/authorize?" + x.params().Encode()),
		alice.get("/account"), w.browser().get("/authorize"), w.browser().get("/setup?token=x")} {
		h := a.Header
		if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") ||
			strings.Contains(h.Get("Content-Security-Policy"), "form-action") || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" ||
			h.Get("Referrer-Policy") == "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", a.Request.URL, h)
		}
		if strings.Contains(a.body, "<script") || strings.Contains(a.body, "style=") || strings.Contains(a.body, " on") && regexp.MustCompile(`\son[a-z]+=`).MatchString(a.body) {
			t.Errorf("%s has a script or inline style", a.Request.URL)
		}
	}
}

// TestGCO3_FormsCannotBeForged: the form's token is bound to the login; GET
// approves nothing; a second page does not kill the first.
func TestGCO3_FormsCannotBeForged(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("C", loopback)
	alice, mallory := w.person(), w.another("mallory")
	page := alice.get("/authorize?" + x.params().Encode())
	other := mallory.get("/authorize?" + x.params().Encode())
	v := set(page.hidden(), "decision", "approve", "scope_choice", "mcp:read")
	for name, a := range map[string]answer{
		"no token":          alice.post("/authorize/consent", set(v, "t", drop)),
		"another's token":   alice.post("/authorize/consent", set(v, "t", other.hidden().Get("t"))),
		"changed token":     alice.post("/authorize/consent", set(v, "t", v.Get("t")[:20]+"AAAA"+v.Get("t")[24:])),
		"no login":          w.browser().post("/authorize/consent", v),
		"another login":     w.login("alice").post("/authorize/consent", v),
		"another site":      alice.post("/authorize/consent", v, "Origin", "https://evil.example"),
		"another site too":  alice.post("/authorize/consent", v, "Sec-Fetch-Site", "cross-site"),
		"a login's ticket":  alice.post("/authorize/consent", set(v, "t", w.browser().get("/login").hidden().Get("t"))),
		"a pushed ticket":   alice.post("/authorize/consent", set(v, "t", strings.TrimPrefix(w.browser().post("/par", x.params()).json(t)["request_uri"].(string), "urn:ietf:params:oauth:request_uri:"))),
		"the account's one": alice.post("/authorize/consent", set(v, "t", alice.get("/account").hidden().Get("t"))),
	} {
		if a.StatusCode < 400 || a.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Header.Get("Location"))
		}
	}
	if a := alice.get("/authorize/consent?" + v.Encode()); a.StatusCode != 405 {
		t.Errorf("GET: %d", a.StatusCode)
	}
	if a := alice.post("/authorize/consent", set(v, "decision", drop)); a.StatusCode != 200 || a.Header.Get("Location") != "" {
		t.Error("no decision is a decision")
	}
	if a := alice.post("/authorize/consent", set(v, "scope_choice", drop)); a.StatusCode != 200 || !strings.Contains(a.body, "at least one") {
		t.Error("nothing chosen is something")
	}
	// Two tabs and a prefetch: each page works.
	second := alice.get("/authorize?" + set(x.params(), "state", "two").Encode())
	for _, p := range []answer{page, second, page} {
		if a := alice.approve(p); a.StatusCode != 303 || a.location(t).Query().Get("code") == "" {
			t.Fatal(a.StatusCode)
		}
	}
	w.clock.forward(31 * time.Minute)
	wantPage(t, alice.approve(page), 400)
}

func TestGCO3_DenyDenies(t *testing.T) { // F6-H
	w := newWorld(t, nil)
	alice := w.person()
	local, remote := w.register("L", loopback), w.register("R", "https://far.example/cb")
	for _, x := range []*app{local, remote} {
		page := alice.get("/authorize?" + x.params().Encode())
		a := alice.post("/authorize/consent", set(page.hidden(), "decision", "deny"))
		if x == remote { // even a no is a redirect, so nobody is sent there unasked
			if a.StatusCode != 200 || !strings.Contains(a.body, `href="https://far.example/cb?error=access_denied`) {
				t.Fatal(a.body)
			}
			continue
		}
		if q := a.location(t).Query(); q.Get("error") != "access_denied" || q.Get("iss") != w.url || q.Get("state") != "st-ate" || q.Has("code") {
			t.Fatal(q)
		}
	}
	if g := alice.get("/account"); strings.Contains(g.body, `value="revoke:`) {
		t.Fatal("a grant came of it")
	}
}

// TestGCO6_UserSeesAndRevokes: own grants and accounts, nobody else's.
func TestGCO6_UserSeesAndRevokes(t *testing.T) {
	w, p := newUpstreamWorld(t)
	alice, bob := w.person(), w.another("bob")
	x := w.register("Client of Alice", loopback)
	connect := alice.get(alice.approve(alice.get("/authorize?" + x.params().Encode())).location(t).String())
	m := x.token(x.redeemForm(alice.get(alice.connect(connect).String()).location(t).Query().Get("code"))).json(t)
	id := claims(t, m["access_token"].(string))["kidoban_grant"].(string)
	page := alice.get("/account")
	for _, want := range []string{"Client of Alice", "All servers", "127.0.0.1", "revoke:" + id, "disconnect:tp", "unverified"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if b := bob.get("/account"); strings.Contains(b.body, "Client of Alice") {
		t.Fatal("Bob sees Alice's grants")
	}
	bob.post("/account", set(bob.get("/account").hidden(), "do", "revoke:"+id))
	alice.post("/account", set(page.hidden(), "t", "forged", "do", "revoke:"+id))
	if !live(t, w.s, m["access_token"].(string)) {
		t.Fatal("somebody else revoked it")
	}
	if a := alice.post("/account", set(page.hidden(), "do", "revoke:"+id)); a.StatusCode != 303 {
		t.Fatal(a.body)
	}
	if live(t, w.s, m["access_token"].(string)) || strings.Contains(alice.get("/account").body, id) {
		t.Fatal("it lives")
	}
	wantError(t, x.token(x.refreshForm(m["refresh_token"].(string))), 400, "invalid_grant")
	if len(p.ended) != 1 || len(p.connected) != 0 {
		t.Fatal("the account at the third party outlived the last grant")
	}
	alice.get(alice.startStep(t))
	if alice.post("/account", set(page.hidden(), "do", "disconnect:tp")); len(p.ended) != 2 || len(p.connected) != 0 {
		t.Fatal("the account is still connected")
	}
}
