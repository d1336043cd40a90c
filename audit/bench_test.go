package audit_test

import (
	"context"
	"testing"

	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// The numbers of audit.md 8: T1 in at most 20 requests and 50 ms on loopback,
// T2 in at most 60 requests.
func benchmarkAudit(b *testing.B, lo lab.Options, active bool) {
	lo.RegistrationsPerHour = 1 << 30
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
