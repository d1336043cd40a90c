package gateway

import (
	"context"
	"strconv"
	"strings"
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
	calls   underway            // guarded by mu
	made    madeTasks           // guarded by mu
	subs    fan                 // guarded by mu
	err     error               // why it ended; guarded by mu

	questions questions
	follows   following
}

// pending is a request of ours that waits for its answer.
type pending struct {
	asking
	id    string
	token wire.Raw // the client's progress token; nil without
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
func (d *duplex) left(who string)       { d.follows.left(who) }

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
	if o.method == wire.MethodSubscribe || o.method == wire.MethodUnsubscribe {
		return d.follows.request(ctx, o, func() (wire.Message, error) { return d.exchange(ctx, o, h) })
	}
	return d.exchange(ctx, o, h)
}

// exchange sends one request under an id of our own and waits for its answer.
func (d *duplex) exchange(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	method, params := o.method, o.params
	p := &pending{asking: asking{ctx, o.caps, h, o.who, method}, reply: make(chan wire.Message, 1)}
	d.mu.Lock()
	if d.err != nil {
		d.mu.Unlock()
		return wire.Message{}, d.gone()
	}
	d.next++
	p.id = strconv.FormatInt(d.next, 10)
	d.pending[p.id] = p
	d.calls.add(&p.asking)
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
			d.mu.Lock()
			if d.pending[p.id] == p { // it was not answered this moment
				d.calls.giveUp(p.id, p.who, &d.mu)
			}
			d.mu.Unlock()
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

func (d *duplex) forget(p *pending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, p.id)
	if d.calls.remove(&p.asking) {
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
		d.calls.answered(string(m.ID.Raw))
		if p != nil && p.token != nil && d.said.era == wire.Legacy {
			d.made.add("k"+p.id, p.token, p.who, m) // before what the server says next
		}
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
	var to func(wire.Message)
	switch m.Method {
	case wire.MethodProgress:
		token, _ := wire.Lookup(m.Params, "progressToken")
		text, _ := wire.String(token)
		if p := d.pending[strings.TrimPrefix(text, "k")]; p != nil && p.token != nil && text == "k"+p.id {
			m.Params, to = wire.SetMember(m.Params, "progressToken", p.token), p.h.note
		} else {
			m, to = d.made.route(text, m, &d.calls, &d.subs)
		}
		d.mu.Unlock()
		if to != nil {
			to(m)
		}
		return
	case wire.MethodCancelled:
		id, _ := wire.Lookup(m.Params, "requestId")
		p := d.pending[string(id)]
		d.mu.Unlock()
		if d.questions.withdraw(id); p != nil && p.method == wire.MethodListen && d.said.era == wire.Modern {
			d.arrived(wire.Message{Kind: wire.ErrorReply, ID: wire.ID{Raw: id}, Error: cannotAsk}) // the server ends the stream
		}
		return
	case methodAcknowledged: // it is the gateway who listens
		d.mu.Unlock()
		return
	case wire.MethodToolsChanged, wire.MethodPromptsChanged, wire.MethodResChanged, wire.MethodResUpdated:
	default:
		if len(d.calls.calls) == 1 && !(d.shared && d.calls.another(d.calls.calls[0].who)) && (m.Method == wire.MethodLogMessage || !d.shared || d.said.era == wire.Modern) {
			to = d.calls.calls[0].h.note
			d.mu.Unlock()
			if to != nil {
				to(m)
			}
			return
		}
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

func (d *duplex) asker(m wire.Message) asking {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls.asker(m, &d.subs, d.shared)
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
