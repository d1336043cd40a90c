package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

func generous(c *Config, _ *Deps) {
	c.Limits = limit.Defaults()
	for _, l := range c.Limits.All() {
		l.Count, l.Burst = 1_000_000, 1_000_000
	}
}

// BenchmarkCall is a tools/call of 2 KB through handler, token check, strict
// reading, rates, relay and back, over loopback to a server that only answers.
func BenchmarkCall(b *testing.B) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%s"}]}}`, strings.Repeat("kidoban ", 240))
	}))
	defer up.Close()
	r := newRig(b, []Server{at("one", up.URL)}, generous)
	token, body := r.token("one", "alice"), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"text":"`+strings.Repeat("kidoban ", 240)+`"}}}`
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest("POST", r.resource("one"), strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		r.g.ServeHTTP(w, req)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkStream is an answer of 100 events of 32 KB: what a talkative server costs
// in memory that must be collected.
func BenchmarkStream(b *testing.B) {
	event := "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", 32<<10) + "\"}}\n\n"
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 100 {
			io.WriteString(w, event)
		}
		io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
	}))
	defer up.Close()
	server := at("one", up.URL)
	server.Rate = 1 << 40
	r := newRig(b, []Server{server}, generous, func(_ *Config, d *Deps) { d.Guards.Results = NewResultGuard(toolscan.New(), nil) })
	token := r.token("one", "alice")
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest("POST", r.resource("one"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}`))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		w := &counted{h: http.Header{}}
		if r.g.ServeHTTP(w, req); w.n < 100*32<<10 {
			b.Fatal(w.n)
		}
	}
}

// BenchmarkAggregateList is tools/list over 100 servers with 1,000 tools, from
// the cache, all four pages.
func BenchmarkAggregateList(b *testing.B) {
	up := newRaw(b, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"many","version":"1"}}`)
		case strings.Contains(body, `tools/list`):
			var tools []string
			for i := range 10 {
				tools = append(tools, fmt.Sprintf(`{"name":"tool-%d","description":"%s","inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, i, strings.Repeat("what it does ", 20)))
			}
			result(w, body, `{"tools":[`+strings.Join(tools, ",")+`]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	var servers []Server
	for i := range 100 {
		servers = append(servers, at(fmt.Sprintf("s%02d", i), up.URL))
	}
	r := newRig(b, servers, generous, func(c *Config, _ *Deps) { c.Open = true })
	// The client's own reading is no part of it: pages are asked for by cursors of before.
	ask := func(cursor string, w http.ResponseWriter) {
		if cursor != "" {
			cursor = fmt.Sprintf(`"cursor":%q`, cursor)
		}
		req := httptest.NewRequest("POST", r.url+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+cursor+`}}`))
		req.Header.Set("Content-Type", "application/json")
		r.g.ServeHTTP(w, req)
	}
	n, cursors := 0, []string{""}
	for i := 0; i < len(cursors); i++ {
		w := httptest.NewRecorder()
		ask(cursors[i], w)
		list, _ := wire.Lookup(w.Body.Bytes(), "result")
		tools, _ := wire.Lookup(list, "tools")
		wire.Elements(tools, func(wire.Raw) bool { n++; return true })
		if next := wire.LookupString(list, "nextCursor"); next != "" {
			cursors = append(cursors, next)
		}
	}
	if n != 1000 {
		b.Fatal(n)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		for _, from := range cursors {
			w := &counted{h: http.Header{}}
			if ask(from, w); w.n < 50_000 {
				b.Fatal(w.n)
			}
		}
	}
}

// counted is an answer of which only the length is kept.
type counted struct {
	h      http.Header
	n      int
	status int
}

func (c *counted) Header() http.Header    { return c.h }
func (c *counted) WriteHeader(status int) { c.status = status }
func (c *counted) Flush()                 {}
func (c *counted) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}
