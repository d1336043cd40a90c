package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is taken when: by the time it is paid for, no more was taken than the
// rate gives, and what gathered before.
func TestGPX3_LaneHoldsItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1<<30).Draw(t, "rate")
		begin := time.Unix(1_000_000, 0)
		now, taken := begin, int64(0)
		var l lane
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "later")))
			n := rapid.Int64Range(1, 64<<10).Draw(t, "bytes")
			if wait := l.take(now, n, rate); wait < 30*time.Second {
				taken += n
				until := now.Add(max(0, wait)).Sub(begin) + flowBurst
				if most := float64(rate)*until.Seconds() + 1; float64(taken) > most+50 { // rounding
					t.Fatalf("%d bytes by then, at most %f", taken, most)
				}
			} else {
				return
			}
		}
	})
	l := lane{paid: time.Unix(1_000_000, 0)}
	if wait := l.take(time.Unix(0, 0), 1, 1000); wait > 2*time.Minute {
		t.Errorf("after the clock was set back, one waits %s", wait)
	}
}

// TestGPX3_FewWaitForTheirTurn: of one user so many, of all so many; the others
// are told at once, and those who leave make room.
func TestGPX3_FewWaitForTheirTurn(t *testing.T) {
	f := &flow{rate: 1, now: time.Now}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, flowWaiting)
	for i := range flowWaiting {
		go func() { ended <- f.step(ctx, fmt.Sprint("user", i/flowUser)) }()
	}
	waiting := func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.waiting }
	for deadline := time.Now().Add(time.Minute); waiting() < flowWaiting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", waiting())
		}
	}
	for _, user := range []string{"user0", "somebody else"} {
		if err := f.step(ctx, user); !errors.Is(err, errCrowded) {
			t.Errorf("%s, one too many: %v", user, err)
		}
	}
	cancel()
	for range flowWaiting {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if waiting() != 0 {
		t.Errorf("%d wait still", waiting())
	}
}

// TestGPX3_EndlessAnswersAreHeldUp: of an endless answer the free bytes arrive,
// and the rest at the server's rate: the server is not even read. A document and
// the others' calls do not wait for it.
func TestGPX3_EndlessAnswersAreHeldUp(t *testing.T) {
	const size = 1 << 10
	var written atomic.Int64
	endless := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "text/event-stream")
		event := "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", size) + "\"}}\n\n"
		for {
			n, err := io.WriteString(w, event)
			if written.Add(int64(n)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	good := listServer(t)
	slow := at("endless", endless.URL)
	slow.Rate = 256 // a step takes minutes
	r := newRig(t, []Server{slow, at("good", good.URL)}, generous)
	conn, err := net.Dial("tcp", r.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /s/endless/mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		conn.RemoteAddr(), r.token("endless", "alice"), len(listTools), listTools)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	events, done := make(chan struct{}, 1000), make(chan struct{})
	go func() {
		defer close(done)
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			if strings.HasPrefix(in.Text(), "data:") {
				events <- struct{}{}
			}
		}
	}()
	for range flowFree/(size+200) - 1 {
		select {
		case <-events:
		case <-time.After(time.Minute):
			t.Fatal("the free bytes did not arrive")
		}
	}
	for range 50 {
		if a := r.post("good", "bob", listTools); a.status != 200 {
			t.Fatalf("meanwhile: %d", a.status)
		}
	}
	if n := len(events); n > 2 {
		t.Errorf("%d events more", n)
	}
	conn.Close()
	<-done
}

// TestGPX3_ManyStallsHaveLessTime: while few do not read, each has the whole time;
// of many, and of many of one user, the next ones have less.
func TestGPX3_ManyStallsHaveLessTime(t *testing.T) {
	const whole = time.Minute
	var s stalls
	for i := range stallsUser {
		if got := s.enter("alice", whole); got != whole {
			t.Fatalf("stall %d of alice: %s", i, got)
		}
	}
	if got := s.enter("alice", whole); got != stallWait {
		t.Errorf("one more of alice: %s", got)
	}
	for i := range stallsAll - stallsUser - 1 {
		if got := s.enter(fmt.Sprint("user", i), whole); got != whole {
			t.Fatalf("user %d: %s", i, got)
		}
	}
	if got := s.enter("bob", whole); got != stallWait {
		t.Errorf("one more of all: %s", got)
	}
	if got := s.enter("bob", time.Second); got != time.Second {
		t.Errorf("more than was asked for: %s", got)
	}
	s.leave("bob")
	s.leave("bob")
	s.leave("alice")
	if got := s.enter("carol", whole); got != whole {
		t.Errorf("when one has left: %s", got)
	}
}
