// Package solo makes calls quick that come one at a time.
//
// A server of Go hands a call over several times: from the goroutine that waits for
// the client to the one that answers, to the one that watches whether the client
// stays, to timers. While others ask too, that is how all processors are used. For a
// single caller who asks call after call it only costs: each step wakes a thread on
// a processor that sleeps, which takes longer than the step, and in between the
// caller's and the server's own processors are disturbed. So while one connection
// alone asks, and often, a Mode does two things. It gives the program one processor
// (runtime.GOMAXPROCS), so that nothing is handed over; and whoever waits for bytes
// that are about to come looks for them for a moment before it sleeps, as HAProxy
// does with busy-polling and Linux with guest_halt_poll_ns.
//
// It is meant for a gateway between one caller and a server nearby. With a call on
// another connection, or a second one at once, the Mode ends before that call is served;
// where two call in turns it stays away for as long as they do; and it ends by itself
// when calls become rare. A slow server makes them rare, so looking never takes more than
// a fraction of a processor that had nothing to do.
package solo

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Window is how long one connection must have been the only one before the mode
	// begins, and how long it may be silent before it ends.
	Window = 25 * time.Millisecond
	// often is the number of calls in a Window that pays: one in two milliseconds.
	// Look twice for as long as Look in each, and it is a fifth of a processor.
	often = 12
	// Look is how long a reader looks for bytes before it sleeps.
	Look = 200 * time.Microsecond
	// Heed is how long the program may go on looking before it sleeps once: only then
	// does the runtime, which has work all the time, see what came on other connections.
	Heed = 4 * time.Millisecond
	// Rest is how long the mode stays away after two have called in turns, or at once.
	Rest = 5 * time.Second
	// remembered is how many connections that called before the latest are known.
	remembered = 8
)

// Mode knows who calls. The zero value is not usable; New makes one. It is safe for
// concurrent use. A nil Mode never begins.
type Mode struct {
	now   func() time.Time
	procs func(one bool)

	on      atomic.Bool
	running atomic.Int32 // calls under way
	heeded  atomic.Int64 // when a reader last went to sleep, after origin
	origin  time.Time
	begun   chan struct{}

	mu      sync.Mutex
	allowed bool      // guarded by mu
	client  string    // connection of the latest call; guarded by mu
	earlier []seen    // those before it, the latest at the end; guarded by mu
	calls   int       // of it in this window; guarded by mu
	since   time.Time // start of the window; guarded by mu
	resting time.Time // not before this; guarded by mu
}

// seen is when a connection last called.
type seen struct {
	client string
	at     time.Time
}

// New returns a Mode for the process, of which there is one. now is the clock. The
// mode begins once Allow says so, and Run must run while it may.
func New(now func() time.Time) *Mode { return newMode(now, new(processors).set) }

func newMode(now func() time.Time, procs func(bool)) *Mode {
	return &Mode{now: now, procs: procs, origin: time.Now(), begun: make(chan struct{}, 1)}
}

// processors are those of the program. The Mode's lock guards them.
type processors struct{ before int }

// set gives the program one processor, or as many as before. Where the environment
// says nothing about them, the runtime goes on to follow what the system allows.
func (p *processors) set(one bool) {
	if one {
		p.before = runtime.GOMAXPROCS(1)
		return
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
		if runtime.GOMAXPROCS(0) >= 2 { // else two were given where the system has one
			return
		}
	}
	runtime.GOMAXPROCS(p.before)
}

// On tells whether the mode is on.
func (m *Mode) On() bool { return m != nil && m.on.Load() }

// Handler counts the calls to next. Every request is one, but for the streams that
// clients hold open with GET; to open one ends the mode all the same.
func (m *Mode) Handler(next http.Handler) http.Handler {
	if m == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			m.stream()
			next.ServeHTTP(w, r)
			return
		}
		m.enter(r.RemoteAddr)
		defer m.running.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// due tells whether it is time to sleep once, and if so says that somebody does.
func (m *Mode) due() bool {
	now, last := int64(time.Since(m.origin)), m.heeded.Load()
	return now-last >= int64(Heed) && m.heeded.CompareAndSwap(last, now)
}

// enter is the beginning of a call on the connection of client.
func (m *Mode) enter(client string) {
	together := m.running.Add(1) > 1
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if client != m.client || together {
		if together || m.back(client, now) {
			m.resting = now.Add(Rest)
		}
		m.change(client, now)
		return
	}
	if m.calls++; m.on.Load() || now.Sub(m.since) < Window {
		return
	}
	if m.allowed && m.calls >= often && !now.Before(m.resting) {
		m.on.Store(true)
		m.procs(true)
		select {
		case m.begun <- struct{}{}:
		default:
		}
	}
	m.calls, m.since = 0, now
}

// back tells whether client has called not long ago, before the latest one did: then
// there are two, and not one that has a new connection. m.mu is held.
func (m *Mode) back(client string, now time.Time) bool {
	for _, s := range m.earlier {
		if s.client == client && now.Sub(s.at) < Rest {
			return true
		}
	}
	return false
}

// change ends the mode because another connection calls; m.mu is held.
func (m *Mode) change(client string, now time.Time) {
	if m.on.Load() {
		m.end()
	}
	if client != m.client {
		m.earlier = slices.DeleteFunc(m.earlier, func(s seen) bool { return s.client == m.client })
		if len(m.earlier) == remembered {
			m.earlier = slices.Delete(m.earlier, 0, 1)
		}
		m.earlier = append(m.earlier, seen{m.client, now})
	}
	m.client, m.calls, m.since = client, 0, now
}

// stream is a stream that is opened.
func (m *Mode) stream() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change(m.client, m.now())
}

// end ends the mode; m.mu is held, so that it cannot begin meanwhile.
func (m *Mode) end() {
	m.on.Store(false)
	m.procs(false)
}

// Allow tells whether the mode may begin; false ends it, too.
func (m *Mode) Allow(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.allowed = yes && canLook; !m.allowed && m.on.Load() {
		m.end()
	}
}

// Run ends the mode when calls have become rare, and for good when ctx ends.
func (m *Mode) Run(ctx context.Context) {
	defer m.Allow(false)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.begun:
		}
		tick := time.NewTicker(Window)
		for m.on.Load() {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				m.look()
			}
		}
		tick.Stop()
	}
}

// look ends the mode after a window with few calls.
func (m *Mode) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on.Load() && m.calls < often {
		m.end()
	}
	m.calls, m.since = 0, m.now()
}
