package limit

import (
	"container/heap"
	"sync"
	"time"
)

// DefaultMaxKeys is what one limit remembers, in keys; about 100 bytes each.
const DefaultMaxKeys = 100_000

// Memory keeps the states of the keys of any number of limits. Each limit has
// room for its own keys, so a flood against one never makes another forget.
// When a limit's room is full, the key that recovers first goes: a key that has
// fully recovered says nothing anyway; if none has, the least burdened is
// forgiven, and the limits by prefix and the global ones hold the flood.
// Safe for concurrent use.
type Memory struct {
	now func() time.Time
	max int

	mu    sync.Mutex
	rooms map[string]*room
	taken map[takenKey]int // since the last Taken; nil when nobody asks
}

// room is the states of one limit: a map for finding, a heap by state for
// forgetting.
type room struct {
	keys map[string]*entry
	heap entries
}

type entry struct {
	key   string
	tat   time.Time
	index int
}

// NewMemory returns an empty Memory with room for maxKeys keys per limit
// (below 1: DefaultMaxKeys). now must not be nil.
func NewMemory(maxKeys int, now func() time.Time) *Memory {
	if maxKeys < 1 {
		maxKeys = DefaultMaxKeys
	}
	return &Memory{now: now, max: maxKeys, rooms: make(map[string]*room)}
}

// Ask is one question: may key take Cost tokens of Limit?
type Ask struct {
	Limit Limit
	Key   string // "" for a global limit
	Cost  int
}

// Allow asks all questions as one: either every limit gives, or none is
// charged. It returns the first denial, or the allowance with the least tokens
// left. Without questions everything is allowed.
func (m *Memory) Allow(asks ...Ask) Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	best := Decision{Allowed: true, Remaining: int(^uint(0) >> 1)}
	for i, a := range asks {
		d, next := Decide(a.Limit, m.state(a), now, a.Cost)
		// Kept after a denial too: what Decide pulled in when the clock went back
		// would else be as far ahead the next time, until the clock catches up.
		m.put(a, next, now)
		if !d.Allowed {
			for _, b := range asks[:i] { // give back what the earlier ones took
				m.giveBack(b, now)
			}
			return d
		}
		if d.Remaining <= best.Remaining {
			best = d
		}
	}
	if m.taken != nil {
		m.note(asks)
	}
	return best
}

// Would answers as Allow would and charges nothing. As in Allow, what a denial
// pulled in after the clock went back is kept, or it would deny for as long as the
// leap.
func (m *Memory) Would(asks ...Ask) Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	best := Decision{Allowed: true, Remaining: int(^uint(0) >> 1)}
	for _, a := range asks {
		d, next := Decide(a.Limit, m.state(a), now, a.Cost)
		if !d.Allowed {
			m.put(a, next, now)
			return d
		}
		if d.Remaining <= best.Remaining {
			best = d
		}
	}
	return best
}

// state returns the state of a's key. The caller holds mu.
func (m *Memory) state(a Ask) time.Time {
	if r := m.rooms[a.Limit.Name]; r != nil {
		if e := r.keys[a.Key]; e != nil {
			return e.tat
		}
	}
	return time.Time{}
}

func (m *Memory) giveBack(a Ask, now time.Time) {
	m.put(a, m.state(a).Add(-a.Limit.interval()*time.Duration(max(a.Cost, 0))), now)
}

// put stores a state; a recovered key needs none. The caller holds mu.
func (m *Memory) put(a Ask, tat, now time.Time) {
	r := m.rooms[a.Limit.Name]
	if r == nil {
		r = &room{keys: make(map[string]*entry)}
		m.rooms[a.Limit.Name] = r
	}
	e := r.keys[a.Key]
	switch {
	case e != nil && !tat.After(now):
		heap.Remove(&r.heap, e.index)
		delete(r.keys, a.Key)
	case e != nil:
		e.tat = tat
		heap.Fix(&r.heap, e.index)
	case tat.After(now):
		// Two recovered keys go for each new one, so that a room that was full
		// once empties again.
		for n := 0; n < 2 && len(r.heap) > 0 && (len(r.heap) >= m.max || !r.heap[0].tat.After(now)); n++ {
			gone := heap.Pop(&r.heap).(*entry)
			delete(r.keys, gone.key)
		}
		e = &entry{key: a.Key, tat: tat}
		r.keys[a.Key] = e
		heap.Push(&r.heap, e)
	}
}

// Len returns how many keys are remembered, over all limits.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, r := range m.rooms {
		n += len(r.heap)
	}
	return n
}

// entries is a heap with the earliest state on top.
type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].tat.Before(h[j].tat) }
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *entries) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
