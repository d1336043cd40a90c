package audit

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// The two-endpoint transport of 2024-11-05: a stream names the address for
// messages in its first event and carries their answers.

// helloID is the id of the handshake on a stream. It differs from callID so that
// only the answer to the list counts as one.
const helloID = 2

// streamWait bounds one conversation over a stream, politeness pauses apart.
const streamWait = 5 * time.Second

// overStream opens the stream at the call's URL, shakes hands, and asks for the
// list. The messages are sent from within the stream's reader, so nothing runs
// beside it.
func (s *session) overStream(ctx context.Context, probe, note string, c call) reached {
	t := &talk{s: s, ctx: ctx, probe: probe, note: note, c: c, base: c.URL, parser: wire.NewEventParser(256 << 10)}
	if t.base == "" {
		t.base = s.facts.URL
	}
	get := s.build(call{Verb: http.MethodGet, Method: c.Method, Header: c.Header, Raw: c.Raw, URL: t.base, Session: c.Session,
		Drop: []string{"Content-Type", "Mcp-Method", "Mcp-Session-Id", "MCP-Protocol-Version"}})
	get.Header = get.Header.Set("Accept", "text/event-stream")
	get.Body, get.Probe, get.Note = nil, probe, note+", event stream"
	get.Timeout = streamWait + max(4*s.o.Spacing, 12*s.apart) // three messages, each in a queue of strangers
	get.Stream = t.chunk
	x := s.do(ctx, get)
	r := reached{xs: append([]*kidoban.Exchange{}, t.sent...), sid: t.sid, opened: t.greeted, post: t.post, stream: x}
	r.add(x)                                  // the answers stand in the stream
	if n := len(t.sent); !r.listed && n > 0 { // what ended the talk decides
		r.xs = append([]*kidoban.Exchange{x}, t.sent...)
		r.reply = ReplyOf(t.sent[n-1])
	}
	return r
}

// talk is one conversation over a stream.
type talk struct {
	s           *session
	ctx         context.Context
	probe, note string
	c           call
	base        string
	parser      *wire.EventParser
	post        string // address for messages, once it is known
	sid         string
	sent        []*kidoban.Exchange
	greeted     bool
}

func (t *talk) chunk(b []byte) bool {
	more := true
	err := t.parser.Feed(b, func(e wire.Event) bool {
		more = t.event(e)
		return more
	})
	return err == nil && more
}

// event handles one event; false ends the stream.
func (t *talk) event(e wire.Event) bool {
	if e.Type == "endpoint" {
		if t.post != "" {
			return true
		}
		t.post = resolve(t.base, strings.TrimSpace(string(e.Data)))
		t.sid = sessionIn(t.post)
		if !sameOrigin(t.post, t.base) {
			return false // a server may not send us to somebody else
		}
		hello := map[string]any{"protocolVersion": wire.Rev20241105, "capabilities": map[string]any{}, "clientInfo": clientInfo()}
		return t.say("initialize", hello, helloID, ", handshake")
	}
	l, ok := wire.ReadLenient(e.Data, wire.Limits{})
	if !ok {
		return true
	}
	for _, m := range l.Messages {
		id, isInt := wire.Int(m.ID.Raw)
		switch {
		case m.Kind == wire.ErrorReply:
			return false
		case m.Kind == wire.Result && isInt && id == callID:
			return false
		case m.Kind == wire.Result && isInt && id == helloID && !t.greeted:
			t.greeted = true
			return t.say("notifications/initialized", nil, 0, ", initialized") && t.say(t.c.Method, t.c.Params, callID, ", message")
		}
	}
	return true
}

// say posts one message; false when it was not taken.
func (t *talk) say(method string, params map[string]any, id int, note string) bool {
	c := t.c
	c.URL, c.Version = t.post, wire.Rev20241105
	c.Method, c.Params = method, params
	if c.Body == nil || id != callID {
		c.Body = message(method, params, id)
	}
	c.Drop = append(append([]string{}, c.Drop...), "Mcp-Session-Id")
	x := t.s.rpc(t.ctx, t.probe, t.note+note, c)
	t.sent = append(t.sent, x)
	return x.Status() >= 200 && x.Status() < 300
}

// message encodes one JSON-RPC message; id 0 makes a notification.
func message(method string, params map[string]any, id int) []byte {
	m := map[string]any{"jsonrpc": "2.0", "method": method}
	if id > 0 {
		m["id"] = id
	}
	if params != nil {
		m["params"] = params
	}
	return mustJSON(m)
}

// sessionIn finds the session id in the address for messages.
func sessionIn(raw string) string {
	_, q, _ := strings.Cut(raw, "?")
	for _, part := range strings.Split(q, "&") {
		name, v, _ := strings.Cut(part, "=")
		switch strings.ToLower(name) {
		case "session_id", "sessionid", "session", "sid":
			return v
		}
	}
	return ""
}
