package gateway

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// bridges holds the relationships that the gateway itself has with servers, the
// legacy sessions that clients have with the gateway, and the requests of modern
// clients that wait for their input. All of it is bounded, and what nobody uses
// ends after a while.
type bridges struct {
	g    *Gateway
	wg   sync.WaitGroup
	list listCache

	mu       sync.Mutex
	peers    map[peerKey]*held   // guarded by mu
	sessions map[string]*session // by id; guarded by mu
	holds    map[string]*hold    // by id; guarded by mu
}

// peerKey says whose relationship it is: no two users and no two clients share
// one, but for stdio servers that are shared by config (G-PX5, E37).
type peerKey struct {
	s            *server
	user, client string
}

// keyOf names the caller's relationship with a server.
func keyOf(c *call, s *server) peerKey {
	key := peerKey{s: s, user: c.Caller.User, client: c.Caller.Client}
	switch {
	case s.Transport == TransportStdio && s.Shared:
		key.user, key.client = "", ""
	case s.Transport == TransportStdio:
		key.client = ""
	}
	return key
}

// held is a peer with its users.
type held struct {
	ready chan struct{} // closed when p or err is there
	p     peer
	err   error
	left  bool      // err says of whoever made it that it went, or may not ask; nothing of the server
	refs  int       // guarded by bridges.mu
	last  time.Time // when the last user left; guarded by bridges.mu
}

const (
	maxPeers    = 4096
	maxSessions = 10_000
	perUser     = 64  // sessions and holds of one user
	userPeers   = 256 // peers of one user: the aggregate needs one for each server
	peerIdle    = 10 * time.Minute
	sessionIdle = time.Hour
	sweepEvery  = 15 * time.Second
)

func (b *bridges) init(g *Gateway) {
	b.g = g
	b.peers, b.sessions, b.holds = map[peerKey]*held{}, map[string]*session{}, map[string]*hold{}
	b.list.init()
	b.wg.Go(b.sweep)
}

// sweep ends what is idle; it is the owner's goroutine and ends with the gateway.
func (b *bridges) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.g.ctx.Done():
			return
		case <-tick.C:
		}
		b.sweepAt(b.g.deps.Now())
	}
}

func (b *bridges) sweepAt(now time.Time) {
	b.list.purge(now)
	var over []peer
	b.mu.Lock()
	for k, h := range b.peers {
		idle := peerIdle
		if k.s.Transport == TransportStdio {
			idle = k.s.Idle
		}
		if h.refs == 0 && now.Sub(h.last) > idle {
			delete(b.peers, k)
			over = append(over, h.p)
		}
	}
	for id, s := range b.sessions {
		if last, waits := s.seen(); !waits && now.Sub(last) > sessionIdle {
			delete(b.sessions, id)
		}
	}
	b.mu.Unlock()
	for _, p := range over {
		if p != nil {
			p.close()
		}
	}
}

func (b *bridges) close() {
	b.wg.Wait() // conversations, held or not, have ended with the gateway's context
	b.mu.Lock()
	all := b.peers
	b.peers = map[peerKey]*held{}
	b.mu.Unlock()
	for _, h := range all {
		<-h.ready
		if h.p != nil {
			h.p.close()
		}
	}
}

// rehome ends the relationships that other replicas may have taken over, and those
// that were theirs. The next call finds where they are now.
func (b *bridges) rehome() {
	b.end(func(_ peerKey, p peer) bool {
		switch p.(type) {
		case *homed, *remotePeer:
			return true
		}
		return false
	})
}

// drop ends all relationships with a server that is no longer configured.
func (b *bridges) drop(s *server) {
	b.end(func(k peerKey, _ peer) bool { return k.s == s })
}

// end closes the relationships that which names; those that are being made are
// waited for.
func (b *bridges) end(which func(peerKey, peer) bool) {
	b.mu.Lock()
	all := maps.Clone(b.peers)
	b.mu.Unlock()
	for k, h := range all {
		if which(k, nil) {
			<-h.ready
		}
		select {
		case <-h.ready:
		default:
			continue
		}
		if which(k, h.p) {
			b.forget(k, h)
			if h.p != nil {
				h.p.close()
			}
		}
	}
}

// acquire gives the caller's relationship with the server, made now if there is
// none. release must be called when the caller is done with it.
func (g *Gateway) acquire(ctx context.Context, c *call, s *server) (p peer, release func(), refusal *Refusal) {
	b := &g.bridges
	key := keyOf(c, s)
	for ends := 0; ends < 3; {
		b.mu.Lock()
		h := b.peers[key]
		first := h == nil
		if first {
			if retry := s.breaker.shut(g.deps.Now(), c.Caller.User); retry > 0 && (s.Transport == TransportHTTP || g.mail == nil) { // else its home may be elsewhere
				b.mu.Unlock()
				return nil, nil, leftAlone(s.Name, retry)
			}
			var over peer
			if over, refusal = b.room(key); refusal != nil {
				b.mu.Unlock()
				return nil, nil, refusal
			}
			h = &held{ready: make(chan struct{}), refs: 1}
			b.peers[key] = h
			b.mu.Unlock()
			if over != nil {
				over.close()
			}
			h.p, h.err = g.settle(ctx, c, s, key, c.here)
			h.left = ctx.Err() != nil || errors.As(h.err, new(breakerError))
			close(h.ready)
		} else {
			h.refs++
			b.mu.Unlock()
			select {
			case <-h.ready:
			case <-ctx.Done():
				b.release(h)
				return nil, nil, refuse(http.StatusGatewayTimeout, wire.CodeInternal, "upstream:timeout", "The server "+s.Name+" did not answer in time.")
			}
		}
		if h.err != nil {
			b.forget(key, h)
			if !first && h.left {
				continue // whoever waits makes it
			}
			return nil, nil, g.noPeer(c, s, h.err)
		}
		select {
		case <-h.p.done(): // it ended since: a new one
			b.forget(key, h)
			h.p.close()
			ends++
		default:
			if c.Caller.Client != onlyLooks {
				h.p.usedBy(clientKey(c.Caller))
			}
			return h.p, func() { b.release(h) }, nil
		}
	}
	return nil, nil, refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:ends", "The server "+s.Name+" ends as soon as it begins.")
}

// clientKey tells clients apart, also those of one user.
func clientKey(c Caller) string { return c.User + "\x00" + c.Client }

// who is whose session the call comes from. Modern clients have none: theirs are told
// apart as clients.
func (c *call) who() string { return clientKey(c.Caller) + "\x00" + c.session }

// room makes place for one more peer or refuses. The caller holds mu and closes
// the peer it gets.
func (b *bridges) room(key peerKey) (over peer, refusal *Refusal) {
	ofServer, ofUser := 0, 0
	var idle *peerKey
	for k, h := range b.peers {
		same := k.s == key.s
		if same {
			ofServer++
		}
		if k.user == key.user && key.user != "" {
			ofUser++
		}
		if h.refs == 0 && (same || key.s.Transport != TransportStdio) && (idle == nil || h.last.Before(b.peers[*idle].last)) {
			idle = &k
		}
	}
	full := len(b.peers) >= maxPeers || ofUser >= userPeers || key.s.Transport == TransportStdio && ofServer >= key.s.Processes
	if !full {
		return nil, nil
	}
	if idle == nil {
		return nil, &Refusal{Status: http.StatusServiceUnavailable, RPC: wire.CodeInternal, Rule: "processes", Retry: 5, Say: "The server " + key.s.Name + " serves as many users as it may. Try again later."}
	}
	over = b.peers[*idle].p
	delete(b.peers, *idle)
	return over, nil
}

func (b *bridges) release(h *held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.refs--
	h.last = b.g.deps.Now()
}

func (b *bridges) forget(key peerKey, h *held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[key] == h {
		delete(b.peers, key)
	}
}

// open1 makes one relationship.
func (g *Gateway) open1(ctx context.Context, c *call, s *server) (p peer, err error) {
	if ok, retry := s.breaker.enter(g.deps.Now(), c.Caller.User); !ok {
		return nil, breakerError{retry}
	}
	st, whole := c.st, ctx
	ctx, cancel := context.WithTimeout(ctx, s.Wait)
	defer func() {
		s.breaker.done(g.deps.Now(), c.Caller.User, err != nil && !errors.As(err, new(*accountError)), unasked(err) || whole.Err() != nil)
		cancel()
	}()
	if s.Transport == TransportStdio {
		spec, account, err := g.login(c, s).environment(ctx, *s.Stdio)
		if err != nil {
			return nil, err
		}
		pipe, err := openStdio(ctx, g.deps.Sandbox, spec, st.config.MaxResponse, &g.hoard.pieces)
		if err != nil {
			return nil, err
		}
		pipe.account = account
		return opened(openDuplex(ctx, pipe, st.answers, s.Shared, s.eras.fixed))
	}
	sc := *c
	sc.server = s
	account, refusal := g.credential(ctx, &sc, false)
	if refusal != nil {
		return nil, &refusedError{refusal}
	}
	to := &line{login: g.login(c, s), who: c.Caller.User, last: account}
	if s.Transport == TransportSSE {
		pipe, err := openSSE(ctx, to, st.config.MaxResponse)
		if err != nil {
			return nil, err
		}
		return opened(openDuplex(ctx, pipe, st.answers, false, wire.Legacy))
	}
	era := s.eras.fixed
	if modern, legacy, ok := s.eras.known(g.deps.Now()); ok && modern && !legacy {
		era = wire.Modern
	}
	hp, err := openHTTP(ctx, to, st.answers, st.config, era)
	if err != nil {
		return nil, err
	}
	hp.reopen = g.reopener(c, s)
	if hp.said.era == wire.Modern {
		s.eras.learn(g.deps.Now(), true, false)
	}
	return hp, nil
}

// opened keeps a nil *duplex from becoming a peer that is not nil.
func opened(d *duplex, err error) (peer, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// ownHeader is the header of a request that the gateway makes for itself.
func (s *server) ownHeader(account []Header) http.Header {
	h := http.Header{"User-Agent": {userAgent}}
	for _, f := range s.Header {
		h.Set(f.Name, f.Value)
	}
	for _, f := range account {
		h.Set(f.Name, f.Value)
	}
	return h
}

// refusedError carries a refusal through an error.
type refusedError struct{ r *Refusal }

func (e *refusedError) Error() string { return e.r.Say }

// noPeer is the answer when there is no relationship to be had.
func (g *Gateway) noPeer(c *call, s *server, err error) *Refusal {
	var r *refusedError
	if errors.As(err, &r) {
		return r.r
	}
	if errors.As(err, new(*accountError)) {
		sc := *c
		sc.server, sc.Server = s, s.Name
		return g.unaccepted(&sc, err)
	}
	var open breakerError
	if errors.As(err, &open) {
		return leftAlone(s.Name, open.retry)
	}
	status := http.StatusBadGateway
	if kidoban.KindOf(err) == kidoban.KindLimit {
		status = http.StatusGatewayTimeout
	}
	return refuse(status, wire.CodeInternal, "upstream:unreachable", "The server "+s.Name+" cannot be reached.").because(err)
}

// conversation is a request under way at a peer. It runs in a goroutine of its
// own, so that it can outlive the HTTP request that began it; cancel ends it.
type conversation struct {
	events  chan event
	notes   backlog // of events
	ctx     context.Context
	cancel  context.CancelFunc
	release func()
}

// next must be told each event that was received.
func (v *conversation) next(e event) {
	if e.note != nil {
		v.notes.took(*e.note)
	}
}

// event is one thing that happens in a conversation: exactly one member is set.
type event struct {
	note      *wire.Message
	ask       *question
	withdrawn *question // that was asked: the server no longer wants to know
	done      *wire.Message
	err       error
}

// converse sends the request. release is called when the conversation is over.
func (g *Gateway) converse(s *server, p peer, release func(), o outgoing) *conversation {
	return g.talk(release, func(method string, params wire.Raw) bool { return capable(o.caps, method, params) },
		func(ctx context.Context, h handler) (wire.Message, error) { return g.request(ctx, ctx, s, p, o, h) })
}

// breakerError says that a server is left alone for now.
type breakerError struct{ retry time.Duration }

func (breakerError) Error() string { return "the server failed too often and is left alone" }

// request sends a request unless the server is left alone, and notes how it went.
// whole is the caller's context: when that has ended, the server is not to blame.
func (g *Gateway) request(ctx, whole context.Context, s *server, p peer, o outgoing, h handler) (wire.Message, error) {
	user, _, _ := strings.Cut(o.who, "\x00")
	if ok, retry := s.breaker.enter(g.deps.Now(), user); !ok {
		return wire.Message{}, breakerError{retry}
	}
	m, err := p.request(ctx, o, h)
	s.breaker.done(g.deps.Now(), user, err != nil && !errors.As(err, new(*accountError)), unasked(err) || whole.Err() != nil || errors.Is(err, errLost) || errors.Is(err, errMoved))
	return m, err
}

// talk runs a conversation. may tells what the client can be asked.
func (g *Gateway) talk(release func(), may func(method string, params wire.Raw) bool, run func(context.Context, handler) (wire.Message, error)) *conversation {
	v := &conversation{events: make(chan event, 64), release: release}
	v.ctx, v.cancel = context.WithCancel(g.ctx)
	h := handler{
		note: func(m wire.Message) {
			if !v.notes.add(m) {
				return
			}
			select {
			case v.events <- event{note: &m}:
			default:
				v.notes.took(m)
			}
		},
		ask: func(ctx context.Context, q *question) (wire.Raw, wire.Raw) {
			if !may(q.method, q.params) {
				return nil, cannotAsk
			}
			return q.put(ctx, v.ctx.Done(), func(withdrawn bool) bool {
				e := event{ask: q}
				if withdrawn {
					e = event{withdrawn: q}
				}
				select {
				case v.events <- e:
					return true
				case <-v.ctx.Done():
					return false
				}
			})
		},
	}
	g.bridges.wg.Go(func() {
		defer release()
		m, err := run(v.ctx, h)
		e := event{done: &m}
		if err != nil {
			e = event{err: err}
		}
		select {
		case v.events <- e:
		case <-v.ctx.Done():
		}
	})
	return v
}

// bridge answers a message where it cannot simply pass.
func (g *Gateway) bridge(st *state, c *call) *Refusal {
	if c.Era == wire.Modern {
		return g.bridgeModern(st, c)
	}
	return g.bridgeLegacy(st, c)
}

// failed is the answer for a conversation that ended without one.
func (g *Gateway) failed(c *call, err error) *Refusal {
	if errors.As(err, new(*accountError)) {
		return g.noPeer(c, c.server, err)
	}
	if errors.Is(err, errNoHold) {
		return stateUsed()
	}
	var open breakerError
	if errors.As(err, &open) {
		return leftAlone(c.Server, open.retry)
	}
	status, rule := http.StatusBadGateway, "upstream:malformed"
	if kidoban.KindOf(err) == kidoban.KindUnreachable {
		rule = "upstream:unreachable"
	}
	if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) {
		status, rule = http.StatusGatewayTimeout, "upstream:timeout"
	}
	return refuse(status, wire.CodeInternal, rule, "The server "+c.Server+" did not give an answer.").because(err)
}

// final turns the answer of a peer into what this client's era expects.
func (g *Gateway) final(c *call, m wire.Message) (wire.Message, *Refusal) {
	leave, err := g.heavy.enter(c.r.Context(), len(m.Result)+len(m.Error))
	if err != nil {
		return m, refuse(http.StatusGatewayTimeout, wire.CodeInternal, "gone", "The client has gone.").because(err)
	}
	defer leave()
	m.ID = c.Message.ID
	if m.Kind == wire.Result {
		if c.Era == wire.Modern {
			m.Result = toModern(c.Message.Method, m.Result)
		} else {
			m.Result = toLegacy(m.Result)
		}
	} else if c.Era == wire.Modern && errorCode(m) == wire.CodeResourceNotFound { // TR-21
		m.Error = wire.SetMember(m.Error, "code", wire.Raw("-32602"))
	}
	m, refusal := g.back(c, m)
	if refusal == nil && m.Kind == wire.ErrorReply && c.Era == wire.Modern && errorCode(m) == wire.CodeElicitationRequired {
		return g.elicited(c, m)
	}
	return m, refusal
}

// toModern adds what every modern result has (TR-14, TR-15).
func toModern(method string, result wire.Raw) wire.Raw {
	if len(result) == 0 || result[0] != '{' {
		return result
	}
	if _, ok := wire.Lookup(result, "resultType"); !ok {
		result = wire.SetMember(result, "resultType", wire.Raw(`"complete"`))
	}
	switch method {
	case wire.MethodDiscover, wire.MethodToolsList, wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodTemplatesList, wire.MethodResourcesRead:
		if _, ok := wire.Lookup(result, "ttlMs"); !ok {
			result = wire.SetMember(result, "ttlMs", wire.Raw("0"))
		}
		if _, ok := wire.Lookup(result, "cacheScope"); !ok {
			result = wire.SetMember(result, "cacheScope", wire.Raw(`"private"`))
		}
	}
	return result
}

func toLegacy(result wire.Raw) wire.Raw {
	for _, name := range []string{"resultType", "ttlMs", "cacheScope"} {
		if _, ok := wire.Lookup(result, name); ok {
			result = wire.DropMember(result, name)
		}
	}
	return result
}

// writeMessage answers with one JSON document.
func (c *call) writeMessage(m wire.Message) {
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	if c.Era == wire.Modern && m.Kind == wire.ErrorReply {
		switch code := errorCode(m); {
		case code == wire.CodeMethodNotFound: // TR-10
			c.rec.Status = http.StatusNotFound
		case wire.IsModernCode(code):
			c.rec.Status = http.StatusBadRequest
		}
		if c.rec.Status != http.StatusOK {
			c.w.WriteHeader(c.rec.Status)
		}
	}
	c.writeBody(m)
}

func (c *call) writeResult(result wire.Raw) {
	c.writeMessage(wire.Message{Kind: wire.Result, ID: c.Message.ID, Result: result})
}

func (c *call) writeError(code int, say string) {
	e := wire.SetMember(wire.SetMember(wire.Raw("{}"), "code", wire.IntID(int64(code)).Raw), "message", wire.Quote(say))
	c.writeMessage(wire.Message{Kind: wire.ErrorReply, ID: c.Message.ID, Error: e})
}
