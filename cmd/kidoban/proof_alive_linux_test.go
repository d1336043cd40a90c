package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// alive tells whether the other side has not ended the connection, without
// reading from it.
func alive(c net.Conn) (yes bool) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	const established = 1 // TCP_ESTABLISHED
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == established
	})
	return yes && err == nil
}
