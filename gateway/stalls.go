package gateway

import (
	"sync"
	"time"
)

// stalls counts the clients that are being written to. Those who take what they
// get are counted for microseconds; when many do not, the next ones have less time
// to take it, so that crowds of slow readers do not stay (G-PX3).
type stalls struct {
	mu    sync.Mutex
	all   int
	users map[string]int
}

const (
	stallsAll  = 128 // have the whole time; of one user:
	stallsUser = 16
	stallWait  = 2 * time.Second // has everybody else
	// stallsFew may be by chance: whoever makes several calls at once is written to
	// for a moment by more than one.
	stallsFew = 2
)

// enter counts a client that is about to be written to, and tells how long it may
// take. leave must follow.
func (s *stalls) enter(user string, wait time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = map[string]int{}
	}
	s.all++
	s.users[user]++
	if s.all > stallsAll || s.users[user] > stallsUser {
		return min(wait, stallWait)
	}
	return wait
}

// full tells that so many clients do not take what they get that a user, who has an
// equal part of them, should get no more.
func (s *stalls) full(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.users[user]
	return s.all >= stallsAll && mine >= stallsFew && mine >= stallsAll/len(s.users)
}

func (s *stalls) leave(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}
