package gateway

import (
	"time"

	"github.com/kidoban/kidoban/wire"
)

// answering is the answer to one request of a client while it grows: one document
// when nothing but the result comes, and a stream from the first thing on that
// comes before it. Both faces of the bridge write through it.
type answering struct {
	g    *Gateway
	c    *call
	out  *sseWriter // nil until there is a stream
	tick *time.Ticker
}

// answering begins an answer; end must be called.
func (g *Gateway) answering(st *state, c *call) *answering {
	return &answering{g: g, c: c, tick: time.NewTicker(st.config.KeepAlive)}
}

func (a *answering) end() { a.tick.Stop() }

func (a *answering) stream() *sseWriter {
	if a.out == nil {
		a.out = a.g.startStream(a.c)
	}
	return a.out
}

// alive tells the client that the answer is still to come.
func (a *answering) alive() error { return a.stream().comment() }

// before guards and writes what the server says before its result. A refusal is
// the end of the answer; gone says that the client is.
func (a *answering) before(m wire.Message) (refusal *Refusal, ended, gone bool) {
	m, refusal = a.g.guardMessage(a.c, m)
	if refusal != nil {
		return a.refuse(refusal), true, false
	}
	return nil, false, a.stream().message(m) != nil
}

// refuse ends the answer: in the stream, or by the refusal it returns.
func (a *answering) refuse(r *Refusal) *Refusal {
	if a.out == nil {
		return r
	}
	a.g.refuseStream(a.c, a.out, r)
	return nil
}

// result ends the answer with a message that was judged.
func (a *answering) result(m wire.Message) {
	if a.out == nil {
		a.c.writeMessage(m)
		return
	}
	_ = a.out.message(m) // the client may have gone
}

// finish ends the answer as the conversation ended.
func (a *answering) finish(e event) *Refusal {
	if e.err != nil {
		return a.refuse(a.g.failed(a.c, e.err))
	}
	m, refusal := a.g.final(a.c, *e.done)
	if refusal != nil {
		return a.refuse(refusal)
	}
	a.result(m)
	return nil
}

// notes writes notifications until the client goes, or the gateway drains or the grant
// ends, which it tells. pass chooses and changes them; while it says so, the stream goes on.
func (a *answering) notes(notes *notices, pass func(wire.Message) (wire.Message, bool), lives func() bool) (drained bool) {
	var announced time.Time
	for {
		var err error
		select {
		case <-a.c.r.Context().Done():
			return false
		case <-a.g.drain.Done():
			return true
		case <-a.tick.C:
			if a.c.outlived(a.g.deps.Now()) {
				return true
			}
			err = a.alive()
		case n := <-notes.in:
			notes.wait.took(n.m)
			m, ok := a.notice(notes, n, pass)
			if !ok {
				if n.ask != nil {
					notes.s.unask(n.ask)
					n.ask.answer(reply{refusal: cannotAsk})
				}
				continue
			}
			a.g.announce(a.c.r.Context(), a.c.Caller, n.m.Method, &announced)
			err = a.stream().message(m)
		}
		if err != nil || !lives() {
			return false
		}
	}
}

// notice is what the client is told, as its server's guards let it.
func (a *answering) notice(notes *notices, n notice, pass func(wire.Message) (wire.Message, bool)) (wire.Message, bool) {
	if a.g.connects(a.c, n.from) != nil || !a.g.hears(a.c, n.from, n.m) { // rules may have changed since the stream began
		return wire.Message{}, false
	}
	if n.ask != nil {
		n.ask.params = a.g.withElicitationID(n.ask.method, n.ask.params)
	}
	m, ok := notes.message(n, a.g.where())
	if ok {
		m, ok = pass(a.c.outside(n.from, m))
	}
	if !ok {
		return m, false
	}
	one := *a.c // as if the server's own endpoint had been called
	one.server, one.Server, one.Upstream = n.from, n.from.Name, &n.from.Server
	m, refusal := a.g.guardMessage(&one, m)
	return m, refusal == nil
}

// guardMessage guards what a server says before its answer, or to nobody's request.
func (g *Gateway) guardMessage(c *call, m wire.Message) (wire.Message, *Refusal) {
	m, refusal := g.pages(c, m)
	if refusal != nil {
		return m, refusal
	}
	m = g.sealTasks(c, m)
	if r := g.deps.Guards.Results; r != nil {
		return r.Guard(c.r.Context(), &c.Call, m)
	}
	return m, nil
}

// offered is what the server of the call says of itself, or the aggregate.
func (g *Gateway) offered(c *call) (hello, *Refusal) {
	h := aggregateHello
	if c.server != nil {
		p, release, refusal := g.acquire(c.r.Context(), c, c.server)
		if refusal != nil {
			return h, refusal
		}
		h = p.hello()
		release()
	}
	if h.info == nil {
		h.info = clientInfo()
	}
	return h, nil
}

// writeFinal ends a call with a result that the gateway made itself.
func (g *Gateway) writeFinal(c *call, result wire.Raw) *Refusal {
	m, refusal := g.final(c, wire.Message{Kind: wire.Result, Result: result})
	if refusal == nil {
		c.writeMessage(m)
	}
	return refusal
}
