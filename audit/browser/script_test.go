package browser_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
)

const labScript = `steps:
  - fill: {field: User, value: carol}
  - fill: {field: name=password, value: "${env:PW}"}
  - totp: {field: Code of your authenticator, secret: "${env:TOTP}"}
  - click: Log in
`

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

var carol = env(map[string]string{"PW": "carol-lab-password", "TOTP": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"})

// TestT3LoginScript plays a login with a password and a second factor in both
// browsers; the decision stays with the pilot.
func TestT3LoginScript(t *testing.T) {
	s, err := browser.ParseScript("f.yaml", []byte(labScript), carol)
	if err != nil {
		t.Fatal(err)
	}
	c := chromium(t)
	for _, kind := range []string{"forms", "chromium"} {
		_, start := begin(t, lab.Options{})
		tab := formsTab(t)
		if kind == "chromium" {
			if tab, err = c.Open(t.Context(), browser.Policy{Capture: capture}); err != nil {
				t.Fatal(err)
			}
		}
		j, err := browser.Walk(t.Context(), tab, start, browser.Errand{Script: s, Name: "Walk", Quick: kind == "forms"})
		tab.Close()
		if err != nil || !strings.Contains(j.Captured, "code=") {
			t.Errorf("%s: %v, %s, captured %q", kind, err, j.Why, j.Captured)
		}
	}
}

// TestT3PasskeyScript logs in with a passkey, which a virtual authenticator holds.
// Browsers without scripts say that they cannot.
func TestT3PasskeyScript(t *testing.T) {
	l, start := begin(t, lab.Options{Passkeys: true})
	secret := env(map[string]string{"KEY": l.Accounts[len(l.Accounts)-1].Passkey})
	s, err := browser.ParseScript("f.yaml", []byte("steps:\n  - passkey: {credential: \"${env:KEY}\"}\n  - click: Log in with a passkey\n  - click: Use the passkey\n"), secret)
	if err != nil {
		t.Fatal(err)
	}
	if !s.NeedsBrowser() {
		t.Error("a passkey without a real browser")
	}
	tab, err := chromium(t).Open(t.Context(), browser.Policy{Capture: capture})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	j, err := browser.Walk(t.Context(), tab, start, browser.Errand{Script: s, Name: "Walk"})
	if err != nil || !strings.Contains(j.Captured, "code=") || len(j.Consents()) != 1 {
		t.Errorf("%v, %s, captured %q", err, j.Why, j.Captured)
	}
	_, start = begin(t, lab.Options{Passkeys: true})
	if _, err := browser.Walk(t.Context(), formsTab(t), start, browser.Errand{Script: s, Quick: true}); err == nil || !strings.Contains(err.Error(), "needs a real browser") {
		t.Errorf("without scripts: %v", err)
	}
}

// TestT3LoginScriptMissingButton: the error says which step, what was looked for,
// and what is on the page; no secret is in it.
func TestT3LoginScriptMissingButton(t *testing.T) {
	s, err := browser.ParseScript("f.yaml", []byte(strings.Replace(labScript, "Log in", "Enter the vault", 1)), carol)
	if err != nil {
		t.Fatal(err)
	}
	_, start := begin(t, lab.Options{})
	_, err = browser.Walk(t.Context(), formsTab(t), start, browser.Errand{Script: s, Quick: true})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"f.yaml", "step 4", "Enter the vault", "Log in", "/login"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "carol-lab-password") {
		t.Error("the password is in the error")
	}
}

// TestT3ScriptRefusals: secrets in the file, unknown steps and missing variables are
// refused with the step's number.
func TestT3ScriptRefusals(t *testing.T) {
	for in, want := range map[string]string{
		"steps:\n  - fill: {field: Password, value: hunter2}\n":       "does not belong into the file",
		"steps:\n  - totp: {field: Code, secret: JBSWY3DPEHPK3PXP}\n": "does not belong into the file",
		"steps:\n  - fill: {field: Password, value: \"${env:NO}\"}\n": "NO is empty",
		"steps:\n  - press: x\n":                                      "no login script",
		"steps:\n  - passkey: {credential: \"{}\"}\n":                 "does not belong into the file",
		"steps:\n  - passkey: {credential: \"${env:PW}\"}\n":          "not JSON",
		"steps: []\n":                                      "0 steps",
		"steps:\n  - click: a\n    wait: b\n":              "step 1",
		"steps:\n  - {}\n":                                 "step 1",
		"steps:\n" + strings.Repeat("  - click: x\n", 101): "101 steps",
	} {
		_, err := browser.ParseScript("f.yaml", []byte(in), env(map[string]string{"PW": "pw"}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", in, err, want)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add([]byte(labScript))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := browser.ParseScript("f", raw, carol)
		if err == nil && len(s.Steps) == 0 {
			t.Error("a script without steps")
		}
	})
}

// person is a tab with somebody at the window, who fills in the login page while
// the pilot waits.
type person struct {
	browser.Tab
	asked atomic.Int32
}

func (p *person) Page(ctx context.Context) (*browser.Page, error) {
	pg, err := p.Tab.Page(ctx)
	if err == nil && browser.Read(pg, "") == browser.KindLogin && p.asked.Add(1) == 3 {
		for _, e := range pg.Elements {
			switch e.Name {
			case "username":
				err = p.Fill(ctx, e.Index, "alice")
			case "password":
				err = p.Fill(ctx, e.Index, "alice-lab-password")
			}
			if err == nil && e.Kind == "button" {
				err = p.Click(ctx, e.Index)
			}
		}
	}
	return pg, err
}

// TestT3PersonLogsIn: with --login the pilot waits for the person and decides by
// itself afterwards.
func TestT3PersonLogsIn(t *testing.T) {
	_, start := begin(t, lab.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	j, err := browser.Walk(ctx, &person{Tab: formsTab(t)}, start, browser.Errand{Hands: true, Name: "Walk", Quick: true})
	if err != nil || !strings.Contains(j.Captured, "code=") {
		t.Fatalf("%v, %s, captured %q", err, j.Why, j.Captured)
	}
}

// TestT3StrangersAreNotLoaded: a page loads nothing from origins outside the walk,
// and nothing reaches an address that the guard refuses.
func TestT3StrangersAreNotLoaded(t *testing.T) {
	c := chromium(t)
	l, start := begin(t, lab.Options{Profile: "noise"})
	tab, err := c.Open(t.Context(), browser.Policy{Capture: capture})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	if _, err := browser.Walk(t.Context(), tab, start, browser.Errand{Account: people["alice"], Name: "Walk"}); err != nil {
		t.Fatal(err)
	}
	for _, a := range l.Log() {
		if a.Server == "noise" && (strings.HasPrefix(a.Path, "/g/") || a.Path == "/o/oauth2/auth") {
			t.Errorf("a page loaded %s%s", a.Host, a.Path)
		}
	}
	if err := tab.Goto(t.Context(), "http://169.254.169.254/latest/meta-data/"); err == nil {
		if p, err := tab.Page(t.Context()); err == nil && p.Status == 200 {
			t.Errorf("the guard let the browser through: %.100s", p.Text)
		}
	}
}
