package census

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/kidoban/kidoban"
)

// Many machines share a census through PostgreSQL. River keeps the queue: a job
// is a slice of the targets, and a slice is done when all its targets have
// results. A worker that dies loses the targets in flight and nothing else: its
// job is given to another one, who finds the rest pending. Politeness and what is
// known about issuers are in the store, so they hold for all workers together.

// Slice is the job: targets of one census between two Spreads.
type Slice struct {
	Run        string `json:"run" river:"unique"`
	Generation int64  `json:"generation" river:"unique"` // of the start that queued it
	From       int64  `json:"from" river:"unique"`       // exclusive
	To         int64  `json:"to" river:"unique"`
}

// Kind names the job in the queue.
func (Slice) Kind() string { return "kidoban_census_slice" }

// queueName keeps the census apart from other users of the database.
const queueName = "kidoban_census"

// QueueOptions say how a machine takes part.
type QueueOptions struct {
	Slices  int           // slices in work at once on this machine, default 2
	Timeout time.Duration // of one slice, default 30 min; what a dead worker held is free a minute later
	Per     int           // targets in a slice, on average; default 64
}

func (q *QueueOptions) fill() {
	if q.Slices <= 0 {
		q.Slices = 2
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
	OptOut    []string      `json:"opt_out"`
}

const sharedKey = "census:options"

// Enqueue prepares a census for workers: it settles the options that all of
// them use and queues its pending targets. Calling it again queues what is still
// pending; the options stay those of the first call.
func Enqueue(ctx context.Context, db string, store Store, o Options, q QueueOptions) error {
	if err := o.fill(); err != nil {
		return err
	}
	q.fill()
	s := shared{o.Lab, o.Interval, o.PerHost, o.Timeout, o.UserAgent, o.OptOut.list()}
	raw, err := json.Marshal(s)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the census' options cannot be stored")
	}
	if _, mine, err := store.CensusClaim(ctx, o.Run, sharedKey, time.Second); err != nil {
		return err
	} else if mine {
		if err := store.CensusLearn(ctx, o.Run, sharedKey, raw); err != nil {
			return err
		}
	}
	if err := skipCrowded(ctx, store, o); err != nil {
		return err
	}
	all, done, err := store.CensusCount(ctx, o.Run)
	if err != nil || all == done {
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
	n := int64((all-done)/q.Per + 1)
	step, generation := math.MaxInt64/n, o.Now().UnixNano()
	jobs := make([]river.InsertManyParams, 0, n)
	for i := range n {
		to := (i + 1) * step
		if i == n-1 {
			to = math.MaxInt64
		}
		jobs = append(jobs, river.InsertManyParams{Args: Slice{o.Run, generation, i*step - 1, to},
			InsertOpts: &river.InsertOpts{Queue: queueName, MaxAttempts: 100, UniqueOpts: river.UniqueOpts{ByArgs: true}}})
	}
	_, err = client.InsertMany(ctx, jobs)
	return kidoban.Wrap(kidoban.KindUnreachable, err, "the census cannot be queued")
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

// slicer works on slices.
type slicer struct {
	river.WorkerDefaults[Slice]
	store Store
	base  Options
	began time.Time

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
	_, err := pass(ctx, w.store, o, job.Args.From, job.Args.To)
	return errors.Join(err, ctx.Err())
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
	raw, _, err := store.CensusClaim(ctx, o.Run, sharedKey, time.Millisecond)
	if err != nil {
		return err
	}
	var s shared
	if raw == nil || json.Unmarshal(raw, &s) != nil {
		return kidoban.Errorf(kidoban.KindNotFound, "the census %q has no options in this database: start it with kidoban census run --db", o.Run)
	}
	o.Lab, o.Interval, o.PerHost, o.Timeout, o.UserAgent = s.Lab, s.Interval, s.PerHost, s.Timeout, s.UserAgent
	o.OptOut = &OptOut{hosts: map[string]bool{}}
	for _, h := range s.OptOut {
		o.OptOut.hosts[h] = true
	}
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
		o.Workers = 32
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
	if err := river.AddWorkerSafely(workers, &slicer{store: store, base: o, began: o.Now(), total: Progress{Classes: map[string]int{}}}); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the queue cannot be worked on")
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{queueName: {MaxWorkers: q.Slices}}, Workers: workers, Logger: quiet(),
		JobTimeout: q.Timeout, RescueStuckJobsAfter: q.Timeout + time.Minute, FetchPollInterval: 500 * time.Millisecond})
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the queue cannot be opened")
	}
	if err := client.Start(ctx); err != nil {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the queue cannot be reached")
	}
	waitErr := wait(ctx, store, o.Run, drain)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err = client.StopAndCancel(stop) // what is in flight stays pending
	if waitErr == nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(waitErr, kidoban.Wrap(kidoban.KindInternal, err, "the worker did not stop in time"))
}

// wait returns when ctx ends or, with drain, when the census is complete.
func wait(ctx context.Context, store Store, run string, drain bool) error {
	for sleep(ctx, 500*time.Millisecond) == nil {
		all, done, err := store.CensusCount(ctx, run)
		if err != nil {
			return err
		}
		if drain && all > 0 && all == done {
			return nil
		}
	}
	return ctx.Err()
}
