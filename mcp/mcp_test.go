package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// server is the official SDK's server with 25 tools in pages of 10.
func server() *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "real", Version: "1"}, &sdk.ServerOptions{PageSize: 10, Instructions: "be kind"})
	for i := range 25 {
		s.AddTool(&sdk.Tool{Name: fmt.Sprintf("tool%02d", i), Description: "d", InputSchema: json.RawMessage(`{"type":"object","x-big":12345678901234567890}`)},
			func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
				return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: string(r.Params.Arguments)}}}, nil
			})
	}
	return s
}

func dial(t *testing.T, h http.Handler, o Options) *Client {
	t.Helper()
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	out := outbound.New(outbound.Options{Lab: true})
	t.Cleanup(out.Close)
	if o.URL == "" {
		o.URL = ts.URL + "/mcp"
	}
	c, err := New(out, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func TestRealServers_EraListCallClose(t *testing.T) {
	get := func(s *sdk.Server) func(*http.Request) *sdk.Server {
		return func(*http.Request) *sdk.Server { return s }
	}
	for name, c := range map[string]struct {
		h         http.Handler
		era       wire.Era
		version   string
		transport Transport
		session   bool
	}{
		"stateful":       {sdk.NewStreamableHTTPHandler(get(server()), nil), wire.Legacy, wire.Rev20251125, StreamableHTTP, true},
		"stateful JSON":  {sdk.NewStreamableHTTPHandler(get(server()), &sdk.StreamableHTTPOptions{JSONResponse: true}), wire.Legacy, wire.Rev20251125, StreamableHTTP, true},
		"stateless":      {sdk.NewStreamableHTTPHandler(get(server()), &sdk.StreamableHTTPOptions{Stateless: true}), wire.Modern, wire.Rev20260728, StreamableHTTP, false},
		"stateless JSON": {sdk.NewStreamableHTTPHandler(get(server()), &sdk.StreamableHTTPOptions{Stateless: true, JSONResponse: true}), wire.Modern, wire.Rev20260728, StreamableHTTP, false},
		"HTTP+SSE":       {sdk.NewSSEHandler(get(server()), nil), wire.Legacy, wire.Rev20241105, HTTPSSE, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			cl := dial(t, c.h, Options{})
			hello, err := cl.Connect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if hello.Era != c.era || hello.Version != c.version || hello.Transport != c.transport || (hello.SessionID != "") != c.session {
				for _, s := range hello.Steps {
					t.Logf("%s: %+v %v", s.Name, s.Reply.Outcome, s.Err)
				}
				t.Fatalf("era %q version %q transport %q session %q", hello.Era, hello.Version, hello.Transport, hello.SessionID)
			}
			if wire.LookupString(hello.ServerInfo, "name") != "real" || hello.Instructions != "be kind" {
				t.Errorf("server info %s, instructions %q", hello.ServerInfo, hello.Instructions)
			}
			l, err := cl.List(ctx, wire.MethodToolsList)
			if err != nil || len(l.Items) != 25 || l.Pages != 3 || l.Cut != "" {
				t.Fatalf("%d tools in %d pages, cut %q, %v", len(l.Items), l.Pages, l.Cut, err)
			}
			if tool := l.Items[7]; wire.LookupString(tool, "name") != "tool07" || !strings.Contains(string(tool), "12345678901234567890") {
				t.Errorf("%s", tool)
			}
			r, err := cl.Call(ctx, Call{Method: wire.MethodToolsCall, Params: wire.Raw(`{"name":"tool01","arguments":{"n":9007199254740993}}`)})
			if err != nil || r.Outcome != Answered || !strings.Contains(string(r.Result), "9007199254740993") {
				t.Fatalf("%+v %v", r, err)
			}
			if len(r.Objections) != 0 {
				t.Errorf("objections %v", r.Objections)
			}
			r, err = cl.Call(ctx, Call{Method: "no/such"})
			if err != nil || r.Outcome == Answered || c.era == wire.Modern && (r.RPC == nil || r.RPC.Code != wire.CodeMethodNotFound) {
				t.Errorf("%+v %v", r, err)
			}
			x := cl.Close(ctx)
			if c.session && (x.Status() < 200 || x.Status() >= 300) || !c.session && x != nil {
				t.Errorf("close: %+v", x)
			}
		})
	}
}

// odd is a hand-made server: step by step answers, requests recorded.
type odd struct {
	mu   sync.Mutex
	seen []string
	f    func(w http.ResponseWriter, r *http.Request, method string, id json.RawMessage, params map[string]any)
}

func (o *odd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
		Params map[string]any
	}
	_ = json.Unmarshal(body, &m)
	v, _ := m.Params["protocolVersion"].(string)
	o.mu.Lock()
	o.seen = append(o.seen, strings.TrimSpace(r.Method+" "+m.Method+" "+v))
	o.mu.Unlock()
	o.f(w, r, m.Method, m.ID, m.Params)
}

func (o *odd) log() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.seen, ", ")
}

func result(w http.ResponseWriter, id json.RawMessage, res string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, res)
}

func rpcError(w http.ResponseWriter, status int, id json.RawMessage, code int, data string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"no","data":%s}}`, id, code, data)
}

func TestEra_OddServers(t *testing.T) {
	type in struct {
		w      http.ResponseWriter
		r      *http.Request
		method string
		id     json.RawMessage
		params map[string]any
	}
	for name, c := range map[string]struct {
		f       func(in)
		era     wire.Era
		version string
		refused string // step
		log     string
	}{
		"401 at discover": {func(i in) {
			i.w.Header().Set("WWW-Authenticate", `Bearer resource_metadata=https://r.example/.well-known/oauth-protected-resource/mcp`)
			i.w.WriteHeader(401)
		}, "", "", "discover", "POST server/discover"},
		"403 at initialize": {func(i in) {
			if i.method == "initialize" {
				i.w.WriteHeader(403)
				return
			}
			i.w.WriteHeader(404)
		}, "", "", "initialize 2025-11-25", "POST server/discover, POST initialize 2025-11-25"},
		"only 2025-03-26": {func(i in) {
			switch {
			case i.method == "initialize" && i.params["protocolVersion"] == "2025-03-26":
				result(i.w, i.id, `{"protocolVersion":"2025-03-26","capabilities":{},"serverInfo":{"name":"old","version":"1"}}`)
			case i.id == nil:
				i.w.WriteHeader(202)
			default:
				rpcError(i.w, 400, i.id, -32602, "null")
			}
		}, wire.Legacy, wire.Rev20250326, "",
			"POST server/discover, POST initialize 2025-11-25, POST initialize 2025-06-18, POST initialize 2025-03-26, POST notifications/initialized"},
		"modern, capability missing": {func(i in) { rpcError(i.w, 400, i.id, wire.CodeMissingCapability, "{}") },
			wire.Modern, wire.Rev20260728, "", "POST server/discover"},
		"modern error names legacy": {func(i in) {
			switch i.method {
			case "initialize":
				result(i.w, i.id, `{"protocolVersion":"2025-06-18","capabilities":{}}`)
			case "server/discover":
				rpcError(i.w, 400, i.id, wire.CodeUnsupportedVersion, `{"supported":["2025-06-18","1999-01-01"],"requested":"2026-07-28"}`)
			default:
				i.w.WriteHeader(202)
			}
		}, wire.Legacy, wire.Rev20250618, "", "POST server/discover, POST initialize 2025-06-18, POST notifications/initialized"},
		"modern in an unknown revision": {func(i in) {
			rpcError(i.w, 400, i.id, wire.CodeUnsupportedVersion, `{"supported":["2031-01-01"],"requested":"2026-07-28"}`)
		}, wire.Modern, "", "", "POST server/discover"},
		"modern without discover": {func(i in) { rpcError(i.w, 404, i.id, wire.CodeMethodNotFound, "null") },
			wire.Modern, wire.Rev20260728, "", "POST server/discover, POST initialize 2025-11-25, POST initialize 2025-06-18, POST initialize 2025-03-26"},
		"a redirect": {func(i in) {
			i.w.Header().Set("Location", "/mcp/")
			i.w.WriteHeader(307)
		}, "", "", "", "POST server/discover"},
		"a web page": {func(i in) {
			i.w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(i.w, "<html>data: {\n\ndata: x\n\n</html>")
		}, "", "", "", "POST server/discover, POST initialize 2025-11-25, POST initialize 2025-06-18, POST initialize 2025-03-26, GET"},
		"401 only on the old stream": {func(i in) {
			if i.r.Method == "GET" {
				i.w.WriteHeader(401)
				return
			}
			i.w.WriteHeader(405)
		}, "", "", "sse", "POST server/discover, POST initialize 2025-11-25, GET"},
		"endpoint on another origin": {func(i in) {
			if i.r.Method == "GET" {
				i.w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(i.w, "event: endpoint\ndata: https://evil.example/m\n\n")
				return
			}
			i.w.WriteHeader(404)
		}, "", "", "", "POST server/discover, POST initialize 2025-11-25, GET"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &odd{f: func(w http.ResponseWriter, r *http.Request, m string, id json.RawMessage, p map[string]any) {
				c.f(in{w, r, m, id, p})
			}}
			h, err := dial(t, o, Options{}).Connect(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			step := ""
			if h.Refusal != nil {
				step = h.Refusal.Step
			}
			if h.Era != c.era || h.Version != c.version || step != c.refused || o.log() != c.log {
				t.Errorf("era %q version %q refused %q log %q", h.Era, h.Version, step, o.log())
			}
			if name == "401 at discover" {
				if u, _ := h.Refusal.Challenges[0].ResourceMetadata(); u != "https://r.example/.well-known/oauth-protected-resource/mcp" {
					t.Errorf("challenge %+v", h.Refusal.Challenges)
				}
			}
		})
	}
}

func TestList_Guards(t *testing.T) {
	page := func(items, next string) string { return `{"tools":[` + items + `],"nextCursor":"` + next + `"}` }
	for name, c := range map[string]struct {
		f     func(n int) string
		cut   string
		items int
	}{
		"loop":  {func(n int) string { return page(`{"name":"a"}`, fmt.Sprint(n%2)) }, CutLoop, 3},
		"pages": {func(n int) string { return page(`{"name":"a"}`, fmt.Sprint(n)) }, CutPages, 5},
		"items": {func(n int) string { return page(`1,2,3,4,5`, fmt.Sprint(n)) }, CutItems, 12},
		"bytes": {func(n int) string { return page(`{"name":"`+strings.Repeat("x", 400)+`"}`, fmt.Sprint(n)) }, CutBytes, 2},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			o := &odd{f: func(w http.ResponseWriter, _ *http.Request, _ string, id json.RawMessage, _ map[string]any) {
				n++
				result(w, id, c.f(n))
			}}
			cl := dial(t, o, Options{MaxPages: 5, MaxItems: 12, MaxListSize: 1000})
			cl.Use(wire.Rev20251125, "")
			l, err := cl.List(context.Background(), wire.MethodToolsList)
			if err != nil || l.Cut != c.cut || len(l.Items) != c.items {
				t.Errorf("cut %q after %d items, %v", l.Cut, len(l.Items), err)
			}
		})
	}
}

// The stream stays open after the reply; the client must not wait for its end.
func TestCall_StreamThatStaysOpen(t *testing.T) {
	hold := make(chan struct{})
	o := &odd{f: func(w http.ResponseWriter, r *http.Request, _ string, id json.RawMessage, _ map[string]any) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprintf(w, ": hi\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n"+
			"data: {\"jsonrpc\":\"2.0\",\"id\":77,\"result\":{\"wrong\":1}}\n\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":%s,\"result\":{\"ok\":1}}\n\n", id)
		w.(http.Flusher).Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}}
	cl := dial(t, o, Options{Timeout: time.Minute})
	t.Cleanup(func() { close(hold) })
	r, err := cl.Call(context.Background(), Call{Method: "tools/list"})
	if err != nil || r.Outcome != Answered || string(r.Result) != `{"ok":1}` || !r.Streamed || len(r.Others) != 2 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestCall_Outcomes(t *testing.T) {
	for name, c := range map[string]struct {
		f         func(w http.ResponseWriter, id json.RawMessage)
		want      Outcome
		objection string
	}{
		"other id": {func(w http.ResponseWriter, _ json.RawMessage) { result(w, json.RawMessage(`"1"`), `{}`) }, NotMCP, ""},
		"null id error": {func(w http.ResponseWriter, _ json.RawMessage) {
			rpcError(w, 400, json.RawMessage("null"), -32700, "null")
		}, RPCFailed, ""},
		"result with 500": {func(w http.ResponseWriter, id json.RawMessage) { w.WriteHeader(500); result(w, id, `{}`) }, HTTPFailed, ""},
		"batch reply": {func(w http.ResponseWriter, id json.RawMessage) {
			fmt.Fprintf(w, `[{"jsonrpc":"2.0","id":%s,"result":1}]`, id)
		}, Answered, wire.WhyBatch},
		"duplicate member": {func(w http.ResponseWriter, id json.RawMessage) {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":1,"result":2}`, id)
		}, Answered, wire.WhyDuplicate},
		"401 with error": {func(w http.ResponseWriter, id json.RawMessage) { rpcError(w, 401, id, -32001, "null") }, Refused, ""},
		"429":            {func(w http.ResponseWriter, _ json.RawMessage) { w.WriteHeader(429) }, RateLimited, ""},
		"302":            {func(w http.ResponseWriter, _ json.RawMessage) { w.Header().Set("Location", "/x"); w.WriteHeader(302) }, Redirected, ""},
		"empty 200":      {func(w http.ResponseWriter, _ json.RawMessage) {}, Accepted, ""},
		"text":           {func(w http.ResponseWriter, _ json.RawMessage) { fmt.Fprint(w, "ok") }, NotMCP, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := &odd{f: func(w http.ResponseWriter, _ *http.Request, _ string, id json.RawMessage, _ map[string]any) {
				c.f(w, id)
			}}
			r, err := dial(t, o, Options{}).Call(context.Background(), Call{Method: "tools/list"})
			if err != nil || r.Outcome != c.want || c.objection != "" && (len(r.Objections) != 1 || r.Objections[0] != c.objection) {
				t.Errorf("%q %v %v", r.Outcome, r.Objections, err)
			}
		})
	}
}

func TestCall_RawControl(t *testing.T) {
	var got *http.Request
	var body []byte
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	cl := dial(t, h, Options{Bearer: "tok", Header: kidoban.Fields{{Name: "X-Run", Value: "1"}}})
	cl.Use(wire.Rev20251125, "sess")
	ctx := context.Background()
	send := func(c Call) {
		t.Helper()
		if _, err := cl.Call(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	send(Call{Method: "tools/list"})
	if got.Header.Get("Authorization") != "Bearer tok" || got.Header.Get("Mcp-Session-Id") != "sess" || got.Header.Get("Mcp-Protocol-Version") != "2025-11-25" || got.Header.Get("X-Run") != "1" {
		t.Errorf("%v", got.Header)
	}
	none := ""
	send(Call{Method: "tools/list", Bearer: &none, NoSession: true, URL: "/other?x=1", HTTPMethod: "PUT", Body: []byte("raw"),
		Header: kidoban.Fields{{Name: "Content-Type", Value: "text/plain"}, {Name: "Origin", Value: "https://evil.example"}}, Drop: []string{"mcp-protocol-version"}})
	if got.Method != "PUT" || got.URL.String() != "/other?x=1" || string(body) != "raw" || got.Header.Get("Content-Type") != "text/plain" ||
		got.Header.Get("Origin") != "https://evil.example" || got.Header.Get("Authorization") != "" || got.Header.Get("Mcp-Session-Id") != "" || got.Header.Get("Mcp-Protocol-Version") != "" {
		t.Errorf("%s %s %v %q", got.Method, got.URL, got.Header, body)
	}
	send(Call{Method: wire.MethodToolsCall, Version: wire.Rev20260728, Params: wire.Raw(`{"name":"søk","_meta":{"x":1}}`)})
	if got.Header.Get("Mcp-Method") != "tools/call" || got.Header.Get("Mcp-Name") != "=?base64?c8O4aw==?=" || got.Header.Get("Mcp-Protocol-Version") != "2026-07-28" || got.Header.Get("Mcp-Session-Id") != "" {
		t.Errorf("%v", got.Header)
	}
	if !strings.Contains(string(body), `"_meta":{"x":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28"`) {
		t.Errorf("%s", body)
	}
}

func TestCL12_TokenStaysAtItsServer(t *testing.T) {
	hits := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer other.Close()
	cl := dial(t, http.NotFoundHandler(), Options{Bearer: "tok"})
	if _, err := cl.Call(context.Background(), Call{Method: "tools/list", URL: other.URL}); kidoban.KindOf(err) != kidoban.KindRefused || hits != 0 {
		t.Errorf("%v, %d requests at the other origin", err, hits)
	}
	none := ""
	if _, err := cl.Call(context.Background(), Call{Method: "tools/list", URL: other.URL, Bearer: &none}); err != nil || hits != 1 {
		t.Errorf("%v, %d requests at the other origin", err, hits)
	}
}

// initialize answers strangers, tools/list does not: both answers are kept.
func TestHandshakeOnly_ListIsAskedWithoutSession(t *testing.T) {
	o := &odd{f: func(w http.ResponseWriter, _ *http.Request, m string, id json.RawMessage, _ map[string]any) {
		switch m {
		case "initialize":
			result(w, id, `{"protocolVersion":"2025-06-18","capabilities":{}}`)
		case "tools/list":
			w.Header().Set("WWW-Authenticate", `Bearer scope="read"`)
			w.WriteHeader(401)
		case "server/discover":
			w.WriteHeader(400)
		default:
			w.WriteHeader(202)
		}
	}}
	cl := dial(t, o, Options{})
	h, err := cl.Connect(context.Background())
	if err != nil || h.Version != wire.Rev20250618 || h.SessionID != "" {
		t.Fatalf("%+v %v", h, err)
	}
	l, err := cl.List(context.Background(), wire.MethodToolsList)
	if err != nil || len(l.Replies) != 1 || l.Replies[0].Outcome != Refused || l.Replies[0].Refusal.Challenges[0].Get("scope") != "read" || len(l.Items) != 0 {
		t.Errorf("%+v %v", l, err)
	}
}
