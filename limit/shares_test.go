package limit

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// crowd plays users at one key with a clock of its own.
type crowd struct {
	l      Limit
	m      *Memory
	s      Shares
	now    time.Time
	gave   map[string]int
	denied map[string]int
}

func newCrowd(l Limit) *crowd {
	c := &crowd{l: l, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), gave: map[string]int{}, denied: map[string]int{}}
	c.m = NewMemory(0, func() time.Time { return c.now })
	return c
}

func (c *crowd) call(user string) bool {
	if !c.s.Take(c.l, user, c.m.Left(c.l, "server"), c.now).Allowed {
		c.denied[user]++
		return false
	}
	if !c.m.Allow(Ask{c.l, "server", 1}).Allowed {
		c.s.GiveBack(c.l, user)
		c.denied[user]++
		return false
	}
	c.gave[user]++
	return true
}

// TestGPX3_WhoStaysInTheShareIsNeverRefused: whatever greedy users do, one who calls
// no more often than an equal part of the rate allows gets every call; all together
// never get more than the limit.
func TestGPX3_WhoStaysInTheShareIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		greedy, modest := rapid.IntRange(1, 8).Draw(t, "greedy"), rapid.IntRange(1, 4).Draw(t, "modest")
		late := rapid.IntRange(0, 4).Draw(t, "late") // modest ones who come when all is spent
		n := greedy + modest + late
		l := Limit{"call_per_server", rapid.IntRange(60, 6000).Draw(t, "count"), time.Minute, rapid.IntRange(8*n, 2000).Draw(t, "burst"), PerServer}
		c := newCrowd(l)
		const step = 50 * time.Millisecond
		apart := l.share(n, 0).interval() + step // between two calls of a modest user
		next := map[string]time.Time{}
		from := c.now
		for i := range 400 { // 20 s
			for g := range greedy {
				for range rapid.SampledFrom([]int{1, 3, 20}).Draw(t, "at once") {
					c.call(fmt.Sprint("greedy-", g))
				}
			}
			for m := range modest + late {
				name := fmt.Sprint("modest-", m)
				if m >= modest && i < 100 || c.now.Before(next[name]) {
					continue
				}
				next[name] = c.now.Add(apart)
				if !c.call(name) {
					t.Fatalf("%s is refused after %v", name, c.now.Sub(from))
				}
			}
			c.now = c.now.Add(step)
		}
		all := 0
		for _, v := range c.gave {
			all += v
		}
		if most := l.Burst + int(c.now.Sub(from)/l.interval()) + 1; all > most {
			t.Fatalf("%d calls, the limit gives %d", all, most)
		}
	})
}

// TestGPX3_OneAloneHasTheWholeRate, and greedy users have equal parts of it.
func TestGPX3_OneAloneHasTheWholeRate(t *testing.T) {
	for _, n := range []int{1, 2, 10} {
		c := newCrowd(Limit{"call_per_server", 3000, time.Minute, 1000, PerServer})
		spend := func(d time.Duration) {
			for end := c.now.Add(d); c.now.Before(end); c.now = c.now.Add(10 * time.Millisecond) {
				for u := range n {
					for c.call(fmt.Sprint(u)) {
					}
				}
			}
		}
		spend(5 * time.Minute) // the burst
		clear(c.gave)
		spend(time.Minute)
		all := 0
		for u := range n {
			got := c.gave[fmt.Sprint(u)]
			all += got
			if want := 3000 / n; got < want*9/10 || got > want*9/10+400 {
				t.Errorf("%d users: one got %d of 3000", n, got)
			}
		}
		if all < 2990 || all > 3010 {
			t.Errorf("%d users: %d of 3000 in all", n, all)
		}
	}
}

// TestGPX3_SharesAreBounded in memory, and those who went count no more.
func TestGPX3_SharesAreBounded(t *testing.T) {
	c := newCrowd(Defaults().CallPerServer)
	for i := range 3 * sharesMost {
		c.s.Take(c.l, fmt.Sprint(i), 0, c.now)
	}
	if len(c.s.users) > sharesMost {
		t.Errorf("%d users are remembered", len(c.s.users))
	}
	for range 3 {
		c.now = c.now.Add(sharesTurn)
		c.call("one")
	}
	if len(c.s.users) != 1 {
		t.Errorf("%d users are remembered after half a minute", len(c.s.users))
	}
	c.now = c.now.Add(-time.Hour)
	for range 2 { // the clock was set back
		c.s.Take(c.l, "one", 0, c.now)
		c.now = c.now.Add(time.Second)
	}
	if d := c.s.Take(c.l, "one", 0, c.now); !d.Allowed {
		t.Errorf("a clock that went back locks out: %+v", d)
	}
	year := Limit{"call_per_server", 1, 366 * 24 * time.Hour, 4, PerServer}
	if l := year.share(sharesMost, 4); l.Per <= 0 || l.Burst != 1 {
		t.Errorf("the share of a rare limit: %+v", l)
	}
}
