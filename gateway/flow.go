package gateway

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// flow is how fast long answers of one server are relayed. A server that talks
// without end, or clients that make it talk, would else take every processor with
// reading, scanning and writing what it says (G-PX3). Each answer has some bytes
// free; what is longer takes turns at the server's rate, and before that at the
// user's share of it, so that no user takes all of it. Who waits does not read, so
// that the server is held up by its own connection, and few may wait at once.
type flow struct {
	rate int64 // bytes a second; set once
	now  func() time.Time

	mu      sync.Mutex
	server  lane             // guarded by mu
	users   map[string]*lane // guarded by mu
	waiting int              // guarded by mu
	crowd   int              // users some of whose answers wait; guarded by mu
}

// lane is what one server or one user has taken of a rate.
type lane struct {
	paid    time.Time // when what was taken is paid for
	waiting int
}

const (
	// flowRate is what a server may send in long answers, in bytes a second; one
	// user gets half of it.
	flowRate = 4 << 20
	// flowFree is of each answer free; flowStep is taken at once of what is longer.
	flowFree = 16 << 10
	flowStep = 32 << 10
	// flowBurst is for how long a rate gathers while nobody takes it.
	flowBurst = 500 * time.Millisecond
	// flowWaiting may wait at one server, flowUser of them for one user.
	flowWaiting = 64
	flowUser    = 16
	// flowUsers are remembered before those who have paid are forgotten.
	flowUsers = 1024
)

// take takes n bytes of a rate and tells how long to wait for them.
func (l *lane) take(now time.Time, n, rate int64) time.Duration {
	if earliest := now.Add(-flowBurst); l.paid.Before(earliest) {
		l.paid = earliest
	} else if latest := now.Add(time.Minute); l.paid.After(latest) { // the clock was set back
		l.paid = latest
	}
	l.paid = l.paid.Add(time.Duration(n * int64(time.Second) / rate))
	return l.paid.Sub(now)
}

// step waits until the next step of an answer may be read. It fails with
// errCrowded when too many wait already, and with ctx's error.
func (f *flow) step(ctx context.Context, user string) error {
	f.mu.Lock()
	u := f.users[user]
	if u == nil {
		u = f.join(user)
	}
	wait := u.take(f.now(), flowStep, max(1, f.rate/2))
	f.mu.Unlock()
	if err := f.wait(ctx, u, wait); err != nil {
		return err
	}
	f.mu.Lock()
	wait = f.server.take(f.now(), flowStep, f.rate)
	f.mu.Unlock()
	return f.wait(ctx, u, wait)
}

// join remembers a user. The caller holds mu.
func (f *flow) join(user string) *lane {
	if f.users == nil {
		f.users = map[string]*lane{}
	}
	if len(f.users) >= flowUsers {
		now := f.now()
		for name, l := range f.users {
			if l.waiting == 0 && l.paid.Before(now) {
				delete(f.users, name)
			}
		}
	}
	l := &lane{}
	f.users[user] = l
	return l
}

func (f *flow) wait(ctx context.Context, u *lane, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	f.mu.Lock()
	if f.waiting >= flowWaiting || u.waiting >= flowUser {
		f.mu.Unlock()
		return kidoban.Wrap(kidoban.KindLimit, errCrowded, "Too many long answers of the server wait for their turn.")
	}
	f.waiting++
	if u.waiting++; u.waiting == 1 {
		f.crowd++
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting--
		if u.waiting--; u.waiting == 0 {
			f.crowd--
		}
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// full tells that a user has all of the waiting room that may be theirs: of a full
// one an equal part. A call of theirs that came to a long answer would be refused
// after the server was asked; at the door that costs a tenth (G-PX3).
func (f *flow) full(user string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.users[user]
	return u != nil && u.waiting > 0 && (u.waiting >= flowUser || f.waiting >= flowWaiting && u.waiting >= flowWaiting/f.crowd)
}

// paced reads an answer of a server at the rate of its flow.
type paced struct {
	ctx  context.Context
	f    *flow
	user string
	r    io.Reader
	left int
}

func (s *server) paced(ctx context.Context, user string, r io.Reader) *paced {
	return &paced{ctx: ctx, f: &s.flow, user: user, r: r, left: flowFree}
}

func (p *paced) Read(b []byte) (int, error) {
	if p.left <= 0 {
		if err := p.f.step(p.ctx, p.user); err != nil {
			return 0, err
		}
		p.left = flowStep
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}
