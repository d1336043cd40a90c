package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// gatewayGC is how much garbage the gateway lets gather, in percent of what lives.
// Go's own default is 100. A gateway lives beside other programs for months: this
// costs about a tenth of a call's processor time and keeps some ten megabytes less. GOGC in the environment goes before it.
const gatewayGC = 50

// collectMore sets that, for the gateway's process alone.
func collectMore() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gatewayGC)
	}
}

// restEvery is how often a process gives back the pages of its own file. Those in
// use are mapped again, sixteen and more at a time, without reading: less than a
// millisecond of processor time in all. What stays mapped is what was used lately,
// and not all that ever was.
const restEvery = 10 * time.Second

// stayLean returns to the system what only the start needed, and then, until ctx
// ends, the pages of the program's own file that are not in use.
func stayLean(ctx context.Context) {
	debug.FreeOSMemory()
	file := ownFile()
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for {
		unmap(file)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
