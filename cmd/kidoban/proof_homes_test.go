package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to end connections
)

// rememberer is a server of the earlier era with a session, whose calls stay until they
// are let go.
type rememberer struct {
	url      string
	sessions atomic.Int64 // begun
	hung     atomic.Int64 // calls of hang that came
	left     atomic.Int64 // calls of hang that were cancelled, or cut off
	read     atomic.Int64 // readings of the slow resource that came

	mu   sync.Mutex
	last string        // session of the last call of quick
	back chan struct{} // the client has what ask said last
}

func newRememberer(t *testing.T) *rememberer {
	t.Helper()
	u := &rememberer{back: make(chan struct{}, 1)}
	web := httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	u.url = web.URL
	return u
}

func (u *rememberer) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	body := string(raw)
	_, rest, _ := strings.Cut(body, `"id":`)
	id := "0"
	if n := strings.IndexAny(rest, ",}"); n > 0 {
		id = rest[:n]
	}
	result := func(text string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, text)
	}
	stream := func(message string) {
		w.Header().Set("Content-Type", "text/event-stream")
		if message != "" {
			fmt.Fprintf(w, "data: %s\n\n", message)
		}
		w.(http.Flusher).Flush()
	}
	const done = `{"content":[{"type":"text","text":"done"}]}`
	switch {
	case strings.Contains(body, `"initialize"`):
		w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", u.sessions.Add(1)))
		result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{}},"serverInfo":{"name":"s","version":"1"}}`)
	case strings.Contains(body, `"tools/list"`):
		tool := func(name string) string { return `{"name":"` + name + `","inputSchema":{"type":"object"}}` }
		result(`{"tools":[` + tool("hang") + "," + tool("ask") + "," + tool("quick") + `]}`)
	case strings.Contains(body, `"hang"`):
		u.hung.Add(1)
		stream("")
		<-r.Context().Done()
		u.left.Add(1)
	case strings.Contains(body, `"resources/read"`):
		if u.read.Add(1) == 1 {
			stream("")
			<-r.Context().Done()
			return
		}
		result(`{"contents":[{"uri":"s://slow","text":"at last"}]}`)
	case strings.Contains(body, `"ask"`):
		stream(`{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{"message":"your name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}}`)
		for _, next := range []string{`"method":"notifications/cancelled","params":{"requestId":"q1"}}`, `"id":` + id + `,"result":` + done + `}`} {
			select {
			case <-u.back:
			case <-r.Context().Done():
				return
			}
			stream(`{"jsonrpc":"2.0",` + next)
		}
	case strings.Contains(body, `"quick"`):
		u.mu.Lock()
		u.last = r.Header.Get("Mcp-Session-Id")
		u.mu.Unlock()
		result(done)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (u *rememberer) lastSession() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

// homes are replicas before a rememberer, with authorization off: one user and one
// client, so that they share one relationship with it.
type homes struct {
	*cluster
	up *rememberer
}

func newHomes(t *testing.T, n int) *homes {
	t.Helper()
	up := newRememberer(t)
	limits := benchLimits()
	c := newCluster(t, n, fmt.Sprintf("open: true\n%sservers:\n  s: {url: %q, address: loopback, era: legacy, wait: 10m, breaker: {failures: 1000}}\n", limits, up.url))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.logs())
		}
	})
	return &homes{c, up}
}

// post sends one message of a session to one of the processes. What comes back is read
// by the caller.
func (h *homes) post(p *program, method, session, body string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+p.listen+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Host = strings.TrimPrefix(h.url, "http://")
	q.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2025-11-25"}}
	if session != "" {
		q.Header.Set("Mcp-Session-Id", session)
	}
	return roaming().RoundTrip(q)
}

// window opens a session whose client can be asked.
func (h *homes) window(p *program) string {
	h.t.Helper()
	resp, err := h.post(p, http.MethodPost, "", strings.Replace(initializeMessage, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1))
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		h.t.Fatalf("no session: %d\n%s", resp.StatusCode, h.logs())
	}
	return id
}

func calling(tool string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"s__` + tool + `","arguments":{}}}`
}

// settle makes a process the home, or has it find the home.
func (h *homes) settle(p *program, session string) {
	h.t.Helper()
	if status, text := h.whole(p, session, calling("quick")); !strings.Contains(text, "done") {
		h.t.Fatalf("%d %s\n%s", status, text, h.logs())
	}
}

// whole is an answer to its end.
func (h *homes) whole(p *program, session, body string) (int, string) {
	resp, err := h.post(p, http.MethodPost, session, body)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, string(raw) + err.Error()
	}
	return resp.StatusCode, string(raw)
}

// listeners are the connections over which processes hear of each other.
func (h *homes) listeners(db *sql.DB) (pids []int) {
	h.t.Helper()
	rows, err := db.QueryContext(h.t.Context(), `SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database() ORDER BY pid`)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			h.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return pids
}

// begin makes a call that stays, and returns its answer once that has come.
func (h *homes) begin(p *program, session, body string, came *atomic.Int64) <-chan string {
	h.t.Helper()
	before := came.Load()
	answer := make(chan string, 1)
	go func() {
		_, text := h.whole(p, session, body)
		answer <- text
	}()
	waitFor(h.t, func() bool { return came.Load() > before })
	return answer
}

func (h *homes) ends(answer <-chan string, what string) string {
	h.t.Helper()
	select {
	case text := <-answer:
		return text
	case <-time.After(patience):
		h.t.Fatalf("%s has no end\n%s", what, h.logs())
		return ""
	}
}

// TestGPX5_WhatGoesOnAtAnotherReplicasHome: a server's session stands at one replica, and
// the client is at the other: what the server takes back is taken back there, and what
// ends at either ends at the server.
func TestGPX5_WhatGoesOnAtAnotherReplicasHome(t *testing.T) {
	t.Parallel()
	h := newHomes(t, 2)
	home, other := h.all[0], h.all[1]
	h.settle(home, h.window(home))
	s := h.window(other)
	h.settle(other, s)
	its := h.up.lastSession()

	// A question that the server takes back.
	resp, err := h.post(other, http.MethodPost, s, calling("ask"))
	if err != nil {
		t.Fatal(err)
	}
	asked, back := "", ""
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.Contains(line, "elicitation/create"):
			_, asked, _ = strings.Cut(line, `"id":"`)
			asked, _, _ = strings.Cut(asked, `"`)
			h.up.back <- struct{}{}
		case strings.Contains(line, "notifications/cancelled"):
			_, back, _ = strings.Cut(line, `"requestId":"`)
			back, _, _ = strings.Cut(back, `"`)
			h.up.back <- struct{}{}
		}
	}
	resp.Body.Close()
	if asked == "" || back != asked {
		t.Errorf("the question %q was taken back as %q", asked, back)
	}

	// The connection over which a replica hears of the others breaks: what is written to
	// it meanwhile is lost, and whoever waits for an answer is told so.
	db, err := sql.Open("pgx", h.db)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 {
		under := h.begin(other, s, calling("hang"), &h.up.hung)
		for _, pid := range h.listeners(db) {
			if _, err := db.ExecContext(t.Context(), `SELECT pg_terminate_backend($1)`, pid); err != nil {
				t.Fatal(err)
			}
			first := make(chan string, 1)
			go func() { _, text := h.whole(other, s, calling("quick")); first <- text }()
			if text := h.ends(first, "a call while nothing is heard"); !strings.Contains(text, "done") && !strings.Contains(text, `"error"`) {
				t.Errorf("a call while nothing is heard: %s", text)
			}
			waitFor(t, func() bool { return len(h.listeners(db)) == 2 })
		}
		if text := h.ends(under, "a call whose answer may be lost"); !strings.Contains(text, `"error"`) {
			t.Errorf("a call whose answer may be lost: %s", text)
		}
		waitFor(t, func() bool { return h.up.left.Load() == h.up.hung.Load() })
	}

	// The client ends its session at the one, while a call of it is under way at the other.
	gone := h.up.left.Load()
	open := h.begin(other, s, calling("hang"), &h.up.hung)
	ended, err := h.post(home, http.MethodDelete, s, "")
	if err != nil || ended.StatusCode != http.StatusNoContent {
		t.Fatalf("%v %v", ended, err)
	}
	ended.Body.Close()
	h.ends(open, "a call of a session that has ended")
	waitFor(t, func() bool { return h.up.left.Load() > gone })
	waitFor(t, func() bool { status, _ := h.whole(other, s, calling("quick")); return status == http.StatusNotFound })

	// The client's replica dies: nobody waits for the call any more.
	s, gone = h.window(other), h.up.left.Load()
	h.begin(other, s, calling("hang"), &h.up.hung)
	other.kill()
	waitFor(t, func() bool { return h.up.left.Load() > gone })
	if h.settle(home, h.window(home)); its == "" || h.up.lastSession() != its {
		t.Errorf("the server's session was %q and is %q", its, h.up.lastSession())
	}
}

// TestGPX5_ADyingHomeMakesNoCallTwice: the replica that speaks with a server dies under
// what a client at another asked for. A call may have done its work, and is not made
// again; what only reads is asked anew at the next home. A replica that slept, and whose
// place was taken, gives way.
func TestGPX5_ADyingHomeMakesNoCallTwice(t *testing.T) {
	t.Parallel()
	h := newHomes(t, 3)
	first, second, third := h.all[0], h.all[1], h.all[2]
	h.settle(first, h.window(first))
	s := h.window(second)
	h.settle(second, s)
	call := h.begin(second, s, calling("hang"), &h.up.hung)
	reading := h.begin(second, s, `{"jsonrpc":"2.0","id":8,"method":"resources/read","params":{"uri":"s+s://slow"}}`, &h.up.read)
	first.kill()
	if text := h.ends(call, "a call whose home has died"); !strings.Contains(text, `"error"`) {
		t.Errorf("a call whose home has died: %s", text)
	}
	if text := h.ends(reading, "a reading whose home has died"); !strings.Contains(text, "at last") {
		t.Errorf("a reading whose home has died: %s", text)
	}
	waitFor(t, func() bool { _, text := h.whole(second, s, calling("quick")); return strings.Contains(text, "done") })
	if n := h.up.hung.Load(); n != 1 {
		t.Errorf("a call was made %d times", n)
	}

	// The second has the server now, and sleeps until the third has taken it over.
	session := func(p *program, s string) string {
		if _, text := h.whole(p, s, calling("quick")); !strings.Contains(text, "done") {
			return ""
		}
		return h.up.lastSession()
	}
	before := session(second, s)
	if err := second.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w, now := h.window(third), ""
	waitFor(t, func() bool { now = session(third, w); return now != "" && now != before })
	if err := second.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return session(second, s) == now })
	if got := session(third, w); got != now {
		t.Errorf("the one that slept took the server back: %s, then %s", now, got)
	}
}

// TestGPX5_WhoWasBuriedGivesWay: a replica that the others took for dead, which it cannot
// tell from its own clock, gives way to who took its place.
func TestGPX5_WhoWasBuriedGivesWay(t *testing.T) {
	t.Parallel()
	h := newHomes(t, 2)
	first, second := h.all[0], h.all[1]
	s, w := h.window(first), h.window(second)
	h.settle(first, s)
	db, err := sql.Open("pgx", h.db)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var holder string
	if err := db.QueryRowContext(t.Context(), `SELECT holder FROM claims`).Scan(&holder); err != nil {
		t.Fatal(err)
	}
	for _, bury := range []string{`DELETE FROM replicas WHERE name = $1`, `DELETE FROM claims WHERE holder = $1`} {
		if _, err := db.ExecContext(t.Context(), bury, holder); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { _, text := h.whole(second, w, calling("quick")); return strings.Contains(text, "done") })
	waitFor(t, func() bool {
		h.settle(second, w)
		its := h.up.lastSession()
		_, text := h.whole(first, s, calling("quick"))
		return strings.Contains(text, "done") && h.up.lastSession() == its
	})
}
