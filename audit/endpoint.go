package audit

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// How list requests to the MCP endpoint are changed in one way and compared with
// the plain one. A server that shows its era to nobody without a token is asked
// in the newest form; when the guard lets a changed request through and only the
// form is wrong, the older handshakes follow with the same change. A result with
// our id decides, nothing else does.

// plan is every probe in the order in which they run: the endpoint and the
// metadata, the authorization server, and last what is read from all exchanges.
func plan() []probe {
	return slices.Concat(endpointProbes(), probes(), loginProbes(), closingProbes())
}

// endpointProbes are the probes of the MCP endpoint, its metadata and its
// transport, the most telling first. None declares a cost: each takes what is
// left of the budget, sends its most telling forms, and says what it left out.
// The core forms of all of them fit into DefaultRequestsT1 with the discovery.
func endpointProbes() []probe {
	return []probe{
		probeE06(), probeE25(), probeE30(), // these send nothing
		probeE03(), probeE04(), probeHeaders(), probeQuery(),
		probeTLS(), probePlainHTTP(), probeE09(), probeE33(),
		probeE10(), probeE11(), probeE07(), probeIntrospection(), probeSampleKeys(),
	}
}

// closingProbes read what the whole run has seen.
func closingProbes() []probe { return []probe{probeLockout(), probeSeen()} }

// door is what the plain request without credentials met.
type door int

const (
	doorUnknown door = iota // neither a list nor a refusal: there is no control
	doorOpen                // the tools are listed to anyone
	doorClosed              // refused for lack of credentials
)

// door is the control of every probe of the endpoint.
func (f *Facts) door() door {
	switch {
	case f.Open:
		return doorOpen
	case refused(f.List), f.SSE && f.Refused != nil:
		return doorClosed
	}
	return doorUnknown
}

// refused tells whether an answer refuses for lack of credentials.
func refused(x *kidoban.Exchange) bool {
	st := x.Status()
	return st == 401 || st == 403 && !challenged(x) || ReplyOf(x).authWording()
}

// reached is how far one list request got.
type reached struct {
	xs     []*kidoban.Exchange // in order, the deciding one last
	listed bool                // a list came back
	n      int                 // entries in it
	opened bool                // the handshake over a stream was answered
	stream *kidoban.Exchange   // the stream of the two-endpoint transport
	post   string              // address for messages that it named
	reply  Reply
	sid    string // session or stream that the request opened
}

func (r *reached) last() *kidoban.Exchange {
	if len(r.xs) == 0 {
		return nil
	}
	return r.xs[len(r.xs)-1]
}

func (r *reached) add(x *kidoban.Exchange) {
	r.xs = append(r.xs, x)
	r.reply = ReplyOf(x)
	if n, ok := listIn(r.reply); ok {
		r.n, r.listed = n, true
	}
}

// listIn counts the entries of a list result; ok is false when it is none.
func listIn(r Reply) (n int, ok bool) {
	if !r.ok() {
		return 0, false
	}
	for _, name := range []string{"tools", "resources", "resourceTemplates", "prompts"} {
		if raw, has := wire.Lookup(r.Result, name); has && len(raw) > 0 && raw[0] == '[' {
			wire.Elements(raw, func(wire.Raw) bool { n++; return true })
			return n, true
		}
	}
	raw, has := wire.Lookup(r.Result, "completion")
	return 0, has && len(raw) > 0 && raw[0] == '{'
}

// reach sends a list request over every transport it takes to get a list.
func (s *session) reach(ctx context.Context, probe, note string, c call) reached {
	f := s.facts
	if f.SSE && c.URL == "" {
		return s.overStream(ctx, probe, note, c)
	}
	var r reached
	r.add(s.rpc(ctx, probe, note, c))
	x := r.last()
	if r.listed || x.Response == nil || refused(x) || f.Open || f.Session != "" {
		return r
	}
	switch {
	case x.Status() == http.StatusMethodNotAllowed && f.door() == doorClosed && f.List.Status() != http.StatusMethodNotAllowed && c.URL == "":
		// The guard was passed and the address takes no POST: the older transport.
		old := s.overStream(ctx, probe, note, c)
		old.xs = append(r.xs, old.xs...)
		return old
	case r.reply.IsError && !f.Modern && x.Status() < 500 && r.reply.Code != wire.CodeParse && c.Version == "":
		old := c
		old.Version = wire.LatestLegacy
		r.add(s.rpc(ctx, probe, note+", in the older form", old))
		if r.listed || refused(r.last()) {
			return r
		}
		return s.overSession(ctx, probe, note, c, r)
	}
	return r
}

// overSession goes on with the handshake of the session era, with the same
// change in every request, and ends the session again.
func (s *session) overSession(ctx context.Context, probe, note string, c call, r reached) reached {
	hello := c
	hello.Method, hello.Version, hello.Body = wire.MethodInitialize, wire.LatestLegacy, nil
	hello.Params = map[string]any{"protocolVersion": wire.LatestLegacy, "capabilities": map[string]any{}, "clientInfo": clientInfo()}
	x := s.rpc(ctx, probe, note+", handshake", hello)
	r.add(x)
	version := wire.LookupString(r.reply.Result, "protocolVersion")
	if !r.reply.ok() || version == "" || len(version) > 32 {
		return r
	}
	r.sid = x.Header("Mcp-Session-Id")
	if len(r.sid) > 1024 {
		r.sid = ""
	}
	next := c
	next.Version, next.Session = version, r.sid
	ready := next
	ready.Method, ready.Params, ready.Body = "notifications/initialized", nil, nil
	r.xs = append(r.xs, s.rpc(ctx, probe, note+", initialized", ready))
	r.add(s.rpc(ctx, probe, note+", in a session", next))
	if r.sid != "" {
		s.endSession(ctx, c, r.sid)
	}
	return r
}

// endSession removes a session that a probe opened, with the probe's change.
func (s *session) endSession(ctx context.Context, c call, sid string) {
	h := kidoban.Fields{{Name: "Mcp-Session-Id", Value: sid}}
	h = append(h, c.Header...)
	url := c.URL
	if url == "" {
		url = s.facts.URL
	}
	s.final(ctx, outbound.Req{Method: http.MethodDelete, URL: url, Probe: "clean-up", Note: "end the session", Header: h})
}

// shot is one changed request and what became of it. One that got a list is sent
// a second time, because a finding must be seen twice.
type shot struct {
	what         string
	asked        bool
	first, again reached
}

func (s *session) shoot(ctx context.Context, key, what string, c call, any bool) shot {
	send := s.reach
	if any {
		send = s.knock
	}
	sh := shot{what: what}
	need := 1
	if any && c.Method == wire.MethodInitialize {
		need = 2 // its session is ended again
	}
	if s.left() < need {
		return sh
	}
	sh.asked = true
	sh.first = send(ctx, key, what, c)
	if crashed(sh.first.last()) && s.left() >= need { // one fault decides nothing
		sh.first = send(ctx, key, what+", after a failure", c)
	}
	if sh.first.listed && s.left() >= need {
		sh.again = send(ctx, key, what+", again", c)
	}
	return sh
}

// served tells whether the list came.
func (sh *shot) served() bool { return sh.asked && sh.first.listed }

// doubtful tells whether the list came once and not the second time.
func (sh *shot) doubtful() bool {
	return sh.served() && len(sh.again.xs) > 0 && sh.again.last().Response != nil && !sh.again.listed
}

// volley is the shots for one key: the forms that were sent, and how many more
// a larger budget would send.
type volley struct {
	shots []shot
	left  int
	alive *kidoban.Exchange // the plain request once more, after a form that the server failed on
}

// stands tells whether the plain request is still answered like the control.
func (v *volley) stands(control *kidoban.Exchange) bool {
	return v.alive != nil && control != nil && !hidden(control) && v.alive.Status() == control.Status()
}

// openCall is the request that answers without credentials, if there is one:
// the list, or the handshake. It is the control of what can be seen only on
// requests that are served.
func (s *session) openCall() (call, bool) {
	f := s.facts
	switch {
	case f.Open, f.SSE && f.Stream != nil:
		return call{Method: "tools/list"}, true
	case ReplyOf(f.Discover).ok():
		return call{Method: wire.MethodDiscover, Version: wire.LatestModern}, true
	case ReplyOf(f.Init).ok():
		return call{Method: wire.MethodInitialize, Version: wire.LatestLegacy, Params: map[string]any{
			"protocolVersion": wire.LatestLegacy, "capabilities": map[string]any{}, "clientInfo": clientInfo()}}, true
	}
	return call{}, false
}

// anything tells whether something is served without credentials.
func (f *Facts) anything() bool { return f.control() != nil }

// control is the exchange in which something was served without credentials.
func (f *Facts) control() *kidoban.Exchange {
	switch {
	case f.Open:
		return f.List
	case f.SSE && f.Stream != nil:
		return f.Stream
	case ReplyOf(f.Discover).ok():
		return f.Discover
	case ReplyOf(f.Init).ok():
		return f.Init
	}
	return nil
}

// knocks is volley for requests whose control is served: any result counts.
func (s *session) knocks(ctx context.Context, key string, core int, forms []form) volley {
	return s.fire(ctx, key, core, forms, true)
}

// knock sends one changed form of the open call.
func (s *session) knock(ctx context.Context, key, what string, c call) reached {
	if s.facts.SSE {
		r := s.overStream(ctx, key, what, c)
		r.listed = r.listed || r.opened
		return r
	}
	var r reached
	r.add(s.rpc(ctx, key, what, c))
	r.listed = r.reply.ok()
	if sid := r.last().Header("Mcp-Session-Id"); c.Method == wire.MethodInitialize && sid != "" && len(sid) <= 1024 {
		s.endSession(ctx, c, sid)
	}
	return r
}

// volley sends the core forms, and in thorough runs the others as well. It stops
// at the first that is served.
func (s *session) volley(ctx context.Context, key string, core int, forms []form) volley {
	return s.fire(ctx, key, core, forms, false)
}

func (s *session) fire(ctx context.Context, key string, core int, forms []form, any bool) volley {
	var v volley
	for i, fm := range forms {
		if i >= core && !s.roomy() {
			v.left = len(forms) - i
			break
		}
		sh := s.shoot(ctx, key, fm.what, fm.call, any)
		if !sh.asked {
			v.left = len(forms) - i
			break
		}
		v.shots = append(v.shots, sh)
		if sh.served() {
			break
		}
		if crashed(sh.first.last()) && v.alive == nil && s.left() > 0 {
			v.alive = s.plain(ctx, key, any)
		}
	}
	return v
}

// plain sends the control of a volley once more.
func (s *session) plain(ctx context.Context, key string, any bool) *kidoban.Exchange {
	c := call{Method: "tools/list"}
	if open, ok := s.openCall(); any && ok {
		c = open
	}
	r := s.knock(ctx, key, "the plain request, after a failure", c)
	return r.last()
}

// form is one way to write a changed request.
type form struct {
	what string
	call call
}

// hit is the first shot that was served.
func (v *volley) hit() *shot {
	for i := range v.shots {
		if v.shots[i].served() {
			return &v.shots[i]
		}
	}
	return nil
}

// decide judges a volley beside a control that was refused: a list is proof. ok
// words the finding: "%s lists the tools".
func (v *volley) decide(key string, control *kidoban.Exchange, finding func(*shot) string, ok string) kidoban.Result {
	if h := v.hit(); h != nil {
		xs := append([]*kidoban.Exchange{control}, h.again.last(), h.first.last())
		if h.doubtful() {
			return unclear(key, kidoban.ReasonUnstable, h.what+" was answered once and refused the second time", xs...)
		}
		ev := kidoban.Confirmed
		if !h.again.listed {
			ev = kidoban.Likely
		}
		return positive(key, ev, finding(h), xs...)
	}
	if len(v.shots) == 0 {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	var answered *kidoban.Exchange
	for i := range v.shots { // a form without an answer may be the one that opens
		x := v.shots[i].first.last()
		if r, bad := unanswered(key, x); bad {
			r.Summary = v.shots[i].what + ": " + r.Summary
			return r
		}
		if crashed(x) && !v.stands(control) {
			return unclear(key, kidoban.ReasonUnstable, v.shots[i].what+": the server fails with status "+itoa(x.Status())+", and the plain request is not answered as before either", control, x, v.alive)
		}
		answered = x
	}
	r := passed(key, ok+statusNote(answered), control, answered)
	if v.left > 0 {
		r.Detail = detailFor(kidoban.ReasonBudget) // tries the other forms too
		r.Summary += " (" + kidoban.Count(len(v.shots), "form", "forms") + " tried, " + itoa(v.left) + " more need a larger budget)"
	}
	return r
}

// statusNote says when a refusal is one of an odd kind.
func statusNote(x *kidoban.Exchange) string {
	switch st := x.Status(); {
	case st >= 500:
		return "; the server fails on it with status " + itoa(st) + ", and still answers the plain request"
	case st == 403:
		return "; with 403, where the specification wants 401"
	}
	return ""
}

// answering says how many tools are open.
func answering(n int) string {
	return kidoban.Count(n, "tool answers", "tools answer") + " to anyone"
}

// noControl is the result of a comparison whose control gave nothing to compare
// with.
func noControl(key string, f *Facts) kidoban.Result {
	if r, bad := undecided(key, "the plain request", f.List); bad && f.List != nil {
		return r
	}
	return unclear(key, kidoban.ReasonUnstable, "the plain request is neither served nor refused, so there is nothing to compare with", f.List)
}

// with returns the call that the changes are made to.
func with(h ...kidoban.Field) call { return call{Method: "tools/list", Header: h} }

// everyone wraps one text into results for several keys.
func everyone(keys []string, one func(string) kidoban.Result) []kidoban.Result {
	out := make([]kidoban.Result, 0, len(keys))
	for _, k := range keys {
		out = append(out, one(k))
	}
	return out
}

const bearerNeeded = "; a bearer token is needed all the same, so the risk is low"

// exposed raises the severity of what a web page or a stranger on the network
// can use without a token, and leaves it low where a bearer token is needed.
func exposed(r kidoban.Result, f *Facts, high, low kidoban.Severity) kidoban.Result {
	switch {
	case f.held:
		r.Severity = low
		r.Summary += bearerNeeded
	case f.Local:
		r.Severity = high
		r.Summary += "; the server is on this machine, where any web page can reach it"
	case f.Open:
		r.Severity = high
		r.Summary += "; it asks for no credentials"
	default:
		r.Severity = low
		r.Summary += bearerNeeded
	}
	return r
}

// risk reads what the listed tools can do from their names, descriptions and
// schemas: "" when nothing sensitive shows.
func risk(list wire.Raw) string {
	raw, ok := wire.Lookup(list, "tools")
	if !ok {
		return ""
	}
	found, seen := "", 0
	wire.Elements(raw, func(tool wire.Raw) bool {
		if seen++; seen > 500 {
			return false
		}
		low := strings.ToLower(string(head(tool, 4096)))
		for _, w := range riskWords() {
			if strings.Contains(low, w.word) {
				found = w.what
				return false
			}
		}
		return true
	})
	return found
}

type riskWord struct{ word, what string }

// riskWords tell a tool that writes, runs or reads private data from one that
// looks up the weather.
func riskWords() []riskWord {
	return []riskWord{
		{"exec", "running commands"}, {"shell", "running commands"}, {"command", "running commands"}, {"eval", "running commands"},
		{"sql", "a database"}, {"database", "a database"}, {"payment", "payments"}, {"pay ", "payments"}, {"invoice", "payments"},
		{"password", "secrets"}, {"secret", "secrets"}, {"credential", "secrets"}, {"mail", "mail"}, {"send", "sending"},
		{"delete", "writing"}, {"remove", "writing"}, {"write", "writing"}, {"update", "writing"}, {"create", "writing"}, {"insert", "writing"},
		{"customer", "personal data"}, {"patient", "personal data"}, {"employee", "personal data"}, {"phone", "personal data"}, {"address book", "personal data"},
		{"file", "files"}, {"private", "private data"}, {"account", "accounts"},
	}
}
