package audit

import (
	"context"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

// E03: do MCP methods answer without credentials, everywhere or on a way that
// somebody forgot? List methods only, never a call.
func probeE03() probe {
	return define(spec{name: "unauthenticated surface", keys: []string{"E03-a", "E03-b", "E03-c", "E03-e", "E03-g"}, tier: kidoban.T1},
		collectE03, judgeE03)
}

type openWays struct{ methods, paths, bodies volley }

func collectE03(ctx context.Context, s *session) (w openWays) {
	if s.facts.door() != doorClosed {
		return w
	}
	if s.wants("E03-b") {
		w.methods = s.volley(ctx, "E03-b", 1, []form{
			{"resources/list", call{Method: "resources/list"}},
			{"prompts/list", call{Method: "prompts/list"}},
			{"resources/templates/list", call{Method: "resources/templates/list"}},
			{"completion/complete", call{Method: "completion/complete", Params: map[string]any{
				"ref": map[string]any{"type": "ref/prompt", "name": ""}, "argument": map[string]any{"name": "", "value": ""}}}},
		})
	}
	if s.wants("E03-c") {
		w.paths = s.paths(ctx)
	}
	if s.wants("E03-e") {
		plainText := with(kidoban.Field{Name: "Content-Type", Value: "text/plain"})
		w.bodies = s.volley(ctx, "E03-e", 1, []form{
			{"a body declared as text/plain", plainText},
			{"a batch", call{Method: "tools/list", Mangle: batchOf}},
			{"a body declared as a form", with(kidoban.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})},
			{"a body without a type", call{Method: "tools/list", Drop: []string{"Content-Type"}}},
		})
	}
	return w
}

// batchOf wraps one request into an array, as revision 2025-03-26 allowed.
func batchOf(one []byte) []byte { return append(append([]byte("["), one...), ']') }

// paths tries the other places where a server may answer: odd spellings of the
// guarded path, then the usual ones.
func (s *session) paths(ctx context.Context) volley {
	u, err := url.Parse(s.facts.URL)
	if err != nil {
		return volley{}
	}
	var forms []form
	seen := map[string]bool{u.EscapedPath(): true}
	add := func(path string) {
		if !strings.HasPrefix(path, "/") || seen[path] {
			return
		}
		seen[path] = true
		forms = append(forms, form{"the path " + path, call{Method: "tools/list", URL: u.Scheme + "://" + u.Host + path}})
	}
	p := u.EscapedPath()
	if p == "" {
		p = "/"
	}
	if strings.HasSuffix(p, "/") {
		add(strings.TrimRight(p, "/"))
	} else {
		add(p + "/")
	}
	add("/mcp")
	add("/sse")
	add("/")
	add(strings.ToUpper(p))
	add("/" + p)
	add(p + "/..;" + p)
	add(strings.TrimRight(p, "/") + "/%2e")
	for _, usual := range []string{"/messages", "/message", "/api/mcp", "/v1/mcp", "/mcp/v1", "/mcp/sse", "/http"} {
		add(usual)
	}
	v := s.volley(ctx, "E03-c", 1, forms)
	if v.hit() == nil && s.roomy() {
		for _, old := range []string{"/sse", "/mcp/sse"} {
			v.shots = append(v.shots, s.streamAt(ctx, old, u))
		}
	}
	return v
}

// streamAt tries the older transport at path, which opens with a GET.
func (s *session) streamAt(ctx context.Context, path string, u *url.URL) shot {
	sh := shot{what: "the event stream at " + path}
	if s.left() == 0 || u.EscapedPath() == path {
		sh.what = ""
		return sh
	}
	c := call{Method: "tools/list", URL: u.Scheme + "://" + u.Host + path}
	sh.asked = true
	sh.first = s.overStream(ctx, "E03-c", sh.what, c)
	if sh.first.listed {
		sh.again = s.overStream(ctx, "E03-c", sh.what+", again", c)
	}
	return sh
}

func judgeE03(f *Facts, w openWays) []kidoban.Result {
	out := []kidoban.Result{judgeOpen(f), judgeGreeting(f)}
	rest := []string{"E03-b", "E03-c", "E03-e"}
	switch f.door() {
	case doorOpen:
		return append(out, everyone(rest, func(k string) kidoban.Result {
			return absent(k, "the tools are listed to anyone already (E03-a)", f.List)
		})...)
	case doorUnknown:
		return append(out, everyone(rest, func(k string) kidoban.Result { return noControl(k, f) })...)
	}
	return append(out,
		graded(w.methods.decide("E03-b", f.List, func(h *shot) string {
			return h.what + " answers without credentials, where tools/list is refused"
		}, "the other list methods are refused as well"), &w.methods),
		graded(w.paths.decide("E03-c", f.List, func(h *shot) string {
			return h.what + " lists the tools without credentials, where the given address refuses"
		}, "no other path answers"), &w.paths),
		w.bodies.decide("E03-e", f.List, func(h *shot) string {
			return h.what + " gets past the check: the tools are listed"
		}, "other content types and batches are refused as well"))
}

// judgeOpen: are the tools listed to anyone? A list alone is never critical, and
// what the tools can do decides the rest.
func judgeOpen(f *Facts) kidoban.Result {
	const key = "E03-a"
	switch f.door() {
	case doorClosed:
		return passed(key, "tools/list without credentials is refused"+statusNote(f.List), f.List)
	case doorUnknown:
		return noControl(key, f)
	}
	if f.Tools == 0 {
		return unclear(key, kidoban.ReasonDeferred, "the list without credentials is empty; what a login would show is not known", f.List)
	}
	r := positive(key, kidoban.Confirmed, kidoban.Count(f.Tools, "tool", "tools")+" listed to a caller without credentials", f.List)
	if what := risk(ReplyOf(f.List).Result); what != "" {
		r.Summary += "; among them are tools for " + what
	} else {
		r.Severity = kidoban.Low
		r.Summary += "; none of them looks sensitive, so a server that is public by design"
	}
	return r
}

// judgeGreeting: does the handshake answer where the tools are refused?
func judgeGreeting(f *Facts) kidoban.Result {
	const key = "E03-g"
	x := f.Init
	if ReplyOf(f.Discover).ok() {
		x = f.Discover
	}
	switch {
	case f.door() == doorOpen:
		return absent(key, "the tools are listed to anyone already (E03-a)", f.List)
	case f.Greets:
		return positive(key, kidoban.Confirmed, "the handshake answers without credentials, and names the software", x)
	case f.door() == doorUnknown:
		return noControl(key, f)
	}
	return passed(key, "the handshake is refused without credentials", f.Discover)
}

// graded lowers the severity of a finding whose list is empty or shows nothing
// sensitive.
func graded(r kidoban.Result, v *volley) kidoban.Result {
	h := v.hit()
	if h == nil || r.Outcome != kidoban.Fail {
		return r
	}
	if h.first.n == 0 {
		r.Severity = kidoban.Low
		r.Summary += "; the list is empty"
	} else if _, has := h.first.reply.tools(); has && risk(h.first.reply.Result) == "" {
		r.Severity = kidoban.Low
		r.Summary += "; none of the tools looks sensitive"
	}
	return r
}
