package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// TestGarbageHasRoomBesideALargeHeap: a small heap stays lean, a large one is not
// collected at every few megabytes, and a very large one gets no more than its share.
func TestGarbageHasRoomBesideALargeHeap(t *testing.T) {
	last := 0
	for live := uint64(0); live < 400<<20; live += 256 << 10 {
		percent := garbagePercent(live)
		garbage := int(live) * percent / 100
		if percent < gatewayGC || live <= smallHeap && percent != gatewayGC || garbage > max(roomForGarbage, int(live)*gatewayGC/100) {
			t.Fatalf("%d bytes live: %d %%", live, percent)
		}
		if garbage < last-2<<20 { // percents are whole ones
			t.Fatalf("%d bytes live: room for %d, for less that lived %d", live, garbage, last)
		}
		last = garbage
	}
}

// TestGarbageFollowsWhatLives sees the process's own setting follow its heap, up and
// down again.
func TestGarbageFollowsWhatLives(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(gatewayGC)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	collectMore(ctx)
	follows := func(what string, more int) (percent int) {
		t.Helper()
		var held [][]byte
		for range more {
			held = append(held, make([]byte, 1<<20))
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		if !within(patience, func() bool {
			runtime.GC()
			metrics.Read(live)
			now := debug.SetGCPercent(gatewayGC)
			debug.SetGCPercent(now)
			percent = now
			return percent == garbagePercent(live[0].Value.Uint64())
		}) {
			t.Fatalf("%s: %d %% beside %d bytes", what, percent, live[0].Value.Uint64())
		}
		runtime.KeepAlive(held)
		return percent
	}
	if few, many := follows("little more", 24), follows("much more", 400); few <= many || many != gatewayGC {
		t.Errorf("%d %% and then %d %%", few, many)
	}
	follows("nothing more", 0)
}
