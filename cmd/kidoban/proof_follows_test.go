package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestGPX5_FollowersAtAnyReplicaCount: of sessions at three processes that share one
// relationship with a server, the server hears that nobody follows a resource from the
// last, wherever it asks.
func TestGPX5_FollowersAtAnyReplicaCount(t *testing.T) {
	var subscribed, unsubscribed atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body := string(raw)
		var result string
		switch {
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s")
			result = `{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true}},"serverInfo":{"name":"s","version":"1"}}`
		case strings.Contains(body, `"resources/subscribe"`):
			subscribed.Add(1)
			result = "{}"
		case strings.Contains(body, `"resources/unsubscribe"`):
			unsubscribed.Add(1)
			result = "{}"
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		default:
			w.WriteHeader(http.StatusAccepted)
			return
		}
		_, rest, _ := strings.Cut(body, `"id":`)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, rest[:strings.IndexAny(rest, ",}")], result)
	}))
	t.Cleanup(up.Close)
	c := newCluster(t, 3, fmt.Sprintf("open: true\nservers:\n  s: {url: %q, address: loopback, era: legacy}\n", up.URL))
	post := func(at int, session, body string) *http.Response {
		t.Helper()
		return c.send(t, c.all[at], http.MethodPost, "/mcp", session, body)
	}
	var sessions [3]string
	ask := func(at, session int, method string) {
		t.Helper()
		resp := post(at, sessions[session], `{"jsonrpc":"2.0","id":3,"method":"resources/`+method+`","params":{"uri":"s+x://y"}}`)
		if raw, _ := io.ReadAll(resp.Body); !strings.Contains(string(raw), `"result"`) {
			t.Fatalf("%d %s\n%s", resp.StatusCode, raw, c.logs())
		}
	}
	for i := range sessions {
		sessions[i] = post(i, "", initializeMessage).Header.Get("Mcp-Session-Id")
		ask(i, i, "subscribe") // the first makes its process the home
	}
	for _, step := range []struct {
		at, session int
		told        int64
	}{{1, 1, 0}, {0, 0, 0}, {1, 2, 1}} { // the last session has moved
		if ask(step.at, step.session, "unsubscribe"); unsubscribed.Load() != step.told {
			t.Errorf("session %d unsubscribes at process %d: the server was told %d times", step.session, step.at, unsubscribed.Load())
		}
	}
	if subscribed.Load() < 3 {
		t.Errorf("%d subscriptions", subscribed.Load())
	}
}

// send asks one program of a cluster, as a balancer would, and returns the answer, which
// is closed with the test.
func (c *cluster) send(t *testing.T, to *program, method, path, session, body string) *http.Response {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+to.listen+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Host = strings.TrimPrefix(c.url, "http://")
	q.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if session != "" {
		q.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := roaming().RoundTrip(q)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.logs())
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}
