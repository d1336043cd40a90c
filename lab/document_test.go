package lab

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// bad changes the canary's document and tells whether its client is let in; the
// unchanged document has to be.
func bad(change func(c *canary)) func(b *agent) bool {
	return func(b *agent) bool {
		b.t.Helper()
		c := newCanary(b.t)
		if !b.proceeds(b.request(c.id())) {
			b.t.Error("a good document is refused")
		}
		c.set(func() { change(c) })
		return b.proceeds(b.request(c.id()))
	}
}

// fetches registers a client with an address at the canary and tells whether the
// canary was asked for it.
func fetches(member string, list bool) func(b *agent) bool {
	return func(b *agent) bool {
		c := newCanary(b.t)
		var v any = c.srv.URL + "/x"
		if list {
			v = []string{c.srv.URL + "/x"}
		}
		b.register(map[string]any{member: v})
		return c.fetched("/x") > 0
	}
}

// documentPage is that of a client with a document.
func (b *agent) documentPage(c *canary) string {
	b.t.Helper()
	return b.decisionPage(b.request(c.id()), "alice").body
}

func documentAttacks() []attack {
	return []attack{
		{"E15-a", fetches("logo_uri", false)},
		{"E15-b", fetches("jwks_uri", false)},
		{"E15-c", fetches("sector_identifier_uri", false)},
		{"E15-d", fetches("request_uris", true)},
		{"E16-a", bad(func(c *canary) { c.doc["client_id"] = "https://n1.kidoban-probe.invalid/client.json" })},
		{"E16-b", func(b *agent) bool {
			c := newCanary(b.t)
			u, _ := url.Parse(c.srv.URL)
			seen := true
			for _, id := range []string{c.srv.URL, c.srv.URL + "/a/../client.json", c.id() + "#x", "http://user@" + u.Host + "/client.json"} {
				c.set(func() { c.doc["client_id"] = id })
				seen = seen && b.proceeds(b.request(id))
			}
			return seen
		}},
		{"E16-c", bad(func(c *canary) {
			c.doc["client_id"] = c.srv.URL + c.path
			c.moved = "/elsewhere.json"
		})},
		{"E16-d", func(b *agent) bool {
			return bad(func(c *canary) { c.status = 404 })(b) && bad(func(c *canary) { c.status = 201 })(b)
		}},
		{"E16-e", func(b *agent) bool {
			return bad(func(c *canary) { c.pad = 6 << 10 })(b) && bad(func(c *canary) { c.pad = 100 << 10 })(b)
		}},
		{"E16-f", func(b *agent) bool {
			return bad(func(c *canary) { c.doc["client_secret"] = "x" })(b) && bad(func(c *canary) { c.doc["token_endpoint_auth_method"] = "client_secret_post" })(b)
		}},
		{"E16-g", func(b *agent) bool {
			c := newCanary(b.t)
			return strings.HasPrefix(b.authorizeAndGo(with(b.request(c.id()), "redirect_uri", foreign)), foreign+"?code=")
		}},
		{"E16-h", bad(func(c *canary) { c.typ = "text/html" })},
		{"E16-i", func(b *agent) bool {
			c := newCanary(b.t)
			c.status = 500
			if b.proceeds(b.request(c.id())) {
				b.t.Error("an error is taken for a document")
			}
			c.set(func() { c.status = 200 })
			return !b.proceeds(b.request(c.id()))
		}},
		{"E16-j", func(b *agent) bool {
			c := newCanary(b.t)
			b.authorizeAndGo(b.request(c.id()))
			c.set(func() { c.doc["client_name"] = "Another name" })
			a, seen := b.follow(b.authorize(b.request(c.id())), "alice", "deny")
			return landed(a, testRedirect+"?code=") && !strings.Contains(strings.Join(seen, " "), "decision")
		}},
		{"E16-k", func(b *agent) bool {
			c := newCanary(b.t)
			ln, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				b.t.Fatal(err)
			}
			srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: c}}
			srv.Start()
			b.t.Cleanup(srv.Close)
			c.set(func() { c.doc["client_id"] = srv.URL + c.path })
			return b.proceeds(b.request(srv.URL + c.path))
		}},
		{"E16-l", func(b *agent) bool {
			c := newCanary(b.t)
			return !strings.Contains(b.documentPage(c), strings.TrimPrefix(c.srv.URL, "http://"))
		}},
		{"E16-m", func(b *agent) bool { return !strings.Contains(b.documentPage(newCanary(b.t)), "on this computer") }},
		{"E16-n", bad(func(c *canary) { c.doc["client_uri"] = "javascript:void(0)" })},
	}
}

// TestDocumentsAreOff shows that a lab fetches nothing unless it was told to.
func TestDocumentsAreOff(t *testing.T) {
	b := newAgent(t, startLab(t, Options{}))
	c := newCanary(t)
	if b.proceeds(b.request(c.id())) || c.fetched(c.path) > 0 {
		t.Error("the document was fetched")
	}
}
