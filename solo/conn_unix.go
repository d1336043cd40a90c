//go:build unix

package solo

import (
	"runtime"
	"syscall"
	"time"
)

// canLook tells whether look works here.
const canLook = true

// look reads what is there, or comes within Look, and returns its length. Zero means
// that nothing came, or that the connection has ended or failed, which the next Read
// tells.
func (c *conn) look(p []byte) int {
	n, start := 0, time.Now()
	_ = c.raw.Read(func(fd uintptr) bool {
		for {
			r, err := syscall.Read(int(fd), p)
			if err == nil {
				n = r
				return true
			}
			if err != syscall.EAGAIN && err != syscall.EINTR || !c.wanted() || time.Since(start) >= Look || c.mode.due() {
				return true
			}
			runtime.Gosched() // whoever else has work goes first
		}
	})
	return n
}
