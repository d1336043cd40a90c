package gateway

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// TestGPX2_AQuestionEndsWithTheLastCallHoweverItsTimesFall: a call that ends while a
// question to its client is being written down leaves nobody who waits for ever.
func TestGPX2_AQuestionEndsWithTheLastCallHoweverItsTimesFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o questions
		found := 0
		find := func() asking {
			if found++; found > 1 {
				return asking{}
			}
			o.left("alice") // the call ends now
			return asking{ctx: t.Context(), who: "alice", h: handler{ask: func(ctx context.Context, _ *question) (wire.Raw, wire.Raw) {
				<-ctx.Done()
				return nil, cannotAsk
			}}}
		}
		answered := ""
		o.put(find, wire.Message{ID: wire.IntID(1), Method: wire.MethodRoots}, nil, func(_, refusal wire.Raw) { answered = string(refusal) })
		synctest.Wait()
		if answered != string(cannotAsk) || len(o.open) != 0 {
			t.Errorf("the server was told %q, %d questions wait", answered, len(o.open))
		}
	})
}

// TestGPX2_QuestionsOfAServerThatHasGone: who listens is told that a question is taken
// back when its server ends, and nothing of it stays.
func TestGPX2_QuestionsOfAServerThatHasGone(t *testing.T) {
	p, d := openMemory(t)
	asked, taken := make(chan struct{}), make(chan error, 1)
	listener := subscriber{ctx: t.Context(), caps: wire.Raw(`{"roots":{}}`), who: "alice\x00c\x00s", handler: handler{
		note: func(wire.Message) {},
		ask: func(ctx context.Context, _ *question) (wire.Raw, wire.Raw) {
			close(asked)
			select {
			case <-ctx.Done():
				taken <- context.Cause(ctx)
			case <-t.Context().Done():
			}
			return nil, cannotAsk
		}}}
	defer d.subscribe(listener)()
	p.in <- `{"jsonrpc":"2.0","id":"q","method":"roots/list"}`
	<-asked
	p.close()
	if err := <-taken; !errors.Is(err, errWithdrawn) {
		t.Error(err)
	}
	refused := false
	d.questions.put(func() asking { return asking{ctx: t.Context(), h: listener.handler} }, wire.Message{ID: wire.IntID(1), Method: wire.MethodRoots}, nil, func(_, refusal wire.Raw) { refused = refusal != nil })
	if !refused {
		t.Error("a server that has gone asks")
	}
}

// TestGPX5_WhatACallThatWasGivenUpAsks: a server may go on with a call that its client
// has left. What it asks and logs meanwhile is not put to the only other client whose
// call is under way; after a while it is again.
func TestGPX5_WhatACallThatWasGivenUpAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := openMemory(t)
		defer synctest.Wait()
		defer p.close()
		d.usedBy("alice\x00c")
		d.usedBy("bob\x00c")
		heard := make(chan string, 8)
		call := func(ctx context.Context, who string) {
			go func() {
				_, _ = d.request(ctx, outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{"form":{}}}`), who: who}, handler{
					note: func(m wire.Message) { heard <- who + " is told " + m.Method },
					ask: func(context.Context, *question) (wire.Raw, wire.Raw) {
						heard <- who + " is asked"
						return wire.Raw(`{"action":"cancel"}`), nil
					}})
			}()
			p.next(t)
		}
		ask := func() (answer string) {
			p.in <- `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"alice, your PIN?"}}`
			answer = p.next(t)
			p.in <- `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"alice"}}`
			synctest.Wait()
			return answer
		}
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		call(ctx, "alice\x00c\x00s")
		leave()
		p.next(t) // that it is cancelled
		call(t.Context(), "bob\x00c\x00s")
		if answer := ask(); len(heard) != 0 || !strings.Contains(answer, "error") {
			t.Errorf("%s; the server was told %s", <-heard, answer)
		}
		ctx, leave = context.WithTimeout(t.Context(), 2*lingers)
		defer leave()
		<-ctx.Done()
		if answer := ask(); len(heard) != 2 || !strings.Contains(answer, "cancel") {
			t.Errorf("%d heard; the server was told %s", len(heard), answer)
		}
	})
}

// TestGPX5_ALateAnswerEndsTheWait: what a server asks about a call that one window gave
// up is not put to another of the same client, until the server answers that call after
// all: then it is done with it.
func TestGPX5_ALateAnswerEndsTheWait(t *testing.T) {
	p, d := openMemory(t)
	d.usedBy("alice\x00c")
	call := func(ctx context.Context, who string) (ended chan struct{}) {
		ended = make(chan struct{})
		go func() { // ends with ctx, or the pipe
			defer close(ended)
			_, _ = d.request(ctx, outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{}}`), who: who}, handler{ask: accept})
		}()
		p.next(t)
		return ended
	}
	ask := func() string {
		p.in <- `{"jsonrpc":"2.0","id":"q",` + askName
		return p.next(t)
	}
	ctx, leave := context.WithCancel(t.Context())
	first := call(ctx, "alice\x00c\x001") // id 2
	leave()
	p.next(t) // that it is cancelled
	<-first
	call(t.Context(), "alice\x00c\x002")
	if got := ask(); !strings.Contains(got, `"error"`) {
		t.Errorf("another window was asked; the server was told %s", got)
	}
	p.in <- `{"jsonrpc":"2.0","id":2,"error":{"code":0,"message":"Request cancelled"}}`
	if got := ask(); !strings.Contains(got, "accept") {
		t.Errorf("the server was told %s", got)
	}
}

// TestGPX3_SessionsThatWaitAreForgottenLast: whoever opens more sessions than are kept
// loses those in which nothing is under way; the bound holds all the same.
func TestGPX3_SessionsThatWaitAreForgottenLast(t *testing.T) {
	r := newRig(t, nil)
	b := &r.g.bridges
	now := time.Now()
	open := func(id string, under func(*session)) *session {
		now = now.Add(time.Second)
		s := newSession(id, "alice", "", nil, now)
		under(s)
		return b.keep(s)
	}
	calls, asks := func(s *session) { s.calls["1"] = func() {} }, func(s *session) { s.asks["kidoban-.1"] = &question{over: make(chan struct{})} }
	first, second := open("calls", calls), open("asked", asks)
	kept := func() (n int, both bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.sessions), b.sessions["calls"] == first && b.sessions["asked"] == second
	}
	for i := range 2 * perUser {
		open(strconv.Itoa(i), func(*session) {})
	}
	if n, both := kept(); !both || n != perUser {
		t.Errorf("%d sessions are kept; those that wait: %v", n, both)
	}
	for i := range 2 * perUser {
		open("busy"+strconv.Itoa(i), calls)
	}
	if n, _ := kept(); n != perUser {
		t.Errorf("%d sessions are kept", n)
	}
}
