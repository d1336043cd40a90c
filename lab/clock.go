package lab

import (
	"context"
	"sync"
	"time"
)

// Clock is the clock of a lab and of whoever tests it: waiting moves it, so that
// what takes hours takes no time. The zero value shows the present. It is safe for
// concurrent use.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

// Now is the lab's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Wait lets d pass in the lab.
func (c *Clock) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	return ctx.Err()
}
