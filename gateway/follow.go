package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// subscribeAll collects the notifications of the server, or of all servers, until
// stop. A server that cannot be reached has none; one that ends is followed again
// when it is back. s, when not nil, is the legacy session whose settings the
// servers are told. watch names resources whose changes are wanted, too; watched
// are those whose servers agreed, by their names for the client. A server that takes its
// time holds up neither the others nor the client: it is followed once it is there. One
// whose resources are to be watched is waited for longer, since the client is told at the
// beginning what it will hear of, and nothing is added later.
func (g *Gateway) subscribeAll(c *call, s *session, watch map[*server][]string) (notes *notices, watched []string, stop func()) {
	out := &notices{in: make(chan notice, 64), s: s}
	ctx, cancel := context.WithCancel(c.r.Context())
	var wg sync.WaitGroup
	own := *c // what becomes of the call is noted in c meanwhile
	servers := g.reach(c)
	agreed, slots := make([]chan []string, len(servers)), make(chan struct{}, fanOut)
	for i, srv := range servers {
		f := &follower{g: g, c: &own, s: s, srv: srv, out: out, uris: watch[srv], who: clientKey(c.Caller) + "\x00" + newID()}
		agreed[i] = make(chan []string, 1)
		wg.Go(func() {
			p, leave := peer(nil), func() {}
			select {
			case slots <- struct{}{}:
				free := sync.OnceFunc(func() { <-slots })
				slow := time.AfterFunc(heardWithin, free)
				p, leave = f.attach(ctx)
				slow.Stop()
				free()
			case <-ctx.Done():
			}
			agreed[i] <- f.agreed
			f.stay(ctx, p, leave)
		})
	}
	soon, over := context.WithTimeout(ctx, heardWithin)
	defer over()
	agree := ctx
	if len(servers) > 1 { // else it holds up nobody
		agree, over = context.WithTimeout(ctx, agreesWithin)
		defer over()
	}
	for i, srv := range servers {
		late := soon
		if len(watch[srv]) > 0 {
			late = agree
		}
		for _, uri := range inTime(agreed[i], late) {
			watched = append(watched, c.outsideURI(srv, uri))
		}
	}
	return out, watched, func() { cancel(); wg.Wait() }
}

// inTime is what is there before late ends. One who waited out another's time finds both
// at once: what is there counts.
func inTime(agreed <-chan []string, late context.Context) []string {
	select {
	case uris := <-agreed:
		return uris
	case <-late.Done():
	}
	select {
	case uris := <-agreed:
		return uris
	default:
		return nil
	}
}

// agreesWithin is how long the streams of other servers wait for one that is to agree: a
// process may have to be started first.
const agreesWithin = 5 * time.Second

// notices are notifications that wait for a client.
type notices struct {
	in   chan notice
	wait backlog  // of in
	s    *session // that may be asked something; nil for none
}

// notice is one of them, with the server that it comes from; or a question of that
// server, or one that it takes back.
type notice struct {
	from           *server
	m              wire.Message
	ask, withdrawn *question
}

// message is what a notice says to the client; false for nothing.
func (n *notices) message(from notice, where string) (wire.Message, bool) {
	switch {
	case from.ask != nil:
		return n.s.ask(from.ask, where), true
	case from.withdrawn != nil:
		return n.s.unask(from.withdrawn)
	}
	return from.m, true
}

// offer drops what there is no room for.
func (n *notices) offer(from *server, m wire.Message) {
	if !n.wait.add(m) {
		return
	}
	select {
	case n.in <- notice{from: from, m: m}:
	default:
		n.wait.took(m)
	}
}

// put waits for room for a question, or for taking it back; false when ctx has ended.
func (n *notices) put(ctx context.Context, question notice, withdrawn bool) bool {
	if withdrawn {
		question.ask, question.withdrawn = nil, question.ask
	}
	select {
	case n.in <- question:
		return true
	case <-ctx.Done():
		return false
	}
}

// follower keeps one subscription alive.
type follower struct {
	g      *Gateway
	c      *call
	s      *session
	srv    *server
	out    *notices
	uris   []string // resources to watch
	who    string   // in whose name
	agreed []string // those that the server agreed to tell of when it was asked last
	wg     sync.WaitGroup
}

// attach subscribes; a nil peer means that the server cannot be reached.
func (f *follower) attach(ctx context.Context) (peer, func()) {
	if f.g.connects(f.c, f.srv) != nil {
		return nil, func() {}
	}
	p, release, refusal := f.g.acquire(ctx, f.c, f.srv)
	if refusal != nil {
		return nil, func() {}
	}
	cancel := p.subscribe(f.subscriber(ctx))
	if f.s != nil {
		f.g.remind(ctx, f.c, f.s, f.srv, p)
	}
	if len(f.uris) == 0 {
		return p, func() { cancel(); release() }
	}
	ctx, end := context.WithCancel(ctx)
	watched := f.watch(ctx, p)
	f.agreed = watched
	return p, func() {
		end()
		f.wg.Wait()
		f.unwatch(p, watched)
		cancel()
		release()
	}
}

// subscriber is the follower as a peer sees it. A legacy session may be asked something
// on its stream, too.
func (f *follower) subscriber(ctx context.Context) subscriber {
	s := subscriber{handler: handler{note: f.pass}, ctx: ctx}
	if f.s == nil || f.s.id == "" {
		return s
	}
	s.caps, s.who = f.s.caps, f.c.who()
	s.ask = func(asking context.Context, q *question) (result, refusal wire.Raw) {
		return q.put(asking, ctx.Done(), func(withdrawn bool) bool {
			return f.out.put(ctx, notice{from: f.srv, ask: q}, withdrawn)
		})
	}
	return s
}

func (f *follower) pass(m wire.Message) {
	if m.Method == wire.MethodResUpdated {
		if f.srv.Shared && f.s != nil && !f.s.followed(f.srv.Name, wire.LookupString(m.Params, "uri")) {
			return // another user's
		}
	}
	if changesLists(m.Method) {
		f.g.bridges.list.drop(f.c.Caller.User, f.c.Caller.Client)
	}
	f.out.offer(f.srv, m) // a client that does not read asks again anyway
}

// outside gives a notification the client's name of what it is about.
func (c *call) outside(from *server, m wire.Message) wire.Message {
	if m.Method == wire.MethodResUpdated {
		m.Params = wire.SetMember(m.Params, "uri", wire.Quote(c.outsideURI(from, wire.LookupString(m.Params, "uri"))))
	}
	return m
}

// outsideURI is the client's name of a resource.
func (c *call) outsideURI(from *server, uri string) string {
	if c.server == nil {
		return from.Name + uriMark + uri
	}
	return uri
}

// hears tells whether policy lets the caller hear of a resource: a server may name a
// part of the one that was asked about when it was followed, and rules change.
func (g *Gateway) hears(c *call, from *server, m wire.Message) bool {
	p := g.deps.Guards.Policy
	if m.Method != wire.MethodResUpdated || p == nil {
		return true
	}
	one := c.Call
	one.Server, one.Upstream = from.Name, &from.Server
	one.Params = wire.Params{URI: wire.LookupString(m.Params, "uri")}
	one.Message = wire.Message{Kind: wire.Request, Method: wire.MethodSubscribe, Params: wire.SetMember(wire.Raw("{}"), "uri", wire.Quote(one.Params.URI))}
	return p.Decide(c.r.Context(), &one) == nil
}

// stay subscribes anew whenever the relationship has ended, after a while that
// grows while the server does not come back.
func (f *follower) stay(ctx context.Context, p peer, leave func()) {
	defer func() { leave() }()
	const least, most = 500 * time.Millisecond, time.Minute
	wait := least
	for {
		var ended <-chan struct{}
		if p != nil {
			ended = p.done()
			wait = least
		}
		var again <-chan time.Time
		if p == nil {
			again = time.After(wait)
			wait = min(2*wait, most)
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
			leave()
			p, leave = nil, func() {}
			continue
		case <-again:
		}
		p, leave = f.attach(ctx)
	}
}

func changesLists(method string) bool {
	return method == wire.MethodToolsChanged || method == wire.MethodPromptsChanged || method == wire.MethodResChanged
}

// announce makes the other replicas forget a caller's lists before the client is
// told to ask for them again. A server that says so all the time is believed five
// times a second; beyond that the lists' own age bounds what is out of date.
func (g *Gateway) announce(ctx context.Context, caller Caller, method string, last *time.Time) {
	now := g.deps.Now()
	if !changesLists(method) || g.mail == nil || g.mail.others() == 0 || now.Sub(*last) < 200*time.Millisecond {
		return
	}
	*last = now
	_ = g.mail.post(ctx, "*", letter{Kind: "lists", User: caller.User, Client: caller.Client}) // see above
}
