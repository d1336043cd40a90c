package authserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Who is disabled at an identity provider stays logged in here, and so do the clients
// of that person, unless the provider is asked again. It is asked when tokens are
// given out and when somebody uses a page, once the word that there is is older than
// the operator allows. What it says plainly holds; that it cannot be asked ends
// nobody's login, and is told.

const (
	// recheckWait bounds how long a request waits for a provider.
	recheckWait = 4 * time.Second
	// recheckRest is how long nobody asks again about a person of whom nothing was heard.
	recheckRest = 30 * time.Second
)

// resting knows of whom the provider could not be asked just now.
type resting struct {
	mu    sync.Mutex
	since map[string]time.Time // by user; guarded by mu
}

func (r *resting) has(user string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.since[user]
	return ok && now.Sub(at).Abs() < recheckRest
}

func (r *resting) note(user string, now time.Time, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !failed {
		delete(r.since, user)
		return
	}
	if r.since == nil {
		r.since = map[string]time.Time{}
	}
	makeRoom(r.since)
	r.since[user] = now
}

// loginEnded is the refusal of who has to log in at a provider again. A client that
// hears invalid_grant begins a new login.
func loginEnded(why string) *OAuthError {
	return &OAuthError{http.StatusBadRequest, "invalid_grant", "The person's login at the identity provider has ended: log in again.", kidoban.Errorf(kidoban.KindRefused, "%s", why)}
}

// rechecks tells whether some provider's word gets too old here.
func (p *policy) rechecks() bool {
	for _, x := range p.Login.Providers {
		if x.Recheck > 0 {
			return true
		}
	}
	return false
}

// speaker finds the provider that said what was heard.
func (p *policy) speaker(h Heard) (Provider, bool) {
	for _, x := range p.Login.Providers {
		multi := h.Provider == "" && quirkOf(x.Issuer).multiTenant && quirkOf(h.Issuer).host == quirkOf(x.Issuer).host // the tenant's issuer
		if x.Issuer == h.Issuer || multi {
			return x, true
		}
	}
	return Provider{}, false
}

// word is what came of asking whether a provider still knows a user.
type word struct {
	remark string    // for the audit log; "" when nobody was asked
	until  time.Time // when it is to be asked anew; zero: never
}

// stillIn tells whether a user's provider still knows the user, as far as the operator
// wants that: an *OAuthError of loginEnded when it does not.
func (s *Server) stillIn(ctx context.Context, p *policy, userID string, now time.Time) (w word, err error) {
	if userID == "" || !p.rechecks() {
		return w, nil
	}
	h, err := s.deps.Store.Heard(ctx, userID)
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound { // an account of this gateway's own
			return w, nil
		}
		return w, err
	}
	x, known := p.speaker(h)
	switch {
	case !known || x.Recheck <= 0:
		return w, nil
	case !h.Ended.IsZero():
		return w, loginEnded(h.Why)
	case h.fresh(x, now):
		return word{until: h.At.Add(x.Recheck)}, nil
	case s.resting.has(userID, now):
		return word{"not asked anew: the identity provider " + x.ID + " did not answer just now", now}, nil
	}
	err = s.askAnew(ctx, x, h)
	switch {
	case err == nil:
		s.resting.note(userID, now, false)
		return word{"heard anew: " + x.ID, now.Add(x.Recheck)}, nil
	case kidoban.KindOf(err) != kidoban.KindNotFound:
		s.resting.note(userID, now, true)
		return word{"not heard anew: " + err.Error(), now}, nil
	}
	h.Ended, h.Why = now, err.Error()
	done, eerr := s.deps.Store.EndHeard(ctx, h)
	if eerr != nil {
		return w, eerr
	}
	if !done { // the person has logged in meanwhile, or somebody else found it out
		if h, err = s.deps.Store.Heard(ctx, userID); err != nil {
			return w, err
		}
		if h.Ended.IsZero() {
			return word{until: now.Add(x.Recheck)}, nil
		}
	}
	return w, loginEnded(h.Why)
}

// fresh tells whether what was heard is new enough. Clocks of replicas differ a little.
func (h Heard) fresh(x Provider, now time.Time) bool { return now.Sub(h.At).Abs() < x.Recheck }

func (s *Server) askAnew(ctx context.Context, x Provider, h Heard) error {
	if s.deps.Renew == nil {
		return kidoban.Errorf(kidoban.KindNotFound, "no login is kept to ask with")
	}
	ctx, cancel := context.WithTimeout(ctx, recheckWait)
	defer cancel()
	return s.deps.Renew(ctx, h.UserID, x.Issuer, func(ctx context.Context) (bool, error) {
		now, err := s.deps.Store.Heard(ctx, h.UserID)
		return err == nil && now.Ended.IsZero() && now.fresh(x, s.deps.Now()), err
	})
}
