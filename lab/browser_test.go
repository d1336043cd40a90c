package lab

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestRealBrowser logs in with Chromium, which decides by itself about __Host-
// cookies on loopback, content security policies and redirects after forms.
func TestRealBrowser(t *testing.T) {
	for name, o := range map[string]Options{
		"plain": {}, "upstream": {Upstream: true}, profileLogin: {Profile: profileLogin}, profileSPA: {Profile: profileSPA}, profileNoise: {Profile: profileNoise},
		"E28-f": {Flaws: []string{"E28-f"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLab(t, o)
			b := newAgent(t, l)
			got := make(chan string, 1)
			cb := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/callback" {
					select {
					case got <- r.FormValue("code"):
					default:
					}
				}
				w.Write([]byte("done"))
			}))
			defer cb.Close()
			redirect := cb.URL + "/callback"
			id := b.client(map[string]any{"redirect_uris": []string{redirect}})

			opts := chromedp.DefaultExecAllocatorOptions[:]
			if os.Geteuid() == 0 { // Chromium's sandbox refuses to run for root
				opts = append(opts, chromedp.NoSandbox)
			}
			alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
			defer stop()
			tab, closeTab := chromedp.NewContext(alloc)
			defer closeTab()
			if err := chromedp.Do(tab); err != nil { // the browser lives as long as this first context
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(tab, 3*time.Minute)
			defer cancel()

			steps := []chromedp.Action[chromedp.Void]{chromedp.Navigate(l.Issuer + "/authorize?" + with(b.request(id), "redirect_uri", redirect).Encode())}
			login := []chromedp.Action[chromedp.Void]{
				chromedp.WaitVisible(`input[name=password]`), chromedp.SendKeys(`input[name=username]`, "alice"),
				chromedp.SendKeys(`input[name=password]`, "alice-lab-password"), chromedp.Click(`button[type=submit]`),
			}
			decide := []chromedp.Action[chromedp.Void]{chromedp.WaitVisible(`button[value=approve]`), chromedp.Click(`button[value=approve]`)}
			if o.Profile == profileSPA {
				steps = append(steps, chromedp.WaitVisible(`#root button`), chromedp.Click(`#root button`))
			}
			if o.Upstream {
				steps = append(append(steps, decide...), login...)
			} else {
				steps = append(append(steps, login...), decide...)
			}
			if err := chromedp.Do(ctx, steps...); err != nil {
				t.Fatal(err)
			}
			select {
			case code := <-got:
				if a := b.redeem(id, code, map[string][]string{"redirect_uri": {redirect}}); a.status != http.StatusOK {
					t.Errorf("token: %d %s", a.status, a.body)
				}
			case <-ctx.Done():
				t.Fatal("no callback came")
			}
		})
	}
}
