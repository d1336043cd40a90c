package wire

import (
	"slices"
	"sync"
)

// Rooms is memory for messages, pooled by size: what is short never holds the room
// of something long, and what grows moves from room to room without leaving garbage
// behind. Its zero value is ready. It is safe for concurrent use.
type Rooms struct {
	pools [roomSizes]sync.Pool // of *[]byte
}

// Each size is twice the one before, and a quarter more than a power of two: data
// often has such a length, and an envelope stands around it.
const (
	roomLeast = 5 << 8 // bytes
	roomSizes = 9
	// RoomMost is the largest room that is pooled, in bytes.
	RoomMost = roomLeast << (roomSizes - 1)
)

// Take returns an empty slice with room for n bytes at least. What is beyond
// RoomMost has that room exactly.
func (r *Rooms) Take(n int) []byte {
	for i := range r.pools {
		if size := roomLeast << i; n <= size {
			if room, _ := r.pools[i].Get().(*[]byte); room != nil {
				return *room
			}
			return make([]byte, 0, size)
		}
	}
	return make([]byte, 0, n)
}

// Give takes the memory of a slice back for others. Nobody may hold any of it.
func (r *Rooms) Give(room []byte) {
	if cap(room) > RoomMost {
		return
	}
	for i := roomSizes - 1; i >= 0; i-- {
		if cap(room) >= roomLeast<<i {
			room = room[:0]
			r.pools[i].Put(&room)
			return
		}
	}
}

// Enlarge moves what a room holds into one with room for n bytes at least, and takes
// the old one back.
func (r *Rooms) Enlarge(room []byte, n int) []byte {
	larger := append(r.Take(n), room...)
	r.Give(room)
	return larger
}

// lineRooms holds memory of events that are over.
var lineRooms Rooms

// text is bytes that come bit by bit, in a room that grows, and then in as many of
// the largest as it takes: what is given up half way has cost no copies. A short one
// has memory of its own.
type text struct {
	full [][]byte // come before last
	last []byte
	n    int // bytes of all
}

// ownText is up to when a text has memory of its own, in bytes.
const ownText = 1 << 10

func (t *text) add(b []byte) {
	t.n += len(b)
	for need := len(t.last) + len(b); need > cap(t.last); need = len(t.last) + len(b) {
		switch free := cap(t.last) - len(t.last); {
		case need < ownText:
			t.last = slices.Grow(t.last, len(b))
		case cap(t.last) < RoomMost:
			t.last = lineRooms.Enlarge(t.last, min(need, RoomMost))
		default:
			t.full = append(t.full, append(t.last, b[:free]...))
			t.last, b = lineRooms.Take(RoomMost), b[free:]
		}
	}
	t.last = append(t.last, b...)
}

// whole joins the text.
func (t *text) whole() []byte {
	if len(t.full) > 0 {
		all := make([]byte, 0, t.n)
		for _, part := range append(t.full, t.last) {
			all = append(all, part...)
			lineRooms.Give(part)
		}
		t.full, t.last = nil, all
	}
	return t.last
}

// drop gives the memory back and begins anew.
func (t *text) drop() {
	for _, part := range append(t.full, t.last) {
		lineRooms.Give(part)
	}
	*t = text{}
}
