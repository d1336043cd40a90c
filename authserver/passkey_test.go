package authserver_test

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/authserver/authtest"
)

// TestPasskeys registers a passkey and logs in with it, in a real browser with an
// authenticator of its own.
func TestPasskeys(t *testing.T) {
	w := newWorld(t, func(w *world) { // browsers bind passkeys to names, not to addresses
		w.url = strings.Replace(w.url, "127.0.0.1", "localhost", 1)
		w.cfg.Issuer = w.url
		w.cfg.Resources = []authserver.Resource{{URI: w.url + "/mcp", Name: "x"}}
	})
	w.person()
	ctx := chrome(t, "en")
	prepare := func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false})
		if err == nil {
			_, err = cdp.Call(ctx, t, webauthn.Enable, webauthn.EnableParams{})
		}
		if err == nil {
			_, err = cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
				Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true,
				IsUserVerified: true, AutomaticPresenceSimulation: true}})
		}
		return chromedp.Void{}, err
	}
	authtest.Run(t, ctx, prepare, chromedp.Navigate(w.url+"/account"), logInWith(w.admin), chromedp.WaitVisible(`a[href="/account/passkey"]`),
		chromedp.Click(`a[href="/account/passkey"]`), chromedp.WaitVisible(`input[name=label]`), chromedp.SendKeys(`input[name=label]`, "Laptop"),
		chromedp.Click(`#begin`), chromedp.WaitVisible(`button[value^="remove_passkey:"]`))
	authtest.Shoot(t, ctx, "account-passkey-en")
	// A second one on the same device: the page says why not. Enter in the field is the button.
	authtest.Run(t, ctx, chromedp.Click(`a[href="/account/passkey"]`), chromedp.WaitVisible(`input[name=label]`), chromedp.SendKeys(`input[name=label]`, "Again\r"),
		chromedp.WaitVisible(`#twice`), chromedp.Click(`main a[href="/account"]`), chromedp.WaitVisible(`button[value^="remove_passkey:"]`))
	x := w.register("Client", loopback)
	authtest.Run(t, ctx, chromedp.Click(`form[action="/logout"] button`), chromedp.WaitVisible(`input[name=name]`),
		chromedp.Navigate(w.url+"/authorize?"+x.params().Encode()), chromedp.WaitVisible(`form[action="/login/passkey"] button`),
		chromedp.Click(`form[action="/login/passkey"] button`), chromedp.WaitVisible(`#begin`))
	authtest.Shoot(t, ctx, "passkey-en")
	authtest.Run(t, ctx, chromedp.Click(`#begin`), chromedp.WaitVisible(allow))
	// What the ceremony sends is good for nothing else.
	b := w.browser()
	page := b.get("/login/passkey?t=" + b.get("/login").hidden().Get("t"))
	if page.StatusCode != 200 || !strings.Contains(page.Header.Get("Content-Security-Policy"), "script-src 'self'") {
		t.Fatal(page.StatusCode, page.Header)
	}
	for _, credential := range []string{"", "{}", `{"id":"x","type":"public-key","response":{}}`} {
		if a := b.post("/login/passkey", set(page.hidden(), "credential", credential)); a.StatusCode == 303 {
			t.Fatal("logged in with nothing")
		}
	}
	if a := w.browser().post("/login/passkey", page.hidden()); a.StatusCode != 400 {
		t.Fatal("a challenge of another browser was taken")
	}
}
