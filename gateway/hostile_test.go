package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestGPX3_HostileServers(t *testing.T) {
	var behave atomic.Value
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		behave.Load().(func(http.ResponseWriter, *http.Request, string))(w, r, body)
	})
	good := listServer(t)
	bad := at("bad", up.URL)
	bad.Wait = 300 * time.Millisecond // of the good one a busy machine may take longer to say something
	var ck stoppable
	r := newRig(t, []Server{bad, at("good", good.URL)}, func(c *Config, d *Deps) {
		c.IdleWait, c.MaxResponse, d.Now = 2*time.Second, 1<<20, ck.now
	})
	js := func(text string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, r *http.Request, body string) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, text)
		}
	}
	const marker = "IGNORE-PREVIOUS-INSTRUCTIONS"
	for name, b := range map[string]func(http.ResponseWriter, *http.Request, string){
		"another id":   js(`{"jsonrpc":"2.0","id":77,"result":{"x":"` + marker + `"}}`),
		"id as string": js(`{"jsonrpc":"2.0","id":"2","result":{"x":"` + marker + `"}}`),
		"duplicates":   js(`{"jsonrpc":"2.0","id":2,"result":{"x":1,"x":"` + marker + `"}}`),
		"batch":        js(`[{"jsonrpc":"2.0","id":2,"result":{}}]`),
		"html":         func(w http.ResponseWriter, _ *http.Request, _ string) { io.WriteString(w, "<html>"+marker) },
		"error status": func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, marker, 500) },
		"redirect": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, good.URL, http.StatusTemporaryRedirect)
		},
		"endless":   func(w http.ResponseWriter, r *http.Request, b string) { js(strings.Repeat("x", 2<<20))(w, r, b) },
		"slow head": func(w http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() },
		"cut": func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("{"))
		},
		"asks to login": func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+marker+`"`)
			w.WriteHeader(401)
		},
	} {
		behave.Store(b)
		r.g.state.Load().servers["bad"].breaker.done(time.Now(), "alice", false, false) // each on its own
		a := r.post("bad", "alice", listTools)
		if a.status < 429 || strings.Contains(a.body, marker) || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if code, _ := a.rpc(t); code == 0 || idOf(a.body) != "2" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	sse := func(events string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, r *http.Request, body string) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, events)
			w.(http.Flusher).Flush()
		}
	}
	body, header := modern("tools/list", "", "")
	for name, b := range map[string]func(http.ResponseWriter, *http.Request, string){
		"ends early":       sse("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"),
		"asks the client":  sse("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\",\"params\":{}}\n\n"),
		"malformed":        sse("data: {\"a\":\n\n"),
		"another answer":   sse("data: {\"jsonrpc\":\"2.0\",\"id\":\"zz\",\"result\":{}}\n\n"),
		"silent afterward": func(w http.ResponseWriter, r *http.Request, b string) { sse(": hi\n\n")(w, r, b); <-r.Context().Done() },
	} {
		behave.Store(b)
		r.g.state.Load().servers["bad"].breaker.done(time.Now(), "alice", false, false)
		r.g.state.Load().servers["bad"].eras.learn(time.Now(), true, true)
		a := r.post("bad", "alice", body, header...)
		if !strings.Contains(a.body, `"id":"m1","error"`) {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
	}
	// A dead server is not asked for ever, and the other one never notices.
	behave.Store(func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	n, tokens := up.count(), map[string]string{"bad": r.token("bad", "alice"), "good": r.token("good", "alice")}
	ck.stop()
	for range 30 {
		r.do("POST", r.resource("bad"), listTools, "Authorization", "Bearer "+tokens["bad"])
		if a := r.do("POST", r.resource("good"), listTools, "Authorization", "Bearer "+tokens["good"]); a.status != 200 {
			t.Fatalf("the good server: %d", a.status)
		}
	}
	if asked := up.count() - n; asked > 6 {
		t.Errorf("the dead server was asked %d times", asked)
	}
}

func TestGPX3_PlacesAndRatesAreBounded(t *testing.T) {
	release := make(chan struct{})
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		result(w, body, `{}`)
	})
	var ck stoppable
	r := newRig(t, []Server{at("one", up.URL)}, func(c *Config, d *Deps) { c.MaxPerUser, d.Now = 3, ck.now })
	done := make(chan int, 3)
	for range 3 {
		go func() { done <- r.post("one", "alice", listTools).status }()
	}
	for up.count() < 3 {
		time.Sleep(time.Millisecond)
	}
	if a := r.post("one", "alice", listTools); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a fourth call: %d", a.status)
	}
	close(release)
	for range 3 {
		if got := <-done; got != 200 {
			t.Errorf("%d", got)
		}
	}
	if a := r.post("one", "bob", listTools); a.status != 200 {
		t.Errorf("another user: %d", a.status)
	}
	token := r.token("one", "carol")
	ck.stop()
	limited := 0
	for range 400 {
		if a := r.do("POST", r.resource("one"), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`, "Authorization", "Bearer "+token); a.status == 429 {
			limited++
		}
	}
	if limited == 0 {
		t.Error("400 calls of one tool at once were not limited")
	}
}

// TestStreamsLeaveNoDeadlineBehind: a connection that carried a stream answers
// long after the stream's last deadline.
func TestStreamsLeaveNoDeadlineBehind(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", idOf(body))
	})
	r := newRig(t, []Server{at("one", up.URL)}, func(c *Config, _ *Deps) { c.WriteWait = time.Second })
	for i := range 2 {
		if i > 0 {
			time.Sleep(1500 * time.Millisecond)
		}
		if a := r.post("one", "alice", listTools); a.status != 200 || !strings.Contains(a.body, "result") {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}
