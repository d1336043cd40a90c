package census_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

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

// TestLaterOptOutsReachTheQueue: a census that is queued again keeps its slices,
// and leaves alone who asked for it meanwhile.
func TestLaterOptOutsReachTheQueue(t *testing.T) {
	t.Parallel()
	cluster := &storetest.Cluster{}
	t.Cleanup(cluster.Close)
	w := newWorld(t, 24)
	url := cluster.Postgres(t)
	db := w.open(url)
	w.load(db)
	var later []string
	for _, line := range pending(t, db)[:5] {
		host, _, _ := strings.Cut(strings.TrimPrefix(line, "http://"), ":")
		later = append(later, host)
	}
	more, err := census.ReadOptOut(strings.NewReader(strings.Join(later, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []*census.OptOut{w.opt, more, more, nil} {
		o := w.options()
		o.OptOut = out
		if err := census.Enqueue(t.Context(), url, db, o, census.QueueOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pg, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	var jobs, kinds int
	if err := pg.QueryRowContext(t.Context(), `SELECT COUNT(*), COUNT(DISTINCT args) FROM river_job`).Scan(&jobs, &kinds); err != nil || jobs == 0 || jobs != kinds {
		t.Errorf("%d slices, %d different (%v)", jobs, kinds, err)
	}
	if err := census.Work(t.Context(), url, db, census.Options{}, census.QueueOptions{Slices: 8}, true); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.hits() {
		if w.opt.Has(h.Host) || more.Has(h.Host) {
			t.Errorf("%s opted out and was asked for %s", h.Host, h.Path)
		}
	}
	if n := strings.Count(results(t, db), "opt_out_list"); n < len(later) {
		t.Errorf("%d results say that the host opted out, want %d at least", n, len(later))
	}
}
