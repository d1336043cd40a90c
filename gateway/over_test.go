package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestTR20_ASessionThatIsOverIsBegunAnew: a legacy server that was started again does not
// know its sessions any more, and says so in one of the ways that servers have. A client
// that has no session of its own there notices nothing. Where the no is an error of its
// call, the call gets that, since the server may have begun with it, and the next one a
// new session.
func TestTR20_ASessionThatIsOverIsBegunAnew(t *testing.T) {
	for name, say := range map[string]func(w http.ResponseWriter, body string){
		"in words": func(w http.ResponseWriter, _ string) { http.Error(w, "no such session", http.StatusNotFound) },
		"as the SDK for TypeScript does": func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`)
		},
		"as an error of the request": func(w http.ResponseWriter, body string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","error":{"code":-32600,"message":"Session not found"},"id":%s}`, idOf(body))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var session, begun atomic.Int64
			session.Store(1)
			up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
				known := r.Header.Get("Mcp-Session-Id") == fmt.Sprint("s", session.Load()) && session.Load() > 0
				switch {
				case strings.Contains(body, `"initialize"`):
					begun.Add(1)
					w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", session.Load()))
					result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
				case !known:
					say(w, body)
				case strings.Contains(body, `"tools/list"`):
					result(w, body, `{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`)
				case strings.Contains(body, `"tools/call"`):
					result(w, body, `{"content":[{"type":"text","text":"done"}]}`)
				case r.Method == http.MethodGet:
					w.WriteHeader(http.StatusMethodNotAllowed)
				default:
					w.WriteHeader(http.StatusAccepted)
				}
			})
			s := at("s", up.URL)
			s.Era = "legacy"
			r := newRig(t, []Server{s})
			call := func() answer {
				body, header := modern("tools/call", `"name":"echo","arguments":{}`, "echo")
				return r.post("s", "alice", body, header...)
			}
			if a := call(); !strings.Contains(a.body, "done") {
				t.Fatal(a.status, a.body)
			}
			session.Add(1)
			first := call()
			if strings.Contains(first.body, "done") == (name == "as an error of the request") {
				t.Error(first.status, first.body)
			}
			if a := call(); !strings.Contains(a.body, "done") {
				t.Errorf("after %d %s came %d %s", first.status, first.body, a.status, a.body)
			}
			session.Store(-1) // and one that knows no session, not even those that it has just begun
			begun.Store(0)
			if a := call(); strings.Contains(a.body, "done") || begun.Load() > 1 {
				t.Errorf("%d sessions begun: %d %s", begun.Load(), a.status, a.body)
			}
		})
	}
}
