package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// session is a legacy client's session with the gateway itself. What it is made
// of travels in its id, sealed, so that every replica and a restarted process
// know it; in memory is only what is under way. What the client set on the way (a
// log level, subscriptions) is noted, so that it can be told to a server anew.
type session struct {
	id      string
	user    string
	version string
	caps    wire.Raw

	mu    sync.Mutex
	calls map[string]context.CancelFunc // by the client's request id; guarded by mu
	asks  map[string]*question          // put to the client, by our request id; guarded by mu
	next  int
	last  time.Time
	wish  wishes
	noted string           // the note that the wishes were read from, or are; guarded by mu
	stale bool             // another replica changed the wishes; guarded by mu
	told  map[*server]peer // who has been told the wishes; guarded by mu

	following oneByOne // by server and resource: what it wishes and what the server hears last are the same
}

// wishes are what a client set for the length of its session.
type wishes struct {
	level string                     // of the log
	subs  map[string]map[string]bool // server → URIs of resources it follows
}

// What a session wants is written down for every replica, so it is bounded: the
// resources it follows, and each one's URI, in bytes.
const (
	maxSubs   = 64
	maxSubURI = 2048
)

// logLevels are those of the specification (server/utilities/logging).
var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// rememberable tells whether what a client sets is one of the few things it can be.
func rememberable(c *call) bool {
	if c.Message.Method == wire.MethodSetLevel {
		return slices.Contains(logLevels, wire.LookupString(c.Message.Params, "level"))
	}
	return len(c.Params.URI) <= maxSubURI
}

// follows is how many resources a session follows, at all servers.
func (w *wishes) follows() (n int) {
	for _, uris := range w.subs {
		n += len(uris)
	}
	return n
}

func newSession(id, user, version string, caps wire.Raw, now time.Time) *session {
	return &session{id: id, user: user, version: version, caps: caps, last: now,
		calls: map[string]context.CancelFunc{}, asks: map[string]*question{}, told: map[*server]peer{}}
}

// seen tells when the session was used last, and whether something is under way in it.
func (s *session) seen() (last time.Time, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits = len(s.calls) > 0
	for _, q := range s.asks {
		waits = waits || q.open()
	}
	return s.last, waits
}

// seed is what the sealed id holds: the id, the version, and of the capabilities
// what decides which questions may be put.
func (s *session) seed() string {
	return s.id + "\n" + s.version + "\n" + string(s.caps)
}

func grown(seed, user string, now time.Time) (*session, bool) {
	parts := strings.SplitN(seed, "\n", 3)
	if len(parts) != 3 {
		return nil, false
	}
	return newSession(parts[0], user, parts[1], wire.Raw(parts[2]), now), true
}

// askable reduces capabilities to what decides about questions.
func askable(caps wire.Raw) wire.Raw {
	out := wire.Raw("{}")
	for _, name := range []string{"sampling", "roots"} {
		if _, ok := wire.Lookup(caps, name); ok {
			out = wire.SetMember(out, name, wire.Raw("{}"))
		}
	}
	if e, ok := wire.Lookup(caps, "elicitation"); ok {
		kept := wire.Raw("{}")
		for _, mode := range []string{"form", "url"} {
			if _, ok := wire.Lookup(e, mode); ok {
				kept = wire.SetMember(kept, mode, wire.Raw("{}"))
			}
		}
		out = wire.SetMember(out, "elicitation", kept)
	}
	return out
}

// session finds the caller's session. A client that never opened one gets a
// session for this request alone, in which it cannot be asked anything.
func (g *Gateway) session(c *call) (*session, *Refusal) {
	if c.session == "" {
		return newSession("", c.Caller.User, "", nil, time.Time{}), nil
	}
	unknown := refuse(http.StatusNotFound, 0, "session:unknown", "This session is not known. Initialize a new one.")
	now := g.deps.Now()
	fresh, ok := grown(c.session, c.Caller.User, now)
	if !ok {
		return nil, unknown
	}
	b := &g.bridges
	b.mu.Lock()
	s := b.sessions[fresh.id]
	b.mu.Unlock()
	stale, noted := s == nil, ""
	if s != nil {
		s.mu.Lock()
		s.last = now
		stale, noted = s.stale, s.noted
		s.mu.Unlock()
	}
	if !stale {
		return s, nil
	}
	note, err := g.sessionNote(c.r.Context(), fresh.id)
	switch {
	case err != nil:
		return nil, (&Refusal{Status: http.StatusServiceUnavailable, Rule: "session:unreadable", Retry: 2, Say: "The session cannot be read just now. Try again in a moment."}).because(err)
	case note == sessionEnded:
		b.mu.Lock()
		delete(b.sessions, fresh.id)
		b.mu.Unlock()
		return nil, unknown
	}
	if s == nil {
		s = b.keep(fresh)
	}
	s.mu.Lock()
	if s.noted == noted { // else a call beside this one knows better
		s.wish, s.noted, s.stale = readWishes(note), note, false
		s.told = map[*server]peer{}
	}
	s.mu.Unlock()
	return s, nil
}

// sessionEnded is the note of a session that its client has ended.
const sessionEnded = "ended"

func (g *Gateway) sessionNote(ctx context.Context, id string) (string, error) {
	note, err := g.deps.Notes.Recall(ctx, "session:"+id, g.deps.Now())
	if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
		return "", nil
	}
	return note, err
}

// noteSession writes down what must outlive this process and be known to others.
func (g *Gateway) noteSession(c *call, id, note, kind string) error {
	ctx := c.r.Context()
	if err := g.deps.Notes.Remember(ctx, "session:"+id, note, g.deps.Now().Add(c.st.config.StateLife)); err != nil {
		return err
	}
	return g.tellSession(c, id, kind)
}

func (g *Gateway) tellSession(c *call, id, kind string) error {
	if g.mail == nil {
		return nil
	}
	return g.mail.post(c.r.Context(), "*", letter{Kind: kind, Client: id, Text: c.who()})
}

// amendTries bounds how often a change of a session's wishes is made anew, because
// others were written down first: each time one of them has succeeded.
const amendTries = 2 * maxSubs

// amend changes what a session wants, and writes it down together with what others
// changed meanwhile, at this replica or another. A session that has ended stays so.
func (g *Gateway) amend(c *call, s *session, change func(*wishes)) error {
	ctx, key := c.r.Context(), "session:"+s.id
	for range amendTries {
		s.mu.Lock()
		change(&s.wish)
		was, note := s.noted, s.wish.text()
		s.mu.Unlock()
		now := g.deps.Now()
		done, err := g.deps.Notes.Amend(ctx, key, was, note, now, now.Add(c.st.config.StateLife))
		if err != nil {
			return err
		}
		if done {
			s.mu.Lock()
			if s.noted == was {
				s.noted = note
			}
			s.mu.Unlock()
			return g.tellSession(c, s.id, "changed")
		}
		there, err := g.sessionNote(ctx, s.id)
		if err != nil || there == sessionEnded {
			return err
		}
		s.mu.Lock()
		s.wish, s.noted = readWishes(there), there
		s.mu.Unlock()
	}
	return kidoban.Errorf(kidoban.KindLimit, "The session is changed too often at once.")
}

// notesHere is Notes for a process without a store; the oldest of too many go.
type notesHere struct {
	mu  sync.Mutex
	all map[string]noteHere
}

type noteHere struct {
	text    string
	expires time.Time
}

// Remember implements Notes.
func (n *notesHere) Remember(_ context.Context, key, value string, expires time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.all) >= maxUsed {
		oldest := key
		for k, o := range n.all {
			if oldest == key || o.expires.Before(n.all[oldest].expires) {
				oldest = k
			}
		}
		delete(n.all, oldest)
	}
	n.all[key] = noteHere{value, expires}
	return nil
}

// Amend implements Notes.
func (n *notesHere) Amend(ctx context.Context, key, was, value string, now, expires time.Time) (bool, error) {
	n.mu.Lock()
	o, ok := n.all[key]
	if !ok || !now.Before(o.expires) {
		o.text = ""
	}
	if o.text != was {
		n.mu.Unlock()
		return false, nil
	}
	n.all[key] = noteHere{value, expires} // so that nobody else finds what was
	n.mu.Unlock()
	return true, n.Remember(ctx, key, value, expires)
}

// Recall implements Notes.
func (n *notesHere) Recall(_ context.Context, key string, now time.Time) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o, ok := n.all[key]; ok && now.Before(o.expires) {
		return o.text, nil
	}
	return "", kidoban.Errorf(kidoban.KindNotFound, "there is no such note")
}

// text writes wishes as a note; readWishes reads it.
func (w wishes) text() string {
	var b strings.Builder
	b.WriteString("level " + strconv.Quote(w.level) + "\n")
	for _, server := range slices.Sorted(maps.Keys(w.subs)) {
		for _, uri := range slices.Sorted(maps.Keys(w.subs[server])) {
			b.WriteString("follow " + server + " " + strconv.Quote(uri) + "\n")
		}
	}
	return b.String()
}

func readWishes(note string) (w wishes) {
	for line := range strings.Lines(note) {
		line = strings.TrimSuffix(line, "\n")
		if quoted, ok := strings.CutPrefix(line, "level "); ok {
			w.level, _ = strconv.Unquote(quoted)
		} else if rest, ok := strings.CutPrefix(line, "follow "); ok {
			server, quoted, _ := strings.Cut(rest, " ")
			if uri, err := strconv.Unquote(quoted); err == nil {
				w.follow(server, uri)
			}
		}
	}
	return w
}

func (w *wishes) follow(server, uri string) {
	if w.subs == nil {
		w.subs = map[string]map[string]bool{}
	}
	if w.subs[server] == nil {
		w.subs[server] = map[string]bool{}
	}
	w.subs[server][uri] = true
}

// followed tells whether the session follows a server's resource, or what it is a
// part of.
func (s *session) followed(server, uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for whole := range s.wish.subs[server] {
		if partOf(uri, whole) {
			return true
		}
	}
	return false
}

// partOf tells whether a resource is the one that was subscribed to, or lies below it:
// servers may name the part that changed (schema, ResourceUpdatedNotification).
func partOf(uri, whole string) bool {
	rest, ok := strings.CutPrefix(uri, whole)
	return ok && (rest == "" || strings.HasSuffix(whole, "/") || rest[0] == '/' || rest[0] == '?' || rest[0] == '#')
}

// full tells whether the session follows as many resources as it may, without this one.
func (s *session) full(server, uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wish.follows() >= maxSubs && !s.wish.subs[server][uri]
}

// wished notes what a request sets for the session, before the server is asked: what it
// refuses, the next relationship with it is told once more and refuses again.
func (g *Gateway) wished(c *call, s *session, p peer) {
	if s.id == "" {
		return
	}
	var change func(*wishes)
	switch c.Message.Method {
	case wire.MethodSetLevel:
		change = func(w *wishes) { w.level = wire.LookupString(c.Message.Params, "level") }
	case wire.MethodSubscribe:
		change = func(w *wishes) {
			if w.follows() < maxSubs {
				w.follow(c.Server, c.Params.URI)
			}
		}
	case wire.MethodUnsubscribe:
		change = func(w *wishes) { delete(w.subs[c.Server], c.Params.URI) }
	default:
		return
	}
	if p != nil {
		s.mu.Lock()
		s.told[c.server] = p
		s.mu.Unlock()
	}
	if err := g.amend(c, s, change); err != nil {
		g.deps.Log.Warn("a session's settings were not noted", "error", err)
	}
}

// followingTurn is held while a wish to follow a resource, or no longer to, is noted and
// the server told.
func (s *session) followingTurn(ctx context.Context, server, uri string) (leave func(), err error) {
	return s.following.take(ctx, server+" "+uri)
}

// follows tells whether the session wants to hear of just this resource.
func (s *session) follows(server, uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wish.subs[server][uri]
}

// remind tells a relationship that is new to the session of c what was set in it.
func (g *Gateway) remind(ctx context.Context, c *call, s *session, srv *server, p peer) {
	s.mu.Lock()
	level, uris := s.wish.level, slices.Sorted(maps.Keys(s.wish.subs[srv.Name]))
	done := s.told[srv] == p
	s.told[srv] = p
	s.mu.Unlock()
	if done || p.hello().era == wire.Modern {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, srv.Wait) // a process has no limit of its own, and a call waits
	defer cancel()
	ask := func(method, member, value string) {
		_, err := p.request(ctx, outgoing{method: method, params: wire.SetMember(wire.Raw("{}"), member, wire.Quote(value)), who: c.who()}, handler{})
		if err != nil {
			g.deps.Log.Info("a server was not told a session's settings", "server", srv.Name, "error", err)
		}
	}
	if level != "" && p.hello().has("logging") {
		ask(wire.MethodSetLevel, "level", level)
	}
	for _, uri := range uris {
		leave, err := s.followingTurn(ctx, srv.Name, uri)
		if err != nil {
			return // the client has gone
		}
		if s.follows(srv.Name, uri) {
			ask(wire.MethodSubscribe, "uri", uri)
		}
		leave()
	}
}

// told acts on a letter about sessions and lists.
func (b *bridges) told(l letter) {
	switch l.Kind {
	case "lists":
		b.list.drop(l.User, l.Client)
		return
	case "tell":
		b.g.mail.wg.Go(func() { b.tell(b.g.ctx, l) })
		return
	case "taken":
		b.g.limits.Charge(b.g.state.Load().config.Limits, l.Taken)
		return
	case "rates":
		if r := b.g.deps.Rates; r != nil {
			r.Charge(b.g.state.Load().config.Limits, l.Taken)
		}
		return
	}
	b.mu.Lock()
	s := b.sessions[l.Client]
	if l.Kind == "ended" {
		delete(b.sessions, l.Client)
	}
	b.mu.Unlock()
	if l.Kind == "ended" {
		b.left(l.Text)
	}
	if s == nil {
		return
	}
	switch l.Kind {
	case "reply":
		s.answered(wire.Message{ID: wire.ID{Raw: l.ID}, Result: l.Result, Error: l.Error})
	case "cancelled":
		s.cancel(string(l.ID))
	case "progress":
		s.progressed(l.Text, l.Params)
	case "changed":
		s.mu.Lock()
		s.stale = true
		s.mu.Unlock()
	case "ended":
		s.endCalls()
	}
}

// doubt has all sessions read again what is noted of them: others may have changed or
// ended them.
func (b *bridges) doubt() {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.sessions))
	b.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		s.stale = true
		s.mu.Unlock()
	}
}

func (s *session) endCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.calls {
		f()
	}
}

// cancel ends a call of the client; false when it is not made here.
func (s *session) cancel(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.calls[id]
	if f != nil {
		f()
	}
	return f != nil
}

// where is this process's name in ids that clients carry.
func (g *Gateway) where() string {
	if g.mail == nil {
		return ""
	}
	return g.mail.name
}
