package store

import (
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban/gateway"
)

// Users, clients and servers ("words") are found in the audit log by the spans of
// time in which they occur. A row of journal_seen says that a word occurs in the
// entries of one span; within it the entries are read in their order and compared.
// A span is short enough that few entries are read in vain on a busy gateway, and
// long enough that there many entries share a row.
const seenSpan = 100 // milliseconds; the migration that filled the table says the same

// seen is a word in a span.
type seen struct {
	word string
	at   int64 // the span's first millisecond
}

func seenUser(id string) string     { return "u:" + id }
func seenClient(id string) string   { return "c:" + id }
func seenServer(name string) string { return "s:" + name }

// seenOf lists what entries are to be found by, each once and in order, so that two
// processes that write at once take their rows in the same order.
func seenOf(entries []gateway.Entry) []seen {
	all := map[seen]struct{}{}
	for _, e := range entries {
		at := ms(e.At)
		at -= at % seenSpan
		for _, word := range [...]string{seenUser(e.Record.User), seenClient(e.Record.Client), seenServer(e.Record.Server)} {
			if len(word) > len("u:") {
				all[seen{word, at}] = struct{}{}
			}
		}
	}
	out := make([]seen, 0, len(all))
	for s := range all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b seen) int {
		if c := strings.Compare(a.word, b.word); c != 0 {
			return c
		}
		return int(a.at - b.at)
	})
	return out
}

// seenLately remembers which rows this process has stored a moment ago, so that the
// batches of one span do not store them again. Forgetting is harmless.
type seenLately struct {
	mu   sync.Mutex
	from int64             // the oldest span remembered; guarded by mu
	rows map[seen]struct{} // guarded by mu
}

// maxSeenLately and seenMemory bound what is remembered, in rows and milliseconds.
const (
	maxSeenLately = 4096
	seenMemory    = 1000
)

// missing are the rows that have to be stored.
func (l *seenLately) missing(all []seen) []seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(all), func(s seen) bool { _, known := l.rows[s]; return known })
}

// stored remembers rows that are durable.
func (l *seenLately) stored(rows []seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range rows {
		if l.rows == nil || len(l.rows) >= maxSeenLately || s.at-l.from > seenMemory {
			l.from, l.rows = s.at, map[seen]struct{}{}
		}
		l.rows[s] = struct{}{}
	}
}

// insertSeen stores rows in a transaction; one that is there stays.
func insertSeen(t tx, rows []seen) error {
	for len(rows) > 0 {
		n := inserts(len(rows))
		args := make([]any, 0, 2*journalRows)
		for _, s := range rows[:n] {
			args = append(args, s.word, s.at)
		}
		if _, err := t.exec(seenInserts[n], args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

var seenInserts = map[int]string{
	1:           insertRows("journal_seen(word, at_ms)", 2, 1) + " ON CONFLICT DO NOTHING",
	journalRows: insertRows("journal_seen(word, at_ms)", 2, journalRows) + " ON CONFLICT DO NOTHING",
}
