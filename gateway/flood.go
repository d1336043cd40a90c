package gateway

import (
	"fmt"
	"time"
)

// floods keeps strangers from filling the disk with what they are refused. Of the
// records that belong to no user and no grant, the log holds so many of each kind
// a minute, and beyond that how many there were. What a user or a grant stands
// behind, and alerts, are always recorded one by one. Its owner guards it.
type floods struct {
	minute time.Time
	count  map[floodKey]int
}

// floodKey is made of our own words, so there are few.
type floodKey struct{ decision, what string }

// Records of strangers a minute, by kind. What is not refused costs strangers
// more than a request, and is worth more.
const (
	floodRefused = 60
	floodOther   = 600
)

// pass tells whether r is recorded, and returns the sums of a minute that has ended.
func (f *floods) pass(r *Record) (record bool, sums []Record) {
	if minute := r.At.Truncate(time.Minute); !minute.Equal(f.minute) {
		sums = f.end()
		f.minute = minute
	}
	if r.User != "" || r.Grant != "" || r.Decision != "refused" && r.Decision != "ok" {
		return true, sums
	}
	key := floodKey{r.Decision, "rule:" + r.Rule}
	if r.Rule == "" {
		key.what = r.Method // of the authorization server
	}
	if f.count == nil {
		f.count = map[floodKey]int{}
	}
	f.count[key]++
	return f.count[key] <= key.most(), sums
}

func (k floodKey) most() int {
	if k.decision == "refused" {
		return floodRefused
	}
	return floodOther
}

// end returns what has not been told yet.
func (f *floods) end() (sums []Record) {
	for key, n := range f.count {
		if over := n - key.most(); over > 0 {
			sums = append(sums, Record{At: f.minute, Method: "flood", Name: key.what, Decision: key.decision, Rule: "flood",
				Detail: fmt.Sprintf("%d more like this within the minute, of nobody who is logged in", over)})
		}
	}
	clear(f.count)
	return sums
}
