package limit

import "time"

// Several processes that serve the same callers tell each other what they gave.
// Each decides alone, at once and in memory, and charges what the others gave as
// soon as it hears of it. So n processes that hear of each other every d allow, in
// any span t, at most n bursts and the limit's rate times t + d; a caller that one
// process serves gets what the limit says.

// Taken is what a process gave of one limit to one key.
type Taken struct {
	Limit string
	Key   string
	Cost  int
}

type takenKey struct{ limit, key string }

// maxTaken bounds what is remembered between two calls of Taken; the rest is not
// told to others.
const maxTaken = 20_000

// Taken returns what was given since the last call. The first call begins the
// counting.
func (m *Memory) Taken() []Taken {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Taken
	for k, n := range m.taken {
		out = append(out, Taken{k.limit, k.key, n})
	}
	m.taken = map[takenKey]int{}
	return out
}

// note remembers what was given. The caller holds mu.
func (m *Memory) note(asks []Ask) {
	for _, a := range asks {
		k := takenKey{a.Limit.Name, a.Key}
		if n, known := m.taken[k]; a.Cost > 0 && (known || len(m.taken) < maxTaken) {
			m.taken[k] = n + a.Cost
		}
	}
}

// Charge takes what another process gave. A key is charged to the end of its burst
// at most: what went beyond it is the price of deciding alone.
func (m *Memory) Charge(l Limits, taken []Taken) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	known := map[string]*Limit{}
	for _, p := range l.All() {
		known[p.Name] = p
	}
	for _, t := range taken {
		p := known[t.Limit]
		if p == nil || t.Cost < 1 {
			continue
		}
		a := Ask{Limit: *p, Key: t.Key}
		tat := m.state(a)
		if tat.Before(now) {
			tat = now
		}
		span := p.interval() * time.Duration(p.Burst)
		tat = tat.Add(p.interval() * time.Duration(min(t.Cost, p.Burst)))
		if latest := now.Add(span); tat.After(latest) {
			tat = latest
		}
		m.put(a, tat, now)
	}
}
