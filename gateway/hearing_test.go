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
