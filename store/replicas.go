package store

import (
	"context"
	"time"

	"github.com/kidoban/kidoban/gateway"
)

var (
	_ gateway.Replicas = (*Replicas)(nil)
	_ gateway.Notes    = (*DB)(nil)
)

// Remember implements gateway.Notes.
func (d *DB) Remember(ctx context.Context, key, value string, expires time.Time) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO notes(key, value, expires_ms) VALUES ($1, $2, $3)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms`, key, value, ms(expires))
		return err
	})
}

// Amend implements gateway.Notes.
func (d *DB) Amend(ctx context.Context, key, was, value string, now, expires time.Time) (done bool, err error) {
	err = d.write(ctx, func(t tx) error {
		n, err := int64(0), error(nil)
		if was == "" {
			n, err = t.exec(`INSERT INTO notes(key, value, expires_ms) VALUES ($1, $2, $3)
				ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms WHERE notes.expires_ms <= $4`, key, value, ms(expires), ms(now))
		} else {
			n, err = t.exec(`UPDATE notes SET value = $1, expires_ms = $2 WHERE key = $3 AND value = $4`, value, ms(expires), key, was)
		}
		done = n > 0
		return err
	})
	return done && err == nil, err
}

// Recall implements gateway.Notes.
func (d *DB) Recall(ctx context.Context, key string, now time.Time) (value string, err error) {
	err = d.readOne(ctx, "note", `SELECT value FROM notes WHERE key = $1 AND expires_ms > $2`, func(r row) error { return r.Scan(&value) }, key, ms(now))
	return value, err
}

// Replicas is what processes on one PostgreSQL share.
type Replicas struct {
	*DB
	out *mailOut
}

// Replicas returns nil for SQLite, which one process has for itself. The caller
// closes what it gets, before the DB.
func (d *DB) Replicas() *Replicas {
	if !d.Postgres() {
		return nil
	}
	return &Replicas{DB: d, out: newMailOut(d.pool)}
}

// Close ends the connection that sends.
func (p *Replicas) Close() error { return p.out.close() }

// Beat implements gateway.Replicas.
func (p *Replicas) Beat(ctx context.Context, name string) (beats map[string]int64, err error) {
	err = p.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO replicas(name, beat) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET beat = replicas.beat + 1`, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	beats = map[string]int64{}
	err = p.read(ctx, `SELECT name, beat FROM replicas`, func(r row) error {
		var name string
		var beat int64
		err := r.Scan(&name, &beat)
		beats[name] = beat
		return err
	})
	return beats, err
}

// Bury implements gateway.Replicas.
func (p *Replicas) Bury(ctx context.Context, name string, beat int64) error {
	return p.write(ctx, func(t tx) error {
		n, err := t.exec(`DELETE FROM replicas WHERE name = $1 AND (beat = $2 OR $3 < 0)`, name, beat, beat)
		if err != nil || n == 0 {
			return err
		}
		_, err = t.exec(`DELETE FROM claims WHERE holder = $1`, name)
		return err
	})
}

// Claim implements gateway.Replicas.
func (p *Replicas) Claim(ctx context.Context, key, name, instead string) (holder string, err error) {
	err = p.write(ctx, func(t tx) error {
		// The no-op update makes RETURNING give the row that is there.
		return t.query(`INSERT INTO claims(key, holder) VALUES ($1, $2)
			ON CONFLICT (key) DO UPDATE SET holder = CASE WHEN claims.holder = $3 THEN excluded.holder ELSE claims.holder END RETURNING holder`,
			func(r row) error { return r.Scan(&holder) }, key, name, instead)
	})
	return holder, err
}

// Release implements gateway.Replicas.
func (p *Replicas) Release(ctx context.Context, key, name string) error {
	return p.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM claims WHERE key = $1 AND holder = $2`, key, name)
		return err
	})
}
