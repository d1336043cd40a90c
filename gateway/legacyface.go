package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// session is a legacy client's session with the gateway itself.
type session struct {
	id      string
	user    string
	caps    wire.Raw
	version string

	mu    sync.Mutex
	calls map[string]context.CancelFunc // by the client's request id; guarded by mu
	asks  map[string]chan reply         // by our request id; guarded by mu
	next  int
	level string // of the log, for servers that are told with each request
	last  time.Time
}

func (s *session) seen() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// bridgeLegacy answers a legacy client.
func (g *Gateway) bridgeLegacy(st *state, c *call) *Refusal {
	if c.Message.Method == wire.MethodInitialize && c.Message.Kind == wire.Request {
		return g.initialize(st, c)
	}
	s, refusal := g.session(c)
	if refusal != nil {
		return refusal
	}
	switch c.Message.Kind {
	case wire.Result, wire.ErrorReply:
		s.answered(c.Message)
		c.w.WriteHeader(http.StatusAccepted)
		c.rec.Status = http.StatusAccepted
		return nil
	case wire.Notification:
		if c.Message.Method == wire.MethodCancelled {
			id, _ := wire.Lookup(c.Message.Params, "requestId")
			s.cancel(string(id))
		}
		c.w.WriteHeader(http.StatusAccepted)
		c.rec.Status = http.StatusAccepted
		return nil
	}
	switch c.Message.Method {
	case wire.MethodPing:
		c.writeResult(wire.Raw("{}"))
		return nil
	case wire.MethodDiscover, wire.MethodListen: // modern methods in a legacy session
		c.writeError(wire.CodeMethodNotFound, "This protocol version has no such method.")
		return nil
	}
	if c.server == nil {
		return g.aggregate(st, c)
	}
	p, release, refusal := g.acquire(c.r.Context(), c, c.server)
	if refusal != nil {
		return refusal
	}
	o := outgoing{method: c.Message.Method, params: slices.Clone(c.Message.Params), caps: s.caps}
	if p.hello().era == wire.Modern {
		if done := g.legacyOnlyMethod(c, s); done {
			release()
			return nil
		}
		s.mu.Lock()
		if s.level != "" {
			meta, ok := wire.Lookup(o.params, "_meta")
			if !ok {
				meta = wire.Raw("{}")
			}
			if o.params == nil {
				o.params = wire.Raw("{}")
			}
			o.params = wire.SetMember(o.params, "_meta", wire.SetMember(meta, wire.MetaLogLevel, wire.Quote(s.level)))
		}
		s.mu.Unlock()
	}
	return g.serveLegacy(st, c, s, g.converse(p, release, o))
}

// legacyOnlyMethod answers methods that a modern server no longer has.
func (g *Gateway) legacyOnlyMethod(c *call, s *session) bool {
	switch c.Message.Method {
	case wire.MethodSetLevel:
		s.mu.Lock()
		s.level = wire.LookupString(c.Message.Params, "level")
		s.mu.Unlock()
		c.writeResult(wire.Raw("{}"))
	case wire.MethodSubscribe, wire.MethodUnsubscribe:
		c.writeError(wire.CodeMethodNotFound, "The server behind does not offer this to clients of this protocol version.")
	default:
		return false
	}
	return true
}

// initialize opens a session.
func (g *Gateway) initialize(st *state, c *call) *Refusal {
	h := aggregateHello
	if c.server != nil {
		p, release, refusal := g.acquire(c.r.Context(), c, c.server)
		if refusal != nil {
			return refusal
		}
		h = p.hello()
		release()
	}
	version := c.Params.ProtocolVersion
	if era, known := wire.EraOf(version); !known || era != wire.Legacy {
		version = wire.LatestLegacy
	}
	s := &session{user: c.Caller.User, caps: slices.Clone(c.Params.Capabilities), version: version,
		calls: map[string]context.CancelFunc{}, asks: map[string]chan reply{}, last: g.deps.Now()}
	var id [16]byte
	if _, err := io.ReadFull(rand.Reader, id[:]); err != nil {
		return refuse(http.StatusInternalServerError, wire.CodeInternal, "session", "The session cannot be opened.").because(err)
	}
	s.id = base64.RawURLEncoding.EncodeToString(id[:])
	sealed, err := g.sealSession(c, modeBridge, s.id)
	if err != nil {
		return refuse(http.StatusInternalServerError, wire.CodeInternal, "session", "The session cannot be opened.").because(err)
	}
	g.bridges.keep(s)
	result := wire.SetMember(wire.Raw("{}"), "protocolVersion", wire.Quote(version))
	result = wire.SetMember(result, "capabilities", legacyCapabilities(h))
	info := h.info
	if info == nil {
		info = clientInfo()
	}
	result = wire.SetMember(result, "serverInfo", info)
	if h.instructions != nil {
		result = wire.SetMember(result, "instructions", h.instructions)
	}
	c.w.Header().Set(wire.HeaderSession, sealed)
	m, refusal := g.final(c, wire.Message{Kind: wire.Result, Result: result})
	if refusal != nil {
		return refusal
	}
	c.writeMessage(m)
	return nil
}

// legacyCapabilities are those of the server that also hold for a legacy client:
// a modern server's subscriptions do not (mcp-authorization 3.8, 8).
func legacyCapabilities(h hello) wire.Raw {
	if h.era != wire.Modern {
		return h.capabilities
	}
	res, ok := wire.Lookup(h.capabilities, "resources", "subscribe")
	if !ok || string(res) != "true" {
		return h.capabilities
	}
	r, _ := wire.Lookup(h.capabilities, "resources")
	return wire.SetMember(h.capabilities, "resources", wire.SetMember(r, "subscribe", wire.Raw("false")))
}

// keep stores a session; the oldest of a user who has too many goes.
func (b *bridges) keep(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var oldest *session
	n := 0
	full := len(b.sessions) >= maxSessions
	for _, o := range b.sessions {
		mine := o.user == s.user
		if mine {
			n++
		}
		if (full || mine) && (oldest == nil || o.seen().Before(oldest.seen())) {
			oldest = o
		}
	}
	if oldest != nil && (full || n >= perUser && s.user != "") {
		delete(b.sessions, oldest.id)
	}
	b.sessions[s.id] = s
}

// session finds the caller's session. A client that never opened one gets a
// session for this request alone, in which it cannot be asked anything.
func (g *Gateway) session(c *call) (*session, *Refusal) {
	if c.session == "" {
		return &session{calls: map[string]context.CancelFunc{}, asks: map[string]chan reply{}}, nil
	}
	b := &g.bridges
	b.mu.Lock()
	s := b.sessions[c.session]
	b.mu.Unlock()
	if s == nil {
		return nil, refuse(http.StatusNotFound, 0, "session:unknown", "This session is not known. Initialize a new one.")
	}
	s.mu.Lock()
	s.last = g.deps.Now()
	s.mu.Unlock()
	return s, nil
}

// answered hands the client's answer to whoever asked.
func (s *session) answered(m wire.Message) {
	id, _ := wire.String(m.ID.Raw)
	s.mu.Lock()
	to := s.asks[id]
	delete(s.asks, id)
	s.mu.Unlock()
	if to != nil {
		to <- reply{result: slices.Clone(m.Result), refusal: slices.Clone(m.Error)} // has room for one
	}
}

func (s *session) cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.calls[id]; f != nil {
		f()
	}
}

// ask gives a question an id of ours and remembers who waits for the answer.
func (s *session) ask(q *question) wire.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := "kidoban-" + strconv.Itoa(s.next)
	s.asks[id] = q.reply
	return wire.Message{Kind: wire.Request, ID: wire.StringID(id), Method: q.method, Params: q.params}
}

// serveLegacy follows a conversation for a legacy client: one document when
// nothing but the answer comes, a stream otherwise.
func (g *Gateway) serveLegacy(st *state, c *call, s *session, v *conversation) *Refusal {
	defer v.cancel()
	id := string(c.Message.ID.Raw)
	s.mu.Lock()
	s.calls[id] = v.cancel
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.calls, id)
		s.mu.Unlock()
	}()
	var out *sseWriter
	tick := time.NewTicker(st.config.KeepAlive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-c.r.Context().Done():
			return nil
		case <-v.ctx.Done():
			return nil // cancelled by the client: no answer (2025-11-25, cancellation)
		case <-tick.C:
			if out == nil {
				out = g.startStream(c)
			}
			err = out.comment()
		case e := <-v.events:
			var m wire.Message
			switch {
			case e.note != nil:
				m = *e.note
			case e.ask != nil:
				if s.id == "" {
					e.ask.reply <- reply{refusal: cannotAsk}
					continue
				}
				m = s.ask(e.ask)
			default:
				return g.finish(c, out, e)
			}
			if r := g.deps.Guards.Results; r != nil {
				var refusal *Refusal
				if m, refusal = r.Guard(c.r.Context(), &c.Call, m); refusal != nil {
					if out == nil {
						return refusal
					}
					g.refuseStream(c, out, refusal)
					return nil
				}
			}
			if out == nil {
				out = g.startStream(c)
			}
			err = out.message(m)
		}
		if err != nil {
			return nil // the client has gone
		}
	}
}

// finish writes the end of a conversation, into the stream if there is one.
func (g *Gateway) finish(c *call, out *sseWriter, e event) *Refusal {
	var refusal *Refusal
	var m wire.Message
	if e.err != nil {
		refusal = g.failed(c, e.err)
	} else {
		m, refusal = g.final(c, *e.done)
	}
	switch {
	case refusal != nil && out == nil:
		return refusal
	case refusal != nil:
		g.refuseStream(c, out, refusal)
	case out != nil:
		_ = out.message(m) // the client may have gone
	default:
		c.writeMessage(m)
	}
	return nil
}

// bridgeListen answers GET with the notifications that belong to no request.
func (g *Gateway) bridgeListen(st *state, c *call) *Refusal {
	if c.session == "" {
		return refuse(http.StatusBadRequest, 0, "session:missing", "There is no Mcp-Session-Id header.")
	}
	if _, refusal := g.session(c); refusal != nil {
		return refusal
	}
	notes, stop := g.subscribeAll(c)
	defer stop()
	out := g.startStream(c)
	tick := time.NewTicker(st.config.KeepAlive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-c.r.Context().Done():
			return nil
		case <-g.drain.Done():
			return nil
		case <-tick.C:
			err = out.comment()
		case m := <-notes:
			err = out.message(m)
		}
		if err != nil {
			return nil
		}
		if _, refusal := g.session(c); refusal != nil {
			return nil // the session has ended
		}
	}
}

// subscribeAll collects the notifications of the server, or of all servers. A
// server that cannot be reached has none.
func (g *Gateway) subscribeAll(c *call) (notes <-chan wire.Message, stop func()) {
	out := make(chan wire.Message, 64)
	var stops []func()
	for _, s := range g.reach(c) {
		p, release, refusal := g.acquire(c.r.Context(), c, s)
		if refusal != nil {
			continue
		}
		prefix := ""
		if c.server == nil {
			prefix = s.Name + "+"
		}
		cancel := p.subscribe(func(m wire.Message) {
			if m.Method == wire.MethodResUpdated && prefix != "" {
				m.Params = wire.SetMember(m.Params, "uri", wire.Quote(prefix+wire.LookupString(m.Params, "uri")))
			}
			g.bridges.list.drop(c)
			select {
			case out <- m:
			default: // a client that does not read asks again anyway
			}
		})
		stops = append(stops, cancel, release)
	}
	return out, func() {
		for _, f := range stops {
			f()
		}
	}
}

// bridgeEnd answers DELETE.
func (g *Gateway) bridgeEnd(c *call) *Refusal {
	b := &g.bridges
	b.mu.Lock()
	s := b.sessions[c.session]
	delete(b.sessions, c.session)
	b.mu.Unlock()
	if s == nil {
		return refuse(http.StatusNotFound, 0, "session:unknown", "This session is not known.")
	}
	s.mu.Lock()
	for _, f := range s.calls {
		f()
	}
	s.mu.Unlock()
	c.rec.Status = http.StatusNoContent
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
