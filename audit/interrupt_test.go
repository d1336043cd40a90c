package audit_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// TestInterruptedRun: wherever a run is stopped, it says what it did not reach and
// why, claims nothing that a whole run would not, gives no grade, and leaves nothing on
// the server.
func TestInterruptedRun(t *testing.T) {
	lo := lab.Options{Flaws: []string{"F5-a", "F9-2", "E25-c"}, Registrations: 1000}
	run := func(ctx context.Context, hit func(n int)) (*audit.Report, *lab.Lab, error) {
		var seen atomic.Int64
		lo.Front = func(_ string, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hit(int(seen.Add(1)))
				next.ServeHTTP(w, r)
			})
		}
		l, err := lab.Start(context.Background(), lo)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		o := audit.Options{Lab: true, OwnServer: true, Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3},
			StateDir: t.TempDir(), MaxRequests: 2000, Login: tester(l, 0, nil)}
		r, err := audit.Run(ctx, o, l.MCPURL)
		if r == nil {
			t.Fatal(err)
		}
		return r, l, err
	}
	total := 0
	calm, _, err := run(context.Background(), func(n int) { total = max(total, n) })
	if err != nil {
		t.Fatal(err)
	}
	for at := 1; at < total-60; at += 1 + total/12 { // the last ones are the clean-up's
		ctx, stop := context.WithCancel(context.Background())
		r, l, err := run(ctx, func(n int) {
			if n == at {
				stop()
			}
		})
		stop()
		if !errors.Is(err, context.Canceled) || r.Target.Headline != kidoban.HeadlineInterrupted || r.Grade.Letter != "" {
			t.Errorf("stopped at %d of %d: %v, %s, grade %q", at, total, err, r.Target.Headline, r.Grade.Letter)
		}
		missing := 0
		for _, x := range r.Results {
			if x.Reason == kidoban.ReasonInterrupted {
				missing++
			}
			if x.Reason == kidoban.ReasonBudget || strings.Contains(x.Summary, "context canceled") {
				t.Errorf("stopped at %d: %s says %s: %s", at, x.Key(), x.Reason, x.Summary)
			}
		}
		if missing == 0 {
			t.Errorf("stopped at %d of %d: nothing is missing", at, total)
		}
		for _, what := range louder(calm, r, disturbance{}) {
			t.Errorf("stopped at %d of %d: %s", at, total, what)
		}
		if len(l.Clients()) > 0 || len(r.Residue.LeftBehind) > 0 {
			t.Errorf("stopped at %d of %d: left behind %v, said %+v", at, total, l.Clients(), r.Residue.LeftBehind)
		}
	}
}

// TestInterruptedCleanUpIsBounded: a server that does not answer the deletions holds an
// interrupted run no longer than its bound, whenever the interruption comes; the next
// run deletes what is left.
func TestInterruptedCleanUpIsBounded(t *testing.T) {
	for _, at := range []string{http.MethodPost, http.MethodDelete} { // at the registration, in mid-cleaning
		t.Run(at, func(t *testing.T) { boundedCleanUp(t, at) })
	}
}

func boundedCleanUp(t *testing.T, at string) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var hang atomic.Bool
	hang.Store(true)
	l, err := lab.Start(context.Background(), lab.Options{Front: func(_ string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			registers := strings.Contains(r.URL.Path, "register")
			if hang.Load() && registers && r.Method == http.MethodDelete {
				if at == http.MethodDelete {
					stop()
				}
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
			if r.Method == at && registers {
				stop()
			}
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), CleanUp: 200 * time.Millisecond}
	if at == http.MethodDelete {
		o.Only = []string{"F4-1"} // nothing is deleted before the end
	}
	r, err := audit.Run(ctx, o, l.MCPURL)
	if r == nil || (at == http.MethodPost) != errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(r.Residue.LeftBehind) != 1 || !strings.Contains(r.Residue.LeftBehind[0].Reason, "the next audit") || len(l.Clients()) != 1 {
		t.Errorf("left behind %+v, clients %v", r.Residue.LeftBehind, l.Clients())
	}
	hang.Store(false)
	o.Tiers, o.Only = nil, nil
	r, err = audit.Run(context.Background(), o, l.MCPURL)
	if err != nil || r.Residue.Deleted != 1 || len(l.Clients()) > 0 {
		t.Errorf("%v: the next run: %+v, clients %v", err, r.Residue, l.Clients())
	}
}
