package console

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban/gateway"
)

// Meter is what happened in one span of time, of one server or of all.
type Meter struct {
	At            time.Time
	Width         time.Duration
	Server        string // "" is the whole gateway
	Calls         int64  // of MCP, whatever became of them
	Refused       int64  // calls and requests that were refused
	Failed        int64  // calls that a server or we failed
	Registrations int64
	Consents      int64
	Logins        int64
	Alerts        int64
	Micros        int64 // all calls together
	Latency       [12]int64
}

// latencyBounds are the upper ends of Meter.Latency in microseconds; the last one
// has none.
var latencyBounds = [11]int64{1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000}

// Widths of stored counts, and how long each is kept: a minute's for two days, an
// hour's for 90. So the table is bounded by the number of servers.
const (
	minute = time.Minute
	hour   = time.Hour

	keepMinutes = 48 * time.Hour
	keepHours   = 90 * 24 * time.Hour
)

// maxSeries bounds the servers that are counted apart; the rest is in the whole.
const maxSeries = 256

// Quantile estimates how long the share q of calls took at most, in microseconds;
// 0 without calls.
func (m Meter) Quantile(q float64) int64 {
	var all int64
	for _, n := range m.Latency {
		all += n
	}
	if all == 0 {
		return 0
	}
	want := max(int64(q*float64(all)+0.5), 1)
	var below, low int64
	for i, n := range m.Latency {
		high := 2 * latencyBounds[len(latencyBounds)-1]
		if i < len(latencyBounds) {
			high = latencyBounds[i]
		}
		if below+n >= want {
			return low + (high-low)*(want-below)/n
		}
		below, low = below+n, high
	}
	return low
}

// add sums up.
func (m *Meter) add(o Meter) {
	m.Calls += o.Calls
	m.Refused += o.Refused
	m.Failed += o.Failed
	m.Registrations += o.Registrations
	m.Consents += o.Consents
	m.Logins += o.Logins
	m.Alerts += o.Alerts
	m.Micros += o.Micros
	for i := range m.Latency {
		m.Latency[i] += o.Latency[i]
	}
}

// Meters counts what the audit log is told, and stores the counts once a minute.
// Several processes on one database add up. It owns one goroutine; Close ends it
// after a last write.
type Meters struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu   sync.Mutex
	open map[meterKey]*Meter // not stored yet; guarded by mu
}

type meterKey struct {
	at     int64 // unix minutes
	server string
}

// NewMeters starts counting; hand Count to the journal's Watch.
func NewMeters(s Store, log *slog.Logger, now func() time.Time) *Meters {
	ctx, stop := context.WithCancel(context.Background())
	m := &Meters{store: s, log: log, now: now, stop: stop, open: map[meterKey]*Meter{}}
	m.done.Go(func() { m.run(ctx) })
	return m
}

// Close stores what is left and ends.
func (m *Meters) Close() {
	m.stop()
	m.done.Wait()
}

// Count counts a record. It returns at once.
func (m *Meters) Count(r gateway.Record) {
	one, ok := measure(r)
	if !ok {
		return
	}
	at := r.At.Unix() / 60
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket(meterKey{at: at}).add(one)
	if r.Server != "" && one.Calls > 0 && (len(m.open) < maxSeries || m.open[meterKey{at, r.Server}] != nil) {
		m.bucket(meterKey{at, r.Server}).add(one)
	}
}

// bucket finds or makes. The caller holds mu.
func (m *Meters) bucket(k meterKey) *Meter {
	b := m.open[k]
	if b == nil {
		b = &Meter{At: time.Unix(k.at*60, 0).UTC(), Width: minute, Server: k.server}
		m.open[k] = b
	}
	return b
}

// measure says what a record counts as.
func measure(r gateway.Record) (m Meter, ok bool) {
	refused := r.Decision == "refused"
	switch what, auth := strings.CutPrefix(r.Method, "auth:"); {
	case r.Method == "alert":
		m.Alerts = 1
	case auth:
		done := r.Decision == "ok"
		switch {
		case refused:
			m.Refused = 1
		case done && what == "register":
			m.Registrations = 1
		case done && what == "consent":
			m.Consents = 1
		case done && what == "login":
			m.Logins = 1
		default:
			return m, false
		}
	case strings.HasPrefix(r.Method, "pin:"), strings.HasPrefix(r.Method, "console:"), r.Method == "flood":
		return m, false
	default:
		m.Calls, m.Micros = 1, r.Micros
		switch {
		case r.Status >= 500:
			m.Failed = 1
		case refused:
			m.Refused = 1
		}
		i := 0
		for i < len(latencyBounds) && r.Micros > latencyBounds[i] {
			i++
		}
		m.Latency[i] = 1
	}
	return m, true
}

// run stores once a minute; between, the overview adds what is open.
func (m *Meters) run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			m.flush(last)
			return
		}
		m.flush(ctx)
		m.sweep(ctx)
	}
}

// flush stores what was counted. What cannot be stored is kept for the next time,
// within bounds.
func (m *Meters) flush(ctx context.Context) {
	m.mu.Lock()
	batch := m.open
	m.open = map[meterKey]*Meter{}
	m.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	var rows []Meter
	for _, b := range batch {
		h := *b
		h.Width, h.At = hour, b.At.Truncate(hour)
		rows = append(rows, *b, h)
	}
	err := m.store.AddMeters(ctx, rows)
	if err == nil {
		return
	}
	m.log.Warn("counters are not stored", "error", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, b := range batch {
		if len(m.open) < 8*maxSeries {
			m.bucket(k).add(*b)
		}
	}
}

func (m *Meters) sweep(ctx context.Context) {
	for width, keep := range map[time.Duration]time.Duration{minute: keepMinutes, hour: keepHours} {
		for ctx.Err() == nil {
			n, err := m.store.DropMeters(ctx, width, m.now().Add(-keep), 1000)
			if err != nil || n < 1000 {
				break
			}
		}
	}
}

// read returns the counts of a span, with those that are not stored yet.
func (m *Meters) read(ctx context.Context, width time.Duration, from, to time.Time) ([]Meter, error) {
	rows, err := m.store.Meters(ctx, width, "", from, to)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, b := range m.open {
		at := b.At.Truncate(width)
		if k.server != "" || at.Before(from) || !at.Before(to) {
			continue
		}
		if i := slices.IndexFunc(rows, func(r Meter) bool { return r.At.Equal(at) }); i >= 0 {
			rows[i].add(*b)
			continue
		}
		fresh := *b
		fresh.Width, fresh.At = width, at
		rows = append(rows, fresh)
	}
	slices.SortFunc(rows, func(a, b Meter) int { return a.At.Compare(b.At) })
	return rows, nil
}
