package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// gatewayGC is how much garbage the gateway lets gather, in percent of what lives.
// Go's own default is 100. A gateway lives beside other programs for months: this
// keeps some five megabytes less. GOGC in the environment goes before it.
const gatewayGC = 80

// A heap that holds more than smallHeap has many connections or large answers in it.
// There a collection takes tens of milliseconds of a processor, and while connections
// come one follows the other, which everybody's calls meet. So garbage may gather
// there up to roomForGarbage, at a price in memory that only such a heap pays.
const (
	smallHeap      = 12 << 20
	roomForGarbage = 48 << 20
)

// garbagePercent is how much garbage may gather beside live bytes, in percent of
// them: gatewayGC, and beyond smallHeap eight bytes for each more until there is room.
func garbagePercent(live uint64) int {
	if live <= smallHeap {
		return gatewayGC
	}
	room := min(8*(live-smallHeap), roomForGarbage)
	return max(gatewayGC, int(100*room/live))
}

// collectMore sets that, for the gateway's process alone, and after each collection
// anew until ctx ends.
func collectMore(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gatewayGC)
	var set atomic.Int64
	set.Store(gatewayGC)
	var look func()
	look = func() {
		if ctx.Err() != nil {
			return
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		if metrics.Read(live); live[0].Value.Kind() == metrics.KindUint64 {
			if want := int64(garbagePercent(live[0].Value.Uint64())); set.Swap(want) != want {
				debug.SetGCPercent(int(want))
			}
		}
		afterCollection(look)
	}
	afterCollection(look)
}

// afterCollection calls f once, when the next collection has found what is garbage.
func afterCollection(f func()) {
	marker := new([16]byte) // its own block: without pointers, and not a tiny one
	runtime.AddCleanup(marker, func(f func()) { f() }, f)
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
