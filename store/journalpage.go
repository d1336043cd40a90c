package store

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
)

// maxSpans bounds how many spans of time one page reads one by one. A page may so
// end before it is full; its Next goes on there.
const maxSpans = 256

// span is a time, [from, to) in milliseconds.
type span struct{ from, to int64 }

// PageJournal implements console.Store.
func (d *DB) PageJournal(ctx context.Context, q console.JournalQuery) (console.Page[console.JournalEntry], error) {
	whole := span{ms(q.From), math.MaxInt64}
	if !q.To.IsZero() {
		whole.to = ms(q.To)
	}
	switch {
	case q.Request != "": // has an index
	case q.User != "":
		return d.pageWord(ctx, q, seenUser(q.User), whole)
	case q.Client != "":
		return d.pageWord(ctx, q, seenClient(q.Client), whole)
	case q.Server != "" && !q.Other: // Other has an index, and is rarer than a server
		return d.pageWord(ctx, q, seenServer(q.Server), whole)
	}
	return d.pageSpan(ctx, q, whole)
}

// pageWord is the page of entries that hold a word: it reads span after span until
// the page is full.
func (d *DB) pageWord(ctx context.Context, q console.JournalQuery, word string, in span) (p console.Page[console.JournalEntry], err error) {
	if !q.After.At.IsZero() {
		in.to = min(in.to, ms(q.After.At)+1)
	}
	stop := func(at int64) (console.Page[console.JournalEntry], error) {
		p.Next = entryPlace(time.UnixMilli(at), "", 0)
		p.Looked = p.Next.At
		return p, nil
	}
	part := q
	for read := 0; ; {
		spans, more, err := d.spans(ctx, word, in)
		if err != nil {
			return p, err
		}
		for _, s := range spans {
			if read++; read > maxSpans {
				return stop(s.to)
			}
			part.Limit = q.Limit - len(p.Rows) + 1 // one more tells whether there is a next page
			found, err := d.pageSpan(ctx, part, s)
			if err != nil {
				return p, err
			}
			p.Rows = append(p.Rows, found.Rows...)
			if len(p.Rows) > q.Limit {
				p.Rows = p.Rows[:q.Limit]
				last := p.Rows[q.Limit-1]
				p.Next = entryPlace(last.At, last.Chain, last.Seq)
				return p, nil
			}
			if !found.Next.At.IsZero() { // enough was looked at
				p.Next, p.Looked = found.Next, found.Looked
				return p, nil
			}
			if q.Text == "" {
				continue
			}
			n, err := d.looked(ctx, part, s)
			if err != nil {
				return p, err
			}
			if part.Look -= n; part.Look <= 0 {
				return stop(s.from)
			}
		}
		if !more {
			return p, nil
		}
		in.to = spans[len(spans)-1].from
	}
}

// spans lists when a word occurs, the newest first; spans that touch are one. more
// tells that there may be earlier ones.
func (d *DB) spans(ctx context.Context, word string, in span) (out []span, more bool, err error) {
	n := 0
	err = d.read(ctx, `SELECT at_ms FROM journal_seen WHERE word = $1 AND at_ms > $2 AND at_ms < $3 ORDER BY at_ms DESC LIMIT $4`, func(r row) error {
		var at int64
		if err := r.Scan(&at); err != nil {
			return err
		}
		if n++; len(out) > 0 && out[len(out)-1].from == at+seenSpan {
			out[len(out)-1].from = at
		} else {
			out = append(out, span{at, at + seenSpan})
		}
		return nil
	}, word, in.from-seenSpan, in.to, maxSpans)
	for i := range out { // the first and the last may reach over the ends
		out[i] = span{max(out[i].from, in.from), min(out[i].to, in.to)}
	}
	return out, n == maxSpans, err
}

// journalList is the list of the entries in a span, with the query's conditions.
func journalList(q console.JournalQuery, in span) *listing {
	l := &listing{columns: `chain, seq, at_ms, hash, body`, from: "journal", key: []string{"at_ms", "chain", "seq"}, looks: []string{"body"}, q: q.Query}
	// The tightest bound on the time alone: PostgreSQL cannot tell how much one on
	// the whole key leaves, and begins to read at the wrong one of two.
	if q.After.At.IsZero() || ms(q.After.At) >= in.to {
		l.and("at_ms < ?", in.to)
	} else {
		l.and("at_ms <= ?", ms(q.After.At))
		number, chain, _ := strings.Cut(q.After.Key, " ")
		seq, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			seq = 0
		}
		l.behind(q.After.At, chain, seq)
	}
	if q.Request != "" { // the second half lets the engines use the partial index
		l.and("request = ? AND request <> ''", q.Request)
	}
	for _, c := range []struct{ condition, value string }{{"user_id = ?", q.User}, {"client_id = ?", q.Client}, {"server = ?", q.Server}} {
		if c.value != "" {
			l.and(c.condition, c.value)
		}
	}
	if q.Other {
		l.where = append(l.where, "decision NOT IN ('', 'allowed', 'ok')")
	}
	if in.from > 0 {
		l.and("at_ms >= ?", in.from)
	}
	return l
}

// pageSpan is the page of the entries in one span.
func (d *DB) pageSpan(ctx context.Context, q console.JournalQuery, in span) (console.Page[console.JournalEntry], error) {
	return page(ctx, d, journalList(q, in), func(r row, e *console.JournalEntry) error {
		if err := r.Scan(&e.Chain, &e.Seq, at(&e.At), &e.Hash, text(&e.Body)); err != nil {
			return err
		}
		if json.Unmarshal(e.Body, &e.Record) != nil {
			e.Record = gateway.Record{At: e.At, Decision: "unreadable"}
		}
		return nil
	}, func(e console.JournalEntry) console.Place { return entryPlace(e.At, e.Chain, e.Seq) },
		func(r row) (console.Place, error) {
			var e console.JournalEntry
			err := r.Scan(at(&e.At), &e.Chain, &e.Seq)
			return entryPlace(e.At, e.Chain, e.Seq), err
		})
}

// looked counts the entries of a span in which a text was looked for.
func (d *DB) looked(ctx context.Context, q console.JournalQuery, in span) (n int, err error) {
	l := journalList(q, in)
	query := "SELECT COUNT(*) FROM (" + l.inner("1") + " LIMIT " + l.arg(q.Look) + ") x"
	err = d.read(ctx, query, func(r row) error { return r.Scan(&n) }, l.args...)
	return n, err
}

func entryPlace(at time.Time, chain string, seq int64) console.Place {
	return console.Place{At: at, Key: strconv.FormatInt(seq, 10) + " " + chain}
}
