//go:build unix

package outbound

import (
	"net"
	"syscall"
)

// canPeek tells whether quiet works here.
const canPeek = true

// quiet tells whether an idle connection is still open and the server has sent
// nothing on it: something that nobody asked for would be taken for the next answer.
func quiet(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && open
}
