package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

const callEcho = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}`

// benchmarkAnswer is a call whose answer is one document of so many bytes, of
// which the server does not announce the length.
func benchmarkAnswer(b *testing.B, size, status int) {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}]}}`)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		_, _ = w.Write(answer)
	}))
	defer up.Close()
	server := at("one", up.URL)
	server.Rate, server.Failures = 1<<40, 1<<30
	r := newRig(b, []Server{server}, generous, func(_ *Config, d *Deps) { d.Guards.Results = NewResultGuard(toolscan.New(), nil) })
	token := r.token("one", "alice")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest("POST", r.resource("one"), strings.NewReader(callEcho))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		w := &counted{h: http.Header{}, status: http.StatusOK}
		if r.g.ServeHTTP(w, req); w.status != status {
			b.Fatal(w.status)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.NumGC-before.NumGC)/float64(b.N), "collections/op")
}

// BenchmarkAnswer100KB is a long answer as honest servers give them.
func BenchmarkAnswer100KB(b *testing.B) { benchmarkAnswer(b, 100<<10, http.StatusOK) }

// BenchmarkAnswer4MB is one as few servers give them.
func BenchmarkAnswer4MB(b *testing.B) { benchmarkAnswer(b, 4<<20, http.StatusOK) }

// BenchmarkRefusedAnswer is an answer of 20 MB, which is longer than the bound.
func BenchmarkRefusedAnswer(b *testing.B) { benchmarkAnswer(b, 20<<20, http.StatusBadGateway) }

// BenchmarkSlowReader is what a client holds that takes nothing of an endless
// answer, 32 KB an event: heap and stacks of the process, with the server, which is
// a goroutine each, and without what the kernel holds.
func BenchmarkSlowReader(b *testing.B) {
	const readers = 100
	event := []byte("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", 32<<10) + "\"}}\n\n")
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer up.Close()
	go func() { // ends with the listener
		for {
			conn, err := up.Accept()
			if err != nil {
				return
			}
			go talk(conn, event) // ends with the connection
		}
	}()
	server := at("endless", "http://"+up.Addr().String())
	server.Rate = 1 << 40
	r := newRig(b, []Server{server}, generous, func(c *Config, d *Deps) {
		c.WriteWait = time.Hour
		d.Guards.Results = NewResultGuard(toolscan.New(), nil)
	})
	heap, stack, rounds := 0.0, 0.0, 0.0
	for b.Loop() {
		b.StopTimer()
		tokens := make([]string, readers)
		for i := range tokens {
			tokens[i] = r.token("endless", fmt.Sprint("slow", i))
		}
		before := inUse()
		b.StartTimer()
		conns := make([]net.Conn, readers)
		for i := range conns {
			if conns[i], err = net.Dial("tcp", r.http.Listener.Addr().String()); err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(conns[i], "POST /s/endless/mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				conns[i].RemoteAddr(), tokens[i], len(callEcho), callEcho)
		}
		for stuck := 0; stuck < 20; time.Sleep(10 * time.Millisecond) { // all of them, for a while
			if r.g.stalls.mu.Lock(); r.g.stalls.all == readers {
				stuck++
			} else {
				stuck = 0
			}
			r.g.stalls.mu.Unlock()
		}
		b.StopTimer()
		after := inUse()
		heap, stack, rounds = heap+float64(after.HeapAlloc)-float64(before.HeapAlloc), stack+float64(after.StackInuse)-float64(before.StackInuse), rounds+readers
		for _, c := range conns {
			c.Close()
		}
		for left := 1; left > 0; time.Sleep(time.Millisecond) {
			r.g.places.mu.Lock()
			left = r.g.places.all
			r.g.places.mu.Unlock()
		}
		b.StartTimer()
	}
	b.ReportMetric(heap/rounds, "heap-B/reader")
	b.ReportMetric(stack/rounds, "stack-B/reader")
}

// inUse is the process's memory without what nobody refers to.
func inUse() (m runtime.MemStats) {
	for range 3 { // pools keep what they have for two collections
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}

// talk answers a request with an event over and over.
func talk(conn net.Conn, event []byte) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReaderSize(conn, 1<<10))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
	for err == nil {
		_, err = conn.Write(event)
	}
}
