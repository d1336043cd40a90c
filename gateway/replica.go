package gateway

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// Several processes on one database are one gateway. What a client holds is
// sealed and opens on each of them (seal.go). What lives in one process, because
// it is a conversation under way or a relationship with a server that remembers
// something, is found from the others: each such relationship has one home, and
// letters through the database carry requests there and answers back. A home that
// dies is taken over by whoever needs it next.

// Replicas is what processes on one database share. The bodies of letters are
// sealed; the database learns nothing from them.
type Replicas interface {
	// Beat says that name lives and returns every name's count of beats. Names that
	// are not in the answer have gone.
	Beat(ctx context.Context, name string) (map[string]int64, error)
	// Bury forgets a name and what it holds, if its count is still beat; with a
	// negative beat in any case.
	Bury(ctx context.Context, name string, beat int64) error
	// Claim makes name the holder of key if it has none, or if its holder is
	// instead; of several callers one wins. It returns the holder.
	Claim(ctx context.Context, key, name, instead string) (holder string, err error)
	// Release ends a claim that name holds.
	Release(ctx context.Context, key, name string) error
	// Post sends a letter to a name, "*" to all. Letters of one sender arrive in
	// order, or, when the receiver is away, never. At most 64 MiB.
	Post(ctx context.Context, to string, body []byte) error
	// Receive gives f the letters for name until ctx ends or the connection does.
	// ready is called when letters arrive from now on.
	Receive(ctx context.Context, name string, ready func(), f func(body []byte)) error
}

// Notes are small texts that outlive a process.
type Notes interface {
	// Remember stores value until expires, durably.
	Remember(ctx context.Context, key, value string, expires time.Time) error
	// Amend does that if the value there is was, or there is none (or none any more, at
	// now) and was is empty; otherwise it changes nothing and returns false. Of several
	// at once that found the same value one is not told false.
	Amend(ctx context.Context, key, was, value string, now, expires time.Time) (bool, error)
	// Recall returns it; KindNotFound when there is none or it has expired.
	Recall(ctx context.Context, key string, now time.Time) (string, error)
}

const (
	beatEvery = time.Second
	// deadAfter is how long a replica that says nothing is believed to live.
	deadAfter = 4 * time.Second
	// letterLife bounds the age of a letter, so that an old one says nothing. The clock of
	// who reads it may be five minutes ahead (docs/replicas.md).
	letterLife = 6 * time.Minute
	// maxServed bounds the conversations led here for other replicas.
	maxServed = 10_000
)

// letter is what one replica writes to another. Kind says which members count.
// While an upgrade rolls, replicas of neighbouring versions write to each other, so
// members keep their names, types and meanings for ever; how what is new is
// introduced is told in unread.go.
type letter struct {
	Kind   string
	Needs  int // the letterVersion that a reader must have at least
	From   string
	Box    string // the conversation it belongs to
	Server string
	User   string
	Client string
	Method string
	ID     []byte
	Params []byte
	Result []byte
	Error  []byte
	Caps   []byte
	Num    int
	Text   string
	Taken  []limit.Taken
}

// mail is this process's place among the others.
type mail struct {
	g    *Gateway
	to   Replicas
	name string
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	lives  map[string]*life   // of the others; guarded by mu
	boxes  map[string]*box    // conversations that others lead for us; guarded by mu
	served map[string]*served // conversations led here for others; guarded by mu
	beaten time.Time          // our last beat that succeeded; guarded by mu
	ready  chan struct{}      // closed when letters arrive
}

// life is what is known of another replica.
type life struct {
	beat   int64
	at     time.Time // when the count last changed, by our clock
	leaves bool      // it has said that it ends soon
}

// box collects the letters of one conversation.
type box struct {
	from  string
	since time.Time
	in    chan letter
}

// openMail joins the others. It returns when letters arrive, or after a while
// without them: a gateway whose database is away starts all the same.
func openMail(g *Gateway, r Replicas, name string) *mail {
	ctx, end := context.WithCancel(context.Background())
	m := &mail{g: g, to: r, name: name, end: end, lives: map[string]*life{}, boxes: map[string]*box{}, served: map[string]*served{}, ready: make(chan struct{})}
	_ = m.beat(ctx) // the next one comes soon
	m.wg.Go(func() { m.receive(ctx) })
	m.wg.Go(func() { m.pulse(ctx) })
	m.wg.Go(func() { m.share(ctx) })
	select {
	case <-m.ready:
	case <-time.After(5 * time.Second):
	}
	return m
}

// close says farewell: what we held is free at once.
func (m *mail) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = m.to.Bury(ctx, m.name, -1)             // without it the others find out by themselves
	_ = m.post(ctx, "*", letter{Kind: "gone"}) // likewise
	m.end()
	m.wg.Wait()
}

func (m *mail) receive(ctx context.Context) {
	first := true
	ready := func() {
		if first {
			close(m.ready)
		} else {
			m.again(ctx)
		}
		first = false
	}
	for ctx.Err() == nil {
		err := m.to.Receive(ctx, m.name, ready, m.arrived)
		if ctx.Err() == nil {
			m.g.deps.Log.Warn("letters of other replicas are interrupted", "error", err)
		}
		m.lost("") // answers may have been missed: whoever waits for one tries anew
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// again takes up what may have been missed while no letters arrived: what goes on with
// others is begun anew, but for what they still know of, and sessions are read again.
func (m *mail) again(ctx context.Context) {
	m.lost("")
	m.g.bridges.doubt()
	m.wg.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(settled):
		}
		m.mu.Lock()
		ids := slices.AppendSeq(slices.Collect(maps.Keys(m.boxes)), maps.Keys(m.served))
		m.mu.Unlock()
		if err := m.post(ctx, "*", letter{Kind: "back", Text: strings.Join(ids, " ")}); err != nil && ctx.Err() == nil {
			m.g.deps.Log.Warn("the other replicas do not know what this one missed", "error", err)
		}
	})
}

// settled is how long a replica that hears again waits before it tells what it knows
// of, and how old a conversation must be to be missing in that: younger ones began when
// it heard, and older ones have arrived by then.
const settled = time.Second

// missed ends the conversations of which a replica does not know that did not hear for a
// while: what should begin or end them is lost.
func (m *mail) missed(l letter) {
	known := map[string]bool{}
	for _, id := range strings.Fields(l.Text) {
		known[id] = true
	}
	before := time.Now().Add(-settled)
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, b := range m.boxes {
		if b.from == l.From && !known[id] && b.since.Before(before) {
			delete(m.boxes, id)
			close(b.in)
		}
	}
	for id, s := range m.served {
		if s.to == l.From && !known[id] && s.since.Before(before) {
			s.cancel()
		}
	}
}

// every does something at an interval, not at once, until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// pulse beats, and buries those whose beat has stopped.
func (m *mail) pulse(ctx context.Context) {
	every(ctx, beatEvery, func() {
		if err := m.beat(ctx); err != nil && ctx.Err() == nil {
			m.g.deps.Log.Warn("the other replicas do not see this one", "error", err)
		}
	})
}

// shareEvery is how often replicas tell each other what they gave of the rates.
const shareEvery = 200 * time.Millisecond

// share tells the others what was given of the rates (limit.Memory.Charge).
func (m *mail) share(ctx context.Context) {
	every(ctx, shareEvery, func() {
		m.tellTaken(ctx, "taken", m.g.limits)
		if m.g.deps.Rates != nil {
			m.tellTaken(ctx, "rates", m.g.deps.Rates)
		}
	})
}

func (m *mail) tellTaken(ctx context.Context, kind string, of *limit.Memory) {
	taken := of.Taken()
	if m.others() == 0 {
		return
	}
	for piece := range slices.Chunk(taken, 100) { // a notification's worth
		if err := m.post(ctx, "*", letter{Kind: kind, Taken: piece}); err != nil {
			return // the database is away, and with it what else would be told
		}
	}
}

func (m *mail) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadAfter/2)
	defer cancel()
	beats, err := m.to.Beat(ctx, m.name)
	now := m.g.deps.Now()
	if err != nil {
		return err
	}
	m.mu.Lock()
	// Whose count begins anew was buried, perhaps while its last beat was on its way.
	asleep := !m.beaten.IsZero() && (now.Sub(m.beaten) > deadAfter || beats[m.name] == 1)
	m.beaten = now
	bury := map[string]int64{}
	var gone []string
	for name, n := range beats {
		l := m.lives[name]
		switch {
		case name == m.name:
		case l == nil:
			m.lives[name] = &life{beat: n, at: now}
		case l.beat != n:
			l.beat, l.at = n, now
		case now.Sub(l.at) > deadAfter:
			bury[name] = n
		}
	}
	for name := range m.lives {
		if _, there := beats[name]; !there || bury[name] != 0 {
			delete(m.lives, name)
			gone = append(gone, name)
		}
	}
	m.mu.Unlock()
	if asleep { // the others may have taken over what we held
		m.g.bridges.rehome()
	}
	for _, name := range gone {
		m.lost(name)
	}
	for name, n := range bury {
		if err := m.to.Bury(ctx, name, n); err != nil {
			return err
		}
	}
	return nil
}

// alive tells whether another replica lives.
func (m *mail) alive(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lives[name] != nil
}

// takes tells whether another replica lives, and begins what is new.
func (m *mail) takes(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.lives[name]
	return o != nil && !o.leaves
}

// leave tells the others that they lead what is new from now on. What is under way here
// goes on until rest has waited for it.
func (m *mail) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = m.post(ctx, "*", letter{Kind: "leaves"}) // who does not hear it hears errMoved
}

// crossing is how long letters are answered that were on their way when the others
// heard that we leave.
const crossing = 500 * time.Millisecond

// rest waits until nothing is led here for others, or ctx ends.
func (m *mail) rest(ctx context.Context) {
	crossed := time.Now().Add(crossing)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		m.mu.Lock()
		over := len(m.served) == 0 && (len(m.lives) == 0 || time.Now().After(crossed))
		m.mu.Unlock()
		if over {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// others is how many live beside us.
func (m *mail) others() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lives)
}

// lost ends the conversations that a replica led for us, or all, and those it
// wanted from us.
func (m *mail) lost(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, b := range m.boxes {
		if name == "" || b.from == name {
			delete(m.boxes, id)
			close(b.in)
		}
	}
	for _, s := range m.served {
		if s.to == name {
			s.cancel()
		}
	}
}

// post seals a letter and sends it.
func (m *mail) post(ctx context.Context, to string, l letter) error {
	l.From = m.name
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&l); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "a letter cannot be written")
	}
	body, err := m.g.seal.close(b.Bytes(), binding("letter", to), letterLife)
	if err != nil {
		return err
	}
	return m.to.Post(ctx, to, body)
}

// arrived takes a letter in. It does not block: what takes time has a goroutine.
func (m *mail) arrived(body []byte) {
	l, ok := m.read(body, m.name)
	if !ok {
		if l, ok = m.read(body, "*"); !ok {
			return
		}
	}
	if l.From == m.name {
		return
	}
	if l.Needs > letterVersion {
		m.unread(l)
		return
	}
	switch l.Kind {
	case "open", "request", "subscribe", "resume":
		m.serve(l)
	case "answer", "cancel", "said":
		m.mu.Lock()
		s := m.served[l.Box]
		m.mu.Unlock()
		if s != nil {
			s.take(l)
		}
	case "leaves":
		m.mu.Lock()
		if o := m.lives[l.From]; o != nil {
			o.leaves = true
		}
		m.mu.Unlock()
	case "gone":
		m.mu.Lock()
		delete(m.lives, l.From)
		m.mu.Unlock()
		m.lost(l.From)
	case "back":
		m.missed(l)
	case "reply", "cancelled", "progress", "tell", "changed", "ended", "lists", "taken", "rates":
		m.g.bridges.told(l)
	case "note", "ask", "opened", "done", "fail":
		m.into(l)
	default:
		m.unread(l)
	}
}

// into puts a letter into the box of the conversation that its writer leads for us,
// and tells whether there is one.
func (m *mail) into(l letter) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[l.Box]
	if b == nil || b.from != l.From {
		return false
	}
	select {
	case b.in <- l:
	default: // it does not keep up: its conversation is broken off rather than full of holes
		delete(m.boxes, l.Box)
		close(b.in)
	}
	return true
}

func (m *mail) read(body []byte, to string) (l letter, ok bool) {
	plain, ok := m.g.seal.undo(body, binding("letter", to))
	if !ok {
		return l, false
	}
	return l, gob.NewDecoder(bytes.NewReader(plain)).Decode(&l) == nil
}

// open makes a box for a conversation with another replica.
func (m *mail) open(from string) (id string, b *box, shut func()) {
	id, b = newID(), &box{from: from, since: time.Now(), in: make(chan letter, 256)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boxes[id] = b
	return id, b, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.boxes, id)
	}
}

// claim finds the home of a relationship; without one it is here.
func (m *mail) claim(ctx context.Context, key peerKey) (home string, err error) {
	text := key.text()
	home, err = m.to.Claim(ctx, text, m.name, "")
	for err == nil && home != m.name && !m.takes(home) {
		// A name we have not seen yet may have come a moment ago.
		if !m.alive(home) {
			if err = m.beat(ctx); err != nil || m.alive(home) {
				break
			}
		}
		home, err = m.to.Claim(ctx, text, m.name, home)
	}
	return home, err
}

// release frees a relationship's home when it has ended here.
func (m *mail) release(key peerKey) {
	m.wg.Go(func() { m.releaseNow(key) })
}

func (m *mail) releaseNow(key peerKey) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = m.to.Release(ctx, key.text(), m.name) // else it stays ours, which harms nobody
}

// text names a relationship without naming anybody.
func (k peerKey) text() string {
	return hex.EncodeToString(binding("home", k.s.Name, k.user, k.client))
}
