package browser_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
)

const redirect = "http://127.0.0.1:49999/callback/test"

// begin starts a lab and returns it with the address of a valid authorization
// request.
func begin(t *testing.T, o lab.Options) (*lab.Lab, string) {
	t.Helper()
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	body, _ := json.Marshal(map[string]any{"client_name": "Walk", "redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none"})
	res, err := http.Post(l.Issuer+"/register", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var c struct {
		ID string `json:"client_id"`
	}
	if json.NewDecoder(res.Body).Decode(&c) != nil || c.ID == "" {
		t.Fatalf("registration: %s", res.Status)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("v", 43)))
	q := url.Values{"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {redirect}, "state": {strings.Repeat("s", 24)},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	return l, l.Issuer + "/authorize?" + q.Encode()
}

func capture(to string) bool { return strings.HasPrefix(to, redirect) }

// formsTab is a browser without scripts on loopback.
func formsTab(t *testing.T) browser.Tab {
	out := outbound.New(outbound.Options{Lab: true})
	t.Cleanup(out.Close)
	jar := outbound.NewJar()
	return browser.NewForms(func(ctx context.Context, method, to string, h kidoban.Fields, body []byte) *kidoban.Exchange {
		x, _ := out.Do(ctx, outbound.Req{Method: method, URL: to, Header: h, Body: body, Jar: jar})
		return x
	}, capture)
}

func chromium(t *testing.T) *browser.Chromium {
	t.Helper()
	c, err := browser.StartChromium(t.Context(), browser.ChromiumOptions{Lab: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var people = map[string]browser.Account{
	"alice": {User: "alice", Password: "alice-lab-password"},
	"carol": {User: "carol", Password: "carol-lab-password", TOTP: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"},
}

// TestT3WalkPassesTheLab logs in and approves by itself, in both browsers.
func TestT3WalkPassesTheLab(t *testing.T) {
	c := chromium(t)
	for name, tc := range map[string]struct {
		o        lab.Options
		who      string
		decision browser.Decision
		script   bool
	}{
		"plain":       {who: "alice"},
		"totp":        {who: "carol"},
		"upstream":    {o: lab.Options{Upstream: true}, who: "alice"},
		"login-first": {o: lab.Options{Profile: "login-first"}, who: "alice"},
		"deep-chain":  {o: lab.Options{Profile: "deep-chain", Depth: 18}, who: "alice"},
		"noise":       {o: lab.Options{Profile: "noise", Upstream: true}, who: "alice"},
		"spa-consent": {o: lab.Options{Profile: "spa-consent"}, who: "alice", script: true},
		"E28-f":       {o: lab.Options{Flaws: []string{"E28-f"}}, who: "alice"},
		"deny":        {who: "alice", decision: browser.Deny},
	} {
		for _, kind := range []string{"forms", "chromium"} {
			if tc.script && kind == "forms" {
				continue
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				_, start := begin(t, tc.o)
				var tab browser.Tab
				if kind == "forms" {
					tab = formsTab(t)
				} else {
					var err error
					if tab, err = c.Open(t.Context(), browser.Policy{Capture: capture, Pictures: true}); err != nil {
						t.Fatal(err)
					}
				}
				defer tab.Close()
				began := time.Now()
				j, err := browser.Walk(t.Context(), tab, start, browser.Errand{Account: people[tc.who], Decision: tc.decision, Name: "Walk", Quick: kind == "forms"})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d pages in %s", len(j.Visits), time.Since(began))
				want := "code="
				if tc.decision == browser.Deny {
					want = "error=access_denied"
				}
				if !strings.Contains(j.Captured, want) {
					for _, v := range j.Visits {
						t.Logf("%s %s %q did %q text %.120q elements %+v", v.Kind, v.URL, v.Title, v.Did, v.Text, v.Elements)
					}
					t.Fatalf("captured %q, why %q", j.Captured, j.Why)
				}
				if len(j.Consents()) != 1 {
					t.Errorf("%d consent pages", len(j.Consents()))
				}
				if kind == "chromium" && len(j.Consents()[0].PNG) == 0 {
					t.Error("no picture of the consent page")
				}
			})
		}
	}
}
