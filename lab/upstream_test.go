package lab

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// leg goes as far as the upstream without a click and returns the request to it;
// nil when a page of the lab's own comes first.
func (b *agent) leg(id string) url.Values {
	b.t.Helper()
	a := b.authorize(b.request(id))
	if !strings.HasPrefix(a.header.Get("Location"), b.l.UpstreamURL+"/authorize?") {
		return nil
	}
	return a.location(b.t).Query()
}

// answer calls the lab's callback as the upstream would make the browser do.
func (b *agent) answer(v url.Values) answer {
	b.t.Helper()
	return b.get(b.l.Issuer + "/callback?" + v.Encode())
}

func refused(state string) url.Values {
	v := url.Values{"error": {"access_denied"}}
	if state != "" {
		v.Set("state", state)
	}
	return v
}

// landed tells whether an answer sends the browser to prefix.
func landed(a answer, prefix string) bool {
	return strings.HasPrefix(a.header.Get("Location"), prefix)
}

// tampered replaces the redirect URI inside a state.
func tampered(state string) string {
	swap := func(part string) string {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !strings.Contains(string(raw), testRedirect) {
			return ""
		}
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), testRedirect, foreign, 1)))
	}
	if p := strings.Split(state, "."); len(p) == 3 {
		return p[0] + "." + swap(p[1]) + "." + p[2]
	}
	return swap(state)
}

// forgedCode logs in upstream and changes the state on the way back; it returns
// where the flow ends.
func (b *agent) forgedCode(id string) answer {
	b.t.Helper()
	a := b.authorize(b.request(id))
	for range 20 {
		loc := a.header.Get("Location")
		if strings.HasPrefix(loc, b.l.Issuer+"/callback?") {
			q := a.location(b.t).Query()
			q.Set("state", tampered(q.Get("state")))
			last, _ := b.follow(b.answer(q), "alice", "approve")
			return last
		}
		switch {
		case strings.HasPrefix(loc, "/login"):
			a = b.get(b.l.UpstreamURL + loc)
		case loc != "":
			a = b.get(loc)
		default:
			f := fields(a.body)
			f.Set("username", "alice")
			f.Set("password", "alice-lab-password")
			a = b.form(b.l.UpstreamURL+"/login", f)
		}
	}
	return a
}

func (b *agent) fresh() *agent { return newAgent(b.t, b.l) }

func upstreamAttacks() []attack {
	badCode := func(state string) url.Values { return url.Values{"code": {"kidoban-invalid"}, "state": {state}} }
	return []attack{
		{"F3-a", func(b *agent) bool {
			id := b.client(nil)
			return b.leg(id).Get("code_challenge") == "" && b.redeem(id, b.code(b.request(id), "alice"), nil).status == http.StatusOK
		}},
		{"F3-b", func(b *agent) bool {
			id := b.client(nil)
			return b.leg(id).Get("code_challenge_method") == "plain" && b.code(b.request(id), "alice") != ""
		}},
		{"F4-0", func(b *agent) bool {
			s := b.leg(b.client(nil)).Get("state")
			return tampered(s) != "" && !landed(b.answer(refused(tampered(s))), "http") && landed(b.answer(refused(s)), testRedirect)
		}},
		{"F4-1", func(b *agent) bool {
			s := b.leg(b.client(nil)).Get("state")
			return tampered(s) != "" && landed(b.answer(refused(tampered(s))), foreign+"?error=")
		}},
		{"F4-2", func(b *agent) bool {
			id := b.client(nil)
			s := b.leg(id).Get("state")
			if tampered(s) == "" || landed(b.answer(refused(tampered(s))), "http") {
				return false
			}
			a := b.answer(badCode(tampered(b.leg(id).Get("state"))))
			return a.status == http.StatusBadGateway && b.forgedCode(id).header.Get("Location") == ""
		}},
		{"F4-3", func(b *agent) bool {
			id := b.client(nil)
			s := b.leg(id).Get("state")
			return tampered(s) != "" && !landed(b.answer(refused(tampered(s))), "http") && landed(b.forgedCode(id), foreign+"?code=")
		}},
		{"F4-4", func(b *agent) bool {
			s := b.leg(b.client(nil)).Get("state")
			return strings.Count(s, ".") == 2 && landed(b.answer(refused(tampered(s))), foreign+"?error=")
		}},
		{"F4-5", func(b *agent) bool {
			s := b.leg(b.client(nil)).Get("state")
			once := landed(b.answer(refused(s)), testRedirect)
			return once && landed(b.answer(refused(s)), testRedirect)
		}},
		{"F8-a", func(b *agent) bool {
			_, there := b.leg(b.client(nil))["state"]
			return !there && landed(b.answer(refused("")), testRedirect) && b.fresh().answer(refused("")).status == http.StatusBadRequest
		}},
		{"F8-b", func(b *agent) bool {
			id := b.client(nil)
			return b.leg(id).Get("state") == b.fresh().leg(id).Get("state")
		}},
		{"F8-c", func(b *agent) bool {
			b.leg(b.client(nil))
			return landed(b.answer(refused("another")), testRedirect)
		}},
		{"F8-d", func(b *agent) bool {
			v := b.request(b.client(nil))
			u, _ := url.Parse(b.authorizeAndGo(v))
			return u.Query().Get("state") != v.Get("state")
		}},
		{"F8-e", func(b *agent) bool { return len(b.leg(b.client(nil)).Get("state")) < 22 }},
		{"E01-a", func(b *agent) bool {
			a, seen := b.follow(b.authorize(b.request(b.client(nil))), "alice", "approve")
			if !landed(a, testRedirect+"?code=") {
				b.t.Error("the flow does not end")
			}
			return len(seen) > 0 && seen[0] == "/authorize" && seen[len(seen)-1] == "decision" // the upstream's page came first
		}},
		{"E01-b", func(b *agent) bool {
			b.authorizeAndGo(b.request(b.client(nil)))
			v := b.request(b.client(map[string]any{"redirect_uris": []string{"http://127.0.0.1:4712/other"}}))
			v.Set("redirect_uri", "http://127.0.0.1:4712/other")
			a, seen := b.follow(b.authorize(v), "alice", "deny")
			return landed(a, "http://127.0.0.1:4712/other?code=") && !strings.Contains(strings.Join(seen, " "), "decision")
		}},
		{"E01-c", func(b *agent) bool {
			c := newCanary(b.t)
			c.doc["redirect_uris"] = []string{testRedirect, "http://127.0.0.1:4711/second"}
			b.authorizeAndGo(b.request(c.id()))
			v := b.request(c.id())
			v.Set("redirect_uri", "http://127.0.0.1:4711/second")
			a, seen := b.follow(b.authorize(v), "alice", "deny")
			return landed(a, "http://127.0.0.1:4711/second?code=") && !strings.Contains(strings.Join(seen, " "), "decision")
		}},
		{"E02-a", func(b *agent) bool {
			s := b.leg(b.client(nil)).Get("state")
			return landed(b.fresh().answer(refused(s)), testRedirect)
		}},
		{"E02-b", func(b *agent) bool {
			// The attacker says yes himself and hands on the address of the upstream.
			a := b.decisionPage(b.request(b.client(nil)), "alice")
			f := fields(a.body)
			f.Set("decision", "approve")
			link := b.form(b.l.Issuer+"/consent", f).header.Get("Location")
			victim := b.fresh()
			if last, _ := victim.follow(answer{status: 302, header: http.Header{"Location": {link}}}, "bob", "deny"); landed(last, testRedirect) {
				return true
			}
			return false
		}},
		{"E02-c", func(b *agent) bool {
			for _, c := range b.authorize(b.request(b.client(nil))).header.Values("Set-Cookie") {
				if strings.HasPrefix(c, cookieUp+"=") && !strings.Contains(c, "HttpOnly") && !strings.Contains(c, "SameSite") {
					return true
				}
			}
			return false
		}},
	}
}
