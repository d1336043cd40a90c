package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// httpPeer is a peer over streamable HTTP, of either era.
type httpPeer struct {
	s      *server
	to     *line
	reader *wire.Reader
	max    int
	wait   time.Duration // until an answer begins
	idle   time.Duration // between its pieces
	said   hello
	sid    string // legacy session
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	next   int64                  // guarded by mu
	subs   fan                    // guarded by mu
	calls  underway               // of clients; guarded by mu
	tokens map[string]progressing // by our token; guarded by mu
	made   madeTasks              // guarded by mu
	listen bool                   // the stream of notifications runs; guarded by mu
	heard  chan struct{}          // closed when that stream was answered for the first time
	hear   sync.Once              // closes heard

	questions questions
	follows   following
	reopen    func(ctx context.Context) (peer, func(), error) // the relationship that comes after this one
}

// progressing is a call whose client wants to hear of its progress.
type progressing struct {
	token wire.Raw // the client's
	h     handler
}

func openHTTP(ctx context.Context, to *line, reader *wire.Reader, c Config, era wire.Era) (*httpPeer, error) {
	p := &httpPeer{s: to.s, to: to, reader: reader, max: c.MaxResponse, wait: to.s.Wait, idle: c.IdleWait, heard: make(chan struct{}), tokens: map[string]progressing{}}
	p.ctx, p.cancel = context.WithCancel(context.Background()) // ended by close
	context.AfterFunc(p.ctx, p.questions.end)
	if err := p.introduce(ctx, era); err != nil {
		p.cancel()
		return nil, err
	}
	return p, nil
}

func (p *httpPeer) introduce(ctx context.Context, era wire.Era) error {
	if era == wire.Modern {
		p.said.era = wire.Modern
		m, err := p.post(ctx, outgoing{method: wire.MethodDiscover, params: discoverParams()}, handler{})
		if err != nil {
			return err
		}
		if m.Kind != wire.Result {
			return kidoban.Errorf(kidoban.KindInput, "The server refused to say what it offers.")
		}
		p.said = helloOf(wire.Modern, m.Result)
		return nil
	}
	p.said.era = wire.Legacy
	m, err := p.post(ctx, outgoing{method: wire.MethodInitialize, params: initializeParams(false)}, handler{})
	if err != nil {
		return err
	}
	if m.Kind != wire.Result {
		if wire.IsModernCode(errorCode(m)) {
			return p.introduce(ctx, wire.Modern)
		}
		return kidoban.Errorf(kidoban.KindInput, "The server refused to begin a session.")
	}
	p.said = helloOf(wire.Legacy, m.Result)
	return p.deliver(ctx, wire.AppendNotification(nil, wire.MethodInitialized, nil))
}

func (p *httpPeer) hello() hello          { return p.said }
func (p *httpPeer) done() <-chan struct{} { return p.ctx.Done() }
func (p *httpPeer) left(who string)       { p.follows.left(who) }
func (p *httpPeer) usedBy(string)         {} // it is one client's

// close ends the relationship and, in the legacy era, the session.
func (p *httpPeer) close() {
	if p.ctx.Err() != nil {
		return
	}
	p.cancel()
	if p.sid == "" {
		return
	}
	go func() { // bounded by its own deadline; nobody waits for a farewell
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if resp, err := p.send(ctx, http.MethodDelete, nil, nil); err == nil {
			resp.Body.Close()
		}
	}()
}

func (p *httpPeer) send(ctx context.Context, method string, body []byte, mirror kidoban.Fields) (*http.Response, error) {
	return p.to.send(ctx, func(h http.Header) *http.Request { return p.build(ctx, h, method, body, mirror) })
}

func (p *httpPeer) build(ctx context.Context, h http.Header, method string, body []byte, mirror kidoban.Fields) *http.Request {
	h.Set("Accept", "application/json, text/event-stream")
	if p.sid != "" {
		h.Set(wire.HeaderSession, p.sid)
	}
	if p.said.era == wire.Legacy && p.said.version != "" {
		h.Set(wire.HeaderVersion, p.said.version)
	}
	for _, f := range mirror {
		h.Set(f.Name, f.Value)
	}
	req := (&http.Request{Method: method, URL: p.s.url, Host: p.s.url.Host, Header: h}).WithContext(ctx)
	if body != nil {
		h.Set("Content-Type", "application/json")
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return req
}

// deliver posts a notification or an answer.
func (p *httpPeer) deliver(ctx context.Context, msg []byte) error {
	resp, err := p.send(ctx, http.MethodPost, msg, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return statusError(resp.StatusCode)
	}
	return nil
}

func (p *httpPeer) request(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	if p.said.era == wire.Modern {
		return rounds(ctx, o, h, func(params wire.Raw) (wire.Message, error) { o.params = params; return p.post(ctx, o, h) })
	}
	m, err := p.inSession(ctx, o, h)
	if o.again || p.reopen == nil || !errors.Is(err, errSessionOver) {
		return m, err
	}
	// The server has refused the request and not begun with it: it may be asked again.
	next, release, err := p.reopen(ctx)
	if err != nil {
		return wire.Message{}, err
	}
	defer release()
	o.again = true
	return next.request(ctx, o, h)
}

// errSessionOver is a legacy server's no to a request of a session that it does not know,
// or knows no more (2025-11-25, Streamable HTTP, Session Management 3 and 4).
var errSessionOver = statusError(http.StatusNotFound)

// inSession asks a legacy server.
func (p *httpPeer) inSession(ctx context.Context, o outgoing, h handler) (wire.Message, error) {
	defer p.enlist(&asking{ctx, o.caps, h, o.who, o.method})()
	o.params = legacyParams(o.params)
	if o.method == wire.MethodSubscribe || o.method == wire.MethodUnsubscribe {
		return p.follows.request(ctx, o, func() (wire.Message, error) { return p.post(ctx, o, h) })
	}
	return p.post(ctx, o, h)
}

// heardWithin is how long the first call waits for the stream of notifications.
const heardWithin = time.Second

// enlist has what a legacy server asks outside of a call's own answer find this
// call. Many servers ask so: on the stream of notifications, which must be there
// before they do. What the gateway asks for itself no question is about.
func (p *httpPeer) enlist(a *asking) (leave func()) {
	if a.h.ask == nil {
		return func() {}
	}
	p.mu.Lock()
	p.calls.add(a)
	first := len(a.caps) > 0 && string(a.caps) != "{}" && p.listening()
	p.mu.Unlock()
	if first {
		timer := time.NewTimer(heardWithin)
		defer timer.Stop()
		select {
		case <-p.heard:
		case <-timer.C:
		case <-a.ctx.Done():
		}
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.calls.remove(a) {
			p.questions.left(a.who)
		}
	}
}

// askedAside is who a request on the stream of notifications is for. All who use the
// relationship are of one user and one client, but may be several windows of it.
func (p *httpPeer) askedAside(m wire.Message) asking {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls.asker(m, &p.subs, false)
}

// post sends one request and reads its answer, which may be a document or a stream.
func (p *httpPeer) post(ctx context.Context, o outgoing, h handler) (answer wire.Message, err error) {
	method := o.method
	p.mu.Lock()
	p.next++
	id := wire.IntID(p.next)
	p.mu.Unlock()
	params, over := p.progresses(id, o, h)
	defer func() { over(answer) }()
	var mirror kidoban.Fields
	if p.said.era == wire.Modern {
		peek, err := wire.PeekParams(params)
		if err != nil {
			return wire.Message{}, err
		}
		var annotated []wire.HeaderParam
		if method == wire.MethodToolsCall {
			annotated = p.s.catalog.headers(peek.Name)
		}
		mirror = wire.MirrorHeaders(method, peek, annotated)
	}
	whole := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		switch {
		case err == nil || ctx.Err() == nil || p.said.era != wire.Legacy || method == wire.MethodInitialize:
		case whole.Err() == nil:
			go p.cancelled(id) // bounded by its own deadline; whoever called waits long enough
		default:
			p.cancelled(id)
		}
	}()
	begun := false
	defer func() {
		if err != nil && (ctx.Err() != nil || begun) && p.said.era == wire.Legacy && h.ask != nil && inputAllowed(method) {
			p.mu.Lock()
			p.calls.giveUp(string(id.Raw), o.who, &p.mu)
			p.mu.Unlock()
		}
	}()
	timer := time.AfterFunc(p.wait, func() { cancel(errSilent) })
	defer timer.Stop()
	resp, err := p.send(ctx, http.MethodPost, wire.AppendRequest(nil, id, method, params), mirror)
	if err != nil {
		return wire.Message{}, err
	}
	defer resp.Body.Close()
	begun = resp.StatusCode == http.StatusOK // without its end, the server may be at it still
	body := p.s.hoarder(ctx, p.to.who, &pacedBody{r: resp.Body, timer: timer, idle: p.idle})
	defer body.rest()
	if method == wire.MethodInitialize {
		if sid := resp.Header.Get(wire.HeaderSession); len(sid) <= 1024 {
			p.sid = sid
		}
	}
	mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK && mt == "text/event-stream":
		return p.stream(ctx, id, body, o.caps, h)
	case resp.StatusCode == http.StatusNotFound && p.sid != "":
		return p.notFound(body, id, mt, resp.ContentLength)
	case mt == "application/json" && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound):
		return p.document(body, id, resp.ContentLength)
	}
	return wire.Message{}, statusError(resp.StatusCode)
}

// document reads an answer that is one JSON text.
func (p *httpPeer) document(body *hoarder, id wire.ID, announced int64) (wire.Message, error) {
	raw, err := body.kept(p.max, announced)
	if err != nil {
		return wire.Message{}, kidoban.Wrap(kidoban.KindInput, err, "The server's answer did not arrive whole.")
	}
	m, err := p.reader.Read(p.to.clean(raw))
	if err != nil || m.Kind != wire.Result && m.Kind != wire.ErrorReply || m.Kind == wire.Result && !m.ID.Equal(id) {
		return wire.Message{}, kidoban.Wrap(kidoban.KindInput, errOr(err, errPostRefused), "The server's answer is not a valid message.")
	}
	return m, nil
}

// notFound reads a 404 within a session. Whatever it says, the session is over, unless it
// is about the method alone. An error of the request itself is its answer, though: what
// the server did before it is not known.
func (p *httpPeer) notFound(body *hoarder, id wire.ID, mt string, announced int64) (wire.Message, error) {
	if mt == "application/json" {
		m, err := p.document(body, id, announced)
		method := err == nil && errorCode(m) == wire.CodeMethodNotFound
		if method || err == nil && m.Kind == wire.ErrorReply && m.ID.Equal(id) {
			if !method {
				p.cancel()
			}
			return m, nil
		}
	}
	p.cancel()
	return wire.Message{}, errSessionOver
}

// cancelled tells a legacy server that nobody waits any more: to it, a closed
// connection says nothing.
func (p *httpPeer) cancelled(id wire.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = p.deliver(ctx, wire.AppendNotification(nil, wire.MethodCancelled, wire.Raw(`{"requestId":`+string(id.Raw)+`}`))) // a courtesy
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// pacedBody puts the deadline off with every piece that arrives.
type pacedBody struct {
	r     io.Reader
	timer *time.Timer
	idle  time.Duration
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.timer.Reset(b.idle)
	}
	return n, err
}

func (p *httpPeer) stream(ctx context.Context, id wire.ID, body *hoarder, caps wire.Raw, h handler) (wire.Message, error) {
	in := wire.NewEventReader(body, p.max)
	for {
		ev, err := in.Next()
		if err != nil {
			return wire.Message{}, kidoban.Wrap(kidoban.KindInput, err, "The server ended its answer before it was complete.")
		}
		if ev.Type != "" && ev.Type != "message" || len(ev.Data) == 0 {
			continue
		}
		body.rest()
		m, err := p.reader.Read(p.to.clean(ev.Data))
		if err != nil {
			return wire.Message{}, kidoban.Wrap(kidoban.KindInput, err, "The server's answer is not a valid message.")
		}
		switch m.Kind {
		case wire.Result, wire.ErrorReply:
			if m.ID.Equal(id) {
				return own(m), nil
			}
		case wire.Notification:
			if !m.Misplaced() {
				p.noted(own(m), h.note)
			}
		case wire.Request:
			p.asked(func() asking { return asking{ctx: ctx, caps: caps, h: h} }, own(m))
		}
	}
}

// asked answers a request that a legacy server made, of whom find finds.
func (p *httpPeer) asked(find func() asking, m wire.Message) {
	reply := func(result, refusal wire.Raw) {
		msg := wire.AppendResult(nil, m.ID, result)
		if refusal != nil {
			msg = wire.AppendErrorRaw(nil, m.ID, refusal)
		}
		ctx, cancel := context.WithTimeout(p.ctx, p.wait)
		defer cancel()
		_ = p.deliver(ctx, msg) // without it the server gives up by itself
	}
	switch {
	case m.Method == wire.MethodPing:
		reply(wire.Raw("{}"), nil)
	case p.said.era == wire.Modern:
		reply(nil, cannotAsk)
	default:
		p.questions.put(func() asking { return find().of(m) }, m, progressBy(p.deliver), reply)
	}
}

// noted routes a notification: progress to the call whose token it has, wherever it
// came, and the rest to whoever the stream is for.
func (p *httpPeer) noted(m wire.Message, to func(wire.Message)) {
	switch m.Method {
	case wire.MethodProgress:
		token, _ := wire.Lookup(m.Params, "progressToken")
		text, _ := wire.String(token)
		p.mu.Lock()
		call, ok := p.tokens[text]
		if ok {
			m.Params, to = wire.SetMember(m.Params, "progressToken", call.token), call.h.note
		} else {
			m, to = p.made.route(text, m, &p.calls, &p.subs)
		}
		p.mu.Unlock()
	case wire.MethodCancelled:
		id, _ := wire.Lookup(m.Params, "requestId")
		p.questions.withdraw(id)
		return
	}
	if to != nil {
		to(m)
	}
}

// tell posts it: the relationship is one client's.
func (p *httpPeer) tell(ctx context.Context, _, method string, params wire.Raw) {
	_ = p.deliver(ctx, wire.AppendNotification(nil, method, params))
}

// progresses gives a request a token of our own: those of two sessions of one client
// may be alike. It is over with the answer, unless that is a task.
func (p *httpPeer) progresses(id wire.ID, o outgoing, h handler) (params wire.Raw, over func(answer wire.Message)) {
	token, ok := wire.Lookup(o.params, "_meta", wire.MetaProgressToken)
	if !ok {
		return o.params, func(wire.Message) {}
	}
	ours := "k" + string(id.Raw)
	p.mu.Lock()
	token = slices.Clone(token)
	p.tokens[ours] = progressing{token, h}
	p.mu.Unlock()
	return withToken(o.params, wire.Quote(ours)), func(answer wire.Message) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.tokens, ours)
		if p.said.era == wire.Legacy {
			p.made.add(ours, token, o.who, answer)
		}
	}
}

// subscribe opens the stream of notifications with its first subscriber.
func (p *httpPeer) subscribe(s subscriber) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.subs.add(s)
	p.listening()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.subs.to, n)
	}
}

// listening begins the stream of notifications; first says that it had not. The
// caller holds mu.
func (p *httpPeer) listening() (first bool) {
	if p.listen {
		return false
	}
	p.listen = true
	go p.follow()
	return true
}

// follow reads notifications until the peer is closed; it comes back after a
// while when the stream ends.
func (p *httpPeer) follow() {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		began := time.Now() // paces reconnections only
		if !p.followOnce() {
			return
		}
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// followOnce tells whether it makes sense to come back.
func (p *httpPeer) followOnce() bool {
	method, body, mirror := http.MethodGet, []byte(nil), kidoban.Fields(nil)
	if p.said.era == wire.Modern {
		params := modernParams(outgoing{params: wire.Raw(`{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}`)})
		peek, _ := wire.PeekParams(params)
		method, body, mirror = http.MethodPost, wire.AppendRequest(nil, wire.StringID("kidoban-listen"), wire.MethodListen, params), wire.MirrorHeaders(wire.MethodListen, peek, nil)
	}
	resp, err := p.send(p.ctx, method, body, mirror)
	p.hear.Do(func() { close(p.heard) })
	if err != nil {
		return p.ctx.Err() == nil
	}
	defer resp.Body.Close()
	switch mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return p.ctx.Err() == nil // not now
	case resp.StatusCode != http.StatusOK || mt != "text/event-stream":
		return false // not offered
	}
	in := wire.NewEventReader(p.s.paced(p.ctx, p.to.who, resp.Body), p.max)
	for {
		ev, err := in.Next()
		if err != nil {
			return p.ctx.Err() == nil
		}
		m, err := p.reader.Read(p.to.clean(ev.Data))
		if err == nil && m.Kind == wire.Request {
			m := own(m)
			p.asked(func() asking { return p.askedAside(m) }, m)
		}
		if err != nil || m.Kind != wire.Notification || m.Misplaced() || m.Method == methodAcknowledged {
			continue
		}
		p.noted(own(m), p.everybody)
	}
}

// everybody tells all who listen.
func (p *httpPeer) everybody(m wire.Message) {
	p.mu.Lock()
	subs := p.subs.all()
	p.mu.Unlock()
	for _, s := range subs {
		s.note(m)
	}
}
