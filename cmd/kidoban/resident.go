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
// there up to roomForGarbage, at a price in memory that only such a heap pays: with
// calls of 64 connections alone 14 to 15 MB live.
const (
	smallHeap      = 16 << 20
	roomForGarbage = 48 << 20
)

// garbagePercent is how much garbage may gather beside live bytes, in percent of
// them: gatewayGC, and beyond smallHeap 24 bytes for each more until there is room.
func garbagePercent(live uint64) int {
	if live <= smallHeap {
		return gatewayGC
	}
	room := min(24*(live-smallHeap), roomForGarbage)
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
		live, _, _ := heap()
		if want := int64(garbagePercent(live)); set.Swap(want) != want {
			debug.SetGCPercent(int(want))
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
	_, _, before := heap()
	for {
		unmap(file)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		live, free, cycles := heap()
		if idle(live, free, cycles, before) {
			debug.FreeOSMemory()
			_, _, cycles = heap()
		}
		before = cycles
	}
}

// idle tells whether free heap is worth giving back: there is much of it, and it is not
// that of a large heap that was collected since the last look, which is at work. What
// is free of that serves again soon, and one more collection would be everybody's.
func idle(live, free, cycles, before uint64) bool {
	atWork := live > smallHeap && cycles != before
	return free > freeHeap && !atWork
}

// heap is what the last collection found alive, what is free and not given back, both
// in bytes, and how many collections there were.
func heap() (live, free, cycles uint64) {
	now := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(now)
	read := func(i int) uint64 {
		if now[i].Value.Kind() != metrics.KindUint64 {
			return 0 // a later Go that has it no more
		}
		return now[i].Value.Uint64()
	}
	return read(0), read(1), read(2)
}
