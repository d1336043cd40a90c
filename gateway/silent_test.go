package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// TestGPX3_AProcessThatForgetsSettingsHoldsUpNoCall: a process has no limit of its own
// for an answer. One that does not answer when it is told a session's settings anew is
// waited for as long as for a beginning, and the call goes on.
func TestGPX3_AProcessThatForgetsSettingsHoldsUpNoCall(t *testing.T) {
	s := at("s", "http://127.0.0.1:1")
	s.Wait = 50 * time.Millisecond
	r := newRig(t, []Server{s})
	p, d := openMemory(t)
	d.said.capabilities = wire.Raw(`{"logging":{},"resources":{"subscribe":true}}`)
	own := newSession("id", "alice", "2025-11-25", nil, time.Now())
	own.wish.level = "notice"
	own.wish.follow("s", "x://y")
	srv := r.g.state.Load().servers["s"]
	reminded, watched := make(chan struct{}), make(chan []string, 1)
	c := &call{Call: Call{Caller: Caller{User: "alice", Client: "c"}, Server: "s"}, server: srv}
	go func() { r.g.remind(t.Context(), c, own, srv, d); close(reminded) }()
	if got := p.next(t); !strings.Contains(got, "logging/setLevel") {
		t.Fatal(got)
	}
	go func() { // ends with the pipe
		for {
			select {
			case <-p.out:
			case <-p.over:
				return
			}
		}
	}()
	f := &follower{g: r.g, c: c, srv: srv, uris: []string{"x://y"}}
	go func() { <-reminded; watched <- f.watch(t.Context(), d) }()
	select {
	case got := <-watched:
		if len(got) != 0 {
			t.Errorf("watched %v", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the call waits")
	}
}
