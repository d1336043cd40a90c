package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// aside is a legacy server over HTTP that says what it is told to say on its stream of
// notifications, and answers calls when it is let.
type aside struct {
	*raw
	say    chan string   // messages of the server, beside its answers
	begun  chan string   // bodies of calls
	end    chan string   // results of calls, in any order
	heard  chan string   // what the server is told beside calls
	follow chan struct{} // closed when its stream is there
}

func newAside(t *testing.T) *aside {
	a := &aside{say: make(chan string), begun: make(chan string, 8), end: make(chan string), heard: make(chan string, 16), follow: make(chan struct{})}
	a.raw = newLegacy(t, `{"tools":{},"tasks":{"requests":{"tools":{"call":{}}}}}`, func(w http.ResponseWriter, r *http.Request, body string) bool {
		switch {
		case strings.Contains(body, `"tools/call"`), strings.Contains(body, `"tasks/`):
			a.begun <- body
			select {
			case res := <-a.end:
				result(w, body, res)
			case <-r.Context().Done():
			}
			return true
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			close(a.follow)
			for {
				select {
				case m := <-a.say:
					fmt.Fprintf(w, "data: %s\n\n", m)
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return true
				}
			}
		case !strings.Contains(body, "notifications/initialized"):
			a.heard <- body
		}
		return false
	})
	return a
}

// soon is the next of what comes.
func soon(t *testing.T, from chan string) string {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(time.Minute):
		t.Fatal("nothing comes")
		return ""
	}
}

// TestGPX5_AQuestionAsideGoesToTheOnlyWindow: a legacy server over HTTP may ask on its
// stream of notifications, which does not say about which call. As on a pipe, the client
// is asked when all calls are from one session of it, and none of several windows.
func TestGPX5_AQuestionAsideGoesToTheOnlyWindow(t *testing.T) {
	for name, c := range map[string]struct {
		windows []int // whose calls are under way; the second and later ask for other calls
		mute    bool  // the last one cannot be asked
		asked   bool
	}{
		"one call":                    {[]int{1}, false, true},
		"two calls of one window":     {[]int{1, 1}, false, true},
		"two windows":                 {[]int{1, 2}, false, false},
		"another window that is mute": {[]int{1, 2}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			up := newAside(t)
			s := at("s", up.URL)
			s.Era = "legacy"
			r := newRig(t, []Server{s}, generous)
			sessions := map[int]string{}
			var streams []chan string
			for i, n := range c.windows {
				if sessions[n] == "" {
					hello := initializeWithRoots
					if c.mute && i > 0 {
						hello = initialize
					}
					sessions[n] = r.asClient("/mcp", "alice", "c", "", hello).header.Get("Mcp-Session-Id")
				}
				got := make(chan string, 8)
				streams = append(streams, got)
				go func() { // ends with its answer
					next, leave := r.stream("/mcp", "alice", sessions[n], fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"s__x","arguments":{}}}`, i+2))
					defer leave()
					for m := next(); m != ""; m = next() {
						got <- m
					}
					close(got)
				}()
				soon(t, up.begun)
			}
			<-up.follow
			up.say <- `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"your name?","requestedSchema":{"type":"object","properties":{}}}}`
			if c.asked {
				asked := soon(t, streams[len(streams)-1])
				if !strings.Contains(asked, "your name?") {
					t.Fatalf("the client was told %s", asked)
				}
				r.asClient("/mcp", "alice", "c", sessions[1], `{"jsonrpc":"2.0","id":`+idOf(asked)+`,"result":{"action":"accept","content":{}}}`)
			}
			if got := soon(t, up.heard); !strings.Contains(got, `"id":"q"`) || strings.Contains(got, "accept") != c.asked {
				t.Errorf("the server was told %s", got)
			}
			for range c.windows {
				up.end <- `{"content":[]}`
			}
			for _, got := range streams {
				for m := range got {
					if strings.Contains(m, "your name?") {
						t.Errorf("a window was told %s", m)
					}
				}
			}
		})
	}
}

// TestGPX5_WhatAGivenUpCallAsksAsideReachesNoOtherWindow: a server over HTTP may go on
// with a call that its window has left, and ask about it on its stream of notifications.
// Another window is not asked, whether it has a call under way or listens; the same is.
func TestGPX5_WhatAGivenUpCallAsksAsideReachesNoOtherWindow(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"s__x","arguments":{}}}`
	for name, c := range map[string]struct {
		window int // that is there when the server asks
		listen bool
	}{
		"another calls":    {2, false},
		"another listens":  {2, true},
		"it calls again":   {1, false},
		"it still listens": {1, true},
	} {
		t.Run(name, func(t *testing.T) {
			up := newAside(t)
			s := at("s", up.URL)
			s.Era = "legacy"
			r := newRig(t, []Server{s}, generous)
			open := func() string {
				return r.asClient("/mcp", "alice", "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
			}
			sessions := map[int]string{1: open(), 2: open()}
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan struct{})
			go func() { // ends when the window leaves
				defer close(left)
				q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/mcp", strings.NewReader(fmt.Sprintf(call, 2)))
				if err != nil {
					t.Error(err)
					return
				}
				q.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Session-Id": {sessions[1]},
					"Authorization": {"Bearer " + r.as.token(t, r.url+"/mcp", "alice", func(m map[string]any) { m["client_id"] = "c" })}}
				resp, err := http.DefaultTransport.RoundTrip(q)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			soon(t, up.begun)
			leave()
			<-left
			if got := soon(t, up.heard); !strings.Contains(got, "notifications/cancelled") {
				t.Fatalf("the server was told %s", got)
			}
			got := make(chan string, 8)
			if c.listen {
				next, leave := r.stream("/mcp", "alice", sessions[c.window], "") // its head says that it listens
				defer leave()
				if c.window == 1 {
					go func() { got <- next() }() // ends with the question
				}
			} else {
				go func() { // ends with its answer
					next, leave := r.stream("/mcp", "alice", sessions[c.window], fmt.Sprintf(call, 3))
					defer leave()
					for m := next(); m != ""; m = next() {
						got <- m
					}
					close(got)
				}()
				soon(t, up.begun)
			}
			<-up.follow
			up.say <- `{"jsonrpc":"2.0","id":"q",` + askName
			if c.window == 1 {
				asked := soon(t, got)
				if !strings.Contains(asked, "your name?") {
					t.Fatalf("the client was told %s", asked)
				}
				r.asClient("/mcp", "alice", "c", sessions[1], `{"jsonrpc":"2.0","id":`+idOf(asked)+`,"result":{"action":"accept","content":{}}}`)
			}
			if told := soon(t, up.heard); !strings.Contains(told, `"id":"q"`) || strings.Contains(told, "accept") != (c.window == 1) {
				t.Errorf("the server was told %s", told)
			}
			if !c.listen {
				up.end <- `{"content":[]}`
				for m := range got {
					if strings.Contains(m, "your name?") {
						t.Errorf("the window was told %s", m)
					}
				}
			}
		})
	}
}

// TestTR20_ASilentServerHearsThatNobodyWaits: a server over HTTP that has not begun to
// answer in its time is told that the call is over, as one on a pipe is.
func TestTR20_ASilentServerHearsThatNobodyWaits(t *testing.T) {
	up := newAside(t)
	s := at("s", up.URL)
	s.Era, s.Wait = "legacy", 200*time.Millisecond
	r := newRig(t, []Server{s})
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	if a := r.post("s", "alice", body, header...); !strings.Contains(a.body, `"error"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	id := idOf(soon(t, up.begun))
	if got := soon(t, up.heard); !strings.Contains(got, `"notifications/cancelled","params":{"requestId":`+id+`}`) {
		t.Errorf("the server was told %s", got)
	}
}
