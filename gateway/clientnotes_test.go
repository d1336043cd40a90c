//lint:file-ignore SA1019 roots are deprecated, not gone: servers and clients use them.

package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// hearing is a server by the Go SDK that keeps what its client says of its own accord.
// Its tools work and plain ask with a progress token and say what it heard of that,
// work when it heard it; its tool roots says which roots it found when it was told that they changed.
func hearing() *mcp.Server {
	var mu sync.Mutex
	var progress []string
	roots := "none"
	s := mcp.NewServer(&mcp.Implementation{Name: "hearing", Version: "1"}, &mcp.ServerOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationServerRequest) {
			mu.Lock()
			defer mu.Unlock()
			progress = append(progress, fmt.Sprint(r.Params.ProgressToken, " ", r.Params.Progress, " ", r.Params.Message))
		},
		RootsListChangedHandler: func(ctx context.Context, r *mcp.RootsListChangedRequest) {
			list, err := r.Session.ListRoots(ctx, nil)
			mu.Lock()
			defer mu.Unlock()
			if roots = fmt.Sprint("refused: ", err); err == nil {
				roots = ""
				for _, root := range list.Roots {
					roots += root.URI + " "
				}
			}
		},
	})
	type in struct {
		Text string `json:"text"`
	}
	say := func(text string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
	}
	told := func(token any) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(progress, func(p string) bool { return strings.HasPrefix(p, fmt.Sprint(token, " ")) })
	}
	for _, name := range []string{"work", "plain"} {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(ctx context.Context, req *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
			var token any = a.Text
			if a.Text == "" {
				token = 7
			}
			_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Meta: mcp.Meta{"progressToken": token}, Message: "?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
			if err != nil {
				return nil, nil, err
			}
			for name == "work" && !told(token) && ctx.Err() == nil { // the SDK may hand over the answer first
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			return say(strings.Join(progress, "; ")), nil, nil
		})
	}
	mcp.AddTool(s, &mcp.Tool{Name: "roots"}, func(context.Context, *mcp.CallToolRequest, in) (*mcp.CallToolResult, any, error) {
		mu.Lock()
		defer mu.Unlock()
		return say(roots), nil, nil
	})
	return s
}

// hearingClient opens a legacy client, of a user at a path, that tells of its progress
// while it is asked.
func hearingClient(t *testing.T, r *rig, path, user string) (*mcp.Client, *mcp.ClientSession) {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(ctx context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if token := req.Params.Meta["progressToken"]; token != nil {
				if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 0.5, Message: "of " + user}); err != nil {
					return nil, err
				}
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
		},
	})
	c.AddRoots(&mcp.Root{URI: "file:///first-of-" + user})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	tr := legacyRoundTripper{bearer{r.as.token(t, r.url+path, user, nil)}}
	s, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: r.url + path, HTTPClient: &http.Client{Transport: tr}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c, s
}

// hearingServers are servers of the earlier era behind each transport.
func hearingServers(t *testing.T) []Server {
	t.Helper()
	own, shared := stdioOf(t, "own", "stdio-hearing"), stdioOf(t, "shared", "stdio-hearing")
	shared.Shared = true
	sse := httptest.NewServer(mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return hearing() }, nil))
	t.Cleanup(func() { sse.CloseClientConnections(); sse.Close() })
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return hearing() }, nil))
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	old, streams := at("old", sse.URL), at("web", web.URL)
	old.Transport, streams.Era = TransportSSE, "legacy"
	return []Server{own, shared, old, streams}
}

// TestGPX2_ServersHearOfTheProgressTheyAskedFor: what a client says of its progress
// with a question reaches the server that put it, under that server's token, for two
// users at once, at a server's own endpoint and at that of all.
func TestGPX2_ServersHearOfTheProgressTheyAskedFor(t *testing.T) {
	r := newRig(t, hearingServers(t), withSandbox(t))
	var wg sync.WaitGroup
	for _, user := range []string{"alice", "bob"} {
		for path, servers := range map[string][]string{"/s/own/mcp": {""}, "/s/old/mcp": {""}, "/s/web/mcp": {""}, "/mcp": {"own__", "old__", "web__"}} {
			_, s := hearingClient(t, r, path, user)
			for _, server := range servers {
				for token, want := range map[string]string{"": "7 0.5 of " + user, "p-1": "p-1 0.5 of " + user} {
					wg.Go(func() {
						got := callText(t, s, server+"work", map[string]any{"text": token}, nil)
						if !strings.Contains(got, want) || strings.Count(got, user) != strings.Count(got, " of ") {
							t.Errorf("%s at %s%s: the server heard %q", user, path, server, got)
						}
					})
				}
				wg.Wait() // of one process, calls of one session at a time are its own questions
			}
		}
	}
	_, s := hearingClient(t, r, "/s/shared/mcp", "alice")
	if got := callText(t, s, "work", map[string]any{"text": ""}, nil); got != "7 0.5 of alice" {
		t.Errorf("the shared server heard %q", got)
	}
	m := connect(t, r, "own", "carol", "modern", &mcp.ClientOptions{ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		if len(req.Params.Meta) != 0 {
			t.Errorf("a modern client was asked for progress: %v", req.Params.Meta)
		}
		return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
	}})
	if res, err := m.CallTool(t.Context(), &mcp.CallToolParams{Name: "plain", Arguments: map[string]any{"text": ""}}); err != nil || res.IsError {
		t.Errorf("a modern client: %+v %v", res, err)
	}
}

// TestGPX2_GPX5_ServersHearThatRootsChanged: a legacy server that serves one client
// alone hears that the client's roots changed, and may ask which they are on the
// client's stream. Nobody else's server does, nor one that several share.
func TestGPX2_GPX5_ServersHearThatRootsChanged(t *testing.T) {
	r := newRig(t, hearingServers(t), withSandbox(t))
	for path, servers := range map[string][]string{"/s/own/mcp": {""}, "/s/old/mcp": {""}, "/mcp": {"own__", "old__", "web__", "shared__"}} {
		t.Run(path, func(t *testing.T) {
			alice, a := hearingClient(t, r, path, "alice"+path)
			_, b := hearingClient(t, r, path, "bob"+path)
			for _, server := range servers { // relationships that are to be told begin
				for _, s := range []*mcp.ClientSession{a, b} {
					if got := callText(t, s, server+"roots", map[string]any{"text": ""}, nil); got != "none" {
						t.Fatalf("%s: %q", server, got)
					}
				}
			}
			want := "file:///first-of-alice" + path + " file:///second "
			told := make(chan string, 1)
			for _, server := range servers {
				if server == "shared__" {
					continue
				}
				eventually(t, server+": the new roots", told, func(i int) { // the client's stream may just begin
					alice.RemoveRoots("file:///second")
					alice.AddRoots(&mcp.Root{URI: "file:///second"})
					if got := callText(t, a, server+"roots", map[string]any{"text": ""}, nil); got == want {
						hand(told, got)
					} else if i > 20 && got == "none" {
						t.Fatalf("%s was told nothing", server)
					}
				})
				if got := callText(t, b, server+"roots", map[string]any{"text": ""}, nil); got != "none" {
					t.Errorf("%s: bob's server was told of %q", server, got)
				}
			}
			if slices.Contains(servers, "shared__") {
				if got := callText(t, a, "shared__roots", map[string]any{"text": ""}, nil); got != "none" {
					t.Errorf("the shared server was told of %q", got)
				}
			}
		})
	}
}

// plainServer is a stdio server of an era that keeps the lines it reads. Its tool
// heard says those that are no requests, hang never answers, and withdraw asks, takes
// the question back when it hears of progress, and answers when it hears notifications/x/go.
// touch says that resources were updated; steps, when three calls of it are there, tells
// of the progress of each, and again when it has answered.
func plainServer(era string) {
	var heard []string
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	withdraw, steps := "", [][3]string(nil)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct {
				Name      string
				Arguments struct{ URIs []string }
				Meta      struct{ ProgressToken json.RawMessage } `json:"_meta"`
			}
		}
		_ = json.Unmarshal(in.Bytes(), &m)
		if m.Method == "" || strings.HasPrefix(m.Method, "notifications/") {
			heard = append(heard, in.Text())
		}
		switch {
		case m.Method == "initialize" && era == "modern":
			say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"?"}}`, m.ID)
		case m.Method == "initialize":
			say(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{"subscribe":true}},"serverInfo":{"name":"p","version":"1"}}}`, m.ID)
		case m.Method == "server/discover":
			say(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}`, m.ID)
		case m.Method == "resources/subscribe":
			say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
		case m.Params.Name == "touch":
			for _, uri := range m.Params.Arguments.URIs {
				say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, uri)
			}
			say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"touched"}]}}`, m.ID)
		case m.Params.Name == "steps":
			token, who := string(m.Params.Meta.ProgressToken), m.Params.Arguments.URIs[0]
			if steps = append(steps, [3]string{string(m.ID), token, who}); len(steps) < 3 {
				continue
			}
			step := func(s [3]string, when string) {
				say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":"%s %s"}}`, s[1], s[2], when)
			}
			for _, s := range steps {
				step(s, "now")
			}
			for i, s := range steps {
				say(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":"end of %s"}]}}`, s[0], s[2])
				for _, over := range steps[:i+1] {
					step(over, "late")
				}
			}
			steps = nil
		case m.Params.Name == "hang":
		case m.Params.Name == "withdraw":
			withdraw = string(m.ID)
			say(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?","_meta":{"progressToken":12345678901234567890}}}`)
		case m.Method == "notifications/progress":
			say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}`)
		case m.Method == "notifications/x/go" && withdraw != "":
			m.ID = json.RawMessage(withdraw)
			fallthrough
		case m.Params.Name == "heard":
			text, _ := json.Marshal(strings.Join(heard, "\n"))
			say(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[{"type":"text","text":%s}]}}`, m.ID, text)
		}
	}
}

// asClient posts as one client of a user; the session is a legacy client's.
func (r *rig) asClient(path, user, client, session, body string, header ...string) answer {
	r.t.Helper()
	token := r.as.token(r.t, r.url+path, user, func(m map[string]any) { m["client_id"] = client })
	if session != "" {
		header = append(header, "Mcp-Session-Id", session)
	}
	return r.do(http.MethodPost, r.url+path, body, append([]string{"Authorization", "Bearer " + token}, header...)...)
}

const initializeWithRoots = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"elicitation":{}},"clientInfo":{"name":"t","version":"1"}}}`

// TestGPX2_GPX5_WhatClientsSayOfTheirOwnAccord: which notifications cross which bridge,
// unharmed, and which end there. None reaches a process that another client uses.
func TestGPX2_GPX5_WhatClientsSayOfTheirOwnAccord(t *testing.T) {
	notes := map[string]string{
		"x/vendor":                   `{"n":12345678901234567890,"a":{"b":[1.0]}}`,
		"roots/list_changed":         `{"_meta":{"x/y":1}}`,
		"progress":                   `{"progressToken":7,"progress":1}`, // of no question
		"initialized":                `{}`,
		"tasks/status":               `{"taskId":"t","status":"working"}`,
		"message":                    `{"level":"info","data":"x"}`,
		"tools/list_changed":         `{}`,
		"resources/list_changed":     `{}`,
		"prompts/list_changed":       `{}`,
		"resources/updated":          `{"uri":"x://y"}`,
		"elicitation/complete":       `{"elicitationId":"e"}`,
		"subscriptions/acknowledged": `{}`,
		"cancelled":                  `{"requestId":99}`,
	}
	type way struct {
		path, client, server string
		passes               []string
	}
	for _, w := range []way{
		{"/s/legacy/mcp", "legacy", "legacy", []string{"roots/list_changed", "x/vendor"}},
		{"/s/modern/mcp", "legacy", "modern", nil},
		{"/s/legacy/mcp", "modern", "legacy", nil},
		{"/s/modern/mcp", "modern", "modern", []string{"x/vendor"}},
		{"/s/shared/mcp", "legacy", "shared", nil},
		{"/mcp", "legacy", "legacy", []string{"roots/list_changed"}},
		{"/mcp", "legacy", "modern", nil},
		{"/mcp", "modern", "legacy", nil},
		{"/mcp", "modern", "modern", nil},
	} {
		t.Run(w.client+" client, "+w.server+" server, "+w.path, func(t *testing.T) {
			shared := stdioOf(t, "shared", "stdio-plain", "legacy")
			shared.Shared = true
			r := newRig(t, []Server{stdioOf(t, "legacy", "stdio-plain", "legacy"), stdioOf(t, "modern", "stdio-plain", "modern"), shared}, withSandbox(t))
			tool := "heard"
			if w.path == "/mcp" {
				tool = w.server + "__heard"
			}
			heard := func(client, sid string) string {
				t.Helper()
				var a answer
				if w.client == "legacy" {
					a = r.asClient(w.path, "alice", client, sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+tool+`","arguments":{}}}`)
				} else {
					body, header := modern("tools/call", `"name":"`+tool+`","arguments":{}`, tool)
					a = r.asClient(w.path, "alice", client, "", body, header...)
				}
				var m struct {
					Result struct{ Content []struct{ Text string } }
				}
				if err := json.Unmarshal([]byte(a.body), &m); err != nil || len(m.Result.Content) != 1 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return m.Result.Content[0].Text
			}
			open := func(client string) string {
				if w.client == "modern" {
					return ""
				}
				return r.asClient(w.path, "alice", client, "", initializeWithRoots).header.Get("Mcp-Session-Id")
			}
			say := func(client, sid string) {
				t.Helper()
				for name, params := range notes {
					header := []string{}
					if w.client == "modern" {
						header = []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/" + name}
					}
					if a := r.asClient(w.path, "alice", client, sid, `{"jsonrpc":"2.0","method":"notifications/`+name+`","params":`+params+`}`, header...); a.status != http.StatusAccepted || a.body != "" {
						t.Errorf("%s: %d %s", name, a.status, a.body)
					}
				}
			}
			sid := open("one")
			before := heard("one", sid)
			say("one", sid)
			text := strings.TrimSpace(strings.TrimPrefix(heard("one", sid), before))
			var got []string
			for _, line := range strings.Fields(text) {
				name, _, _ := strings.Cut(strings.TrimPrefix(line, `{"jsonrpc":"2.0","method":"notifications/`), `"`)
				if got = append(got, name); !strings.HasSuffix(line, `"params":`+notes[name]+`}`) {
					t.Errorf("it arrived as %s", line)
				}
			}
			if slices.Sort(got); !slices.Equal(got, w.passes) {
				t.Errorf("passed %v, want %v", got, w.passes)
			}
			two := open("two") // another client of the user uses the process from now on
			before = heard("two", two)
			say("one", sid)
			say("two", two)
			if text := strings.TrimPrefix(heard("two", two), before); text != "" {
				t.Errorf("with two clients passed %s", text)
			}
		})
	}
}

// TestGPX2_OldServersOverHTTPHearNothingOfOthers: at the aggregate, over streamable
// HTTP, each user's session of a server hears what that user says.
func TestGPX2_OldServersOverHTTPHearNothingOfOthers(t *testing.T) {
	var mu sync.Mutex
	said, n := map[string][]string{}, 0 // by session
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.Contains(body, `"initialize"`):
			if n++; !strings.Contains(body, `"roots":{"listChanged":true}`) {
				t.Errorf("introduced itself with %s", body)
			}
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", n))
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"p","version":"1"}}`)
		case strings.Contains(body, "tools/call"):
			result(w, body, `{"content":[{"type":"text","text":"`+r.Header.Get("Mcp-Session-Id")+`"}]}`)
		default:
			sid := r.Header.Get("Mcp-Session-Id")
			said[sid] = append(said[sid], body)
			w.WriteHeader(http.StatusAccepted)
		}
	})
	old, other := at("old", up.URL), at("other", up.URL)
	old.Era, other.Era = "legacy", "legacy"
	var barred sync.Map
	r := newRig(t, []Server{old, other}, func(_ *Config, d *Deps) { d.Guards.Policy = connectsPolicy{&barred} })
	open := func(user, caps string) string {
		return r.asClient("/mcp", user, "c", "", strings.Replace(initializeWithRoots, `"roots":{"listChanged":true},`, caps, 1)).header.Get("Mcp-Session-Id")
	}
	at := func(user, sid, server string) string { // the server's session
		a := r.asClient("/mcp", user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+server+`__x","arguments":{}}}`)
		_, rest, _ := strings.Cut(a.body, `"text":"`)
		got, _, _ := strings.Cut(rest, `"`)
		return got
	}
	const note = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	count := func(sid string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range said[sid] {
			if s == note {
				n++
			}
		}
		return n
	}
	alice, bob, plain := open("alice", `"roots":{},`), open("bob", `"roots":{},`), open("carol", "")
	a1, a2, b1, c1 := at("alice", alice, "old"), at("alice", alice, "other"), at("bob", bob, "old"), at("carol", plain, "old")
	r.asClient("/mcp", "alice", "c", alice, note)
	r.asClient("/mcp", "carol", "c", plain, note) // who said that it has no roots
	r.asClient("/mcp", "alice", "c", "", note)    // nor has who opened no session
	if got := []int{count(a1), count(a2), count(b1), count(c1)}; !slices.Equal(got, []int{1, 1, 0, 0}) {
		t.Errorf("heard %v", got)
	}
	barred.Store("other", true)
	r.asClient("/mcp", "alice", "c", alice, note)
	if got := []int{count(a1), count(a2)}; !slices.Equal(got, []int{2, 1}) {
		t.Errorf("with a server that policy bars: %v", got)
	}
}

// connectsPolicy bars servers by name.
type connectsPolicy struct{ barred *sync.Map }

func (p connectsPolicy) Connects(_ context.Context, _ *Call, server string) *Refusal {
	if _, no := p.barred.Load(server); no {
		return refuse(http.StatusOK, wire.CodeInternal, "policy", "no")
	}
	return nil
}
func (connectsPolicy) Decide(context.Context, *Call) *Refusal { return nil }
func (connectsPolicy) List(_ context.Context, _ *Call, result wire.Raw) (wire.Raw, *Refusal) {
	return result, nil
}
func (connectsPolicy) Saw(context.Context, *Call, wire.Message) *Refusal { return nil }

// stream posts a request, or listens without a body, and reads event by event.
func (r *rig) stream(path, user, session, body string, header ...string) (next func() string, leave func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	q, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Session-Id": {session},
		"Authorization": {"Bearer " + r.as.token(r.t, r.url+path, user, func(m map[string]any) { m["client_id"] = "c" })}}
	if session == "" {
		q.Header.Del("Mcp-Session-Id")
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		r.t.Fatal(err)
	}
	in := wire.NewEventReader(resp.Body, 1<<20)
	return func() string {
		r.t.Helper()
		for {
			ev, err := in.Next()
			if err == io.EOF {
				return ""
			}
			if err != nil {
				r.t.Fatal(err)
			}
			if len(ev.Data) > 0 {
				return string(ev.Data)
			}
		}
	}, func() { cancel(); resp.Body.Close() }
}

// TestGPX2_QuestionsThatServersTakeBack: a client is told under the id it was asked
// by, its late answer reaches nobody, and neither does progress.
func TestGPX2_QuestionsThatServersTakeBack(t *testing.T) {
	r := newRig(t, []Server{stdioOf(t, "p", "stdio-plain", "legacy")}, withSandbox(t))
	for path, prefix := range map[string]string{"/s/p/mcp": "", "/mcp": "p__"} {
		user := "alice" + path
		sid := r.asClient(path, user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		next, leave := r.stream(path, user, sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+prefix+`withdraw","arguments":{}}}`)
		defer leave()
		asked := next()
		id := idOf(asked)
		if !strings.Contains(asked, `"_meta":{"progressToken":`+id+`}`) || !strings.HasPrefix(id, `"kidoban-`) {
			t.Fatalf("asked %s", asked)
		}
		say := func(body string) { r.asClient(path, user, "c", sid, body) }
		progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + id + `,"progress":1,"x":12345678901234567890}}`
		say(progress)
		if got := next(); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}` {
			t.Errorf("taken back with %s", got)
		}
		say(progress)
		say(`{"jsonrpc":"2.0","id":` + id + `,"result":{"action":"cancel"}}`)
		if path == "/mcp" { // where what is not of the specification ends
			continue
		}
		say(`{"jsonrpc":"2.0","method":"notifications/x/go"}`)
		done := next()
		if n := strings.Count(done, "notifications/progress"); n != 1 || !strings.Contains(done, `\"progressToken\":12345678901234567890,\"progress\":1,\"x\":12345678901234567890`) || strings.Contains(done, `\"id\":\"q\"`) {
			t.Errorf("the server heard %s", done)
		}
	}
}

// TestGPX5_GTG5_UpdatesOfPartsAreAskedOfPolicy: a server may name a part of what is
// followed; who may not read the part does not hear of it, on any way.
func TestGPX5_GTG5_UpdatesOfPartsAreAskedOfPolicy(t *testing.T) {
	const whole, secret, open = "test://all/", "test://all/secret", "test://all/open"
	touch := `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"touch","arguments":{"uris":["` + secret + `","` + open + `"]}}}`
	web := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			for _, uri := range []string{secret, open} {
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":%q}}\n\n", uri)
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true}},"serverInfo":{"name":"p","version":"1"}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	shared, streams := stdioOf(t, "shared", "stdio-plain", "legacy"), at("web", web.URL)
	shared.Shared, streams.Era = true, "legacy"
	var rules string
	for _, server := range []string{"shared", "own", "web"} {
		rules += `forbid (principal in Group::"support", action == Action::"read", resource == Resource::"` + server + "/" + secret + "\");\n"
	}
	set, problems := policy.Compile(policy.Options{Files: []policy.File{{Name: "x.cedar", Text: []byte(rules)}}})
	if set == nil {
		t.Fatal(problems)
	}
	guard := NewPolicyGuard(nil, nil, toolscan.New(), nil, time.Now)
	guard.SetRules(PolicyRules{Set: set, Groups: map[string][]string{"support": {"bob"}}})
	r := newRig(t, []Server{shared, stdioOf(t, "own", "stdio-plain", "legacy"), streams}, withSandbox(t), func(_ *Config, d *Deps) { d.Guards.Policy = guard })
	for _, user := range []string{"alice", "bob"} {
		want := []string{secret, open}
		if user == "bob" {
			want = want[1:]
		}
		check := func(what, prefix string, next func() string) {
			t.Helper()
			for _, uri := range want {
				if got := next(); !strings.Contains(got, `"uri":"`+prefix+uri+`"`) {
					t.Errorf("%s, %s: got %s, want %s", what, user, got, uri)
				}
			}
		}
		for _, server := range []string{"shared", "own"} {
			path := "/s/" + server + "/mcp"
			sid := r.asClient(path, user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
			if a := r.asClient(path, user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"`+whole+`"}}`); a.status != http.StatusOK || strings.Contains(a.body, "error") {
				t.Fatalf("%d %s", a.status, a.body)
			}
			next, leave := r.stream(path, user, sid, "") // its head says that it listens
			r.asClient(path, user, "c", sid, touch)
			check(server+", legacy client", "", next)
			leave()
			body, header := modern("subscriptions/listen", `"notifications":{"resourceSubscriptions":["`+server+"+"+whole+`"]}`, "")
			next, leave = r.stream("/mcp", user, "", body, header...)
			if ack := next(); !strings.Contains(ack, server+"+"+whole) {
				t.Fatal(ack)
			}
			r.asClient(path, user, "c", sid, touch)
			check(server+", modern client of the aggregate", server+"+", next)
			leave()
		}
		sid := r.asClient("/s/web/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		next, leave := r.stream("/s/web/mcp", user, sid, "", "MCP-Protocol-Version", "2025-11-25")
		check("what passes", "", next)
		leave()
	}
}

// stepping is a server over streamable HTTP that holds three calls of steps, and tells in
// the stream of each of the progress of all calls of its user, before and after answers.
func stepping(t *testing.T, modern bool) *raw {
	var mu sync.Mutex
	var all [][2]string // token, who
	full := make(chan struct{})
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		var m struct {
			Params struct {
				Arguments struct{ URIs []string }
				Meta      struct{ ProgressToken json.RawMessage } `json:"_meta"`
			}
		}
		_ = json.Unmarshal([]byte(body), &m)
		switch {
		case strings.Contains(body, `"initialize"`) && !modern:
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"p","version":"1"}}`)
		case strings.Contains(body, `"server/discover"`) && modern:
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
		case strings.Contains(body, `"steps"`):
			who := m.Params.Arguments.URIs[0]
			user, _, _ := strings.Cut(who, " ")
			mu.Lock()
			if all = append(all, [2]string{string(m.Params.Meta.ProgressToken), who}); len(all) == 3 {
				close(full)
			}
			mu.Unlock()
			select {
			case <-full:
			case <-r.Context().Done():
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			for _, a := range all {
				if strings.HasPrefix(a[1], user) {
					fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%s,\"progress\":1,\"message\":\"%s in the stream of %s\"}}\n\n", a[0], a[1], who)
				}
			}
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"end of %s\"}]}}\n\n", idOf(body), who)
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// TestGPX5_ProgressReachesItsCallAlone: two users, one of them with two calls, under way
// at once with tokens that are alike: a number and a string, over each bridge. What a
// server says of a call, in whatever stream, reaches that call alone, under its own
// token; what it says of one that is over, nobody.
func TestGPX5_ProgressReachesItsCallAlone(t *testing.T) {
	for _, server := range []string{"legacy", "modern"} {
		for _, transport := range []string{"stdio", "http"} {
			for _, client := range []string{"legacy", "modern"} {
				for _, path := range []string{"/s/x/mcp", "/mcp"} {
					if transport == "http" && client == server && (path == "/s/x/mcp" || client == "modern") {
						continue // messages pass: each stream is its own call's
					}
					t.Run(client+" client, "+server+" server, "+transport+", "+path, func(t *testing.T) {
						s, tool := stdioOf(t, "x", "stdio-plain", server), "steps"
						s.Shared = true
						if transport == "http" {
							s = at("x", stepping(t, server == "modern").URL)
							s.Era = server
						}
						if path == "/mcp" {
							tool = "x__steps"
						}
						r := newRig(t, []Server{s}, withSandbox(t))
						var wg sync.WaitGroup
						for i, c := range []struct{ user, token string }{{"alice", "7"}, {"bob", "7"}, {"alice", `"7"`}} {
							who := fmt.Sprint(c.user, " ", i)
							args := `"name":"` + tool + `","arguments":{"uris":["` + who + `"]}`
							body, header := modern("tools/call", args, tool)
							body = strings.Replace(body, `"_meta":{`, `"_meta":{"progressToken":`+c.token+`,`, 1)
							sid := ""
							if client == "legacy" {
								sid = r.asClient(path, c.user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
								body, header = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{`+args+`,"_meta":{"progressToken":`+c.token+`}}}`, nil
							}
							wg.Go(func() {
								got := r.asClient(path, c.user, "c", sid, body, header...).body
								n := 1
								if transport == "http" { // once in each stream of the user, as long as the call lasts
									n = strings.Count(got, `"message":"`+who+` in`)
								}
								if strings.Count(got, "notifications/progress") != n || n < 1 || n > 2 || strings.Count(got, `"progressToken":`+c.token+`,"progress":1,"message":"`+who) != n || !strings.Contains(got, "end of "+who) || strings.Contains(got, "late") {
									t.Errorf("%s was told %s", who, got)
								}
							})
						}
						wg.Wait()
					})
				}
			}
		}
	}
}
