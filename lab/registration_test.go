package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// registers tells whether a redirect URI is registered and stays what it was.
func (b *agent) registers(uri string) bool {
	b.t.Helper()
	a := b.register(map[string]any{"redirect_uris": []string{uri}, "application_type": "web"})
	if a.status != http.StatusCreated {
		return false
	}
	got, _ := a.json(b.t)["redirect_uris"].([]any)
	return len(got) == 1 && got[0] == uri
}

// proceeds tells whether an authorization request gets as far as a good one.
func (b *agent) proceeds(v url.Values) bool {
	b.t.Helper()
	a := b.authorize(v)
	loc := a.header.Get("Location")
	return loc != "" && !strings.Contains(loc, "error=")
}

// strangerGets runs a request with an unknown client to its end and redeems the code.
func (b *agent) strangerGets(id, redirect string) bool {
	b.t.Helper()
	v := b.request(id)
	if id == "" {
		v.Del("client_id")
	}
	v.Set("redirect_uri", redirect)
	code := b.code(v, "alice")
	return code != "" && b.redeem(id, code, url.Values{"redirect_uri": {redirect}}).status == http.StatusOK
}

const strangerID = "AbCdEf0123456789AbCdEf0123456789"

func registrationAttacks() []attack {
	return []attack{
		{"F1-a", func(b *agent) bool {
			if !b.registers(foreign) || b.registers("http://n1.kidoban-probe.invalid/cb") {
				return false
			}
			v := b.request(b.client(map[string]any{"redirect_uris": []string{foreign}}))
			v.Set("redirect_uri", foreign)
			return strings.HasPrefix(b.authorizeAndGo(v), foreign+"?code=")
		}},
		{"F1-b", func(b *agent) bool { return b.registers("http://n1.kidoban-probe.invalid/cb") && !b.registers(foreign) }},
		{"F1-d", func(b *agent) bool {
			for _, uri := range []string{
				"https://claude.example@n1.kidoban-probe.invalid/cb", "https://n1.kidoban-probe.invalid/?https://claude.example", "https://claude.example.n1.kidoban-probe.invalid/cb",
				`https://n1.kidoban-probe.invalid\@claude.example/`, "http://127.0.0.1@n1.kidoban-probe.invalid/", "http://localhost.n1.kidoban-probe.invalid/", "http://127.0.0.1.n1.kidoban-probe.invalid/",
			} {
				if !b.registers(uri) {
					return false
				}
			}
			return !b.registers(foreign)
		}},
		{"F1-e", func(b *agent) bool {
			v := b.request(b.client(map[string]any{"redirect_uris": []string{foreign}}))
			v.Set("redirect_uri", foreign)
			a, seen := b.follow(b.authorize(v), "alice", "approve")
			return strings.HasPrefix(a.header.Get("Location"), foreign+"?code=") && !strings.Contains(strings.Join(seen, " "), "decision")
		}},
		{"F2-a", func(b *agent) bool {
			return b.strangerGets(strangerID, testRedirect) && !b.strangerGets(strangerID, foreign) && !b.strangerGets(b.altered(), testRedirect) && !b.strangerGets("", testRedirect)
		}},
		{"F2-b", func(b *agent) bool {
			return b.strangerGets(strangerID, foreign) && !b.strangerGets(strangerID, testRedirect)
		}},
		{"F2-c", func(b *agent) bool {
			return b.strangerGets(b.altered(), testRedirect) && !b.strangerGets(strangerID, testRedirect)
		}},
		{"F2-d", func(b *agent) bool {
			return b.strangerGets("", testRedirect) && !b.strangerGets(strangerID, testRedirect)
		}},
	}
}

// altered is a fresh client's id with another last character.
func (b *agent) altered() string {
	b.t.Helper()
	id := b.client(nil)
	last := "A"
	if strings.HasSuffix(id, last) {
		last = "B"
	}
	return id[:len(id)-1] + last
}

// authorizeAndGo runs a request to its end as alice and returns where it ended.
func (b *agent) authorizeAndGo(v url.Values) string {
	b.t.Helper()
	a, _ := b.follow(b.authorize(v), "alice", "approve")
	return a.header.Get("Location")
}
