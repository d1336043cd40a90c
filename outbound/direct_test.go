package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban"
)

// post sends a body and returns status and text of the answer.
func post(t *testing.T, ctx context.Context, d *Direct, url, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// thenClose ends an answer after which the connection closes.
const thenClose = "\x00"

// script is a server whose connections are answered by hand: each element of a
// connection's answers is written after one more request was read; "" closes.
func script(t *testing.T, answers ...[]string) (url string, asked *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	var serving sync.WaitGroup
	serving.Go(func() {
		for _, list := range answers {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for _, answer := range list {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					asked.Add(1)
					if answer == "" {
						return
					}
					text, last := strings.CutSuffix(answer, thenClose)
					_, _ = io.WriteString(conn, text)
					if last {
						return
					}
				}
				_, _ = io.Copy(io.Discard, in) // until the other side closes
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return "http://" + l.Addr().String(), asked
}

func direct(t *testing.T) *Direct {
	d := NewDirect(true, RelayOptions{Lab: true})
	t.Cleanup(d.CloseIdleConnections)
	return d
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestDirectUsesAConnectionAgain(t *testing.T) {
	var fresh atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.HasPrefix(string(body), "chunked"):
			_, _ = io.WriteString(w, "one")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "two")
		case string(body) == "nothing":
			w.WriteHeader(http.StatusNoContent)
		default:
			fmt.Fprintf(w, "%d", len(body))
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fresh.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	d := direct(t)
	for range 20 {
		for body, want := range map[string]string{"chunked": "onetwo", "nothing": "", "12345": "5"} {
			if status, got, err := post(t, t.Context(), d, s.URL, body); err != nil || got != want || status >= 300 {
				t.Fatalf("%s: %d %q %v", body, status, got, err)
			}
		}
	}
	if n := fresh.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other", n)
	}
	long := strings.Repeat("x", directBody+1)
	if _, got, err := post(t, t.Context(), d, s.URL, long); err != nil || got != fmt.Sprint(len(long)) {
		t.Errorf("a long body: %q %v", got, err)
	}
}

func TestDirectAsksAnewWhenTheServerHadClosed(t *testing.T) {
	url, asked := script(t, []string{okAnswer, ""}, []string{okAnswer, okAnswer})
	url2, asked2 := script(t, []string{okAnswer})
	d := direct(t)
	if _, got, err := post(t, t.Context(), d, url, "one"); got != "ok" {
		t.Fatal(err)
	}
	// The second request on the first connection is read, and the connection
	// closed: it may have been carried out, so it must not be sent again.
	if _, _, err := post(t, t.Context(), d, url, "two"); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("a request without an answer: %v", err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the server saw %d requests, not 2", n)
	}
	if _, got, err := post(t, t.Context(), d, url, "three"); got != "ok" {
		t.Error(err)
	}
	// A connection that was closed while idle is noticed before anything is sent.
	d.mu.Lock()
	gone := d.idle[0]
	d.mu.Unlock()
	client, server := pipe(t)
	server.Close()
	waitClosed(t, client)
	gone.Conn.Close()
	gone.Conn = client
	gone.host = strings.TrimPrefix(url2, "http://")
	if _, got, err := post(t, t.Context(), d, url2, "four"); got != "ok" || asked2.Load() != 1 {
		t.Errorf("%q %v", got, err)
	}
}

// pipe is a TCP connection with both its ends.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// waitClosed waits until the other side's end has arrived.
func waitClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
}

func TestDirectTrustsNoAnswerThatNobodyAskedFor(t *testing.T) {
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	url, _ := script(t, []string{okAnswer + evil}, []string{okAnswer})
	d := direct(t)
	for i := range 2 {
		if _, got, err := post(t, t.Context(), d, url, "x"); got != "ok" || err != nil {
			t.Errorf("request %d: %q %v", i, got, err)
		}
	}
	// Also when it comes later, while the connection is idle.
	client, server := pipe(t)
	defer server.Close()
	if _, err := io.WriteString(server, evil); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(onlyPeek{client}).Peek(1); err != nil {
		t.Fatal(err)
	}
	if quiet(client) {
		t.Error("a connection with an answer nobody asked for counts as idle")
	}
}

// onlyPeek waits for the first byte and leaves the rest.
type onlyPeek struct{ net.Conn }

func (o onlyPeek) Read(p []byte) (int, error) { return o.Conn.Read(p[:1]) }

func TestDirectBoundsTheHead(t *testing.T) {
	url, _ := script(t, []string{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\nContent-Length: 0\r\n\r\n"},
		[]string{strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInterim+1) + okAnswer},
		[]string{"HTTP/1.1 000 Nothing\r\n\r\n" + okAnswer}, // not one before another
		[]string{"HTTP/1.1 103 Early Hints\r\n\r\n" + okAnswer})
	d := NewDirect(true, RelayOptions{Lab: true, MaxHeader: 64 << 10})
	defer d.CloseIdleConnections()
	for range 3 {
		if _, _, err := post(t, t.Context(), d, url, "x"); err == nil {
			t.Error("a head without end, or without a status, was read")
		}
	}
	if _, got, err := post(t, t.Context(), d, url, "x"); got != "ok" {
		t.Errorf("after an interim response: %q %v", got, err)
	}
}

func TestDirectEndsWithItsContext(t *testing.T) {
	begun := make(chan struct{}, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a client that leaves is noticed
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
		}
		begun <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	why := errors.New("the caller has gone")
	for _, path := range []string{"/head", "/body"} {
		d := direct(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-begun; cancel(why) }()
		if _, _, err := post(t, ctx, d, s.URL+path, "x"); !errors.Is(err, why) {
			t.Errorf("%s: %v", path, err)
		}
		if len(d.idle) != 0 {
			t.Errorf("%s: the connection is used again", path)
		}
	}
}

func TestDirectClosesWhatIsNotReadToItsEnd(t *testing.T) {
	url, _ := script(t, []string{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"}, []string{"HTTP/1.1 200 OK\r\n\r\nuntil the end" + thenClose}, []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"})
	d := direct(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("x"))
	resp, err := d.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { _, err := io.ReadAll(resp.Body); read <- err }()
	resp.Body.Close() // while somebody reads
	if err := <-read; err == nil {
		t.Error("half a body was read to its end")
	}
	if len(d.idle) != 0 {
		t.Error("the connection is used again")
	}
	if _, got, err := post(t, t.Context(), d, url, "x"); got != "until the end" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if _, got, err := post(t, t.Context(), d, url, "x"); got != "ok" || len(d.idle) != 0 {
		t.Errorf("%q %v, %d idle", got, err, len(d.idle))
	}
}

func TestDirectSendsNoFieldThatIsTwo(t *testing.T) {
	url, asked := script(t, []string{okAnswer})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("x"))
	req.Header["X-One"] = []string{"a\r\nX-Two: b"}
	if _, err := direct(t).RoundTrip(req); kidoban.KindOf(err) != kidoban.KindInput || asked.Load() != 0 {
		t.Errorf("%v, %d sent", err, asked.Load())
	}
}

// TestE15DirectDialsWhatIsOpenedAndNothingElse: the guard stands before it as before
// every other way out.
func TestE15DirectDialsWhatIsOpenedAndNothingElse(t *testing.T) {
	url, _ := script(t, []string{okAnswer})
	for _, o := range []RelayOptions{{}, {Private: true}} {
		if _, _, err := post(t, t.Context(), NewDirect(true, o), url, "x"); kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestDirectByMany(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer s.Close()
	d := NewDirect(true, RelayOptions{Lab: true, MaxIdle: 3})
	defer d.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				want := fmt.Sprint(i, "-", n)
				if _, got, err := post(t, t.Context(), d, s.URL, want); got != want {
					t.Errorf("%s: %q %v", want, got, err)
				}
			}
		})
	}
	all.Wait()
	if len(d.idle) > 3 {
		t.Errorf("%d are idle", len(d.idle))
	}
}

// TestDirectUsesTheConnectionItIsGiven: what Dialed returns is read and written in
// place of the connection, for each that is made, and the guard has judged it before.
func TestDirectUsesTheConnectionItIsGiven(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer srv.Close()
	var made, wrote atomic.Int64
	count := func(c net.Conn) net.Conn { made.Add(1); return countedConn{c, &wrote} }
	d := NewDirect(true, RelayOptions{Lab: true, Dialed: count})
	defer d.CloseIdleConnections()
	for range 3 {
		if _, text, err := post(t, t.Context(), d, srv.URL, "hello"); err != nil || text != "hello" {
			t.Fatalf("%q %v", text, err)
		}
	}
	if wrote.Load() < 3 || canPeek && made.Load() > 3 || made.Load() == 0 {
		t.Errorf("%d connections made, %d writes seen", made.Load(), wrote.Load())
	}
	before := made.Load()
	shut := NewDirect(true, RelayOptions{Dialed: count})
	defer shut.CloseIdleConnections()
	if _, _, err := post(t, t.Context(), shut, srv.URL, "hello"); err == nil || made.Load() != before {
		t.Errorf("a closed range: %v, %d connections more", err, made.Load()-before)
	}
}

// countedConn counts its writes.
type countedConn struct {
	net.Conn
	wrote *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) { c.wrote.Add(1); return c.Conn.Write(p) }
