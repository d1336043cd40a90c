package main

import (
	"context"
	"runtime"
	"runtime/debug"
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
		var live uint64
		if !within(patience, func() bool {
			runtime.GC()
			live, _, _ = heap()
			now := debug.SetGCPercent(gatewayGC)
			debug.SetGCPercent(now)
			percent = now
			return percent == garbagePercent(live)
		}) {
			t.Fatalf("%s: %d %% beside %d bytes", what, percent, live)
		}
		runtime.KeepAlive(held)
		return percent
	}
	if few, many := follows("little more", 24), follows("much more", 400); few <= many || many != gatewayGC {
		t.Errorf("%d %% and then %d %%", few, many)
	}
	follows("nothing more", 0)
}

// TestGivesBackNothingOfALargeHeapAtWork: a large heap that was collected since the last
// look keeps what is free, one that rests gives it back, and a small one always does.
func TestGivesBackNothingOfALargeHeapAtWork(t *testing.T) {
	for _, c := range []struct {
		what                       string
		live, free, cycles, before uint64
		want                       bool
	}{
		{"a small heap at rest", smallHeap, freeHeap + 1, 7, 7, true},
		{"a small heap at work", smallHeap, freeHeap + 1, 8, 7, true},
		{"a large heap at rest", smallHeap + 1, freeHeap + 1, 7, 7, true},
		{"a large heap at work", smallHeap + 1, 1 << 30, 8, 7, false},
		{"little that is free", smallHeap, freeHeap, 7, 7, false},
	} {
		if got := idle(c.live, c.free, c.cycles, c.before); got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
	}
	if live, _, cycles := heap(); live == 0 || cycles == 0 {
		t.Errorf("this Go does not tell of its heap: %d bytes, %d collections", live, cycles)
	}
}
