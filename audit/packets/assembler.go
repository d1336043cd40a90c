package packets

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Stream takes one direction of a connection.
type Stream interface {
	// Bytes are the next ones, good until it returns; lost says that some are missing
	// before them, and they may be none then.
	Bytes(b []byte, at time.Time, lost bool)
	// End is called once, after the last byte.
	End()
}

// Assembler puts segments in order. Not for concurrent use.
type Assembler struct {
	open  func(Flow) Stream
	flows map[Flow]*flow
	born  int
	held  int // bytes, of all flows

	ended map[Flow]bool // lately: what is sent again of them is nothing new
	ring  []Flow        // the same, in order
	at    int
}

// What waits for missing segments, in bytes with heldExtra for each segment. Beyond
// that the gap is given up.
const (
	heldFlow  = 2 << 20
	heldAll   = 32 << 20
	heldExtra = 128
	// endedFlows are remembered.
	endedFlows = 8192
)

// flow is one direction while it lasts.
type flow struct {
	Stream
	of    Flow
	born  int
	first uint32 // after SYN
	next  uint32 // the byte that is due
	known bool   // first and next are
	held  []heldSegment
	size  int
}

type heldSegment struct {
	seq  uint32
	data []byte
	at   time.Time
	end  bool
}

// NewAssembler returns one that calls open for each direction of each connection.
func NewAssembler(open func(Flow) Stream) *Assembler {
	return &Assembler{open: open, flows: map[Flow]*flow{}, ended: map[Flow]bool{}}
}

// Add takes the next segment of a capture. Its data is not kept.
func (a *Assembler) Add(s Segment) {
	if s.SYN {
		a.begin(s)
		s.Seq++
	}
	end := s.FIN || s.RST
	if len(s.Data) == 0 && !end {
		return
	}
	f := a.flows[s.Flow]
	if f == nil {
		if len(s.Data) == 0 || a.ended[s.Flow] {
			return
		}
		f = a.add(s.Flow) // the capture began in the middle
	}
	if f.known && int32(s.Seq-f.next) <= 0 {
		if f.take(s.Seq, s.Data, s.At, end, false) {
			a.end(f)
			return
		}
	} else if !a.hold(f, s, end) {
		return
	}
	a.drain(f)
}

// begin opens a direction at its SYN, and ends what had the same ports before.
func (a *Assembler) begin(s Segment) {
	f := a.flows[s.Flow]
	if f != nil && f.known && f.first == s.Seq+1 {
		return // sent again
	}
	if f != nil && !f.known && f.held[0].seq-(s.Seq+1) < heldFlow { // saved after what it begins
		f.first, f.next, f.known = s.Seq+1, s.Seq+1, true
		a.drain(f)
		return
	}
	if f != nil {
		a.flush(f)
	}
	if back := a.flows[s.Flow.Reverse()]; back != nil && !s.ACK {
		a.flush(back)
	}
	delete(a.ended, s.Flow)
	f = a.add(s.Flow)
	f.first, f.next, f.known = s.Seq+1, s.Seq+1, true
}

func (a *Assembler) add(of Flow) *flow {
	a.born++
	f := &flow{Stream: a.open(of), of: of, born: a.born}
	a.flows[of] = f
	return f
}

// take hands on what is new of a segment that does not begin after the byte that is
// due; ended says that this was all.
func (f *flow) take(seq uint32, data []byte, at time.Time, end, lost bool) (ended bool) {
	old := int(f.next - seq)
	if old > len(data) {
		return false
	}
	if data = data[old:]; len(data) > 0 || lost {
		f.next += uint32(len(data))
		f.Bytes(data, at, lost)
	}
	return end
}

// hold keeps a segment until those before it are there; false says that it is there
// already.
func (a *Assembler) hold(f *flow, s Segment, end bool) bool {
	i, same := slices.BinarySearchFunc(f.held, s.Seq, func(h heldSegment, seq uint32) int { return cmp.Compare(int32(h.seq-seq), 0) })
	for ; same && i < len(f.held) && f.held[i].seq == s.Seq; i++ {
		if len(f.held[i].data) >= len(s.Data) && (f.held[i].end || !end) {
			return false
		}
	}
	f.held = slices.Insert(f.held, i, heldSegment{s.Seq, bytes.Clone(s.Data), s.At, end})
	f.size += len(s.Data) + heldExtra
	a.held += len(s.Data) + heldExtra
	return true
}

// drain hands on what is in order by now, and gives up gaps when too much waits.
func (a *Assembler) drain(f *flow) {
	for len(f.held) > 0 {
		lost := false
		if h := f.held[0]; !f.known || int32(h.seq-f.next) > 0 {
			if f.size <= heldFlow && a.held <= heldAll {
				return
			}
			lost = f.skip()
		}
		if a.pop(f, lost) {
			a.end(f)
			return
		}
	}
}

// skip goes on with the first segment that is held; lost says that something is
// missing before it, and not only the beginning of the capture.
func (f *flow) skip() (lost bool) {
	lost, f.next = f.known, f.held[0].seq
	if !f.known {
		f.first, f.known = f.next, true
	}
	return lost
}

// pop hands on the first segment that is held.
func (a *Assembler) pop(f *flow, lost bool) (ended bool) {
	h := f.held[0]
	f.held[0].data = nil
	f.held = f.held[1:]
	f.size -= len(h.data) + heldExtra
	a.held -= len(h.data) + heldExtra
	return f.take(h.seq, h.data, h.at, h.end, lost)
}

// flush hands on all that is held of a direction and ends it.
func (a *Assembler) flush(f *flow) {
	for len(f.held) > 0 {
		lost := false
		if !f.known || int32(f.held[0].seq-f.next) > 0 {
			lost = f.skip()
		}
		if a.pop(f, lost) {
			break
		}
	}
	a.end(f)
}

// end forgets a direction.
func (a *Assembler) end(f *flow) {
	a.held -= f.size
	f.held, f.size = nil, 0
	delete(a.flows, f.of)
	f.End()
	if len(a.ring) < endedFlows {
		a.ring = append(a.ring, f.of)
	} else {
		delete(a.ended, a.ring[a.at])
		a.ring[a.at] = f.of
		a.at = (a.at + 1) % endedFlows
	}
	a.ended[f.of] = true
}

// End hands on what is left, in the order in which the directions began.
func (a *Assembler) End() {
	left := make([]*flow, 0, len(a.flows))
	for _, f := range a.flows {
		left = append(left, f)
	}
	slices.SortFunc(left, func(x, y *flow) int { return cmp.Compare(x.born, y.born) })
	for _, f := range left {
		a.flush(f)
	}
}
