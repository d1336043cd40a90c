package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// curious is a legacy server that asks something in every request but lists, says a
// line of the log before, and answers with what it heard.
type curious struct {
	*raw
	question string // method and params
	mu       sync.Mutex
	waits    map[string]chan string // for answers, by the id of the question
}

func newCurious(t *testing.T, question string) *curious {
	s := &curious{question: question, waits: map[string]chan string{}}
	n := 0
	s.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body))
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case m.Method == wire.MethodInitialize:
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"completions":{},"prompts":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case m.Method == wire.MethodToolsList:
			result(w, body, `{"tools":[{"name":"x","inputSchema":{"type":"object"}}]}`)
		case m.Kind == wire.Request:
			s.mu.Lock()
			n++
			id, heard := fmt.Sprintf(`"q%d"`, n), make(chan string, 1)
			s.waits[id] = heard
			s.mu.Unlock()
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"a line of the log\"}}\n\n")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,%s}\n\n", id, s.question)
			w.(http.Flusher).Flush()
			select {
			case got := <-heard:
				text, _ := json.Marshal(got)
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":%s}],\"completion\":{\"values\":[%s]},\"messages\":[]}}\n\n", idOf(body), text, text)
			case <-r.Context().Done():
			}
		default:
			s.mu.Lock()
			heard := s.waits[idOf(body)]
			delete(s.waits, idOf(body))
			s.mu.Unlock()
			if heard != nil {
				heard <- body
			}
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return s
}

// input is what a modern client is asked for.
type input struct {
	Result struct {
		ResultType, RequestState string
		InputRequests            map[string]struct{ Params map[string]any }
	}
}

func (r *rig) inputOf(t *testing.T, a answer) (in input) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &in); err != nil || in.Result.ResultType != "input_required" || in.Result.RequestState == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return in
}

const elicitName = `"method":"elicitation/create","params":{"message":"your name?","requestedSchema":{"type":"object","properties":{}}}`

// TestGPX3_HeldRequestsAreBoundedForEachUser: of one user a bounded number of requests
// waits for answers, and nobody else has to wait for that; each that is answered makes
// room, and one that comes back without an answer is cancelled at the server.
func TestGPX3_HeldRequestsAreBoundedForEachUser(t *testing.T) {
	one, two := newCurious(t, elicitName), newCurious(t, elicitName)
	r := newRig(t, []Server{legacyAt("s0", one.URL), legacyAt("s1", two.URL)}, generous)
	n := 0 // one relationship has a bound of its own
	call := func(user, more string) answer {
		return r.askModern(t, fmt.Sprintf("/s/s%d/mcp", n%2), user, "tools/call", `"name":"x","arguments":{}`+more, "x")
	}
	var held []string
	for n = range perUser {
		held = append(held, r.inputOf(t, call("alice", "")).Result.RequestState)
	}
	if a := call("alice", ""); a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "requestState") {
		t.Errorf("one more: %d %s", a.status, a.body)
	}
	r.inputOf(t, call("bob", ""))
	for i, state := range held {
		n = i
		more, want := `,"inputResponses":{"input":{"action":"accept","content":{"n":1}}}`, `{\"action\":\"accept\",\"content\":{\"n\":1}}`
		if i == 0 {
			more, want = "", `{\"action\":\"cancel\"}`
		}
		if a := call("alice", more+`,"requestState":"`+state+`"`); !strings.Contains(a.body, want) {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
		if a := call("alice", more+`,"requestState":"`+state+`"`); a.status != http.StatusBadRequest || strings.Contains(a.body, `"content"`) {
			t.Errorf("%d, once more: %d %s", i, a.status, a.body)
		}
	}
	r.inputOf(t, call("alice", ""))
}

// TestTR11_TR18_WhatAModernClientIsNotTold: no line of the log that it did not ask for,
// no question in a request that may not ask, and of a page nothing that only the earlier
// era knows.
func TestTR11_TR18_WhatAModernClientIsNotTold(t *testing.T) {
	up := newCurious(t, `"method":"elicitation/create","params":{"mode":"url","elicitationId":"e-7","url":"https://pages.example/x","message":"see this","_meta":{"progressToken":"p-7"}}`)
	r := newRig(t, []Server{legacyAt("s", up.URL)}, generous)
	for path, prefix := range map[string]string{"/s/s/mcp": "", "/mcp": "s__"} {
		call := `"name":"` + prefix + `x","arguments":{}`
		a := r.askModern(t, path, "alice", "tools/call", call, prefix+"x")
		in := r.inputOf(t, a)
		if strings.Contains(a.body, "line of the log") || strings.Contains(a.body, `"e-7"`) || strings.Contains(a.body, `"p-7"`) || in.Result.InputRequests["input"].Params["message"] != "see this" {
			t.Errorf("%s: %s", path, a.body)
		}
		body, header := modern("tools/call", call, prefix+"x")
		body = strings.Replace(body, `"_meta":{`, `"_meta":{"io.modelcontextprotocol/logLevel":"info",`, 1)
		if a := r.do(http.MethodPost, r.url+path, body, append(header, tokenOf(r, path, "alice")...)...); !strings.Contains(a.body, "line of the log") {
			t.Errorf("%s, which asked for the log: %s", path, a.body)
		}
		a = r.askModern(t, path, "alice", "completion/complete", `"ref":{"type":"ref/prompt","name":"`+prefix+`p"},"argument":{"name":"a","value":"b"}`, "")
		if strings.Contains(a.body, "input_required") || !strings.Contains(a.body, `\"code\":-32601`) {
			t.Errorf("%s, a completion: %d %s", path, a.status, a.body)
		}
	}
}

// TestTR12_AModernClientThatLeavesCancels: a server of the earlier era, to which a closed
// connection says nothing, hears that nobody waits for its answer, and of nothing else.
func TestTR12_AModernClientThatLeavesCancels(t *testing.T) {
	begun := make(chan string, 1)
	up := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, r *http.Request, body string) bool {
		if !strings.Contains(body, "tools/call") {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		begun <- idOf(body)
		<-r.Context().Done()
		return true
	})
	r := newRig(t, []Server{legacyAt("s", up.URL)}, generous)
	ctx, leave := context.WithCancel(t.Context())
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.resource("s"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	header = append(header, "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	header = append(header, tokenOf(r, "/s/s/mcp", "alice")...)
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := r.http.Client().Do(q); err == nil {
			resp.Body.Close()
		}
	}()
	id := <-begun
	leave()
	<-ended
	if got := up.heard(t, "notifications/cancelled"); !strings.Contains(got, `"requestId":`+id+`}`) {
		t.Errorf("the server heard %s", got)
	}
}

// TestGPX3_AServerThatAsksForTooMuchAtOnceIsRefused: of a server of the later era, a
// legacy client answers a bounded number of questions in one round, in which the first
// refusal ends the call; a state that the server no longer gives is not sent to it.
func TestGPX3_AServerThatAsksForTooMuchAtOnceIsRefused(t *testing.T) {
	asks := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"a%02d":{"method":"elicitation/create","params":{"message":"%d","requestedSchema":{"type":"object","properties":{}}}}`, i, i))
		}
		return strings.Join(all, ",")
	}
	for n, want := range map[int]string{16: `"text":"done"`, 17: `"code":-32603`} {
		up := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
			switch {
			case !strings.Contains(body, "tools/call"):
				return false
			case strings.Contains(body, `"requestState":"two"`) || strings.Contains(body, "inputResponses") && !strings.Contains(body, "requestState"):
				result(w, body, `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`)
			case strings.Contains(body, `"requestState":"one"`):
				result(w, body, `{"resultType":"input_required","inputRequests":{`+asks(1)+`}}`)
			default:
				result(w, body, `{"resultType":"input_required","inputRequests":{`+asks(n)+`},"requestState":"one"}`)
			}
			return true
		})
		s := at("s", up.URL)
		s.Era = "modern"
		r := newRig(t, []Server{s}, generous)
		for _, action := range []string{"result", "error"} {
			sid := r.asClient("/s/s/mcp", "alice", "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
			next, leave := r.stream("/s/s/mcp", "alice", sid, callTool("x"))
			asked, last := 0, ""
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
				if last = next(); !strings.Contains(last, "elicitation/create") {
					break
				}
				asked++
				reply := `"result":{"action":"accept","content":{}}`
				if action == "error" {
					reply = `"error":{"code":-32000,"message":"not today"}`
				}
				r.asClient("/s/s/mcp", "alice", "c", sid, `{"jsonrpc":"2.0","id":`+idOf(last)+`,`+reply+`}`)
			}
			leave()
			if action == "error" && (asked != 1 || !strings.Contains(last, "not today")) || action == "result" && (!strings.Contains(last, want) || asked > 17) {
				t.Errorf("%d questions, %s: asked %d, then %s", n, action, asked, last)
			}
		}
	}
}
