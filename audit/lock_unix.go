//go:build unix

package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the exclusive lock of an open file without waiting. The lock
// ends with the process, also after a kill.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// syncDirectory makes the names in a directory survive a power cut.
func syncDirectory(d *os.File) error { return d.Sync() }

// closeBeforeRemove: here a locked file may be removed while it is open, so
// nobody can take it for an orphan in between.
const closeBeforeRemove = false
