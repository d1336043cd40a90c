package census

import (
	"bufio"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// The bounds of catalogue 5.9. The distance is a little above a second: it runs
// from the end of one request to the start of the next, so that no delay on the
// way can bring two requests closer together.
const (
	DefaultInterval = time.Second
	DefaultPerHost  = 40
)

// turnLease is how long a turn may be held: above the longest exchange, an event
// stream of the old transport included, so that it ends only what a dead worker
// held.
func turnLease(o Options) time.Duration {
	return max(o.Timeout, 5*time.Second+12*o.Interval) + 10*time.Second
}

// manners is politeness towards hosts, kept in the store and so by all workers
// together.
type manners struct {
	store    Store
	run      string
	interval time.Duration // 0: no politeness (own machines only)
	perHost  int
	lease    time.Duration // of a turn
	broken   func(error)   // ends the look that the store failed
	optOut   *OptOut
}

// admit takes the turn of a host. It waits as long as the host is busy and
// refuses hosts that opted out or whose budget is spent.
func (m *manners) admit(ctx context.Context, host string) (done func(), err error) {
	if m.optOut.Has(host) {
		return nil, kidoban.Errorf(kidoban.KindRefused, "%s asked not to be measured", host)
	}
	if m.interval <= 0 {
		return func() {}, nil
	}
	for {
		wait, spent, err := m.store.CensusTurn(ctx, m.run, host, m.perHost, m.lease)
		switch {
		case err != nil:
			m.broken(err)
			return nil, err
		case spent:
			return nil, kidoban.Errorf(kidoban.KindLimit, "%s to %s, the bound for one host", kidoban.Count(m.perHost, "request went", "requests went"), host)
		case wait <= 0:
			return func() {
				// The turn must come back even if the run is being stopped.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				defer cancel()
				_ = m.store.CensusRelease(ctx, m.run, host, m.interval) // else the lease gives it back
			}, nil
		}
		if err := outbound.Sleep(ctx, min(wait, max(m.interval/2, 5*time.Millisecond))); err != nil {
			return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "the request was cancelled while it waited for its turn at %s", host)
		}
	}
}

// OptOut are hosts whose operators do not want to be measured. A nil OptOut has none.
type OptOut struct{ hosts map[string]bool }

// ReadOptOut reads one host name per line; "#" begins a comment. A name stands
// for itself and every name below it. At most a million lines.
func ReadOptOut(r io.Reader) (*OptOut, error) {
	o := &OptOut{hosts: map[string]bool{}}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		host, reject := normalHost(strings.TrimPrefix(line, "*."), true)
		if reject != "" || n > 1_000_000 {
			return nil, kidoban.Errorf(kidoban.KindInput, "line %d of the opt-out list is no host name: write one name per line", n)
		}
		o.hosts[host] = true
	}
	if err := sc.Err(); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "the opt-out list cannot be read")
	}
	return o, nil
}

// list returns the names, sorted.
func (o *OptOut) list() []string {
	if o == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(o.hosts))
}

// Has tells whether host or a name above it is on the list.
func (o *OptOut) Has(host string) bool {
	if o == nil {
		return false
	}
	for {
		if o.hosts[host] {
			return true
		}
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			return false
		}
		host = rest
	}
}
