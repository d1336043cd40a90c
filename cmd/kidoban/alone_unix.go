//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockAlone takes the lock of a file, or fails at once when another process has it.
func lockAlone(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
