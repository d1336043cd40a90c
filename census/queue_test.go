package census_test

import (
	"context"
	"sync"
	"testing"

	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/store/storetest"
)

// TestFourWorkersGiveTheSameResult: four workers on PostgreSQL, one of them
// stopped in the middle, give the bytes of one machine on SQLite.
func TestFourWorkersGiveTheSameResult(t *testing.T) {
	t.Parallel()
	cluster := &storetest.Cluster{}
	t.Cleanup(cluster.Close)
	w := newWorld(t, 300)
	defer w.p.Close()
	one := w.open(storetest.SQLite(t))
	w.load(one)
	if err := census.Run(t.Context(), one, w.options()); err != nil {
		t.Fatal(err)
	}
	url := cluster.Postgres(t)
	first := w.open(url)
	w.load(first)
	q := census.QueueOptions{Per: 16}
	if err := census.Enqueue(t.Context(), url, first, w.options(), q); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		db := first
		if i > 0 {
			db = w.open(url)
		}
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o, told := census.Options{Workers: 8}, false
			if i == 3 { // this one leaves after its first results
				o.Progress = func(census.Progress) { cancel(); told = true }
			}
			if err := census.Work(ctx, url, db, o, q, true); err != nil && !told {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.compare(first)
	if a, b := results(t, one), results(t, first); a != b {
		t.Errorf("the results differ (%d and %d bytes)", len(a), len(b))
	}
}
