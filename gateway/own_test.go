package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/toolscan"
)

// TestGPX5_E37_EachClientHasItsOwnSession: where the gateway holds a session with a
// server itself, no two users and no two clients of one user share it, at the server's
// own endpoint and at the one for all; one client keeps its own.
func TestGPX5_E37_EachClientHasItsOwnSession(t *testing.T) {
	var sessions atomic.Int64
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("session-", sessions.Add(1)))
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case strings.Contains(body, "tools/call"):
			result(w, body, `{"content":[{"type":"text","text":"`+r.Header.Get("Mcp-Session-Id")+`"}]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	seen := map[string]string{}
	for _, path := range []string{"/s/s/mcp", "/mcp"} {
		tool := map[string]string{"/s/s/mcp": "x", "/mcp": "s__x"}[path]
		for range 2 {
			for _, who := range [][2]string{{"alice", "c1"}, {"alice", "c2"}, {"bob", "c1"}} {
				token := r.as.token(t, r.url+path, who[0], func(m map[string]any) { m["client_id"] = who[1]; m["jti"] = who[0] + who[1] })
				body, header := modern("tools/call", `"name":"`+tool+`","arguments":{}`, tool)
				a := r.do(http.MethodPost, r.url+path, body, append([]string{"Authorization", "Bearer " + token}, header...)...)
				session := between(a.body, `"text":"`, `"`)
				if !strings.HasPrefix(session, "session-") {
					t.Fatalf("%d %s", a.status, a.body)
				}
				if had, ok := seen[who[0]+" "+who[1]]; ok && had != session {
					t.Errorf("%v had %s and has %s", who, had, session)
				}
				seen[who[0]+" "+who[1]] = session
			}
		}
	}
	if n := sessions.Load(); n != 3 || len(seen) != 3 || seen["alice c1"] == seen["alice c2"] || seen["alice c1"] == seen["bob c1"] {
		t.Errorf("%d sessions: %v", n, seen)
	}
}

// TestGPX4_ListsAreAskedForAnewWhenTheyChanged: the client that is told so, and asks at
// once, gets the list as it is now, however fresh the one in memory is.
func TestGPX4_ListsAreAskedForAnewWhenTheyChanged(t *testing.T) {
	for _, era := range []string{"legacy", "modern"} {
		t.Run(era+" client", func(t *testing.T) {
			srv := fixture("changing")
			h := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, nil))
			t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
			up := at("one", h.URL)
			up.Era = "legacy"
			var ck stoppable
			r := newRig(t, []Server{up}, func(_ *Config, d *Deps) { d.Now = ck.now })
			changed := make(chan struct{}, 64)
			s := connect(t, r, "", "alice", era, &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { hand(changed, struct{}{}) }})
			ck.stop() // what is in memory stays fresh
			has := func(name string) bool {
				for tool, err := range s.Tools(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					if tool.Name == "one__"+name {
						return true
					}
				}
				return false
			}
			if !has("echo") || has("new0") {
				t.Fatal("another list")
			}
			last := 0
			eventually(t, "list changed", changed, func(i int) {
				last = i
				srv.AddTool(&mcp.Tool{Name: fmt.Sprint("new", i), InputSchema: map[string]any{"type": "object"}}, nil)
			})
			if !has("new0") {
				t.Errorf("the list of before, after new0 to new%d came", last)
			}
		})
	}
}

// TestGTG1_CallsOfAColdStartWaitForTheList: a process that begins, or takes over from
// one that died, knows no list yet, and its clients do not ask for one again. All their
// calls at once wait for the first one's question, over all pages; when its client goes
// away meanwhile, another asks.
func TestGTG1_CallsOfAColdStartWaitForTheList(t *testing.T) {
	const calls = 40
	for _, leaves := range []bool{false, true} {
		begun, release := make(chan struct{}, calls), make(chan struct{})
		var lists atomic.Int64
		up := newTwoPages(t, func(r *http.Request) {
			if lists.Add(1) == 1 {
				begun <- struct{}{}
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}
		})
		s := at("s", up.URL)
		s.Era = "legacy"
		r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
			d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, time.Now)
		})
		call := func(ctx context.Context) (string, error) {
			q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.resource("s"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"late","arguments":{}}}`))
			if err != nil {
				return "", err
			}
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set("Accept", "application/json, text/event-stream")
			q.Header.Set("Authorization", "Bearer "+r.token("s", "alice"))
			resp, err := http.DefaultTransport.RoundTrip(q)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(resp.Body)
			return string(raw), err
		}
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		first := make(chan string, 1)
		go func() { text, _ := call(ctx); first <- text }()
		<-begun
		others := make(chan string, calls)
		for range calls - 1 {
			go func() { text, err := call(t.Context()); others <- fmt.Sprint(text, err) }()
		}
		for inside := 0; inside < calls; time.Sleep(time.Millisecond) { // all have come so far as to wait
			r.g.places.mu.Lock()
			inside = r.g.places.all
			r.g.places.mu.Unlock()
		}
		if leaves {
			leave()
		}
		if close(release); !leaves {
			if got := <-first; !strings.Contains(got, "ran") {
				t.Errorf("the first: %s", got)
			}
		}
		for range calls - 1 {
			if got := <-others; !strings.Contains(got, "ran") {
				t.Errorf("%s", got)
			}
		}
		if n := lists.Load(); n > 2 || !leaves && n != 1 {
			t.Errorf("the server was asked %d times", n)
		}
	}
}

// TestGTG1_APartOfAListKeepsNobodyOut: after a start one client has read the first page
// of a list so far; another calls, from what it remembers, a tool of a later page, and
// one that is not there at all.
func TestGTG1_APartOfAListKeepsNobodyOut(t *testing.T) {
	var firsts atomic.Int64
	up := newTwoPages(t, func(*http.Request) { firsts.Add(1) })
	r := newRig(t, []Server{at("s", up.URL)}, func(_ *Config, d *Deps) {
		d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, time.Now)
	})
	if a := r.post("s", "alice", listTools); !strings.Contains(a.body, "nextCursor") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for range 2 {
		if a := r.post("s", "bob", callTool("late")); !strings.Contains(a.body, "ran") {
			t.Errorf("a tool of a page that nobody has read yet: %d %s", a.status, a.body)
		}
		if a := r.post("s", "bob", callTool("absent")); strings.Contains(a.body, "ran") {
			t.Errorf("a tool that is not there: %d %s", a.status, a.body)
		}
	}
	if n := firsts.Load(); n != 2 { // by alice, and once for bob
		t.Errorf("the server was asked for its list %d times", n)
	}
}
