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
			p := &memPipe{out: make(chan string), in: make(chan string), over: make(chan struct{})}
			defer p.close()
			go func() { // ends when the gateway has introduced itself
				<-p.out
				p.in <- `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`
				<-p.out
			}()
			d, err := openDuplex(t.Context(), p, wire.NewReader(wire.Limits{}), false, wire.Legacy)
			if err != nil {
				t.Fatal(err)
			}
			heard := make(chan string, len(c.calls))
			for i, who := range c.calls {
				go func() { // ends with the pipe
					_, _ = d.request(t.Context(), outgoing{method: wire.MethodToolsCall, caps: wire.Raw(`{"elicitation":{"form":{}}}`), who: who}, handler{
						ask: func(context.Context, string, wire.Raw) (wire.Raw, wire.Raw) {
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

// TestGPX5_ClientsOfOneUserShareNoLog: once a second client uses a user's process,
// what it says outside calls is told to neither; lists that change are, to both.
func TestGPX5_ClientsOfOneUserShareNoLog(t *testing.T) {
	d := &duplex{pending: map[string]*pending{}}
	var got []string
	for range 2 {
		defer d.subscribe(func(m wire.Message) { got = append(got, m.Method) })()
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
