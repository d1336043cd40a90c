//go:build unix

package solo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// joined returns both ends of a TCP connection, the first as Mode makes it, while the
// mode is on and as many calls are under way as it waits for.
func joined(t *testing.T) (*Mode, *conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := newMode(time.Now, func(bool) {})
	near, err := Listener{l, m}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	m.on.Store(true)
	return m, near.(*conn), far.(*net.TCPConn)
}

// TestReadsWhatComes: at once, within the time it looks, and long after it.
func TestReadsWhatComes(t *testing.T) {
	_, near, far := joined(t)
	buf := make([]byte, 16)
	for _, wait := range []time.Duration{0, Look / 4, 10 * Look} {
		sent := make(chan error, 1)
		go func() {
			time.Sleep(wait)
			_, err := far.Write([]byte("bytes"))
			sent <- err
		}()
		if _, err := io.ReadFull(near, buf[:5]); err != nil || string(buf[:5]) != "bytes" {
			t.Fatalf("after %v: %q %v", wait, buf[:5], err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndsAsAnyConnection: the end of the other side, a deadline that has passed or
// passes, and Close from elsewhere.
func TestEndsAsAnyConnection(t *testing.T) {
	buf := make([]byte, 16)
	_, near, far := joined(t)
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := near.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d %v", n, err)
	}
	for _, in := range []time.Duration{-time.Second, Look / 2, 5 * Look} {
		_, near, _ := joined(t)
		if err := near.SetReadDeadline(time.Now().Add(in)); err != nil {
			t.Fatal(err)
		}
		if n, err := near.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline in %v: %d %v", in, n, err)
		}
	}
	for _, in := range []time.Duration{0, 5 * Look} {
		_, near, _ := joined(t)
		go func() { time.Sleep(in); near.Close() }()
		if n, err := near.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed after %v: %d %v", in, n, err)
		}
	}
	_, near, far = joined(t)
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if n, err := near.Read(buf); n != 0 || err == nil {
		t.Errorf("after a reset: %d %v", n, err)
	}
	if n, err := near.Read(nil); n != 0 {
		t.Errorf("nothing asked for: %d %v", n, err)
	}
}

// TestEndsTheWritingSide: net/http does so before it closes a connection whose client
// still sends.
func TestEndsTheWritingSide(t *testing.T) {
	_, near, far := joined(t)
	var half interface{ CloseWrite() error } = near
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the other side: %d %v", n, err)
	}
}

// TestLooksOnlyForOne: with another number of calls under way than it waits for, or
// the mode off, a connection is read as any.
func TestLooksOnlyForOne(t *testing.T) {
	m, near, _ := joined(t)
	if !near.wanted() {
		t.Error("it does not look for the next request")
	}
	m.running.Add(1)
	if near.wanted() {
		t.Error("it looks while a call is under way")
	}
	up := m.Upstream(near).(*conn)
	if !up.wanted() {
		t.Error("it does not look for the answer")
	}
	if m.running.Add(1); up.wanted() {
		t.Error("it looks with two calls")
	}
	m.running.Store(1)
	if m.on.Store(false); up.wanted() {
		t.Error("it looks with the mode off")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if m.Upstream(a) != a || (*Mode)(nil).Upstream(near) != net.Conn(near) {
		t.Error("a connection that cannot look is wrapped")
	}
}

// TestServesOneAndMany: real requests through net/http, one caller and then several,
// with the mode coming and going under them: every answer is that of its request.
func TestServesOneAndMany(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{now: time.Unix(1, 0)}
	began := 0
	m := newMode(c.Now, func(one bool) {
		if one {
			began++
		}
	})
	m.Allow(true)
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{Handler: m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.pass(time.Millisecond)
		body, _ := io.ReadAll(r.Body) // what is missing is seen in the answer
		_, _ = w.Write(body)
	}))}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(Listener{l, m}) })
	serving.Go(func() { m.Run(ctx) })
	defer serving.Wait()
	defer srv.Close()
	defer cancel()
	ask := func(in *bufio.Reader, conn net.Conn, body string) error {
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
			return fmt.Errorf("sent %.20q and %d bytes in all, got %.20q and %d: %v", body, len(body), got, len(got), err)
		}
		return nil
	}
	for round := range 6 {
		callers := 1 + round%2*3
		c.pass(Rest)
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				in := bufio.NewReader(conn)
				for i := range 100 {
					if err := ask(in, conn, strings.Repeat(fmt.Sprintf("%d %d %d ", round, caller, i), 1+i*7)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if began == 0 {
		t.Error("the mode never began")
	}
}

// TestSleepsOnceInAWhile: what came on other connections is seen only while nobody looks.
func TestSleepsOnceInAWhile(t *testing.T) {
	m, near, far := joined(t)
	m.origin = time.Now().Add(-Heed)
	if !m.due() {
		t.Error("it does not sleep when it is time to")
	}
	m.origin = time.Now() // the clock of what follows is behind the last sleep
	if m.due() {
		t.Error("it sleeps again at once")
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	m.origin = time.Now().Add(-time.Hour)
	if n, err := near.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("what is there: %d %v", n, err)
	}
}
