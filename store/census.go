package store

import (
	"context"
	"time"

	"github.com/kidoban/kidoban/census"
)

var _ census.Store = (*DB)(nil)

// CensusAdd implements census.Store.
func (d *DB) CensusAdd(ctx context.Context, run string, ts []census.Target) (isNew []bool, err error) {
	err = d.write(ctx, func(t tx) error {
		isNew = make([]bool, len(ts))
		for i, x := range ts {
			n, err := t.exec(`INSERT INTO census_targets(run, url, host, source, spread) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (run, url) DO NOTHING`,
				run, []byte(x.URL), x.Host, x.Source, x.Spread())
			if err != nil {
				return err
			}
			isNew[i] = n == 1
		}
		return nil
	})
	return isNew, err
}

// CensusForget implements census.Store.
func (d *DB) CensusForget(ctx context.Context, run, source string) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM census_targets WHERE run = $1 AND source = $2 AND result IS NULL`, run, source)
		return err
	})
}

func scanTarget(ts *[]census.Target) func(row) error {
	return func(r row) error {
		var url []byte
		var t census.Target
		err := r.Scan(&url, &t.Host, &t.Source)
		t.URL = string(url)
		*ts = append(*ts, t)
		return err
	}
}

// CensusPending implements census.Store.
func (d *DB) CensusPending(ctx context.Context, run string, after int64, limit int) (ts []census.Target, err error) {
	err = d.read(ctx, `SELECT url, host, source FROM census_targets WHERE run = $1 AND result IS NULL AND spread > $2 ORDER BY spread LIMIT $3`,
		scanTarget(&ts), run, after, limit)
	return ts, err
}

// CensusCount implements census.Store.
func (d *DB) CensusCount(ctx context.Context, run string) (all, done int, err error) {
	err = d.read(ctx, `SELECT COUNT(*), COUNT(result) FROM census_targets WHERE run = $1`, func(r row) error { return r.Scan(&all, &done) }, run)
	return all, done, err
}

// CensusDone implements census.Store.
func (d *DB) CensusDone(ctx context.Context, run string, rs []census.Outcome) error {
	return d.write(ctx, func(t tx) error {
		for _, x := range rs {
			if _, err := t.exec(`UPDATE census_targets SET result = $1, times = $2 WHERE run = $3 AND url = $4 AND result IS NULL`,
				x.Result, x.Times, run, []byte(x.URL)); err != nil {
				return err
			}
		}
		return nil
	})
}

// CensusResults implements census.Store. It reads in pages, so that memory does
// not grow with the census.
func (d *DB) CensusResults(ctx context.Context, run string, each func(census.Outcome) error) error {
	for after := []byte{}; ; {
		var page []census.Outcome
		err := d.read(ctx, `SELECT url, result, times FROM census_targets WHERE run = $1 AND url > $2 AND result IS NOT NULL ORDER BY url LIMIT 500`,
			func(r row) error {
				var url []byte
				var o census.Outcome
				err := r.Scan(&url, &o.Result, &o.Times)
				o.URL = string(url)
				page = append(page, o)
				return err
			}, run, after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, o := range page {
			if err := each(o); err != nil {
				return err
			}
		}
		after = []byte(page[len(page)-1].URL)
	}
}

// CensusCrowded implements census.Store.
func (d *DB) CensusCrowded(ctx context.Context, run string, max, limit int) (ts []census.Target, err error) {
	err = d.read(ctx, `SELECT url, host, source FROM (SELECT url, host, source, result, ROW_NUMBER() OVER (PARTITION BY host ORDER BY spread) AS place
		FROM census_targets WHERE run = $1) AS placed WHERE place > $2 AND result IS NULL LIMIT $3`, scanTarget(&ts), run, max, limit)
	return ts, err
}

// CensusHosts implements census.Store.
func (d *DB) CensusHosts(ctx context.Context, run string, max int) (hosts, beyond int, err error) {
	err = d.read(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN n > $2 THEN n - $2 ELSE 0 END), 0)
		FROM (SELECT COUNT(*) AS n FROM census_targets WHERE run = $1 GROUP BY host) AS per_host`,
		func(r row) error { return r.Scan(&hosts, &beyond) }, run, max)
	return hosts, beyond, err
}

// clock is the SQL of the present in microseconds: the database's own clock
// where several machines share it.
func (d *DB) clock() (sql string, args []any) {
	if d.Postgres() {
		return `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT`, nil
	}
	return `CAST($6 AS BIGINT)`, []any{d.now().UnixMicro()}
}

// CensusTurn implements census.Store.
func (d *DB) CensusTurn(ctx context.Context, run, host string, max int, lease time.Duration) (wait time.Duration, spent bool, err error) {
	now, clock := d.clock()
	err = d.write(ctx, func(t tx) error {
		taken := false
		args := append([]any{run, host, max, lease.Microseconds(), 0}, clock...)
		err := t.query(`INSERT INTO census_turns(run, host, next_us, used) VALUES ($1, $2, `+now+` + $4, 1)
			ON CONFLICT (run, host) DO UPDATE SET next_us = `+now+` + $4, used = census_turns.used + 1
			WHERE census_turns.next_us <= `+now+` AND census_turns.used < $3 AND $5 = 0 RETURNING used`,
			func(r row) error { var n int64; taken = true; return r.Scan(&n) }, args...)
		wait, spent = 0, false
		if err != nil || taken {
			return err
		}
		return t.query(`SELECT used >= $3, next_us - `+now+` FROM census_turns WHERE run = $1 AND host = $2 AND $4 >= 0 AND $5 = 0`, func(r row) error {
			var us int64
			err := r.Scan(&spent, &us)
			wait = time.Duration(us+1) * time.Microsecond
			if wait <= 0 {
				wait = time.Millisecond
			}
			return err
		}, args...)
	})
	return wait, spent, err
}

// CensusRelease implements census.Store.
func (d *DB) CensusRelease(ctx context.Context, run, host string, interval time.Duration) error {
	now, clock := d.clock()
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE census_turns SET next_us = `+now+` + $3 WHERE run = $1 AND host = $2 AND $4 = 0 AND $5 = 0`,
			append([]any{run, host, interval.Microseconds(), 0, 0}, clock...)...)
		return err
	})
}

// CensusKnown implements census.Store.
func (d *DB) CensusKnown(ctx context.Context, run, key string) (known []byte, err error) {
	err = d.read(ctx, `SELECT body FROM census_known WHERE run = $1 AND name = $2`, func(r row) error { return r.Scan(&known) }, run, key)
	return known, err
}

// CensusClaim implements census.Store.
func (d *DB) CensusClaim(ctx context.Context, run, key string, lease time.Duration) (known []byte, mine bool, err error) {
	if known, err = d.CensusKnown(ctx, run, key); err != nil || known != nil {
		return known, false, err
	}
	now, clock := d.clock()
	err = d.write(ctx, func(t tx) error {
		mine = false
		return t.query(`INSERT INTO census_known(run, name, until_us) VALUES ($1, $2, `+now+` + $3)
			ON CONFLICT (run, name) DO UPDATE SET until_us = `+now+` + $3 WHERE census_known.body IS NULL AND census_known.until_us <= `+now+` AND $4 = 0 AND $5 = 0 RETURNING name`,
			func(r row) error { var n string; mine = true; return r.Scan(&n) }, append([]any{run, key, lease.Microseconds(), 0, 0}, clock...)...)
	})
	if err == nil && !mine {
		known, err = d.CensusKnown(ctx, run, key)
	}
	return known, mine, err
}

// CensusRenew implements census.Store.
func (d *DB) CensusRenew(ctx context.Context, run, key string, lease time.Duration) error {
	now, clock := d.clock()
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE census_known SET until_us = `+now+` + $3 WHERE run = $1 AND name = $2 AND body IS NULL AND $4 = 0 AND $5 = 0`,
			append([]any{run, key, lease.Microseconds(), 0, 0}, clock...)...)
		return err
	})
}

// CensusUnclaim implements census.Store.
func (d *DB) CensusUnclaim(ctx context.Context, run, key string) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM census_known WHERE run = $1 AND name = $2 AND body IS NULL`, run, key)
		return err
	})
}

// CensusLearn implements census.Store.
func (d *DB) CensusLearn(ctx context.Context, run, key string, known []byte) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE census_known SET body = $1 WHERE run = $2 AND name = $3 AND body IS NULL`, known, run, key)
		return err
	})
}
