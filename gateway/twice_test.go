package gateway

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// A server on a pipe that says or asks things twice, or takes back what it asked.

// TestGPX3_ASecondAnswerIsNoAnswer: a server that answers a request again and again does
// not hold up what it says next.
func TestGPX3_ASecondAnswerIsNoAnswer(t *testing.T) {
	_, d := openMemory(t)
	waits := &pending{id: "99", reply: make(chan wire.Message, 1)}
	d.mu.Lock()
	d.pending["99"] = waits
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, text := range []string{"first", "second", "third"} {
			d.arrived(wire.Message{Kind: wire.Result, ID: wire.IntID(99), Result: wire.Quote(text)})
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the second answer waits for somebody to take it")
	}
	if m := <-waits.reply; string(m.Result) != `"first"` {
		t.Errorf("the answer is %s", m.Result)
	}
}

// TestGPX2_AQuestionIsAnsweredOnceOrNotAtAll: a second question under the id of one that
// is open is refused, and the first goes on; what the server takes back it gets no answer
// to, though the client gives one.
func TestGPX2_AQuestionIsAnsweredOnceOrNotAtAll(t *testing.T) {
	p, d := openMemory(t)
	asked, answer := make(chan context.Context, 4), make(chan string)
	go func() { // ends with the pipe
		_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{"form":{}}}`), who: "alice\x00c\x00s"}, handler{
			ask: func(ctx context.Context, _ *question) (wire.Raw, wire.Raw) {
				asked <- ctx
				return wire.Raw(<-answer), nil
			}})
	}()
	p.next(t)
	const ask = `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"your name?"}}`
	p.in <- ask
	<-asked
	p.in <- ask
	if m := p.next(t); !strings.Contains(m, `"q"`) || !strings.Contains(m, "error") || len(asked) > 0 {
		t.Errorf("the second is told %s, and put to %d", m, len(asked))
	}
	answer <- `{"action":"decline"}`
	if m := p.next(t); !strings.Contains(m, "decline") {
		t.Errorf("the first is told %s", m)
	}
	p.in <- ask
	ctx := <-asked
	p.in <- `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}`
	<-ctx.Done()
	answer <- `{"action":"decline"}`
	for open := 1; open > 0; time.Sleep(time.Millisecond) {
		d.questions.mu.Lock()
		open = len(d.questions.open)
		d.questions.mu.Unlock()
	}
	for range 20 { // an answer that waits to be sent comes between them
		p.in <- `{"jsonrpc":"2.0","id":"after","method":"ping"}`
		if m := p.next(t); !strings.Contains(m, `"after"`) {
			t.Fatalf("what was taken back is told %s", m)
		}
	}
}
