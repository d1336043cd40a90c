package main

import "net"

// narrow bounds what the kernel holds of answers that a client does not take: by
// itself it would be megabytes for each connection.
type narrow struct{ net.Listener }

// sendBuffer is what one connection may hold, in bytes; Linux doubles it.
const sendBuffer = 256 << 10

// Accept implements net.Listener.
func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(sendBuffer) // the default is only larger
	}
	return c, err
}
