package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// hold is a request of a modern client whose server waits for input: the
// conversation is kept while the client goes to get it, and goes on when the
// client comes back with the requestState that names it.
type hold struct {
	id    string
	user  string
	conv  *conversation
	asked *question
	timer *time.Timer
}

// holdLife is how long a server is made to wait for a person.
const holdLife = 10 * time.Minute

// inputKey is the name of the one input that is asked for at a time.
const inputKey = "input"

// bridgeModern answers a modern client.
func (g *Gateway) bridgeModern(st *state, c *call) *Refusal {
	if c.Message.Kind == wire.Notification {
		c.w.WriteHeader(http.StatusAccepted)
		c.rec.Status = http.StatusAccepted
		return nil
	}
	switch c.Message.Method {
	case wire.MethodDiscover:
		return g.discover(c)
	case wire.MethodListen:
		return g.subscriptions(st, c)
	case wire.MethodInitialize, wire.MethodPing, wire.MethodSetLevel, wire.MethodSubscribe, wire.MethodUnsubscribe:
		c.writeError(wire.CodeMethodNotFound, "This protocol version has no such method.")
		return nil
	}
	if c.mode == modeBridge {
		return g.resume(st, c)
	}
	if c.server == nil {
		return g.aggregate(st, c)
	}
	p, release, refusal := g.acquire(c.r.Context(), c, c.server)
	if refusal != nil {
		return refusal
	}
	o := outgoing{method: c.Message.Method, params: slices.Clone(c.Message.Params), caps: slices.Clone(c.Params.Capabilities)}
	if !inputAllowed(c.Message.Method) {
		o.caps = nil // such a request may not ask (TR-18)
	}
	return g.serveModern(st, c, &hold{user: c.Caller.User, conv: g.converse(c.server, p, release, o)})
}

// discover says what the server offers, in the modern way.
func (g *Gateway) discover(c *call) *Refusal {
	h := aggregateHello
	if c.server != nil {
		p, release, refusal := g.acquire(c.r.Context(), c, c.server)
		if refusal != nil {
			return refusal
		}
		h = p.hello()
		release()
	}
	versions := wire.Raw{'['}
	for i, v := range modernVersions() {
		if i > 0 {
			versions = append(versions, ',')
		}
		versions = wire.AppendQuote(versions, v)
	}
	result := wire.SetMember(wire.Raw("{}"), "supportedVersions", append(versions, ']'))
	caps := wire.DropMember(h.capabilities, "tasks") // the legacy experiment is another protocol
	result = wire.SetMember(result, "capabilities", caps)
	info := h.info
	if info == nil {
		info = clientInfo()
	}
	result = wire.SetMember(result, "_meta", wire.SetMember(wire.Raw("{}"), "io.modelcontextprotocol/serverInfo", info))
	if h.instructions != nil {
		result = wire.SetMember(result, "instructions", h.instructions)
	}
	m, refusal := g.final(c, wire.Message{Kind: wire.Result, Result: result})
	if refusal != nil {
		return refusal
	}
	c.writeMessage(m)
	return nil
}

// serveModern follows a conversation for a modern client. When the server asks
// something, the request ends with input_required and the conversation is held.
func (g *Gateway) serveModern(st *state, c *call, h *hold) *Refusal {
	var out *sseWriter
	tick := time.NewTicker(st.config.KeepAlive)
	defer tick.Stop()
	level := wire.LookupString(c.Params.Meta, wire.MetaLogLevel)
	for {
		var err error
		select {
		case <-c.r.Context().Done(): // closing the answer is cancelling the request (TR-12)
			h.conv.cancel()
			return nil
		case <-tick.C:
			if out == nil {
				out = g.startStream(c)
			}
			err = out.comment()
		case e := <-h.conv.events:
			switch {
			case e.ask != nil:
				h.asked = e.ask
				asked, refusal := g.guardMessage(c, wire.Message{Kind: wire.Request, Method: e.ask.method, Params: e.ask.params})
				if refusal != nil {
					h.conv.cancel()
					return refusal
				}
				h.asked.params = asked.Params
				result, refusal := g.park(c, h)
				if refusal != nil {
					h.conv.cancel()
					return refusal
				}
				m := wire.Message{Kind: wire.Result, ID: c.Message.ID, Result: result}
				if out != nil {
					_ = out.message(m) // the client may have gone; the hold expires
				} else {
					c.writeMessage(m)
				}
				return nil
			case e.note == nil:
				h.conv.cancel()
				return g.finish(c, out, e)
			case e.note.Method == wire.MethodLogMessage && level == "": // TR-11
				continue
			}
			note, refusal := g.guardMessage(c, *e.note)
			if refusal != nil { // the server will be asked nothing more
				h.conv.cancel()
				if out == nil {
					return refusal
				}
				g.refuseStream(c, out, refusal)
				return nil
			}
			if out == nil {
				out = g.startStream(c)
			}
			err = out.message(note)
		}
		if err != nil {
			h.conv.cancel()
			return nil
		}
	}
}

// guardMessage guards what a server says before its answer.
func (g *Gateway) guardMessage(c *call, m wire.Message) (wire.Message, *Refusal) {
	if r := g.deps.Guards.Results; r != nil {
		return r.Guard(c.r.Context(), &c.Call, m)
	}
	return m, nil
}

// park keeps the conversation and returns the result that asks for input.
func (g *Gateway) park(c *call, h *hold) (wire.Raw, *Refusal) {
	fail := func(err error) *Refusal {
		return refuse(http.StatusServiceUnavailable, wire.CodeInternal, "hold", "The request cannot be held while you answer. Try again later.").because(err)
	}
	h.id = newID()
	if g.mail != nil { // says where it is held
		h.id = g.mail.name + "." + h.id
	}
	sealed, err := g.seal.seal(append([]byte{modeBridge}, h.id...), c.stateBinding(), holdLife)
	if err != nil {
		return nil, fail(err)
	}
	b := &g.bridges
	b.mu.Lock()
	n := 0
	for _, o := range b.holds {
		if o.user == h.user {
			n++
		}
	}
	if len(b.holds) >= maxSessions || n >= perUser && h.user != "" {
		b.mu.Unlock()
		return nil, fail(nil)
	}
	b.holds[h.id] = h
	h.timer = time.AfterFunc(holdLife, func() {
		if g.unpark(h.id) != nil {
			h.conv.cancel()
		}
	})
	b.mu.Unlock()
	ask := wire.SetMember(wire.Raw("{}"), "method", wire.Quote(h.asked.method))
	if h.asked.params != nil {
		ask = wire.SetMember(ask, "params", h.asked.params)
	}
	result := wire.SetMember(wire.Raw(`{"resultType":"input_required"}`), "inputRequests", wire.SetMember(wire.Raw("{}"), inputKey, ask))
	return wire.SetMember(result, "requestState", wire.Quote(sealed)), nil
}

// unpark takes a hold out: exactly one caller gets it.
func (g *Gateway) unpark(id string) *hold {
	b := &g.bridges
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.holds[id]
	delete(b.holds, id)
	if h != nil && h.timer != nil {
		h.timer.Stop()
	}
	return h
}

// resume goes on with a held conversation. The sealed state has proven that it
// is the same user, client and request.
func (g *Gateway) resume(st *state, c *call) *Refusal {
	h := g.unpark(string(c.upState))
	answer, ok := wire.Lookup(c.Params.InputResponses, inputKey)
	if !ok {
		answer = wire.Raw(`{"action":"cancel"}`)
	}
	if h == nil {
		home, _, far := strings.Cut(string(c.upState), ".")
		if !far || g.mail == nil || !g.mail.alive(home) {
			return stateUsed()
		}
		l := letter{Kind: "resume", ID: slices.Clone(c.upState), Result: slices.Clone(answer)}
		return g.serveModern(st, c, &hold{user: c.Caller.User, conv: g.talk(func() {}, func(string, wire.Raw) bool { return true }, // the holder has judged
			func(ctx context.Context, h handler) (wire.Message, error) {
				e, err := g.mail.lead(ctx, home, l, h)
				return e.message(), err
			})})
	}
	h.asked.reply <- reply{result: slices.Clone(answer)} // has room for one
	return g.serveModern(st, c, h)
}

func stateUsed() *Refusal {
	return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "state:used", "The requestState was used or has expired. Start again without it.")
}

// subscriptions serves subscriptions/listen: first what will come, then what
// was asked for and nothing else (TR-13).
func (g *Gateway) subscriptions(st *state, c *call) *Refusal {
	want, ok := wire.Lookup(c.Message.Params, "notifications")
	if !ok || want[0] != '{' {
		c.writeError(wire.CodeInvalidParams, "The params member notifications is missing.")
		return nil
	}
	kinds := map[string]string{wire.MethodToolsChanged: "toolsListChanged", wire.MethodPromptsChanged: "promptsListChanged", wire.MethodResChanged: "resourcesListChanged"}
	agreed, open := wire.Raw("{}"), map[string]bool{}
	for method, name := range kinds {
		if v, _ := wire.Lookup(want, name); string(v) == "true" {
			agreed, open[method] = wire.SetMember(agreed, name, wire.Raw("true")), true
		}
	}
	notes, stop := g.subscribeAll(c, nil)
	defer stop()
	id := slices.Clone(c.Message.ID.Raw)
	mark := func(params wire.Raw) wire.Raw {
		meta, ok := wire.Lookup(params, "_meta")
		if !ok {
			meta = wire.Raw("{}")
		}
		if params == nil {
			params = wire.Raw("{}")
		}
		return wire.SetMember(params, "_meta", wire.SetMember(meta, wire.MetaSubscriptionID, id))
	}
	out := g.startStream(c)
	ack := wire.Message{Kind: wire.Notification, Method: "notifications/subscriptions/acknowledged", Params: mark(wire.SetMember(wire.Raw("{}"), "notifications", agreed))}
	if out.message(ack) != nil {
		return nil
	}
	bye := func() *Refusal {
		_ = out.message(wire.Message{Kind: wire.Result, ID: c.Message.ID, Result: wire.SetMember(mark(nil), "resultType", wire.Raw(`"complete"`))})
		return nil
	}
	if len(open) == 0 {
		return bye()
	}
	var announced time.Time
	tick := time.NewTicker(st.config.KeepAlive)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-c.r.Context().Done():
			return nil
		case <-g.drain.Done():
			return bye()
		case <-tick.C:
			err = out.comment()
		case m := <-notes:
			if !open[m.Method] {
				continue
			}
			g.announce(c.r.Context(), c.Caller, m.Method, &announced)
			m.Params = mark(m.Params)
			err = out.message(m)
		}
		if err != nil {
			return nil
		}
	}
}
