package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/lab"
)

// hand is a person at the window: mouse and keyboard, by the browser's own input
// events, which pages cannot tell from real ones.
type hand struct {
	t   *testing.T
	ctx context.Context
}

// at waits for an element and clicks its middle.
func (h hand) at(selector string) {
	h.t.Helper()
	script := fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e || document.readyState !== "complete") return ""; e.scrollIntoView(); const r = e.getBoundingClientRect(); return JSON.stringify([r.x + r.width / 2, r.y + r.height / 2]) })()`, selector)
	for range 1200 { // a minute: a busy machine takes its time
		raw, err := chromedp.Run(h.ctx, chromedp.Evaluate[string](script))
		if err != nil || raw == "" {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		var p [2]float64
		if err := json.Unmarshal([]byte(raw), &p); err != nil {
			h.t.Error(err)
			return
		}
		for _, kind := range []input.DispatchMouseEventType{"mousePressed", "mouseReleased"} {
			if _, err := chromedp.Call(h.ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: p[0], Y: p[1], Button: "left", ClickCount: 1}); err != nil {
				h.t.Error(err)
			}
		}
		return
	}
	h.t.Errorf("nothing to click at %s", selector)
}

func (h hand) types(selector, text string) {
	h.t.Helper()
	h.at(selector)
	if _, err := chromedp.Call(h.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		h.t.Error(err)
	}
}

func labRequest(t *testing.T, o lab.Options) (*lab.Lab, string) {
	t.Helper()
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	const back = "http://127.0.0.1:49999/callback/record"
	res, err := http.Post(l.Issuer+"/register", "application/json", bytes.NewReader([]byte(`{"client_name":"Walk","redirect_uris":["`+back+`"],"token_endpoint_auth_method":"none"}`)))
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
	q := url.Values{"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {back}, "state": {strings.Repeat("s", 24)}, "code_challenge": {strings.Repeat("A", 43)}, "code_challenge_method": {"S256"}}
	return l, l.Issuer + "/authorize?" + q.Encode()
}

// TestT3RecordLogin: what a person does once is a script afterwards, without her
// secrets, and the script logs in.
func TestT3RecordLogin(t *testing.T) {
	c, err := StartChromium(t.Context(), ChromiumOptions{Lab: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, tc := range map[string]struct {
		o      lab.Options
		person func(h hand, l *lab.Lab)
		secret map[string]string
		want   []string
	}{
		"password and second factor": {person: func(h hand, l *lab.Lab) {
			h.types("[name=username]", "carol")
			h.types("[name=password]", "wrong")
			h.types("[name=totp]", "123456") // what she types first is corrected below
			h.at("[name=password]")
			_, _ = chromedp.Run(h.ctx, chromedp.Evaluate[string](`document.querySelector("[name=password]").select(); ""`))
			h.types("[name=password]", "carol-lab-password")
			_, _ = chromedp.Run(h.ctx, chromedp.Evaluate[string](`document.querySelector("[name=totp]").value = ""; document.querySelector("[name=password]").value = ""; ""`))
			h.types("[name=password]", "carol-lab-password")
			h.types("[name=totp]", TOTP(l.Accounts[2].TOTP, time.Now()))
			h.at("button")
		}, secret: map[string]string{"KIDOBAN_PASSWORD": "carol-lab-password", "KIDOBAN_TOTP": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"},
			want: []string{"field: User", "value: carol", "field: Password", "${env:KIDOBAN_PASSWORD}", "${env:KIDOBAN_TOTP}", "click: Log in"}},
		"passkey": {o: lab.Options{Passkeys: true}, person: func(h hand, l *lab.Lab) {
			h.at("p a")
			h.at("#use")
		}, want: []string{"credential: ${env:KIDOBAN_PASSKEY}", "click: Log in with a passkey", "click: Use the passkey"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, start := labRequest(t, tc.o)
			w, err := c.watch(t.Context(), start, RecordOptions{Passkeys: tc.o.Passkeys})
			if err != nil {
				t.Fatal(err)
			}
			defer w.tab.Close()
			if tc.o.Passkeys {
				key := l.Accounts[len(l.Accounts)-1].Passkey
				tc.secret = map[string]string{"KIDOBAN_PASSKEY": key}
				p, err := ParsePasskey(key)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.tab.AddPasskey(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			go tc.person(hand{t, w.tab.ctx}, l)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			rec, err := w.run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := rec.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if rec.Why != RecordDecision || tc.o.Passkeys && len(rec.Passkeys) != 1 {
				t.Errorf("ended with %s, %d passkeys", rec.Why, len(rec.Passkeys))
			}
			for _, want := range tc.want {
				if !strings.Contains(string(raw), want) {
					t.Errorf("no %q", want)
				}
			}
			for _, v := range tc.secret {
				if strings.Contains(string(raw), v) {
					t.Error("a secret is in the script")
				}
			}
			if strings.Contains(string(raw), "123456") || strings.Contains(string(raw), "wrong") {
				t.Error("what was typed into a secret field is in the script")
			}
			s, err := ParseScript("recorded", raw, func(k string) string { return tc.secret[k] })
			if err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			_, again := labRequest(t, tc.o)
			if tc.o.Passkeys { // the other lab knows another passkey
				again = start
			}
			tab, err := c.Open(t.Context(), Policy{Capture: backToClient(again)})
			if err != nil {
				t.Fatal(err)
			}
			defer tab.Close()
			j, err := Walk(t.Context(), tab, again, Errand{Script: s, Name: "Walk"})
			if err != nil || !strings.Contains(j.Captured, "code=") {
				t.Errorf("played: %v, %s, captured %q\n%s", err, j.Why, j.Captured, raw)
			}
		})
	}
}
