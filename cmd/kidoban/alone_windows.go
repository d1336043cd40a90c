package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockAlone takes the lock of a file, or fails at once when another process has it.
func lockAlone(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
}
