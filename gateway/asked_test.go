package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/wire"
)

const askName = `"method":"elicitation/create","params":{"message":"your name?"}}`

// listener is a client that hears a pipe's server beside its calls and can be asked.
func listener(ctx context.Context, who string, ask func(context.Context, *question) (wire.Raw, wire.Raw)) subscriber {
	return subscriber{handler: handler{note: func(wire.Message) {}, ask: ask}, ctx: ctx, caps: wire.Raw(`{"elicitation":{}}`), who: who}
}

// accept answers any question.
func accept(context.Context, *question) (wire.Raw, wire.Raw) {
	return wire.Raw(`{"action":"accept"}`), nil
}

// TestGPX5_WhoListensIsAskedIfItIsOne: without a call under way a server's question is
// for who listens, if that is one session of the only client that uses the pipe.
func TestGPX5_WhoListensIsAskedIfItIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		clients, listen []string
		asked           bool
	}{
		"one":                                 {[]string{"alice"}, []string{"alice 1"}, true},
		"two streams of one session":          {[]string{"alice"}, []string{"alice 1", "alice 1"}, true},
		"two windows":                         {[]string{"alice"}, []string{"alice 1", "alice 2"}, false},
		"nobody knows whom":                   {[]string{"alice"}, []string{""}, false},
		"one, and another client that is mum": {[]string{"alice", "bob"}, []string{"alice 1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, d := openMemory(t)
			for _, client := range c.clients {
				d.usedBy(client)
			}
			for _, who := range c.listen {
				defer d.subscribe(listener(t.Context(), who, accept))()
			}
			p.in <- `{"jsonrpc":"2.0","id":"q",` + askName
			if got := p.next(t); strings.Contains(got, "accept") != c.asked || !strings.Contains(got, `"id":"q"`) {
				t.Errorf("the server was told %s", got)
			}
		})
	}
}

// TestGPX5_AQuestionChangesNoHands: one that a listener went away from is not put to the
// call of another window of the same client.
func TestGPX5_AQuestionChangesNoHands(t *testing.T) {
	p, d := openMemory(t)
	put, gone := make(chan struct{}), make(chan struct{})
	defer d.subscribe(listener(t.Context(), "alice 1", func(context.Context, *question) (wire.Raw, wire.Raw) {
		close(put)
		<-gone
		return nil, nil
	}))()
	p.in <- `{"jsonrpc":"2.0","id":"q",` + askName
	<-put
	go func() { // ends with the pipe
		_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{}}`), who: "alice 2"}, handler{ask: accept})
	}()
	p.next(t)
	close(gone)
	if got := p.next(t); !strings.Contains(got, `"id":"q","error"`) {
		t.Errorf("the server was told %s", got)
	}
}

// TestGPX2_AListenersQuestionOutlivesTheGatewaysOwnRequests: what the gateway itself asks
// a server for, such as a subscription that it renews, ends no question to a client.
func TestGPX2_AListenersQuestionOutlivesTheGatewaysOwnRequests(t *testing.T) {
	p, d := openMemory(t)
	put, answer := make(chan struct{}), make(chan struct{})
	defer d.subscribe(listener(t.Context(), "alice 1", func(ctx context.Context, _ *question) (wire.Raw, wire.Raw) {
		close(put)
		<-answer
		if ctx.Err() != nil {
			t.Error("the question has ended")
		}
		return wire.Raw(`{"action":"accept"}`), nil
	}))()
	p.in <- `{"jsonrpc":"2.0","id":"q",` + askName
	<-put
	ended := make(chan struct{})
	go func() { // ends with its answer
		defer close(ended)
		_, _ = d.request(t.Context(), outgoing{method: wire.MethodSubscribe}, handler{})
	}()
	p.next(t)
	p.in <- `{"jsonrpc":"2.0","id":2,"result":{}}`
	<-ended
	close(answer)
	if got := p.next(t); !strings.Contains(got, "accept") {
		t.Errorf("the server was told %s", got)
	}
}

// TestGPX3_AnsweredQuestionsMakeRoom: only those that wait are counted, and their ids
// may come again.
func TestGPX3_AnsweredQuestionsMakeRoom(t *testing.T) {
	p, d := openMemory(t)
	go func() { // ends with the pipe
		_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{}}`), who: "a"}, handler{ask: accept})
	}()
	p.next(t)
	for i := range 2 * maxQuestions {
		p.in <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,%s`, i%(maxQuestions+1), askName)
		if got := p.next(t); !strings.Contains(got, "accept") {
			t.Fatalf("question %d: the server was told %s", i, got)
		}
	}
}

// TestGPX2_AQuestionEndsWithItsCall: a server that answers a call before the person has
// answered its question, which it put on its stream of notifications, waits for nothing
// more: it is told that there is no answer.
func TestGPX2_AQuestionEndsWithItsCall(t *testing.T) {
	up := newAside(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	go func() { // ends with the stream's answer
		select {
		case <-up.begun:
			up.say <- `{"jsonrpc":"2.0","id":"q",` + askName
		case <-t.Context().Done():
		}
	}()
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	if a := r.post("s", "alice", body, header...); !strings.Contains(a.body, "your name?") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	up.end <- `{"content":[]}`
	if got := soon(t, up.heard); !strings.Contains(got, `"id":"q"`) || !strings.Contains(got, `"error"`) {
		t.Errorf("the server was told %s", got)
	}
}

// TestGPX1_AnswersToOtherRequestsAreNoAnswers: of a server that speaks another era than
// the client, only what has the request's own id answers it.
func TestGPX1_AnswersToOtherRequestsAreNoAnswers(t *testing.T) {
	for _, how := range []string{"stream", "document"} {
		up := newLegacy(t, `{"tools":{}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
			switch {
			case !strings.Contains(body, "tools/call"):
				return false
			case how == "stream":
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1%[1]s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"another's\"}]}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":%[1]s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"ours\"}]}}\n\n", idOf(body))
			default:
				result(w, `{"id":1`+idOf(body)+`}`, `{"content":[{"type":"text","text":"another's"}]}`)
			}
			return true
		})
		s := at("s", up.URL)
		s.Era = "legacy"
		r := newRig(t, []Server{s})
		body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
		if a := r.post("s", "alice", body, header...); strings.Contains(a.body, "another's") || strings.Contains(a.body, "ours") != (how == "stream") {
			t.Errorf("%s: %d %s", how, a.status, a.body)
		}
	}
}
