package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// TestGPX3_PlacesOfProcesses: a server has as many processes as config says. One with a
// call under way is not ended for another user, of the others the one goes that was idle
// for longest, and what goes ends.
func TestGPX3_PlacesOfProcesses(t *testing.T) {
	s := stdioServer(t, "own")
	s.Processes = 2
	var ck stoppable
	r := newRig(t, []Server{s}, withSandbox(t), generous, func(_ *Config, d *Deps) { d.Now = ck.now })
	ck.stop()
	pid := func(user string) int {
		t.Helper()
		ck.advance(time.Second)
		a := r.post("own", user, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pid","arguments":{"text":""}}}`)
		_, rest, _ := strings.Cut(a.body, `"text":"`)
		text, _, _ := strings.Cut(rest, `"`)
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %d %s", user, a.status, a.body)
		}
		return n
	}
	ended := func(pid int) {
		t.Helper()
		if atLeast(func() int {
			if syscall.Kill(pid, 0) != nil {
				return 1
			}
			return 0
		}, 1) == 0 {
			t.Errorf("process %d goes on", pid)
		}
	}
	alice, bob := pid("alice"), pid("bob")
	if again := pid("alice"); again != alice {
		t.Errorf("alice's process %d became %d", alice, again)
	}
	carol := pid("carol") // bob's was idle for longer
	ended(bob)
	if again := pid("alice"); again != alice {
		t.Errorf("alice's process %d became %d", alice, again)
	}

	// Both are asked something and wait for the answer.
	for _, user := range []string{"alice", "carol"} {
		r.inputOf(t, r.askModern(t, "/s/own/mcp", user, "tools/call", `"name":"ask","arguments":{"text":""}`, "ask"))
	}
	if a := r.askModern(t, "/s/own/mcp", "bob", "tools/call", `"name":"pid","arguments":{"text":""}`, "pid"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a third: %d %s", a.status, a.body)
	}
	for user, was := range map[string]int{"alice": alice, "carol": carol} {
		if again := pid(user); again != was {
			t.Errorf("%s's process %d became %d", user, was, again)
		}
	}
}

// TestGPX3_WhatIsIdleEnds: a process that nobody uses for as long as config says ends,
// one that a listener holds does not, and who comes back has a new one.
func TestGPX3_WhatIsIdleEnds(t *testing.T) {
	s := stdioServer(t, "own")
	s.Idle = time.Minute
	var ck stoppable
	r := newRig(t, []Server{s}, withSandbox(t), generous, func(_ *Config, d *Deps) { d.Now = ck.now })
	ck.stop()
	pid := func(user string) string {
		t.Helper()
		a := r.asClient("/s/own/mcp", user, "c", "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pid","arguments":{"text":""}}}`)
		if !strings.Contains(a.body, `"text":"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.body
	}
	alice, bob := pid("alice"), pid("bob")
	sid := r.asClient("/s/own/mcp", "bob", "c", "", initialize).header.Get("Mcp-Session-Id")
	_, leave := r.stream("/s/own/mcp", "bob", sid, "")
	defer leave()
	ck.advance(s.Idle)
	r.g.bridges.sweepAt(ck.now())
	if again := pid("alice"); again != alice {
		t.Error("a process ended too early")
	}
	ck.advance(s.Idle + time.Second)
	r.g.bridges.sweepAt(ck.now())
	if again := pid("alice"); again == alice {
		t.Error("an idle process goes on")
	}
	if again := pid("bob"); again != bob {
		t.Error("a process ended under who listens")
	}
}

// TestGPX3_OneUsersRelationshipsAreBounded: the aggregate of more servers than one user
// may have relationships with goes through them all, and ends those that it left.
func TestGPX3_OneUsersRelationshipsAreBounded(t *testing.T) {
	up := newBeside(t, `{"tools":{}}`, nil)
	var servers []Server
	for i := range userPeers + 8 {
		servers = append(servers, legacyAt(fmt.Sprint("s", i), up.URL))
	}
	r := newRig(t, servers, generous)
	sid := r.asClient("/mcp", "alice", "c", "", initialize).header.Get("Mcp-Session-Id")
	for i := range servers {
		if a := r.asClient("/mcp", "alice", "c", sid, callTool(fmt.Sprintf("s%d__x", i))); !strings.Contains(a.body, `"result"`) {
			t.Fatalf("%d: %d %s", i, a.status, a.body)
		}
	}
	ends := func() (n int) {
		up.mu.Lock()
		defer up.mu.Unlock()
		for _, x := range up.seen {
			if x.method == http.MethodDelete {
				n++
			}
		}
		return n
	}
	if n := atLeast(ends, 8); n != 8 {
		t.Errorf("%d relationships were ended", n)
	}
}

// TestGPX3_ABeginningIsBounded: a server of revision 2024-11-05 that opens its stream and
// then says nothing is waited for as long as config says.
func TestGPX3_ABeginningIsBounded(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "event: endpoint\ndata: /messages\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := at("s", up.URL)
	s.Transport, s.Wait = TransportSSE, 100*time.Millisecond
	r := newRig(t, []Server{s}, generous)
	answered := make(chan answer, 1)
	go func() { answered <- r.post("s", "alice", callTool("x")) }()
	select {
	case a := <-answered:
		if a.status/100 != 5 {
			t.Errorf("%d %s", a.status, a.body)
		}
	case <-time.After(time.Minute):
		t.Fatal("the client waits")
	}
}

// TestGPX3_WhoLeavesSaysNothingOfAServer: calls over a bridge that their clients give up,
// while it begins or later, and calls that the server refuses for want of an account,
// leave it to others.
func TestGPX3_WhoLeavesSaysNothingOfAServer(t *testing.T) {
	for name, at := range map[string]string{"the beginning": `"initialize"`, "a call": "linger"} {
		begun := make(chan struct{})
		up := newBeside(t, `{"tools":{}}`, func(_ http.ResponseWriter, r *http.Request, body string) bool {
			if !strings.Contains(body, at) || at != "linger" && strings.Contains(r.Header.Get("X-User"), "carol") {
				return false
			}
			select {
			case begun <- struct{}{}:
			case <-r.Context().Done():
			}
			<-r.Context().Done()
			return true
		})
		s := legacyAt("s", up.URL)
		s.Failures, s.Account = 2, AccountUser
		var ck stoppable
		r := newRig(t, []Server{s}, generous, func(_ *Config, d *Deps) { d.Now, d.Accounts = ck.now, namedAccounts{} })
		ck.stop()
		for _, user := range []string{"alice", "bob", "alice", "bob"} {
			ctx, leave := context.WithCancel(t.Context())
			body, header := modern("tools/call", `"name":"linger","arguments":{}`, "linger")
			q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.resource("s"), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			header = append(header, "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
			header = append(header, tokenOf(r, "/s/s/mcp", user)...)
			for i := 0; i < len(header); i += 2 {
				q.Header.Set(header[i], header[i+1])
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := r.http.Client().Do(q); err == nil {
					resp.Body.Close()
				}
			}()
			select {
			case <-begun:
			case <-time.After(time.Minute):
				t.Fatalf("%s: %s is not served", name, user)
			}
			leave()
			<-ended
		}
		if a := r.askModern(t, "/s/s/mcp", "carol", "tools/call", `"name":"x","arguments":{}`, "x"); !strings.Contains(a.body, `"result"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for _, at := range []string{`"initialize"`, "tools/call"} {
		up := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, r *http.Request, body string) bool {
			if strings.Contains(body, at) && r.Header.Get("X-User") != "carol" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			return false
		})
		s := legacyAt("s", up.URL)
		s.Failures, s.Account = 2, AccountUser
		var ck stoppable
		r := newRig(t, []Server{s}, generous, func(_ *Config, d *Deps) { d.Now, d.Accounts = ck.now, namedAccounts{} })
		ck.stop()
		for range 2 * s.Failures {
			for _, user := range []string{"alice", "bob"} {
				if a := r.askModern(t, "/s/s/mcp", user, "tools/call", `"name":"x","arguments":{}`, "x"); a.status == http.StatusServiceUnavailable {
					t.Errorf("%s, %s: %d %s", at, user, a.status, a.body)
				}
			}
		}
		if a := r.askModern(t, "/s/s/mcp", "carol", "tools/call", `"name":"x","arguments":{}`, "x"); !strings.Contains(a.body, `"result"`) {
			t.Errorf("%s: %d %s", at, a.status, a.body)
		}
	}
}

// namedAccounts shows every server who the user is.
type namedAccounts struct{}

func (namedAccounts) Credential(_ context.Context, user, _ string, _ bool) ([]Header, error) {
	return []Header{{Name: "X-User", Value: user}}, nil
}

func (namedAccounts) Challenged(context.Context, string, string, int, []string) error { return nil }

// TestGPX3_ProgressThatWasReadMakesRoom: however much a server says before its answer,
// who reads gets all of it.
func TestGPX3_ProgressThatWasReadMakesRoom(t *testing.T) {
	say := make(chan string)
	up := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, r *http.Request, body string) bool {
		if !strings.Contains(body, "tools/call") {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for text := range say {
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":%q}}\n\n", text)
			w.(http.Flusher).Flush()
		}
		fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[]}}\n\n", idOf(body))
		return true
	})
	r := newRig(t, []Server{legacyAt("s", up.URL)}, generous)
	sid := r.asClient("/mcp", "alice", "c", "", initialize).header.Get("Mcp-Session-Id")
	opened := make(chan func() string, 1)
	go func() {
		next, _ := r.stream("/mcp", "alice", sid, callTool("s__x"))
		opened <- next
	}()
	var next func() string
	for i := range 6 {
		say <- fmt.Sprint(i, " ", strings.Repeat("x", backlogMost/4))
		if next == nil {
			next = <-opened
		}
		if got := next(); !strings.Contains(got, fmt.Sprintf(`"data":"%d x`, i)) {
			t.Fatalf("%d: %.100s", i, got)
		}
	}
	close(say)
	if got := next(); !strings.Contains(got, `"content":[]`) {
		t.Errorf("%s", got)
	}
}

// TestTR18_AYoungServerAsksNobodyWhatItDoesNotOffer: a demand for input of the later era
// that a legacy client did not say it could answer ends the call, and is not put.
func TestTR18_AYoungServerAsksNobodyWhatItDoesNotOffer(t *testing.T) {
	for _, question := range []string{`"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}`, `"method":"elicitation/create","params":{"mode":"url","url":"https://pages.example/","message":"?"}`, `"method":"x/unknown"`} {
		up := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
			if !strings.Contains(body, "tools/call") {
				return false
			}
			result(w, body, `{"resultType":"input_required","inputRequests":{"a":{`+question+`}},"requestState":"s"}`)
			return true
		})
		s := at("s", up.URL)
		s.Era = "modern"
		r := newRig(t, []Server{s}, generous)
		sid := r.asClient("/s/s/mcp", "alice", "c", "", strings.Replace(initializeWithRoots, `"elicitation":{}`, `"elicitation":{"form":{}}`, 1)).header.Get("Mcp-Session-Id")
		if code, _ := r.asClient("/s/s/mcp", "alice", "c", sid, callTool("x")).rpc(t); code != wire.CodeMethodNotFound {
			t.Errorf("%s: %d", question, code)
		}
	}
}
