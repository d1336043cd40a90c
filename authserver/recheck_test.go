package authserver_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// recheckWorld is a server whose provider is asked anew every hour, with the logins
// that were kept.
type recheckWorld struct {
	*world
	p  *idp
	mu sync.Mutex
	// kept is the latest login of each user, asked how often it was renewed.
	kept  map[string]authserver.ProviderLogin
	asked int
	hang  bool // renewals take longer than anybody waits
}

func newRecheckWorld(t *testing.T, change func(*authserver.Provider)) *recheckWorld {
	r := &recheckWorld{p: newIDP(t), kept: map[string]authserver.ProviderLogin{}}
	r.p.next, r.p.claims = "granted", map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()} // the clock is put forward
	r.world = newWorld(t, func(w *world) {
		x := authserver.Provider{ID: "corp", Name: "Corp", Issuer: r.p.URL, ClientID: "rp", ClientSecret: "rp-secret", GroupsClaim: "groups", Recheck: time.Hour}
		if change != nil {
			change(&x)
		}
		w.cfg.Login.Providers = []authserver.Provider{x}
		w.deps.Proof = func(_ context.Context, user string, l authserver.ProviderLogin) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.kept[user] = l
			return nil
		}
		w.deps.Renew = r.renew
	})
	return r
}

func (r *recheckWorld) renew(ctx context.Context, user, _ string, needless func(context.Context) (bool, error)) error {
	if over, err := needless(ctx); over || err != nil {
		return err
	}
	r.mu.Lock()
	l, ok := r.kept[user]
	r.asked++
	hang := r.hang
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		return kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "not in time")
	}
	if !ok || l.Refresh == "" {
		return kidoban.Errorf(kidoban.KindNotFound, "the login is too long ago")
	}
	_, err := r.s.RenewLogin(ctx, l, nil)
	return err
}

func (r *recheckWorld) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// dana logs in at the provider.
func (r *recheckWorld) dana() *browser {
	r.t.Helper()
	b := r.browser()
	if a := b.get(b.toProvider(b.get("/login")).String()); a.StatusCode != 303 {
		r.t.Fatal(a.StatusCode, a.body)
	}
	return b
}

// answers makes the provider answer every token request so; 0 as ever.
func (r *recheckWorld) answers(status int, body string) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.p.refuse, r.p.said = status, body
}

func (x *app) refreshAnswer(token string) answer { return x.token(x.refreshForm(token)) }

// TestGAS5_AProviderThatCannotBeAskedEndsNoLogin, whatever is wrong with it; it is told,
// and tried again later.
func TestGAS5_AProviderThatCannotBeAskedEndsNoLogin(t *testing.T) {
	r := newRecheckWorld(t, nil)
	x := r.register("Client", loopback)
	token := x.tokens(r.dana())["refresh_token"].(string)
	refresh := func(want int, says string) {
		t.Helper()
		a := x.refreshAnswer(token)
		if a.StatusCode != want {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		if want == 200 {
			token = a.json(t)["refresh_token"].(string)
		}
		detail := r.seen.detail(a.Header.Get("X-Request-Id"))
		if !strings.Contains(detail, says) || says == "" && detail != "" {
			t.Errorf("the audit log has %q, not %q", detail, says)
		}
	}
	refresh(200, "")
	if r.count() != 0 {
		t.Error("asked about what was just heard")
	}
	for _, c := range []struct {
		status     int
		body, says string
	}{
		{503, `oops`, "with status 503"},
		{401, `{"error":"invalid_client"}`, "does not take this gateway as its client"},
		{400, `{"error":"unauthorized_client"}`, "does not take this gateway as its client"},
		{403, `<html>rp-secret`, "with status 403"},
		{-1, ``, "did not answer"},
	} {
		r.answers(c.status, c.body)
		r.clock.forward(61 * time.Minute)
		before := r.count()
		refresh(200, c.says)
		refresh(200, "did not answer just now")
		if r.count() != before+1 {
			t.Errorf("%s: asked %d times at once", c.says, r.count()-before)
		}
		r.clock.forward(31 * time.Second)
		refresh(200, c.says)
	}
	r.mu.Lock()
	r.hang = true
	r.mu.Unlock()
	r.clock.forward(time.Minute)
	began := time.Now()
	refresh(200, "not in time")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("waited %v", took)
	}
	r.mu.Lock()
	r.hang = false
	r.mu.Unlock()
	r.answers(0, "")
	r.clock.forward(time.Minute)
	refresh(200, "heard anew: corp")
	refresh(200, "")
	// The provider says it plainly: every client and browser of hers, until she logs in.
	r.answers(400, `{"error":"invalid_grant","error_description":"rp-secret"}`)
	r.clock.forward(2 * time.Hour)
	refresh(400, "said so, with status 400 invalid_grant")
	before := r.count()
	refresh(400, "said so, with status 400 invalid_grant")
	if r.count() != before {
		t.Error("asked about who has left")
	}
	r.answers(0, "")
	refresh(400, "said so")
	r.dana()
	refresh(200, "")
}

// TestGAS7_WhoLeftTheProviderIsOut: no code is redeemed, no browser stays logged in, and
// no other way of logging in brings the person back.
func TestGAS7_WhoLeftTheProviderIsOut(t *testing.T) {
	r := newRecheckWorld(t, nil)
	alice := r.person() // a local account
	b := r.dana()
	u, err := r.store.UserByName(t.Context(), "dana@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	in := func(b *browser) bool { return !strings.Contains(b.get("/account").body, "Log in with Corp") }
	r.clock.forward(59 * time.Minute)
	if !in(b) || r.count() != 0 {
		t.Fatal("not logged in, or asked too early", r.count())
	}
	r.clock.forward(2 * time.Minute)
	if !in(b) || r.count() != 1 {
		t.Fatal("a page does not ask the provider", r.count())
	}
	r.answers(400, `{"error":"invalid_grant"}`)
	r.clock.forward(59*time.Minute + 30*time.Second)
	x := r.register("Client", loopback)
	code := x.code(b, nil)
	r.clock.forward(40 * time.Second) // the word is old, the code is not
	if a := x.token(x.redeemForm(code)); a.StatusCode != 400 || !strings.Contains(a.body, "invalid_grant") || !strings.Contains(a.body, "identity provider has ended") {
		t.Errorf("a code of who has left: %d %s", a.StatusCode, a.body)
	}
	if in(b) {
		t.Error("the browser is still logged in")
	}
	link, err := r.s.ResetLink(t.Context(), "dana@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	at, _ := url.Parse(link)
	c := r.browser()
	v := c.get(at.RequestURI()).hidden()
	v.Set("password", password)
	v.Set("again", password)
	if a := c.post("/setup", v); a.StatusCode != 400 || in(c) {
		t.Errorf("logged in with a password: %d %s", a.StatusCode, a.body)
	}
	h, err := r.store.Heard(t.Context(), u.ID)
	if err != nil || h.Ended.IsZero() || !strings.Contains(h.Why, "invalid_grant") {
		t.Errorf("%+v %v", h, err)
	}
	// Nobody is asked about accounts of this gateway's own.
	r.clock.forward(3 * time.Hour)
	if !strings.Contains(alice.get("/account").body, "/logout") {
		t.Error("a local account was asked about")
	}
}

// TestGAS5_WithoutARefreshTokenPeopleLogInAgain: what was promised holds, and the login
// says so beforehand. The same for who logged in before it was promised.
func TestGAS5_WithoutARefreshTokenPeopleLogInAgain(t *testing.T) {
	r := newRecheckWorld(t, nil)
	r.p.mu.Lock()
	r.p.next = ""
	r.p.mu.Unlock()
	x := r.register("Client", loopback)
	b := r.browser()
	a := b.get(b.toProvider(b.get("/login")).String())
	if detail := r.seen.detail(a.Header.Get("X-Request-Id")); !strings.Contains(detail, "gave no refresh token: the person logs in again every 1h0m0s") {
		t.Errorf("the audit log has %q", detail)
	}
	token := x.tokens(b)["refresh_token"].(string)
	r.clock.forward(61 * time.Minute)
	if a := x.refreshAnswer(token); a.StatusCode != 400 || a.json(t)["error"] != "invalid_grant" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	r.dana()
	if a := x.refreshAnswer(token); a.StatusCode != 200 {
		t.Errorf("after a new login: %d %s", a.StatusCode, a.body)
	}

	u, err := r.store.UserByName(t.Context(), "dana@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.PutHeard(t.Context(), authserver.Heard{UserID: u.ID, Issuer: r.p.URL}); err != nil { // as an upgrade leaves it
		t.Fatal(err)
	}
	y := r.register("Other", loopback)
	if a := y.refreshAnswer(token); a.StatusCode != 400 {
		t.Errorf("a foreign token: %d", a.StatusCode)
	}
	if h, err := r.store.Heard(t.Context(), u.ID); err != nil || !h.Ended.IsZero() {
		t.Errorf("a stranger's request ended a login: %+v %v", h, err)
	}
}

// TestGAS7_AStreamSparesNobodyTheQuestion: what is begun with a token ends when the
// provider is to be asked anew, and not before the token does; of who is not asked
// about it ends with the grant.
func TestGAS7_AStreamSparesNobodyTheQuestion(t *testing.T) {
	r := newRecheckWorld(t, nil)
	alice := r.person() // a local account
	x := r.register("Client", loopback)
	heard := r.clock.now()
	got := x.tokens(r.dana())
	until := func(got map[string]any) (left time.Duration, spare bool) {
		t.Helper()
		c := claims(t, got["access_token"].(string))
		end := time.Unix(int64(c["kidoban_until"].(float64)), 0)
		return end.Sub(heard), c["kidoban_until"] == c["exp"]
	}
	if left, _ := until(got); left < time.Hour-time.Minute || left > time.Hour {
		t.Errorf("a stream may stay for %v after the login", left)
	}
	r.clock.forward(30 * time.Minute)
	got = x.refreshAnswer(got["refresh_token"].(string)).json(t)
	if left, _ := until(got); left < time.Hour-time.Minute || left > time.Hour {
		t.Errorf("a stream may stay for %v after what was heard", left)
	}
	r.clock.forward(25 * time.Minute)
	got = x.refreshAnswer(got["refresh_token"].(string)).json(t)
	if left, spare := until(got); !spare {
		t.Errorf("a stream ends before its token, %v after what was heard", left)
	}
	r.answers(503, "oops")
	r.clock.forward(10 * time.Minute)
	got = x.refreshAnswer(got["refresh_token"].(string)).json(t)
	if left, spare := until(got); !spare {
		t.Errorf("with a provider that is away a stream may stay for %v", left)
	}
	r.answers(0, "")
	r.clock.forward(time.Minute)
	heard = r.clock.now()
	got = x.refreshAnswer(got["refresh_token"].(string)).json(t)
	if left, _ := until(got); left < time.Hour-time.Minute || left > time.Hour {
		t.Errorf("a stream may stay for %v after it was heard anew", left)
	}
	if left, _ := until(x.tokens(alice)); left < 700*time.Hour {
		t.Errorf("the stream of a local account ends after %v", left)
	}
}

// TestLoginsAskForRefreshTokens where they are needed, and where the provider has them.
func TestLoginsAskForRefreshTokens(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*authserver.Provider)
		offers  []string
		want    string
		expects bool
	}{
		"offered":             {offers: []string{"openid", "offline_access"}, want: "openid profile email offline_access", expects: true},
		"not offered":         {offers: []string{"openid"}, want: "openid profile email", expects: true},
		"scopes of one's own": {change: func(x *authserver.Provider) { x.Scopes = []string{"email"} }, offers: []string{"offline_access"}, want: "openid email"},
		"never asked anew":    {change: func(x *authserver.Provider) { x.Recheck = 0 }, offers: []string{"offline_access"}, want: "openid profile email", expects: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecheckWorld(t, c.change)
			r.p.mu.Lock()
			r.p.scopes = c.offers
			r.p.mu.Unlock()
			b := r.browser()
			to, err := url.Parse(b.post("/login/corp", b.get("/login").hidden()).Header.Get("Location"))
			if err != nil || to.Query().Get("scope") != c.want {
				t.Errorf("asked for %q, want %q", to.Query().Get("scope"), c.want)
			}
			if got := r.cfg.Login.Providers[0].AsksRefresh(); got != c.expects {
				t.Errorf("AsksRefresh is %v", got)
			}
		})
	}
	for issuer, want := range map[string]bool{"https://accounts.google.com": true, "https://cognito-idp.eu-west-1.amazonaws.com/x": true, "https://login.example.com": false} {
		if x := (authserver.Provider{Issuer: issuer, Scopes: []string{"email"}}); x.AsksRefresh() != want {
			t.Errorf("%s: %v", issuer, !want)
		}
	}
}
