package audit

import (
	"bytes"
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// probeHeaders tries what a careless gateway trusts: headers that claim an
// internal origin (E03-d) and headers that claim an authenticated person (E33-d).
// They go out together; only when that opens the server they are told apart.
func probeHeaders() probe {
	return define(spec{name: "trusted headers", keys: []string{"E03-d", "E33-d"}, tier: kidoban.T1}, collectHeaders, judgeHeaders)
}

type trustedHeaders struct{ both, origin, person volley }

func originHeaders() kidoban.Fields {
	return kidoban.Fields{
		{Name: "X-Forwarded-For", Value: "127.0.0.1"}, {Name: "X-Real-IP", Value: "127.0.0.1"}, {Name: "X-Client-IP", Value: "127.0.0.1"},
		{Name: "True-Client-IP", Value: "127.0.0.1"}, {Name: "X-Originating-IP", Value: "127.0.0.1"}, {Name: "X-Remote-Addr", Value: "127.0.0.1"},
		{Name: "Forwarded", Value: "for=127.0.0.1"},
	}
}

func personHeaders() kidoban.Fields {
	return kidoban.Fields{
		{Name: "router-key", Value: "kidoban"}, {Name: "mcp-init-host", Value: "kidoban"},
		{Name: "X-Forwarded-User", Value: "admin"}, {Name: "X-Forwarded-Email", Value: "admin@kidoban-probe.invalid"}, {Name: "X-Remote-User", Value: "admin"},
		{Name: "X-Authenticated-User", Value: "admin"}, {Name: "X-Authenticated-Userid", Value: "admin"}, {Name: "X-Authenticated-Scope", Value: "admin"},
		{Name: "X-Auth-Request-User", Value: "admin"}, {Name: "X-User-Id", Value: "1"}, {Name: "X-Consumer-Username", Value: "admin"},
	}
}

func collectHeaders(ctx context.Context, s *session) (h trustedHeaders) {
	if s.facts.door() != doorClosed {
		return h
	}
	together := append(originHeaders(), personHeaders()...)
	h.both = s.volley(ctx, "E33-d", 1, []form{{"headers that claim an internal origin and a person", with(together...)}})
	if h.both.hit() == nil && !s.thorough() {
		return h
	}
	u := pathOf(s.facts.URL)
	h.origin = s.volley(ctx, "E03-d", 1, []form{
		{"a header that claims an internal address", with(originHeaders()...)},
		{"X-Original-URL with the address of a public document", with(kidoban.Field{Name: "X-Original-URL", Value: "/.well-known/oauth-protected-resource"}, kidoban.Field{Name: "X-Rewrite-URL", Value: "/.well-known/oauth-protected-resource"})},
		{"X-Original-URL with the server's own path", with(kidoban.Field{Name: "X-Original-URL", Value: u}, kidoban.Field{Name: "X-Rewrite-URL", Value: u})},
		{"X-Forwarded-Host localhost", with(kidoban.Field{Name: "X-Forwarded-Host", Value: "localhost"}, kidoban.Field{Name: "X-Forwarded-Proto", Value: "https"})},
	})
	h.person = s.volley(ctx, "E33-d", 1, []form{{"a header that names an authenticated person", with(personHeaders()...)}})
	return h
}

func judgeHeaders(f *Facts, h trustedHeaders) []kidoban.Result {
	keys := []string{"E03-d", "E33-d"}
	switch f.door() {
	case doorOpen:
		return everyone(keys, func(k string) kidoban.Result {
			return absent(k, "the tools are listed to anyone already (E03-a)", f.List)
		})
	case doorUnknown:
		return everyone(keys, func(k string) kidoban.Result { return noControl(k, f) })
	}
	opens := func(h *shot) string { return h.what + " opens the endpoint: the tools are listed" }
	pick := func(own, both *volley) *volley {
		if len(own.shots) == 0 {
			return both
		}
		return own
	}
	out := []kidoban.Result{
		pick(&h.origin, &h.both).decide("E03-d", f.List, opens, "headers that claim an internal origin do not help"),
		pick(&h.person, &h.both).decide("E33-d", f.List, opens, "headers that name a person are not trusted"),
	}
	if h.both.hit() != nil && out[0].Outcome == kidoban.Pass && out[1].Outcome == kidoban.Pass {
		out[1] = h.both.decide("E33-d", f.List, opens, "") // only both kinds together open it
	}
	return out
}

// probeE33 asks whether what a gateway reads and what the server reads can
// differ: a method header unlike the body, members twice, members in the wrong
// case. It can be seen only where something is served without credentials, but
// for one form: a list under the header of a handshake that is open.
func probeE33() probe {
	return define(spec{name: "header and body", keys: []string{"E33-a", "E33-b", "E33-c"}, tier: kidoban.T1}, collectE33, judgeE33)
}

type mixedReadings struct{ smuggled, header, twice, wrongCase volley }

func collectE33(ctx context.Context, s *session) (m mixedReadings) {
	f := s.facts
	if s.wants("E33-a") && f.door() == doorClosed && !f.SSE {
		core := 0 // where the era is hidden, it is one guess among many
		if f.Modern {
			core = 1
		}
		m.smuggled = s.volley(ctx, "E33-a", core, []form{{"tools/list under the header of server/discover", call{Method: "tools/list", Version: wire.LatestModern,
			Header: kidoban.Fields{{Name: "Mcp-Method", Value: "server/discover"}}}}})
	}
	open, ok := s.openCall()
	if !ok {
		return m
	}
	if s.wants("E33-a") && f.Modern {
		other := "tools/list"
		if open.Method == other {
			other = "server/discover"
		}
		mixed, bare := open, open
		mixed.Version, bare.Version = wire.LatestModern, wire.LatestModern
		mixed.Header = kidoban.Fields{{Name: "Mcp-Method", Value: other}}
		bare.Drop = []string{"Mcp-Method"}
		m.header = s.knocks(ctx, "E33-a", 1, []form{{"a body for " + open.Method + " under the header of " + other, mixed}, {"a body without the method header", bare}})
	}
	if s.wants("E33-b") {
		twice := open
		twice.Mangle = func(b []byte) []byte { return append([]byte(`{"method":"ping",`), bytes.TrimPrefix(b, []byte("{"))...) }
		m.twice = s.knocks(ctx, "E33-b", 1, []form{{"a body with two methods", twice}})
	}
	if s.wants("E33-c") {
		upper, title := open, open
		upper.Mangle = func(b []byte) []byte { return bytes.Replace(b, []byte(`"method":`), []byte(`"METHOD":`), 1) }
		title.Mangle = func(b []byte) []byte { return bytes.Replace(b, []byte(`"method":`), []byte(`"Method":`), 1) }
		m.wrongCase = s.knocks(ctx, "E33-c", 1, []form{{"a body whose method member is written METHOD", upper}, {"a body whose method member is written Method", title}})
	}
	return m
}

func judgeE33(f *Facts, m mixedReadings) []kidoban.Result {
	served := func(h *shot) string { return h.what + " is served" }
	one := func(key string, v *volley, ok string) kidoban.Result {
		switch {
		case !f.anything() && f.door() == doorUnknown:
			return noControl(key, f)
		case !f.anything():
			return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
		}
		return v.decide(key, f.control(), served, ok)
	}
	a := one("E33-a", &m.header, "a method header unlike the body is refused")
	if m.smuggled.hit() != nil {
		a = m.smuggled.decide("E33-a", f.List, func(h *shot) string { return h.what + " gets past the check: the tools are listed" }, "")
	} else if f.anything() && !f.Modern {
		a = absent("E33-a", "the server does not speak the stateless era")
	}
	return []kidoban.Result{a,
		one("E33-b", &m.twice, "a body with a member twice is refused"),
		one("E33-c", &m.wrongCase, "a body with a member in the wrong case is refused")}
}
