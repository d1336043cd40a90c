package mcp

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// sseStream is the open GET of the old HTTP+SSE transport. One goroutine reads
// it; close ends that goroutine and waits for it.
type sseStream struct {
	endpoint string // where to POST, known after ready
	cancel   context.CancelFunc
	ready    chan struct{} // closed when the endpoint event came
	done     chan struct{} // closed when the exchange has ended; exchange and err are then set
	exchange *kidoban.Exchange
	err      error

	mu      sync.Mutex
	waiting map[string]chan wire.Message // by raw id text
}

// connectSSE opens the stream, waits for its endpoint event, and initializes.
func (c *Client) connectSSE(ctx context.Context, h *Hello) error {
	s := c.openStream(ctx)
	patience, stop := context.WithTimeout(ctx, c.endpointTime())
	defer stop()
	select {
	case <-s.ready:
	case <-s.done:
	case <-patience.Done():
	}
	select {
	case <-s.ready:
	default:
		s.close()
		return c.noStream(h, s)
	}
	h.Transport = HTTPSSE
	c.mu.Lock()
	c.transport, c.stream = HTTPSSE, s
	c.mu.Unlock()
	h.Steps = append(h.Steps, Step{Name: "sse", Reply: &Reply{Outcome: Accepted, Streamed: true}})
	r, err := c.step(ctx, h, "initialize "+wire.Rev20241105, c.initializeCall(wire.Rev20241105))
	if err == nil && r.Outcome == Answered {
		return c.finishInitialize(ctx, h, r, wire.Rev20241105)
	}
	c.Close(ctx)
	return nil
}

// endpointTime is how long a server may take to name its endpoint. A stream
// that stays open without one is no HTTP+SSE transport.
func (c *Client) endpointTime() time.Duration {
	if c.o.Timeout > 0 {
		return c.o.Timeout
	}
	return 10 * time.Second
}

// noStream notes why there is no event stream.
func (c *Client) noStream(h *Hello, s *sseStream) error {
	r := &Reply{Exchange: s.exchange, notification: true}
	if s.exchange == nil || s.exchange.Response == nil {
		h.Steps = append(h.Steps, Step{"sse", r, s.err})
		return nil // the server answered earlier steps: what is known stands
	}
	r.read()
	if r.Outcome == Accepted {
		r.Outcome = NotMCP // a stream without an endpoint event
	}
	if r.Refusal != nil {
		r.Refusal.Step = "sse"
		h.Refusal = r.Refusal
	}
	h.Limited = r.Outcome == RateLimited
	h.Steps = append(h.Steps, Step{"sse", r, nil})
	return nil
}

// openStream starts the GET. The stream outlives the call that opened it, so
// its context is detached from the caller's deadline; close ends it.
func (c *Client) openStream(ctx context.Context) *sseStream {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &sseStream{cancel: cancel, ready: make(chan struct{}), done: make(chan struct{}), waiting: map[string]chan wire.Message{}}
	req := outbound.Req{
		Method: "GET", URL: c.o.URL, Jar: c.o.Jar, Probe: c.o.Probe, Note: "sse",
		MaxBody: c.o.MaxBody, Timeout: c.o.StreamTime,
		Header: c.header(Call{HTTPMethod: "GET"}, state{}, nil),
	}
	parser := wire.NewEventParser(int(c.o.MaxBody))
	opened := false
	req.Stream = func(chunk []byte) bool {
		err := parser.Feed(chunk, func(ev wire.Event) bool {
			switch {
			case ev.Type == "endpoint" && !opened:
				if opened = s.setEndpoint(c.o.URL, string(ev.Data)); opened {
					close(s.ready)
				}
				return opened
			case opened:
				s.deliver(ev.Data)
			}
			return true
		})
		return err == nil && ctx.Err() == nil
	}
	go func() {
		defer close(s.done)
		s.exchange, s.err = c.do.Do(ctx, req)
	}()
	return s
}

// setEndpoint accepts an endpoint of the same origin only: another one would
// send the caller's token elsewhere.
func (s *sseStream) setEndpoint(base, endpoint string) bool {
	b, err := url.Parse(base)
	if err != nil {
		return false
	}
	u, err := b.Parse(endpoint)
	if err != nil || u.Scheme != b.Scheme || u.Host != b.Host || u.User != nil {
		return false
	}
	s.endpoint = u.String()
	return true
}

// expect announces that a reply with this id will come; done takes it back.
func (s *sseStream) expect(id wire.ID) (reply <-chan wire.Message, done func()) {
	ch := make(chan wire.Message, 1)
	key := string(id.Raw)
	s.mu.Lock()
	s.waiting[key] = ch
	s.mu.Unlock()
	return ch, func() {
		s.mu.Lock()
		delete(s.waiting, key)
		s.mu.Unlock()
	}
}

// deliver gives a message to who waits for it; others are dropped.
func (s *sseStream) deliver(data []byte) {
	l, ok := wire.ReadLenient(data, readable)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range l.Messages {
		if ch := s.waiting[string(m.ID.Raw)]; ch != nil && (m.Kind == wire.Result || m.Kind == wire.ErrorReply) {
			select {
			case ch <- m:
			default: // a second reply to one request
			}
		}
	}
}

// wait waits for an announced reply until the stream or ctx ends.
func (s *sseStream) wait(ctx context.Context, reply <-chan wire.Message) (wire.Message, bool) {
	select {
	case m := <-reply:
		return m, true
	case <-s.done:
	case <-ctx.Done():
	}
	select { // the reply may have come with the stream's last bytes
	case m := <-reply:
		return m, true
	default:
		return wire.Message{}, false
	}
}

func (s *sseStream) close() {
	s.cancel()
	<-s.done
}
