//lint:file-ignore SA1019 roots are deprecated, not gone: servers and clients use them.

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/store/storetest"
)

// balancer is a plain TCP load balancer: each connection goes to the next process
// that takes it, whoever comes.
type balancer struct {
	l    net.Listener
	mu   sync.Mutex
	next int
	to   []string
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{l: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.carry(c)
		}
	}()
	return b
}

func (b *balancer) set(to ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = to
}

func (b *balancer) carry(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	to := append(append([]string{}, b.to[b.next%len(b.to):]...), b.to[:b.next%len(b.to)]...)
	b.next++
	b.mu.Unlock()
	for _, addr := range to {
		up, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		go func() { io.Copy(up, c); up.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, up)
		up.Close()
		return
	}
}

// cluster is several gateways on one PostgreSQL behind one balancer.
type cluster struct {
	t      *testing.T
	url    string
	db     string
	key    string
	config string
	lb     *balancer
	all    []*program
}

func newCluster(t *testing.T, n int, config string) *cluster {
	t.Helper()
	_, db := storetest.Own(t)
	lb := newBalancer(t)
	c := &cluster{t: t, url: "http://" + lb.l.Addr().String(), db: db, key: filepath.Join(t.TempDir(), "vault.key"), config: config, lb: lb}
	for range n {
		c.add()
	}
	return c
}

// add starts one more gateway and sends connections to it, too.
func (c *cluster) add() *program {
	c.t.Helper()
	dir := c.t.TempDir()
	p := &program{t: c.t, url: c.url, listen: "127.0.0.1:" + proofPort(c.t), config: filepath.Join(dir, "kidoban.yaml"), data: filepath.Join(dir, "data"), log: &lockedBuffer{}}
	text := fmt.Sprintf("public_url: %s\nlisten: %s\ndatabase: %s\nvault_key: file:%s\ninstance: gateway-%d\n%s", c.url, p.listen, c.db, c.key, len(c.all), c.config)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.kill)
	p.start()
	c.all = append(c.all, p)
	c.spread(c.all...)
	return p
}

func (c *cluster) spread(over ...*program) {
	var to []string
	for _, p := range over {
		to = append(to, p.listen)
	}
	c.lb.set(to...)
}

// roaming makes a new connection for each request, so that none sticks.
func roaming() *http.Transport { return &http.Transport{DisableKeepAlives: true} }

// roamer adds a token to requests that stick nowhere.
type roamer struct {
	token string
	next  http.RoundTripper
}

func (r roamer) RoundTrip(q *http.Request) (*http.Response, error) {
	q = q.Clone(q.Context())
	q.Header.Set("Authorization", "Bearer "+r.token)
	return r.next.RoundTrip(q)
}

// oldEra hides the modern era from an SDK client.
type oldEra struct{ next http.RoundTripper }

func (o oldEra) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Header.Get("Mcp-Method") == "server/discover" {
		return &http.Response{StatusCode: 400, Status: "400 Bad Request", Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("no session")), Request: q}, nil
	}
	return o.next.RoundTrip(q)
}

// client connects an SDK client of an era.
func (c *cluster) client(token, path, era string, o *mcp.ClientOptions) *mcp.ClientSession {
	c.t.Helper()
	_, s := c.clientOf(token, path, era, o)
	return s
}

// clientOf also returns what can change its roots.
func (c *cluster) clientOf(token, path, era string, o *mcp.ClientOptions) (*mcp.Client, *mcp.ClientSession) {
	c.t.Helper()
	var tr http.RoundTripper = roamer{token, roaming()}
	if era == "legacy" {
		tr = oldEra{tr}
	}
	if o == nil {
		o = &mcp.ClientOptions{}
	}
	if o.ElicitationHandler == nil {
		o.ElicitationHandler = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "alice"}}, nil
		}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "roamer", Version: "1"}, o)
	s, err := client.Connect(c.t.Context(), &mcp.StreamableClientTransport{Endpoint: c.url + path, HTTPClient: &http.Client{Transport: tr}, MaxRetries: 20}, nil)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.logs())
	}
	c.t.Cleanup(func() { s.Close() })
	return client, s
}

func (c *cluster) logs() string {
	var b strings.Builder
	for _, p := range c.all {
		b.WriteString(p.log.String() + "\n")
	}
	return b.String()
}

func (c *cluster) call(s *mcp.ClientSession, tool string, meta mcp.Meta) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": "x"}, Meta: meta})
	if err != nil {
		return "", err
	}
	if len(res.Content) != 1 {
		return "", fmt.Errorf("%+v", res)
	}
	return res.Content[0].(*mcp.TextContent).Text, nil
}

// patiently waits for what calls show, without spending what the rates allow a tool.
func (c *cluster) patiently(f func() bool) {
	c.t.Helper()
	if !within(patience, func() bool { time.Sleep(400 * time.Millisecond); return f() }) {
		c.t.Fatalf("it did not happen\n%s", c.logs())
	}
}

// must is a call that may not fail.
func (c *cluster) must(s *mcp.ClientSession, tool string) string {
	c.t.Helper()
	text, err := c.call(s, tool, nil)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", tool, err, c.logs())
	}
	return text
}

// at posts one message to one of the processes and returns status and body.
func (c *cluster) at(p *program, path, token, body string) (int, string) {
	c.t.Helper()
	q, err := http.NewRequest("POST", "http://"+p.listen+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	q.Host = strings.TrimPrefix(c.url, "http://")
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := roaming().RoundTrip(q)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// roamingServer is a server with something to remember: how often its tools were
// called, who asked, which of its calls were cancelled.
func roamingServer() *mcp.Server {
	var progressed atomic.Int64
	var roots atomic.Value
	roots.Store("")
	s := mcp.NewServer(&mcp.Implementation{Name: "roaming", Version: "1"}, &mcp.ServerOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationServerRequest) {
			if r.Params.ProgressToken == "answering" {
				progressed.Add(1)
			}
		},
		RootsListChangedHandler: func(ctx context.Context, r *mcp.RootsListChangedRequest) {
			if list, err := r.Session.ListRoots(ctx, nil); err == nil && len(list.Roots) > 0 {
				roots.Store(list.Roots[0].URI)
			}
		},
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	type in struct {
		Text string `json:"text"`
	}
	var cancelled atomic.Int64
	begun := func(ctx context.Context, r *mcp.CallToolRequest) {
		_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken()})
	}
	tool := func(name string, f func(context.Context, *mcp.CallToolRequest) (string, error)) {
		mcp.AddTool(s, &mcp.Tool{Name: name}, func(ctx context.Context, r *mcp.CallToolRequest, _ in) (*mcp.CallToolResult, any, error) {
			text, err := f(ctx, r)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, err
		})
	}
	tool("pid", func(context.Context, *mcp.CallToolRequest) (string, error) { return strconv.Itoa(os.Getpid()), nil })
	tool("ask", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Meta: mcp.Meta{"progressToken": "answering"}, Message: "your name?", RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"name": map[string]any{"type": "string"}}}})
		if err != nil {
			return "", err
		}
		name, _ := res.Content["name"].(string)
		return "hello " + name, nil
	})
	tool("progressed", func(context.Context, *mcp.CallToolRequest) (string, error) { return fmt.Sprint(progressed.Load()), nil })
	tool("roots", func(context.Context, *mcp.CallToolRequest) (string, error) { return roots.Load().(string), nil })
	tool("steps", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		for i := range 3 {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)})
		}
		return "done", nil
	})
	tool("wait", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		begun(ctx, r)
		select {
		case <-ctx.Done():
			cancelled.Add(1)
		case <-time.After(patience):
		}
		return "over", nil
	})
	tool("nap", func(ctx context.Context, r *mcp.CallToolRequest) (string, error) {
		begun(ctx, r)
		time.Sleep(2 * time.Second)
		return "rested", nil
	})
	tool("cancelled", func(context.Context, *mcp.CallToolRequest) (string, error) { return fmt.Sprint(cancelled.Load()), nil })
	tool("later", func(context.Context, *mcp.CallToolRequest) (string, error) { return "yes", nil })
	tool("scarce", func(context.Context, *mcp.CallToolRequest) (string, error) { return "yes", nil })
	tool("touch", func(ctx context.Context, _ *mcp.CallToolRequest) (string, error) {
		return "", s.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "test://note"})
	})
	s.AddResource(&mcp.Resource{URI: "test://note", Name: "note"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://note", Text: "a note"}}}, nil
	})
	return s
}
