package gateway

import (
	"context"
	"maps"
	"testing"
	"time"
)

// TestMissedEndsWhatMayBeLost: a replica that hears again names what it knows of. What it
// should know by now and does not is ended; what began a moment ago is on its way, and
// what goes on with others is not its matter.
func TestMissedEndsWhatMayBeLost(t *testing.T) {
	m := &mail{boxes: map[string]*box{}, served: map[string]*served{}}
	ended := map[string]bool{}
	now, old := time.Now(), time.Now().Add(-2*settled)
	for _, c := range []struct {
		id, with string
		since    time.Time
	}{{"known", "a", old}, {"unknown", "a", old}, {"young", "a", now}, {"another's", "b", old}} {
		m.boxes[c.id] = &box{from: c.with, since: c.since, in: make(chan letter)}
		_, cancel := context.WithCancel(t.Context())
		m.served["to-"+c.id] = &served{to: c.with, since: c.since, cancel: func() { cancel(); ended["to-"+c.id] = true }}
	}
	all := maps.Clone(m.boxes)
	m.missed(letter{From: "a", Text: "known to-known"})
	for id, b := range all {
		select {
		case <-b.in:
			ended[id] = true
		default:
		}
	}
	for _, id := range []string{"known", "unknown", "young", "another's"} {
		if want := id == "unknown"; ended[id] != want {
			t.Errorf("%s: ended is %v", id, ended[id])
		}
	}
	for id, want := range map[string]bool{"to-known": false, "to-unknown": true, "to-young": false, "to-another's": false} {
		if ended[id] != want {
			t.Errorf("%s: ended is %v", id, ended[id])
		}
	}
}
