package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/wire"
)

// TestGPX2_ATasksProgressGoesOnAfterItsCreation: the progress token of a request of
// 2025-11-25 stays valid as long as the task that answers it. Its session hears of the
// progress, under its own token: on its stream, or in the call that waits for the result.
func TestGPX2_ATasksProgressGoesOnAfterItsCreation(t *testing.T) {
	up := newAside(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, generous)
	type made struct {
		session, id, token string
		next               func() string // of its stream
	}
	begin := func(listens bool) (m made) {
		m.session = r.asClient("/mcp", "alice", "c", "", initialize).header.Get("Mcp-Session-Id")
		if listens {
			next, leave := r.stream("/mcp", "alice", m.session, "")
			t.Cleanup(leave)
			m.next = next
		}
		answers := make(chan answer, 1)
		go func() {
			answers <- r.asClient("/mcp", "alice", "c", m.session, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"s__x","arguments":{},"task":{"ttl":60000},"_meta":{"progressToken":7}}}`)
		}()
		var call struct {
			Params struct {
				Meta struct{ ProgressToken string } `json:"_meta"`
			}
		}
		if err := json.Unmarshal([]byte(soon(t, up.begun)), &call); err != nil {
			t.Fatal(err)
		}
		m.token = call.Params.Meta.ProgressToken
		up.end <- `{"task":{"taskId":"t-` + m.token + `","status":"working","ttl":60000}}`
		a := <-answers
		var res struct {
			Result struct{ Task struct{ TaskID string } }
		}
		if err := json.Unmarshal([]byte(a.body), &res); err != nil || res.Result.Task.TaskID == "" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		m.id = res.Result.Task.TaskID
		return m
	}
	one, two := begin(true), begin(true)
	<-up.follow
	for _, m := range []made{two, one} {
		up.say <- `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"` + m.token + `","progress":1,"message":"of ` + m.token + `"}}`
	}
	for _, m := range []made{one, two} {
		if got := m.next(); !strings.Contains(got, `"progressToken":7,"progress":1,"message":"of `+m.token+`"`) {
			t.Errorf("the session of %s heard %s", m.token, got)
		}
	}
	three := begin(false)
	got := make(chan string, 8)
	go func() { // ends with its answer
		next, leave := r.stream("/mcp", "alice", three.session, `{"jsonrpc":"2.0","id":4,"method":"tasks/result","params":{"taskId":"`+three.id+`"}}`)
		defer leave()
		for m := next(); m != ""; m = next() {
			got <- m
		}
		close(got)
	}()
	soon(t, up.begun)
	up.say <- `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"` + three.token + `","progress":2,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t-` + three.token + `"}}}}`
	if m := soon(t, got); !strings.Contains(m, `"progressToken":7,"progress":2`) || !strings.Contains(m, `"taskId":"`+three.id+`"`) {
		t.Errorf("the call for the result heard %s", m)
	}
	up.end <- `{"content":[{"type":"text","text":"done"}]}`
	if m := soon(t, got); !strings.Contains(m, "done") {
		t.Errorf("the result is %s", m)
	}
	if m, more := <-got; more { // it has ended before the test does
		t.Errorf("after the result it heard %s", m)
	}
}

// TestGPX5_ATasksProgressIsItsSessionsOwn: the same over a pipe that several clients
// share; of the many tasks of one session the oldest are forgotten, and none of others.
func TestGPX5_ATasksProgressIsItsSessionsOwn(t *testing.T) {
	p, d := openMemory(t)
	heard := make(chan string, 2*maxMade)
	for _, who := range []string{"alice 1", "alice 2", "bob 1"} {
		l := listener(t.Context(), who, accept)
		l.note = func(m wire.Message) { heard <- who + " " + string(m.Params) }
		defer d.subscribe(l)()
		d.usedBy(strings.Fields(who)[0])
	}
	id := 1
	task := func(who, result string) (token string) {
		ended := make(chan struct{})
		go func() { // ends with its answer
			defer close(ended)
			params := wire.Raw(`{"_meta":{"progressToken":"` + who + `'s"}}`)
			_, _ = d.request(context.Background(), outgoing{method: wire.MethodToolsCall, params: params, who: who}, handler{})
		}()
		p.next(t)
		id++
		p.in <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, id, result)
		<-ended
		return fmt.Sprint("k", id)
	}
	const working = `{"task":{"taskId":"t","status":"working"}}`
	hears := func(token, want string) {
		t.Helper()
		p.in <- `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"` + token + `","progress":1}}`
		p.in <- `{"jsonrpc":"2.0","id":"p","method":"ping"}`
		p.next(t) // what came before is told
		got := ""
		for len(heard) > 0 {
			got += <-heard
		}
		if got != want {
			t.Errorf("%s: %q was told; want %q", token, got, want)
		}
	}
	says := func(who string) string { return who + ` {"progressToken":"` + who + `'s","progress":1}` }
	first, bobs := task("alice 1", working), task("bob 1", working)
	hears(first, says("alice 1"))
	hears(bobs, says("bob 1"))
	hears(task("alice 2", `{"content":[]}`), "") // no task
	hears(task("carol 1", working), "")          // who does not listen
	hears("k1", "")                              // nobody's
	second := task("alice 1", working)
	for range maxMadeBy - 1 {
		task("alice 1", working)
	}
	hears(first, "")
	hears(second, says("alice 1"))
	hears(bobs, says("bob 1"))
	for i := range maxMade {
		task(fmt.Sprint("dora ", i/maxMadeBy), working)
	}
	hears(bobs, says("bob 1"))
	if n := len(d.made.all); n != maxMade {
		t.Errorf("%d are remembered", n)
	}
}
