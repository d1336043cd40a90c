package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
)

// floods keeps a flood from filling the disk with its own refusals: of the
// requests that a rate limit refused, the audit log holds the first of each
// minute and how many there were, by what was asked for. Everything else is
// recorded always.
type floods struct {
	mu     sync.Mutex
	minute time.Time      // guarded by mu
	count  map[string]int // event name → refusals in this minute; guarded by mu
}

// floodRecords is how many refusals of one kind a minute are recorded one by one.
const floodRecords = 60

// pass tells whether an event is recorded, and returns the sums of a minute that
// has ended. Names are the authorization server's own, so there are few.
func (f *floods) pass(e authserver.Event) (record bool, sums []gateway.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if minute := e.At.Truncate(time.Minute); !minute.Equal(f.minute) {
		sums = f.sums()
		f.minute = minute
	}
	if e.Outcome != "refused" || e.Code != "temporarily_unavailable" {
		return true, sums
	}
	if f.count == nil {
		f.count = map[string]int{}
	}
	f.count[e.Name]++
	return f.count[e.Name] <= floodRecords, sums
}

// end returns what has not been told yet.
func (f *floods) end() []gateway.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sums()
}

// sums empties the counts. The caller holds mu.
func (f *floods) sums() (out []gateway.Record) {
	for name, n := range f.count {
		if n > floodRecords {
			out = append(out, gateway.Record{At: f.minute, Method: "auth:" + name, Decision: "refused", Rule: "rate",
				Detail: fmt.Sprintf("%d more requests were refused at a rate limit within this minute", n-floodRecords)})
		}
	}
	clear(f.count)
	return out
}
