package gateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// hoard bounds what answers of servers take in memory while they are read whole:
// one message may have 16 MiB, but not thousands of them at once, and no server
// may use up what the others need (G-PX3). Small messages are not counted.
type hoard struct {
	mu     sync.Mutex
	all    int64
	pieces pieces
}

const (
	hoardFree   = 256 << 10 // of a message that is not counted
	hoardStep   = 256 << 10
	hoardServer = 40 << 20  // of one server
	hoardAll    = 160 << 20 // of all
)

var (
	errCrowded = errors.New("too many large answers are read at once")
	errTooLong = errors.New("the answer is longer than the bound")
)

// hoarder reads a server's answer and counts what is held of it. Its owner calls
// rest when that is no longer held.
type hoarder struct {
	r     io.Reader
	s     *server
	since int64 // read of the event under way
	taken int64
}

// hoarder reads for a user, at the server's pace.
func (s *server) hoarder(ctx context.Context, user string, r io.Reader) *hoarder {
	return &hoarder{r: s.paced(ctx, user, r), s: s}
}

// Read reads a stream, an event of which is held until rest. It fails with
// errCrowded when there is no room for more.
func (h *hoarder) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if h.since += int64(n); h.since > hoardFree {
		if full := h.hold(2 * h.since); full != nil { // a line grows by copying
			return n, full
		}
	}
	return n, err
}

// hold counts n bytes, and no longer what was counted before. When there is no room
// for more it fails with errCrowded and counts what it did.
func (h *hoarder) hold(n int64) error {
	if n <= hoardFree {
		n = 0
	}
	n = (n + hoardStep - 1) / hoardStep * hoardStep
	if n != h.taken && !h.s.take(n-h.taken) {
		return kidoban.Wrap(kidoban.KindLimit, errCrowded, "The server sends too much at once.")
	}
	h.taken = n
	return nil
}

// rest gives back what was counted.
func (h *hoarder) rest() {
	h.since = 0
	_ = h.hold(0) // less always fits
}

// take counts n bytes, which may be negative, if there is room for them.
func (s *server) take(n int64) bool {
	all := s.hoard
	all.mu.Lock()
	defer all.mu.Unlock()
	if n > 0 && (s.held+n > hoardServer || all.all+n > hoardAll) {
		return false
	}
	s.held += n
	all.all += n
	return true
}

// firstRoom is what is read of an answer before it is known to be a long one, and
// held of it at once, whatever the server announces.
const firstRoom = 64 << 10

// whole reads an answer to its end; longer than max is errTooLong. announced is its
// length if the server told it, else negative. The text is in a room of the server's.
func (h *hoarder) whole(max int, announced int64) ([]byte, error) {
	if announced > int64(max) {
		return nil, errTooLong
	}
	text, end, err := readRoom(h.s.rooms, h.r, min(max, firstRoom)+1, announced)
	switch {
	case err != nil:
	case len(text) > max:
		err = errTooLong
	case !end:
		text, err = h.pile(text, max)
	}
	if err != nil {
		h.s.rooms.Give(text)
		return nil, err
	}
	return text, nil
}

// kept is whole for a text that is kept, at its own length.
func (h *hoarder) kept(max int, announced int64) ([]byte, error) {
	text, err := h.whole(max, announced)
	if err != nil || cap(text) > wire.RoomMost {
		return text, err
	}
	defer h.s.rooms.Give(text)
	return slices.Clone(text), nil
}

// pile reads the rest of an answer in pieces, and joins them with its beginning when
// all is there. On an error it returns the beginning.
func (h *hoarder) pile(text []byte, max int) ([]byte, error) {
	rest := pile{from: &h.s.hoard.pieces}
	defer rest.rest()
	for end := false; !end; {
		if rest.n == rest.size() {
			if err := h.hold(int64(cap(text) + rest.size() + pieceSize)); err != nil {
				return text, err
			}
		}
		n, err := h.r.Read(rest.space())
		rest.n += n
		switch end = err == io.EOF; {
		case len(text)+rest.n > max:
			return text, errTooLong
		case err != nil && !end:
			return text, err
		}
	}
	all := len(text) + rest.n
	if err := h.hold(int64(cap(text) + rest.size() + all)); err != nil {
		return text, err
	}
	joined := rest.appendTo(h.s.rooms.Enlarge(text, all))
	_ = h.hold(int64(cap(joined))) // less always fits
	return joined, nil
}

// readRoom reads into a room, to the end or until more than so many bytes are there.
// The room grows with what comes; of what is announced it has most at once.
func readRoom(rooms *wire.Rooms, r io.Reader, most int, announced int64) (text []byte, end bool, err error) {
	text = rooms.Take(int(min(max(announced, 511), int64(most))) + 1) // and where the end shows
	for {
		if len(text) >= most {
			return text, false, nil
		}
		if len(text) == cap(text) {
			text = rooms.Enlarge(text, min(2*len(text), most))
		}
		n, err := r.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if err == io.EOF {
			return text, true, nil
		} else if err != nil {
			return text, false, err
		}
	}
}
