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
	"sync"
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
	if !f.full("user0") || f.full("somebody else") {
		t.Errorf("full for who has an equal part of a full room: %t, for who has none: %t", f.full("user0"), f.full("somebody else"))
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

// TestGPX3_WhoHasHisPartIsTurnedAway: while a server's waiting room is full, who has
// an equal part of it is told so before the server is asked, the others are served,
// and so is everybody when there is room again. The same of clients that do not read.
func TestGPX3_WhoHasHisPartIsTurnedAway(t *testing.T) {
	good, free := listServer(t), listServer(t)
	busy := at("busy", good.URL)
	busy.Rate = 1
	r := newRig(t, []Server{busy, at("free", free.URL)}, generous)
	served := func(server, user string) {
		t.Helper()
		if a := r.post(server, user, listTools); a.status != 200 {
			t.Errorf("%s at %s: %d %s", user, server, a.status, a.body)
		}
	}
	turnedAway := func(server, user, why string) {
		t.Helper()
		asked := good.count() + free.count()
		a := r.post(server, user, listTools)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, why) {
			t.Errorf("%s at %s: %d %v %s", user, server, a.status, a.header, a.body)
		}
		if n := good.count() + free.count() - asked; n != 0 {
			t.Errorf("%s at %s: the server was asked %d times", user, server, n)
		}
	}
	served("busy", "alice")
	served("free", "alice")
	f := &r.g.state.Load().servers["busy"].flow
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var waits sync.WaitGroup
	wait := func(user string, more, n int) {
		t.Helper()
		for range more {
			waits.Go(func() { _ = f.step(ctx, user) })
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			got := f.waiting
			f.mu.Unlock()
			if got == n {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%d wait, not %d", got, n)
			}
		}
	}
	wait("alice", flowUser, flowUser)
	turnedAway("busy", "alice", "too many large answers")
	for _, said := range []string{
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`,
		`{"jsonrpc":"2.0","id":7,"result":{"action":"accept"}}`,
	} { // by which who has too much under way gets rid of it
		if a := r.post("busy", "alice", said); a.status != http.StatusAccepted {
			t.Errorf("%s: %d %s", said, a.status, a.body)
		}
	}
	served("busy", "bob")
	served("free", "alice")
	wait("bob", flowUser/2, flowUser*3/2) // less than an equal part
	wait("user0", flowUser, flowUser*5/2)
	wait("user1", flowUser, flowUser*7/2)
	wait("user2", flowUser/2, flowWaiting)
	served("busy", "bob")
	served("busy", "carol")
	turnedAway("busy", "user0", "too many large answers")
	cancel()
	waits.Wait()
	served("busy", "alice")
	served("busy", "user0")

	s := &r.g.stalls
	for i := range stallsAll {
		s.enter(fmt.Sprint("user", i%50), time.Minute)
	}
	turnedAway("free", "user0", "do not read")
	served("free", "alice")
	s.enter("alice", time.Minute) // one may be by chance
	served("free", "alice")
	for i := range stallsAll {
		s.leave(fmt.Sprint("user", i%50))
	}
	served("free", "user0")
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
