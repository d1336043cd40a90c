package limit

import (
	"sync"
	"time"
)

// Shares divides a key that many users have in common, such as a server, when it
// runs short, so that no crowd spends what the others need. While more than half of
// the burst is left nobody is held up; below that, each of the n users who asked
// lately has an n-th of 15/16 of the rate, and at once an n-th of a quarter of what
// is left. So something stays for whoever comes next, however many come at once, and
// what users leave is everybody's again above the half: one who is alone has the
// whole rate, and of the burst all but a quarter. The limit itself is asked as before.
//
// A process counts the users that it sees. At most 4096 are remembered, for ten to
// twenty seconds. The zero value is ready; safe for concurrent use.
type Shares struct {
	mu     sync.Mutex
	users  map[string]*share
	turned time.Time // when those who are gone were forgotten
}

type share struct{ tat, seen time.Time }

const (
	sharesTurn = 10 * time.Second
	sharesMost = 4096
)

// Left is how many tokens a key has.
func (m *Memory) Left(l Limit, key string) int {
	return m.Would(Ask{Limit: l, Key: key}).Remaining
}

// Take takes one token of the user's share. It refuses when that is spent and the
// key runs short, with left tokens of its own.
func (s *Shares) Take(l Limit, user string, left int, now time.Time) Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.user(user, now)
	d, tat := Decide(l.share(len(s.users), left), u.tat, now, 1)
	u.tat = tat
	free := l.Burst / 2
	if len(s.users) == 1 {
		free /= 2
	}
	if left > free {
		return Decision{Limit: l.Name, Allowed: true, Remaining: left}
	}
	return d
}

// GiveBack returns what Take took when the call came to nothing.
func (s *Shares) GiveBack(l Limit, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[user]; u != nil {
		u.tat = u.tat.Add(-l.share(len(s.users), 0).interval())
	}
}

// share is what one of n users has of l when left tokens are left.
func (l Limit) share(n, left int) Limit {
	n = min(n, int(maxSpan/2/l.Per))
	per := l.Per * time.Duration(n)
	if n > 1 {
		per += per / 15
	}
	return Limit{Name: l.Name, Count: l.Count, Per: per, Burst: max(1, min(left, l.Burst/2)/4/n), Key: l.Key}
}

// user finds a user or remembers a new one. The caller holds mu.
func (s *Shares) user(name string, now time.Time) *share {
	if s.users == nil {
		s.users = map[string]*share{}
	}
	if d := now.Sub(s.turned); d >= sharesTurn || d < 0 { // or the clock was set back
		for other, u := range s.users {
			if u.seen.Before(s.turned) || u.seen.After(now) {
				delete(s.users, other)
			}
		}
		s.turned = now
	}
	u := s.users[name]
	if u == nil {
		if len(s.users) >= sharesMost {
			for other := range s.users {
				delete(s.users, other)
				break
			}
		}
		u = &share{}
		s.users[name] = u
	}
	u.seen = now
	return u
}
