package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/wire"
)

// beside is a server that says on its stream of notifications what the test wants, and
// answers a request with what own says, or with an empty result.
type beside struct {
	*raw
	say chan string // a message without "jsonrpc"
}

func newBeside(t *testing.T, capabilities string, own func(w http.ResponseWriter, r *http.Request, body string) bool) *beside {
	s := &beside{say: make(chan string)}
	s.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body))
		switch {
		case own != nil && own(w, r, body):
		case r.Method == http.MethodGet || m.Method == wire.MethodListen:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case text := <-s.say:
					io.WriteString(w, `data: {"jsonrpc":"2.0",`+text+"}\n\n")
					w.(http.Flusher).Flush()
				}
			}
		case m.Method == wire.MethodInitialize:
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":`+capabilities+`,"serverInfo":{"name":"s","version":"1"}}`)
		case m.Method == wire.MethodDiscover:
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":`+capabilities+`,"ttlMs":0,"cacheScope":"private"}`)
		case m.Kind == wire.Request:
			result(w, body, `{"resultType":"complete"}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return s
}

// heard waits until the server was sent text, and returns what it was sent with it.
func (s *raw) heard(t *testing.T, text string) string {
	t.Helper()
	if atLeast(func() int { return s.asked(text) }, 1) == 0 {
		t.Fatalf("the server did not hear %s", text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		if strings.Contains(x.body, text) {
			return x.body
		}
	}
	return ""
}

// legacyAt is a server of the earlier era.
func legacyAt(name, url string) Server {
	s := at(name, url)
	s.Era = "legacy"
	return s
}

func tokenOf(r *rig, path, user string) []string {
	return []string{"Authorization", "Bearer " + r.as.token(r.t, r.url+path, user, nil)}
}

// listening opens subscriptions/listen at the aggregate and returns what was agreed to.
func (r *rig) listening(t *testing.T, notifications string) (in *wire.EventReader, agreed string) {
	t.Helper()
	body, header := modern("subscriptions/listen", `"notifications":`+notifications, "")
	in = r.openEvents(http.MethodPost, r.url+"/mcp", body, append(header, tokenOf(r, "/mcp", "alice")...)...)
	return in, until(t, in, "acknowledged")
}

// TestTR13_WhatServersAgreeToIsAgreedTo: a server that follows no resources is asked to
// follow none, one that refuses a resource is not said to follow it, and of endless
// wishes a bounded number is asked for. Who wishes nothing is told so at once.
func TestTR13_WhatServersAgreeToIsAgreedTo(t *testing.T) {
	able := newBeside(t, `{"resources":{"subscribe":true}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
		if !strings.Contains(body, "bad") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32002,"message":"no"}}`, idOf(body))
		return true
	})
	not := newBeside(t, `{"resources":{"listChanged":true}}`, nil)
	r := newRig(t, []Server{legacyAt("able", able.URL), legacyAt("not", not.URL)}, generous)
	_, agreed := r.listening(t, `{"resourceSubscriptions":["able+x://bad","not+x://y","able+x://good"]}`)
	if !strings.Contains(agreed, `"notifications":{"resourceSubscriptions":["able+x://good"]}`) || not.asked("resources/subscribe") != 0 {
		t.Errorf("agreed to %s", agreed)
	}
	before := able.asked("resources/subscribe")
	var many []string
	for i := range 3 * maxSubs {
		many = append(many, fmt.Sprintf(`"able+x://%d"`, i))
	}
	if _, agreed = r.listening(t, `{"resourceSubscriptions":[`+strings.Join(many, ",")+`]}`); strings.Count(agreed, "able+x://") != maxSubs || able.asked("resources/subscribe")-before != maxSubs {
		t.Errorf("the server was asked %d times; agreed to %s", able.asked("resources/subscribe")-before, agreed)
	}
	in, _ := r.listening(t, `{}`)
	until(t, in, `"resultType":"complete"`)
	body, header := modern("subscriptions/listen", ``, "")
	for _, text := range []string{body, strings.Replace(body, `"params":{`, `"params":{"notifications":[],`, 1)} {
		if code, say := r.do(http.MethodPost, r.url+"/mcp", text, append(header, tokenOf(r, "/mcp", "alice")...)...).rpc(t); code != wire.CodeInvalidParams {
			t.Errorf("%d %s", code, say)
		}
	}
}

// TestTR13_WhoLeavesLeavesNothingBehind: with a listener the requests that were made for
// it end, also at a server that does not answer when it is told so; one of the later era
// hears of no method that it does not have.
func TestTR13_WhoLeavesLeavesNothingBehind(t *testing.T) {
	young := newBeside(t, `{"resources":{"subscribe":true}}`, nil)
	mute := newBeside(t, `{"resources":{"subscribe":true}}`, func(_ http.ResponseWriter, r *http.Request, body string) bool {
		if strings.Contains(body, "resources/unsubscribe") {
			<-r.Context().Done()
			return true
		}
		return false
	})
	y, m := at("young", young.URL), legacyAt("mute", mute.URL)
	y.Era, m.Wait = "modern", time.Hour
	r := newRig(t, []Server{y, m}, generous)
	_, agreed := r.listening(t, `{"resourceSubscriptions":["young+x://y","mute+x://y"]}`)
	if !strings.Contains(agreed, "young+x://y") || !strings.Contains(agreed, "mute+x://y") {
		t.Errorf("agreed to %s", agreed)
	}
	ended := make(chan struct{})
	go func() { r.http.CloseClientConnections(); r.http.Close(); close(ended) }()
	select {
	case <-ended: // all requests of clients are over
	case <-time.After(time.Minute):
		t.Fatal("the request of a listener that left goes on")
	}
	if mute.asked("resources/unsubscribe") != 1 || young.asked("resources/unsubscribe") != 0 {
		t.Errorf("told %d and %d times", mute.asked("resources/unsubscribe"), young.asked("resources/unsubscribe"))
	}
	r.g.bridges.mu.Lock()
	defer r.g.bridges.mu.Unlock()
	for _, h := range r.g.bridges.peers {
		if h.refs != 0 {
			t.Errorf("%d hold the relationship", h.refs)
		}
	}
}

// TestGPX5_AQuestionToTwoWindowsIsForNeither: what a server asks beside calls is put to
// the session that listens; where two windows of a client listen, nobody knows whose it
// is, and when one has left it is the other's.
func TestGPX5_AQuestionToTwoWindowsIsForNeither(t *testing.T) {
	up := newBeside(t, `{}`, nil)
	r := newRig(t, []Server{legacyAt("s", up.URL)}, generous)
	open := func() (next func() string, leave func()) {
		sid := r.asClient("/mcp", "alice", "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		return r.stream("/mcp", "alice", sid, "")
	}
	one, leave := open()
	up.say <- `"id":"q1","method":"elicitation/create","params":{"message":"for one"}`
	if got := one(); !strings.Contains(got, "for one") {
		t.Errorf("asked %s", got)
	}
	two, end := open()
	defer end()
	up.say <- `"id":"q2","method":"elicitation/create","params":{"message":"for whom"}`
	if got := up.heard(t, `"id":"q2"`); !strings.Contains(got, `"code":-32601`) {
		t.Errorf("the server heard %s", got)
	}
	leave()
	heard := make(chan string, 1)
	go func() { heard <- two() }()
	deadline := time.Now().Add(time.Minute)
	for i := 0; len(heard) == 0; i++ { // until the gateway has seen that the stream is closed
		id := fmt.Sprintf(`"id":"r%d"`, i)
		up.say <- id + `,"method":"elicitation/create","params":{"message":"for two"}`
		for up.asked(id) == 0 && len(heard) == 0 {
			if time.Sleep(time.Millisecond); time.Now().After(deadline) {
				t.Fatal("nobody is asked")
			}
		}
	}
	if got := <-heard; !strings.Contains(got, "for two") {
		t.Errorf("asked %s", got)
	}
}

// TestGTG5_AQuestionThatMayNotBePutIsRefused: a server whose question the guards, or
// rules that changed meanwhile, keep from who listens hears so; the listener hears
// nothing of it.
func TestGTG5_AQuestionThatMayNotBePutIsRefused(t *testing.T) {
	up, other := newBeside(t, `{}`, nil), newBeside(t, `{}`, nil)
	var barred sync.Map
	r := newRig(t, []Server{legacyAt("s", up.URL), legacyAt("t", other.URL)}, generous, func(_ *Config, d *Deps) { d.Guards.Policy = connectsPolicy{&barred} })
	caps := strings.Replace(initializeWithRoots, `"elicitation":{}`, `"elicitation":{"form":{},"url":{}}`, 1)
	sid := r.asClient("/mcp", "alice", "c", "", caps).header.Get("Mcp-Session-Id")
	next, leave := r.stream("/mcp", "alice", sid, "")
	defer leave()
	up.say <- `"id":"q1","method":"elicitation/create","params":{"mode":"url","url":"javascript:alert(1)","elicitationId":"e","message":"secret"}`
	if got := up.heard(t, `"id":"q1"`); !strings.Contains(got, `"error"`) {
		t.Errorf("the server heard %s", got)
	}
	barred.Store("s", true)
	up.say <- `"id":"q2","method":"elicitation/create","params":{"message":"secret"}`
	if got := up.heard(t, `"id":"q2"`); !strings.Contains(got, `"code":-32601`) {
		t.Errorf("the server heard %s", got)
	}
	other.say <- `"method":"notifications/tools/list_changed"`
	if got := next(); !strings.Contains(got, "list_changed") {
		t.Errorf("the listener heard %s", got)
	}
}

// TestGPX3_WhatWasReadMakesRoom: the bound of what waits for a listener is of what waits:
// who reads gets all, however much it is.
func TestGPX3_WhatWasReadMakesRoom(t *testing.T) {
	up := newBeside(t, `{}`, nil)
	r := newRig(t, []Server{legacyAt("s", up.URL)}, generous)
	sid := r.asClient("/mcp", "alice", "c", "", initialize).header.Get("Mcp-Session-Id")
	next, leave := r.stream("/mcp", "alice", sid, "")
	defer leave()
	for i := range 6 {
		up.say <- fmt.Sprintf(`"method":"notifications/message","params":{"level":"info","data":"%d %s"}`, i, strings.Repeat("x", backlogMost/4))
		if got := next(); !strings.Contains(got, fmt.Sprintf(`"data":"%d x`, i)) {
			t.Fatalf("%d: %.100s", i, got)
		}
	}
}

// TestGPX3_WhatClientsSayIsBounded: what a client says to the aggregate of its own accord
// counts against the rate of each server that hears it, and one that does not answer is
// waited for no longer than for a beginning.
func TestGPX3_WhatClientsSayIsBounded(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	mute := false
	var mu sync.Mutex
	up := newBeside(t, `{}`, func(_ http.ResponseWriter, r *http.Request, body string) bool {
		mu.Lock()
		silent := mute && body == note
		mu.Unlock()
		if silent {
			<-r.Context().Done()
		}
		return silent
	})
	open := func(burst int) (say func() int) {
		s := legacyAt("s", up.URL)
		s.Wait = 3 * time.Second
		var ck stoppable
		r := newRig(t, []Server{s}, generous, func(c *Config, d *Deps) {
			c.Limits.CallPerServer = limit.Limit{Count: 1, Per: time.Hour, Burst: burst}
			d.Now = ck.now
		})
		ck.stop()
		sid := r.asClient("/mcp", "alice", "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		if a := r.asClient("/mcp", "alice", "c", sid, callTool("s__x")); !strings.Contains(a.body, `"result"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return func() int { return r.asClient("/mcp", "alice", "c", sid, note).status }
	}
	say := open(8)
	for range 20 {
		say()
	}
	if n := up.asked(`roots/list_changed"}`); n == 0 || n > 8 {
		t.Errorf("the server heard %d", n)
	}
	say = open(1000)
	mu.Lock()
	mute = true
	mu.Unlock()
	said := make(chan int, 1)
	go func() { said <- say() }()
	select {
	case status := <-said:
		if status != http.StatusAccepted {
			t.Errorf("answered with %d", status)
		}
	case <-time.After(time.Minute):
		t.Fatal("the client waits")
	}
}

// TestGPX3_WhoLeavesFreesItsProcess: whatever a client had to do with a process, when it
// is over another user may have the place.
func TestGPX3_WhoLeavesFreesItsProcess(t *testing.T) {
	for _, era := range []string{"legacy", "modern"} {
		s := stdioOf(t, "s", "stdio-plain", era)
		s.Processes = 1
		r := newRig(t, []Server{s}, withSandbox(t), generous)
		n := 0
		for name, do := range map[string]func(user string){
			"initialize": func(user string) { r.asClient("/s/s/mcp", user, "c", "", initializeWithRoots) },
			"a stream": func(user string) {
				sid := r.asClient("/s/s/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
				_, leave := r.stream("/s/s/mcp", user, sid, "")
				leave()
			},
			"changed roots": func(user string) {
				sid := r.asClient("/s/s/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
				r.asClient("/s/s/mcp", user, "c", sid, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
			},
			"a level": func(user string) {
				sid := r.asClient("/s/s/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
				if era == "modern" {
					r.asClient("/s/s/mcp", user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"info"}}`)
				}
			},
			"two windows": func(user string) {
				if era == "modern" {
					return
				}
				var sids []string
				for range 2 {
					sid := r.asClient("/s/s/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
					r.asClient("/s/s/mcp", user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"x://y"}}`)
					sids = append(sids, sid)
				}
				r.asClient("/s/s/mcp", user, "c", sids[0], `{"jsonrpc":"2.0","id":3,"method":"resources/unsubscribe","params":{"uri":"x://y"}}`)
			},
		} {
			n++
			do(fmt.Sprint("user-", n))
			body, header := modern("tools/call", `"name":"heard","arguments":{}`, "heard")
			free := func() bool {
				return strings.Contains(r.asClient("/s/s/mcp", fmt.Sprint("next-", n), "c", "", body, slices.Clone(header)...).body, `"content"`)
			}
			for deadline := time.Now().Add(30 * time.Second); !free(); time.Sleep(10 * time.Millisecond) { // the gateway sees soon that a stream is closed
				if time.Now().After(deadline) {
					t.Fatalf("%s, %s: the process is not free", era, name)
				}
			}
		}
	}
}
