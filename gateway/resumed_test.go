package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/wire"
)

// cutting is a legacy server that ends each answer after an event that holds nothing
// but its id, and gives the answer to whoever resumes the stream.
type cutting struct {
	*raw
	answers map[string]string // by method
	aside   atomic.Value      // what comes on a stream that resumes nothing, a string
}

func newCutting(t *testing.T, answers map[string]string) *cutting {
	c := &cutting{answers: answers}
	c.aside.Store("")
	c.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body))
		stream := func(text string) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, text)
		}
		switch {
		case r.Method == http.MethodGet && r.Header.Get("Last-Event-Id") == "":
			stream(c.aside.Load().(string))
		case r.Method == http.MethodGet:
			id, method, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Last-Event-Id"), "after "), " ")
			stream(fmt.Sprintf("id: %s done\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n\n", id, id, c.answers[method]))
		case m.Method == wire.MethodInitialize:
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case m.Kind == wire.Request:
			stream("id: after " + idOf(body) + " " + m.Method + "\ndata:\n\n")
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return c
}

// resumer is a legacy client that goes on where a stream was cut.
type resumer struct {
	*rig
	t       *testing.T
	session string
}

func (x *resumer) get(after string) answer {
	header := []string{"Authorization", "Bearer " + x.token("s", "alice"), "Accept", "text/event-stream", "Mcp-Session-Id", x.session, "MCP-Protocol-Version", "2025-11-25"}
	if after != "" {
		header = append(header, "Last-Event-ID", after)
	}
	return x.do(http.MethodGet, x.resource("s"), "", header...)
}

// ask sends a request and returns the id of the event after which its stream was cut.
func (x *resumer) ask(id, method, params string) (after string) {
	x.t.Helper()
	a := x.post("s", "alice", `{"jsonrpc":"2.0","id":`+id+`,"method":"`+method+`","params":`+params+`}`, "Mcp-Session-Id", x.session, "MCP-Protocol-Version", "2025-11-25")
	events := eventsOf(x.t, a)
	if len(events) != 1 || events[0].ID == "" {
		x.t.Fatalf("%d %s", a.status, a.body)
	}
	return events[0].ID
}

// TestGTG1_GTG5_ResumedAnswersAreJudged: a server that cuts its answer short has the
// client fetch it from a stream of its own. What comes there is judged like any other
// answer: pins, policy, what a session has read; and it is the answer to the request
// of that stream and to no other.
func TestGTG1_GTG5_ResumedAnswersAreJudged(t *testing.T) {
	up := newCutting(t, map[string]string{
		"tools/list":     `{"tools":[` + readIssue + `,` + sendMail + `]}`,
		"tools/call":     `{"content":[{"type":"text","text":"an issue"}]}`,
		"resources/read": `{"contents":[{"uri":"x://y","text":"t"}],"cacheScope":"public"}`,
	})
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Deny: []string{"s/send_*"}}}}, nil, func(c *Config, _ *Deps) { c.Servers = []Server{at("s", up.URL)} })
	x := &resumer{rig: p.rig, t: t, session: p.post("s", "alice", initialize).header.Get("Mcp-Session-Id")}

	listed := x.ask("7", "tools/list", `{}`)
	if a := x.get(listed); !strings.Contains(a.body, "get_issue") || strings.Contains(a.body, "send_mail") {
		t.Errorf("what policy denies is shown: %d %s", a.status, a.body)
	}
	// The definition changes: what is resumed is held like what is listed.
	up.answers["tools/list"] = `{"tools":[` + strings.Replace(readIssue, "Gets an issue", "Gets an issue, and all else", 1) + `]}`
	if a := x.get(x.ask("8", "tools/list", `{}`)); strings.Contains(a.body, "get_issue") || !strings.Contains(a.body, `"tools":[]`) {
		t.Errorf("what pins hold is shown: %d %s", a.status, a.body)
	}
	if a := x.get(x.ask(`"r"`, "resources/read", `{"uri":"x://y"}`)); !strings.Contains(a.body, `"cacheScope":"private"`) {
		t.Errorf("%s", a.body)
	}

	// What was read is remembered before the client has it.
	if labels, err := p.policy.Session(t.Context(), "alice"); err != nil || len(labels) > 1 {
		t.Fatalf("%v %v", labels, err)
	}
	if err := p.policy.Forget(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	up.answers["tools/list"] = `{"tools":[` + readIssue + `]}`
	x.get(x.ask("9", "tools/list", `{}`))
	called := x.ask("10", "tools/call", `{"name":"get_issue","arguments":{}}`)
	if a := x.get(called); !strings.Contains(a.body, "an issue") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if labels, err := p.policy.Session(t.Context(), "alice"); err != nil || len(labels) == 0 {
		t.Errorf("what was read on a resumed stream is not remembered: %v", err)
	}

	// The answer to another request, or to none.
	up.answers["tools/call"], up.answers["tools/list"] = up.answers["tools/list"], up.answers["tools/call"]
	for name, text := range map[string]string{
		"no stream of a request": "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"tools\":[" + sendMail + "]}}\n\n",
		"an error to nobody":     "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-1,\"message\":\"send_mail\"}}\n\n",
	} {
		up.aside.Store(text)
		if a := x.get(""); a.status != http.StatusOK || strings.Contains(a.body, "send_mail") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// TestTR03_TheLongestEventIDsComeBack: of a server's id and of what the stream is about,
// both as long as they may be, and one letter longer, which is left out.
func TestTR03_TheLongestEventIDsComeBack(t *testing.T) {
	r := newRig(t, []Server{at("s", "http://127.0.0.1:1")})
	st := r.g.state.Load()
	for _, more := range []int{0, 1} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.resource("s"), nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &call{r: q, st: st, target: st.targets["/s/s/mcp"], server: st.servers["s"]}
		c.Message = wire.Message{Kind: wire.Request, ID: wire.IntID(1), Method: "resources/read"}
		c.Params.URI = strings.Repeat("u", 2*maxEventAbout)
		c.Params.URI = c.Params.URI[len(c.about())-maxEventAbout-more:]
		if n := len(c.about()); n != maxEventAbout+more {
			t.Fatalf("%d bytes", n)
		}
		id, has := r.g.outEvent(c, wire.Event{ID: strings.Repeat("i", maxEventID), HasID: true})
		if has != (more == 0) {
			t.Fatalf("%d more: %t", more, has)
		}
		if !has {
			continue
		}
		q.Header.Set("Last-Event-ID", id)
		got, refusal := r.g.lastEvent(c)
		if refusal != nil || len(got) != maxEventID {
			t.Errorf("%d bytes: %v", len(id), refusal)
		}
	}
}
