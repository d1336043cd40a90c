package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds what waits in the kernel beyond what is under way (tcp(7),
// TCP_NOTSENT_LOWAT). Where that fails, the send buffer is the bound.
func limitUnsent(c *net.TCPConn, bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes) })
}
