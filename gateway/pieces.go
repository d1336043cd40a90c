package gateway

import (
	"sync"
	"time"
)

// pieces is memory for answers that are longer than a room. An answer grows by
// pieces, which serve the next one at once when it was too long, cut or given up: it
// costs neither copies nor a collection, as memory that grows by doubling would. Some
// stay for a while when nobody needs them.
type pieces struct {
	mu    sync.Mutex
	free  []*piece    // the one used last at the end; guarded by mu
	out   int         // in use; guarded by mu
	least int         // fewest that were free since the last sweep; guarded by mu
	sweep *time.Timer // runs while some are free; guarded by mu
	over  bool        // nothing is kept any more; guarded by mu
}

const (
	pieceSize = 64 << 10
	// piecesFree are kept, and piecesRest is after what time those go that nobody
	// took, once or twice.
	piecesFree = 272
	piecesRest = 5 * time.Second
)

type piece [pieceSize]byte

func (p *pieces) take() *piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out++
	n := len(p.free) - 1
	if n < 0 {
		return new(piece)
	}
	last := p.free[n]
	p.free[n] = nil
	p.free, p.least = p.free[:n], min(p.least, n)
	return last
}

// give takes pieces back that nobody holds.
func (p *pieces) give(some []*piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out -= len(some)
	if p.over {
		return
	}
	p.free = append(p.free, some[:min(len(some), piecesFree-len(p.free))]...)
	if p.sweep == nil && len(p.free) > 0 {
		p.least = len(p.free)
		p.sweep = time.AfterFunc(piecesRest, p.shrink)
	}
}

// shrink drops the pieces that nobody took since the last time.
func (p *pieces) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.free = append(p.free[:0:0], p.free[p.least:]...)
	if p.least = len(p.free); p.least == 0 {
		p.sweep = nil
		return
	}
	p.sweep.Reset(piecesRest)
}

func (p *pieces) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.free = true, nil
	if p.sweep != nil {
		p.sweep.Stop()
	}
}

// pile is bytes in pieces. Its owner calls rest at the end.
type pile struct {
	from *pieces
	all  []*piece
	n    int // bytes
}

// size is the memory that is held.
func (p *pile) size() int { return len(p.all) * pieceSize }

// space is where the next bytes go, at least one; n counts them when they are there.
func (p *pile) space() []byte {
	if p.n == p.size() {
		p.all = append(p.all, p.from.take())
	}
	return p.all[len(p.all)-1][p.n%pieceSize:]
}

// add copies bytes to the end.
func (p *pile) add(b []byte) {
	for len(b) > 0 {
		n := copy(p.space(), b)
		p.n, b = p.n+n, b[n:]
	}
}

// appendTo copies all bytes to a slice, which has the room, and gives the pieces back.
func (p *pile) appendTo(b []byte) []byte {
	for i, one := range p.all {
		b = append(b, one[:min(pieceSize, p.n-i*pieceSize)]...)
	}
	p.rest()
	return b
}

// rest gives the pieces back.
func (p *pile) rest() {
	if len(p.all) > 0 {
		p.from.give(p.all)
	}
	p.all, p.n = nil, 0
}
