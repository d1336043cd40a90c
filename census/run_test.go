package census_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

// world is a population with its candidates in a fresh store.
type world struct {
	t     *testing.T
	p     *lab.Population
	log   *lockedBuffer
	opt   *census.OptOut
	roots *x509.CertPool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	return newWorldOver(t, n, false)
}

func newWorldOver(t *testing.T, n int, tls bool) *world {
	t.Helper()
	w := &world{t: t, log: &lockedBuffer{}, roots: x509.NewCertPool()}
	var err error
	if w.p, err = lab.StartPopulation(t.Context(), lab.PopulationOptions{N: n, Seed: 7, TLS: tls, Log: w.log}); err != nil {
		t.Fatal(err)
	}
	if ca, err := w.p.CA(); err != nil || !w.roots.AppendCertsFromPEM(ca) {
		t.Fatalf("no authority: %v", err)
	}
	var b bytes.Buffer
	if err := w.p.WriteOptOut(&b); err != nil {
		t.Fatal(err)
	}
	if w.opt, err = census.ReadOptOut(&b); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open(url string) *store.DB {
	w.t.Helper()
	db, err := store.Open(w.t.Context(), store.Options{URL: url})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	return db
}

func (w *world) load(db *store.DB) {
	w.t.Helper()
	var b bytes.Buffer
	if err := w.p.WriteTargets(&b); err != nil {
		w.t.Fatal(err)
	}
	acc, err := census.Import(w.t.Context(), db, "census", true, "population", &b, nil)
	if err != nil || !acc.Balanced() || acc.Rejected[census.RejectDuplicate] == 0 {
		w.t.Fatalf("%+v, %v", acc, err)
	}
}

func (w *world) options() census.Options {
	return census.Options{Run: "census", Lab: true, Workers: 32, Timeout: 3 * time.Second, OptOut: w.opt, RootCAs: w.roots}
}

// hits ends the population and reads its access log.
func (w *world) hits() (out []lab.PopulationHit) {
	w.t.Helper()
	w.p.Close()
	dec := json.NewDecoder(&w.log.b)
	for dec.More() {
		var h lab.PopulationHit
		if err := dec.Decode(&h); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, h)
	}
	return out
}

func (w *world) compare(db *store.DB) {
	w.t.Helper()
	var truth bytes.Buffer
	if err := w.p.WriteTruth(&truth); err != nil {
		w.t.Fatal(err)
	}
	c, err := census.CompareTruth(w.t.Context(), db, "census", &truth, lab.PopulationChecks())
	if err != nil {
		w.t.Fatal(err)
	}
	if c.Mismatches > 0 {
		w.t.Errorf("%d mismatches: %+v", c.Mismatches, c.First)
	}
	for k, s := range c.Scores {
		if s.Precision() != 1 || s.Recall() != 1 {
			w.t.Errorf("%s: precision %.3f, recall %.3f", k, s.Precision(), s.Recall())
		}
	}
}

func results(t *testing.T, db *store.DB) string {
	t.Helper()
	var b strings.Builder
	err := db.CensusResults(t.Context(), "census", func(o census.Outcome) error {
		b.Write(o.Result)
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// clusters counts the truth's marks of live servers and compares with what the
// tables say.
func (w *world) clusters(db *store.DB) {
	w.t.Helper()
	var truth bytes.Buffer
	if err := w.p.WriteTruth(&truth); err != nil {
		w.t.Fatal(err)
	}
	marks := map[string]map[string]int{"certificate key": {}, "authorization server": {}}
	for dec := json.NewDecoder(&truth); dec.More(); {
		var x lab.Truth
		if err := dec.Decode(&x); err != nil {
			w.t.Fatal(err)
		}
		switch x.Class {
		case "not_mcp", "dead", "unstable", "skipped":
			continue
		}
		marks["certificate key"][x.CertKey]++
		if x.Issuer != "" {
			marks["authorization server"][x.Issuer]++
		}
	}
	s, err := census.Summarize(w.t.Context(), db, "census", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range s.Deployments {
		m, ok := marks[c.By]
		if !ok {
			continue
		}
		delete(marks, c.By)
		all, shared, largest := 0, 0, 0
		for _, n := range m {
			all, largest = all+n, max(largest, n)
			if n > 1 {
				shared += n
			}
		}
		if c.Servers != all || c.Clusters != len(m) || c.Shared != shared || c.Largest != largest || shared == 0 {
			w.t.Errorf("%s: %s; want %d in %d, %d share theirs, the largest %d", c.By, c, all, len(m), shared, largest)
		}
	}
	if len(marks) > 0 {
		w.t.Errorf("the tables lack %v", slices.Collect(maps.Keys(marks)))
	}
}

// TestCensusEqualsGroundTruth: over TLS, every class, flag, issuer, certificate key, cluster and
// passive flaw is the simulator's; nothing but reading was done; who opted out was left alone.
func TestCensusEqualsGroundTruth(t *testing.T) {
	t.Parallel()
	w := newWorldOver(t, 400, true)
	db := w.open(storetest.SQLite(t))
	w.load(db)
	if err := census.Run(t.Context(), db, w.options()); err != nil {
		t.Fatal(err)
	}
	w.compare(db)
	w.clusters(db)
	issuers := map[string]int{}
	for _, h := range w.hits() {
		if w.opt.Has(h.Host) {
			t.Errorf("%s opted out and was asked for %s", h.Host, h.Path)
		}
		switch h.Call {
		case "", "server/discover", "initialize", "notifications/initialized", "tools/list", "kidoban/no-such-method":
		default:
			t.Errorf("call %s was sent to %s", h.Call, h.Host)
		}
		if h.Method == "POST" && (h.Path == "/register" || h.Path == "/token") {
			t.Errorf("%s %s at %s: no state may be made", h.Method, h.Path, h.Host)
		}
		if strings.HasPrefix(h.Host, "as") && strings.HasPrefix(h.Path, "/.well-known/") {
			issuers[h.Host+h.Path]++
		}
	}
	if len(issuers) == 0 {
		t.Fatal("no shared issuer was asked")
	}
	for u, n := range issuers {
		if n != 1 {
			t.Errorf("%s was asked %d times", u, n)
		}
	}
}

// TestStoppedCensusGoesOn: a census stopped again and again gives the same bytes
// as one that ran through.
func TestStoppedCensusGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 160)
	whole, cut := w.open(filepath.Join(t.TempDir(), "a.db")), w.open(filepath.Join(t.TempDir(), "b.db"))
	w.load(whole)
	w.load(cut)
	if err := census.Run(t.Context(), whole, w.options()); err != nil {
		t.Fatal(err)
	}
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		o, seen := w.options(), 0
		o.Workers = 4
		o.Progress = func(p census.Progress) {
			if seen++; seen == 2 && stops < 5 {
				cancel()
			}
		}
		err := census.Run(ctx, cut, o)
		cancel()
		if err == nil {
			break
		}
		if stops++; stops > 6 {
			t.Fatal(err)
		}
	}
	if a, b := results(t, whole), results(t, cut); a != b || stops == 0 {
		t.Errorf("%d stops: the results differ (%d and %d bytes)", stops, len(a), len(b))
	}
}

// TestPolitenessHoldsOverWorkers: two engines on one store stay below the rate
// and the bound of every host, as the hosts' own log shows.
func TestPolitenessHoldsOverWorkers(t *testing.T) {
	t.Parallel()
	cluster := &storetest.Cluster{}
	t.Cleanup(cluster.Close)
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": cluster.Postgres} {
		t.Run(name, func(t *testing.T) {
			const interval = 100 * time.Millisecond
			w := newWorld(t, 40)
			u := url(t)
			db := w.open(u)
			w.load(db)
			engines := []*store.DB{db, db}
			if db.Postgres() {
				engines[1] = w.open(u)
			}
			var wg sync.WaitGroup
			for _, db := range engines {
				wg.Go(func() {
					o := w.options()
					o.Interval = interval
					if err := census.Run(t.Context(), db, o); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			w.compare(db)
			last, count := map[string]int64{}, map[string]int{}
			for _, h := range w.hits() {
				if gap := time.Duration(h.Micros-last[h.Host]) * time.Microsecond; gap < interval {
					t.Errorf("%s: %s after the request before", h.Host, gap)
				}
				if last[h.Host], count[h.Host] = h.Micros, count[h.Host]+1; count[h.Host] > census.DefaultPerHost {
					t.Errorf("%s: %d requests", h.Host, count[h.Host])
				}
				if !strings.Contains(h.Agent, "+http") {
					t.Errorf("the User-Agent %q names no contact", h.Agent)
				}
			}
		})
	}
}

// TestPublicCensusIsPolite: outside a lab no option buys more than the bounds.
func TestPublicCensusIsPolite(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{URL: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, o := range []census.Options{{}, {Interval: 999 * time.Millisecond}, {Interval: time.Second, PerHost: 41}} {
		if err := census.Run(t.Context(), db, o); err == nil {
			t.Errorf("%v and %d a host were taken", o.Interval, o.PerHost)
		}
	}
}

func ExampleNormalize() {
	for _, raw := range []string{"MCP.Example.com", "https://bücher.example/mcp#x", "https://10.0.0.1/mcp", "https://a.example/mcp?api_key=1"} {
		t, reject := census.Normalize(raw, false)
		fmt.Println(t.URL + reject)
	}
	// Output:
	// https://mcp.example.com/mcp
	// https://xn--bcher-kva.example/mcp
	// private_address
	// credential_in_url
}

// flaky is the store with a database that fails now and then.
type flaky struct {
	*store.DB
	calls atomic.Int64
}

var errAway = errors.New("the database is away")

func (f *flaky) away() bool { return f.calls.Add(1)%150 == 0 }

func (f *flaky) CensusTurn(ctx context.Context, run, host string, max int, lease time.Duration) (time.Duration, bool, error) {
	if f.away() {
		return 0, false, errAway
	}
	return f.DB.CensusTurn(ctx, run, host, max, lease)
}

func (f *flaky) CensusClaim(ctx context.Context, run, key string, lease time.Duration) ([]byte, bool, error) {
	if f.away() {
		return nil, false, errAway
	}
	return f.DB.CensusClaim(ctx, run, key, lease)
}

// TestAFailingStoreMakesNoResult: what was seen while the store failed is not
// taken for the server's doing; the census stops, and goes on when it is called
// again.
func TestAFailingStoreMakesNoResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 40)
	whole, cut := w.open(filepath.Join(t.TempDir(), "a.db")), w.open(filepath.Join(t.TempDir(), "b.db"))
	w.load(whole)
	w.load(cut)
	if err := census.Run(t.Context(), whole, w.options()); err != nil {
		t.Fatal(err)
	}
	away, bad := 0, &flaky{DB: cut}
	for {
		o := w.options()
		o.Interval, o.PerHost = time.Microsecond, 1_000_000 // turns are asked for
		o.Workers = 2
		err := census.Run(t.Context(), bad, o)
		if err == nil {
			break
		}
		if !errors.Is(err, errAway) || away > 1000 {
			t.Fatal(err)
		}
		away++
	}
	if a, b := results(t, whole), results(t, cut); a != b || away == 0 {
		t.Errorf("after %d failures the results differ:\n%s\n%s", away, a, b)
	}
}
