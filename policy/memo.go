package policy

import (
	"encoding/binary"
	"slices"
	"sync"
)

// memo remembers verdicts. A set never changes, so a verdict depends on the query
// alone, and of the query's context on those members that some policy reads: the
// key holds exactly these. Where a policy reads the arguments or the moment, no two
// queries are alike, and nothing is remembered. New rules are a new set, with an
// empty memo.
type memo struct {
	off    bool
	client bool // which members of the context some policy reads
	scopes bool
	method bool
	era    bool
	from   bool // the address
	hour   bool
	day    bool

	mu   sync.RWMutex
	seen map[string]Verdict // guarded by mu
}

const (
	maxMemo    = 8192 // verdicts remembered
	maxMemoKey = 2048 // bytes of a query that is remembered
)

// read notes that a policy reads a member of the context. approved and session are
// part of every key; a member that is not known here switches the memo off.
func (m *memo) read(member string) {
	switch member {
	case "approved", "session":
	case "client":
		m.client = true
	case "scopes":
		m.scopes = true
	case "method":
		m.method = true
	case "era":
		m.era = true
	case "address":
		m.from = true
	case "hour":
		m.hour = true
	case "weekday":
		m.day = true
	default: // arguments, now
		m.off = true
	}
}

// key writes what the verdict depends on; false when it is not to be remembered.
// Each part goes with its length, so that no two queries have one key.
func (m *memo) key(k []byte, q *Query) ([]byte, bool) {
	if m.off {
		return k, false
	}
	text := func(s string) { k = append(binary.AppendUvarint(k, uint64(len(s))), s...) }
	list := func(l []string) {
		k = binary.AppendUvarint(k, uint64(len(l)))
		for _, s := range l {
			text(s)
		}
	}
	flag := func(b bool) {
		if b {
			k = append(k, 1)
		} else {
			k = append(k, 0)
		}
	}
	text(q.Principal.ID)
	text(q.Principal.Name)
	list(q.Principal.Groups)
	flag(q.Principal.Admin)
	text(string(q.Action))
	text(string(q.Object.Kind))
	text(q.Object.Server)
	text(q.Object.Name)
	text(q.Object.Class)
	list(q.Object.Labels)
	flag(q.Approved)
	list(q.Session)
	if m.client {
		text(q.Client)
	}
	if m.scopes {
		list(q.Scopes)
	}
	if m.method {
		text(q.Method)
	}
	if m.era {
		text(q.Era)
	}
	if m.from {
		text(q.Address.String())
	}
	if at := q.At.UTC(); m.hour || m.day {
		k = append(k, byte(at.Hour()), byte(at.Weekday()))
	}
	return k, len(k) <= maxMemoKey
}

// get returns the verdict of an earlier query of the same key.
func (m *memo) get(key []byte) (Verdict, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.seen[string(key)]
	return v, ok
}

// put remembers a verdict. What could not be decided is decided anew each time.
func (m *memo) put(key []byte, v Verdict) {
	if v.Err != nil {
		return
	}
	v.Policies = slices.Clip(v.Policies) // whoever appends gets a copy
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil || len(m.seen) >= maxMemo {
		m.seen = map[string]Verdict{}
	}
	m.seen[string(key)] = v
}
