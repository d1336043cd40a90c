package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban/store"
)

const (
	clockEvery = time.Minute
	// clockApart is how far this machine's clock may be from the database's before it is
	// said: tokens bear half a minute between two replicas.
	clockApart = 10 * time.Second
)

// clockWatch compares the clock of this machine with that of the database, which all
// replicas share.
type clockWatch struct {
	db    *store.DB
	now   func() time.Time
	log   *slog.Logger
	ahead atomic.Pointer[time.Duration] // of the database's; nil while it is not known
}

// run looks again and again until ctx ends. The first look is the owner's.
func (c *clockWatch) run(ctx context.Context) {
	if !c.db.Postgres() {
		return // whose clock is this machine's
	}
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.look(ctx)
		}
	}
}

// shared is the present by the database's clock, as far as it is known.
func (c *clockWatch) shared() time.Time {
	now := c.now()
	if ahead := c.ahead.Load(); ahead != nil {
		return now.Add(-*ahead)
	}
	return now
}

// look warns as long as the clocks are apart. What the answer took on its way is not
// counted as a difference.
func (c *clockWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockEvery/2)
	defer cancel()
	asked := c.now()
	at, err := c.db.Clock(ctx)
	if err != nil {
		return // a database that is away is told of by others
	}
	half := c.now().Sub(asked) / 2
	ahead := asked.Add(half).Sub(at).Round(time.Millisecond)
	c.ahead.Store(&ahead)
	if ahead.Abs()-half <= clockApart {
		return
	}
	c.log.Warn("this machine's clock and the database's differ: where the clocks of replicas are 30 s apart, each refuses tokens and codes of the other; run a time service on all machines",
		"ahead", ahead)
}
