package authserver

import (
	"sync"
	"time"
)

// neighbours remembers the networks from which people gave consent lately. When
// strangers have used up what everybody may register in an hour, clients of these
// networks still can: a flood from ten thousand addresses shuts out nobody who is
// known here (G-RG5). It is this replica's memory only; losing it loses a
// privilege under attack, nothing else.
type neighbours struct {
	mu   sync.Mutex
	seen map[string]time.Time // by limit.PrefixKey
}

const (
	maxNeighbours = 10_000
	neighbourLife = 30 * 24 * time.Hour
)

// add notes a consent from a network. When there is no room the oldest goes.
func (n *neighbours) add(prefix string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]time.Time{}
	}
	if _, ok := n.seen[prefix]; !ok && len(n.seen) >= maxNeighbours {
		oldest := ""
		for p, at := range n.seen {
			if oldest == "" || at.Before(n.seen[oldest]) {
				oldest = p
			}
		}
		delete(n.seen, oldest)
	}
	n.seen[prefix] = now
}

func (n *neighbours) has(prefix string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.seen[prefix]
	return ok && now.Sub(at) < neighbourLife
}
