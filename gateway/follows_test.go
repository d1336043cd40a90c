package gateway

import (
	"context"
	"fmt"
	"io"
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

// TestGPX5_WhoUnsubscribesLeavesItToOthers: a server takes all who use one relationship
// for one client. It is told that nobody follows a resource when nobody does: not when
// one of two windows, or of two streams, no longer does.
func TestGPX5_WhoUnsubscribesLeavesItToOthers(t *testing.T) {
	up := newFollows(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, generous)
	unsubscribed := func() int { return up.asked(`"resources/unsubscribe"`) }
	bob := r.do(http.MethodPost, r.url+"/mcp", initialize, "Authorization", "Bearer "+r.as.token(t, r.url+"/mcp", "bob", nil)).header.Get("Mcp-Session-Id")
	if a := r.asClient("/mcp", "bob", "client-1", bob, `{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"s+x://y"}}`); !strings.Contains(a.body, `"result"`) {
		t.Fatalf("bob, whose relationship is his own: %d %s", a.status, a.body)
	}
	one, two := r.window("/mcp"), r.window("/mcp")
	for _, w := range []window{one, two} {
		if a := w.ask("resources/subscribe", `{"uri":"s+x://y"}`); !strings.Contains(a.body, `"result"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for i, w := range []window{one, two} {
		if a := w.ask("resources/unsubscribe", `{"uri":"s+x://y"}`); !strings.Contains(a.body, `"result"`) || unsubscribed() != i {
			t.Errorf("window %d: %s; the server was told %d times", i, a.body, unsubscribed())
		}
	}

	body, header := modern("subscriptions/listen", `"notifications":{"resourceSubscriptions":["s+x://y"]}`, "")
	header = append(header, "Authorization", "Bearer "+r.as.token(t, r.url+"/mcp", "alice", nil), "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	listen := func() (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/mcp", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			q.Header.Set(header[i], header[i+1])
		}
		resp, err := r.http.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil { // what was agreed to
			t.Fatal(err)
		}
		return func() { cancel(); resp.Body.Close() }
	}
	wait := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); followersOf(r) != n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the gateway does not count %d", n)
			}
		}
	}
	three, four := listen(), listen()
	wait(3) // with bob
	three()
	wait(2)
	if one.ask("resources/subscribe", `{"uri":"s+x://y"}`); !strings.Contains(one.ask("resources/unsubscribe", `{"uri":"s+x://y"}`).body, `"result"`) || unsubscribed() != 1 {
		t.Errorf("beside a stream the server was told %d times", unsubscribed())
	}
	two.ask("resources/subscribe", `{"uri":"s+x://y"}`)
	four()
	wait(2)
	if two.ask("resources/unsubscribe", `{"uri":"s+x://y"}`); unsubscribed() != 2 {
		t.Errorf("at the end the server was told %d times", unsubscribed())
	}
	five := listen()
	wait(2)
	five()
	if n := atLeast(unsubscribed, 3); n != 3 {
		t.Errorf("after the last stream the server was told %d times", n)
	}
}

// followersOf is how many follow resources over the relationships of a gateway.
func followersOf(r *rig) (n int) {
	b := &r.g.bridges
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.peers {
		<-h.ready
		p, ok := h.p.(*httpPeer)
		if !ok {
			continue
		}
		p.follows.mu.Lock()
		n += len(p.follows.all)
		p.follows.mu.Unlock()
	}
	return n
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
	if a := call(); !strings.Contains(a.body, `"result"`) { // in a session begun for it
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
	for {
		if _, err := in.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the stream goes on: %v", err)
		}
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
		go func() { r.g.remind(t.Context(), &call{}, s, r.g.state.Load().servers["s"], d); close(done) }()
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

// TestGPX3_ASlowServerHoldsUpNoStream: at the endpoint for all servers a client's stream
// begins, and tells of one server, while others do not answer; and it tells of a
// server that had no stream for us at first.
func TestGPX3_ASlowServerHoldsUpNoStream(t *testing.T) {
	silent := newRaw(t, func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() })
	var streams atomic.Int64
	up := newLegacy(t, `{"tools":{"listChanged":true}}`, func(w http.ResponseWriter, r *http.Request, _ string) bool {
		switch {
		case r.Method != http.MethodGet:
			return false
		case streams.Add(1) == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		return true
	})
	good := at("good", up.URL)
	good.Era = "legacy"
	servers := []Server{good}
	for i := range 2 * fanOut {
		bad := at(fmt.Sprint("bad", i), silent.URL)
		bad.Era, bad.Wait = "legacy", 10*time.Minute
		servers = append(servers, bad)
	}
	r := newRig(t, servers, generous)
	w := r.window("/mcp")
	until(t, r.openEvents(http.MethodGet, r.url+"/mcp", "", w.header()...), "list_changed")
}

// TestGPX3_ASilentServerHoldsUpNoWatch: nor does a stream with resources to watch wait for
// a server of one of them for as long as that may take to answer: it begins with what the
// others agreed to, and says so.
func TestGPX3_ASilentServerHoldsUpNoWatch(t *testing.T) {
	silent := newRaw(t, func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() })
	good, bad := at("good", newFollows(t).URL), at("bad", silent.URL)
	good.Era, bad.Era, bad.Wait = "legacy", "legacy", 10*time.Minute
	r := newRig(t, []Server{good, bad}, generous)
	body, header := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["bad+x://y","good+x://y"]}`, "")
	header = append(header, "Authorization", "Bearer "+r.as.token(t, r.url+"/mcp", "alice", nil))
	until(t, r.openEvents(http.MethodPost, r.url+"/mcp", body, header...), `"resourceSubscriptions":["good+x://y"]`)
}
