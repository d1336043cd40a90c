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
// whoever failed last waits twice as long as the others, who try before; and so does
// whoever failed more often in this row than somebody who waits, so that a few users
// who keep failing cannot take every try. A call that tries and hangs, or is a stream
// for hours, is its user's failure: it keeps others from trying no longer than one would.
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
	trier  string         // the user of the call that tries
	tried  time.Time      // when it began
	own    map[string]int // tries of each user that came to nothing in this row
	waits  bool           // somebody was refused since the last failure
	least  int            // tries of whoever of those has fewest
	good   time.Time      // last answer
}

// maxOwn bounds the users whose tries are counted; others count as if they had none.
const maxOwn = 1000

// open tells whether a user has to leave the server alone, but for tries. The caller
// holds mu, as for turn, rest, queue and had.
func (b *breaker) open(user string) bool {
	return b.fails >= b.most && (b.shared || user == b.first)
}

// turn is how long a user waits after something that somebody did.
func (b *breaker) turn(user, somebody string) time.Duration {
	if b.shared && (user == somebody || b.waits && b.own[user] > b.least) {
		return 2 * b.wait
	}
	return b.wait
}

// rest is how long a user has to leave the server alone. Whoever has to is known to wait.
func (b *breaker) rest(now time.Time, user string) time.Duration {
	if !b.open(user) {
		return 0
	}
	retry := max(0, b.bad.Add(b.turn(user, b.last)).Sub(now))
	if retry > 0 {
		b.queue(user)
	}
	return retry
}

func (b *breaker) queue(user string) {
	if n := b.own[user]; !b.waits || n < b.least {
		b.waits, b.least = true, n
	}
}

// had counts a try that came to nothing for its user.
func (b *breaker) had(user string) {
	if b.own == nil {
		b.own = map[string]int{}
	}
	if b.own[user] > 0 || len(b.own) < maxOwn {
		b.own[user]++
	}
}

// shut is enter for whoever would begin no call yet.
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
	if !b.open(user) {
		return true, 0
	}
	if b.trying {
		if now.Before(b.tried.Add(b.turn(user, b.trier))) {
			b.queue(user)
			return false, time.Second
		}
		b.had(b.trier)
		b.waits = false
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
	tried := b.trying && user == b.trier
	b.trying = false
	switch {
	case unknown:
		if tried {
			b.had(user) // it says nothing of the server, but was its user's turn
		}
	case !failed:
		b.fails, b.good, b.own, b.waits = 0, now, nil, false
	default:
		b.fails++
		if b.fails == 1 {
			b.first, b.shared = user, false
		}
		b.shared = b.shared || user != b.first
		b.had(user)
		b.waits = false
		b.last, b.bad, b.wait = user, now, 0
		if b.fails >= b.most {
			b.wait = min(time.Second<<min(b.fails-b.most, 12), b.longest)
		}
	}
}
