package store

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

var _ gateway.Sink = (*DB)(nil)

// journalRows is how many entries one statement stores: the cost of a statement is
// mostly its own.
const journalRows = 16

const journalColumns = 11

const journalInto = "journal(chain, seq, at_ms, prev, hash, body, request, user_id, client_id, server, decision)"

var journalInserts = map[int]string{1: insertRows(journalInto, journalColumns, 1), journalRows: insertRows(journalInto, journalColumns, journalRows)}

// insertRows is a statement that stores n rows.
func insertRows(into string, columns, n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + into + " VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		for j := range columns {
			b.WriteString([]string{"($", ", $"}[min(j, 1)] + strconv.Itoa(i*columns+j+1))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// inserts cuts n rows into as many as fit one statement.
func inserts(n int) int {
	if n >= journalRows {
		return journalRows
	}
	return 1
}

// AppendEntries implements gateway.Sink.
func (d *DB) AppendEntries(ctx context.Context, chain string, entries []gateway.Entry) error {
	conflict := kidoban.Errorf(kidoban.KindConflict, "another process writes the audit log %s: give each its own name", chain)
	for i, e := range entries {
		if e.Seq != entries[0].Seq+int64(i) {
			return conflict
		}
	}
	entries = recorded(entries)
	words := d.seen.missing(seenOf(entries))
	err := d.write(ctx, func(t tx) error {
		// The entry before must be the one that the first was chained to. Of two
		// processes that both see it the primary key refuses one.
		last := int64(0)
		if err := t.query(`SELECT COALESCE(MAX(seq), 0) FROM journal WHERE chain = $1`, func(r row) error { return r.Scan(&last) }, chain); err != nil {
			return err
		}
		if len(entries) > 0 && last != entries[0].Seq-1 {
			return conflict
		}
		args := make([]any, 0, journalRows*journalColumns)
		for rest := entries; len(rest) > 0; {
			n := inserts(len(rest))
			args = args[:0]
			for _, e := range rest[:n] {
				r := e.Record
				args = append(args, chain, e.Seq, ms(e.At), e.Prev, e.Hash, string(e.Body), r.ID, r.User, r.Client, r.Server, r.Decision)
			}
			if _, err := t.exec(journalInserts[n], args...); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return insertSeen(t, words)
	})
	if err == nil {
		d.seen.stored(words)
	}
	return err
}

// recorded fills in what entries say where the journal did not. The caller's stay as
// they are.
func recorded(entries []gateway.Entry) []gateway.Entry {
	if !slices.ContainsFunc(entries, func(e gateway.Entry) bool { return e.Record == nil }) {
		return entries
	}
	entries = slices.Clone(entries)
	for i, e := range entries {
		if e.Record == nil {
			entries[i].Record = new(gateway.Record)
			_ = json.Unmarshal(e.Body, entries[i].Record) // what cannot be read is found by its time
		}
	}
	return entries
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
		if err != nil {
			return err
		}
		_, err = t.exec(`DELETE FROM journal_seen WHERE at_ms < (SELECT MIN(at_ms) FROM journal) - $1`, seenSpan)
		return err
	})
	return n, err
}
