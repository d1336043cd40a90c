package gateway

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/kidoban/kidoban"
)

// hoard bounds what answers of servers take in memory while they are read whole:
// one message may have 16 MiB, but not thousands of them at once, and no server
// may use up what the others need (G-PX3). Small messages are not counted.
type hoard struct {
	mu  sync.Mutex
	all int64
}

const (
	hoardFree   = 256 << 10 // of a message that is not counted
	hoardStep   = 256 << 10
	hoardServer = 40 << 20  // of one server
	hoardAll    = 160 << 20 // of all
)

var errCrowded = errors.New("too many large answers are read at once")

// hoarder reads a server's answer and counts what is held of it. Its owner calls
// rest when that is no longer held.
type hoarder struct {
	r     io.Reader
	s     *server
	since int64 // read since rest
	taken int64
}

// hoarder reads for a user, at the server's pace.
func (s *server) hoarder(ctx context.Context, user string, r io.Reader) *hoarder {
	return &hoarder{r: s.paced(ctx, user, r), s: s}
}

// Read fails with errCrowded when there is no room for more.
func (h *hoarder) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if h.since += int64(n); h.since <= hoardFree {
		return n, err
	}
	for need := 2 * h.since; h.taken < need; h.taken += hoardStep { // a buffer grows by copying
		if !h.s.take(hoardStep) {
			return n, kidoban.Wrap(kidoban.KindLimit, errCrowded, "The server sends too much at once.")
		}
	}
	return n, err
}

// rest gives back what was counted.
func (h *hoarder) rest() {
	if h.taken > 0 {
		h.s.take(-h.taken)
	}
	h.since, h.taken = 0, 0
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
