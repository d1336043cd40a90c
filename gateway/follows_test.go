package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// follows is a legacy server of resources, and of a session that ends when the test says.
type follows struct {
	*raw
	session atomic.Int64
}

func newFollows(t *testing.T) *follows {
	f := &follows{}
	f.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		now := fmt.Sprint("s", f.session.Load())
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", now)
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"1"}}`)
		case r.Header.Get("Mcp-Session-Id") != now:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(body, `"id"`) && strings.Contains(body, `"method"`):
			result(w, body, `{"content":[]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return f
}

// window is a legacy session of alice's client with the gateway.
type window struct {
	*rig
	url, id string
}

func (r *rig) window(path string) window {
	r.t.Helper()
	a := r.asClient(path, "alice", "client-1", "", initialize)
	if id := a.header.Get("Mcp-Session-Id"); id != "" {
		return window{r, path, id}
	}
	r.t.Fatalf("%d %s", a.status, a.body)
	return window{}
}

func (w window) ask(method, params string) answer {
	w.t.Helper()
	return w.asClient(w.url, "alice", "client-1", w.id, `{"jsonrpc":"2.0","id":3,"method":"`+method+`","params":`+params+`}`)
}

func (w window) header() []string {
	return []string{"Authorization", "Bearer " + w.as.token(w.t, w.rig.url+w.url, "alice", nil), "Mcp-Session-Id", w.id}
}

// TestGPX2_ANewRelationshipHearsWhatASessionSet: a server that forgot a session is told,
// once, the log level and what the client follows now, whether a call or the client's
// stream finds it.
func TestGPX2_ANewRelationshipHearsWhatASessionSet(t *testing.T) {
	up := newFollows(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, generous)
	w := r.window("/mcp")
	for _, a := range []answer{w.ask("resources/subscribe", `{"uri":"s+x://1"}`), w.ask("resources/subscribe", `{"uri":"s+x://2"}`), w.ask("resources/unsubscribe", `{"uri":"s+x://1"}`)} {
		if !strings.Contains(a.body, `"result"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	told := func(first, second int) {
		t.Helper()
		if a, b := up.asked(`"resources/subscribe","params":{"uri":"x://1"}`), atLeast(func() int { return up.asked(`"resources/subscribe","params":{"uri":"x://2"}`) }, second); a != first || b != second {
			t.Errorf("the server was told %d and %d times", a, b)
		}
	}
	call := func() answer { return w.ask("tools/call", `{"name":"s__x","arguments":{}}`) }
	call()
	call()
	told(1, 1)
	up.session.Add(1)
	if a := call(); strings.Contains(a.body, `"result"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	call()
	call()
	told(1, 2)
	r.openEvents(http.MethodGet, r.url+"/mcp", "", w.header()...)
	told(1, 2)
	up.session.Add(1)
	call() // finds that the session has ended; the stream goes on without another call
	told(1, 3)
}

// TestTR20_ASessionsEndEndsWhatIsUnderWay: calls and the stream of a session that its
// client ends do not go on, and the server hears that nobody waits.
func TestTR20_ASessionsEndEndsWhatIsUnderWay(t *testing.T) {
	begun := make(chan struct{})
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case strings.Contains(body, "tools/call"):
			close(begun)
			<-r.Context().Done()
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, generous, func(c *Config, _ *Deps) { c.KeepAlive = 20 * time.Millisecond })
	w := r.window("/mcp")
	in := r.openEvents(http.MethodGet, r.url+"/mcp", "", w.header()...)
	called := make(chan string, 1)
	go func() { called <- w.ask("tools/call", `{"name":"s__x","arguments":{}}`).body }()
	<-begun
	if a := r.do(http.MethodDelete, r.url+"/mcp", "", w.header()...); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	select {
	case body := <-called:
		if strings.Contains(body, `"result"`) {
			t.Error(body)
		}
	case <-time.After(time.Minute):
		t.Fatal("the call goes on")
	}
	if n := atLeast(func() int { return up.asked("notifications/cancelled") }, 1); n != 1 {
		t.Errorf("the server heard %d cancellations", n)
	}
	ended := make(chan struct{})
	go func() { // ends with the stream
		for {
			if _, err := in.Next(); err != nil {
				close(ended)
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the stream goes on")
	}
}

// TestGPX2_ALevelIsToldToWhoLogs: a relationship that is new to a session hears its log
// level, if the server said that it logs.
func TestGPX2_ALevelIsToldToWhoLogs(t *testing.T) {
	r := newRig(t, []Server{at("s", "http://127.0.0.1:1")})
	for _, caps := range []string{`{"logging":{}}`, `{}`} {
		p, d := openMemory(t)
		d.said.capabilities = wire.Raw(caps)
		s := newSession("id", "alice", "2025-11-25", nil, time.Now())
		s.wish.level = "notice"
		s.wish.follow("s", "x://y")
		done := make(chan struct{})
		go func() { r.g.remind(t.Context(), s, r.g.state.Load().servers["s"], d); close(done) }()
		id := 2
		if strings.Contains(caps, "logging") {
			if got := p.next(t); got != `{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"notice"}}` {
				t.Error(got)
			}
			p.in <- `{"jsonrpc":"2.0","id":2,"result":{}}`
			id++
		}
		if got := p.next(t); got != fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/subscribe","params":{"uri":"x://y"}}`, id) {
			t.Error(got)
		}
		p.in <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, id)
		<-done
	}
}
