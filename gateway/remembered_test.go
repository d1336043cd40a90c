package gateway

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
)

// asked counts the questions to a session store, and can hold one back after the
// store has answered it.
type asked struct {
	SessionStore
	mu     sync.Mutex
	n      int
	answer chan struct{} // nil: at once
	hold   chan struct{}
}

func (a *asked) SessionLabels(ctx context.Context, session string, since time.Time) ([]SessionLabel, error) {
	a.mu.Lock()
	a.n++
	answer, hold := a.answer, a.hold
	a.answer, a.hold = nil, nil
	a.mu.Unlock()
	labels, err := a.SessionStore.SessionLabels(ctx, session, since)
	if answer != nil {
		close(answer)
		<-hold
	}
	return labels, err
}

// TestGTG5_AloneAsksTheStoreOnceASecond: a gateway that alone writes what sessions
// have read asks for it once a second at most, and still sees each label at once:
// also one that was noted while somebody read the state before.
func TestGTG5_AloneAsksTheStoreOnceASecond(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	store := &asked{SessionStore: &sessionsHere{all: map[string]map[string]SessionLabel{}}}
	g := NewPolicyGuard(store, nil, toolscan.New(), nil, func() time.Time { return now })
	g.Alone = true
	rules := g.rules.Load()
	c := &Call{Caller: Caller{User: "u"}, Server: "s"}
	labels := func() []string {
		t.Helper()
		list, err := g.session(t.Context(), rules, c, !g.Alone)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for range 50 {
		labels()
	}
	if store.n != 1 {
		t.Errorf("the store was asked %d times", store.n)
	}
	now = now.Add(2 * time.Second)
	answered, hold, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	store.answer, store.hold = answered, hold
	go func() { defer close(done); labels() }() // reads what was before the note, and comes back after it
	<-answered
	if err := g.note(t.Context(), c, []string{policy.Private}); err != nil {
		t.Fatal(err)
	}
	close(hold)
	<-done
	if got := labels(); !slices.Equal(got, []string{policy.Private}) {
		t.Errorf("after the note: %q", got)
	}
	if err := g.Forget(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if got := labels(); len(got) != 0 {
		t.Errorf("after forgetting: %q", got)
	}
	g.Alone = false
	before := store.n
	for range 3 {
		labels()
	}
	if store.n != before+3 {
		t.Error("a gateway that is not alone does not ask the store")
	}
}
