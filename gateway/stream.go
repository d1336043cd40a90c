package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

const userAgent = "kidoban/" + kidoban.Version + " (+https://github.com/kidoban/kidoban)"

// sseWriter writes server-sent events to a client, each with a deadline, so that
// a reader that does not read costs one buffer and half a minute, or less when
// there are many of them (G-PX3).
type sseWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	wait time.Duration
	g    *Gateway // whose rooms hold what is written
	user string
}

// sseEnvelope is about what an event has more than its data, in bytes.
const sseEnvelope = 256

// startStream sends the head of an event stream.
func (g *Gateway) startStream(c *call) *sseWriter {
	h := c.w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["Cache-Control"] = []string{"no-store"}
	h.Set("X-Accel-Buffering", "no") // TR-19
	c.w.WriteHeader(http.StatusOK)
	c.dated = true
	s := &sseWriter{w: c.w, rc: http.NewResponseController(c.w), wait: c.st.config.WriteWait, g: g, user: c.Caller.User}
	_ = s.write(nil, nil, "")
	return s
}

// write sends what there is, the head of the stream at least: a head, which is in a
// room and goes back there, and what follows it.
func (s *sseWriter) write(head []byte, value wire.Raw, tail string) error {
	wait := s.g.stalls.enter(s.user, s.wait)
	defer s.g.stalls.leave(s.user)
	_ = s.rc.SetWriteDeadline(time.Now().Add(wait)) // the kernel's clock; not every writer has deadlines
	if len(head) > 0 {
		if err := writeParts(s.w, &s.g.rooms, head, value, tail); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}

func (s *sseWriter) event(ev wire.Event) error {
	return s.write(wire.AppendEvent(s.g.rooms.Take(len(ev.Data)+sseEnvelope), ev), nil, "")
}

func (s *sseWriter) message(m wire.Message) error {
	return s.relay(wire.Event{Type: "message"}, m)
}

// relay writes an event of a server whose data is now m.
func (s *sseWriter) relay(ev wire.Event, m wire.Message) error {
	return s.write(wire.SplitMessageEvent(s.g.rooms.Take(sseEnvelope), ev, m))
}

func (s *sseWriter) comment() error {
	return s.write(wire.AppendComment(s.g.rooms.Take(sseEnvelope), ""), nil, "")
}

// read is what the reader of a server's stream hands over.
type read struct {
	ev  wire.Event
	err error
}

// events reads the server's stream in a goroutine that ends with ctx or with the
// stream. It reads no event before next says that the last one is out: a slow
// client slows the server down, and one event is all that is held for it. With
// passing nobody keeps anything of an event that is out, and its memory serves again.
func events(ctx context.Context, r *hoarder, max int, passing bool) (out chan read, next chan struct{}) {
	out, next = make(chan read), make(chan struct{}, 1)
	go func() {
		defer r.rest()
		in := wire.NewEventReader(r, max).Bare()
		var ev wire.Event
		for {
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
			r.rest()
			if passing {
				wire.Recycle(ev)
			}
			var err error
			ev, err = in.Next()
			select {
			case out <- read{ev, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out, next
}

// stream relays an event stream until its end. For the answer to a POST that is
// the answer to the request (open is false); a stream of its own stays open.
func (g *Gateway) stream(st *state, c *call, up *upcall, open bool) *Refusal {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	// Of answers but those of tools, parts are kept, as in document.
	in, next := events(ctx, c.server.hoarder(ctx, c.Caller.User, up), st.config.MaxResponse, c.Message.Method == wire.MethodToolsCall)
	next <- struct{}{}
	out := g.startStream(c)
	tick := time.NewTicker(st.config.KeepAlive)
	defer tick.Stop()
	drain := g.drain.Done()
	if !open && c.Message.Method != wire.MethodListen {
		drain = nil // a call under way is finished
	}
	for {
		select {
		case <-ctx.Done():
			up.gone = true
			return nil
		case <-drain:
			up.gone = true
			return nil
		case <-tick.C:
			if out.comment() != nil {
				up.gone = true
				return nil
			}
			if (open || c.Message.Method == wire.MethodListen) && c.outlived(g.deps.Now()) {
				up.gone = true
				return nil
			}
			if open {
				up.touch() // a quiet stream of notifications is no fault
			}
		case r := <-in:
			if open && r.err == nil && g.connects(c, c.server) != nil { // rules may have changed since the stream began
				up.gone = true
				return nil
			}
			if r.err != nil {
				return g.streamEnd(c, up, out, open, r.err)
			}
			last, refusal, err := g.streamEvent(st, c, out, r.ev, open)
			if refusal != nil {
				up.failed = true
				g.refuseStream(c, out, refusal)
				return nil
			}
			if err != nil {
				up.gone = true
				return nil
			}
			if last && !open {
				return nil
			}
			next <- struct{}{}
		}
	}
}

// streamEnd is the end of the server's stream before the answer came. A legacy
// client may come back with Last-Event-ID, so its stream just ends.
func (g *Gateway) streamEnd(c *call, up *upcall, out *sseWriter, open bool, err error) *Refusal {
	clean := errors.Is(err, io.EOF)
	if open || clean && c.Era == wire.Legacy {
		return nil
	}
	if errors.Is(err, errCrowded) {
		up.gone = true
		g.refuseStream(c, out, crowded(c.Server, err))
		return nil
	}
	up.failed = true
	g.refuseStream(c, out, refuse(http.StatusOK, wire.CodeInternal, "upstream:cut", "The server "+c.Server+" ended its answer before it was complete.").because(err))
	return nil
}

// refuseStream answers in a stream that has begun.
func (g *Gateway) refuseStream(c *call, out *sseWriter, r *Refusal) {
	c.rec.Decision, c.rec.Rule = "refused", r.Rule
	if r.Cause != nil {
		g.deps.Log.Info("refused", "request", c.ID, "rule", r.Rule, "cause", r.Cause)
	}
	if c.Message.Kind != wire.Request {
		return
	}
	rpc := r.RPC
	if rpc == 0 {
		rpc = wire.CodeInternal
	}
	_ = out.event(wire.Event{Type: "message", Data: wire.AppendError(nil, c.Message.ID, rpc, r.Say, r.Data)}) // the client may have gone
}

// streamEvent relays one event; last tells that it was the answer.
func (g *Gateway) streamEvent(st *state, c *call, out *sseWriter, ev wire.Event, open bool) (last bool, refusal *Refusal, err error) {
	if len(ev.Type) > 64 {
		return false, nil, nil
	}
	ev.Data = withoutSecrets(ev.Data, c.account)
	ev.ID, ev.HasID = g.outEvent(c, ev)
	if foreign := ev.Type != "" && ev.Type != "message"; foreign || len(ev.Data) == 0 {
		// Carries an id or a delay at most; what else a foreign event says is not MCP.
		if foreign {
			ev.Data = nil
		}
		return false, nil, out.event(ev)
	}
	leave, err := g.heavy.enter(c.r.Context(), len(ev.Data))
	if err != nil {
		return false, nil, err
	}
	defer leave()
	m, rerr := st.answers.Read(ev.Data)
	if rerr != nil {
		return false, refuse(http.StatusOK, wire.CodeInternal, "upstream:malformed", "The server "+c.Server+" sent something that is not a valid message.").because(rerr), nil
	}
	if m.Misplaced() || !g.hears(c, c.server, m) {
		return false, nil, nil
	}
	switch m.Kind {
	case wire.Request:
		if c.Era == wire.Modern { // TR-11
			return false, refuse(http.StatusOK, wire.CodeInternal, "upstream:request", "The server "+c.Server+" sent a request, which this protocol version does not allow."), nil
		}
	case wire.Result, wire.ErrorReply:
		last = true
		if open && (c.Message.Kind == 0 || !m.ID.Equal(c.Message.ID)) { // of the request that the stream resumes, or nobody's
			return false, nil, nil
		}
		if m, refusal = g.back(c, m); refusal != nil {
			return false, refusal, nil
		}
		leave()
		return last, nil, out.relay(ev, m)
	}
	if m, refusal = g.guardMessage(c, m); refusal != nil {
		return false, refusal, nil
	}
	leave()
	return last, nil, out.relay(ev, m)
}

// listen answers GET: the legacy stream of a session.
func (g *Gateway) listen(st *state, c *call) *Refusal {
	if refusal := c.legacyOnly(); refusal != nil {
		return refusal
	}
	if refusal := g.openSession(c); refusal != nil {
		return refusal
	}
	c.rec.Method = "GET"
	if refusal := g.turned(c); refusal != nil {
		return refusal
	}
	if c.server != nil {
		c.Upstream = &c.server.Server
		if refusal := g.connects(c, c.server); refusal != nil {
			return refusal
		}
	}
	if bridge, _ := g.needsBridge(c); bridge {
		return g.bridgeListen(st, c)
	}
	var refusal *Refusal
	if c.after, refusal = g.lastEvent(c); refusal != nil {
		return refusal
	}
	resp, up, refusal := g.send(st, c, http.MethodGet, nil)
	if refusal != nil {
		return refusal
	}
	defer up.close()
	mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && mt == "text/event-stream" {
		return g.stream(st, c, up, true)
	}
	return g.plain(c, resp, up)
}

// end answers DELETE: the end of a legacy session.
func (g *Gateway) end(st *state, c *call) *Refusal {
	if refusal := c.legacyOnly(); refusal != nil {
		return refusal
	}
	if refusal := g.openSession(c); refusal != nil {
		return refusal
	}
	c.rec.Method = "DELETE"
	if c.session == "" {
		return refuse(http.StatusBadRequest, 0, "session:missing", "There is no Mcp-Session-Id header.")
	}
	if bridge, _ := g.needsBridge(c); bridge {
		return g.bridgeEnd(c)
	}
	resp, up, refusal := g.send(st, c, http.MethodDelete, nil)
	if refusal != nil {
		return refusal
	}
	defer up.close()
	if resp.StatusCode/100 == 2 {
		c.rec.Status = resp.StatusCode
		c.w.WriteHeader(resp.StatusCode)
		return nil
	}
	return g.plain(c, resp, up)
}

// legacyOnly prepares a GET or DELETE, which only legacy has (TR-03).
func (c *call) legacyOnly() *Refusal {
	c.Era, c.Version = wire.Legacy, c.r.Header.Get(wire.HeaderVersion)
	if era, _ := wire.EraOf(c.Version); era == wire.Modern {
		c.w.Header().Set("Allow", "POST")
		return refuse(http.StatusMethodNotAllowed, 0, "method", "In this protocol version messages are sent with POST only.")
	}
	return nil
}

// plain passes the status of a server on where legacy gives it a meaning.
func (g *Gateway) plain(c *call, resp *http.Response, up *upcall) *Refusal {
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed:
		c.w.Header().Set("Allow", "POST")
		return refuse(http.StatusMethodNotAllowed, 0, "upstream:method", "The server "+c.Server+" does not offer this.")
	case http.StatusNotFound, http.StatusBadRequest, http.StatusConflict, http.StatusNotAcceptable:
		return refuse(resp.StatusCode, 0, "upstream:refused", "The server "+c.Server+" did not accept this.")
	}
	return g.misfit(c, resp, up)
}
