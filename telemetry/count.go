package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// tally is the account of one queue: what was put into it and what a receiver took.
// The difference, once the queue is closed, is what was lost, whether the queue was
// full, the receiver away or the time to close too short.
type tally struct {
	what     string // "spans" or "log records"
	to       string // the receiver's host, for people
	log      *slog.Logger
	now      func() time.Time
	in, took atomic.Int64
	life     context.Context // of the exports; the SDK's own go on after the time to close

	mu     sync.Mutex
	told   time.Time // when the log last heard of a failure
	failed int64     // since then
	last   error
}

var errUnsent = errors.New("the queue was full, or the time to close too short")

// report counts one export of n. A receiver that is away fails every few seconds: the
// log hears of it once a minute. The SDK would print each failure to a handler that the
// whole process shares, so it gets none to print.
func (t *tally) report(n int, err error) {
	if err == nil {
		t.took.Add(int64(n))
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
	t.failed += int64(n)
	if now := t.now(); t.told.IsZero() || now.Sub(t.told) >= time.Minute {
		t.log.Warn("telemetry was not taken; the audit log has it", "what", t.what, "receiver", t.to, "lost", t.failed, "error", err)
		t.told, t.failed = now, 0
	}
}

// lost is how many were put in and not taken, and the last reason that is known. It
// is exact only after the queue has ended.
func (t *tally) lost() (n int64, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		return t.in.Load() - t.took.Load(), errUnsent
	}
	return t.in.Load() - t.took.Load(), t.last
}

// send runs one export until the queue's life ends and counts it. It returns nothing:
// the SDK would print it, see report.
func (t *tally) send(ctx context.Context, n int, export func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	t.report(n, export(ctx))
}

// countedSpans and countedLogs are the exporters between queue and network.
type countedSpans struct {
	sdktrace.SpanExporter
	*tally
}

func (c countedSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	c.send(ctx, len(spans), func(ctx context.Context) error { return c.SpanExporter.ExportSpans(ctx, spans) })
	return nil
}

type countedLogs struct {
	sdklog.Exporter
	*tally
}

func (c countedLogs) Export(ctx context.Context, records []sdklog.Record) error {
	c.send(ctx, len(records), func(ctx context.Context) error { return c.Exporter.Export(ctx, records) })
	return nil
}
