package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

var _ gateway.Sink = (*DB)(nil)

// AppendEntries implements gateway.Sink.
func (d *DB) AppendEntries(ctx context.Context, chain string, entries []gateway.Entry) error {
	return d.write(ctx, func(t tx) error {
		for _, e := range entries {
			r := e.Record
			if r == nil {
				r = &gateway.Record{}
				_ = json.Unmarshal(e.Body, r) // what cannot be read is found by its time
			}
			// The entry before must be the one that this one was chained to.
			n, err := t.exec(`INSERT INTO journal(chain, seq, at_ms, prev, hash, body, request, user_id, client_id, server, decision)
				SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 WHERE COALESCE((SELECT MAX(seq) FROM journal WHERE chain = $12), 0) = $13`,
				chain, e.Seq, ms(e.At), e.Prev, e.Hash, string(e.Body), r.ID, r.User, r.Client, r.Server, r.Decision, chain, e.Seq-1)
			if err != nil {
				return err
			}
			if n == 0 {
				return kidoban.Errorf(kidoban.KindConflict, "another process writes the audit log %s: give each its own name", chain)
			}
		}
		return nil
	})
}

// LastEntry implements gateway.Sink.
func (d *DB) LastEntry(ctx context.Context, chain string) (seq int64, hash []byte, err error) {
	err = d.read(ctx, `SELECT seq, hash FROM journal WHERE chain = $1 ORDER BY seq DESC LIMIT 1`,
		func(r row) error { return r.Scan(&seq, &hash) }, chain)
	return seq, hash, err
}

// JournalEntries lists a chain in order, after the given number, at most limit.
func (d *DB) JournalEntries(ctx context.Context, chain string, after int64, limit int) (out []gateway.Entry, err error) {
	err = d.read(ctx, `SELECT seq, at_ms, prev, hash, body FROM journal WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3`, func(r row) error {
		var e gateway.Entry
		err := r.Scan(&e.Seq, at(&e.At), &e.Prev, &e.Hash, text(&e.Body))
		out = append(out, e)
		return err
	}, chain, after, limit)
	return out, err
}

// JournalChains lists the chains there are, in order of name.
func (d *DB) JournalChains(ctx context.Context) (out []string, err error) {
	err = d.read(ctx, `SELECT DISTINCT chain FROM journal ORDER BY chain`, func(r row) error {
		var c string
		err := r.Scan(&c)
		out = append(out, c)
		return err
	})
	return out, err
}

var _ gateway.Archive = (*DB)(nil)

// JournalFront implements gateway.Archive.
func (d *DB) JournalFront(ctx context.Context, chain string, before time.Time) (seq int64, hash []byte, err error) {
	// The front ends before the first entry that is young enough, or before the last.
	err = d.read(ctx, `SELECT seq, hash FROM journal WHERE chain = $1
		AND seq < COALESCE((SELECT MIN(seq) FROM journal WHERE chain = $2 AND at_ms >= $3), (SELECT MAX(seq) FROM journal WHERE chain = $4))
		ORDER BY seq DESC LIMIT 1`, func(r row) error { return r.Scan(&seq, &hash) }, chain, chain, ms(before), chain)
	return seq, hash, err
}

// JournalCut implements gateway.Archive.
func (d *DB) JournalCut(ctx context.Context, chain string, seq int64, batch int) (n int64, err error) {
	err = d.write(ctx, func(t tx) error {
		n, err = t.exec(`DELETE FROM journal WHERE chain = $1 AND seq IN (SELECT seq FROM journal WHERE chain = $2 AND seq <= $3 ORDER BY seq LIMIT $4)`, chain, chain, seq, batch)
		return err
	})
	return n, err
}
