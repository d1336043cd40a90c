package gateway

import (
	"bufio"
	"context"
	"errors"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/sandbox"
)

// stdioPipe carries messages as lines to and from a boxed process.
type stdioPipe struct {
	p   *sandbox.Process
	in  *bufio.Reader
	max int

	pieces *pieces // for lines that are long

	account []Header // what the process was given, to be kept out of what it prints

	mu   sync.Mutex // one line at a time
	stop sync.Once
}

func openStdio(ctx context.Context, h *sandbox.Host, s sandbox.Spec, max int, pieces *pieces) (*stdioPipe, error) {
	if h == nil {
		return nil, kidoban.Errorf(kidoban.KindUsage, "This gateway runs no stdio servers.")
	}
	p, err := h.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	return &stdioPipe{p: p, in: bufio.NewReaderSize(p.Stdout, 32<<10), max: max, pieces: pieces}, nil
}

// send writes one line. JSON text holds no raw line break, so a message cannot
// become two. A server that does not read blocks the pipe: ctx gives up on it.
func (s *stdioPipe) send(ctx context.Context, msg []byte) error {
	line := append(msg[:len(msg):len(msg)], '\n')
	for i := range line[:len(line)-1] { // white space between tokens only
		if line[i] == '\n' || line[i] == '\r' {
			line[i] = ' '
		}
	}
	written := make(chan error, 1)
	go func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, err := s.p.Stdin.Write(line)
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		s.close() // half a line may stand in the pipe: nothing after it can be understood
		return context.Cause(ctx)
	}
}

var errLineTooLong = errors.New("the server printed a line longer than the bound")

func (s *stdioPipe) recv() ([]byte, error) {
	line := pile{from: s.pieces}
	defer line.rest()
	for {
		part, err := s.in.ReadSlice('\n')
		if line.n+len(part) > s.max {
			return nil, errLineTooLong
		}
		if err == nil {
			whole := line.appendTo(make([]byte, 0, line.n+len(part)))
			return withoutSecrets(append(whole, part...), s.account), nil
		}
		line.add(part)
		if !errors.Is(err, bufio.ErrBufferFull) {
			if perr := s.p.Err(); perr != nil {
				return nil, perr
			}
			return nil, err
		}
	}
}

// close ends the process; it does not wait.
func (s *stdioPipe) close() { s.stop.Do(func() { go s.p.Close() }) }
