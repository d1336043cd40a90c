package audit

import (
	"context"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// E09: can a web page drive the server? A request from a foreign origin, to a
// foreign host, or of a type that any page may send, beside one that is served.
// A server that asks for a token first and is open nowhere shows none of this.
func probeE09() probe {
	return define(spec{name: "origin, host and CORS", keys: []string{"E09-a", "E09-b", "E09-c", "E09-d", "E09-e"}, tier: kidoban.T1}, collectE09, judgeE09)
}

type foreignPages struct {
	origin    string
	preflight *kidoban.Exchange
	from, null, host, simple,
	closed volley // the foreign origin, where nothing is served
}

func collectE09(ctx context.Context, s *session) (p foreignPages) {
	p.origin = "https://" + s.nonce(10) + probeDomain
	if s.wants("E09-c") && s.left() > 0 {
		p.preflight = s.do(ctx, outbound.Req{Method: http.MethodOptions, URL: s.facts.URL, Probe: "E09-c", Note: "preflight from a foreign origin", Header: kidoban.Fields{
			{Name: "Origin", Value: p.origin}, {Name: "Access-Control-Request-Method", Value: "POST"},
			{Name: "Access-Control-Request-Headers", Value: "authorization, content-type, mcp-session-id, mcp-protocol-version"}}})
	}
	open, ok := s.openCall()
	if !ok {
		if s.wants("E09-a", "E09-b") && s.facts.door() == doorClosed && s.thorough() {
			p.closed = s.volley(ctx, "E09-a", 1, []form{{"a request from a foreign origin", with(kidoban.Field{Name: "Origin", Value: p.origin})}})
		}
		return p
	}
	send := func(key, what string, h ...kidoban.Field) volley {
		if !s.wants(key) {
			return volley{}
		}
		c := open
		c.Header = h
		return s.knocks(ctx, key, 1, []form{{what, c}})
	}
	p.from = send("E09-a", "a request from a foreign origin", kidoban.Field{Name: "Origin", Value: p.origin})
	p.host = send("E09-d", "a request for a foreign host", kidoban.Field{Name: "Host", Value: s.nonce(10) + probeDomain})
	p.null = send("E09-b", "a request from the origin null", kidoban.Field{Name: "Origin", Value: "null"})
	if s.wants("E09-e") {
		text, form1 := open, open
		text.Header = kidoban.Fields{{Name: "Content-Type", Value: "text/plain"}}
		form1.Header = kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
		p.simple = s.knocks(ctx, "E09-e", 1, []form{{"a body declared as text/plain", text}, {"a body declared as a form", form1}})
	}
	return p
}

func judgeE09(f *Facts, p foreignPages) []kidoban.Result {
	cors := judgeCORS(f, p)
	if !f.anything() {
		return append(everyone([]string{"E09-a", "E09-b", "E09-d", "E09-e"}, func(k string) kidoban.Result { return judgeClosed(f, k, &p.closed) }), cors)
	}
	served := func(h *shot) string { return h.what + " is served" }
	one := func(key string, v *volley, ok string, high, low kidoban.Severity) kidoban.Result {
		r := v.decide(key, f.control(), served, ok)
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			r = exposed(r, f, high, low)
		}
		return r
	}
	return []kidoban.Result{
		one("E09-a", &p.from, "a foreign origin is refused", kidoban.High, kidoban.Low),
		one("E09-b", &p.null, "the origin null is refused", kidoban.Medium, kidoban.Low),
		cors,
		one("E09-d", &p.host, "a foreign host is refused", kidoban.High, kidoban.Low),
		one("E09-e", &p.simple, "content types that any page may send are refused", kidoban.High, kidoban.Low),
	}
}

// judgeClosed: where nothing is served without a token, only a refusal of the
// origin itself says something. 401 for both says that the token is asked for
// first, and what comes after cannot be seen.
func judgeClosed(f *Facts, key string, v *volley) kidoban.Result {
	if f.door() == doorUnknown {
		return noControl(key, f)
	}
	h := v.hit()
	if h != nil && key == "E09-a" {
		return positive(key, kidoban.Likely, h.what+" is served, where one without an origin is refused", f.List, h.first.last())
	}
	if len(v.shots) == 0 {
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	}
	x := v.shots[0].first.last()
	if r, bad := undecided(key, "a request from a foreign origin", x); bad {
		return r
	}
	if key == "E09-a" && x.Status() == http.StatusForbidden && f.List.Status() == http.StatusUnauthorized {
		return passed(key, "a foreign origin is refused before the token is asked for", f.List, x)
	}
	return unclear(key, kidoban.ReasonDeferred, "the token is asked for first; what the server does after it shows after a login", f.List, x)
}

// judgeCORS: may a page of any origin read the answers?
func judgeCORS(f *Facts, p foreignPages) kidoban.Result {
	const key = "E09-c"
	answers := []*kidoban.Exchange{p.preflight}
	for _, v := range []volley{p.from, p.closed} {
		for i := range v.shots {
			answers = append(answers, v.shots[i].first.last())
		}
	}
	var answered, unseen *kidoban.Exchange
	star := false
	for _, x := range answers {
		if x == nil {
			continue
		}
		if hidden(x) {
			unseen = x
			continue
		}
		answered = x
		allow := strings.TrimSpace(x.Header("Access-Control-Allow-Origin"))
		creds := strings.EqualFold(strings.TrimSpace(x.Header("Access-Control-Allow-Credentials")), "true")
		star = star || allow == "*"
		switch {
		case strings.EqualFold(allow, p.origin) && creds:
			r := positive(key, kidoban.Confirmed, "CORS allows any origin, and with the browser's credentials", x)
			if f.Local || f.Open {
				r = exposed(r, f, kidoban.High, kidoban.Medium)
			}
			return r
		case strings.EqualFold(allow, p.origin):
			r := positive(key, kidoban.Confirmed, "CORS allows any origin by repeating it", x)
			if f.Local && !f.anything() {
				r.Severity = kidoban.Low
				r.Summary += bearerNeeded
				return r
			}
			return exposed(r, f, kidoban.High, kidoban.Low)
		case allow == "*" && (creds || f.Local && f.anything()):
			return exposed(positive(key, kidoban.Confirmed, "CORS allows any origin", x), f, kidoban.High, kidoban.Low)
		}
	}
	if unseen != nil || answered == nil {
		if r, bad := undecided(key, "a preflight or a request from a foreign origin", unseen); bad {
			return r
		}
	}
	if star {
		return passed(key, "CORS allows any origin without credentials, which a server for bearer tokens may", answered)
	}
	return passed(key, "CORS allows no foreign origin", answered)
}
