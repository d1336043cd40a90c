package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The processes around the gateway in the proof of isolation. Each begins with a
// line that says where its servers are, then does what it is told, line by line.

// isolationWorker does a task in such a process.
type isolationWorker struct {
	task isolationTask
	http *http.Client
	turn atomic.Int64 // of the good clients

	mu   sync.Mutex
	seen isolationSeen
}

// beIsolationEnd is that process, until stdin ends.
func beIsolationEnd(role string) int {
	urls := map[string]string{}
	switch role {
	case "good":
		urls["good"] = httptest.NewServer(benchUpstream()).URL
	case "bad":
		urls = badServers()
	}
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(bufio.NewReader(os.Stdin))
	if out.Encode(urls) != nil {
		return 1
	}
	client := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for {
		w := &isolationWorker{http: client, seen: isolationSeen{Counts: map[string]int{}}}
		if err := in.Decode(&w.task); err != nil {
			return map[bool]int{true: 0, false: 1}[errors.Is(err, io.EOF)]
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			switch w.task.Do {
			case "watch":
				w.watch(ctx)
			case "hammer":
				w.hammer(ctx)
			case "ignore":
				w.ignore(ctx)
			case "abandon":
				w.abandon(ctx)
			}
		}()
		var stop isolationTask
		err := in.Decode(&stop)
		cancel()
		<-done
		client.CloseIdleConnections()
		if err != nil || out.Encode(&w.seen) != nil {
			return 1
		}
	}
}

func (w *isolationWorker) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Faults = append(w.seen.Faults, fmt.Sprintf(format, args...))
}

func (w *isolationWorker) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Counts[what]++
}

// badServers are what may stand behind a gateway. They end with the process.
func badServers() map[string]string {
	list := `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bad","version":"1"},"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`
	serve := func(call func(http.ResponseWriter, *http.Request, string)) string {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			var m struct {
				ID json.RawMessage `json:"id"`
			}
			_ = json.Unmarshal(raw, &m)
			switch {
			case strings.Contains(string(raw), `"tools/call"`):
				call(w, r, string(m.ID))
			case m.ID == nil:
				w.WriteHeader(http.StatusAccepted)
			default:
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, list)
			}
		})).URL
	}
	dead, err := deadAddress()
	if err != nil {
		panic(err)
	}
	var turn atomic.Int64
	brackets, long := strings.Repeat("[", 100_000), strings.Repeat("x", 20<<20)
	event := []byte("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", 32<<10) + "\"}}\n\n")
	return map[string]string{
		"dead": "http://" + dead,
		"slow": serve(func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }),
		"endless": serve(func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := w.Write(event); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		}),
		"lying": serve(func(w http.ResponseWriter, _ *http.Request, id string) {
			w.Header().Set("Content-Type", "application/json")
			switch turn.Add(1) % 6 {
			case 0:
				io.WriteString(w, `{"jsonrpc":"2.0","id":"of somebody else","result":{}}`)
			case 1:
				io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":`+brackets)
			case 2:
				io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":{"content":[{"type":"text","text":"`)
				io.WriteString(w, long)
				io.WriteString(w, `"}]}}`)
			case 3:
				w.Header().Set("Content-Length", "1000000")
				io.WriteString(w, `{"jsonrpc":"2.0"`)
			case 4:
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"sampling/createMessage\",\"id\":8}\n\n")
			case 5:
				w.WriteHeader(http.StatusTeapot)
			}
		}),
	}
}

// request is one of a client at a path, or past the gateway at a bad server.
func (w *isolationWorker) request(ctx context.Context, client int, path, body string) (*http.Request, error) {
	to := "http://" + w.task.Listen + path
	if w.task.Past != nil {
		if to = w.task.Past[w.task.Server]; to == "" {
			to = w.task.Past["slow"] // it opens sessions as well as any
		}
	}
	req, err := http.NewRequestWithContext(ctx, "POST", to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if w.task.Past == nil {
		req.Host = w.task.Public
		req.Header.Set("Authorization", "Bearer "+w.task.Tokens[fmt.Sprint(client, path)])
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	return req, nil
}

// post makes one call and reads at most 256 KB of the answer.
func (w *isolationWorker) post(ctx context.Context, client int, path, body string) (int, string) {
	req, err := w.request(ctx, client, path, body)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

// watch is the good client: it calls the good servers and lists all servers.
func (w *isolationWorker) watch(ctx context.Context) {
	var wg sync.WaitGroup
	loop := func(pause time.Duration, f func() string) {
		wg.Go(func() {
			for { // once at least, however late this process comes to it
				if why := f(); why != "" {
					w.fault("%s", why)
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
			}
		})
	}
	for _, path := range isolationGoodPaths() {
		loop(20*time.Millisecond, func() string {
			client := int(w.turn.Add(1)) % isolationCalm
			from := time.Now()
			status, text := w.post(context.Background(), client, path, benchBody)
			took := time.Since(from)
			w.mu.Lock()
			w.seen.Times = append(w.seen.Times, took)
			w.mu.Unlock()
			if status != 200 || !strings.Contains(text, `"result"`) {
				return fmt.Sprintf("%s: %d %.200s", path, status, text)
			}
			return ""
		})
	}
	loop(100*time.Millisecond, func() string {
		status, text := w.post(context.Background(), int(w.turn.Add(1))%isolationCalm, "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
		for i := range isolationGood {
			if status != 200 || !strings.Contains(text, fmt.Sprintf(`"good-%d__echo"`, i)) {
				return fmt.Sprintf("the list of all: %d %.300s", status, text)
			}
		}
		if !strings.Contains(text, `"kidoban/missing":["dead"`) { // and whoever is left alone by now
			return fmt.Sprintf("the list does not say who is missing: %s", text)
		}
		w.mu.Lock()
		w.seen.Lists++
		w.mu.Unlock()
		return ""
	})
	wg.Wait()
}

// horde is the n-th attacker.
func horde(n int) int { return isolationCalm + n%isolationHordes }

// hammer calls a server over and over from 16 workers, as 50 users. Of an endless answer, half of them read on
// as fast as it comes, the others begin anew.
func (w *isolationWorker) hammer(ctx context.Context) {
	path := "/s/" + w.task.Server + "/mcp"
	endless := w.task.Server == "endless"
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n += 16 {
				if endless && i%2 == 0 {
					w.drink(ctx, horde(n), path)
				} else if status, text := w.post(ctx, horde(n), path, benchBody); w.task.Past == nil && !endless && status == 200 && strings.Contains(text, `"result"`) && ctx.Err() == nil {
					w.fault("%s answered with a result: %.200s", path, text)
				} else {
					w.count(fmt.Sprint(status))
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// drink reads an answer to its end, which may never come.
func (w *isolationWorker) drink(ctx context.Context, client int, path string) {
	req, err := w.request(ctx, client, path, benchBody)
	if err != nil {
		w.fault("%v", err)
		return
	}
	resp, err := (&http.Client{Transport: w.http.Transport}).Do(req)
	if err != nil {
		w.count("error")
		return
	}
	defer resp.Body.Close()
	n, _ := io.Copy(io.Discard, resp.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Counts["kb read on"] += int(n >> 10)
	w.seen.Counts[fmt.Sprint(resp.StatusCode)]++
}

// ignore asks for endless answers, 200 times a second, and reads nothing of them.
// Who is cut off comes back after a second, and who is turned away when it was told to.
func (w *isolationWorker) ignore(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range w.task.N {
		time.Sleep(5 * time.Millisecond)
		if ctx.Err() != nil {
			break
		}
		conn := w.ask(ctx, i)
		wg.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for n := 0; conn != nil; n++ {
				select {
				case <-ctx.Done():
					conn.Close()
					return
				case <-tick.C:
				}
				switch {
				case !alive(conn):
					w.count("cut off")
				case n >= 5 && strings.HasPrefix(peek(conn, 12), "HTTP/1.1 503"):
					w.count("turned away")
				default:
					continue
				}
				conn.Close()
				conn, n = w.ask(ctx, i), 0
			}
		})
	}
	wg.Wait()
}

// ask opens a connection and sends a request; nil when that did not work.
func (w *isolationWorker) ask(ctx context.Context, i int) net.Conn {
	req, err := w.request(ctx, horde(i), "/s/endless/mcp", benchBody)
	if err != nil {
		w.fault("%v", err)
		return nil
	}
	c, err := net.Dial("tcp", req.URL.Host)
	if err == nil {
		err = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	if err == nil {
		err = req.Write(c)
	}
	if err != nil {
		w.fault("%v", err)
		return nil
	}
	w.count("opened")
	return c
}

// isolationAbandoned is where sessions are opened and left.
var isolationAbandoned = []string{"/mcp", "/s/good-0/mcp"}

// abandon opens sessions, at a server and at all servers, evenly over the time,
// and leaves them.
func (w *isolationWorker) abandon(ctx context.Context) {
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= w.task.N {
					return
				}
				time.Sleep(time.Until(begin.Add(w.task.Span * 9 / 10 * time.Duration(i) / time.Duration(w.task.N))))
				status, text := w.post(context.Background(), horde(i), isolationAbandoned[i/isolationHordes%2], initializeMessage)
				w.count(fmt.Sprint(status))
				if status != 200 {
					w.fault("a session was refused: %d %.200s", status, text)
				}
			}
		})
	}
	wg.Wait()
	<-ctx.Done()
}
