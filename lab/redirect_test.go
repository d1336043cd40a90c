package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// lands tells whether an error of the request is sent to the mutated redirect URI:
// the proof that needs no login.
func (b *agent) lands(id, mutated string) bool {
	b.t.Helper()
	v := b.request(id)
	v.Set("redirect_uri", mutated)
	v.Set("response_type", "kidoban_invalid")
	loc := b.authorize(v).header.Get("Location")
	return strings.HasPrefix(loc, mutated) && strings.Contains(loc, "error=")
}

// mutations are the redirect URIs of F7 for a client registered with testRedirect.
func mutations() map[string][]string {
	const host = "n1.kidoban-probe.invalid"
	return map[string][]string{
		"F7-2":  {testRedirect + "/x"},
		"F7-3":  {testRedirect + "/../x", testRedirect + "/%2e%2e%2fx", testRedirect + "/..;/x"},
		"F7-4":  {testRedirect + "?a=b", testRedirect + "&a=b"},
		"F7-5":  {testRedirect + "#x"},
		"F7-6":  {"http://127.0.0.1:4711/Callback/n1", testRedirect + "/", "http://127.0.0.1:4711", "http://127.0.0.1:4711/"},
		"F7-7":  {"http://127.0.0.1." + host + ":4711/callback/n1", "http://evil-127.0.0.1:4711/callback/n1", "http://a.127.0.0.1:4711/callback/n1"},
		"F7-8":  {"http://127.0.0.1@" + host + "/callback/n1", `https://` + host + `\@127.0.0.1/callback/n1`, "http://127.0.0.1:4711@" + host + "/callback/n1"},
		"F7-9":  {"https://127.0.0.1:4711/callback/n1", "kidoban://127.0.0.1:4711/callback/n1"},
		"F7-11": {"http://localhost:4711/callback/n1", "http://[::1]:4711/callback/n1", "http://2130706433:4711/callback/n1", "http://0x7f.1:4711/callback/n1"},
	}
}

// lets runs all mutations and tells whether exactly those of key land.
func lets(key string) func(b *agent) bool {
	return func(b *agent) bool {
		id := b.client(nil)
		if !b.lands(id, testRedirect) || !b.lands(id, "http://127.0.0.1:9/callback/n1") {
			b.t.Error("the registered URI, or another port of it, is refused")
		}
		seen := true
		for k, uris := range mutations() {
			for _, u := range uris {
				got := b.lands(id, u)
				if k == key {
					seen = seen && got
				} else if got {
					b.t.Errorf("%s lets %s through", key, u)
				}
			}
		}
		return seen && !b.lands(id, foreign)
	}
}

func redirectAttacks() []attack {
	out := []attack{
		{"F7-1", func(b *agent) bool {
			id := b.client(nil)
			v := b.request(id)
			v.Set("redirect_uri", foreign)
			return b.lands(id, foreign) && strings.HasPrefix(b.authorizeAndGo(v), foreign+"?code=")
		}},
		{"F7-10", func(b *agent) bool {
			v := b.request(b.client(map[string]any{"redirect_uris": []string{foreign}}))
			v.Set("redirect_uri", "https://n1.kidoban-probe.invalid:8443/cb")
			return b.proceeds(v)
		}},
		{"F7-12", func(b *agent) bool {
			v := b.request(b.client(nil))
			v["redirect_uri"] = []string{testRedirect, foreign}
			v.Set("response_type", "kidoban_invalid")
			return strings.HasPrefix(b.authorize(v).header.Get("Location"), foreign)
		}},
		{"F7-13", func(b *agent) bool {
			v := b.request(b.client(nil))
			v.Set("redirect_uri[]", foreign)
			v.Set("response_type", "kidoban_invalid")
			return strings.HasPrefix(b.authorize(v).header.Get("Location"), foreign)
		}},
		{"F7-14", func(b *agent) bool {
			a := b.decisionPage(b.request(b.client(nil)), "alice")
			f := fields(a.body)
			f.Set("decision", "approve")
			f.Set("redirect_uri", foreign)
			return strings.HasPrefix(b.form(b.l.Issuer+"/consent", f).header.Get("Location"), foreign+"?code=")
		}},
		{"F7-15", func(b *agent) bool {
			v := b.request(b.client(nil))
			v.Set("response_mode", "fragment")
			if !strings.HasPrefix(b.authorizeAndGo(v), testRedirect+"#code=") {
				return false
			}
			v.Set("response_mode", "form_post")
			a, _ := b.follow(b.authorize(v), "alice", "approve")
			return a.status == 200 && fields(a.body).Get("code") != ""
		}},
		{"F7-16", func(b *agent) bool {
			v := b.request(b.client(map[string]any{"redirect_uris": []string{testRedirect, "http://127.0.0.1:4711/second"}}))
			v.Del("redirect_uri")
			return strings.HasPrefix(b.authorizeAndGo(v), testRedirect+"?code=")
		}},
		{"F7-17", func(b *agent) bool {
			a := b.send("GET", b.l.Issuer+"/authorize?"+b.request(b.client(nil)).Encode(), "", "", http.Header{"X-Forwarded-Host": {"n1.kidoban-probe.invalid"}})
			return strings.HasPrefix(a.header.Get("Location"), "http://n1.kidoban-probe.invalid/login")
		}},
		{"F7-18", func(b *agent) bool {
			id := b.client(nil)
			return b.redeem(id, b.code(b.request(id), "alice"), url.Values{"redirect_uri": {foreign}}).status == http.StatusOK
		}},
		{"E27-a", func(b *agent) bool {
			return b.lands(b.client(map[string]any{"redirect_uris": []string{foreign}}), foreign)
		}},
		{"E27-b", func(b *agent) bool {
			for _, q := range []string{"next=https://n1.kidoban-probe.invalid/", "returnTo=//n1.kidoban-probe.invalid/"} {
				if !strings.Contains(b.get(b.l.Issuer+"/login?"+q).header.Get("Location"), "//n1.kidoban-probe.invalid") {
					return false
				}
			}
			return true
		}},
	}
	for key := range mutations() {
		out = append(out, attack{key, lets(key)})
	}
	return out
}

// decisionPage logs in and returns the decision page without answering it.
func (b *agent) decisionPage(v url.Values, user string) answer {
	b.t.Helper()
	a := b.authorize(v)
	for range 10 {
		if loc := a.header.Get("Location"); loc != "" {
			u, _ := url.Parse(b.l.base)
			to, _ := u.Parse(loc)
			a = b.get(to.String())
			continue
		}
		if !strings.Contains(a.body, `name="password"`) {
			return a
		}
		f := fields(a.body)
		f.Set("username", user)
		f.Set("password", user+"-lab-password")
		a = b.form(b.l.Issuer+"/login", f)
	}
	return a
}
