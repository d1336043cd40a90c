package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestTR13_TR19_WhatAListenerGets: first what was agreed to, each message under the
// listener's own id, nothing that it did not ask for, and no proxy's buffer between.
func TestTR13_TR19_WhatAListenerGets(t *testing.T) {
	told := make(chan string)
	up := newLegacy(t, `{"tools":{"listChanged":true},"prompts":{"listChanged":true}}`, func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case method := <-told:
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":%q,\"params\":{\"_meta\":{\"a/b\":1}}}\n\n", method)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return true
			}
		}
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	body, header := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":false,"other":true}`, "")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.resource("s"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json, text/event-stream")
	q.Header.Set("Authorization", "Bearer "+r.token("s", "alice"))
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("X-Accel-Buffering") != "no" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("%v", resp.Header)
	}
	in := bufio.NewScanner(resp.Body)
	next := func() (m struct {
		Method string
		Params map[string]json.RawMessage
	}) {
		t.Helper()
		for in.Scan() {
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					t.Fatal(err)
				}
				return m
			}
		}
		t.Fatal("the stream has ended")
		return m
	}
	ack := next()
	if ack.Method != "notifications/subscriptions/acknowledged" || string(ack.Params["notifications"]) != `{"toolsListChanged":true}` || !strings.Contains(string(ack.Params["_meta"]), `"io.modelcontextprotocol/subscriptionId":"m1"`) {
		t.Errorf("first came %s %s", ack.Method, ack.Params)
	}
	for _, method := range []string{"notifications/prompts/list_changed", "notifications/resources/list_changed", "notifications/message", "notifications/tools/list_changed"} {
		told <- method
	}
	if m := next(); m.Method != "notifications/tools/list_changed" || !strings.Contains(string(m.Params["_meta"]), `"io.modelcontextprotocol/subscriptionId":"m1"`) || !strings.Contains(string(m.Params["_meta"]), `"a/b":1`) {
		t.Errorf("then came %s %s", m.Method, m.Params)
	}
}

// TestTR18_NobodyIsAskedWhatItDoesNotOffer: a server's question that the client did not
// say it could answer is refused to the server, and never reaches the client.
func TestTR18_NobodyIsAskedWhatItDoesNotOffer(t *testing.T) {
	for method, params := range map[string]string{
		"sampling/createMessage": `{"messages":[],"maxTokens":1}`,
		"roots/list":             `{}`,
		"elicitation/create":     `{"mode":"form","message":"?"}`,
		"x/unknown":              `{}`,
	} {
		var heard atomic.Value
		answered := make(chan struct{})
		up := newLegacy(t, `{"tools":{}}`, func(w http.ResponseWriter, r *http.Request, body string) bool {
			switch {
			case strings.Contains(body, "tools/call"):
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":%q,\"params\":%s}\n\n", method, params)
				w.(http.Flusher).Flush()
				select {
				case <-answered:
				case <-r.Context().Done():
				}
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"went on\"}]}}\n\n", idOf(body))
			case strings.Contains(body, `"id":"q"`):
				heard.Store(body)
				close(answered)
				return false
			default:
				return false
			}
			return true
		})
		s := at("s", up.URL)
		s.Era = "legacy"
		r := newRig(t, []Server{s})
		body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
		body = strings.Replace(body, `"elicitation":{"form":{},"url":{}}`, "", 1) // offers nothing
		a := r.post("s", "alice", body, header...)
		if got, _ := heard.Load().(string); !strings.Contains(got, `"code":-32601`) || !strings.Contains(a.body, "went on") || strings.Contains(a.body, "input_required") {
			t.Errorf("%s: the server heard %s, the client %d %s", method, got, a.status, a.body)
		}
	}
}
