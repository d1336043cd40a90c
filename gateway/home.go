package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

var (
	errMoved  = errors.New("the relationship has another home")
	errNoHold = errors.New("the request is not held")
	errLost   = errors.New("the replica that led the conversation has gone")
)

// settle makes a relationship with a server at its home: here, or through the
// replica that has it. A server that remembers nothing between requests needs no
// home. here says that another replica believes this one to be the home.
func (g *Gateway) settle(ctx context.Context, c *call, s *server, key peerKey, here bool) (peer, error) {
	if g.mail == nil {
		return g.open1(ctx, c, s)
	}
	elsewhere := func() (peer, error) { // nil, nil: the home is here
		for tries := 1; ; tries++ {
			home, err := g.mail.claim(ctx, key)
			switch {
			case err != nil: // a relationship of our own is better than none
				g.deps.Log.Warn("the home of a relationship cannot be found", "server", s.Name, "error", err)
				return nil, nil
			case home == g.mail.name:
				return nil, nil
			case here:
				return nil, errMoved
			}
			p, err := g.openRemote(ctx, c, s, home)
			if !errors.Is(err, errMoved) || tries == 3 {
				return p, err
			}
		}
	}
	if s.Transport != TransportHTTP {
		if p, err := elsewhere(); p != nil || err != nil {
			return p, err
		}
	}
	p, err := g.open1(ctx, c, s)
	if err != nil {
		if s.Transport != TransportHTTP {
			g.mail.release(key)
		}
		return nil, err
	}
	if hp, ok := p.(*httpPeer); ok {
		if hp.sid == "" {
			return p, nil
		}
		if there, err := elsewhere(); there != nil || err != nil {
			p.close()
			return there, err
		}
	}
	return &homed{peer: p, release: func() { g.mail.release(key) }}, nil
}

// homed is a relationship whose home is here.
type homed struct {
	peer
	release func()
}

func (h *homed) close() {
	select {
	case <-h.done(): // it ended by itself; whoever opens the next one claims anew
	default:
		h.release()
	}
	h.peer.close()
}

// remotePeer is a relationship whose home is another replica.
type remotePeer struct {
	g      *Gateway
	home   string
	server string
	user   string
	client string
	said   hello
	ctx    context.Context
	cancel context.CancelFunc
	reopen func(ctx context.Context) (peer, func(), error)
}

// openRemote introduces us to the home. Whether the caller has an account is
// judged here, where the answer can say how to connect one.
func (g *Gateway) openRemote(ctx context.Context, c *call, s *server, home string) (peer, error) {
	sc := *c
	sc.server, sc.Server = s, s.Name
	if _, refusal := g.credential(ctx, &sc, false); refusal != nil {
		return nil, &refusedError{refusal}
	}
	p := &remotePeer{g: g, home: home, server: s.Name, user: c.Caller.User, client: c.Caller.Client}
	p.reopen = g.reopener(c, s)
	p.ctx, p.cancel = context.WithCancel(g.ctx) // ended by close
	ctx, cancel := context.WithTimeout(ctx, s.Wait)
	defer cancel()
	e, err := p.lead(ctx, letter{Kind: "open"}, handler{})
	if err != nil {
		p.cancel()
		return nil, err
	}
	p.said = hello{era: wire.Era(e.Method), version: e.Text, capabilities: e.Caps, info: e.Result, instructions: e.Params}
	return p, nil
}

// reopener gives the relationship that takes the place of one that has ended.
func (g *Gateway) reopener(c *call, s *server) func(ctx context.Context) (peer, func(), error) {
	again := &call{Call: Call{Caller: c.Caller, Server: s.Name}, st: c.st, server: s, target: c.target, here: c.here}
	return func(ctx context.Context) (peer, func(), error) {
		next, release, refusal := g.acquire(ctx, again, s)
		if refusal != nil {
			return nil, nil, &refusedError{refusal}
		}
		return next, release, nil
	}
}

func (p *remotePeer) hello() hello          { return p.said }
func (p *remotePeer) done() <-chan struct{} { return p.ctx.Done() }
func (p *remotePeer) close()                { p.cancel() }
func (p *remotePeer) usedBy(string)         {} // the home, which acquires it for the client, notes that

// tell does nothing: the home is told by itself (bridges.tell).
func (p *remotePeer) tell(context.Context, string, string, wire.Raw) {}

// left does nothing, likewise (bridges.told).
func (p *remotePeer) left(string) {}

func (p *remotePeer) subscribe(s subscriber) func() {
	ctx, cancel := context.WithCancel(p.ctx)
	go func() { // ends with the subscription
		if _, err := p.lead(ctx, letter{Kind: "subscribe", Caps: s.caps, Text: s.who}, s.handler); err != nil && ctx.Err() == nil {
			p.cancel() // subscribers watch done
		}
	}()
	return cancel
}

func (p *remotePeer) request(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	e, err := p.lead(ctx, letter{Kind: "request", Method: o.method, Params: o.params, Caps: o.caps, Text: o.who}, h)
	moved, lost := errors.Is(err, errMoved), errors.Is(err, errLost)
	if moved || lost {
		p.cancel()
	}
	// Only what changes nothing may be asked twice.
	if moved || lost && o.method != wire.MethodToolsCall {
		next, release, rerr := p.reopen(ctx)
		if rerr != nil {
			return wire.Message{}, rerr
		}
		defer release()
		return next.request(ctx, o, h)
	}
	if err != nil {
		return wire.Message{}, err
	}
	return e.message(), nil
}

// lead has the home lead a conversation, until its last letter.
func (p *remotePeer) lead(ctx context.Context, l letter, h handler) (letter, error) {
	l.Server, l.User, l.Client = p.server, p.user, p.client
	return p.g.mail.lead(ctx, p.home, l, h)
}

func (m *mail) lead(ctx context.Context, home string, l letter, h handler) (letter, error) {
	id, b, shut := m.open(home)
	defer shut()
	l.Box = id
	// Nothing was sent yet: what is new begins elsewhere.
	if l.Kind != "resume" && !m.takes(home) {
		return letter{}, kidoban.Wrap(kidoban.KindUnreachable, errMoved, "The gateway's process that speaks with this server has gone.")
	}
	if !m.alive(home) {
		return letter{}, kidoban.Wrap(kidoban.KindUnreachable, errLost, "The gateway's process that speaks with this server has gone.")
	}
	if err := m.post(ctx, home, l); err != nil {
		return letter{}, err
	}
	live, done := context.WithCancel(ctx)
	defer done()
	var asked questions
	for {
		select {
		case <-ctx.Done():
			m.farewell(home, id)
			return letter{}, kidoban.Wrap(kidoban.KindUnreachable, context.Cause(ctx), "The server did not answer in time.")
		case e, open := <-b.in:
			if !open {
				m.farewell(home, id)
				return letter{}, kidoban.Wrap(kidoban.KindUnreachable, errLost, "The gateway's process that spoke with this server has gone.")
			}
			switch e.Kind {
			case "note":
				if e.Num != 0 {
					asked.withdraw(wire.IntID(int64(e.Num)).Raw)
				} else if h.note != nil {
					h.note(wire.Message{Kind: wire.Notification, Method: e.Method, Params: e.Params})
				}
			case "ask":
				answer := func(result, refusal wire.Raw) {
					_ = m.post(live, home, letter{Kind: "answer", Box: id, Num: e.Num, Result: result, Error: refusal}) // a home that has gone needs none
				}
				asked.put(func() asking { return asking{ctx: live, h: h} }, wire.Message{ID: wire.IntID(int64(e.Num)), Method: e.Method, Params: e.Params}, func(ctx context.Context, params wire.Raw) {
					_ = m.post(ctx, home, letter{Kind: "said", Box: id, Num: e.Num, Params: params}) // a courtesy
				}, answer)
			case "fail":
				return letter{}, e.failure()
			default:
				return e, nil
			}
		}
	}
}

// farewell tells a home that nobody waits any more.
func (m *mail) farewell(home, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = m.post(ctx, home, letter{Kind: "cancel", Box: id}) // a courtesy
}

func (l letter) message() wire.Message {
	m := wire.Message{Kind: wire.Result, Result: l.Result}
	if l.Error != nil {
		m = wire.Message{Kind: wire.ErrorReply, Error: l.Error}
	}
	return m
}

// What a letter of kind fail says in Num.
const (
	failPlain = iota
	failMoved
	failNoHold
	failAccount
	failSilent
	failUnread
)

func failure(err error) letter {
	l := letter{Kind: "fail", Text: err.Error(), Method: string(kidoban.KindOf(err))}
	var k *kidoban.Error
	if errors.As(err, &k) {
		l.Text = k.Sentence
	}
	switch {
	case errors.Is(err, errMoved):
		l.Num = failMoved
	case errors.Is(err, errNoHold):
		l.Num = failNoHold
	case errors.Is(err, errUnread):
		l.Num = failUnread
	case errors.As(err, new(*accountError)):
		l.Num = failAccount
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		l.Num = failSilent
	}
	return l
}

func (l letter) failure() error {
	var cause error
	switch l.Num {
	case failMoved:
		cause = errMoved
	case failNoHold:
		cause = errNoHold
	case failAccount:
		cause = &accountError{}
	case failSilent:
		cause = errSilent
	case failUnread:
		cause = errUnread
	}
	kind := kidoban.Kind(l.Method)
	if cause == nil {
		return kidoban.Errorf(kind, "%s", l.Text)
	}
	return kidoban.Wrap(kind, cause, "%s", l.Text)
}

// served is a conversation that is led here for another replica.
type served struct {
	to     string
	since  time.Time
	cancel context.CancelFunc

	mu   sync.Mutex
	next int
	asks map[int]*question // guarded by mu
}

// take handles what the other side writes meanwhile.
func (s *served) take(l letter) {
	if l.Kind == "cancel" {
		s.cancel()
		return
	}
	s.mu.Lock()
	to := s.asks[l.Num]
	if l.Kind == "answer" {
		delete(s.asks, l.Num)
	}
	s.mu.Unlock()
	switch {
	case to == nil:
	case l.Kind == "answer":
		to.answer(reply{result: l.Result, refusal: l.Error})
	default:
		to.tell(l.Params)
	}
}

// ask is the letter that puts a question to the client.
func (s *served) ask(box string, q *question) letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.asks[s.next] = q
	return letter{Kind: "ask", Box: box, Num: s.next, Method: q.method, Params: q.params}
}

// withdraw is the letter that takes a question back, a notification that has its
// number.
func (s *served) withdraw(box string, q *question) letter {
	l := letter{Kind: "note", Box: box, Method: wire.MethodCancelled}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, o := range s.asks {
		if o == q {
			delete(s.asks, n)
			l.Num = n
		}
	}
	return l
}

// serve leads a conversation for another replica.
func (m *mail) serve(l letter) {
	ctx, cancel := context.WithCancel(m.g.ctx)
	s := &served{to: l.From, since: time.Now(), cancel: cancel, asks: map[int]*question{}}
	m.mu.Lock()
	full := len(m.served) >= maxServed
	if !full {
		m.served[l.Box] = s
	}
	m.mu.Unlock()
	m.wg.Go(func() {
		defer cancel()
		e := failure(kidoban.Errorf(kidoban.KindLimit, "Too many conversations are open at once."))
		if !full {
			e = m.led(ctx, l, s)
			m.mu.Lock()
			delete(m.served, l.Box)
			m.mu.Unlock()
		}
		e.Box = l.Box
		last, end := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer end()
		if err := m.post(last, l.From, e); err != nil {
			m.g.deps.Log.Warn("an answer for another replica is lost", "error", err)
		}
	})
}

// led does what the letter asks for and returns the last letter of the answer.
func (m *mail) led(ctx context.Context, l letter, s *served) letter {
	g := m.g
	if l.Kind == "resume" {
		h := g.unpark(string(l.ID))
		if h == nil {
			return failure(errNoHold)
		}
		h.asked.answer(reply{result: l.Result})
		return m.pump(ctx, l, s, h.conv)
	}
	st := g.state.Load()
	srv := st.servers[l.Server]
	if srv == nil {
		return failure(kidoban.Errorf(kidoban.KindNotFound, "There is no server of this name."))
	}
	c := &call{Call: Call{Caller: Caller{User: l.User, Client: l.Client}, Server: l.Server}, st: st, server: srv, here: true}
	if g.drain.Err() != nil {
		m.releaseNow(keyOf(c, srv)) // so that whoever asks finds another home
		return failure(errMoved)
	}
	p, release, refusal := g.acquire(ctx, c, srv)
	if refusal != nil {
		if errors.Is(refusal.Cause, errMoved) {
			return failure(errMoved)
		}
		if refusal.Cause == nil { // as of a server that is left alone
			return failure(kidoban.Errorf(kidoban.KindUnreachable, "%s", refusal.Say))
		}
		return failure(kidoban.Wrap(kidoban.KindUnreachable, refusal.Cause, "%s", refusal.Say))
	}
	if _, far := p.(*remotePeer); far {
		release()
		return failure(errMoved)
	}
	switch l.Kind {
	case "open":
		defer release()
		h := p.hello()
		return letter{Kind: "opened", Method: string(h.era), Text: h.version, Caps: h.capabilities, Result: h.info, Params: h.instructions}
	case "request":
		return m.pump(ctx, l, s, g.converse(srv, p, release, outgoing{method: l.Method, params: l.Params, caps: l.Caps, who: l.Text}))
	}
	defer release()
	return m.notes(ctx, l, s, c, p)
}

// pump writes what happens in a conversation to the replica that wanted it.
func (m *mail) pump(ctx context.Context, l letter, s *served, v *conversation) letter {
	defer v.cancel()
	for {
		var e event
		select {
		case <-ctx.Done():
			return failure(kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "The request was cancelled."))
		case e = <-v.events:
			v.next(e)
		}
		out := letter{Box: l.Box}
		switch {
		case e.done != nil:
			return letter{Kind: "done", Result: e.done.Result, Error: e.done.Error}
		case e.err != nil:
			return failure(e.err)
		case e.note != nil:
			out.Kind, out.Method, out.Params = "note", e.note.Method, e.note.Params
		case e.ask != nil:
			out = s.ask(l.Box, e.ask)
		case e.withdrawn != nil:
			if out = s.withdraw(l.Box, e.withdrawn); out.Num == 0 {
				continue // it is answered
			}
		}
		if err := m.post(ctx, l.From, out); err != nil {
			return failure(err)
		}
	}
}

// notes writes notifications to a replica until it wants no more.
func (m *mail) notes(ctx context.Context, l letter, s *served, c *call, p peer) letter {
	out := &notices{in: make(chan notice, 64)}
	h := handler{note: func(n wire.Message) { out.offer(nil, n) }} // a client that does not read asks again anyway
	// A replica of an earlier version does not say who may be asked.
	if l.Text != "" {
		h.ask = func(asking context.Context, q *question) (result, refusal wire.Raw) {
			return q.put(asking, ctx.Done(), func(withdrawn bool) bool {
				return out.put(ctx, notice{ask: q}, withdrawn)
			})
		}
	}
	stop := p.subscribe(subscriber{handler: h, ctx: ctx, caps: l.Caps, who: l.Text})
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return failure(ctx.Err())
		case <-p.done():
			return failure(errMoved)
		case <-m.g.drain.Done():
			m.releaseNow(keyOf(c, c.server)) // as led does
			return failure(errMoved)
		case n := <-out.in:
			out.wait.took(n.m)
			say := letter{Kind: "note", Box: l.Box, Method: n.m.Method, Params: n.m.Params}
			if n.ask != nil {
				say = s.ask(l.Box, n.ask)
			} else if n.withdrawn != nil {
				if say = s.withdraw(l.Box, n.withdrawn); say.Num == 0 {
					continue // it is answered
				}
			}
			if err := m.post(ctx, l.From, say); err != nil {
				return failure(err)
			}
		}
	}
}

// newID is a name that nobody guesses and no other process makes.
func newID() string {
	var id [16]byte
	_, _ = io.ReadFull(rand.Reader, id[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}
