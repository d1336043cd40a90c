//go:build unix

package npmtest

import (
	"os"

	"golang.org/x/sys/unix"
)

// hold waits until nobody else holds the file.
func hold(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
