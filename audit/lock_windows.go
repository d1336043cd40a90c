package audit

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the exclusive lock of an open file without waiting. The lock
// ends with the process, also after a kill. Windows enforces locks against
// readers too, so the locked byte lies far behind everything that is written.
func lockFile(f *os.File) error {
	far := &windows.Overlapped{OffsetHigh: 1 << 30}
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, far)
}

// syncDirectory has nothing to do: NTFS journals names, and a directory cannot
// be flushed.
func syncDirectory(*os.File) error { return nil }

// closeBeforeRemove: an open file cannot be removed here. Who opens it in
// between finds every entry settled and has nothing to do.
const closeBeforeRemove = true
