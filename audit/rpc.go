package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// call is one JSON-RPC request to the MCP endpoint without credentials. Probes
// change what they test: headers, body, path.
type call struct {
	Method  string              // "tools/list"
	Params  map[string]any      // nil: none; the modern era's _meta is added
	Version string              // revision; "" is the target's
	Session string              // Mcp-Session-Id to send; "" is that of the discovery session
	URL     string              // "" is the target's
	Header  kidoban.Fields      // set on top of the usual ones
	Drop    []string            // usual headers to leave out
	Body    []byte              // sent instead of the usual body
	Jar     *outbound.Jar       // nil: none
	Verb    string              // "" is POST
	Raw     *outbound.Req       // when set, its Raw and Target are used
	Mangle  func([]byte) []byte // changes the bytes of every message, handshake included
	Caps    map[string]any      // client capabilities of the stateless era; nil: none
}

// clientInfo names the tester to the server.
func clientInfo() map[string]any {
	return map[string]any{"name": "kidoban", "version": kidoban.Version}
}

// rpc sends one call. Against an unknown era the modern form is sent, with
// headers and _meta that a legacy server ignores.
func (s *session) rpc(ctx context.Context, probe, note string, c call) *kidoban.Exchange {
	r := s.build(c)
	r.Probe, r.Note = probe, note
	r.Stream = untilAnswer()
	return s.do(ctx, r)
}

// untilAnswer reads an event stream up to the answer, and anything else to its
// end. Each byte is looked at once, so that a stream without end costs no more
// than its bound.
func untilAnswer() func([]byte) bool {
	var start []byte // until it is clear what the body is
	var p *wire.EventParser
	return func(chunk []byte) bool {
		if p == nil {
			if len(start) >= 64 {
				return true
			}
			start = append(start, chunk...)
			if !looksLikeStream(bytes.TrimLeft(start, "\r\n :")) {
				return true
			}
			p, chunk = wire.NewEventParser(1<<20), start
		}
		more := true
		err := p.Feed(chunk, func(e wire.Event) bool {
			_, answer := replyIn(e.Data)
			more = !answer
			return more
		})
		return err == nil && more
	}
}

// build makes the request of a call.
func (s *session) build(c call) outbound.Req {
	f := s.facts
	version := c.Version
	if version == "" {
		version = f.Version()
	}
	era, _ := wire.EraOf(version)
	h := kidoban.Fields{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "application/json, text/event-stream"},
	}
	if c.Method != "initialize" {
		h = append(h, kidoban.Field{Name: "MCP-Protocol-Version", Value: version})
	}
	if era == wire.Modern {
		h = append(h, kidoban.Field{Name: "Mcp-Method", Value: c.Method})
	}
	session := c.Session
	if session == "" {
		session = f.Session
	}
	if session != "" && era == wire.Legacy {
		h = append(h, kidoban.Field{Name: "Mcp-Session-Id", Value: session})
	}
	for i, x := range c.Header {
		if len(c.Header[:i].Values(x.Name)) > 0 { // the probe wants it twice
			h = append(h, x)
			continue
		}
		h = h.Set(x.Name, x.Value)
	}
	if s.bearer != "" {
		if shown := s.shows(s.bearer); h.Get(shown.Name) == "" {
			h = append(h, shown)
		}
	}
	for _, name := range c.Drop {
		h = dropField(h, name)
	}
	body := c.Body
	if body == nil {
		body = encodeCall(c, version, era)
	}
	if c.Mangle != nil {
		body = c.Mangle(body)
	}
	r := outbound.Req{Method: http.MethodPost, URL: f.URL, Header: h, Body: body, Jar: c.Jar}
	if c.Verb != "" {
		r.Method = c.Verb
	}
	if c.URL != "" {
		r.URL = c.URL
	}
	if c.Raw != nil {
		r.Raw, r.Target = c.Raw.Raw, c.Raw.Target
	}
	return r
}

func dropField(h kidoban.Fields, name string) kidoban.Fields {
	out := kidoban.Fields{}
	for _, x := range h {
		if !strings.EqualFold(x.Name, name) {
			out = append(out, x)
		}
	}
	return out
}

// callID is the id of every request; an answer counts only with it.
const callID = 1

func encodeCall(c call, version string, era wire.Era) []byte {
	params := map[string]any{}
	for k, v := range c.Params {
		params[k] = v
	}
	if era == wire.Modern {
		caps := c.Caps
		if caps == nil {
			caps = map[string]any{}
		}
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    version,
			"io.modelcontextprotocol/clientInfo":         clientInfo(),
			"io.modelcontextprotocol/clientCapabilities": caps,
		}
	}
	msg := map[string]any{"jsonrpc": "2.0", "method": c.Method}
	if !strings.HasPrefix(c.Method, "notifications/") {
		msg["id"] = callID
	}
	if len(params) > 0 {
		msg["params"] = params
	}
	b, err := json.Marshal(msg)
	if err != nil {
		panic("audit: a call cannot be encoded: " + err.Error()) // our own maps only
	}
	return b
}

// Reply is what an answer says in JSON-RPC.
type Reply struct {
	RPC     bool // there was a JSON-RPC answer with our id
	Result  wire.Raw
	Code    int64 // of a JSON-RPC error
	Message string
	Data    wire.Raw
	IsError bool
}

// ReplyOf reads the JSON-RPC answer in an exchange: a JSON body, or the first
// answer in an event stream. Servers answer errors without our id; those count
// as errors, but a result counts only with our id.
func ReplyOf(x *kidoban.Exchange) Reply {
	if x == nil || x.Response == nil {
		return Reply{}
	}
	body := x.Response.Body
	if mediaType(x) == "text/event-stream" || looksLikeStream(body) {
		return streamReply(body)
	}
	r, _ := replyIn(body)
	return r
}

func looksLikeStream(b []byte) bool {
	return bytes.HasPrefix(b, []byte("event:")) || bytes.HasPrefix(b, []byte("data:")) || bytes.HasPrefix(b, []byte("id:")) || bytes.HasPrefix(b, []byte("retry:"))
}

func streamReply(body []byte) (out Reply) {
	p := wire.NewEventParser(1 << 20)
	_ = p.Feed(body, func(e wire.Event) bool { // an event over the bound holds no answer for us
		r, ok := replyIn(e.Data)
		if ok {
			out = r
		}
		return !ok
	})
	return out
}

func replyIn(body []byte) (Reply, bool) {
	l, ok := wire.ReadLenient(body, wire.Limits{})
	if !ok {
		return Reply{}, false
	}
	for _, m := range l.Messages {
		switch m.Kind {
		case wire.Result:
			if n, isInt := wire.Int(m.ID.Raw); isInt && n == callID {
				return Reply{RPC: true, Result: m.Result}, true
			}
		case wire.ErrorReply:
			r := Reply{RPC: true, IsError: true}
			if e, err := wire.ParseError(m.Error); err == nil {
				r.Code, r.Message, r.Data = e.Code, e.Message, e.Data
			}
			return r, true
		}
	}
	return Reply{}, false
}

// ok tells whether the call was answered with a result.
func (r Reply) ok() bool { return r.RPC && !r.IsError && len(r.Result) > 0 && r.Result[0] == '{' }

// tools counts the tools of a tools/list result; listed is false when there is
// no array of that name.
func (r Reply) tools() (n int, listed bool) {
	raw, ok := wire.Lookup(r.Result, "tools")
	if !ok || len(raw) == 0 || raw[0] != '[' {
		return 0, false
	}
	wire.Elements(raw, func(wire.Raw) bool { n++; return true })
	return n, true
}

// authWording tells whether a JSON-RPC error is a refusal for lack of credentials.
func (r Reply) authWording() bool {
	if !r.IsError {
		return false
	}
	low := strings.ToLower(r.Message)
	for _, w := range []string{"unauthor", "authenticat", "authoriz", "forbidden", "access denied", "credential", "token", "api key", "apikey", "login", "not logged"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	return false
}
