package census

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Options of a census.
type Options struct {
	Run       string // name of the census in its store
	Workers   int    // targets in flight, default 64
	Lab       bool   // targets on loopback over http
	Interval  time.Duration
	PerHost   int // requests per host, default DefaultPerHost; targets beyond its share are skipped
	OptOut    *OptOut
	UserAgent string        // must name a contact outside a lab
	Timeout   time.Duration // of one exchange, default 10 s
	RootCAs   *x509.CertPool
	Resolve   func(ctx context.Context, host string) ([]netip.Addr, error)
	Progress  func(Progress) // called now and then, never twice at once; may be nil
	Now       func() time.Time

	gate chan struct{} // bounds the targets in flight over several passes; nil: Workers alone does
}

// Progress is where a run stands.
type Progress struct {
	All, Done int
	Requests  int
	Classes   map[string]int // of this run
	Rate      float64        // targets a second, of this run
}

// TargetsPerHost is how many targets of one host fit into its budget.
const TargetsPerHost = 3

// defaultWorkers is how many targets are in flight unless Options say so.
const defaultWorkers = 64

func (o *Options) fill() error {
	if o.Run == "" {
		o.Run = "census"
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.PerHost <= 0 {
		o.PerHost = DefaultPerHost
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if !o.Lab {
		switch {
		case o.Interval < DefaultInterval:
			return kidoban.Errorf(kidoban.KindUsage, "at most one request a second goes to a host; a shorter interval is for --lab")
		case o.PerHost > DefaultPerHost:
			return kidoban.Errorf(kidoban.KindUsage, "at most %d requests go to a host; more are for --lab", DefaultPerHost)
		}
	}
	return nil
}

// page is how many pending targets are read at a time.
const page = 1024

// Run measures every pending target of the store and returns when all have a
// result, or when ctx ends: then the targets in flight stay pending. Calling it
// again goes on.
func Run(ctx context.Context, store Store, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	if err := skipCrowded(ctx, store, o); err != nil {
		return err
	}
	for {
		n, err := pass(ctx, store, o, -1, math.MaxInt64)
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if n == 0 {
			return nil
		}
	}
}

// skipCrowded gives the targets that do not fit into their host's budget their
// result before anything is sent: which ones follows from their addresses, not
// from who comes first.
func skipCrowded(ctx context.Context, store Store, o Options) error {
	if o.Interval <= 0 {
		return nil
	}
	for {
		ts, err := store.CensusCrowded(ctx, o.Run, TargetsPerHost, 20_000) // bounds the memory; each call sorts the whole list
		if err != nil || len(ts) == 0 {
			return err
		}
		for batch := range slices.Chunk(ts, 500) {
			var rs []Outcome
			for _, t := range batch {
				r := Result{URL: t.URL, Host: t.Host, Source: t.Source, Class: string(Skipped), Reason: "host_budget", Flags: []string{}, Flaws: []string{}}
				rs = append(rs, outcome(r, Times{Finished: o.Now().UTC()}))
			}
			if err := store.CensusDone(ctx, o.Run, rs); err != nil {
				return err
			}
		}
	}
}

// outcome writes a result in its canonical form: members in the order of the
// type, no HTML escapes.
func outcome(r Result, n Times) Outcome {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		panic("census: a result cannot be encoded: " + err.Error()) // strings and numbers only
	}
	times, err := json.Marshal(n)
	if err != nil {
		panic("census: times cannot be encoded: " + err.Error())
	}
	return Outcome{URL: r.URL, Result: bytes.TrimRight(b.Bytes(), "\n"), Times: times}
}

// finished is a result on its way to the store.
type finished struct {
	r Result
	n Times
}

// enter waits for a place among the targets in flight; false means that ctx ended.
func (o *Options) enter(ctx context.Context) bool {
	if o.gate == nil {
		return true
	}
	select {
	case o.gate <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (o *Options) leave() {
	if o.gate != nil {
		<-o.gate
	}
}

// pass measures what is pending with a Spread above from and up to to, and
// returns how many targets it took up.
func pass(ctx context.Context, store Store, o Options, from, to int64) (taken int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var late lateness
	var measuring sync.WaitGroup
	measuring.Go(func() { late.run(ctx) })
	defer func() { cancel(); measuring.Wait() }()
	l := &looker{o: o, late: late.sum, manners: manners{store: store, run: o.Run, interval: o.Interval, perHost: o.PerHost, lease: turnLease(o), optOut: o.OptOut}}
	targets, results := make(chan Target, o.Workers), make(chan finished, 2*o.Workers)
	var workers sync.WaitGroup
	var looking error // of the first look that failed
	var once sync.Once
	for range o.Workers {
		workers.Go(func() {
			for t := range targets {
				if !o.enter(ctx) {
					continue
				}
				r, n, err := l.look(ctx, t)
				o.leave()
				switch {
				case err == nil:
					results <- finished{r, n}
				case ctx.Err() == nil: // the store failed; the next target would fare no better
					once.Do(func() { looking = err })
					cancel()
				}
			}
		})
	}
	var failed error
	var feeding sync.WaitGroup
	feeding.Go(func() { // ends when all pages are read or ctx ends; then the workers end, then the results
		defer func() { close(targets); workers.Wait(); close(results) }()
		for after := from; ; {
			ts, err := store.CensusPending(ctx, o.Run, after, page)
			if err != nil || len(ts) == 0 {
				failed = err
				return
			}
			for _, t := range ts {
				if t.Spread() > to {
					return
				}
				select {
				case targets <- t:
					taken++
				case <-ctx.Done():
					return
				}
			}
			after = ts[len(ts)-1].Spread()
		}
	})
	err = collect(ctx, store, o, results)
	cancel()
	for range results { // let the workers end after a failed store
	}
	feeding.Wait()
	if err == nil && !errors.Is(failed, context.Canceled) {
		err = failed
	}
	return taken, cmp.Or(err, looking)
}

// collect stores results in batches, at the latest every quarter of a second,
// and tells the progress.
func collect(ctx context.Context, store Store, o Options, results <-chan finished) error {
	all, done, err := store.CensusCount(ctx, o.Run)
	if err != nil {
		return err
	}
	p := Progress{All: all, Done: done, Classes: map[string]int{}}
	began, mine := o.Now(), 0
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var batch []Outcome
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		// What was measured is kept even when the run is being stopped.
		err := store.CensusDone(context.WithoutCancel(ctx), o.Run, batch)
		batch = batch[:0]
		if s := o.Now().Sub(began).Seconds(); s > 0 {
			p.Rate = float64(mine) / s
		}
		told := p
		told.Classes = maps.Clone(p.Classes) // the receiver may keep it
		o.Progress(told)
		return err
	}
	for {
		select {
		case f, open := <-results:
			if !open {
				return flush()
			}
			batch = append(batch, outcome(f.r, f.n))
			mine, p.Done, p.Requests = mine+1, p.Done+1, p.Requests+f.n.Requests
			p.Classes[f.r.Class]++
			if len(batch) >= 256 {
				if err := flush(); err != nil {
					return err
				}
			}
		case <-tick.C:
			if err := flush(); err != nil {
				return err
			}
		}
	}
}
