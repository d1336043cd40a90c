package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// page returns the decision page of a fresh client.
func (b *agent) page() answer {
	b.t.Helper()
	a := b.decisionPage(b.request(b.client(nil)), "alice")
	if !strings.Contains(a.body, "decision") {
		b.t.Fatalf("no decision page: %d %s", a.status, a.body)
	}
	return a
}

// lacks tells whether the decision page lacks a text.
func lacks(text string) func(b *agent) bool {
	return func(b *agent) bool { return !strings.Contains(b.page().body, text) }
}

func pageAttacks() []attack {
	return []attack{
		{"F6-A", func(b *agent) bool {
			id := b.client(nil)
			a := b.authorize(b.request(id))
			return landed(a, testRedirect+"?code=") && b.redeem(id, a.location(b.t).Query().Get("code"), nil).status == http.StatusOK
		}},
		{"F6-B", lacks("127.0.0.1:4711")},
		{"F6-C", lacks("unverified")},
		{"F6-D", lacks("on this computer")},
		{"F6-E", func(b *agent) bool {
			tx := fields(b.page().body).Get("tx")
			return landed(b.fresh().get(b.l.Issuer+"/continue?tx="+tx), testRedirect+"?code=")
		}},
		{"F6-F", lacks(scopeRead)},
		{"F6-G", func(b *agent) bool {
			b.authorizeAndGo(b.request(b.client(nil)))
			v := b.request(b.client(map[string]any{"client_name": "Another", "redirect_uris": []string{"http://127.0.0.1:4712/other"}}))
			v.Set("redirect_uri", "http://127.0.0.1:4712/other")
			a, _ := b.follow(b.authorize(v), "alice", "deny")
			return landed(a, "http://127.0.0.1:4712/other?code=")
		}},
		{"F6-H", func(b *agent) bool {
			a, _ := b.follow(b.authorize(b.request(b.client(nil))), "alice", "deny")
			return landed(a, testRedirect+"?code=")
		}},
		{"E28-a", func(b *agent) bool {
			h := b.page().header
			return !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors") && h.Get("X-Frame-Options") == ""
		}},
		{"E28-b", func(b *agent) bool {
			f := fields(b.page().body)
			f.Set("decision", "approve")
			f.Del("csrf")
			return strings.Contains(b.form(b.l.Issuer+"/consent", f).header.Get("Location"), "/authorize?")
		}},
		{"E28-c", func(b *agent) bool {
			f := fields(b.page().body)
			q := url.Values{"tx": f["tx"], "decision": {"approve"}}
			if !landed(b.fresh().get(b.l.Issuer+"/consent?"+q.Encode()), testRedirect+"?code=") {
				return false
			}
			f = fields(b.page().body)
			f.Set("decision", "approve")
			f.Del("csrf")
			return landed(b.fresh().form(b.l.Issuer+"/consent", f), testRedirect+"?code=")
		}},
		{"E28-d", func(b *agent) bool { return !strings.Contains(b.page().header.Get("Cache-Control"), "no-store") }},
		{"E28-e", func(b *agent) bool {
			id := b.client(map[string]any{"client_name": `"><b data-kidoban=n1>`})
			return strings.Contains(b.decisionPage(b.request(id), "alice").body, `<b data-kidoban=n1>`)
		}},
		{"E28-f", func(b *agent) bool {
			f := fields(b.page().body)
			f.Set("decision", "approve")
			a := b.form(b.l.Issuer+"/consent", f)
			return a.status == http.StatusTemporaryRedirect
		}},
		{"E28-g", func(b *agent) bool { return b.page().header.Get("Referrer-Policy") == "" }},
	}
}
