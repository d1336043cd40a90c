//lint:file-ignore SA1019 sampling, roots and logging are deprecated, not gone: servers and clients use them.

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// whole is a server by the Go SDK that uses every feature in which a server turns
// to its client, and lists more than fits a page.
type whole struct {
	*mcp.Server
	url     string
	ended   chan string   // "cancelled" or "left alone", from each call of wait
	waiting chan struct{} // a call of wait has begun
}

const wholeTools = 300

func newWhole(t *testing.T, modern bool) *whole {
	t.Helper()
	w := &whole{ended: make(chan string, 8), waiting: make(chan struct{}, 8)}
	w.Server = mcp.NewServer(&mcp.Implementation{Name: "whole", Version: "1"}, &mcp.ServerOptions{PageSize: 70,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	type in struct{}
	say := func(format string, args ...any) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
	}
	// put has the tool ask the client, each era in its own way, and say the answer.
	put := func(name string, ask mcp.InputRequest, legacy func(context.Context, *mcp.ServerSession) (mcp.InputResponse, error)) {
		mcp.AddTool(w.Server, &mcp.Tool{Name: name}, func(ctx context.Context, req *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
			var got mcp.InputResponse
			if modern {
				if got = req.Params.InputResponses["q"]; got == nil {
					return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": ask}, RequestState: "s"}, nil, nil
				}
			} else {
				var err error
				if got, err = legacy(ctx, req.Session); err != nil {
					return nil, nil, err
				}
			}
			switch r := got.(type) {
			case *mcp.ElicitResult:
				if r.Content == nil {
					return say("%s", r.Action), nil, nil
				}
				return say("%s %v", r.Action, r.Content["name"]), nil, nil
			case *mcp.CreateMessageResult:
				return say("%s says %s", r.Model, r.Content.(*mcp.TextContent).Text), nil, nil
			case *mcp.CreateMessageWithToolsResult:
				return say("%s says %s", r.Model, r.Content[0].(*mcp.TextContent).Text), nil, nil
			case *mcp.ListRootsResult:
				return say("%d roots, %s", len(r.Roots), r.Roots[0].URI), nil, nil
			}
			return say("%T", got), nil, nil
		})
	}
	form := &mcp.ElicitParams{Message: "your name?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}}}}
	put("elicit", form, func(ctx context.Context, s *mcp.ServerSession) (mcp.InputResponse, error) { return s.Elicit(ctx, form) })
	page := mcp.ElicitParams{Mode: "url", Message: "look at this", URL: "https://pages.example/x"}
	put("page", &page, func(ctx context.Context, s *mcp.ServerSession) (mcp.InputResponse, error) {
		named := page
		named.ElicitationID = "e-1"
		return s.Elicit(ctx, &named)
	})
	sample := &mcp.CreateMessageParams{MaxTokens: 10, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "count to three"}}}}
	put("sample", sample, func(ctx context.Context, s *mcp.ServerSession) (mcp.InputResponse, error) {
		return s.CreateMessage(ctx, sample)
	})
	put("roots", &mcp.ListRootsParams{}, func(ctx context.Context, s *mcp.ServerSession) (mcp.InputResponse, error) {
		return s.ListRoots(ctx, nil)
	})
	mcp.AddTool(w.Server, &mcp.Tool{Name: "steps"}, func(ctx context.Context, req *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
		for i := range 5 {
			req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i), Total: 5})
		}
		return say("done"), nil, nil
	})
	mcp.AddTool(w.Server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, req *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
		w.waiting <- struct{}{}
		if token := req.Params.GetProgressToken(); token != nil {
			req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token})
		}
		select {
		case <-ctx.Done():
			w.ended <- "cancelled"
		case <-time.After(30 * time.Second):
			w.ended <- "left alone"
		}
		return say("over"), nil, nil
	})
	for i := range wholeTools {
		mcp.AddTool(w.Server, &mcp.Tool{Name: fmt.Sprintf("t%03d", i)}, func(context.Context, *mcp.CallToolRequest, in) (*mcp.CallToolResult, any, error) {
			return say("t"), nil, nil
		})
	}
	for i := range 80 {
		uri := fmt.Sprintf("test://note/%02d", i)
		w.AddResource(&mcp.Resource{URI: uri, Name: fmt.Sprint("note", i)}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, Text: "a note"}}}, nil
		})
	}
	h := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return w.Server }, &mcp.StreamableHTTPOptions{Stateless: modern, PropagateRequestCancellation: true}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	w.url = h.URL
	return w
}

// answerer answers what servers ask and keeps what they tell.
type answerer struct {
	progress chan float64
	changed  chan struct{}
	updated  chan string
}

func newAnswerer() (*answerer, *mcp.ClientOptions) {
	p := &answerer{progress: make(chan float64, 64), changed: make(chan struct{}, 64), updated: make(chan string, 64)}
	return p, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}}, RootsV2: &mcp.RootCapabilities{}},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if r.Params.Mode == "url" {
				if r.Params.URL != "https://pages.example/x" {
					return &mcp.ElicitResult{Action: "decline"}, nil
				}
				return &mcp.ElicitResult{Action: "accept"}, nil
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Aiko"}}, nil
		},
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "three after " + r.Params.Messages[0].Content.(*mcp.TextContent).Text}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { p.progress <- r.Params.Progress },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { hand(p.changed, struct{}{}) },
		ResourceUpdatedHandler:      func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { hand(p.updated, r.Params.URI) },
	}
}

func hand[T any](to chan T, v T) {
	select {
	case to <- v:
	default:
	}
}

// eventually does something again and again until it is seen to have arrived.
func eventually[T any](t *testing.T, what string, seen <-chan T, do func(i int)) (v T) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ends := time.After(time.Minute)
	for i := 0; ; i++ {
		select {
		case v = <-seen:
			return v
		case <-ends:
			t.Fatalf("%s: nothing arrived", what)
		case <-tick.C:
			do(i)
		}
	}
}

// TestGPX2_AggregateWithTheGoSDK: whatever a server of either era asks, tells and
// lists reaches a client of either era through the endpoint for all servers.
func TestGPX2_AggregateWithTheGoSDK(t *testing.T) {
	for _, era := range []string{"legacy", "modern"} {
		t.Run(era+" client", func(t *testing.T) {
			old, young := newWhole(t, false), newWhole(t, true)
			servers := []Server{at("old", old.url), at("young", young.url), stdioServer(t, "pipe")}
			servers[0].Era, servers[1].Era = "legacy", "modern"
			r := newRig(t, servers, withSandbox(t))
			p, options := newAnswerer()
			s := connectWithRoots(t, r, era, options)

			t.Run("pages", func(t *testing.T) {
				names, pages := []string{}, 0
				for cursor := ""; ; pages++ {
					page, err := s.ListTools(t.Context(), &mcp.ListToolsParams{Cursor: cursor})
					if err != nil {
						t.Fatal(err)
					}
					for _, tool := range page.Tools {
						names = append(names, tool.Name)
					}
					if cursor = page.NextCursor; cursor == "" {
						break
					}
				}
				count := map[string]int{}
				for _, n := range names {
					server, _, _ := strings.Cut(n, "__")
					count[server]++
				}
				slices.Sort(names)
				if count["old"] != wholeTools+6 || count["young"] != wholeTools+6 || count["pipe"] < 4 || len(slices.Compact(slices.Clone(names))) != len(names) || pages < 2 {
					t.Errorf("%v in %d pages after the first", count, pages)
				}
				resources := 0
				for _, err := range s.Resources(t.Context(), nil) {
					if err != nil {
						t.Fatal(err)
					}
					resources++
				}
				if resources != 161 {
					t.Errorf("%d resources", resources)
				}
			})
			for _, server := range []string{"old", "young"} {
				w := map[string]*whole{"old": old, "young": young}[server]
				t.Run(server, func(t *testing.T) {
					for tool, want := range map[string]string{"elicit": "accept Aiko", "page": "accept", "sample": "m says three after count to three", "roots": "1 roots, file:///work"} {
						if got := callText(t, s, server+"__"+tool, nil, nil); got != want {
							t.Errorf("%s: %q", tool, got)
						}
					}
					if got := callText(t, s, server+"__steps", nil, mcp.Meta{"progressToken": server}); got != "done" {
						t.Errorf("steps: %q", got)
					}
					for i := range 5 {
						if got := eventually(t, "progress", p.progress, func(int) {}); got != float64(i) {
							t.Errorf("progress %v instead of %d", got, i)
						}
					}
					ctx, cancel := context.WithCancel(t.Context())
					var wg sync.WaitGroup
					wg.Go(func() { s.CallTool(ctx, &mcp.CallToolParams{Name: server + "__wait"}) })
					<-w.waiting
					cancel()
					if got := <-w.ended; got != "cancelled" {
						t.Errorf("the server's call was %s", got)
					}
					wg.Wait()
					eventually(t, "list changed", p.changed, func(i int) {
						w.AddTool(&mcp.Tool{Name: fmt.Sprint("new", i), InputSchema: map[string]any{"type": "object"}}, nil)
					})
				})
			}
			watched := []*whole{old}
			if era == "modern" { // a modern server tells no client of another era (docs/gateway.md)
				watched = append(watched, young)
			}
			for i, w := range watched {
				uri := []string{"old", "young"}[i] + "+test://note/01"
				t.Run("a resource changes: "+uri, func(t *testing.T) {
					if err := s.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri}); err != nil {
						t.Fatal(err)
					}
					got, before := "", "" // of the one watched before, more may be on their way
					if i > 0 {
						before = "old+test://note/01"
					}
					for got = before; got == before; {
						got = eventually(t, "an update", p.updated, func(int) {
							w.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://note/02"})
							w.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://note/01"})
						})
					}
					if got != uri {
						t.Errorf("updated: %s", got)
					}
					if err := s.Unsubscribe(t.Context(), &mcp.UnsubscribeParams{URI: uri}); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// connectWithRoots opens a client of the aggregate that has one root.
func connectWithRoots(t *testing.T, r *rig, era string, options *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	var tr http.RoundTripper = bearer{r.as.token(t, r.url+"/mcp", "alice", nil)}
	if era == "legacy" {
		tr = legacyRoundTripper{tr}
	}
	c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, options)
	c.AddRoots(&mcp.Root{URI: "file:///work", Name: "work"})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	s, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: r.url + "/mcp", HTTPClient: &http.Client{Transport: tr}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
