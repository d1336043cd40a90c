package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// What tools do with a token: scopes (E30-d), mirrored names (E33-e), requestState
// (E08) and links for the browser (E35-a, b). Only tools that the operator named
// are called, with arguments that mean nothing.

// tooling is a tool of the list that may be called.
type tooling struct {
	name     string
	readOnly bool
	args     map[string]any
	needs    []string // required members
}

type toolTrials struct {
	none kidoban.Result
	has  bool
	t    *tokens
	more bool // the token carries more scope than was asked for

	modern bool
	tools  []tooling

	writes []toolCall // named tools that change something, with the smallest scope

	mirror      *kidoban.Exchange // the header names another tool than the body
	mirrorPlain *kidoban.Exchange

	state     string // a requestState
	asked     *kidoban.Exchange
	readable  string
	changedX  []*kidoban.Exchange
	changed   bool // the server acted on a changed state
	replayX   []*kidoban.Exchange
	replayed  bool
	elseX     []*kidoban.Exchange
	elsewhere bool

	linkX *kidoban.Exchange
	link  string
}

type toolCall struct {
	tool string
	x    *kidoban.Exchange
	ran  bool
}

func probeTools() probe {
	keys := []string{"E30-d", "E33-e", "E08-a", "E08-b", "E08-c", "E08-d", "E35-a", "E35-b"}
	return define(spec{name: "tools", keys: keys, tier: kidoban.T3}, collectTools, func(f *Facts, e toolTrials) []kidoban.Result {
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		return judgeTools(f, &e)
	})
}

// readTools are the listed tools that the operator named, with arguments that fill
// what is required.
func readTools(list *kidoban.Exchange, named []string) []tooling {
	var l struct {
		Tools []struct {
			Name   string
			Schema struct {
				Required   []string
				Properties map[string]struct{ Type string }
			} `json:"inputSchema"`
			Annotations struct {
				ReadOnly bool `json:"readOnlyHint"`
			}
		}
	}
	r := ReplyOf(list)
	if !r.ok() || json.Unmarshal(r.Result, &l) != nil {
		return nil
	}
	var out []tooling
	for _, t := range l.Tools {
		if !slices.Contains(named, t.Name) || len(out) >= maxNamed {
			continue
		}
		x := tooling{name: t.Name, readOnly: t.Annotations.ReadOnly, args: map[string]any{}, needs: t.Schema.Required}
		for _, r := range t.Schema.Required {
			switch t.Schema.Properties[r].Type {
			case "number", "integer":
				x.args[r] = 1
			case "boolean":
				x.args[r] = false
			case "array":
				x.args[r] = []any{}
			case "object":
				x.args[r] = map[string]any{}
			default:
				x.args[r] = "1"
			}
		}
		out = append(out, x)
	}
	return out
}

// namedTools are those of all pages of the list, at most eight, as in morePages. Those
// that change something come first: they ask back more often, but a tool that reads may
// ask for an account as well.
func (s *session) namedTools(ctx context.Context, key, token string) (out []tooling) {
	seen, note, params := map[string]bool{"": true}, "the list of tools", map[string]any(nil)
	for len(seen) <= 8 {
		x := s.invoke(ctx, key, note, token, "tools/list", params)
		out = append(out, readTools(x, s.o.Tools)...)
		cursor := wire.LookupString(ReplyOf(x).Result, "nextCursor")
		if seen[cursor] || len(s.o.Tools) == 0 {
			break
		}
		seen[cursor] = true
		note, params = "the list of tools, next page", map[string]any{"cursor": cursor}
	}
	slices.SortStableFunc(out, func(a, b tooling) int {
		switch {
		case a.readOnly == b.readOnly:
			return 0
		case b.readOnly:
			return -1
		}
		return 1
	})
	return out[:min(len(out), maxNamed)]
}

// maxNamed bounds the tools that are called.
const maxNamed = 32

// callTool calls a tool as the owner of a token.
func (s *session) callTool(ctx context.Context, key, note, token, name string, args map[string]any, extra map[string]any, more ...kidoban.Field) *kidoban.Exchange {
	p := map[string]any{"name": name, "arguments": args}
	for k, v := range extra {
		p[k] = v
	}
	x := s.invoke(ctx, key, note, token, "tools/call", p, more...)
	if x != nil && x.Response == nil && x.ErrKind == kidoban.KindLimit && x.Err != errBudget && ctx.Err() == nil {
		s.made(x) // a call that takes long, or waits for somebody's leave, has neither run nor asked back
	}
	return x
}

// ran tells whether a tool did its work: a result that is no error.
func ran(x *kidoban.Exchange) bool {
	r := ReplyOf(x)
	if !r.ok() {
		return false
	}
	raw, _ := wire.Lookup(r.Result, "isError")
	return string(raw) != "true" && wire.LookupString(r.Result, "resultType") != "input_required"
}

// reachedTool tells whether a call got past the scope check: it ran, failed inside
// the tool, or asked for more.
func reachedTool(x *kidoban.Exchange) bool { return ReplyOf(x).ok() }

func collectTools(ctx context.Context, s *session) (e toolTrials) {
	f := s.facts
	t, none := s.admission(ctx, "E08-a", "E30-d", "a grant of the smallest scope")
	if t == nil {
		e.none = none
		return e
	}
	e.has, e.t = true, t
	asked := f.SmallestScope
	e.more = t.Scope != "" && asked != "" && !covers(asked, t.Scope)
	in := s.enter(ctx, t.Access)
	if e.modern = in.modern; !in.modern && !in.legacy {
		e.has, e.none = false, unclear("E08-a", kidoban.ReasonUnstable, "the token does not open the endpoint", t.x)
		return e
	}
	e.tools = s.namedTools(ctx, "tools", t.Access)
	wide := t
	if !f.keyed {
		s.collectScope(ctx, &e)
		if all := allScopes(f, asked); all != asked {
			if g, _ := s.grantTokens(ctx, "E08", "a grant of every scope on offer", f.Client, func(r *authRequest) { r.Params = r.Params.with("scope", all) }); g.issued() {
				wide = g
			}
		}
	}
	s.collectMirror(ctx, wide.Access, &e)
	s.collectState(ctx, wide.Access, &e)
	s.collectLink(ctx, wide.Access, &e)
	return e
}

// allScopes are the scopes on offer, catch-alls apart.
func allScopes(f *Facts, asked string) string {
	var out []string
	for _, x := range append(append(strings.Fields(asked), f.Scopes...), f.AS.Meta.ScopesSupported...) {
		if !slices.Contains(out, x) && !catchAll(x) && x != "openid" && x != "offline_access" {
			out = append(out, x)
		}
	}
	return strings.Join(out, " ")
}

// collectScope calls the named tools that change something with a token that was
// asked for reading.
func (s *session) collectScope(ctx context.Context, e *toolTrials) {
	for _, t := range e.tools {
		if t.readOnly || len(e.writes) >= 4 {
			continue
		}
		x := s.callTool(ctx, "E30-d", "a tool that changes something", e.t.Access, t.name, t.args, nil)
		e.writes = append(e.writes, toolCall{t.name, x, reachedTool(x)})
	}
}

// collectMirror names one tool in the header and another in the body.
func (s *session) collectMirror(ctx context.Context, token string, e *toolTrials) {
	var free []tooling
	for _, t := range e.tools {
		if t.readOnly && len(t.needs) == 0 {
			free = append(free, t)
		}
	}
	if !e.modern || len(free) == 0 {
		return
	}
	name := free[0].name
	other := "kidoban-" + s.nonce(6)
	if len(free) > 1 {
		other = free[1].name
	}
	e.mirrorPlain = s.callTool(ctx, "E33-e", "control: header and body agree", token, name, free[0].args, nil)
	e.mirror = s.callTool(ctx, "E33-e", "the header names another tool", token, name, free[0].args, nil, kidoban.Field{Name: "Mcp-Name", Value: other})
}

// collectState looks for a tool that asks back, and bends what it gave us to keep.
func (s *session) collectState(ctx context.Context, token string, e *toolTrials) {
	if !e.modern {
		return
	}
	for _, t := range e.tools {
		ask := func(note string) (*kidoban.Exchange, string, map[string]any) {
			x := s.callTool(ctx, "E08", note, token, t.name, t.args, nil)
			r := ReplyOf(x)
			if !r.ok() {
				return x, "", nil
			}
			return x, wire.LookupString(r.Result, "requestState"), answers(r.Result)
		}
		x, state, answer := ask("a call that asks back")
		if state == "" || len(answer) == 0 {
			continue
		}
		e.asked, e.state = x, state
		e.readable = readableState(state)
		go1 := func(key, note, name string, args map[string]any, state string) (*kidoban.Exchange, bool) {
			x := s.callTool(ctx, key, note, token, name, args, map[string]any{"requestState": state, "inputResponses": answer})
			return x, ran(x)
		}
		if changed, ok := bendState(state); ok {
			x, did := go1("E08-a", "the state with a changed value", t.name, t.args, changed)
			e.changedX, e.changed = append(e.changedX, x), did && textOf(x) != ""
		} else {
			x, did := go1("E08-a", "the state with one character changed", t.name, t.args, flip(state))
			e.changedX, e.changed = append(e.changedX, x), did
		}
		if _, fresh, _ := ask("another call that asks back"); fresh != "" {
			one, did1 := go1("E08-b", "the genuine answer", t.name, t.args, fresh)
			two, did2 := go1("E08-b", "the same state again", t.name, t.args, fresh)
			e.replayX, e.replayed = []*kidoban.Exchange{one, two}, did1 && did2
		}
		if _, fresh, _ := ask("one more call that asks back"); fresh != "" && len(t.args) > 0 {
			other := map[string]any{}
			for k, v := range t.args {
				other[k] = v
				if _, isText := v.(string); isText {
					other[k] = "2"
				} else if _, isNum := v.(int); isNum {
					other[k] = 2
				}
			}
			x, did := go1("E08-c", "the state with other arguments", t.name, other, fresh)
			e.elseX, e.elsewhere = []*kidoban.Exchange{x}, did
		}
		return
	}
}

// answers fills in the questions of an input_required result: yes to everything.
func answers(result wire.Raw) map[string]any {
	var r struct {
		InputRequests map[string]struct {
			Params struct {
				Mode            string
				RequestedSchema struct {
					Properties map[string]struct{ Type string }
				}
			}
		}
	}
	if json.Unmarshal(result, &r) != nil {
		return nil
	}
	out := map[string]any{}
	for name, q := range r.InputRequests {
		if q.Params.Mode == "url" {
			return nil
		}
		content := map[string]any{}
		for p, schema := range q.Params.RequestedSchema.Properties {
			switch schema.Type {
			case "boolean":
				content[p] = true
			case "number", "integer":
				content[p] = 1
			default:
				content[p] = "1"
			}
		}
		out[name] = map[string]any{"action": "accept", "content": content}
	}
	return out
}

// readableState decodes a state that is JSON without a signature beside it.
func readableState(state string) string {
	for _, l := range unnest(state) {
		if !l.signed && json.Valid([]byte(l.text)) && strings.HasPrefix(l.text, "{") {
			return l.text
		}
	}
	if json.Valid([]byte(state)) && strings.HasPrefix(state, "{") {
		return state
	}
	return ""
}

// bendState changes a value in a readable state and encodes it as it came. Ids,
// digests and times stay, because a server may compare those and still believe the
// rest.
func bendState(state string) (string, bool) {
	text := readableState(state)
	var m map[string]any
	if text == "" || json.Unmarshal([]byte(text), &m) != nil {
		return "", false
	}
	for _, k := range []string{"amount", "price", "total", "quantity", "role", "path", "url"} {
		if v, ok := m[k].(string); ok && v != "" {
			m[k] = v + "0"
			return rebase64(state, string(mustJSON(m))), true
		}
	}
	m["kidoban"] = 1
	if strings.HasPrefix(state, "{") {
		return string(mustJSON(m)), true
	}
	return rebase64(state, string(mustJSON(m))), true
}

// flip changes one character in the middle.
func flip(s string) string {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 {
		t, _ := tamperToken(s)
		return t
	}
	b[len(b)/2] ^= 1
	return base64.RawURLEncoding.EncodeToString(b)
}

// collectLink looks for a tool that sends the person to an address.
func (s *session) collectLink(ctx context.Context, token string, e *toolTrials) {
	for _, t := range e.tools {
		x := s.callTool(ctx, "E35", "a tool that may send the person to a page", token, t.name, t.args, nil)
		if u := linkIn(x); u != "" {
			e.linkX, e.link = x, u
			return
		}
	}
}

// linkIn finds the address of a URL elicitation: in an input_required result, or in
// the error of the older era.
func linkIn(x *kidoban.Exchange) string {
	r := ReplyOf(x)
	raw := r.Result
	if r.IsError {
		raw = r.Data
	}
	var find func(v any) string
	find = func(v any) string {
		switch t := v.(type) {
		case map[string]any:
			if t["mode"] == "url" {
				u, _ := t["url"].(string)
				return u
			}
			for _, c := range t {
				if u := find(c); u != "" {
					return u
				}
			}
		case []any:
			for _, c := range t {
				if u := find(c); u != "" {
					return u
				}
			}
		}
		return ""
	}
	var v any
	if len(raw) == 0 || len(raw) > 1<<20 || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	return find(v)
}

func judgeTools(f *Facts, e *toolTrials) []kidoban.Result {
	out := []kidoban.Result{judgeToolScope(e), judgeMirror(e)}
	out = append(out, judgeState(e)...)
	return append(out, judgeLink(f, e)...)
}

func judgeToolScope(e *toolTrials) kidoban.Result {
	const key = "E30-d"
	if len(e.writes) == 0 {
		return untested(key, kidoban.ReasonToolNamed, "--tool NAME, of a harmless tool that changes something")
	}
	if e.more {
		return absent(key, "the token carries more scope than was asked for (E30-c), so the call may be allowed", e.t.x)
	}
	var xs []*kidoban.Exchange
	for _, w := range e.writes {
		if w.ran {
			return positive(key, kidoban.Confirmed, "a tool that changes something runs with a token of the smallest scope: "+w.tool, e.t.x, w.x)
		}
		xs = append(xs, w.x)
	}
	return passed(key, "tools that change something are refused to a token of the smallest scope", xs...)
}

func judgeMirror(e *toolTrials) kidoban.Result {
	const key = "E33-e"
	switch {
	case !e.modern:
		return absent(key, "the server does not speak the stateless era", e.t.x)
	case e.mirror == nil:
		return untested(key, kidoban.ReasonToolNamed, "--tool NAME, of a tool that only reads and needs no arguments")
	case !ran(e.mirrorPlain):
		return unclear(key, kidoban.ReasonUnstable, "the tool does not run with the right header either", e.mirrorPlain)
	case ran(e.mirror):
		return positive(key, kidoban.Confirmed, "a call runs although its Mcp-Name header names another tool", e.mirrorPlain, e.mirror)
	}
	return passed(key, "a call whose Mcp-Name header names another tool is refused", e.mirrorPlain, e.mirror)
}

func judgeState(e *toolTrials) []kidoban.Result {
	keys := []string{"E08-a", "E08-b", "E08-c", "E08-d"}
	if !e.modern {
		return everyone(keys, func(k string) kidoban.Result { return absent(k, "the server does not speak the stateless era", e.t.x) })
	}
	if e.state == "" {
		return everyone(keys, func(k string) kidoban.Result { return absent(k, "no named tool gives a requestState", e.t.x) })
	}
	say := func(key string, bad bool, xs []*kidoban.Exchange, finding, fine string) kidoban.Result {
		switch {
		case len(xs) == 0:
			return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
		case bad:
			return positive(key, kidoban.Confirmed, finding, append([]*kidoban.Exchange{e.asked}, xs...)...)
		}
		return passed(key, fine, append([]*kidoban.Exchange{e.asked}, xs...)...)
	}
	out := []kidoban.Result{
		say("E08-a", e.changed, e.changedX, "a changed requestState is believed", "a changed requestState is refused"),
		say("E08-b", e.replayed, e.replayX, "a requestState is good more than once", "a requestState is good once"),
		say("E08-c", e.elsewhere, e.elseX, "a requestState works for another call than the one it was made for", "a requestState works for its own call only"),
	}
	if e.readable != "" {
		return append(out, positive("E08-d", kidoban.Signal, "the requestState can be read and carries no signature", e.asked))
	}
	return append(out, passed("E08-d", "the requestState cannot be read", e.asked))
}

func judgeLink(f *Facts, e *toolTrials) []kidoban.Result {
	if e.link == "" {
		return everyone([]string{"E35-a", "E35-b"}, func(k string) kidoban.Result {
			return absent(k, "no named tool sends the person to a page", e.t.x)
		})
	}
	u, err := url.Parse(e.link)
	if err != nil {
		return everyone([]string{"E35-a", "E35-b"}, func(k string) kidoban.Result {
			return unclear(k, kidoban.ReasonUnstable, "the address of the page cannot be read", e.linkX)
		})
	}
	var out []kidoban.Result
	q := u.Query()
	if !f.owns(u.Host) && (q.Has("client_id") || q.Has("response_type") || strings.Contains(u.Path, "authorize")) || u.Scheme == "http" && !isLoopbackURL(e.link) {
		out = append(out, positive("E35-a", kidoban.Signal, "a tool sends the person straight to the authorization endpoint of "+u.Host, e.linkX))
	} else {
		out = append(out, passed("E35-a", "a tool sends the person to a page of the server's own first", e.linkX))
	}
	if names := secretsIn(e.link, append(tokenNames(), "session", "session_id", "sid", "email", "ticket", "otp", "magic")); len(names) > 0 {
		return append(out, positive("E35-b", kidoban.Signal, "the address that a tool gives out carries credentials: "+strings.Join(names, ", "), e.linkX))
	}
	return append(out, passed("E35-b", "the address that a tool gives out carries no credentials", e.linkX))
}
