package solo

import (
	"errors"
	"net"
	"syscall"
)

// Listener looks for a client's next request before it sleeps.
type Listener struct {
	net.Listener
	Mode *Mode
}

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	// While a call is under way, whoever reads from its client only watches whether
	// the client stays.
	return l.Mode.conn(c, 0), nil
}

// Upstream wraps a connection to a server on which the goroutine of a call reads the
// call's answer.
func (m *Mode) Upstream(c net.Conn) net.Conn { return m.conn(c, 1) }

func (m *Mode) conn(c net.Conn, running int32) net.Conn {
	sc, ok := c.(syscall.Conn)
	if m == nil || !ok || !canLook {
		return c
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return c
	}
	return &conn{Conn: c, mode: m, raw: raw, running: running}
}

// conn is a connection whose reader looks before it sleeps, while the mode is on and
// as many calls are under way as it waits for.
type conn struct {
	net.Conn
	mode    *Mode
	raw     syscall.RawConn
	running int32
}

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// CloseWrite ends the writing side, as net/http does before it closes a connection
// whose client still sends, so that the client reads the answer first.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read implements net.Conn. A deadline that passes while it looks is seen afterwards,
// after Look at the latest.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) > 0 && c.wanted() {
		if n := c.look(p); n > 0 {
			return n, nil
		}
	}
	return c.Conn.Read(p)
}

// wanted tells whether to look, or to look on.
func (c *conn) wanted() bool { return c.mode.on.Load() && c.mode.running.Load() == c.running }
