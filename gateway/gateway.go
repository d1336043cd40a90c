package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/wire"
)

// Gateway is the relay. It is an http.Handler for the paths of Paths, safe for
// concurrent use. Close ends what it holds.
type Gateway struct {
	deps    Deps
	limits  *limit.Memory
	seal    *sealer
	rooms   wire.Rooms
	state   atomic.Pointer[state]
	places  places
	begun   begun
	hoard   hoard
	heavy   heavy
	stalls  stalls
	mail    *mail           // nil without other replicas
	ctx     context.Context // ended by Close
	cancel  context.CancelFunc
	drain   context.Context // ended by Drain
	empty   context.CancelFunc
	bridges bridges
	covers  covers

	reload sync.Mutex // one Reload at a time
}

// state is one config in force. A request keeps the one it began with.
type state struct {
	config    Config
	front     front
	verifier  *verifier
	requests  *wire.Reader // of clients
	answers   *wire.Reader // of servers
	basePath  string
	targets   map[string]*target // by path
	documents map[string]*target // by path of the metadata
	servers   map[string]*server
}

// New returns a gateway. Errors of kind usage are the operator's to fix.
func New(c Config, d Deps) (*Gateway, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Address == nil {
		d.Address = connectionAddress
	}
	if d.Once == nil {
		d.Once = &usedHere{ids: map[string]time.Time{}}
	}
	if d.Notes == nil {
		d.Notes = &notesHere{all: map[string]noteHere{}}
	}
	seal, err := newSealer(d.StateKey, d.Rand, d.Now)
	if err != nil {
		return nil, err
	}
	g := &Gateway{deps: d, limits: limit.NewMemory(0, d.Now), seal: seal, heavy: newHeavy()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.drain, g.empty = context.WithCancel(g.ctx)
	g.places.user = map[string]int{}
	g.bridges.init(g)
	if err := g.Reload(c); err != nil {
		g.cancel()
		return nil, err
	}
	if d.Replicas != nil {
		g.mail = openMail(g, d.Replicas, newID())
	}
	return g, nil
}

// Reload puts a config in force, whole or not at all. Servers whose config did
// not change keep their connections and processes.
func (g *Gateway) Reload(c Config) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.withDefaults()
	if !c.Open && (g.deps.Keys == nil || g.deps.Liveness == nil) {
		return kidoban.Errorf(kidoban.KindUsage, "the gateway needs an authorization server's keys, or must be opened by name (open)")
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the public URL is not a URL")
	}
	old := g.state.Load()
	st := &state{
		config: c, front: newFront(c), verifier: newVerifier(c, g.deps), basePath: u.EscapedPath(),
		requests: wire.NewReader(wire.Limits{MaxBytes: c.MaxRequest}), answers: wire.NewReader(wire.Limits{MaxBytes: c.MaxResponse}),
		targets: map[string]*target{}, documents: map[string]*target{}, servers: map[string]*server{},
	}
	if old != nil && old.config.Issuer == c.Issuer {
		st.verifier = old.verifier // with the tokens it knows
	}
	base := u.Scheme + "://" + u.Host
	for i := range c.Servers {
		s := g.keep(old, &c.Servers[i], c)
		st.servers[s.Name] = s
		t, err := newTarget(c, base, st.basePath, "/s/"+s.Name+"/mcp", s.Title, s.Scopes, s)
		if err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "the metadata of %s cannot be written", s.Name)
		}
		st.add(t)
	}
	if !c.NoAggregate {
		t, err := newTarget(c, base, st.basePath, "/mcp", "", MinScopes, nil)
		if err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "the metadata of the aggregate cannot be written")
		}
		st.add(t)
		st.documents[prmPath] = t
	}
	g.state.Store(st)
	g.retire(old, st)
	return nil
}

func (st *state) add(t *target) {
	st.targets[st.basePath+t.path] = t
	st.documents[prmPath+st.basePath+t.path] = t
}

// Resources lists the audiences that the gateway protects.
func (g *Gateway) Resources() []string {
	st := g.state.Load()
	var out []string
	for _, t := range st.targets {
		out = append(out, t.resource)
	}
	return out
}

// Serves tells whether the gateway answers a path.
func (g *Gateway) Serves(path string) bool {
	st := g.state.Load()
	return st.targets[strings.TrimSuffix(path, "/")] != nil || st.documents[strings.TrimSuffix(path, "/")] != nil
}

// Drain ends the streams that would stay open for ever, so that a server can shut
// down; calls under way go on. Clients open their streams anew, elsewhere. Other
// replicas lead what they want of this one themselves from now on.
func (g *Gateway) Drain() {
	g.empty()
	if g.mail != nil {
		g.mail.leave()
	}
}

// Rest waits, after Drain, until what other replicas have under way here is done, or
// ctx ends.
func (g *Gateway) Rest(ctx context.Context) {
	if g.mail != nil {
		g.mail.rest(ctx)
	}
}

// Close ends held conversations and processes. Requests under way are the http
// server's to drain, before.
func (g *Gateway) Close() error {
	g.cancel()
	g.bridges.close()
	g.begun.watch.Wait()
	g.hoard.pieces.close()
	if g.mail != nil {
		g.mail.close()
	}
	if st := g.state.Load(); st != nil {
		for _, s := range st.servers {
			s.close()
		}
	}
	return nil
}

// call is one request with its connection.
type call struct {
	Call
	r      *http.Request
	w      http.ResponseWriter
	st     *state
	target *target
	server *server
	stalls *stalls
	rooms  *wire.Rooms
	room   []byte // holds the message; returned to the pool at the end
	from   time.Time

	here       bool // asked by another replica, which takes this one for the server's home
	unrecorded bool // counted by the journal instead of recorded
	dated      bool // a deadline for writing stands on the connection
	annotated  []wire.HeaderParam
	asked      wire.Params // as the client sent them; Params may be renamed and replaced
	sent       wire.Raw    // arguments before guards changed them; nil while they did not

	covers *coverage // of the grant, at the aggregate; nil is everything

	mode    byte     // of the session or state that came with the message; 0 without
	session string   // the server's own session id, or a bridge's
	after   string   // the server's own id of the event that the client saw last; "" without
	account []Header // the credential with which the server was asked
	upState wire.Raw // the server's own requestState
}

// ServeHTTP answers MCP endpoints and their metadata.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := g.state.Load()
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	if t := st.documents[path]; t != nil {
		t.serveMetadata(w, r)
		return
	}
	t := st.targets[path]
	if t == nil {
		http.Error(w, "There is no MCP server at this path.", http.StatusNotFound)
		return
	}
	c := &call{r: r, w: w, st: st, target: t, server: t.server, stalls: &g.stalls, rooms: &g.rooms}
	g.open(c)
	defer g.close(c)
	if refusal := g.serve(st, c); refusal != nil {
		g.refuse(c, refusal)
	}
}

// serve is the way of a call. Each step ends it with a refusal or lets it go on.
func (g *Gateway) serve(st *state, c *call) *Refusal {
	if j := g.deps.Journal; j != nil && j.Full() {
		c.unrecorded = true
		return &Refusal{Status: http.StatusServiceUnavailable, Rule: "journal", Retry: 5, Say: "The gateway cannot record calls at present and accepts none. Try again later."}
	}
	if refusal := st.front.check(c.r); refusal != nil {
		return refusal
	}
	if c.r.Method == http.MethodOptions {
		st.front.preflight(c.w, c.r)
		return nil
	}
	st.front.cors(c.w, c.r)
	if refusal := g.identify(st, c); refusal != nil {
		return refusal
	}
	leave, refusal := g.places.take(st.config, c.Caller.User)
	if refusal != nil {
		return refusal
	}
	defer leave()
	defer g.begin(st, c)()
	return c.revoked(g.answerTo(st, c))
}

// answerTo is the rest of the way, once it is known whose call it is.
func (g *Gateway) answerTo(st *state, c *call) *Refusal {
	switch c.r.Method {
	case http.MethodPost:
	case http.MethodGet:
		return g.listen(st, c)
	case http.MethodDelete:
		return g.end(st, c)
	default:
		c.w.Header().Set("Allow", "POST, GET, DELETE")
		return refuse(http.StatusMethodNotAllowed, 0, "method", "Send messages with POST.")
	}
	for _, step := range [...]func(*state, *call) *Refusal{
		g.read,    // one strict reading
		g.meter,   // which server, rates
		g.route,   // which session
		g.judge,   // policy, pins, arguments, approval
		g.forward, // account, relay, results guarded
	} {
		if refusal := step(st, c); refusal != nil {
			return refusal
		}
	}
	return nil
}

// open begins a call and its record.
func (g *Gateway) open(c *call) {
	c.from = g.deps.Now()
	c.Call.At, c.Call.ID = c.from, g.requestID(c.from)
	c.Address = g.deps.Address(c.r)
	c.rec.Status = http.StatusOK
	if c.server != nil {
		c.Server = c.server.Name
	}
	c.w.Header().Set("X-Request-Id", c.ID)
}

// requestID begins with the time, so that an index of many stays together, and is
// for finding, not for secrecy.
func (g *Gateway) requestID(now time.Time) string {
	var id [10]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	_, _ = io.ReadFull(g.deps.Rand, id[6:])
	return base32.StdEncoding.EncodeToString(id[:])
}

// refuse answers and notes why.
func (g *Gateway) refuse(c *call, r *Refusal) {
	c.rec.Status, c.rec.Decision, c.rec.Rule = r.Status, "refused", r.Rule
	if r.policies != nil {
		c.rec.Policies = r.policies
	}
	if r.Cause != nil {
		g.deps.Log.Info("refused", "request", c.ID, "rule", r.Rule, "cause", r.Cause)
	}
	challenge := ""
	if !c.st.config.Open {
		scheme, _, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
		challenge = c.target.wwwAuthenticate(r, strings.EqualFold(scheme, "DPoP") || r.Rule == ruleDPoP)
	}
	r.write(c.w, c.Message.ID, challenge)
}

// close ends the record. A record that cannot be kept is waited for: the call's
// answer is out, but its connection takes no next one before it is written.
func (g *Gateway) close(c *call) {
	if c.dated { // the connection's next request has its own
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	}
	r := &c.rec
	r.Trace = traceparent(c.asked.Meta, c.r.Header)
	g.rooms.Give(c.room) // nothing of the message is looked at after this
	if g.deps.Journal == nil || c.unrecorded {
		return
	}
	r.ID, r.At, r.Address = c.ID, c.from, c.Address
	r.User, r.Client, r.Grant, r.Server = c.Caller.User, c.Caller.Client, c.Caller.Grant, c.Server
	r.Era = string(c.Era)
	r.Micros = g.deps.Now().Sub(c.from).Microseconds()
	if r.Decision == "" {
		r.Decision = "allowed"
	}
	g.deps.Journal.Append(c.r.Context(), *r)
}

// identify finds the caller (RS-04) and whether its scopes reach this server.
func (g *Gateway) identify(st *state, c *call) *Refusal {
	if st.config.Open {
		return nil
	}
	caller, refusal := st.verifier.verify(c.r.Context(), c.r, c.target)
	if refusal != nil {
		return refusal
	}
	c.Caller = caller
	if !st.allows(caller.Scopes, c.target.scopes) {
		return insufficient("scope:server", c.target.scopes)
	}
	return g.findCoverage(c)
}

// insufficient is the 403 of RS-08: all scopes of the operation in one challenge.
func insufficient(rule string, scopes []string) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Rule: rule, Error: "insufficient_scope", Scopes: scopes,
		Say: "The access token lacks the scope for this. Ask for: " + strings.Join(scopes, " ")}
}

// meter finds the server and charges the rates of user, client, server and tool. A
// call that is for no server is charged like the others.
func (g *Gateway) meter(st *state, c *call) *Refusal {
	unknown := g.resolve(c)
	if st.config.Open {
		return unknown
	}
	l := st.config.Limits
	var asks [4]limit.Ask
	n := 0
	ask := func(lim limit.Limit, key string) { asks[n] = limit.Ask{Limit: lim, Key: key, Cost: 1}; n++ }
	if c.server != nil { // of its rate no user has more than a fair share
		if d := c.server.shares.Take(l.CallPerServer, c.Caller.User, g.limits.Left(l.CallPerServer, c.Server), c.from); !d.Allowed {
			return tooMany(d)
		}
		ask(l.CallPerServer, c.Server)
	}
	ask(l.CallPerUser, c.Caller.User)
	ask(l.CallPerClient, c.Caller.Client+"\x00"+c.Caller.User)
	if c.Message.Method == wire.MethodToolsCall {
		ask(l.CallPerTool, limit.Key(c.Caller.User, c.Server, c.Params.Name))
	}
	d := g.limits.Allow(asks[:n]...)
	if d.Allowed {
		if unknown == nil && c.Message.Kind == wire.Request { // what cancels or answers makes room
			return g.turned(c)
		}
		return unknown
	}
	if c.server != nil {
		c.server.shares.GiveBack(l.CallPerServer, c.Caller.User)
	}
	return tooMany(d)
}

// turned is the refusal of a call whose user has as much under way, of what is
// short at present, as the others leave: then it is not asked for first (G-PX3).
func (g *Gateway) turned(c *call) *Refusal {
	switch {
	case c.server != nil && c.server.flow.full(c.Caller.User):
		return crowded(c.Server, nil)
	case g.stalls.full(c.Caller.User):
		return &Refusal{Status: http.StatusServiceUnavailable, RPC: wire.CodeInternal, Rule: "stalled", Retry: 5,
			Say: "Your clients do not read the answers they asked for. Read or close them and try again."}
	}
	return nil
}

func tooMany(d limit.Decision) *Refusal {
	return &Refusal{Status: http.StatusTooManyRequests, RPC: wire.CodeInvalidRequest, Rule: "rate", Retry: d.RetrySeconds(), Say: "Too many calls. Wait and try again."}
}

// judge asks the guards in their order.
func (g *Gateway) judge(st *state, c *call) *Refusal {
	if c.server == nil {
		return nil
	}
	if refusal := g.connects(c, c.server); refusal != nil || c.Message.Kind != wire.Request {
		return refusal // who may not connect uses nothing of the server either
	}
	ctx, d := c.r.Context(), g.deps.Guards
	c.Upstream = &c.server.Server
	unlisted := g.listed(c)
	if c.Message.Method == wire.MethodToolsCall {
		c.Tool, c.toolSum = c.server.catalog.tool(c.accountKey(), c.Params.Name)
		if refusal := c.mirrorsArguments(); refusal != nil {
			return refusal
		}
	}
	if refusal := g.scoped(st, c); refusal != nil {
		return refusal
	}
	if ids := c.r.Header.Values(wire.HeaderSession); len(ids) > 0 {
		c.sessionID = string(binding(ids...))
	}
	if d.Policy != nil {
		if refusal := d.Policy.Decide(ctx, &c.Call); refusal != nil {
			return refusal
		}
	}
	if d.Pins != nil {
		refusal := d.Pins.Check(ctx, &c.Call)
		if refusal != nil && unlisted != nil && refusal.Rule == "pin:never_listed" {
			return unlisted // nothing says that the server lacks it
		}
		if refusal != nil {
			return refusal
		}
	}
	if d.Arguments != nil {
		params, refusal := d.Arguments.Guard(ctx, &c.Call)
		if refusal != nil {
			return refusal
		}
		if params != nil {
			var err error
			c.Message.Params, c.sent = params, c.Params.Arguments
			if c.sent == nil {
				c.sent = wire.Raw{}
			}
			if c.Params, err = wire.PeekParams(params); err != nil {
				return ofWire(err, http.StatusInternalServerError)
			}
			if d.Policy != nil { // about what will be sent, not what was asked for
				if refusal := d.Policy.Decide(ctx, &c.Call); refusal != nil {
					return refusal
				}
			}
		}
	}
	return g.approve(c)
}

// mirrorsArguments holds the Mcp-Param headers of a modern call to the arguments
// that the tool's schema says they mirror (TR-07).
func (c *call) mirrorsArguments() *Refusal {
	if c.Era != wire.Modern || c.Tool == nil {
		return nil
	}
	schema, _ := wire.Lookup(c.Tool, "inputSchema")
	annotated, err := wire.HeaderParams(schema)
	if err != nil || len(annotated) == 0 {
		return nil // such a tool is the client's to leave out (CL-16)
	}
	c.annotated = annotated
	if err := wire.CheckMirror(mirrored(c.r.Header), c.Message.Method, c.asked, annotated); err != nil {
		return ofWire(err, http.StatusBadRequest)
	}
	return nil
}

// places bounds calls and streams under way.
type places struct {
	mu   sync.Mutex
	all  int
	user map[string]int
}

func (p *places) take(c Config, user string) (leave func(), refusal *Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= c.MaxCalls || !c.Open && p.user[user] >= c.MaxPerUser {
		return nil, &Refusal{Status: http.StatusServiceUnavailable, Rule: "places", Retry: 5, Say: "Too many calls and streams are open at once. Close some and try again."}
	}
	p.all++
	p.user[user]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		if p.user[user]--; p.user[user] == 0 {
			delete(p.user, user)
		}
	}, nil
}

// connectionAddress is the peer of the connection.
func connectionAddress(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
