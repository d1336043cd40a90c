package main

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/kidoban/kidoban"
)

// keepAwake keeps every processor busy until ctx ends, at the lowest rank there is:
// whatever else wants to run does so at once.
func keepAwake(ctx context.Context) error {
	n := runtime.NumCPU()
	runtime.GOMAXPROCS(n + 1) // and who sees the end
	ranked := make(chan error, n)
	for range n {
		go func() { // ends with ctx
			runtime.LockOSThread() // never unlocked: the thread's rank ends with the thread
			ranked <- unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			for ctx.Err() == nil {
			}
		}()
	}
	for range n {
		if err := <-ranked; err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "the processors cannot be kept awake")
		}
	}
	return nil
}
