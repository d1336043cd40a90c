package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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
