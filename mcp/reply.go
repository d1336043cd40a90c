package mcp

import (
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Outcome classes a reply.
type Outcome string

// The outcomes.
const (
	Answered    Outcome = "answered"     // a result with our id
	RPCFailed   Outcome = "rpc_error"    // a JSON-RPC error
	Refused     Outcome = "refused"      // 401, 402, 403 or 407 without a result
	RateLimited Outcome = "rate_limited" // 429, or 503 with Retry-After
	Accepted    Outcome = "accepted"     // 2xx without a body: a notification, or the reply comes on the stream
	Redirected  Outcome = "redirected"   // 3xx; not followed
	HTTPFailed  Outcome = "http_error"   // another status ≥ 400
	NotMCP      Outcome = "not_mcp"      // 2xx, but no reply to our request in it
)

// Reply is what came back for one message.
type Reply struct {
	Exchange   *kidoban.Exchange
	Outcome    Outcome
	Result     wire.Raw       // when Answered
	RPC        *wire.RPCError // when a JSON-RPC error came, also beside Refused or HTTPFailed
	Refusal    *Refusal       // when Refused
	Message    wire.Message   // the reply itself
	Others     []wire.Message // notifications and server requests that came with it
	Objections []string       // wire.Why… codes a strict reader raised
	Streamed   bool           // the reply came as a server-sent event

	id           wire.ID
	notification bool
	events       [][]byte
	failed       error // of the event parser
}

// Refusal is a server's no: the status and what it asks for.
type Refusal struct {
	Step       string // where Connect met it: "discover", "initialize", "sse", …; "" for a single call
	Status     int
	Challenges []oauth.Challenge
	Exchange   *kidoban.Exchange
}

// readable bounds what is read as one JSON text. The body itself has the
// Doer's bound, which never exceeds this one.
var readable = wire.Limits{MaxBytes: outbound.HardMaxBody}

// maxOthers bounds the messages kept beside the reply.
const maxOthers = 256

// feed returns the callback for the body's bytes. It ends the exchange as soon
// as the reply has come, because a server may keep its stream open.
func (r *Reply) feed(max int64) func([]byte) bool {
	parser := wire.NewEventParser(int(max))
	return func(chunk []byte) bool {
		if r.failed != nil {
			return true // not events, or too long: the body is read to its own bound
		}
		done := false
		r.failed = parser.Feed(chunk, func(ev wire.Event) bool {
			if len(r.events) >= maxOthers {
				return false
			}
			r.events = append(r.events, ev.Data)
			done = !r.notification && r.isOurs(ev.Data)
			return !done
		})
		return !done
	}
}

// isOurs tells whether an event is the reply we wait for.
func (r *Reply) isOurs(data []byte) bool {
	l, ok := wire.ReadLenient(data, readable)
	if !ok {
		return false
	}
	for _, m := range l.Messages {
		if m.ID.Equal(r.id) && (m.Kind == wire.Result || m.Kind == wire.ErrorReply) {
			return true
		}
	}
	return false
}

// read classes the response once it is there.
func (r *Reply) read() {
	resp := r.Exchange.Response
	bodies := [][]byte{resp.Body}
	if isEventStream(resp.Header.Get("Content-Type")) {
		bodies, r.Streamed = r.events, true
	}
	for _, b := range bodies {
		r.readBody(b)
	}
	r.events = nil
	r.classify(resp)
}

// readBody takes the messages of one JSON text.
func (r *Reply) readBody(b []byte) {
	l, ok := wire.ReadLenient(b, readable)
	if !ok {
		return
	}
	r.Objections = append(r.Objections, l.Objections...)
	for _, m := range l.Messages {
		switch {
		case !r.notification && m.ID.Equal(r.id) && (m.Kind == wire.Result || m.Kind == wire.ErrorReply):
			r.take(m)
		case m.Kind == wire.ErrorReply && !m.ID.Present() && r.Message.Kind == 0:
			r.take(m) // the server could not read the id
		case len(r.Others) < maxOthers:
			r.Others = append(r.Others, m)
		}
	}
}

// take makes m the reply.
func (r *Reply) take(m wire.Message) {
	r.Message = m
	if m.Kind == wire.Result {
		r.Result, r.Outcome = m.Result, Answered
		return
	}
	r.Outcome = RPCFailed
	e, err := wire.ParseError(m.Error)
	if err != nil {
		r.Objections = append(r.Objections, wire.WhyErrorObject)
	}
	r.RPC = &e
}

func (r *Reply) classify(resp *kidoban.Response) {
	switch s := resp.Status; {
	case s == 401 || s == 402 || s == 403 || s == 407:
		r.Outcome = Refused
		r.Refusal = &Refusal{Status: s, Exchange: r.Exchange,
			Challenges: oauth.ParseChallenges(resp.Header.Values("WWW-Authenticate"))}
	case s == 429 || s == 503 && resp.Header.Get("Retry-After") != "":
		r.Outcome = RateLimited
	case r.Outcome != "" && (s < 300 || r.RPC != nil):
	case s >= 300 && s < 400:
		r.Outcome = Redirected
	case s >= 400:
		r.Outcome = HTTPFailed
	case s == 202 || s == 204 || r.notification || len(resp.Body) == 0:
		r.Outcome = Accepted
	default:
		r.Outcome = NotMCP
	}
}

func isEventStream(contentType string) bool {
	base, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(base), "text/event-stream")
}
