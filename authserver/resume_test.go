package authserver_test

import (
	"net/http"
	"testing"
	"time"
)

// TestGCO1_AYesIsForWhatWasShown: a person agrees, and is sent to connect accounts first.
// What becomes different meanwhile is asked about anew before there is a code: the client
// by its document, what it may have, the login that said yes.
func TestGCO1_AYesIsForWhatWasShown(t *testing.T) {
	for name, change := range map[string]func(w *world, l *library, alice *browser) *browser{
		"nothing": func(_ *world, _ *library, alice *browser) *browser { return alice },
		"the client": func(w *world, l *library, alice *browser) *browser {
			l.doc("/c", "client_name", "Somebody else")
			w.clock.forward(11 * time.Minute)
			return alice
		},
		"what it may have": func(w *world, _ *library, alice *browser) *browser {
			c := w.cfg
			c.Registration.CIMDScopes = map[string][]string{"127.0.0.1": {"mcp:read"}}
			if err := w.s.Reload(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			return alice
		},
		"the login": func(w *world, _ *library, _ *browser) *browser { return w.login(w.admin) },
	} {
		w, _ := newUpstreamWorld(t)
		l := newLibrary(t)
		w.roots.AddCert(l.Certificate())
		alice := w.person()
		x := w.document(l.doc("/c"))
		page := alice.get(alice.approve(alice.get("/authorize?" + set(x.params(), "scope", "mcp:read mcp:write").Encode())).location(t).String())
		ticket := page.hidden().Get("c")
		if ticket == "" {
			t.Fatalf("%s: no page to connect: %d %s", name, page.StatusCode, page.body)
		}
		now := change(w, l, alice)
		a := now.post("/authorize/finish", set(now.get("/account").hidden(), "c", ticket))
		if name == "nothing" {
			if a.location(t).Query().Get("code") == "" {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.Header.Get("Location"))
			}
			continue
		}
		if a.StatusCode != http.StatusOK || len(scopesOf(a)) == 0 {
			t.Errorf("%s has changed: %d, to %q, %s", name, a.StatusCode, a.Header.Get("Location"), a.body)
		}
	}
}

// TestGRG3_ASecretIsItsRegistrantsOwn: two that register the same client with a secret
// get one each; no two ever share a registration with a secret.
func TestGRG3_ASecretIsItsRegistrantsOwn(t *testing.T) {
	w := newWorld(t, nil)
	seen := map[string]bool{}
	for range 2 {
		a := w.postJSON("/register", map[string]any{"client_name": "Twin", "redirect_uris": []string{loopback}, "token_endpoint_auth_method": "client_secret_post"})
		m := a.json(t)
		id, _ := m["client_id"].(string)
		secret, _ := m["client_secret"].(string)
		if a.StatusCode != http.StatusCreated || id == "" || secret == "" || seen[id] {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		seen[id] = true
		x := &app{w: w, id: id, redirect: loopback}
		wantError(t, x.token(set(x.redeemForm("kdc_dummy"), "client_secret", secret, "code_verifier", "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv")), 400, "invalid_grant")
	}
}

// TestGAS7_AnEmptyResourceHidesNoOther: of two resource parameters the first is empty.
func TestGAS7_AnEmptyResourceHidesNoOther(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	form := x.redeemForm(x.code(w.person(), x.params()))
	form["resource"] = []string{"", w.url + "/s/files/mcp"}
	if a := x.token(form); a.StatusCode == http.StatusOK {
		t.Errorf("%s", a.body)
	}
}
