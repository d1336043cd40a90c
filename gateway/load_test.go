package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGPX3_SlowReadersCostLittleAndEnd: clients that ask for an endless stream
// and do not read it. The others are served meanwhile, and after WriteWait the
// slow ones are gone.
func TestGPX3_SlowReadersCostLittleAndEnd(t *testing.T) {
	const slow = 24
	endless := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "text/event-stream")
		event := "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", 32<<10) + "\"}}\n\n"
		for {
			if _, err := io.WriteString(w, event); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	good := listServer(t)
	fast := at("endless", endless.URL)
	fast.Rate = 1 << 30 // what fits into the sockets is soon there
	r := newRig(t, []Server{fast, at("good", good.URL)}, func(c *Config, _ *Deps) { c.WriteWait = 500 * time.Millisecond })
	addr := r.http.Listener.Addr().String()
	for i := range slow {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /s/endless/mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			addr, r.token("endless", fmt.Sprint("slow", i)), len(listTools), listTools)
	}
	for range 50 {
		if a := r.post("good", "alice", listTools); a.status != 200 {
			t.Fatalf("meanwhile: %d", a.status)
		}
	}
	left := func() int {
		r.g.places.mu.Lock()
		defer r.g.places.mu.Unlock()
		return r.g.places.all
	}
	for deadline := time.Now().Add(2 * time.Minute); left() > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if n := left(); n != 0 {
		t.Errorf("%d slow readers are still served", n)
	}
}

// TestGPX3_AbandonedSessionsAreBounded: sessions opened and left. Sessions that
// pass cost nothing at all; bridged ones are bounded per user.
func TestGPX3_AbandonedSessionsAreBounded(t *testing.T) {
	up := at("one", sdkServer(t, true).URL)
	up.Era = "modern"
	r := newRig(t, []Server{up, at("two", listServer(t).URL)}, generous)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 250 {
				for _, name := range []string{"one", "two"} {
					if a := r.post(name, fmt.Sprint("user", w%2), initialize); a.status != 200 {
						t.Errorf("%s: %d %s", name, a.status, a.body)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b := &r.g.bridges
	b.mu.Lock()
	sessions, peers := len(b.sessions), len(b.peers)
	b.mu.Unlock()
	if sessions > 2*perUser || peers > 4 {
		t.Errorf("%d sessions and %d peers are kept", sessions, peers)
	}
	r.http.Client().CloseIdleConnections()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("4,000 abandoned sessions left %d MiB", grown>>20)
	}
}

// TestGPX3_OneOfFiveDiesUnderLoad: the others' calls all succeed.
func TestGPX3_OneOfFiveDiesUnderLoad(t *testing.T) {
	var servers []Server
	var ups []*raw
	for i := range 5 {
		up := listServer(t)
		ups = append(ups, up)
		servers = append(servers, at(fmt.Sprint("s", i), up.URL))
	}
	r := newRig(t, servers, generous)
	var wg sync.WaitGroup
	var mu sync.Mutex
	bad := map[string]int{}
	for i := range 5 {
		name := fmt.Sprint("s", i)
		for range 4 {
			wg.Go(func() {
				for n := range 60 {
					if i == 0 && n == 20 {
						ups[0].CloseClientConnections()
						ups[0].Listener.Close()
					}
					if a := r.post(name, "alice", listTools); a.status != 200 {
						mu.Lock()
						bad[name]++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	if bad["s0"] == 0 {
		t.Error("the dead server answered")
	}
	delete(bad, "s0")
	if len(bad) != 0 {
		t.Errorf("failed calls at living servers: %v", bad)
	}
}
