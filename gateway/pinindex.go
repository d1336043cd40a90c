package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

// pinIndex is what a replica has in memory of one server's pins: every call is
// checked against it, without a look into the database.
type pinIndex struct {
	reading  sync.Mutex // one reader at a time
	deciding sync.Mutex // one decision at a time

	mu    sync.Mutex
	state map[pinKey]PinState
	known map[pinName]bool   // names that have an approved or rejected version
	last  map[pinName]string // hash of the version last listed
	kinds map[toolscan.Kind]bool
	open  map[toolscan.Kind]time.Time // until when more pages of a first list are awaited
	held  int
	at    time.Time // of the last reading
}

type pinKey struct {
	kind      toolscan.Kind
	name, sum string
}

type pinName struct {
	kind toolscan.Kind
	name string
}

const (
	maxPinned = 256 << 10 // bytes of a definition; longer ones are held for good
	maxHeld   = 1000      // held definitions kept per server
	maxPins   = 50_000    // definitions kept per server, whatever was decided; more are held for good
	pinFresh  = 2 * time.Second
	pinStale  = 30 * time.Second
	firstList = time.Minute // for all pages of a first list
)

// index returns the server's pins, at most two seconds old.
func (p *PinGuard) index(ctx context.Context, server string) (*pinIndex, error) {
	p.mu.Lock()
	x := p.servers[server]
	if x == nil {
		x = &pinIndex{}
		p.servers[server] = x
	}
	p.mu.Unlock()
	if age := x.age(p.now()); age < pinFresh {
		return x, nil
	} else if age < pinStale && !x.reading.TryLock() {
		return x, nil // somebody reads
	} else if age >= pinStale {
		x.reading.Lock()
	}
	defer x.reading.Unlock()
	if x.age(p.now()) < pinFresh {
		return x, nil
	}
	pins, err := p.store.Pins(ctx, server, false)
	if err != nil {
		if x.age(p.now()) < pinStale {
			return x, nil
		}
		return nil, err
	}
	x.load(pins, p.now())
	return x, nil
}

func (x *pinIndex) age(now time.Time) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at.IsZero() {
		return time.Hour
	}
	return now.Sub(x.at)
}

// forget makes the next use read the store again.
func (x *pinIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at = time.Time{}
}

func (x *pinIndex) load(pins []Pin, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last == nil {
		x.last, x.open = map[pinName]string{}, map[toolscan.Kind]time.Time{}
	}
	x.state, x.known, x.kinds, x.held, x.at = map[pinKey]PinState{}, map[pinName]bool{}, map[toolscan.Kind]bool{}, 0, now
	for _, pin := range pins {
		x.take(pinKey{pin.Kind, pin.Name, pin.SHA256}, pin.State)
	}
}

// take notes a pin. The caller holds mu.
func (x *pinIndex) take(k pinKey, s PinState) {
	x.state[k] = s
	x.kinds[k.kind] = true
	if s == PinHeld {
		x.held++
	} else {
		x.known[pinName{k.kind, k.name}] = true
	}
}

// saw notes which version was listed last. The caller holds mu.
func (x *pinIndex) saw(k pinKey) {
	n := pinName{k.kind, k.name}
	if _, have := x.last[n]; have || len(x.last) < 4*maxTools {
		x.last[n] = k.sum
	}
}

// room tells whether one more definition may be kept. The caller holds mu.
func (x *pinIndex) room() bool { return x.held < maxHeld && len(x.state) < maxPins }

// look says which versions are approved, which were never seen, and whether this
// is the first list of its kind: there are no pins yet, or more pages of it are
// awaited.
func (x *pinIndex) look(kind toolscan.Kind, keys []pinKey, next string, now time.Time) (pass []bool, fresh []int, first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	pass = make([]bool, len(keys))
	for i, k := range keys {
		state, have := x.state[k]
		x.saw(k)
		pass[i] = state == PinApproved
		if !have {
			fresh = append(fresh, i)
		}
	}
	first = !x.kinds[kind] || now.Before(x.open[kind])
	if len(fresh) == 0 && next == "" {
		delete(x.open, kind)
	}
	return pass, fresh, first
}

// page notes that a page of a first list was taken in.
func (x *pinIndex) page(kind toolscan.Kind, first bool, next string, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case next == "":
		delete(x.open, kind)
	case first && x.open[kind].IsZero():
		x.open[kind] = now.Add(firstList)
	}
}
