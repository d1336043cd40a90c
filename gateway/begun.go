package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// What is under way ends with the access it was begun with: a stream may stay open
// for days, and a call for minutes, but the token is judged when they begin. While
// it is not known what was revoked, nothing new begins, and what is under way goes on
// until it is known (G-AS6).

// errRevoked is why such a call has ended.
var errRevoked = errors.New("the access was revoked while the call was under way")

// revokedWithin is how often calls under way are compared with what was revoked.
const revokedWithin = 500 * time.Millisecond

// begun are the calls and streams of people that are being answered. Its zero value
// is ready.
type begun struct {
	mu      sync.Mutex
	calls   map[*call]context.CancelCauseFunc // guarded by mu
	watched bool                              // guarded by mu
	watch   sync.WaitGroup
}

// begin gives the call a context that ends with its access; over must follow, and gives
// it back the one that it had.
func (g *Gateway) begin(st *state, c *call) (over func()) {
	if st.config.Open {
		return func() {}
	}
	before, u := c.r, &g.begun
	ctx, cancel := context.WithCancelCause(before.Context())
	c.r = before.WithContext(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls == nil {
		u.calls = map[*call]context.CancelCauseFunc{}
	}
	u.calls[c] = cancel
	if !u.watched {
		u.watched = true
		u.watch.Go(g.watchRevoked)
	}
	return func() {
		u.mu.Lock()
		delete(u.calls, c)
		u.mu.Unlock()
		cancel(nil)
		c.r = before
	}
}

// watchRevoked ends calls whose access was revoked, for as long as there are any.
func (g *Gateway) watchRevoked() {
	tick := time.NewTicker(revokedWithin)
	defer tick.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		if !g.begun.endRevoked(g.deps.Liveness) {
			return
		}
	}
}

// endRevoked tells whether there are any calls; when there are none, the next one must
// begin the watch anew.
func (u *begun) endRevoked(live Liveness) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c, cancel := range u.calls {
		if ok, err := live.Live(c.Caller.Grant, c.Caller.TokenID); err == nil && !ok {
			cancel(errRevoked)
		}
	}
	u.watched = len(u.calls) > 0
	return u.watched
}

// revoked is what a call comes to whose access has ended in midway: it is in the record,
// and a client that was told nothing yet hears why.
func (c *call) revoked(refusal *Refusal) *Refusal {
	switch {
	case context.Cause(c.r.Context()) != errRevoked:
		return refusal
	case c.dated: // the answer has begun, and has no other end
		c.rec.Decision, c.rec.Rule = "refused", ruleRevoked
		return nil
	case refusal == nil && c.r.Method != http.MethodGet && c.Message.Kind != wire.Request:
		return nil // it is done: nothing but its arrival is told
	}
	return accessRevoked()
}

// outlived tells whether the time is over for which access was given: then a stream that
// would stay open ends, while a call under way is finished.
func (c *call) outlived(now time.Time) bool {
	return !c.Caller.Until.IsZero() && now.After(c.Caller.Until.Add(leeway))
}

const ruleRevoked = "token:revoked"

func accessRevoked() *Refusal {
	return unauthorized(ruleRevoked, "invalid_token", "The access was revoked. Connect again.")
}
