package gateway

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestGPX3_WhoFailedLastIsSecond: whoever failed last waits twice as long as the others
// also when nobody was refused since, and whoever failed as often as those who wait.
func TestGPX3_WhoFailedLastIsSecond(t *testing.T) {
	b := breaker{most: 2, longest: 10 * time.Second}
	now := time.Unix(1, 0)
	b.done(now, "alice", true, false)
	b.done(now, "bob", true, false)
	for user, want := range map[string]time.Duration{"bob": 2 * time.Second, "alice": time.Second} {
		if ok, retry := b.enter(now, user); ok || retry != want {
			t.Errorf("%s: %v, after %s; want %s", user, ok, retry, want)
		}
	}
	if ok, _ := b.enter(now.Add(1500*time.Millisecond), "bob"); ok {
		t.Error("whoever failed last tries first")
	}
}

// TestGPX3_WhoLeftItsTryWaitsForItsTurn: a call that tries and is given up by its user
// was that user's turn, as one that fails is.
func TestGPX3_WhoLeftItsTryWaitsForItsTurn(t *testing.T) {
	b := breaker{most: 2, longest: 10 * time.Second}
	now := time.Unix(1, 0)
	b.done(now, "bob", true, false)
	b.done(now, "carol", true, false)
	now = now.Add(1500 * time.Millisecond)
	if ok, _ := b.enter(now, "mallory"); !ok {
		t.Fatal("nobody may try")
	}
	if ok, _ := b.enter(now, "alice"); ok {
		t.Fatal("two try at once")
	}
	b.done(now, "mallory", false, true)
	if ok, _ := b.enter(now, "mallory"); ok {
		t.Error("whoever left its try has the next one, before those who wait")
	}
	if ok, _ := b.enter(now, "alice"); !ok {
		t.Error("who waits may not try")
	}
}

// TestGPX3_AnAnswerBeginsAnew: what was before an answer of the server says nothing of the
// failures after it: those of one user are that user's alone, and nobody has failed more
// often than the others.
func TestGPX3_AnAnswerBeginsAnew(t *testing.T) {
	b := breaker{most: 2, longest: 10 * time.Second}
	now := time.Unix(1, 0)
	for range 3 {
		b.done(now, "alice", true, false)
		b.done(now, "bob", true, false)
	}
	b.done(now, "carol", false, false)
	b.done(now, "alice", true, false)
	b.done(now, "alice", true, false)
	if ok, _ := b.enter(now, "alice"); ok {
		t.Error("alice is not kept out")
	}
	if retry := b.shut(now, "bob"); retry != 0 {
		t.Errorf("bob has to wait %s for what alice did", retry)
	}
	b.done(now, "dave", true, false)
	b.shut(now, "carol")
	if retry := b.shut(now, "bob"); retry != b.wait {
		t.Errorf("bob, who has not failed since, has to wait %s, not %s", retry, b.wait)
	}
}

// TestGPX3_WhoHangsUpSaysNothingOfAServer: clients that leave before a server answers,
// where messages pass as they are, make it neither dead nor alive.
func TestGPX3_WhoHangsUpSaysNothingOfAServer(t *testing.T) {
	came := make(chan struct{}, 1)
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "hang") {
			came <- struct{}{}
			<-r.Context().Done()
			return
		}
		result(w, body, `{"content":[{"type":"text","text":"ran"}]}`)
	})
	s := at("s", up.URL)
	s.Failures, s.Era = 1, "legacy"
	r := newRig(t, []Server{s}, generous)
	if a := r.post("s", "bob", callTool("add")); !strings.Contains(a.body, "ran") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	ended := make(chan struct{}, 1)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.g.ServeHTTP(w, q)
		ended <- struct{}{}
	}))
	t.Cleanup(front.Close)
	for _, user := range []string{"alice", "mallory", "alice"} {
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-came; leave() }()
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, front.URL+"/s/s/mcp", strings.NewReader(callTool("hang")))
		if err != nil {
			t.Fatal(err)
		}
		q.Host = strings.TrimPrefix(r.url, "http://")
		q.Header = http.Header{"Authorization": {"Bearer " + r.token("s", user)}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
		if resp, err := http.DefaultClient.Do(q); err == nil {
			t.Fatalf("%d before the client left", resp.StatusCode)
		}
		<-ended
		if r.g.state.Load().servers["s"].breaker.failing() {
			t.Fatal("a client that left made the server fail")
		}
	}
	if a := r.post("s", "alice", callTool("add")); !strings.Contains(a.body, "ran") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestGPX3_BreakerIsBounded: the waits are bounded however long a server is dead, and the
// users that are counted are, too.
func TestGPX3_BreakerIsBounded(t *testing.T) {
	b := breaker{most: 1, longest: math.MaxInt64}
	now := time.Unix(1, 0)
	for i := range maxOwn + 100 {
		b.done(now, fmt.Sprint("user", i), true, false)
		if b.wait <= 0 || b.wait > 4096*time.Second {
			t.Fatalf("after %d failures everybody waits %s", i+1, b.wait)
		}
	}
	if n := len(b.own); n > maxOwn {
		t.Errorf("%d users are counted", n)
	}
}
