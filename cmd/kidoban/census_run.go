package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/store"
)

type censusRunCmd struct {
	censusSources
	censusPlace
	censusManners
	DryRun   bool   `name:"dry-run" help:"Print the plan and the request budget; contact nobody."`
	Rejected string `help:"With --dry-run: write every entry that is no target to this file. A run keeps them in its directory." placeholder:"FILE"`
	Metrics  string `help:"Serve /metrics on this loopback address." placeholder:"ADDR"`
	JSON     bool   `name:"json" help:"Print a JSON summary at the end."`
}

// Run measures what is pending and writes the results.
func (c censusRunCmd) Run(e *env) error {
	if c.DryRun {
		return censusPlanCmd{c.censusSources, c.Rejected, c.JSON}.Run(e)
	}
	o, err := c.options(c.Lab, c.Name)
	if err != nil {
		return err
	}
	db, err := c.open(e.ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := c.load(e, db, c.censusPlace); err != nil {
		return err
	}
	switch all, _, err := db.CensusCount(e.ctx, c.Name); {
	case err != nil:
		return err
	case all == 0:
		return kidoban.Errorf(kidoban.KindInput, "nothing in the candidates is a target: kidoban census plan with the same candidates says why, entry by entry with --rejected FILE")
	}
	board := newBoard(e)
	o.Progress = board.set
	stop, err := board.serve(c.Metrics)
	if err != nil {
		return err
	}
	defer stop()
	began := time.Now()
	if db.Postgres() {
		q := census.QueueOptions{}
		if err = census.Enqueue(e.ctx, c.DB, db, o, q); err == nil {
			err = census.Work(e.ctx, c.DB, db, o, q, true)
		}
	} else {
		err = census.Run(e.ctx, db, o)
	}
	board.end()
	if err != nil {
		if e.ctx.Err() != nil {
			return kidoban.Errorf(kidoban.KindUnreachable, "the census was stopped; the same command goes on")
		}
		return err
	}
	return c.finish(e, db, board.last(), time.Since(began))
}

// finish writes the files of the census.
func (c censusRunCmd) finish(e *env, db *store.DB, p census.Progress, took time.Duration) error {
	var err error
	if p.All, p.Done, err = db.CensusCount(e.ctx, c.Name); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{
		"results.jsonl": func(w io.Writer) error { return census.WriteResults(e.ctx, db, c.Name, w) },
		"times.jsonl":   func(w io.Writer) error { return census.WriteTimes(e.ctx, db, c.Name, w) },
	} {
		if err := wholeFile(c.file(name), 0o666, write); err != nil {
			return err
		}
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(map[string]any{"targets": p.All, "done": p.Done, "requests": p.Requests, "classes": p.Classes,
			"seconds": took.Seconds(), "rss_mb": peakRSS(), "cpus": runtime.GOMAXPROCS(0), "results": c.file("results.jsonl")})
	}
	_, err = fmt.Fprintf(e.stdout, "%s measured. Results: %s. The tables: kidoban census report --dir %s\n", kidoban.Count(p.Done, "target is", "targets are"), c.file("results.jsonl"), c.Dir)
	return err
}

type censusWorkCmd struct {
	DB           string `name:"db" required:"" help:"The census' PostgreSQL." placeholder:"URL"`
	Name         string `help:"Name of the census in its database." default:"census"`
	Workers      int    `help:"Targets in flight on this machine." default:"64"`
	Slices       int    `help:"Slices of the census in work at once." default:"8"`
	Drain        bool   `help:"End when no target is pending."`
	ResolveAllTo string `name:"resolve-all-to" help:"Send every name to this loopback address; for labs." placeholder:"IP"`
}

// Run works until Ctrl-C, or with --drain until the census is complete.
func (c censusWorkCmd) Run(e *env) error {
	if !strings.HasPrefix(c.DB, "postgres") {
		return kidoban.Errorf(kidoban.KindUsage, "machines share a census through PostgreSQL: --db postgres://…")
	}
	o, err := censusManners{ResolveAllTo: c.ResolveAllTo, Workers: c.Workers}.options(true, c.Name)
	if err != nil {
		return err
	}
	db, err := store.Open(e.ctx, store.Options{URL: c.DB, MaxConns: censusConns})
	if err != nil {
		return err
	}
	defer db.Close()
	board := newBoard(e)
	o.Progress = board.set
	err = census.Work(e.ctx, c.DB, db, o, census.QueueOptions{Slices: c.Slices}, c.Drain)
	board.end()
	if e.ctx.Err() != nil {
		return nil // asked to stop
	}
	return err
}

// board shows the progress: a line that changes on a terminal, a line every ten
// seconds elsewhere, and numbers for a metrics collector.
type board struct {
	w     io.Writer
	live  bool
	fd    int
	began time.Time

	mu   sync.Mutex
	p    census.Progress
	told time.Time
}

func newBoard(e *env) *board {
	f, ok := e.stderr.(*os.File)
	b := &board{w: e.stderr, began: time.Now(), told: time.Now()}
	if ok {
		b.fd = int(f.Fd())
		b.live = term.IsTerminal(b.fd)
	}
	return b
}

func (b *board) set(p census.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.p = p
	switch {
	case b.live:
		line := []rune(b.line())
		if wide, _, err := term.GetSize(b.fd); err == nil && len(line) >= wide {
			line = append(line[:max(0, wide-2)], '…') // a line that wraps could not be written over
		}
		fmt.Fprintf(b.w, "\r\x1b[K%s", string(line))
	case time.Since(b.told) >= 10*time.Second:
		b.told = time.Now()
		fmt.Fprintln(b.w, b.line())
	}
}

func (b *board) line() string {
	p := b.p
	eta := "–"
	if p.Rate > 0 {
		eta = (time.Duration(float64(p.All-p.Done)/p.Rate) * time.Second).Round(time.Second).String()
	}
	const width = 20
	full := 0
	if p.All > 0 {
		full = width * p.Done / p.All
	}
	var classes []string
	for _, k := range slices.Sorted(maps.Keys(p.Classes)) {
		classes = append(classes, fmt.Sprintf("%s %d", k, p.Classes[k]))
	}
	return fmt.Sprintf("[%s%s] %d/%d  %.0f/s  %s left  %s", strings.Repeat("█", full), strings.Repeat("░", width-full), p.Done, p.All, p.Rate, eta, strings.Join(classes, ", "))
}

func (b *board) end() {
	if b.live {
		fmt.Fprintln(b.w)
	}
}

func (b *board) last() census.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.p
}

// serve answers /metrics on addr; "" serves nothing. The caller stops it.
func (b *board) serve(addr string) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the metrics cannot be served on %s", addr)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		l.Close()
		return nil, kidoban.Errorf(kidoban.KindUsage, "metrics are served on a loopback address, not on %s", addr)
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(b.metrics)}
	done := make(chan struct{})
	go func() { // ends with srv.Close
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(b.w, "kidoban: the metrics ended: "+err.Error())
		}
	}()
	return func() { srv.Close(); <-done }, nil
}

func (b *board) metrics(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	p := b.last()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE kidoban_census_targets gauge\nkidoban_census_targets %d\n# TYPE kidoban_census_done gauge\nkidoban_census_done %d\n", p.All, p.Done)
	fmt.Fprintf(w, "# TYPE kidoban_census_requests_total counter\nkidoban_census_requests_total %d\n# TYPE kidoban_census_results_total counter\n", p.Requests)
	for _, k := range slices.Sorted(maps.Keys(p.Classes)) {
		fmt.Fprintf(w, "kidoban_census_results_total{class=%q} %d\n", k, p.Classes[k])
	}
}
