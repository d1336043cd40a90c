package main

import (
	"errors"
	"net"
	"os"
)

// narrow bounds what the kernel holds of answers that a client does not take: by
// itself it would be megabytes for each connection. Little more than what the
// client has room for is under way, whatever the distance, so that whoever does not
// read is known early; and when such a client is given up, nothing is kept for it.
type narrow struct{ net.Listener }

const (
	// sendBuffer is what one connection may hold, in bytes; Linux doubles it.
	sendBuffer = 256 << 10
	// unsentBuffer of it may wait to be sent, in bytes.
	unsentBuffer = 32 << 10
)

// Accept implements net.Listener.
func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c, err
	}
	_ = t.SetWriteBuffer(sendBuffer) // the default is only larger
	limitUnsent(t, unsentBuffer)
	return narrowConn{t}, err
}

// narrowConn is reset, not closed in order, after a client took nothing.
type narrowConn struct{ *net.TCPConn }

// Write implements net.Conn.
func (c narrowConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.SetLinger(0)
	}
	return n, err
}
