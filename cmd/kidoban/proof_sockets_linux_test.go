package main

import (
	"fmt"
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

// peek is what the other side sent first, at most n bytes, which stay to be read.
func peek(c net.Conn, n int) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return ""
	}
	b := make([]byte, n)
	_ = raw.Control(func(fd uintptr) {
		if n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT); err != nil || n < 0 {
			n = 0
		}
	})
	return string(b[:n])
}

// deadAddress is one where nobody listens and, while the process lives, nobody
// else will.
func deadAddress() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return fmt.Sprint("127.0.0.1:", at.(*unix.SockaddrInet4).Port), nil
}
