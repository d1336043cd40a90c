package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// isolation is a gateway before four good servers and four bad ones, with clients
// that the operator registered: each counts as a user of its own.
type isolation struct {
	t      *testing.T
	p      *program
	secret string
	http   *http.Client

	mu     sync.Mutex
	tokens map[string]string
}

const (
	isolationGood    = 4
	isolationClients = 6 // 0 is the good one
)

// badServers are what may stand behind a gateway.
func badServers(t *testing.T) map[string]string {
	t.Helper()
	list := `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bad","version":"1"},"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`
	serve := func(call func(http.ResponseWriter, *http.Request, string)) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		}))
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return s.URL
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	var turn atomic.Int64
	event := []byte("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"" + strings.Repeat("x", 32<<10) + "\"}}\n\n")
	return map[string]string{
		"dead": dead,
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
				io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":`+strings.Repeat("[", 100_000))
			case 2:
				fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}`, id, strings.Repeat("x", 20<<20))
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

func newIsolation(t *testing.T) *isolation {
	t.Helper()
	s := &isolation{t: t, secret: strings.Repeat("s3cret-of-a-test-", 3), tokens: map[string]string{}, http: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(s.secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var c strings.Builder
	c.WriteString(proofUnlimited() + "clients:\n")
	for i := range isolationClients {
		fmt.Fprintf(&c, "  - {id: load-%d, name: load, auth_method: client_secret_basic, secret_file: %s, grants: [client_credentials], scopes: ['mcp:read', 'mcp:write']}\n", i, file)
	}
	c.WriteString("servers:\n")
	good := httptest.NewServer(benchUpstream())
	t.Cleanup(func() { good.CloseClientConnections(); good.Close() })
	for i := range isolationGood {
		fmt.Fprintf(&c, "  good-%d: {url: %q, address: loopback}\n", i, good.URL)
	}
	for name, url := range badServers(t) {
		fmt.Fprintf(&c, "  %s: {url: %q, address: loopback, wait: 2s}\n", name, url)
	}
	s.p = startProgram(t, c.String())
	s.p.url = "http://" + s.p.listen // straight, without the witness
	return s
}

// token gets a token of a client for a path, and keeps it.
func (s *isolation) token(client int, path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(client, path)
	if s.tokens[key] != "" {
		return s.tokens[key]
	}
	public := s.p.saw.url
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp:read mcp:write"}, "resource": {public + path}}
	req, err := http.NewRequest("POST", s.p.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = strings.TrimPrefix(public, "http://")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(fmt.Sprint("load-", client), s.secret)
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Access == "" {
		s.t.Fatalf("no token: %d %v", resp.StatusCode, err)
	}
	s.tokens[key] = got.Access
	return got.Access
}

func (s *isolation) request(ctx context.Context, client int, path, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", s.p.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Host = strings.TrimPrefix(s.p.saw.url, "http://")
	req.Header.Set("Authorization", "Bearer "+s.token(client, path))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	return req, nil
}

// post makes one call and reads at most 256 KB of the answer.
func (s *isolation) post(ctx context.Context, client int, path, body string) (int, string) {
	req, err := s.request(ctx, client, path, body)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := s.http.Do(req)
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

// others are the calls of a good client to the good servers, and its lists of all.
type others struct {
	mu    sync.Mutex
	times []time.Duration
	bad   []string
	lists int
}

func (s *isolation) watch(stop <-chan struct{}) *others {
	o := &others{}
	var wg sync.WaitGroup
	loop := func(pause time.Duration, f func() string) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
				if why := f(); why != "" {
					o.mu.Lock()
					o.bad = append(o.bad, why)
					o.mu.Unlock()
				}
			}
		})
	}
	for i := range isolationGood {
		path := fmt.Sprintf("/s/good-%d/mcp", i)
		loop(10*time.Millisecond, func() string {
			from := time.Now()
			status, text := s.post(context.Background(), 0, path, benchBody)
			took := time.Since(from)
			o.mu.Lock()
			o.times = append(o.times, took)
			o.mu.Unlock()
			if status != 200 || !strings.Contains(text, `"result"`) {
				return fmt.Sprintf("%s: %d %.200s", path, status, text)
			}
			return ""
		})
	}
	loop(100*time.Millisecond, func() string {
		status, text := s.post(context.Background(), 0, "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
		for i := range isolationGood {
			if status != 200 || !strings.Contains(text, fmt.Sprintf(`"good-%d__echo"`, i)) {
				return fmt.Sprintf("the list of all: %d %.300s", status, text)
			}
		}
		if !strings.Contains(text, `"kidoban/missing":["dead"`) { // and whoever is left alone by now
			return fmt.Sprintf("the list does not say who is missing: %.300s", text[max(0, len(text)-300):])
		}
		o.mu.Lock()
		o.lists++
		o.mu.Unlock()
		return ""
	})
	wg.Wait()
	return o
}

// isolationRow is what one phase showed, for the documentation.
type isolationRow struct {
	What  string  `json:"what"`
	Calls int     `json:"calls_of_the_others"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Ratio float64 `json:"p99_to_quiet"`
	RSS   int64   `json:"rss_mb"`
}

// TestGPX3_OneBadServerOrClientHurtsNobodyElse: one of five servers dead, slow,
// endless or lying under load; slow readers; sessions opened and abandoned. The
// calls of the others all succeed, and memory is bounded. With KIDOBAN_LOAD=full
// it is 1,000 readers and 10,000 sessions, and the latencies are worth reading.
func TestGPX3_OneBadServerOrClientHurtsNobodyElse(t *testing.T) {
	full := os.Getenv(loadEnv) == "full"
	readers, sessions, phase := 60, 400, time.Second
	if full {
		readers, sessions, phase = 1000, 10_000, 20*time.Second
	}
	s := newIsolation(t)
	var quiet isolationRow
	run := func(what string, attack func(stop <-chan struct{})) {
		stop, over := make(chan struct{}), make(chan *others)
		go func() { over <- s.watch(stop) }()
		var wg sync.WaitGroup
		if attack != nil {
			wg.Go(func() { attack(stop) })
		}
		time.Sleep(phase)
		rss := s.p.rss() >> 20
		close(stop)
		o := <-over
		wg.Wait()
		row := isolationRow{What: what, Calls: len(o.times), P50: percentile(o.times, 50), P99: percentile(o.times, 99), RSS: rss}
		if quiet.P99 == 0 {
			quiet = row
		}
		row.Ratio = row.P99 / quiet.P99
		text, _ := json.Marshal(row)
		t.Logf("%s", text)
		if len(o.bad) > 0 {
			t.Errorf("%s: %d failures of the others, the first: %s", what, len(o.bad), o.bad[0])
		}
		if len(o.times) == 0 || o.lists == 0 {
			t.Errorf("%s: %d calls and %d lists of the others", what, len(o.times), o.lists)
		}
		if row.RSS > quiet.RSS+160+int64(readers/5) {
			t.Errorf("%s: %d MB resident, %d MB when quiet", what, row.RSS, quiet.RSS)
		}
	}
	// The first list asks the dead server; it must have failed before lists count.
	waitFor(t, func() bool {
		_, text := s.post(context.Background(), 0, "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
		return strings.Contains(text, `"kidoban/missing":["dead"`)
	})
	run("nothing", nil)
	run("nothing, again", nil)
	for _, bad := range []string{"dead", "slow", "endless", "lying"} {
		run("a "+bad+" server", func(stop <-chan struct{}) { s.hammer("/s/"+bad+"/mcp", stop) })
	}
	run(fmt.Sprintf("%d slow readers", readers), func(stop <-chan struct{}) { s.slowReaders(readers, stop) })
	run(fmt.Sprintf("%d sessions opened and abandoned", sessions), func(stop <-chan struct{}) { s.abandon(sessions, stop) })
	run("nothing, afterwards", nil)
}

// hammer calls a server over and over from 16 workers, as four users, each about
// as often as the default rates allow.
func (s *isolation) hammer(path string, stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-stop; cancel() }()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if status, text := s.post(ctx, 1+i%4, path, benchBody); status == 200 && strings.Contains(text, `"result"`) && ctx.Err() == nil && !strings.Contains(path, "endless") {
					s.t.Errorf("%s answered with a result: %.200s", path, text)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// slowReaders ask for an endless answer and read nothing of it.
func (s *isolation) slowReaders(n int, stop <-chan struct{}) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range n {
		c, err := net.Dial("tcp", s.p.listen)
		if err != nil {
			s.t.Error(err)
			return
		}
		conns = append(conns, c)
		if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			s.t.Error(err)
			return
		}
		req, err := s.request(context.Background(), 1+i%5, "/s/endless/mcp", benchBody)
		if err != nil {
			s.t.Error(err)
			return
		}
		if err := req.Write(c); err != nil {
			s.t.Error(err)
			return
		}
	}
	<-stop
}

// abandon opens sessions, at a server and at all servers, and leaves them.
func (s *isolation) abandon(n int, stop <-chan struct{}) {
	var opened, refused atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range n / 8 {
				path := []string{"/mcp", "/s/good-0/mcp"}[i%2]
				if status, _ := s.post(context.Background(), 1+w%5, path, initializeMessage); status == 200 {
					opened.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if refused.Load() != 0 || opened.Load() == 0 {
		s.t.Errorf("%d sessions opened, %d refused", opened.Load(), refused.Load())
	}
	<-stop
}
