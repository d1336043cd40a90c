package census_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/census"
)

// measure runs a census over one address and returns its result.
func measure(t *testing.T, url string, o census.Options) (r census.Result) {
	t.Helper()
	db := fresh(t)
	acc, err := census.Import(t.Context(), db, "census", true, "one", strings.NewReader(url), nil)
	if err != nil || acc.Targets != 1 {
		t.Fatalf("%+v %v", acc, err)
	}
	o.Run, o.Lab = "census", true
	if err := census.Run(t.Context(), db, o); err != nil {
		t.Fatal(err)
	}
	err = db.CensusResults(t.Context(), "census", func(x census.Outcome) error { return json.Unmarshal(x.Result, &r) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestABrokenLineIsAskedTwice: an answer that broke off once is no dead server.
func TestABrokenLineIsAskedTwice(t *testing.T) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && n.Add(1) == 1 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer srv.Close()
	if r := measure(t, srv.URL+"/mcp", census.Options{}); r.Class != "static" {
		t.Errorf("%+v", r)
	}
}

// TestASteadyOutageIsNoVerdict: a proxy that says that the server behind it is away,
// and a server that fails at everything, say nothing about what is there; they are
// looked at twice, since somebody may just be starting it.
func TestASteadyOutageIsNoVerdict(t *testing.T) {
	for status, reason := range map[int]string{502: "outage", 503: "outage", 504: "outage", 522: "outage", 500: "failing"} {
		var n atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			w.WriteHeader(status)
		}))
		r := measure(t, srv.URL+"/mcp", census.Options{})
		srv.Close()
		if r.Class != "unstable" || r.Reason != reason || len(r.Flaws) > 0 || n.Load() < 4 {
			t.Errorf("%d: %+v after %d requests", status, r, n.Load())
		}
	}
}

// TestAnOutageThatEndsIsSeenThrough: a server that was being started is measured.
func TestAnOutageThatEndsIsSeenThrough(t *testing.T) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "robots.txt") {
			n.Add(1)
			http.NotFound(w, r)
			return
		}
		if n.Load() == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer srv.Close()
	if r := measure(t, srv.URL+"/mcp", census.Options{}); r.Class != "static" {
		t.Errorf("%+v", r)
	}
}

// hang keeps a request until the client gives up.
func hang(r *http.Request) { <-r.Context().Done() }

// TestWhoNeverEndsIsNotWaitedForTwice: silence, and answers that trickle on without
// end, cost a look one exchange and a half, whatever else could still be asked.
func TestWhoNeverEndsIsNotWaitedForTwice(t *testing.T) {
	t.Parallel()
	trickle := func(w http.ResponseWriter, r *http.Request, kind, more string) {
		w.Header().Set("Content-Type", kind)
		for r.Context().Err() == nil {
			io.WriteString(w, more)
			http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}
	for name, c := range map[string]struct {
		play          http.HandlerFunc
		class, reason string
	}{
		"silent":      {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, "dead", "timeout"},
		"comments":    {func(w http.ResponseWriter, r *http.Request) { trickle(w, r, "text/event-stream", ": wait\n\n") }, "not_mcp", "no_mcp_answer"},
		"half a JSON": {func(w http.ResponseWriter, r *http.Request) { trickle(w, r, "application/json", " ") }, "not_mcp", "no_mcp_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts, all atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				all.Add(1)
				if r.Method == http.MethodPost {
					posts.Add(1)
					io.Copy(io.Discard, r.Body) // else the server does not see that the client has gone
				}
				c.play(w, r)
			}))
			defer srv.Close()
			r := measure(t, srv.URL+"/mcp", census.Options{Timeout: time.Second})
			// Twice that where this machine was so late itself that the look did not count.
			if r.Class != c.class || r.Reason != c.reason || posts.Load() > 4 || all.Load() > 6 {
				t.Errorf("%+v after %d requests, %d of them messages", r, all.Load(), posts.Load())
			}
		})
	}
}

// TestOneAnswerThatIsLateIsAskedForAgain: a look in which one answer did not come
// in time is no look to judge by.
func TestOneAnswerThatIsLateIsAskedForAgain(t *testing.T) {
	t.Parallel()
	var lists atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost || strings.Contains(r.URL.Path, "control"):
			http.NotFound(w, r)
		case strings.Contains(string(body), "tools/list") && lists.Add(1) == 1:
			hang(r)
		default:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"tools":[{"name":"a"}]}}`)
		}
	}))
	defer srv.Close()
	if r := measure(t, srv.URL+"/mcp", census.Options{Timeout: 2 * time.Second}); r.Class != "noauth_list" || r.Tools != 1 {
		t.Errorf("%+v", r)
	}
}

// TestALateOptOutFileCounts: robots.txt has half the time at first, and all of it
// before a host that was late with it is judged.
func TestALateOptOutFileCounts(t *testing.T) {
	t.Parallel()
	var files atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/robots.txt":
			http.NotFound(w, r)
		case files.Add(1) == 1:
			hang(r)
		default:
			io.WriteString(w, "User-agent: kidoban\nDisallow: /\n")
		}
	}))
	defer srv.Close()
	if r := measure(t, srv.URL+"/mcp", census.Options{Timeout: 2 * time.Second}); r.Reason != "opt_out_file" {
		t.Errorf("%+v", r)
	}
}

// TestTheBoundOfAHostMakesNoClass: when the host's budget ends in the middle, the
// target is skipped and not judged by half of what it says.
func TestTheBoundOfAHostMakesNoClass(t *testing.T) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer srv.Close()
	r := measure(t, srv.URL+"/mcp", census.Options{Interval: 1, PerHost: 5})
	if r.Class != "skipped" || r.Reason != "host_budget" || n.Load() != 5 {
		t.Errorf("%+v after %d requests", r, n.Load())
	}
}

// TestOptOutFile: a host whose robots.txt sends kidoban away is asked for nothing else.
func TestOptOutFile(t *testing.T) {
	for body, leave := range map[string]bool{
		"User-agent: Kidoban # census\nDisallow: /": true, "User-agent: a\nUser-agent: kidoban\nDisallow: /*\n": true,
		"User-agent: *\nDisallow: /": false, "User-agent: kidoban\nDisallow:\n": false, "User-agent: kidoban\nAllow: /\nUser-agent: b\nDisallow: /": false,
		"User-agent: kidoban\nDisallow: /mcp": true, "User-agent: kidoban\nDisallow: /mcp/admin": false, "User-agent: kidoban\nDisallow: /.well-known/": true,
		"User-agent: kidoban\nDisallow: /\nAllow: /mcp\nAllow: /.well-known/oauth-*\n": false,
	} {
		var other atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/robots.txt" {
				io.WriteString(w, body)
				return
			}
			other.Add(1)
			http.NotFound(w, r)
		}))
		if r := measure(t, srv.URL+"/mcp", census.Options{}); (r.Reason == "opt_out_file") != leave || leave != (other.Load() == 0) {
			t.Errorf("%q: %+v after %d requests", body, r, other.Load())
		}
		srv.Close()
	}
}
