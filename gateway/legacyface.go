package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kidoban/kidoban/wire"
)

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
	case wire.Result, wire.ErrorReply, wire.Notification:
		if c.Message.Kind == wire.Notification {
			g.said(c, s)
		} else {
			g.replied(c.r.Context(), s, c.Message)
		}
		c.w.WriteHeader(http.StatusAccepted)
		c.rec.Status = http.StatusAccepted
		return nil
	}
	switch c.Message.Method {
	case wire.MethodPing:
		c.writeResult(wire.Raw("{}"))
		return nil
	case wire.MethodSetLevel, wire.MethodSubscribe:
		if !rememberable(c) {
			c.writeError(wire.CodeInvalidParams, "There is no such level of the log, or the URI is longer than "+strconv.Itoa(maxSubURI)+" bytes.")
			return nil
		}
		if c.Message.Method == wire.MethodSubscribe && s.full(c.Server, c.Params.URI) {
			c.writeError(wire.CodeInvalidParams, "A session follows "+strconv.Itoa(maxSubs)+" resources at most: unsubscribe from one first.")
			return nil
		}
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
	o := outgoing{method: c.Message.Method, params: slices.Clone(c.Message.Params), caps: s.caps, who: c.who()}
	g.remind(c.r.Context(), c, s, c.server, p)
	if p.hello().era == wire.Modern {
		if done := g.legacyOnlyMethod(c, s); done {
			release()
			return nil
		}
		s.mu.Lock()
		if s.wish.level != "" {
			meta, ok := wire.Lookup(o.params, "_meta")
			if !ok {
				meta = wire.Raw("{}")
			}
			if o.params == nil {
				o.params = wire.Raw("{}")
			}
			o.params = wire.SetMember(o.params, "_meta", wire.SetMember(meta, wire.MetaLogLevel, wire.Quote(s.wish.level)))
		}
		s.mu.Unlock()
	} else {
		if c.Message.Method == wire.MethodSubscribe || c.Message.Method == wire.MethodUnsubscribe {
			leave, err := s.followingTurn(c.r.Context(), c.Server, c.Params.URI)
			if err != nil {
				release()
				return g.failed(c, err)
			}
			release = both(leave, release)
		}
		g.wished(c, s, p)
	}
	return g.serveLegacy(st, c, s, g.converse(c.server, p, release, o))
}

func both(f, g func()) func() { return func() { f(); g() } }

// legacyOnlyMethod answers methods that a modern server no longer has.
func (g *Gateway) legacyOnlyMethod(c *call, s *session) bool {
	switch c.Message.Method {
	case wire.MethodSetLevel:
		g.wished(c, s, nil)
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
	h, refusal := g.offered(c)
	if refusal != nil {
		return refusal
	}
	version := c.Params.ProtocolVersion
	if era, known := wire.EraOf(version); !known || era != wire.Legacy {
		version = wire.LatestLegacy
	}
	s := newSession(newID(), c.Caller.User, version, askable(c.Params.Capabilities), g.deps.Now())
	sealed, err := g.sealSession(c, modeBridge, s.seed())
	if err != nil {
		return refuse(http.StatusInternalServerError, wire.CodeInternal, "session", "The session cannot be opened.").because(err)
	}
	g.bridges.keep(s)
	result := wire.SetMember(wire.Raw("{}"), "protocolVersion", wire.Quote(version))
	result = wire.SetMember(result, "capabilities", legacyCapabilities(h))
	result = wire.SetMember(result, "serverInfo", h.info)
	if h.instructions != nil {
		result = wire.SetMember(result, "instructions", h.instructions)
	}
	c.w.Header().Set(wire.HeaderSession, sealed)
	return g.writeFinal(c, result)
}

// legacyCapabilities are those of the server that also hold for a legacy client:
// a modern server's subscriptions and tasks do not (mcp-authorization 3.8, 8).
func legacyCapabilities(h hello) wire.Raw {
	caps := h.capabilities
	if h.era != wire.Modern {
		return caps
	}
	if ext, ok := wire.Lookup(caps, "extensions"); ok {
		caps = wire.SetMember(caps, "extensions", wire.DropMember(ext, tasksExtension))
	}
	res, ok := wire.Lookup(caps, "resources", "subscribe")
	if !ok || string(res) != "true" {
		return caps
	}
	r, _ := wire.Lookup(caps, "resources")
	return wire.SetMember(caps, "resources", wire.SetMember(r, "subscribe", wire.Raw("false")))
}

// keep stores a session that is in use; the oldest of a user who has too many is
// forgotten until it is used again, those last that wait for an answer of either side.
// It returns the one that is stored.
func (b *bridges) keep(s *session) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have := b.sessions[s.id]; have != nil {
		return have
	}
	var oldest *session
	var at time.Time
	waits, n := false, 0
	full := len(b.sessions) >= maxSessions
	for _, o := range b.sessions {
		mine := o.user == s.user
		if mine {
			n++
		}
		if !full && !mine {
			continue
		}
		if seen, w := o.seen(); oldest == nil || !w && waits || w == waits && seen.Before(at) {
			oldest, at, waits = o, seen, w
		}
	}
	if oldest != nil && (full || n >= perUser && s.user != "") {
		delete(b.sessions, oldest.id)
	}
	b.sessions[s.id] = s
	return s
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
	a := g.answering(st, c)
	defer a.end()
	for {
		var refusal *Refusal
		ended, gone := false, false
		select {
		case <-c.r.Context().Done():
			return nil
		case <-v.ctx.Done():
			return nil // cancelled by the client: no answer (2025-11-25, cancellation)
		case <-a.tick.C:
			gone = a.alive() != nil
		case e := <-v.events:
			v.next(e)
			switch {
			case e.note != nil:
				refusal, ended, gone = a.before(*e.note)
			case e.ask != nil && s.id == "":
				e.ask.answer(reply{refusal: cannotAsk})
			case e.ask != nil:
				e.ask.params = g.withElicitationID(e.ask.method, e.ask.params)
				if refusal, ended, gone = a.before(s.ask(e.ask, g.where())); ended || gone {
					e.ask.answer(reply{refusal: cannotAsk})
				}
			case e.withdrawn != nil:
				if m, open := s.unask(e.withdrawn); open {
					refusal, ended, gone = a.before(m)
				}
			default:
				return a.finish(e)
			}
		}
		if ended || gone {
			return refusal
		}
	}
}

// bridgeListen answers GET with the notifications that belong to no request.
func (g *Gateway) bridgeListen(st *state, c *call) *Refusal {
	if c.session == "" {
		return refuse(http.StatusBadRequest, 0, "session:missing", "There is no Mcp-Session-Id header.")
	}
	s, refusal := g.session(c)
	if refusal != nil {
		return refusal
	}
	notes, _, stop := g.subscribeAll(c, s, nil)
	defer stop()
	a := g.answering(st, c)
	defer a.end()
	a.stream()
	a.notes(notes, func(m wire.Message) (wire.Message, bool) { return m, true }, func() bool {
		_, refusal := g.session(c)
		return refusal == nil // or the session has ended
	})
	return nil
}

// bridgeEnd answers DELETE.
func (g *Gateway) bridgeEnd(c *call) *Refusal {
	s, refusal := g.session(c)
	if refusal != nil {
		return refusal
	}
	if err := g.noteSession(c, s.id, sessionEnded, "ended"); err != nil {
		return (&Refusal{Status: http.StatusServiceUnavailable, Rule: "session:unreadable", Retry: 2, Say: "The session cannot be ended just now. Try again in a moment."}).because(err)
	}
	b := &g.bridges
	b.mu.Lock()
	delete(b.sessions, s.id)
	b.mu.Unlock()
	b.left(c.who())
	s.endCalls()
	c.rec.Status = http.StatusNoContent
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
