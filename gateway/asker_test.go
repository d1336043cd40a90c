package gateway

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// memPipe is a pipe whose other end is the test.
type memPipe struct {
	out  chan string // what the gateway sends
	in   chan string // what it gets
	over chan struct{}
}

func (p *memPipe) send(_ context.Context, msg []byte) error {
	select {
	case p.out <- string(msg):
		return nil
	case <-p.over:
		return io.EOF
	}
}

func (p *memPipe) recv() ([]byte, error) {
	select {
	case text := <-p.in:
		return []byte(text), nil
	case <-p.over:
		return nil, io.EOF
	}
}

func (p *memPipe) close() {
	select {
	case <-p.over:
	default:
		close(p.over)
	}
}

// next is the next message that the gateway sends.
func (p *memPipe) next(t *testing.T) string {
	t.Helper()
	select {
	case m := <-p.out:
		return m
	case <-time.After(time.Minute):
		t.Fatal("the gateway sends nothing")
		return ""
	}
}

// openMemory is a legacy server at a memPipe.
func openMemory(t *testing.T) (*memPipe, *duplex) {
	t.Helper()
	p := &memPipe{out: make(chan string), in: make(chan string), over: make(chan struct{})}
	t.Cleanup(p.close)
	go func() { // ends when the gateway has introduced itself
		<-p.out
		p.in <- `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`
		<-p.out
	}()
	d, err := openDuplex(t.Context(), p, wire.NewReader(wire.Limits{}), false, wire.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// TestGPX5_AQuestionGoesToWhoseCallItIs: a pipe does not say which call a server's
// request belongs to. It is put to a client when all calls are from one session of it,
// and refused to the server otherwise, also among the clients of one user.
func TestGPX5_AQuestionGoesToWhoseCallItIs(t *testing.T) {
	alice, window, other, bob := "alice\x00c1\x00s1", "alice\x00c1\x00s2", "alice\x00c2\x00s1", "bob\x00c1\x00s1"
	for name, c := range map[string]struct {
		calls []string // in this order; who is asked is the last
		asked bool
	}{
		"one call":                       {[]string{alice}, true},
		"parallel calls of one session":  {[]string{alice, alice, alice}, true},
		"another client of the user":     {[]string{alice, other}, false},
		"another window of the client":   {[]string{alice, window}, false},
		"another user":                   {[]string{bob, alice}, false},
		"one of three":                   {[]string{alice, bob, alice}, false},
		"a request of the gateway's own": {[]string{alice, ""}, false},
		"one of who knows whom":          {[]string{""}, true},
		"two of who knows whom":          {[]string{"", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, d := openMemory(t)
			heard := make(chan string, len(c.calls))
			for i, who := range c.calls {
				go func() { // ends with the pipe
					_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{"form":{}}}`), who: who}, handler{
						ask: func(context.Context, *question) (wire.Raw, wire.Raw) {
							heard <- fmt.Sprint(i, " ", who)
							return wire.Raw(`{"action":"cancel"}`), nil
						}})
				}()
				p.next(t) // before the next call begins
			}
			p.in <- `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"your name?"}}`
			answer := p.next(t)
			if !c.asked {
				if len(heard) != 0 || !strings.Contains(answer, "error") {
					t.Errorf("%d clients were asked; the server was told %s", len(heard), answer)
				}
				return
			}
			if want := fmt.Sprint(len(c.calls)-1, " ", c.calls[len(c.calls)-1]); len(heard) != 1 || <-heard != want || !strings.Contains(answer, "cancel") {
				t.Errorf("the server was told %s", answer)
			}
		})
	}
}

// TestTR18_ACallThatMayNotBeAskedHidesNoOther: a list that the same session asks for
// meanwhile is no reason to refuse the server's question about an earlier call.
func TestTR18_ACallThatMayNotBeAskedHidesNoOther(t *testing.T) {
	p, d := openMemory(t)
	for _, method := range []string{wire.MethodToolsCall, wire.MethodToolsList} {
		caps := `{"elicitation":{"form":{}}}`
		h := handler{ask: func(context.Context, *question) (wire.Raw, wire.Raw) { return wire.Raw(`{"action":"cancel"}`), nil }}
		if method == wire.MethodToolsList {
			caps, h = "", handler{}
		}
		go func() { // ends with the pipe
			_, _ = d.request(t.Context(), outgoing{method: method, caps: wire.Raw(caps), who: "alice\x00c\x00s"}, h)
		}()
		p.next(t)
	}
	p.in <- `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"your name?"}}`
	if answer := p.next(t); !strings.Contains(answer, "cancel") {
		t.Errorf("the server was told %s", answer)
	}
}

// TestGPX5_ClientsOfOneUserShareNoLog: once a second client uses a user's process,
// what it says outside calls is told to neither; lists that change are, to both.
func TestGPX5_ClientsOfOneUserShareNoLog(t *testing.T) {
	d := &duplex{pending: map[string]*pending{}}
	var got []string
	for range 2 {
		defer d.subscribe(subscriber{handler: handler{note: func(m wire.Message) { got = append(got, m.Method) }}})()
	}
	say := func() int {
		got = nil
		for _, method := range []string{wire.MethodLogMessage, "notifications/tasks/status", wire.MethodToolsChanged} {
			d.note(wire.Message{Kind: wire.Notification, Method: method, Params: wire.Raw(`{"taskId":"t-1"}`)})
		}
		return len(got)
	}
	for _, c := range []struct {
		client string
		n      int
	}{{"alice\x00one", 6}, {"alice\x00one", 6}, {"alice\x00two", 2}, {"alice\x00one", 2}} {
		if d.usedBy(c.client); say() != c.n {
			t.Errorf("after %q: %v", c.client, got)
		}
	}
}

// TestGPX5_TwoClientsOfOneUserAtAProcess: through the gateway, a server's question
// while another client's call is under way reaches nobody.
func TestGPX5_TwoClientsOfOneUserAtAProcess(t *testing.T) {
	r := newRig(t, []Server{stdioServer(t, "own")}, withSandbox(t))
	call := `"name":"ask","arguments":{"text":"x"}`
	post := func(client string) string {
		body, header := modern(wire.MethodToolsCall, call, "ask")
		return r.do("POST", r.resource("own"), body, append(header, "Authorization", "Bearer "+r.as.token(t, r.resource("own"), "alice", func(m map[string]any) { m["client_id"] = client }))...).body
	}
	if first := post("one"); !strings.Contains(first, "your name?") {
		t.Fatal(first) // its call stays under way until it answers
	}
	if second := post("two"); strings.Contains(second, "your name?") {
		t.Errorf("the second client was asked while it cannot be told whose question it is: %s", second)
	}
	if again := post("one"); strings.Contains(again, "hello") {
		t.Error(again)
	}
}

// TestGPX2_AQuestionOutlivesTheCallThatCarriedIt: of parallel calls of one session the
// newest carries a question of any. When that call is over, the client may still answer;
// a call that ends before it asked leaves the question to another; with the last call
// the questions end.
func TestGPX2_AQuestionOutlivesTheCallThatCarriedIt(t *testing.T) {
	p, d := openMemory(t)
	type call struct {
		asked chan *question
		ended chan struct{}
	}
	begin := func(ask func(context.Context, *question) (wire.Raw, wire.Raw)) (c call) {
		c = call{make(chan *question, 1), make(chan struct{})}
		go func() { // ends with its answer
			defer close(c.ended)
			_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{}}`), who: "alice\x00c\x00s"}, handler{
				ask: func(ctx context.Context, q *question) (wire.Raw, wire.Raw) {
					c.asked <- q
					return ask(ctx, q)
				}})
		}()
		p.next(t)
		return c
	}
	var old, young call
	old = begin(func(ctx context.Context, q *question) (wire.Raw, wire.Raw) { // id 2
		<-ctx.Done()
		return nil, cannotAsk
	})
	young = begin(func(ctx context.Context, q *question) (wire.Raw, wire.Raw) { // id 3
		if wire.LookupString(q.params, "message") == "late" {
			<-young.ended
			return nil, nil // it never came to asking
		}
		<-young.ended
		if ctx.Err() != nil {
			t.Error("the question ended with the call that carried it")
		}
		return wire.Raw(`{"action":"accept"}`), nil
	})
	p.in <- `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"early"}}`
	<-young.asked
	p.in <- `{"jsonrpc":"2.0","id":"r","method":"elicitation/create","params":{"message":"late"}}`
	<-young.asked
	p.in <- `{"jsonrpc":"2.0","id":3,"result":{}}`
	if got := p.next(t); got != `{"jsonrpc":"2.0","id":"q","result":{"action":"accept"}}` {
		t.Errorf("the server heard %s", got)
	}
	if q := <-old.asked; wire.LookupString(q.params, "message") != "late" {
		t.Errorf("the older call carries %s", q.params)
	}
	p.in <- `{"jsonrpc":"2.0","id":2,"result":{}}`
	if got := p.next(t); !strings.Contains(got, `"id":"r","error"`) {
		t.Errorf("the server heard %s", got)
	}
	<-old.ended
}

// TestGPX3_QuestionsOfAServerAreBounded: a server that asks without end, or twice under
// one id, is refused.
func TestGPX3_QuestionsOfAServerAreBounded(t *testing.T) {
	p, d := openMemory(t)
	go func() { // ends with the pipe
		_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"roots":{}}`), who: "a"}, handler{
			ask: func(ctx context.Context, _ *question) (wire.Raw, wire.Raw) { <-ctx.Done(); return nil, cannotAsk }})
	}()
	p.next(t)
	for i := range maxQuestions {
		p.in <- fmt.Sprintf(`{"jsonrpc":"2.0","id":"q%d","method":"roots/list"}`, i)
	}
	for _, id := range []string{"q0", "more"} {
		p.in <- `{"jsonrpc":"2.0","id":"` + id + `","method":"roots/list"}`
		if got := p.next(t); !strings.Contains(got, `"id":"`+id+`","error"`) {
			t.Errorf("the server heard %s", got)
		}
	}
}

// TestGPX2_APipeHearsOfCancellation: a call that nobody waits for any more is cancelled
// at the server, under the id that the server knows.
func TestGPX2_APipeHearsOfCancellation(t *testing.T) {
	p, d := openMemory(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.request(ctx, outgoing{method: wire.MethodToolsCall, who: "a"}, handler{})
		ended <- err
	}()
	if call := p.next(t); !strings.Contains(call, `"id":2,`) {
		t.Fatal(call)
	}
	cancel()
	if got := p.next(t); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}` {
		t.Errorf("the server heard %s", got)
	}
	if <-ended == nil {
		t.Error("a cancelled call has an answer")
	}
}

// TestTR13_AServerMayEndASubscription: a server on a pipe ends a stream of updates by a
// cancellation, and only such a stream.
func TestTR13_AServerMayEndASubscription(t *testing.T) {
	p, d := openMemory(t)
	d.said.era = wire.Modern
	ended := map[string]chan struct{}{}
	for _, method := range []string{wire.MethodListen, wire.MethodToolsCall} {
		over := make(chan struct{})
		ended[method] = over
		go func() { // ends with its answer
			defer close(over)
			_, _ = d.request(t.Context(), outgoing{method: method, who: "a"}, handler{})
		}()
		p.next(t)
	}
	p.in <- `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}`
	p.in <- `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`
	<-ended[wire.MethodListen]
	select {
	case <-ended[wire.MethodToolsCall]:
		t.Error("the server cancelled a call")
	default:
	}
	p.in <- `{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete"}}`
	<-ended[wire.MethodToolsCall]
}
