package gateway

import (
	"context"
	"runtime"
)

// Reading and scanning a large message takes a processor for milliseconds. A few
// at a time do so, the others wait: else one server that talks much, or one client
// that asks it, makes everybody's small calls stand in line behind (G-PX3).
type heavy chan struct{}

// heavyBytes is from when on a message waits for its turn.
const heavyBytes = 16 << 10

func newHeavy() heavy { return make(heavy, max(1, runtime.GOMAXPROCS(0)/2)) }

// enter waits for a turn for a message of n bytes. leave must be called before
// anything is written to a client, and may be called again. Turns never nest:
// whoever has one takes no second.
func (h heavy) enter(ctx context.Context, n int) (leave func(), err error) {
	if n < heavyBytes {
		return func() {}, nil
	}
	select {
	case h <- struct{}{}:
		left := false
		return func() {
			if !left {
				left = true
				<-h
			}
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
