package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gatewayGC is how much garbage the gateway lets gather, in percent of what lives.
// Go's own default is 100. A gateway lives beside other programs for months: this
// keeps some five megabytes less. GOGC in the environment goes before it.
const gatewayGC = 80

// collectMore sets that, for the gateway's process alone.
func collectMore() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gatewayGC)
	}
}

// restEvery is how often a process gives back what it does not use: the pages of its
// own file, and heap that is free. Pages of the file that are in use are mapped again,
// sixteen and more at a time, without reading: less than a millisecond of processor
// time in all. What stays is what was used lately, and not all that ever was.
const restEvery = 10 * time.Second

// freeHeap is how much of the heap, in bytes, may be free and not given back. To give
// more back costs a collection.
const freeHeap = 2 << 20

// stayLean returns to the system what only the start needed, and then, until ctx
// ends, what is not in use.
func stayLean(ctx context.Context) {
	debug.FreeOSMemory()
	file := ownFile()
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	for {
		unmap(file)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if metrics.Read(free); free[0].Value.Kind() == metrics.KindUint64 && free[0].Value.Uint64() > freeHeap {
			debug.FreeOSMemory()
		}
	}
}
