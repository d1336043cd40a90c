package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/sandbox"
)

// TestMain lets the test binary be the box's helper stage and a stdio server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "__sandbox":
			os.Exit(sandbox.Stage(os.Args[2:]))
		case "stdio-server":
			if err := fixture("stdio").Run(context.Background(), &mcp.StdioTransport{}); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case "stdio-hearing":
			if err := hearing().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case "stdio-plain":
			plainServer(os.Args[2])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// legacyRoundTripper hides the modern era from an SDK client: what asks for it
// gets the answer of a server that has never heard of it.
type legacyRoundTripper struct{ next http.RoundTripper }

func (l legacyRoundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Mcp-Method") == "server/discover" {
		return &http.Response{StatusCode: 400, Status: "400 Bad Request", Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("no session")), Request: r}, nil
	}
	return l.next.RoundTrip(r)
}

// connect opens an SDK client of the given era at a resource.
func connect(t *testing.T, r *rig, name, user, era string, options *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	var tr http.RoundTripper = bearer{r.token(name, user)}
	if name == "" {
		tr = bearer{r.as.token(t, r.url+"/mcp", user, nil)}
	}
	if era == "legacy" {
		tr = legacyRoundTripper{tr}
	}
	endpoint := r.url + "/mcp"
	if name != "" {
		endpoint = r.resource(name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	s, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, options).Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: tr}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func callText(t *testing.T, s *mcp.ClientSession, tool string, args map[string]any, meta mcp.Meta) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args, Meta: meta})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if len(res.Content) == 0 {
		t.Fatalf("%s: %+v", tool, res)
	}
	return res.Content[0].(*mcp.TextContent).Text
}

// asker answers elicitations with a name and keeps progress.
func asker(name string) (*mcp.ClientOptions, func() int) {
	var mu sync.Mutex
	n := 0
	return &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": name}}, nil
		},
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { mu.Lock(); n++; mu.Unlock() },
	}, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// atLeast waits until there are n, for a minute, and returns how many there are.
func atLeast(have func() int, n int) int {
	for deadline := time.Now().Add(time.Minute); have() < n && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	return have()
}

// modernAsk is a modern server whose tool asks for input twice.
func modernAsk(t *testing.T) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch r.Header.Get("Mcp-Method") {
		case "server/discover":
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public"}`)
		case "tools/list":
			result(w, body, `{"resultType":"complete","tools":[{"name":"ask","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"public"}`)
		case "tools/call":
			switch {
			case strings.Contains(body, `"requestState":"two"`):
				var m struct {
					Params struct {
						InputResponses map[string]struct{ Content struct{ Name string } }
					}
				}
				_ = json.Unmarshal([]byte(body), &m)
				result(w, body, `{"resultType":"complete","content":[{"type":"text","text":"hello `+m.Params.InputResponses["b"].Content.Name+`"}]}`)
			case strings.Contains(body, `"requestState":"one"`):
				result(w, body, `{"resultType":"input_required","inputRequests":{"b":{"method":"elicitation/create","params":{"mode":"form","message":"again","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}},"requestState":"two"}`)
			default:
				result(w, body, `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"mode":"form","message":"name","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}},"requestState":"one"}`)
			}
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{}`)
		}
	})
}

func TestGPX2_EraMatrix(t *testing.T) {
	for _, client := range []string{"legacy", "modern"} {
		for _, server := range []string{"legacy", "modern"} {
			t.Run(client+" client, "+server+" server", func(t *testing.T) {
				up := at("one", sdkServer(t, server == "modern").URL)
				up.Era = server
				ask := up
				if server == "modern" {
					ask = at("ask", modernAsk(t).URL)
					ask.Era = "modern"
				} else {
					ask.Name = "ask"
				}
				r := newRig(t, []Server{up, ask})
				options, progress := asker("Aiko")
				s := connect(t, r, "one", "alice", client, options)
				want := "2025-11-25"
				if client == "modern" {
					want = "2026-07-28"
				}
				if got := s.InitializeResult(); got.ProtocolVersion != want {
					t.Errorf("negotiated %s", got.ProtocolVersion)
				}
				tools, err := s.ListTools(t.Context(), nil)
				if err != nil || len(tools.Tools) != 3 {
					t.Fatalf("%+v %v", tools, err)
				}
				if got := callText(t, s, "echo", map[string]any{"text": "hi"}, nil); got != "hi" {
					t.Errorf("echo: %q", got)
				}
				if got := callText(t, s, "slow", map[string]any{"text": ""}, mcp.Meta{"progressToken": "p"}); got != "done" {
					t.Errorf("slow: %q", got)
				}
				if n := atLeast(progress, 3); n != 3 {
					t.Errorf("%d notifications of progress", n)
				}
				a := connect(t, r, "ask", "alice", client, options)
				if got := callText(t, a, "ask", map[string]any{"text": ""}, nil); got != "hello Aiko" {
					t.Errorf("ask: %q", got)
				}
				if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "none"}); err == nil {
					t.Error("a tool that is not there answered")
				}
				if _, err := s.ListResources(t.Context(), nil); err != nil && !strings.Contains(err.Error(), "not") {
					t.Errorf("resources: %v", err)
				}
			})
		}
	}
}

func stdioServer(t testing.TB, name string) Server { return stdioOf(t, name, "stdio-server") }

// stdioOf is a server that this binary is when it is started so.
func stdioOf(t testing.TB, name string, args ...string) Server {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Server{Name: name, Stdio: &sandbox.Spec{Name: name, Command: exe, Args: args}}
}

func withSandbox(t testing.TB) rigOption {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := sandbox.NewHost(sandbox.Options{Helper: []string{exe, "__sandbox"}})
	t.Cleanup(func() { h.Close() })
	return func(_ *Config, d *Deps) { d.Sandbox = h }
}

func TestGPX2_GTG8_StdioServersInTheBox(t *testing.T) {
	one, shared := stdioServer(t, "own"), stdioServer(t, "shared")
	shared.Shared = true
	r := newRig(t, []Server{one, shared}, withSandbox(t))
	for _, era := range []string{"legacy", "modern"} {
		for _, name := range []string{"own", "shared"} {
			options, progress := asker("Taro")
			s := connect(t, r, name, "alice", era, options)
			if got := callText(t, s, "echo", map[string]any{"text": "hi"}, nil); got != "hi" {
				t.Errorf("%s %s echo: %q", era, name, got)
			}
			if got := callText(t, s, "ask", map[string]any{"text": ""}, nil); got != "hello Taro" {
				t.Errorf("%s %s ask: %q", era, name, got)
			}
			callText(t, s, "slow", map[string]any{"text": ""}, mcp.Meta{"progressToken": "p"})
			if n := atLeast(progress, 3); n != 3 {
				t.Errorf("%s %s: %d notifications of progress", era, name, n)
			}
		}
	}
}

// TestGPX5_E37_StdioUsersHaveOwnProcesses: 50 interleaved calls of two users,
// each sees its own process.
func TestGPX5_E37_StdioUsersHaveOwnProcesses(t *testing.T) {
	r := newRig(t, []Server{stdioServer(t, "own")}, withSandbox(t))
	pids := map[string]map[string]bool{"alice": {}, "bob": {}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for user := range pids {
		s := connect(t, r, "own", user, "legacy", nil)
		for range 50 {
			wg.Go(func() {
				pid := callText(t, s, "pid", map[string]any{"text": ""}, nil)
				mu.Lock()
				pids[user][pid] = true
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	if len(pids["alice"]) != 1 || len(pids["bob"]) != 1 || fmt.Sprint(pids["alice"]) == fmt.Sprint(pids["bob"]) {
		t.Errorf("%v", pids)
	}
}

func TestGPX3_ProcessesAreBoundedAndComeBack(t *testing.T) {
	s := stdioServer(t, "own")
	s.Processes = 2
	r := newRig(t, []Server{s}, withSandbox(t))
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","arguments":{"text":""}}}`
	for i := range 6 { // idle ones make room
		if a := r.post("own", fmt.Sprint("user", i), fmt.Sprintf(call, "pid")); a.status != 200 || !strings.Contains(a.body, "content") {
			t.Errorf("user %d: %d %s", i, a.status, a.body)
		}
	}
	if a := r.post("own", "user5", fmt.Sprintf(call, "die")); a.status == 200 && !strings.Contains(a.body, `"error"`) {
		t.Errorf("a dying server: %d %s", a.status, a.body)
	}
	if a := r.post("own", "user5", fmt.Sprintf(call, "pid")); a.status != 200 || !strings.Contains(a.body, "content") {
		t.Errorf("after its death: %d %s", a.status, a.body)
	}
}

func TestGPX2_LegacySSEServer(t *testing.T) {
	srv := fixture("sse")
	h := httptest.NewServer(mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return srv }, nil))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	up := at("old", h.URL)
	up.Transport = TransportSSE
	r := newRig(t, []Server{up})
	for _, era := range []string{"legacy", "modern"} {
		options, _ := asker("Hana")
		s := connect(t, r, "old", "alice", era, options)
		if got := callText(t, s, "echo", map[string]any{"text": "hi"}, nil); got != "hi" {
			t.Errorf("%s echo: %q", era, got)
		}
		if got := callText(t, s, "ask", map[string]any{"text": ""}, nil); got != "hello Hana" {
			t.Errorf("%s ask: %q", era, got)
		}
	}
}

func TestGPX3_AggregateListsTheRestAndNamesTheMissing(t *testing.T) {
	loop := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) { // pages without end
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"loop","version":"1"}}`)
		case strings.Contains(body, `tools/list`):
			result(w, body, `{"tools":[{"name":"again","inputSchema":{"type":"object"}}],"nextCursor":"same"}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	two := at("beta", sdkServer(t, true).URL)
	two.Era = "modern"
	r := newRig(t, []Server{at("alpha", sdkServer(t, false).URL), two, at("dead", "http://127.0.0.1:1"), at("loop", loop.URL), stdioServer(t, "pipe")}, withSandbox(t))
	for _, era := range []string{"legacy", "modern"} {
		options, _ := asker("Ken")
		s := connect(t, r, "", "alice", era, options)
		tools, err := s.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, tool := range tools.Tools {
			names[tool.Name] = true
		}
		for _, want := range []string{"alpha__echo", "beta__echo", "pipe__echo", "loop__again"} {
			if !names[want] {
				t.Errorf("%s: %s is missing in %v", era, want, names)
			}
		}
		if got := fmt.Sprint(tools.Meta["kidoban/missing"]); got != "[dead loop]" {
			t.Errorf("%s: missing %s", era, got)
		}
		for _, server := range []string{"alpha", "beta", "pipe"} {
			if got := callText(t, s, server+"__echo", map[string]any{"text": server}, nil); got != server {
				t.Errorf("%s %s: %q", era, server, got)
			}
		}
		for _, server := range []string{"alpha", "pipe"} {
			if got := callText(t, s, server+"__ask", map[string]any{"text": ""}, nil); got != "hello Ken" {
				t.Errorf("%s %s ask: %q", era, server, got)
			}
		}
		for _, name := range []string{"echo", "none__echo", "dead__x", "alpha_echo"} {
			if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name}); err == nil {
				t.Errorf("%s: %s answered", era, name)
			}
		}
		res, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "pipe+test://note"})
		if err != nil || res.Contents[0].Text != "a note" {
			t.Errorf("%s: resource %+v %v", era, res, err)
		}
	}
}

func TestAggregatePaginates(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"many","version":"1"}}`)
		case strings.Contains(body, `tools/list`):
			page, next := 0, `,"nextCursor":"1"`
			if strings.Contains(body, `"cursor":"1"`) {
				page, next = 1, ""
			}
			var tools []string
			for i := range 300 {
				tools = append(tools, fmt.Sprintf(`{"name":"t%d-%d","inputSchema":{"type":"object"}}`, page, i))
			}
			result(w, body, `{"tools":[`+strings.Join(tools, ",")+`]`+next+`}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	r := newRig(t, []Server{at("many", up.URL)})
	s := connect(t, r, "", "alice", "legacy", nil)
	seen := map[string]bool{}
	for tool, err := range s.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		seen[tool.Name] = true
	}
	if len(seen) != 600 {
		t.Errorf("%d tools", len(seen))
	}
	a := r.do("POST", r.url+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"evil"}}`, "Authorization", "Bearer "+r.as.token(t, r.url+"/mcp", "alice", nil))
	if code, _ := a.rpc(t); code != -32602 {
		t.Errorf("a bad cursor: %s", a.body)
	}
}

// TestGPX5_E08_HeldRequestsBelongToTheirAsker is the bridge's side of TR-17.
func TestGPX5_E08_HeldRequestsBelongToTheirAsker(t *testing.T) {
	up := at("one", sdkServer(t, false).URL)
	up.Era = "legacy"
	r := newRig(t, []Server{up})
	body, header := modern("tools/call", `"name":"ask","arguments":{"text":"x"}`, "ask")
	a := r.post("one", "alice", body, header...)
	var m struct {
		Result struct {
			ResultType, RequestState string
			InputRequests            map[string]struct{ Method string }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Result.ResultType != "input_required" || m.Result.InputRequests["input"].Method != "elicitation/create" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	retry := func(user, args string) answer {
		body, header := modern("tools/call", `"name":"ask","arguments":`+args+`,"inputResponses":{"input":{"action":"accept","content":{"name":"Mio"}}},"requestState":"`+m.Result.RequestState+`"`, "ask")
		return r.post("one", user, body, header...)
	}
	if a := retry("mallory", `{"text":"x"}`); a.status != 400 {
		t.Errorf("another user: %d %s", a.status, a.body)
	}
	if a := retry("alice", `{"text":"y"}`); a.status != 400 {
		t.Errorf("another argument: %d %s", a.status, a.body)
	}
	if a := retry("alice", `{"text":"x"}`); a.status != 200 || !strings.Contains(a.body, "hello Mio") {
		t.Errorf("the asker: %d %s", a.status, a.body)
	}
	if a := retry("alice", `{"text":"x"}`); a.status != 400 {
		t.Errorf("a second time: %d %s", a.status, a.body)
	}
}

func TestGPX5_BridgeSessionsBelongToTheirOwner(t *testing.T) {
	up := at("one", sdkServer(t, true).URL)
	up.Era = "modern"
	r := newRig(t, []Server{up})
	a := r.post("one", "alice", initialize)
	sid := a.header.Get("Mcp-Session-Id")
	if a.status != 200 || sid == "" || !strings.Contains(a.body, `"protocolVersion":"2025-11-25"`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := r.post("one", "alice", listTools, "Mcp-Session-Id", sid); a.status != 200 || strings.Contains(a.body, "resultType") || strings.Contains(a.body, "ttlMs") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.post("one", "bob", listTools, "Mcp-Session-Id", sid); a.status != 404 {
		t.Errorf("another user: %d", a.status)
	}
	if a := r.do("DELETE", r.resource("one"), "", "Authorization", "Bearer "+r.token("one", "alice"), "Mcp-Session-Id", sid); a.status != 204 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if a := r.post("one", "alice", listTools, "Mcp-Session-Id", sid); a.status != 404 {
		t.Errorf("after the end: %d", a.status)
	}
}

func TestTR13_SubscriptionsOfAModernClientAtALegacyServer(t *testing.T) {
	srv := fixture("changing")
	h := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, nil))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	up := at("one", h.URL)
	up.Era = "legacy"
	r := newRig(t, []Server{up})
	changed := make(chan struct{}, 8)
	connect(t, r, "one", "alice", "modern", &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-changed:
			return
		case <-tick.C:
			if i > 1000 {
				t.Fatal("no notification arrived")
			}
			mcp.AddTool(srv, &mcp.Tool{Name: fmt.Sprint("new", i)}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
				return nil, nil, nil
			})
		}
	}
}

// TestGPX2_RequestsOutsideOfCallsAreAnswered: a server that pings, or asks what
// belongs to no call, on its stream of notifications is not left waiting.
func TestGPX2_RequestsOutsideOfCallsAreAnswered(t *testing.T) {
	answers := make(chan string, 4)
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":71,\"method\":\"ping\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":72,\"method\":\"roots/list\"}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"pings","version":"1"}}`)
		default:
			if !strings.Contains(body, `"method"`) {
				answers <- body
			}
			w.WriteHeader(http.StatusAccepted)
		}
	})
	one := at("one", up.URL)
	one.Era = "legacy"
	r := newRig(t, []Server{one})
	connect(t, r, "one", "alice", "modern", &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {}})
	for _, want := range []string{`"id":71,"result":{}`, `"id":72,"error":{"code":-32601`} {
		select {
		case got := <-answers:
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no answer with %s", want)
		}
	}
}

// TestGPX3_WhoLeavesWhileARelationshipBeginsSpoilsNobodysCall: of two calls that need a
// relationship the first one makes it; when that one leaves, the other one does.
func TestGPX3_WhoLeavesWhileARelationshipBeginsSpoilsNobodysCall(t *testing.T) {
	begun, served := make(chan struct{}), &atomic.Int32{}
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case !strings.Contains(body, `"initialize"`):
			w.WriteHeader(http.StatusAccepted)
		case served.Add(1) == 1:
			close(begun)
			<-r.Context().Done() // until the one who asked has gone
		default:
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`)
		}
	})
	one := at("s", up.URL)
	one.Era = "legacy"
	r := newRig(t, []Server{one})
	st := r.g.state.Load()
	s := st.servers["s"]
	acquire := func(ctx context.Context) *Refusal {
		_, release, refusal := r.g.acquire(ctx, &call{Call: Call{Caller: Caller{User: "alice", Client: "c"}, Server: "s"}, st: st, server: s}, s)
		if refusal == nil {
			release()
		}
		return refusal
	}
	ctx, leave := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if acquire(ctx) == nil {
			t.Error("who left has a relationship")
		}
	})
	<-begun
	both.Go(func() {
		if refusal := acquire(t.Context()); refusal != nil {
			t.Errorf("who stayed: %s", refusal.Say)
		}
	})
	b := &r.g.bridges
	waits := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, h := range b.peers {
			if h.refs == 2 {
				return true
			}
		}
		return false
	}
	for !waits() {
		time.Sleep(time.Millisecond)
	}
	leave()
	both.Wait()
}
