package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// route finds the session a legacy message belongs to, opens the requestState of
// a modern one, and decides between passing and bridging.
func (g *Gateway) route(_ *state, c *call) *Refusal {
	if c.Era == wire.Legacy {
		return g.openSession(c)
	}
	return g.openState(c)
}

func (c *call) sessionBinding() []byte {
	return binding("session", c.Caller.User, c.Caller.Client, c.target.path)
}

// openSession finds the server's own session id in the one the client sent. One
// that was made for another user, client or server is as unknown as a made-up
// one (E07, RS-14).
func (g *Gateway) openSession(c *call) *Refusal {
	ids := c.r.Header.Values(wire.HeaderSession)
	if len(ids) == 0 || c.Message.Method == wire.MethodInitialize {
		return nil
	}
	if len(ids) > 1 {
		return refuse(http.StatusBadRequest, 0, "session:twice", "There is more than one Mcp-Session-Id header.")
	}
	plain, ok := g.seal.open(ids[0], c.sessionBinding())
	if !ok || len(plain) < 1 {
		return refuse(http.StatusNotFound, 0, "session:unknown", "This session is not known. Initialize a new one.")
	}
	c.mode, c.session = plain[0], string(plain[1:])
	return nil
}

// Modes of a session: the server's own id follows, or the id of a bridge.
const (
	modePass   = 'p'
	modeBridge = 'b'
	modeRetry  = 'r' // a state of our own: the server never saw the request
)

func (g *Gateway) sealSession(c *call, mode byte, id string) (string, error) {
	return g.seal.seal(append([]byte{mode}, id...), c.sessionBinding(), c.st.config.StateLife)
}

// stateBinding binds a requestState to its request: the same user, client, address,
// server (the aggregate has many), method, name and arguments must come back with
// it (TR-17, E08).
func (c *call) stateBinding() []byte {
	arguments := c.Params.Arguments
	if c.sent != nil {
		arguments = c.sent
	}
	return binding("state", c.Caller.User, c.Caller.Client, c.target.path, c.Server, c.Message.Method, c.Params.Name, c.Params.URI, string(arguments))
}

func (g *Gateway) openState(c *call) *Refusal {
	if c.Params.RequestState == nil {
		return nil
	}
	sealed, isText := wire.String(c.Params.RequestState)
	plain, ok := g.seal.open(sealed, c.stateBinding())
	if !isText || !ok || len(plain) < 1 {
		return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "state:unknown", "The requestState is not valid for this request, or has expired. Start again without it.")
	}
	if plain[0] == modeRetry { // as if it were the first time
		params := wire.DropMember(wire.DropMember(c.Message.Params, "requestState"), "inputResponses")
		c.Message.Params, c.Params.RequestState, c.Params.InputResponses = params, nil, nil
		return nil
	}
	if first, err := g.spend(c.r.Context(), c.st, sealed); err != nil || !first {
		return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "state:used", "The requestState was used before. Start again without it.").because(err)
	}
	c.mode, c.upState = plain[0], wire.Raw(plain[1:])
	return nil
}

// forward relays the call to the server and the answer to the client.
func (g *Gateway) forward(st *state, c *call) *Refusal {
	bridge, refusal := g.needsBridge(c)
	if refusal != nil {
		return refusal
	}
	if bridge {
		return g.bridge(st, c)
	}
	return g.pass(st, c)
}

// needsBridge tells whether messages cannot simply pass: another transport,
// another era, or the aggregate.
func (g *Gateway) needsBridge(c *call) (bool, *Refusal) {
	if c.mode != 0 {
		return c.mode == modeBridge, nil
	}
	if c.target.server == nil && c.Era == wire.Legacy {
		return true, nil // its session is ours
	}
	if c.server == nil || c.server.Transport != TransportHTTP {
		return true, nil
	}
	modern, legacy, ok := c.server.eras.known(g.deps.Now())
	if c.Era == wire.Legacy {
		return ok && !legacy, nil // unknown: the attempt tells
	}
	if !ok {
		var refusal *Refusal
		if modern, refusal = g.probe(c); refusal != nil {
			return false, refusal
		}
	}
	return !modern, nil
}

// envelope is about what a new envelope has more than the one it replaces, in bytes.
const envelope = 64

// pass sends the message on in a new envelope. What the server answers comes
// back the same way.
func (g *Gateway) pass(st *state, c *call) *Refusal {
	if c.Message.Method == wire.MethodListen {
		g.narrow(st, c)
	}
	params := c.Message.Params
	if c.upState != nil {
		params = wire.SetMember(params, "requestState", c.upState)
	}
	m := c.Message
	m.Params = params
	body := wire.AppendMessage(g.rooms.Take(len(m.Raw)+envelope), m)
	resp, up, refusal := g.send(st, c, http.MethodPost, body)
	if c.server.http.Short(len(body)) { // else somebody may read it still
		g.rooms.Give(body)
	}
	if refusal != nil {
		return refusal
	}
	defer up.close()
	return g.answer(st, c, resp, up)
}

// upcall is a request to a server under way. Its context ends when the server
// keeps silent for too long; touch puts that off.
type upcall struct {
	server *server
	user   string
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
	body   io.ReadCloser
	now    func() time.Time
	failed bool // the server did something wrong
	gone   bool // the client left first, or the server was not asked
}

var errSilent = errors.New("the server kept silent for too long")

func (u *upcall) touch() { u.timer.Reset(u.idle) }

func (u *upcall) close() {
	u.timer.Stop()
	if u.body != nil {
		u.body.Close()
	}
	u.cancel(nil)
	u.server.breaker.done(u.now(), u.user, u.failed, u.gone)
}

// Read reads the answer's body and puts off the end with every piece.
func (u *upcall) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	if n > 0 {
		u.touch()
	}
	return n, err
}

// send makes one HTTP request to the server. On success the caller closes up.
func (g *Gateway) send(st *state, c *call, method string, body []byte) (*http.Response, *upcall, *Refusal) {
	s := c.server
	if ok, retry := s.breaker.enter(g.deps.Now(), c.Caller.User); !ok {
		return nil, nil, leftAlone(s.Name, retry)
	}
	ctx, cancel := context.WithCancelCause(c.r.Context())
	up := &upcall{server: s, user: c.Caller.User, cancel: cancel, idle: st.config.IdleWait, now: g.deps.Now}
	up.timer = time.AfterFunc(s.Wait, func() { cancel(errSilent) })
	for attempt := 0; ; attempt++ {
		resp, refusal := g.attempt(ctx, c, method, body, attempt > 0)
		if refusal != nil {
			up.failed = refusal.Rule == "upstream:timeout" || refusal.Rule == "upstream:unreachable"
			up.gone = c.r.Context().Err() != nil || !up.failed // without an account it was not asked
			up.close()
			return nil, nil, refusal
		}
		if no, err := g.login(c, s).refusal(ctx, resp, attempt > 0); no {
			resp.Body.Close()
			if err == nil {
				continue // once more, with a renewed credential
			}
			up.close()
			return nil, nil, g.unaccepted(c, err)
		}
		up.body = resp.Body
		up.touch()
		return resp, up, nil
	}
}

// leftAlone is the answer for a server whose breaker is open.
func leftAlone(name string, retry time.Duration) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, RPC: wire.CodeInternal, Rule: "breaker", Retry: int(retry/time.Second) + 1,
		Say: "The server " + name + " does not answer at present. Try again later."}
}

func (g *Gateway) attempt(ctx context.Context, c *call, method string, body []byte, renew bool) (*http.Response, *Refusal) {
	account, refusal := g.credential(ctx, c, renew)
	if refusal != nil {
		return nil, refusal
	}
	c.account = account
	req := (&http.Request{Method: method, URL: c.server.url, Host: c.server.url.Host, Header: c.upHeader(method, account)}).WithContext(ctx)
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	resp, err := c.server.http.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		return nil, refuse(http.StatusGatewayTimeout, wire.CodeInternal, "upstream:timeout", "The server "+c.server.Name+" did not answer in time.").because(err)
	}
	return nil, refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:unreachable", "The server "+c.server.Name+" cannot be reached.").because(err)
}

// upHeader builds the header of a request to the server from nothing: of what
// the client sent, only the members of the protocol go on, recomputed from the
// message where they mirror it. Its Authorization, cookies, addresses and
// everything else stay here (RS-06, E06, E33).
func (c *call) upHeader(method string, account []Header) http.Header {
	h := make(http.Header, 12)
	h["User-Agent"] = []string{userAgent}
	if method == http.MethodPost {
		h["Content-Type"] = []string{"application/json"}
		h["Accept"] = []string{"application/json, text/event-stream"}
	} else if method == http.MethodGet {
		h["Accept"] = []string{"text/event-stream"}
		if c.after != "" {
			h["Last-Event-Id"] = []string{c.after}
		}
	}
	if c.Era == wire.Modern {
		for _, f := range wire.MirrorHeaders(c.Message.Method, c.Params, c.annotated) {
			h.Set(f.Name, f.Value)
		}
		if c.Params.ProtocolVersion == "" {
			h.Set(wire.HeaderVersion, c.Version)
		}
		for name, values := range c.r.Header {
			if _, done := h[name]; !done && strings.HasPrefix(name, wire.HeaderParamPrefix) && len(name) < 128 {
				h[name] = values // judged by the server, which knows the schema (TR-07)
			}
		}
	} else {
		if v := c.r.Header.Get(wire.HeaderVersion); v != "" {
			h.Set(wire.HeaderVersion, v)
		}
		if c.session != "" {
			h.Set(wire.HeaderSession, c.session)
		}
	}
	for _, name := range [...]string{"Traceparent", "Tracestate"} {
		if v := c.r.Header.Get(name); v != "" && len(v) <= 512 {
			h[name] = []string{v}
		}
	}
	for _, f := range c.server.Header {
		h.Set(f.Name, f.Value)
	}
	for _, f := range account {
		h.Set(f.Name, f.Value)
	}
	return h
}

// answer relays a response to a POST.
func (g *Gateway) answer(st *state, c *call, resp *http.Response, up *upcall) *Refusal {
	if refusal := g.sessionBack(c, resp); refusal != nil {
		return refusal
	}
	mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK && mt == "text/event-stream" && c.Message.Kind == wire.Request:
		return g.stream(st, c, up, false)
	case resp.StatusCode == http.StatusOK && mt == "application/json" && c.Message.Kind == wire.Request,
		resp.StatusCode == http.StatusBadRequest && mt == "application/json",
		resp.StatusCode == http.StatusNotFound && mt == "application/json":
		return g.document(st, c, resp, up)
	case (resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusOK) && c.Message.Kind != wire.Request:
		c.rec.Status = http.StatusAccepted
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return g.misfit(c, resp, up)
}

// misfit answers for a server whose HTTP status says no.
func (g *Gateway) misfit(c *call, resp *http.Response, up *upcall) *Refusal {
	name := c.Server
	switch resp.StatusCode {
	case http.StatusNotFound:
		if c.session != "" {
			return refuse(http.StatusNotFound, 0, "upstream:session", "The session has ended at the server. Initialize a new one.")
		}
	case http.StatusBadRequest:
		return refuse(http.StatusBadRequest, wire.CodeInvalidRequest, "upstream:refused", "The server "+name+" did not accept the message.")
	case http.StatusTooManyRequests:
		return &Refusal{Status: http.StatusTooManyRequests, RPC: wire.CodeInternal, Rule: "upstream:rate", Retry: 5, Say: "The server " + name + " is asked too often. Wait and try again."}
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
	default:
		up.failed = true
		c.server.eras.forget() // it may have been replaced
	}
	return refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:status", "The server "+name+" answered with something that is not MCP.")
}

// sessionBack seals the session id that the server gave out.
func (g *Gateway) sessionBack(c *call, resp *http.Response) *Refusal {
	id := resp.Header.Get(wire.HeaderSession)
	if id == "" || c.Era == wire.Modern || c.Message.Method != wire.MethodInitialize {
		return nil
	}
	if len(id) > 1024 {
		return refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:session", "The server "+c.Server+" gave out a session id that is too long.")
	}
	sealed, err := g.sealSession(c, modePass, id)
	if err != nil {
		return refuse(http.StatusInternalServerError, wire.CodeInternal, "session", "The session cannot be opened.").because(err)
	}
	c.w.Header().Set(wire.HeaderSession, sealed)
	c.session = id // ids of events in this answer are of the session, too
	return nil
}

// document relays an answer that is one JSON message.
func (g *Gateway) document(st *state, c *call, resp *http.Response, up *upcall) *Refusal {
	load := c.server.hoarder(c.r.Context(), c.Caller.User, up)
	defer load.rest()
	read, passing := load.kept, c.Message.Method == wire.MethodToolsCall
	if passing { // of other answers, parts are kept
		read = load.whole
	}
	in, err := read(st.config.MaxResponse, resp.ContentLength)
	if err != nil {
		return g.broken(c, up, err)
	}
	if passing {
		defer g.rooms.Give(in)
	}
	leave, err := g.heavy.enter(c.r.Context(), len(in))
	if err != nil {
		return g.broken(c, up, err)
	}
	defer leave()
	m, err := st.answers.Read(withoutSecrets(in, c.account))
	if err != nil {
		if resp.StatusCode != http.StatusOK {
			return g.misfit(c, resp, up)
		}
		return g.broken(c, up, err)
	}
	if m.Kind == wire.ErrorReply && c.Message.Method == wire.MethodInitialize && c.mode == 0 && g.modernOnly(m) {
		c.server.eras.learn(g.deps.Now(), true, false)
		up.gone = true // says nothing bad of the server
		leave()
		return g.bridge(st, c)
	}
	m, refusal := g.back(c, m)
	if refusal != nil {
		return refusal
	}
	leave()
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	c.rec.Status = resp.StatusCode
	if resp.StatusCode != http.StatusOK {
		c.w.WriteHeader(resp.StatusCode)
	}
	c.writeBody(m)
	return nil
}

// broken is the answer for a server that answered with what cannot be read.
func (g *Gateway) broken(c *call, up *upcall, err error) *Refusal {
	if c.r.Context().Err() != nil {
		up.gone = true
	}
	if errors.Is(err, errCrowded) {
		up.gone = true // there is no room for the answer: that says nothing of it
		return crowded(c.Server, err)
	}
	up.failed = true
	if errors.Is(err, errTooLong) || wire.WhyOf(err) == wire.WhyTooLarge {
		return refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:too_large", "The answer of the server "+c.Server+" is longer than the gateway allows.").because(err)
	}
	return refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:malformed", "The server "+c.Server+" answered with something that is not a valid message.").because(err)
}

// crowded is the answer when there is no room for a long one of the server.
func crowded(name string, cause error) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, RPC: wire.CodeInternal, Rule: "upstream:crowded", Retry: 2,
		Say: "The server " + name + " sends too many large answers at once. Try again in a moment.", Cause: cause}
}

// back judges a message on its way to the client and makes it ours: lists become
// private, states are sealed, guards see it.
func (g *Gateway) back(c *call, m wire.Message) (wire.Message, *Refusal) {
	switch m.Kind {
	case wire.Result, wire.ErrorReply:
		if !m.ID.Equal(c.Message.ID) && (m.Kind == wire.Result || m.ID.Present()) {
			return m, refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:id", "The server "+c.Server+" answered another request than the one it was asked.")
		}
		m.ID = c.Message.ID
	}
	m, refusal := g.pages(c, m)
	if refusal != nil {
		return m, refusal
	}
	m = g.sealTasks(c, m)
	if m.Kind == wire.Result {
		if m.Result, refusal = g.result(c, m.Result); refusal != nil {
			return m, refusal
		}
	}
	if r := g.deps.Guards.Results; r != nil {
		if m, refusal = r.Guard(c.r.Context(), &c.Call, m); refusal != nil {
			return m, refusal
		}
	}
	if p := g.deps.Guards.Policy; p != nil {
		return m, p.Saw(c.r.Context(), &c.Call, m)
	}
	return m, nil
}

func (g *Gateway) result(c *call, result wire.Raw) (wire.Raw, *Refusal) {
	switch c.Message.Method {
	case wire.MethodToolsList:
		c.server.catalog.learn(c.accountKey(), c.Params.Cursor == "", result)
		fallthrough
	case wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodTemplatesList, wire.MethodDiscover, wire.MethodInitialize:
		if p := g.deps.Guards.Pins; p != nil {
			var refusal *Refusal
			if result, refusal = p.List(c.r.Context(), &c.Call, result); refusal != nil {
				if c.Message.Method == wire.MethodToolsList {
					c.server.catalog.forget(c.accountKey()) // nobody has judged it: the next call asks anew
				}
				return nil, refusal
			}
		}
		if p := g.deps.Guards.Policy; p != nil && c.server != nil {
			c.Upstream = &c.server.Server
			var refusal *Refusal
			if result, refusal = p.List(c.r.Context(), &c.Call, result); refusal != nil {
				return nil, refusal
			}
		}
		fallthrough
	case wire.MethodResourcesRead:
		// What one user may see is not for a cache that others share (TR-15, E31).
		if scope, ok := wire.Lookup(result, "cacheScope"); ok && string(scope) != `"private"` {
			result = wire.SetMember(result, "cacheScope", wire.Raw(`"private"`))
		}
	}
	if c.Era != wire.Modern {
		return result, nil
	}
	return g.sealState(c, result)
}

// sealState puts our envelope round the server's requestState.
func (g *Gateway) sealState(c *call, result wire.Raw) (wire.Raw, *Refusal) {
	state, ok := wire.Lookup(result, "requestState")
	if !ok || wire.LookupString(result, "resultType") != "input_required" {
		return result, nil
	}
	sealed, err := g.seal.seal(append([]byte{modePass}, state...), c.stateBinding(), c.st.config.StateLife)
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, wire.CodeInternal, "state", "The request cannot be continued.").because(err)
	}
	return wire.SetMember(result, "requestState", wire.Quote(sealed)), nil
}
