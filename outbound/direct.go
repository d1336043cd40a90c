package outbound

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/kidoban/kidoban"
)

// Direct is a transport to one server over plain http, for many short requests:
// the goroutine that asks also writes and reads. http.Transport has two goroutines
// for each connection and hands every request over four times, which costs more
// than the rest of a small call.
//
// What one goroutine cannot do goes through http.Transport: https, requests
// without a length or with a body too long for the kernel's buffers, for a server
// may answer before it has read all of that, and every method but POST, so that a
// stream that stays open is watched. It is safe for concurrent use.
type Direct struct {
	usual *http.Transport
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	head  int64 // bytes of a response head
	made  func(net.Conn) net.Conn

	mu      sync.Mutex
	idle    []*directConn // the one used last at the end; guarded by mu
	most    int
	sweeper *time.Timer // runs while something is idle; guarded by mu
}

const (
	// directBody is the longest body that is written before the answer is read.
	directBody = 32 << 10
	directIdle = 90 * time.Second
	maxInterim = 5 // responses with a status below 200 before the real one
)

// NewDirect returns a transport with the guard and the bounds of Relay. plain says
// that the server's URL is http; otherwise it is Relay.
func NewDirect(plain bool, o RelayOptions) *Direct {
	t := Relay(plain, o)
	d := &Direct{usual: t, head: t.MaxResponseHeaderBytes, most: t.MaxIdleConnsPerHost}
	if plain && canPeek && o.HeaderTimeout == 0 {
		d.dial, d.made = t.DialContext, o.Dialed
	}
	return d
}

// CloseIdleConnections closes connections that nobody uses.
func (d *Direct) CloseIdleConnections() {
	d.usual.CloseIdleConnections()
	d.mu.Lock()
	idle := d.idle
	d.idle = nil
	if d.sweeper != nil {
		d.sweeper.Stop()
		d.sweeper = nil
	}
	d.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// Short tells whether a POST with a body of n bytes is written by RoundTrip itself:
// when that returns, nobody reads the body any more. http.Transport may read on until
// it closes the body.
func (d *Direct) Short(n int) bool { return d.dial != nil && n > 0 && n <= directBody }

// RoundTrip implements http.RoundTripper. The request's context ends the reading of
// the body, too.
func (d *Direct) RoundTrip(req *http.Request) (*http.Response, error) {
	short := req.Method == http.MethodPost && req.ContentLength <= directBody && d.Short(int(req.ContentLength)) && req.GetBody != nil
	if !short || req.URL.Scheme != "http" || req.URL.Host == "" {
		return d.usual.RoundTrip(req)
	}
	defer req.Body.Close()
	for name, values := range req.Header {
		for _, v := range values {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
				return nil, kidoban.Errorf(kidoban.KindInput, "a header field of the request cannot be sent")
			}
		}
	}
	port := req.URL.Port()
	if port == "" {
		port = "80"
	}
	for host := net.JoinHostPort(req.URL.Hostname(), port); ; {
		c, used, err := d.take(req.Context(), host)
		if err != nil {
			return nil, err
		}
		resp, err := c.ask(req, d)
		if err == nil {
			return resp, nil
		}
		if !used || !errors.Is(err, errUnsent) {
			return nil, err
		}
		// The server closed the connection while it was idle and has seen nothing.
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// take returns an idle connection that the server has left open, or a fresh one.
func (d *Direct) take(ctx context.Context, host string) (c *directConn, used bool, err error) {
	for {
		d.mu.Lock()
		n := len(d.idle)
		if n == 0 {
			d.mu.Unlock()
			break
		}
		c := d.idle[n-1]
		d.idle[n-1] = nil
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		if c.host == host && quiet(c.Conn) {
			return c, true, nil
		}
		c.Close()
	}
	conn, err := d.dial(ctx, "tcp", host)
	if err != nil {
		return nil, false, err
	}
	if d.made != nil {
		conn = d.made(conn)
	}
	return &directConn{Conn: conn, host: host}, false, nil
}

// put keeps a connection for the next request.
func (d *Direct) put(c *directConn) {
	c.since = time.Now() // the kernel's clock: how long a server leaves it open
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) >= d.most {
		c.Close()
		return
	}
	d.idle = append(d.idle, c)
	if d.sweeper == nil {
		d.sweeper = time.AfterFunc(directIdle, d.sweep)
	}
}

// sweep closes what was idle for too long.
func (d *Direct) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.idle) && time.Since(d.idle[n].since) >= directIdle {
		d.idle[n].Close()
		n++
	}
	if d.idle = append(d.idle[:0:0], d.idle[n:]...); len(d.idle) > 0 && d.sweeper != nil {
		d.sweeper.Reset(directIdle)
	} else {
		d.sweeper = nil
	}
}

// directConn is a connection, which counts what it sends and bounds what it gets
// until the head of the response is there.
type directConn struct {
	net.Conn
	host  string
	since time.Time // when it became idle
	sent  int64
	left  int64 // bytes that may be read
}

var (
	errUnsent = errors.New("nothing of the request was sent")
	errHead   = errors.New("the head of the response is too long")
)

// Write implements io.Writer.
func (c *directConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent += int64(n)
	return n, err
}

// Read implements io.Reader.
func (c *directConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Buffers go with a request, not with a connection: one that is idle holds none.
var (
	directReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	directWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
)

// ask sends the request and reads the head of its response. On an error the
// connection is closed.
func (c *directConn) ask(req *http.Request, d *Direct) (*http.Response, error) {
	ctx := req.Context()
	in := directReaders.Get().(*bufio.Reader)
	in.Reset(c)
	b := &directBodyReader{d: d, conn: c, in: in, ctx: ctx}
	// What is under way on the connection ends with the context.
	b.stop = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	c.sent, c.left = 0, d.head
	resp, err := c.exchange(req, in)
	if err != nil {
		b.end(false)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case c.sent == 0:
			return nil, errors.Join(errUnsent, err)
		}
		return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "the server did not answer the request")
	}
	c.left = 1<<63 - 1
	b.keep = !resp.Close && resp.StatusCode >= 200
	if resp.ContentLength == 0 || resp.Body == http.NoBody {
		b.end(true)
		resp.Body = http.NoBody
		return resp, nil
	}
	b.body, resp.Body = resp.Body, b
	return resp, nil
}

// exchange writes the request and reads the head of the response.
func (c *directConn) exchange(req *http.Request, in *bufio.Reader) (*http.Response, error) {
	out := directWriters.Get().(*bufio.Writer)
	defer func() { out.Reset(nil); directWriters.Put(out) }()
	out.Reset(c)
	err := req.Write(out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return nil, err
	}
	for range maxInterim {
		resp, err := http.ReadResponse(in, req)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
		if resp.StatusCode < 100 {
			return nil, errors.New("a response whose status is none")
		}
	}
	return nil, errors.New("too many interim responses")
}

// directBodyReader is the body of a response. At its end the connection is free
// for the next request; closed before, the connection goes with it. Close may be
// called while Read waits.
type directBodyReader struct {
	d    *Direct
	conn *directConn
	in   *bufio.Reader
	body io.ReadCloser
	ctx  context.Context //nolint:containedctx // of the request, whose end ends the body
	stop func() bool
	keep bool

	mu  sync.Mutex
	err error // of the end; nil before; guarded by mu
}

// Read implements io.Reader.
func (b *directBodyReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		if b.ctx.Err() != nil && err != io.EOF {
			b.err = context.Cause(b.ctx)
		}
		b.end(err == io.EOF)
	}
	return n, b.err
}

// Close implements io.Closer.
func (b *directBodyReader) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
		b.stop()
		b.conn.Close() // the buffer is left to whoever reads
	}
	return nil
}

// end lets go of the connection: whole says that the response was read to its end.
func (b *directBodyReader) end(whole bool) {
	// More than was asked for, or a context that ended: the next response could
	// be another's.
	if b.stop() && whole && b.keep && b.in.Buffered() == 0 {
		b.d.put(b.conn)
	} else {
		b.conn.Close()
	}
	b.in.Reset(nil)
	directReaders.Put(b.in)
}
