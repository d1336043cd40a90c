package gateway

import (
	"sync"
	"time"
)

// breaker keeps a dead server from being asked, and its callers from waiting
// (G-PX3). After some failures in a row it opens for one second, then twice as
// long each time up to a bound; one call at a time may try in between.
//
// A user can make a server fail whenever it likes, so nobody else's calls end with
// that: a row of one user's failures opens it for that user alone. Open for all,
// whoever failed last waits twice as long as the others, who try before. A call that
// tries and hangs, or is a stream for hours, keeps others from trying no longer than a
// failure would, and whoever made it twice as long.
type breaker struct {
	most    int           // failures; set once
	longest time.Duration // set once

	mu     sync.Mutex
	fails  int    // in a row
	first  string // the user of the first of them
	last   string // the user of the last of them
	shared bool   // they are not of one user
	bad    time.Time
	wait   time.Duration // from the last failure on
	trying bool
	trier  string    // the user of the call that tries
	tried  time.Time // when it began
	good   time.Time // last answer
}

// rest is how long a user has to leave the server alone. The caller holds mu.
func (b *breaker) rest(now time.Time, user string) time.Duration {
	if b.fails < b.most || !b.shared && user != b.first {
		return 0
	}
	wait := b.wait
	if b.shared && user == b.last {
		wait *= 2
	}
	return max(0, b.bad.Add(wait).Sub(now))
}

// shut is enter for whoever only wants to know: it begins no call.
func (b *breaker) shut(now time.Time, user string) (retry time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rest(now, user)
}

// enter tells whether a user's call may be made; retry is how long to wait otherwise.
func (b *breaker) enter(now time.Time, user string) (ok bool, retry time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if retry = b.rest(now, user); retry > 0 {
		return false, retry
	}
	if b.fails < b.most || !b.shared && user != b.first {
		return true, 0
	}
	if b.trying {
		wait := b.wait
		if user == b.trier {
			wait *= 2
		}
		if now.Before(b.tried.Add(wait)) {
			return false, time.Second
		}
	}
	b.trying, b.trier, b.tried = true, user, now
	return true, 0
}

// failing tells whether the last call failed.
func (b *breaker) failing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fails > 0
}

// done notes how a user's call went. A caller that left early says nothing of the
// server.
func (b *breaker) done(now time.Time, user string, failed, unknown bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch {
	case unknown:
	case !failed:
		b.fails, b.good = 0, now
	default:
		b.fails++
		if b.fails == 1 {
			b.first, b.shared = user, false
		}
		b.shared = b.shared || user != b.first
		b.last, b.bad, b.wait = user, now, 0
		if b.fails >= b.most {
			b.wait = min(time.Second<<min(b.fails-b.most, 12), b.longest)
		}
	}
}
