package authserver

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Liveness tells in memory whether a grant or token has been revoked, on this
// replica or any other. Access tokens live ten minutes at most, so it remembers
// the revocations of that time and forgets older ones: an empty index means that
// everything lives, and a verified signature says the rest.
//
// It is followed by reading the log of revocations every [FollowInterval]; a
// revocation on this replica is effective at once. When the log cannot be read
// for longer than [StaleAfter] the index refuses to answer, so that a revoked
// token never works because a database was away (G-AS6).
type Liveness struct {
	store Store
	now   func() time.Time

	mu      sync.RWMutex
	dead    map[string]time.Time // "g:" or "t:" and id → when
	fresh   time.Time            // last successful reading
	whole   time.Time            // last reading of all that is remembered
	started bool
	tell    func(userID string) // nil: nobody asks for changes
}

// ChangedUser begins entries of the log that revoke nothing: what policy knows of the
// user whose id follows has changed.
const ChangedUser = "u:"

// OnChange has f called when what policy knows of a user has changed, on any replica,
// within a second. f returns at once. It is set before the first request.
func (l *Liveness) OnChange(f func(userID string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell = f
}

// changed tells of a user who changed here.
func (l *Liveness) changed(userID string) {
	l.mu.RLock()
	tell := l.tell
	l.mu.RUnlock()
	if tell != nil {
		tell(userID)
	}
}

// Timing of the index.
const (
	FollowInterval = 250 * time.Millisecond
	StaleAfter     = 5 * time.Second

	// revocationMemory covers the longest access token and clock differences.
	revocationMemory = 15 * time.Minute
	// followOverlap covers transactions that commit later than their time says, and
	// clocks of replicas that differ a little.
	followOverlap = 30 * time.Second
	// wholeInterval spaces the readings of all that is remembered: what a replica
	// wrote whose clock is minutes behind is seen then.
	wholeInterval = 10 * time.Second
)

// Live tells whether a token with this grant id and jti is still good. The error
// is of kind unreachable when the log of revocations has not been read lately:
// refuse the request then.
func (l *Liveness) Live(grantID, jti string) (bool, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.now().Sub(l.fresh) > StaleAfter {
		return false, kidoban.Errorf(kidoban.KindUnreachable, "the list of revoked tokens cannot be read just now: try again in a moment")
	}
	if _, dead := l.dead["g:"+grantID]; dead {
		return false, nil
	}
	_, dead := l.dead["t:"+jti]
	return !dead, nil
}

// kill makes a revocation effective here before the log is read again.
func (l *Liveness) kill(id string) {
	l.mu.Lock()
	l.dead[id] = l.now()
	l.mu.Unlock()
}

// follow reads the log once.
func (l *Liveness) follow(ctx context.Context) error {
	now := l.now()
	since := now.Add(-revocationMemory)
	l.mu.RLock()
	all := !l.started || now.Before(l.whole) || now.Sub(l.whole) >= wholeInterval
	if !all {
		since = l.fresh.Add(-followOverlap)
	}
	l.mu.RUnlock()
	log, err := l.store.Revocations(ctx, since)
	if err != nil {
		return err
	}
	for _, id := range l.take(log, now, all) {
		l.changed(id)
	}
	return nil
}

// take notes what the log says, and returns the users of whom it says something new.
func (l *Liveness) take(log []Revocation, now time.Time, all bool) (users []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range log {
		if id, is := strings.CutPrefix(r.ID, ChangedUser); is && !l.dead[r.ID].Equal(r.At) {
			users = append(users, id)
		}
		l.dead[r.ID] = r.At
	}
	for id, at := range l.dead {
		if now.Sub(at) > revocationMemory {
			delete(l.dead, id)
		}
	}
	l.fresh, l.started = now, true
	if all {
		l.whole = now
	}
	return users
}
