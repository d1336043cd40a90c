package limit

import (
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func drawLimit(t *rapid.T) Limit {
	return Limit{Name: "test", Count: rapid.IntRange(1, 1000).Draw(t, "count"),
		Per: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "per")), Burst: rapid.IntRange(1, 100).Draw(t, "burst"), Key: PerIP}
}

// Over every window the sum of what was allowed stays within burst + rate·t.
func TestDecideNeverAllowsMoreThanBurstPlusRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimit(t)
		type grant struct {
			at   time.Time
			cost int
		}
		var grants []grant
		now, tat := start, time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(l.Per)).Draw(t, "gap")))
			cost := rapid.IntRange(1, l.Burst+1).Draw(t, "cost")
			d, next := Decide(l, tat, now, cost)
			if d.Allowed {
				grants = append(grants, grant{now, cost})
			} else if !d.Never && d.RetryAfter <= 0 {
				t.Fatal("denied without a time to wait")
			}
			if d.Remaining < 0 || d.Remaining > l.Burst || d.Never != (cost > l.Burst) {
				t.Fatalf("%+v", d)
			}
			tat = next
		}
		for i := range grants {
			sum := 0
			for _, g := range grants[i:] {
				sum += g.cost
				span := g.at.Sub(grants[i].at)
				if limit := float64(l.Burst) + float64(l.Count)*float64(span)/float64(l.Per); float64(sum) > limit+1e-6 {
					t.Fatalf("%d allowed within %s, bound %f", sum, span, limit)
				}
			}
		}
	})
}

// Waiting never hurts, a smaller cost never fares worse, and RetryAfter is exact.
func TestDecideIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimit(t)
		now := start
		tat := start.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(2*time.Hour)).Draw(t, "tat")))
		cost := rapid.IntRange(0, l.Burst).Draw(t, "cost")
		d, next := Decide(l, tat, now, cost)
		later, _ := Decide(l, tat, now.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "later"))), cost)
		if d.Allowed && !later.Allowed {
			t.Fatal("allowed now, denied later")
		}
		if cost > 0 {
			if less, _ := Decide(l, tat, now, cost-1); d.Allowed && !less.Allowed {
				t.Fatal("less costs more")
			}
		}
		if d.Allowed {
			if next.Before(now) {
				t.Fatal("the state went back")
			}
			return
		}
		if at, _ := Decide(l, next, now.Add(d.RetryAfter), cost); !at.Allowed {
			t.Fatal("denied after RetryAfter")
		}
		if before, _ := Decide(l, next, now.Add(d.RetryAfter-1), cost); before.Allowed {
			t.Fatal("allowed before RetryAfter")
		}
	})
}

func TestDecideSurvivesAClockThatGoesBack(t *testing.T) {
	l := Defaults().LoginPerName
	d, _ := Decide(l, start.Add(1000*time.Hour), start, 1)
	if d.Allowed || d.RetryAfter > 15*time.Minute {
		t.Fatalf("%+v", d)
	}
}

func TestGRG5DefaultsAreValidAndNamedOnce(t *testing.T) {
	l := Defaults()
	seen := map[string]bool{}
	for _, x := range l.All() {
		if err := x.Validate(); err != nil {
			t.Error(err)
		}
		if seen[x.Name] || x.Key == "" {
			t.Errorf("%s: twice, or no key", x.Name)
		}
		seen[x.Name] = true
	}
	if len(seen) != reflect.TypeFor[Limits]().NumField() {
		t.Errorf("%d limits", len(seen))
	}
	for _, bad := range []Limit{{}, {Name: "x"}, {Name: "x", Count: 1, Per: 1}, {Name: "x", Count: 1, Per: 365 * 24 * time.Hour, Burst: 1000}} {
		if kidoban.KindOf(bad.Validate()) != kidoban.KindUsage {
			t.Errorf("%+v passed", bad)
		}
	}
}

func TestGRG5Keys(t *testing.T) {
	for _, c := range []struct{ addr, ip, prefix string }{
		{"198.51.100.7", "198.51.100.7/32", "198.51.100.0/24"},
		{"::ffff:198.51.100.7", "198.51.100.7/32", "198.51.100.0/24"},
		{"2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"},
		{"fe80::1%eth0", "fe80::/64", "fe80::/48"},
	} {
		a := netip.MustParseAddr(c.addr)
		if IPKey(a) != c.ip || PrefixKey(a) != c.prefix {
			t.Errorf("%s: %s %s", c.addr, IPKey(a), PrefixKey(a))
		}
	}
	if IPKey(netip.Addr{}) != "invalid" {
		t.Error("an invalid address needs a key")
	}
	if Key("a", "bc") == Key("ab", "c") || Key("a") == Key("a", "") {
		t.Error("keys collide")
	}
}

func TestGRG5AllowIsAllOrNothing(t *testing.T) {
	now := start
	m := NewMemory(0, func() time.Time { return now })
	ip := Limit{"ip", 1, time.Minute, 3, PerIP}
	all := Limit{"all", 1, time.Minute, 2, Global}
	ask := func() Decision { return m.Allow(Ask{ip, "a", 1}, Ask{all, "", 1}) }
	if d := ask(); !d.Allowed || d.Limit != "all" || d.Remaining != 1 {
		t.Fatalf("%+v", d)
	}
	ask()
	d := ask()
	if d.Allowed || d.Limit != "all" || d.RetrySeconds() != 60 || kidoban.KindOf(d.Err()) != kidoban.KindLimit {
		t.Fatalf("%+v", d)
	}
	if d := m.Would(Ask{ip, "a", 1}, Ask{all, "", 1}); d.Allowed || d.Limit != "all" || d.RetrySeconds() != 60 {
		t.Fatalf("asked only: %+v", d)
	}
	if d := m.Would(Ask{ip, "a", 1}); !d.Allowed || d.Remaining != 0 {
		t.Fatalf("asked only: %+v", d)
	}
	if d := m.Allow(Ask{ip, "a", 1}); !d.Allowed {
		t.Fatal("the denied request was charged to the address")
	}
	if d := m.Allow(Ask{ip, "a", 1}); d.Allowed {
		t.Fatal("too much came back")
	}
	now = now.Add(time.Hour)
	if d := m.Allow(Ask{ip, "a", 3}); !d.Allowed {
		t.Fatal("time did not heal")
	}
}

// 100,000 addresses: memory stays flat, and a burdened key outlives rested ones.
func TestGRG5MemoryIsBounded(t *testing.T) {
	now := start
	m := NewMemory(1000, func() time.Time { return now })
	l := Limit{"ip", 1, time.Second, 10, PerIP}
	m.Allow(Ask{l, "culprit", 10})
	for i := range 100_000 {
		m.Allow(Ask{l, fmt.Sprint(i), 1})
		if i%500 == 0 {
			now = now.Add(10 * time.Millisecond)
		}
	}
	if n := m.Len(); n > 1000 {
		t.Fatalf("%d keys", n)
	}
	if d := m.Allow(Ask{l, "culprit", 10}); d.Allowed {
		t.Fatal("the culprit was forgotten before the rested")
	}
	now = now.Add(time.Hour)
	for i := range 2000 {
		m.Allow(Ask{l, fmt.Sprint("new", i), 1})
		now = now.Add(2 * time.Second)
	}
	if n := m.Len(); n > 2 {
		t.Fatalf("%d recovered keys linger", n)
	}
}

func TestMemoryIsConcurrent(t *testing.T) {
	m := NewMemory(100, func() time.Time { return start })
	l := Limit{"ip", 1, time.Hour, 50, PerIP}
	var wg sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if m.Allow(Ask{l, "k", 1}).Allowed {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if allowed != 50 {
		t.Fatalf("%d allowed", allowed)
	}
}

func BenchmarkMemoryAllow(b *testing.B) {
	m := NewMemory(10_000, time.Now)
	l := Defaults()
	keys := make([]string, 20_000)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Allow(Ask{l.CallPerUser, keys[i%len(keys)], 1}, Ask{l.CallPerServer, "s", 1})
	}
}

// A clock that was set back locks nobody out for longer than one token takes.
func TestMemoryClockGoesBack(t *testing.T) {
	now := start.Add(3 * time.Hour)
	m := NewMemory(0, func() time.Time { return now })
	a := Ask{Limit: Limit{Name: "l", Count: 1, Per: time.Second, Burst: 5, Key: Global}, Cost: 1}
	m.Allow(a)
	now = start
	if d := m.Allow(a); d.Allowed || d.RetryAfter != time.Second {
		t.Fatalf("%+v", d)
	}
	now = start.Add(time.Second)
	if d := m.Allow(a); !d.Allowed {
		t.Fatalf("%+v", d)
	}
}

// TestWouldForgetsTheFuture: asking without charging must not hold for the length
// of a leap of the clock.
func TestWouldForgetsTheFuture(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	m := NewMemory(100, func() time.Time { return now })
	l := Limit{Name: "x", Count: 1, Per: time.Minute, Burst: 3}
	now = now.Add(3 * time.Hour)
	for range 3 {
		m.Allow(Ask{Limit: l, Key: "k", Cost: 1})
	}
	now = now.Add(-3 * time.Hour)
	if m.Would(Ask{Limit: l, Key: "k", Cost: 1}).Allowed {
		t.Fatal("the limit was not used up")
	}
	now = now.Add(2 * time.Minute)
	if !m.Would(Ask{Limit: l, Key: "k", Cost: 1}).Allowed {
		t.Error("the limit holds beyond its own period")
	}
}
