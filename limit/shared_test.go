package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Processes that tell each other what they gave never allow more than a burst
// each, and over time no more than one process would.
func TestGRG8SharedRatesAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := Defaults()
		l := &all.CallPerUser
		l.Count, l.Per, l.Burst = rapid.IntRange(1, 50).Draw(t, "count"), time.Minute, rapid.IntRange(1, 50).Draw(t, "burst")
		now := start
		n := rapid.IntRange(1, 4).Draw(t, "processes")
		ps := make([]*Memory, n)
		for i := range ps {
			ps[i] = NewMemory(0, func() time.Time { return now })
			ps[i].Taken()
		}
		const lag = 200 * time.Millisecond
		given := 0
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			for range rapid.IntRange(0, 60).Draw(t, "calls") {
				if ps[rapid.IntRange(0, n-1).Draw(t, "at")].Allow(Ask{*l, "alice", 1}).Allowed {
					given++
				}
			}
			for i, p := range ps {
				for _, x := range p.Taken() {
					for j, o := range ps {
						if j != i {
							o.Charge(all, []Taken{x})
						}
					}
				}
			}
			now = now.Add(lag)
		}
		span := now.Sub(start)
		if most := float64(n*l.Burst) + float64(n)*float64(l.Count)*float64(span)/float64(l.Per) + 1e-6; float64(given) > most {
			t.Fatalf("%d given in %s, bound %f", given, span, most)
		}
	})
}

func TestGRG8ChargeCountsWhatOthersGave(t *testing.T) {
	now := start
	a, b := NewMemory(0, func() time.Time { return now }), NewMemory(0, func() time.Time { return now })
	a.Taken()
	all := Defaults()
	l := all.CallPerUser
	for range 150 {
		a.Allow(Ask{l, "alice", 1})
	}
	b.Charge(all, a.Taken())
	if d := b.Allow(Ask{l, "alice", 50}); !d.Allowed || d.Remaining != 0 {
		t.Errorf("%+v", d)
	}
	if len(a.Taken()) != 0 {
		t.Error("told twice")
	}
	b.Charge(all, []Taken{{"no such limit", "alice", 1}, {l.Name, "bob", -5}, {l.Name, "bob", 1 << 60}})
	if d := b.Allow(Ask{l, "bob", 1}); d.Allowed || d.RetryAfter > time.Minute {
		t.Errorf("%+v", d)
	}
}
