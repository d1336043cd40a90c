package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/wire"
)

// TestTR13_TasksAtTheAggregateAreHeardFromTheirServer: a stream about tasks is their
// server's. It is asked for these alone, not for lists and resources under the client's
// names; and what is not one of its tasks is left out, as long as it is a task.
func TestTR13_TasksAtTheAggregateAreHeardFromTheirServer(t *testing.T) {
	one, two := taskServer(t), taskServer(t)
	a, b := at("a", one.URL), at("b", two.URL)
	a.Era, b.Era = "modern", "modern"
	r := newRig(t, []Server{a, b})
	task := map[string]string{}
	for _, server := range []string{"a", "b"} {
		var made struct {
			Result struct{ TaskID string }
		}
		got := r.askModern(t, "/mcp", "alice", "tools/call", `"name":"`+server+`__build","arguments":{}`, server+"__build")
		if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Result.TaskID == "" {
			t.Fatalf("no task: %d %s", got.status, got.body)
		}
		task[server] = made.Result.TaskID
	}
	listen := func(ids string) answer {
		return r.askModern(t, "/mcp", "alice", "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a+x://y"],"taskIds":[`+ids+`]}`, "")
	}
	got := listen(`"` + task["a"] + `","` + task["b"] + `"`)
	if !strings.Contains(got.body, task["a"]) || strings.Contains(got.body, task["b"]) || !strings.Contains(one.last().body, `"notifications":{"taskIds":["task-7"]}`) {
		t.Errorf("%d %s; asked %s", got.status, got.body, one.last().body)
	}
	if n := two.asked(wire.MethodListen); n != 0 {
		t.Errorf("the other server was asked %d times", n)
	}
	if code, say := listen(`"` + task["a"] + `","task-7"`).rpc(t); code != wire.CodeInvalidParams || say != unknownTask().Say {
		t.Errorf("an id that was never given out: %d %s", code, say)
	}
}

// TestTR18_AQuestionAboutAListIsNobodys: a modern server that wants input before it tells
// what it has, where the gateway asks for itself, tells nothing; the others do.
func TestTR18_AQuestionAboutAListIsNobodys(t *testing.T) {
	asks := newBeside(t, `{"tools":{}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
		if strings.Contains(body, wire.MethodToolsList) {
			result(w, body, `{"resultType":"input_required","inputRequests":{"a":{`+elicitName+`}},"requestState":"s"}`)
		}
		return strings.Contains(body, wire.MethodToolsList)
	})
	tells := taskServer(t)
	a, b := at("a", asks.URL), at("b", tells.URL)
	a.Era, b.Era = "modern", "modern"
	r := newRig(t, []Server{a, b}, generous)
	for range 2 {
		got := r.askModern(t, "/mcp", "alice", wire.MethodToolsList, `"cursor":""`, "")
		if !strings.Contains(got.body, `"b__build"`) || strings.Contains(got.body, "your name") {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if asks.asked(wire.MethodToolsList) == 0 || asks.asked("inputResponses") > 0 {
		t.Errorf("the server heard %v", asks.seen)
	}
}

// TestGPX5_AtASharedProcessEachHearsOfItsOwnResources: one process serves two users; of
// what it says it changed, each hears what it follows.
func TestGPX5_AtASharedProcessEachHearsOfItsOwnResources(t *testing.T) {
	shared := stdioOf(t, "p", "stdio-plain", "legacy")
	shared.Shared = true
	r := newRig(t, []Server{shared}, withSandbox(t))
	for path, names := range map[string][2]string{"/s/p/mcp": {"touch", ""}, "/mcp": {"p__touch", "p+"}} {
		session, next := map[string]string{}, map[string]func() string{}
		for _, user := range []string{"alice", "bob"} {
			session[user] = r.asClient(path, user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
			if a := r.asClient(path, user, "c", session[user], fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"%sx://%s"}}`, names[1], user)); strings.Contains(a.body, "error") {
				t.Fatalf("%d %s", a.status, a.body)
			}
			var leave func()
			next[user], leave = r.stream(path, user, session[user], "")
			defer leave()
		}
		r.asClient(path, "alice", "c", session["alice"], `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"`+names[0]+`","arguments":{"uris":["x://alice","x://bob","x://alice/part","x://bob/part"]}}}`)
		for user, hear := range next {
			for _, uri := range []string{"x://" + user, "x://" + user + "/part"} {
				if got := hear(); !strings.Contains(got, `"uri":"`+names[1]+uri+`"`) {
					t.Errorf("%s: %s, in place of %s, heard %s", path, user, uri, got)
				}
			}
		}
	}
}
