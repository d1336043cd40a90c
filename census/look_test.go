package census_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

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
