package gateway

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// pipe carries whole messages in both directions: the lines of a process, or the
// two endpoints of HTTP+SSE.
type pipe interface {
	send(ctx context.Context, msg []byte) error
	recv() ([]byte, error) // blocks; an error ends the pipe
	close()
}

// duplex is a peer over a pipe. One goroutine reads; it ends with the pipe.
type duplex struct {
	pipe   pipe
	reader *wire.Reader
	said   hello
	ended  chan struct{}

	mu      sync.Mutex
	shared  bool   // several clients use it: what belongs to no call is told to nobody; guarded by mu
	client  string // that used it first; guarded by mu
	next    int64
	pending map[string]*pending // by raw id; guarded by mu
	order   []*pending          // oldest first; guarded by mu
	given   map[string]int      // calls that were given up of late, by who; guarded by mu
	subs    fan                 // guarded by mu
	err     error               // why it ended; guarded by mu

	questions questions
}

// pending is a request of ours that waits for its answer.
type pending struct {
	id    string
	asks  string   // the method
	who   string   // outgoing.who
	token wire.Raw // the client's progress token; nil without
	h     handler
	caps  wire.Raw
	ctx   context.Context
	reply chan wire.Message
}

// openDuplex starts reading and introduces us: legacy first, which servers of
// both eras understand on a pipe; a server that knows the modern era alone says so.
func openDuplex(ctx context.Context, p pipe, reader *wire.Reader, shared bool, era wire.Era) (*duplex, error) {
	d := &duplex{pipe: p, reader: reader, shared: shared, ended: make(chan struct{}), pending: map[string]*pending{}}
	go d.read()
	if err := d.introduce(ctx, era); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *duplex) introduce(ctx context.Context, era wire.Era) error {
	if era != wire.Modern {
		m, err := d.exchange(ctx, outgoing{method: wire.MethodInitialize, params: initializeParams(d.shared)}, handler{})
		if err != nil {
			return err
		}
		if m.Kind == wire.Result {
			d.said = helloOf(wire.Legacy, m.Result)
			return d.pipe.send(ctx, wire.AppendNotification(nil, wire.MethodInitialized, nil))
		}
		if era == wire.Legacy || !wire.IsModernCode(errorCode(m)) && errorCode(m) != wire.CodeMethodNotFound {
			return kidoban.Errorf(kidoban.KindInput, "The server refused to begin a session.")
		}
	}
	m, err := d.exchange(ctx, outgoing{method: wire.MethodDiscover, params: discoverParams()}, handler{})
	if err != nil {
		return err
	}
	if m.Kind != wire.Result {
		return kidoban.Errorf(kidoban.KindInput, "The server refused to say what it offers.")
	}
	d.said = helloOf(wire.Modern, m.Result)
	return nil
}

func (d *duplex) hello() hello          { return d.said }
func (d *duplex) done() <-chan struct{} { return d.ended }
func (d *duplex) close()                { d.pipe.close() }

func (d *duplex) subscribe(s subscriber) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.subs.add(s)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.subs.to, n)
	}
}

func (d *duplex) request(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	if d.said.era == wire.Modern {
		return rounds(ctx, o, h, func(params wire.Raw) (wire.Message, error) { o.params = params; return d.exchange(ctx, o, h) })
	}
	o.params = legacyParams(o.params)
	return d.exchange(ctx, o, h)
}

// exchange sends one request under an id of our own and waits for its answer.
func (d *duplex) exchange(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	method, params := o.method, o.params
	p := &pending{asks: method, who: o.who, h: h, caps: o.caps, ctx: ctx, reply: make(chan wire.Message, 1)}
	d.mu.Lock()
	if d.err != nil {
		d.mu.Unlock()
		return wire.Message{}, d.gone()
	}
	d.next++
	p.id = strconv.FormatInt(d.next, 10)
	d.pending[p.id] = p
	d.order = append(d.order, p)
	d.mu.Unlock()
	defer d.forget(p)
	if token, ok := wire.Lookup(params, "_meta", wire.MetaProgressToken); ok {
		p.token = append(wire.Raw(nil), token...)
		params = withToken(params, wire.Quote("k"+p.id))
	}
	if err := d.pipe.send(ctx, wire.AppendRequest(nil, wire.ID{Raw: wire.Raw(p.id)}, method, params)); err != nil {
		return wire.Message{}, kidoban.Wrap(kidoban.KindUnreachable, err, "The server cannot be reached.")
	}
	select {
	case m := <-p.reply:
		return m, nil
	case <-d.ended:
		return wire.Message{}, d.gone()
	case <-ctx.Done():
		if inputAllowed(method) {
			d.giveUp(p.who)
		}
		d.cancelled(p, method)
		return wire.Message{}, kidoban.Wrap(kidoban.KindUnreachable, context.Cause(ctx), "The server did not answer in time.")
	}
}

// cancelled tells the server that nobody waits any more.
func (d *duplex) cancelled(p *pending, method string) {
	if method == wire.MethodInitialize {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 2*time.Second)
	defer cancel()
	_ = d.pipe.send(ctx, wire.AppendNotification(nil, wire.MethodCancelled, wire.Raw(`{"requestId":`+p.id+`}`))) // a courtesy
}

// lingers is how long a server may still be at a call that was given up.
const lingers = time.Minute

// giveUp notes a call that the server may still be at: what it asks, or logs, may be
// about that one, and is nothing for another client.
func (d *duplex) giveUp(who string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.given == nil {
		d.given = map[string]int{}
	}
	d.given[who]++
	time.AfterFunc(lingers, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.given[who]--; d.given[who] == 0 {
			delete(d.given, who)
		}
	})
}

// another tells whether the server may be at a call that somebody else has given up.
// The caller holds mu.
func (d *duplex) another(who string) bool {
	if !d.shared {
		return false
	}
	for other := range d.given {
		if other != who {
			return true
		}
	}
	return false
}

func (d *duplex) forget(p *pending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, p.id)
	d.order = slices.DeleteFunc(d.order, func(o *pending) bool { return o == p })
	if !slices.ContainsFunc(d.order, func(o *pending) bool { return o.who == p.who }) {
		d.questions.left(p.who)
	}
}

func (d *duplex) gone() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return kidoban.Wrap(kidoban.KindUnreachable, d.err, "The server has ended.")
}

// read is the peer's goroutine.
func (d *duplex) read() {
	defer close(d.ended)
	for {
		raw, err := d.pipe.recv()
		if err == nil {
			var m wire.Message
			if m, err = d.reader.Read(raw); err == nil {
				d.arrived(own(m))
				continue
			}
			if len(raw) == 0 || raw[0] != '{' && raw[0] != '[' {
				continue // a line of text that some programs print; not a message, not an answer
			}
		}
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
		d.pipe.close()
		d.questions.end()
		return
	}
}

func (d *duplex) arrived(m wire.Message) {
	switch m.Kind {
	case wire.Result, wire.ErrorReply:
		d.mu.Lock()
		p := d.pending[string(m.ID.Raw)]
		delete(d.pending, string(m.ID.Raw)) // one answer
		d.mu.Unlock()
		if p != nil {
			p.reply <- m
		}
	case wire.Notification:
		if !m.Misplaced() {
			d.note(m)
		}
	case wire.Request:
		d.asked(m)
	}
}

// note routes a notification: progress to its request, what belongs to requests to the
// only one there is, everything else to the subscribers. Of several clients, the only
// one with a call is not whose task is done or whose page is closed: that may come at
// any time.
func (d *duplex) note(m wire.Message) {
	d.mu.Lock()
	var to *pending
	switch m.Method {
	case wire.MethodProgress:
		token, _ := wire.Lookup(m.Params, "progressToken")
		text, _ := wire.String(token)
		if len(text) > 1 && text[0] == 'k' {
			to = d.pending[text[1:]]
		}
		if to == nil || to.token == nil {
			d.mu.Unlock()
			return
		}
		m.Params = wire.SetMember(m.Params, "progressToken", to.token)
	case wire.MethodCancelled:
		id, _ := wire.Lookup(m.Params, "requestId")
		to = d.pending[string(id)]
		d.mu.Unlock()
		if d.questions.withdraw(id); to != nil && to.asks == wire.MethodListen && d.said.era == wire.Modern {
			d.arrived(wire.Message{Kind: wire.ErrorReply, ID: wire.ID{Raw: id}, Error: cannotAsk}) // the server ends the stream
		}
		return
	case wire.MethodToolsChanged, wire.MethodPromptsChanged, wire.MethodResChanged, wire.MethodResUpdated:
	default:
		if len(d.order) == 1 && !d.another(d.order[0].who) && (m.Method == wire.MethodLogMessage || !d.shared || d.said.era == wire.Modern) {
			to = d.order[0]
		}
	}
	if to != nil {
		d.mu.Unlock()
		if to.h.note != nil {
			to.h.note(m)
		}
		return
	}
	if d.shared && !changesLists(m.Method) && m.Method != wire.MethodResUpdated {
		d.mu.Unlock()
		return // whose it is, is not known: a line of the log, a task of somebody's
	}
	subs := d.subs.all()
	d.mu.Unlock()
	for _, s := range subs {
		s.note(m)
	}
}

// tell keeps to itself what the server would take for what another client says.
func (d *duplex) tell(ctx context.Context, client, method string, params wire.Raw) {
	d.mu.Lock()
	its := !d.shared && d.client == client
	d.mu.Unlock()
	if its {
		_ = d.pipe.send(ctx, wire.AppendNotification(nil, method, params))
	}
}

// usedBy notes a client that uses the pipe. Two clients of one user are no more to
// each other than those of two (G-PX5).
func (d *duplex) usedBy(client string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == "" {
		d.client = client
	}
	d.shared = d.shared || d.client != client
}

// asker is who a request of the server belongs to: the newest call that may be asked
// it, if all that are under way or given up of late come from one session of one client;
// without any, who listens, if that is one session. Which of several the server means, a
// pipe does not say, so then it is none.
func (d *duplex) asker(m wire.Message) (a asking) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var last *pending
	for _, o := range d.order {
		if last != nil && (o.who != last.who || o.who == "") { // a replica of an earlier version says nothing
			return asking{}
		}
		last = o
		if o.h.ask != nil && capable(o.caps, m.Method, m.Params) { // lists, say, may not
			a = asking{o.ctx, o.caps, o.h, o.who}
		}
	}
	switch {
	case last != nil && d.another(last.who):
		return asking{}
	case last != nil || d.shared:
		return a
	}
	if s, ok := d.subs.asker(); ok {
		a = asking{ctx: s.ctx, caps: s.caps, h: s.handler}
	}
	return a.of(m)
}

// asked routes a request of the server to the client that is being served.
func (d *duplex) asked(m wire.Message) {
	switch {
	case m.Method == wire.MethodPing:
		d.answer(m.ID, wire.Raw("{}"), nil)
	case d.said.era == wire.Modern:
		d.answer(m.ID, nil, cannotAsk)
	default:
		d.questions.put(func() asking { return d.asker(m) }, m, progressBy(d.pipe.send), func(result, refusal wire.Raw) { d.answer(m.ID, result, refusal) })
	}
}

func (d *duplex) answer(id wire.ID, result, refusal wire.Raw) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	msg := wire.AppendResult(nil, id, result)
	if refusal != nil {
		msg = wire.AppendErrorRaw(nil, id, refusal)
	}
	_ = d.pipe.send(ctx, msg) // a pipe that is gone ends the call by itself
}
