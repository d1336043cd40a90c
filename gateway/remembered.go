package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

// A session is everything that one user's agents do: what is read at one server
// counts at all others, on every replica, until it is forgotten. Clients are not
// told apart, because one program registers as a client of its own for each
// server it is given.

// Rules returns the rules in force.
func (g *PolicyGuard) Rules() PolicyRules { return *g.rules.Load() }

// session lists the labels of the caller's session. fresh asks the store: other
// replicas may have seen the other half. Otherwise a second old is new enough.
func (g *PolicyGuard) session(ctx context.Context, rules *PolicyRules, c *Call, fresh bool) ([]string, error) {
	labels, err := g.labelsOf(ctx, rules, c.Caller.User, fresh)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = l.Label
	}
	return out, nil
}

func (g *PolicyGuard) labelsOf(ctx context.Context, rules *PolicyRules, key string, fresh bool) ([]SessionLabel, error) {
	now := g.now()
	g.mu.Lock()
	k, ok := g.recent[key]
	noted := g.noted
	g.mu.Unlock()
	if ok && !fresh && now.Sub(k.at) < sessionFresh {
		return k.labels, nil
	}
	labels, err := g.sessions.SessionLabels(ctx, key, now.Add(-rules.Memory))
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.noted != noted {
		return labels, nil // good for this call; the next one looks anew
	}
	if len(g.recent) >= maxPeople {
		g.recent = map[string]knownSession{}
	}
	g.recent[key] = knownSession{labels, now}
	return labels, nil
}

// note gives the session labels. One that it was given lately is not written
// again: a chatty reader costs one write in a quarter of the memory's length.
func (g *PolicyGuard) note(ctx context.Context, c *Call, labels []string) error {
	rules, now := g.rules.Load(), g.now()
	key := c.Caller.User
	have, err := g.labelsOf(ctx, rules, key, false)
	if err != nil {
		return err
	}
	var add []SessionLabel
	for _, l := range labels {
		old := true
		for _, h := range have {
			if h.Label == l && now.Sub(h.At) < rules.Memory/4 {
				old = false
			}
		}
		if old {
			add = append(add, SessionLabel{Label: l, Source: toolscan.Visible(c.Server+"/"+c.Params.Name+c.Params.URI, 200), At: now})
		}
	}
	if len(add) == 0 {
		return nil
	}
	if err := g.sessions.LabelSession(context.WithoutCancel(ctx), key, add); err != nil {
		return err
	}
	g.changed(key)
	return nil
}

// changed forgets what is remembered of a session, also what somebody is just
// reading from before the change.
func (g *PolicyGuard) changed(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noted++
	delete(g.recent, key)
}

// Session lists what a user's session has read, for the page that shows it.
func (g *PolicyGuard) Session(ctx context.Context, user string) ([]SessionLabel, error) {
	rules := g.rules.Load()
	return g.labelsOf(ctx, rules, user, true)
}

// Forget begins a session anew, because its user says that the agent's memory
// was emptied. Nothing that an agent can reach does this.
func (g *PolicyGuard) Forget(ctx context.Context, user string) error {
	defer g.changed(user)
	return g.sessions.ForgetSession(ctx, user)
}

// sessionsHere is a SessionStore for a single process.
type sessionsHere struct {
	mu  sync.Mutex
	all map[string]map[string]SessionLabel
}

// SessionLabels implements SessionStore.
func (s *sessionsHere) SessionLabels(_ context.Context, session string, since time.Time) (out []SessionLabel, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all[session] {
		if !l.At.Before(since) {
			out = append(out, l)
		}
	}
	return out, nil
}

// LabelSession implements SessionStore.
func (s *sessionsHere) LabelSession(_ context.Context, session string, labels []SessionLabel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[session] == nil {
		s.all[session] = map[string]SessionLabel{}
	}
	for _, l := range labels {
		if l.At.After(s.all[session][l.Label].At) {
			s.all[session][l.Label] = l
		}
	}
	return nil
}

// ForgetSession implements SessionStore.
func (s *sessionsHere) ForgetSession(_ context.Context, session string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, session)
	return nil
}
