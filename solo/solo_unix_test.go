//go:build unix

package solo

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start returns a mode that may begin, and what it has asked of the processors.
func start() (*Mode, *clock, *[]bool) {
	c, asked := &clock{now: time.Unix(1, 0)}, new([]bool)
	m := newMode(c.Now, func(one bool) { *asked = append(*asked, one) })
	m.Allow(true)
	return m, c, asked
}

// calls makes n calls on a connection, one after the other, each after every.
func calls(m *Mode, c *clock, client string, n int, every time.Duration) {
	for range n {
		c.pass(every)
		m.enter(client)
		m.running.Add(-1)
	}
}

// TestOneCallerBeginsTheMode: call after call on one connection, often enough.
func TestOneCallerBeginsTheMode(t *testing.T) {
	m, c, asked := start()
	calls(m, c, "a", 1, time.Millisecond)
	calls(m, c, "a", int(Window/time.Millisecond)-1, time.Millisecond)
	if m.On() {
		t.Fatal("on before the window has passed")
	}
	calls(m, c, "a", 1, time.Millisecond)
	if !m.On() || len(*asked) != 1 || !(*asked)[0] {
		t.Fatalf("on: %v, processors: %v", m.On(), *asked)
	}
	calls(m, c, "a", 100, time.Millisecond)
	if !m.On() || len(*asked) != 1 {
		t.Fatalf("it did not stay on: %v, processors: %v", m.On(), *asked)
	}
}

// TestWhatDoesNotBegin: rare calls, calls of two connections, calls where the operator
// or the system does not want it, and a nil Mode.
func TestWhatDoesNotBegin(t *testing.T) {
	m, c, _ := start()
	calls(m, c, "a", 1000, 3*time.Millisecond)
	if m.On() {
		t.Error("on with rare calls")
	}
	for range 1000 {
		calls(m, c, "a", 1, time.Millisecond/2)
		calls(m, c, "b", 1, time.Millisecond/2)
	}
	if m.On() {
		t.Error("on with two connections in turns")
	}
	m.Allow(false)
	if calls(m, c, "a", 1000, time.Millisecond); m.On() {
		t.Error("on though it may not be")
	}
	if (*Mode)(nil).On() {
		t.Error("a nil Mode is on")
	}
}

// TestWhatEndsIt: a second call at once, another connection, a stream or a page, few
// calls, and the operator. After others at the same time it rests.
func TestWhatEndsIt(t *testing.T) {
	get := func(m *Mode, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept", accept)
		m.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	}
	for name, one := range map[string]struct {
		end   func(*Mode, *clock)
		rests bool
	}{
		"a second call at once": {func(m *Mode, _ *clock) { m.enter("a"); m.enter("a"); m.running.Add(-2) }, true},
		"another connection":    {func(m *Mode, c *clock) { calls(m, c, "b", 1, 0) }, true}, // for the first one calls on
		"a page":                {func(m *Mode, _ *clock) { get(m, "text/html") }, true},
		"a stream":              {func(m *Mode, _ *clock) { get(m, "application/json, text/event-stream") }, false},
		"few calls":             {func(m *Mode, _ *clock) { m.look(); m.look() }, false},
		"the operator":          {func(m *Mode, _ *clock) { m.Allow(false); m.Allow(true) }, false},
	} {
		m, c, asked := start()
		if calls(m, c, "a", 100, time.Millisecond); !m.On() {
			t.Fatalf("%s: not on", name)
		}
		if one.end(m, c); m.On() || len(*asked) != 2 || (*asked)[1] {
			t.Errorf("%s: on is %v, processors %v", name, m.On(), *asked)
		}
		if calls(m, c, "a", 100, time.Millisecond); m.On() == one.rests {
			t.Errorf("%s: on again at once is %v", name, m.On())
		}
		c.pass(Rest)
		if calls(m, c, "a", 100, time.Millisecond); !m.On() {
			t.Errorf("%s: not on again", name)
		}
	}
}

// TestNeverForTwo: whatever happens, the mode is never on while two calls are under
// way, and the processors are as it says.
func TestNeverForTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, c, asked := start()
		running := 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			c.pass(time.Duration(rapid.IntRange(0, 3000).Draw(t, "µs")) * time.Microsecond)
			switch rapid.IntRange(0, 40).Draw(t, "what") {
			case 0:
				m.stream()
			case 1:
				m.look()
			case 2:
				m.Allow(rapid.Bool().Draw(t, "allowed"))
			case 3, 4:
				m.enter(rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "client"))
				running++
			case 5, 6, 7:
				if running > 0 {
					m.running.Add(-1)
					running--
				}
			default:
				m.enter("a")
				if running > 0 && m.On() {
					t.Fatal("on with two calls")
				}
				m.running.Add(-1)
			}
			if running > 1 && m.On() {
				t.Fatal("on with two calls")
			}
			if one := len(*asked) > 0 && (*asked)[len(*asked)-1]; one != m.On() {
				t.Fatalf("on is %v, one processor %v", m.On(), one)
			}
		}
	})
}

// TestRunEndsTheMode: with few calls, and with the context. Here the processors are
// the program's.
func TestRunEndsTheMode(t *testing.T) {
	c := &clock{now: time.Unix(1, 0)}
	m := New(c.Now)
	before := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	m.Allow(true)
	calls(m, c, "a", 100, time.Millisecond)
	if n := runtime.GOMAXPROCS(0); !m.On() || n != 1 {
		t.Fatalf("on is %v with %d processors", m.On(), n)
	}
	go func() { defer close(ended); m.Run(ctx) }()
	for m.On() { // no call comes
		time.Sleep(time.Millisecond)
	}
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Fatalf("%d processors afterwards, %d before", n, before)
	}
	cancel()
	<-ended
	if calls(m, c, "a", 100, time.Millisecond); m.On() {
		t.Error("on after Run has ended")
	}
}

// TestProcessorsAreAsBefore: also where the operator has said how many.
func TestProcessorsAreAsBefore(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, given := range []string{"", "3"} {
		t.Setenv("GOMAXPROCS", given)
		if runtime.SetDefaultGOMAXPROCS(); given != "" {
			runtime.GOMAXPROCS(3)
		}
		want := runtime.GOMAXPROCS(0)
		var p processors
		if p.set(true); runtime.GOMAXPROCS(0) != 1 {
			t.Errorf("%q: %d processors in the mode", given, runtime.GOMAXPROCS(0))
		}
		if p.set(false); runtime.GOMAXPROCS(0) != want {
			t.Errorf("%q: %d processors afterwards, want %d", given, runtime.GOMAXPROCS(0), want)
		}
	}
}

// TestANewConnectionIsNoSecondCaller: who calls over one connection after the other is
// alone. Who comes back after another has called is not, until the other is silent.
func TestANewConnectionIsNoSecondCaller(t *testing.T) {
	m, c, _ := start()
	for _, client := range []string{"1", "2", "3"} {
		if calls(m, c, client, 100, time.Millisecond); !m.On() {
			t.Errorf("connection %s: not on", client)
		}
	}
	for i := range 20 { // another calls every now and then
		calls(m, c, "other", 1, time.Millisecond)
		calls(m, c, "3", 1000, time.Millisecond)
		if m.On() {
			t.Fatalf("turn %d: on beside another", i)
		}
	}
	for range 20 { // and many others, once each
		for _, client := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			calls(m, c, client, 1, time.Millisecond)
		}
		if len(m.earlier) > remembered {
			t.Fatalf("%d connections are kept", len(m.earlier))
		}
	}
	calls(m, c, "3", int(Rest/time.Millisecond)+200, time.Millisecond)
	if !m.On() {
		t.Error("not on after the others were silent")
	}
}
