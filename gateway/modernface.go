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
		g.said(c, nil)
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
	o := outgoing{method: c.Message.Method, params: slices.Clone(c.Message.Params), caps: slices.Clone(c.Params.Capabilities), who: c.who()}
	if !inputAllowed(c.Message.Method) {
		o.caps = nil // such a request may not ask (TR-18)
	}
	return g.serveModern(st, c, &hold{user: c.Caller.User, conv: g.converse(c.server, p, release, o)})
}

// discover says what the server offers, in the modern way.
func (g *Gateway) discover(c *call) *Refusal {
	h, refusal := g.offered(c)
	if refusal != nil {
		return refusal
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
	result = wire.SetMember(result, "_meta", wire.SetMember(wire.Raw("{}"), "io.modelcontextprotocol/serverInfo", h.info))
	if h.instructions != nil {
		result = wire.SetMember(result, "instructions", h.instructions)
	}
	return g.writeFinal(c, result)
}

// serveModern follows a conversation for a modern client. When the server asks
// something, the request ends with input_required and the conversation is held.
func (g *Gateway) serveModern(st *state, c *call, h *hold) *Refusal {
	a := g.answering(st, c)
	defer a.end()
	level := wire.LookupString(c.Params.Meta, wire.MetaLogLevel)
	for {
		var refusal *Refusal
		ended, gone := false, false
		select {
		case <-c.r.Context().Done(): // closing the answer is cancelling the request (TR-12)
			gone = true
		case <-a.tick.C:
			gone = a.alive() != nil
		case e := <-h.conv.events:
			h.conv.next(e)
			switch {
			case e.ask != nil:
				result, refusal := g.askModern(c, h, e.ask)
				if refusal != nil {
					e.ask.answer(reply{refusal: cannotAsk})
					h.conv.cancel()
					return a.refuse(refusal)
				}
				a.result(wire.Message{Kind: wire.Result, ID: c.Message.ID, Result: result}) // if the client has gone, the hold expires
				return nil
			case e.withdrawn != nil: // the client is not being asked: this era has no such thing
			case e.note == nil:
				h.conv.cancel()
				return a.finish(e)
			case e.note.Method == wire.MethodLogMessage && level == "", e.note.Method == methodElicited: // TR-11; the other is the earlier era's
			default:
				refusal, ended, gone = a.before(*e.note)
			}
		}
		if ended || gone { // the server will be asked nothing more
			h.conv.cancel()
			return refusal
		}
	}
}

// askModern guards a question of the server and holds the conversation until the
// client comes back with the answer.
func (g *Gateway) askModern(c *call, h *hold, q *question) (wire.Raw, *Refusal) {
	asked, refusal := g.guardMessage(c, wire.Message{Kind: wire.Request, Method: q.method, Params: q.params})
	if refusal != nil {
		return nil, refusal
	}
	h.asked = q
	h.asked.params = withToken(asked.Params, nil) // nor progress of what it is asked
	if urlMode(q.method, q.params) {
		h.asked.params = wire.DropMember(q.params, "elicitationId")
	}
	return g.park(c, h)
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
	h.asked.asked.Store(true)
	b.holds[h.id] = h
	h.timer = time.AfterFunc(holdLife, func() {
		if g.unpark(h.id) != nil {
			h.asked.answer(reply{refusal: cannotAsk})
			h.conv.cancel()
		}
	})
	b.mu.Unlock()
	params := h.asked.params
	if params == nil {
		params = wire.Raw("{}") // the Go SDK's client reads no question without
	}
	ask := wire.SetMember(wire.SetMember(wire.Raw("{}"), "method", wire.Quote(h.asked.method)), "params", params)
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
	h.asked.answer(reply{result: slices.Clone(answer)})
	return g.serveModern(st, c, h)
}

func stateUsed() *Refusal {
	return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "state:used", "The requestState was used or has expired. Start again without it.")
}
