package account

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// TestGVA2_Recheck: a login is asked about although its ID token is good; of those who
// want to know at once one asks, and who came later hears of it.
func TestGVA2_Recheck(t *testing.T) {
	w, _ := newWallet(t, nil, time.Now)
	const issuer = "https://idp.example"
	var asked atomic.Int64
	var heard atomic.Bool
	gate := make(chan struct{})
	var fails error
	w.Renew = func(_ context.Context, l Login, rotated func(string)) (Login, error) {
		n := asked.Add(1)
		<-gate
		rotated(fmt.Sprint("r", n))
		if fails != nil {
			return Login{}, fails
		}
		heard.Store(true)
		return Login{l.User, issuer, l.Subject, fmt.Sprint("fresh ", n), fmt.Sprint("r", n), time.Now().Add(time.Hour)}, nil
	}
	needless := func(context.Context) (bool, error) { return heard.Load(), nil }
	recheck := func() error { return w.Recheck(t.Context(), "alice", issuer, needless) }
	if err := recheck(); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("without a login: %v", err)
	}
	if err := w.KeepLogin(t.Context(), "alice", Login{"alice", issuer, "sub", "old", "r0", time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	many := func() (errs []error) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				err := recheck()
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		wg.Wait()
		return errs
	}
	// Who waits no longer than so goes on without; the answer is kept all the same.
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Recheck(soon, "alice", issuer, needless); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("not in time: %v", err)
	}
	close(gate)
	for _, err := range many() {
		if err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, p, err := w.proof(t.Context(), "alice", issuer); err != nil || p.Token != "fresh 1" || p.Refresh != "r1" {
		t.Errorf("%+v %v", p, err)
	}

	// A failure is one for those who waited, and keeps the refresh token that came.
	heard.Store(false)
	fails = kidoban.Errorf(kidoban.KindUnreachable, "the keys are away")
	if err := recheck(); kidoban.KindOf(err) != kidoban.KindUnreachable {
		t.Errorf("away, with a good ID token: %v", err)
	}
	if _, p, err := w.proof(t.Context(), "alice", issuer); err != nil || p.Refresh != "r2" {
		t.Errorf("%+v %v", p, err)
	}
	// What the provider says plainly is said, good ID token or not, and not asked again.
	fails = kidoban.Errorf(kidoban.KindNotFound, "it has ended")
	for _, err := range many() {
		if kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("ended: %v", err)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// TestGVA2_RecheckWaitsForTheWordOfAnotherReplica: whoever sees another's refresh token
// come waits for the word as well, and not for ever.
func TestGVA2_RecheckWaitsForTheWordOfAnotherReplica(t *testing.T) {
	looks := 0
	over, err := heardSoon(t.Context(), func(context.Context) (bool, error) { looks++; return looks == 3, nil })
	if !over || err != nil || looks != 3 {
		t.Errorf("%t %v after %d looks", over, err, looks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if over, err := heardSoon(ctx, func(context.Context) (bool, error) { return false, nil }); over || err != nil {
		t.Errorf("for nobody: %t %v", over, err)
	}
	if over, err := heardSoon(t.Context(), func(context.Context) (bool, error) { return false, context.Canceled }); over || err == nil {
		t.Errorf("without a database: %t %v", over, err)
	}
}
