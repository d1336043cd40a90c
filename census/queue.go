package census

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// Many machines share a census through PostgreSQL. River keeps the queue: a job
// is a slice of the targets, and a slice is done when all its targets have
// results. A worker that dies loses the targets in flight and nothing else: its
// job is given to another one within seconds (presence.go), who finds the rest
// pending. Politeness and what is known about issuers are in the store, so they
// hold for all workers together.

// Slice is the job: targets of one census between two Spreads. A census is cut
// once, so that no two slices in the queue or in work overlap.
type Slice struct {
	Run  string `json:"run" river:"unique"`
	From int64  `json:"from" river:"unique"` // exclusive
	To   int64  `json:"to" river:"unique"`
}

// Kind names the job in the queue.
func (Slice) Kind() string { return "kidoban_census_slice" }

// queueName keeps the census apart from other users of the database.
const queueName = "kidoban_census"

// QueueOptions say how a machine takes part.
type QueueOptions struct {
	Slices  int           // slices in work at once on this machine, default 8: while one waits for its slowest, others go on
	Timeout time.Duration // of one slice, default 30 min; the next attempt goes on
	Per     int           // targets in a slice, on average; default 64
}

func (q *QueueOptions) fill() {
	if q.Slices <= 0 {
		q.Slices = 8
	}
	if q.Timeout <= 0 {
		q.Timeout = 30 * time.Minute
	}
	if q.Per <= 0 {
		q.Per = 64
	}
}

// shared are the options that all workers of a census must have in common.
type shared struct {
	Lab       bool          `json:"lab"`
	Interval  time.Duration `json:"interval"`
	PerHost   int           `json:"per_host"`
	Timeout   time.Duration `json:"timeout"`
	UserAgent string        `json:"user_agent"`
	Slices    int64         `json:"slices"`
}

// Keys of what all workers know. Opt-outs come in numbered lists: whoever asks
// to be left out while a census runs is on the next one.
const (
	sharedKey = "census:options"
	optOutKey = "census:opt-out:"
)

// Enqueue prepares a census for workers: it settles the options that all of
// them use and queues what is pending. Calling it again changes nothing of what
// is queued or in work, queues what came after, and adds opt-outs; the other
// options stay those of the first call.
func Enqueue(ctx context.Context, db string, store Store, o Options, q QueueOptions) error {
	if err := o.fill(); err != nil {
		return err
	}
	q.fill()
	all, done, err := store.CensusCount(ctx, o.Run)
	if err != nil {
		return err
	}
	s := shared{o.Lab, o.Interval, o.PerHost, o.Timeout, o.UserAgent, int64(max(64, all/q.Per))}
	if err := learn(ctx, store, o.Run, sharedKey, s); err != nil {
		return err
	}
	if err := addOptOuts(ctx, store, o); err != nil {
		return err
	}
	if err := skipCrowded(ctx, store, o); err != nil || all == done {
		return err
	}
	if err := known(ctx, store, o.Run, sharedKey, &s); err != nil {
		return err
	}
	pool, err := connect(ctx, db)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet()})
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the queue cannot be opened")
	}
	return insertSlices(ctx, client, o.Run, s.Slices)
}

// insertSlices queues every slice that is neither queued nor in work.
func insertSlices(ctx context.Context, client *river.Client[pgx.Tx], run string, n int64) error {
	unique := river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending,
		rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled}}
	step := math.MaxInt64 / n
	jobs := make([]river.InsertManyParams, 0, min(n, 1000))
	for i := range n {
		to := (i + 1) * step
		if i == n-1 {
			to = math.MaxInt64
		}
		// A worker that dies costs an attempt, so there are many.
		jobs = append(jobs, river.InsertManyParams{Args: Slice{run, i*step - 1, to}, InsertOpts: &river.InsertOpts{Queue: queueName, MaxAttempts: 10_000, UniqueOpts: unique}})
		if len(jobs) == cap(jobs) || i == n-1 {
			if _, err := client.InsertMany(ctx, jobs); err != nil {
				return kidoban.Wrap(kidoban.KindUnreachable, err, "the census cannot be queued")
			}
			jobs = jobs[:0]
		}
	}
	return nil
}

// learn stores v under key unless something is known there. When it returns
// without an error, something is.
func learn(ctx context.Context, store Store, run, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the census' options cannot be stored")
	}
	for {
		known, mine, err := store.CensusClaim(ctx, run, key, time.Second)
		switch {
		case err != nil || known != nil:
			return err
		case mine:
			return store.CensusLearn(ctx, run, key, raw)
		}
		if err := outbound.Sleep(ctx, 50*time.Millisecond); err != nil { // somebody else is about to store it
			return err
		}
	}
}

// known reads what is known under key into v.
func known(ctx context.Context, store Store, run, key string, v any) error {
	raw, err := store.CensusKnown(ctx, run, key)
	if err == nil && (raw == nil || json.Unmarshal(raw, v) != nil) {
		err = kidoban.Errorf(kidoban.KindNotFound, "the census %q has no options in this database: start it with kidoban census run --db", run)
	}
	return err
}

// optOuts reads the lists of hosts that opted out, and how many lists there are.
func optOuts(ctx context.Context, store Store, run string) (o *OptOut, lists int, err error) {
	o = &OptOut{hosts: map[string]bool{}}
	for ; ; lists++ {
		var hosts []string
		err := known(ctx, store, run, optOutKey+strconv.Itoa(lists), &hosts)
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			return o, lists, nil
		}
		if err != nil {
			return nil, 0, err
		}
		for _, h := range hosts {
			o.hosts[h] = true
		}
	}
}

// addOptOuts adds a list of the hosts that are on none yet. When it returns
// without an error, all of them are on a list.
func addOptOuts(ctx context.Context, store Store, o Options) error {
	for {
		there, lists, err := optOuts(ctx, store, o.Run)
		if err != nil {
			return err
		}
		fresh := slices.DeleteFunc(o.OptOut.list(), func(h string) bool { return there.hosts[h] })
		if len(fresh) == 0 {
			return nil
		}
		// Another start may take this number; then the next round takes the next one.
		if err := learn(ctx, store, o.Run, optOutKey+strconv.Itoa(lists), fresh); err != nil {
			return err
		}
	}
}

// connect opens the database and brings the queue's tables up to date.
func connect(ctx context.Context, db string) (*pgxpool.Pool, error) {
	pool, err := pgxpool.New(ctx, db)
	if err != nil {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the database URL is not a valid postgres:// URL")
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet()})
	if err == nil {
		err = locked(ctx, pool, func() error {
			_, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
	}
	if err != nil {
		pool.Close()
		return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "the queue's tables cannot be made")
	}
	return pool, nil
}

// locked runs fn while no other process migrates: River's migrations do not
// expect company.
func locked(ctx context.Context, pool *pgxpool.Pool, fn func() error) error {
	const lock = 0x6b69646f62616e // "kidoban"
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lock)); err != nil {
			return err
		}
		return fn()
	})
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// maxInSlice bounds the targets in flight of one slice; more would find no work.
const maxInSlice = 32

// slicer works on slices.
type slicer struct {
	river.WorkerDefaults[Slice]
	store Store
	base  Options
	began time.Time
	gate  chan struct{} // bounds the targets in flight over all slices of this machine

	mu    sync.Mutex // guards total, and keeps calls of base.Progress apart
	total Progress
}

// Work measures what is pending in a slice.
func (w *slicer) Work(ctx context.Context, job *river.Job[Slice]) error {
	o := w.base
	o.Run = job.Args.Run
	if err := adopt(ctx, w.store, &o); err != nil {
		return err
	}
	o.Progress = w.adding()
	o.gate, o.Workers = w.gate, min(o.Workers, maxInSlice)
	for { // again, for targets that were added meanwhile
		next, err := w.store.CensusPending(ctx, o.Run, job.Args.From, 1)
		if err != nil || len(next) == 0 || next[0].Spread() > job.Args.To {
			return err
		}
		_, err = pass(ctx, w.store, o, job.Args.From, job.Args.To)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
}

// adding returns the progress of one slice, which adds to that of the machine.
func (w *slicer) adding() func(Progress) {
	var last Progress
	classes := map[string]int{}
	return func(p Progress) {
		w.mu.Lock()
		defer w.mu.Unlock()
		t := &w.total
		t.All, t.Done = p.All, max(t.Done, p.Done)
		t.Requests += p.Requests - last.Requests
		mine := 0
		for k, n := range p.Classes {
			t.Classes[k] += n - classes[k]
			classes[k] = n
		}
		for _, n := range t.Classes {
			mine += n
		}
		if s := w.base.Now().Sub(w.began).Seconds(); s > 0 {
			t.Rate = float64(mine) / s
		}
		last = p
		told := *t
		told.Classes = maps.Clone(t.Classes)
		w.base.Progress(told)
	}
}

// NextRetry gives an interrupted slice to the next worker at once.
func (w *slicer) NextRetry(*river.Job[Slice]) time.Time { return w.base.Now().Add(time.Second) }

// adopt takes over the options that all workers have in common.
func adopt(ctx context.Context, store Store, o *Options) error {
	var s shared
	if err := known(ctx, store, o.Run, sharedKey, &s); err != nil {
		return err
	}
	out, _, err := optOuts(ctx, store, o.Run)
	if err != nil {
		return err
	}
	o.Lab, o.Interval, o.PerHost, o.Timeout, o.UserAgent, o.OptOut = s.Lab, s.Interval, s.PerHost, s.Timeout, s.UserAgent, out
	return o.fill()
}

// Work takes slices from the queue until ctx ends or, with drain, until no
// target of o.Run is pending. Workers, resolver, trust and progress are this
// machine's own; everything else is the census'.
func Work(ctx context.Context, db string, store Store, o Options, q QueueOptions, drain bool) error {
	q.fill()
	if o.Run == "" {
		o.Run = "census"
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	pool, err := connect(ctx, db)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &slicer{store: store, base: o, began: o.Now(), gate: make(chan struct{}, o.Workers), total: Progress{Classes: map[string]int{}}}); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the queue cannot be worked on")
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{queueName: {MaxWorkers: q.Slices}}, Workers: workers, Logger: quiet(),
		JobTimeout: q.Timeout, RescueStuckJobsAfter: q.Timeout + time.Minute, FetchPollInterval: 500 * time.Millisecond})
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the queue cannot be opened")
	}
	here := &presence{url: db, name: client.ID()}
	if err := here.keep(ctx); err != nil { // before the first job is taken
		return err
	}
	defer here.leave(context.WithoutCancel(ctx))
	if err := client.Start(ctx); err != nil {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the queue cannot be reached")
	}
	waitErr := watch(ctx, store, client, o.Run, here, drain)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err = client.StopAndCancel(stop) // what is in flight stays pending
	if waitErr == nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(waitErr, kidoban.Wrap(kidoban.KindInternal, err, "the worker did not stop in time"))
}

// patience is how many seconds a database may be away, as when it is restarted,
// before the worker gives up.
const patience = 30

// watch looks after the queue and returns when ctx ends or, with drain, when the
// census is complete.
func watch(ctx context.Context, store Store, client *river.Client[pgx.Tx], run string, here *presence, drain bool) error {
	for failures := 0; outbound.Sleep(ctx, time.Second) == nil; failures++ {
		left, err := here.tend(ctx, run)
		all, done := 0, 0
		if err == nil {
			all, done, err = store.CensusCount(ctx, run)
		}
		if err != nil {
			if failures == patience {
				return err
			}
			continue
		}
		failures = 0
		switch {
		case drain && all > 0 && all == done:
			return nil
		case left == 0 && all > done: // targets were added behind the last slice in work
			var s shared
			err := known(ctx, store, run, sharedKey, &s)
			if kidoban.KindOf(err) == kidoban.KindNotFound {
				continue // they are still being imported
			}
			if err == nil {
				err = insertSlices(ctx, client, run, s.Slices)
			}
			if err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
