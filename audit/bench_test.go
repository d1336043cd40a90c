package audit_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
)

// The numbers of audit.md 8: T1 in at most 20 requests and 50 ms on loopback,
// T2 in at most 60 requests.
func benchmarkAudit(b *testing.B, lo lab.Options, active bool) {
	lo.Registrations = 1 << 30
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	o := audit.Options{Lab: true, StateDir: b.TempDir()}
	if active {
		o.Tiers = activeTiers
	}
	requests := 0
	b.ReportAllocs()
	for b.Loop() {
		r, err := audit.Run(context.Background(), o, l.MCPURL)
		if err != nil {
			b.Fatal(err)
		}
		requests = r.Requests
	}
	b.ReportMetric(float64(requests), "requests")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/run")
}

func BenchmarkT1(b *testing.B)         { benchmarkAudit(b, lab.Options{}, false) }
func BenchmarkT2(b *testing.B)         { benchmarkAudit(b, lab.Options{}, true) }
func BenchmarkT2Upstream(b *testing.B) { benchmarkAudit(b, lab.Options{Flaws: []string{"F4-1"}}, true) }

// BenchmarkProbe prints what each stage and probe of a whole T2 run costs: time,
// allocations and requests, averaged over a few runs.
func BenchmarkProbe(b *testing.B) {
	l, err := lab.Start(context.Background(), lab.Options{Flaws: []string{"F4-1"}, Registrations: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	type cost struct {
		time     time.Duration
		allocs   uint64
		requests int
	}
	var order []string
	costs := map[string]*cost{}
	const runs = 10
	for range runs {
		var current string
		var since time.Time
		var mem runtime.MemStats
		var mallocs uint64
		requests := 0
		o := audit.Options{Lab: true, OwnServer: true, Thorough: true, StateDir: b.TempDir(), Tiers: activeTiers}
		o.Progress = func(ev audit.Event) {
			now := time.Now()
			runtime.ReadMemStats(&mem)
			if current != "" {
				c := costs[current]
				if c == nil {
					c = &cost{}
					costs[current] = c
					order = append(order, current)
				}
				c.time += now.Sub(since)
				c.allocs += mem.Mallocs - mallocs
				c.requests += ev.Requests - requests
			}
			current, requests = ev.Stage, ev.Requests
			if ev.Probe != "" {
				current = strings.ReplaceAll(ev.Probe, " ", "-")
			}
			runtime.ReadMemStats(&mem)
			mallocs, since = mem.Mallocs, time.Now()
		}
		if _, err := audit.Run(context.Background(), o, l.MCPURL); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range order {
		c := costs[name]
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op") // the figures are of the runs above
			b.ReportMetric(float64(c.time.Microseconds())/runs, "µs/probe")
			b.ReportMetric(float64(c.allocs)/runs, "allocs/probe")
			b.ReportMetric(float64(c.requests)/runs, "requests/probe")
		})
	}
}

// BenchmarkT3 is a whole audit behind a login, with consent judged in a real browser:
// at most 30 s.
func BenchmarkT3(b *testing.B) {
	c, err := browser.StartChromium(b.Context(), browser.ChromiumOptions{Lab: true})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	requests := 0
	for b.Loop() {
		r, _ := loginLab(b, lab.Options{Upstream: true}, c, func(o *audit.Options) { o.Login.Fast, o.Second.Fast, o.Patience = false, false, 0 })
		requests = r.Requests
	}
	b.ReportMetric(float64(requests), "requests")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/run")
}
