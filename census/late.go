package census

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban/outbound"
)

// lateness measures for how long this machine does not get round to its work: a
// timer that is served late would have been late with an answer, too. A prober that
// is starved of processor time sees silence everywhere; with this it knows that the
// silence is its own.
type lateness struct{ total atomic.Int64 }

// lateStep is how often lateness looks; half of it is what a machine at rest may
// be late by.
const lateStep = 20 * time.Millisecond

// run measures until ctx ends.
func (l *lateness) run(ctx context.Context) {
	for {
		began := time.Now()
		if outbound.Sleep(ctx, lateStep) != nil {
			return
		}
		if late := time.Since(began) - lateStep; late > lateStep/2 {
			l.total.Add(int64(late))
		}
	}
}

// sum is how late the machine was so far, in all.
func (l *lateness) sum() time.Duration { return time.Duration(l.total.Load()) }
