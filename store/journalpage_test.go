package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
)

// TestContractJournalPagesAgainstTheLog: whatever is asked for, pages show the same
// entries in the same order as reading the whole log and leaving out the others,
// with calls that began long before they were recorded, and gaps of any length.
func TestContractJournalPagesAgainstTheLog(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		r := rand.New(rand.NewPCG(1, 2))
		all := randomLog(t, s, r, 600)
		for range 16 {
			q := randomQuery(r)
			var want []string
			for _, e := range all {
				if wanted(q, e) {
					want = append(want, e.Record.ID)
				}
			}
			got, _ := walk(t, q.Query, func(page console.Query) (console.Page[console.JournalEntry], error) {
				q := q
				q.Query = page
				return s.PageJournal(ctx, q)
			}, func(e console.JournalEntry) string { return e.Record.ID })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v: %s", q, diff)
			}
		}
	})
}

// randomLog writes n records in two chains and returns them newest first.
func randomLog(t *testing.T, s *store.DB, r *rand.Rand, n int) (all []console.JournalEntry) {
	t.Helper()
	now := epoch
	prev, seq := map[string][]byte{"a": make([]byte, 32), "b": make([]byte, 32)}, map[string]int64{}
	for len(all) < n {
		chain := []string{"a", "b"}[r.IntN(2)]
		var batch []gateway.Entry
		for range 1 + r.IntN(40) {
			now = now.Add(time.Duration(r.IntN(60)) * time.Millisecond)
			if r.IntN(50) == 0 {
				now = now.Add(time.Duration(r.IntN(30)) * time.Second)
			}
			began := now
			if r.IntN(20) == 0 { // a stream that was open for long
				began = now.Add(-time.Duration(r.IntN(100)) * time.Second)
			}
			rec := gateway.Record{ID: fmt.Sprint("R", len(all)), At: began, Decision: []string{"allowed", "allowed", "allowed", "refused"}[r.IntN(4)],
				User: []string{"", "u1", "u2", fmt.Sprint("u", r.IntN(40))}[r.IntN(4)], Client: fmt.Sprint("c", r.IntN(3)), Server: []string{"", "files"}[r.IntN(2)]}
			body, err := json.Marshal(rec)
			must(t, err)
			seq[chain]++
			e := gateway.Entry{Seq: seq[chain], At: began, Prev: prev[chain], Body: body}
			e.Hash = gateway.ChainHash(e.Prev, e.Seq, e.Body)
			prev[chain] = e.Hash
			batch = append(batch, e)
			all = append(all, console.JournalEntry{Chain: chain, Seq: e.Seq, At: began, Body: body, Record: rec})
		}
		must(t, s.AppendEntries(t.Context(), chain, batch))
	}
	slices.SortFunc(all, func(a, b console.JournalEntry) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		if c := strings.Compare(b.Chain, a.Chain); c != 0 {
			return c
		}
		return int(b.Seq - a.Seq)
	})
	return all
}

func randomQuery(r *rand.Rand) console.JournalQuery {
	maybe := func(v string) string {
		if r.IntN(2) == 0 {
			return ""
		}
		return v
	}
	q := console.JournalQuery{Query: console.Query{Limit: 20 + r.IntN(200), Look: 50 + r.IntN(200)}, User: maybe(fmt.Sprint("u", r.IntN(42))), Client: maybe("c1"), Server: maybe("files"), Other: r.IntN(4) == 0}
	if r.IntN(4) == 0 {
		q.Text = "U1"
	}
	if r.IntN(3) == 0 {
		q.From = epoch.Add(time.Duration(r.IntN(200_000)) * time.Millisecond)
		q.To = q.From.Add(time.Duration(r.IntN(200_000)) * time.Millisecond)
	}
	return q
}

// wanted is what the query says, without an index.
func wanted(q console.JournalQuery, e console.JournalEntry) bool {
	r := e.Record
	return (q.User == "" || r.User == q.User) && (q.Client == "" || r.Client == q.Client) && (q.Server == "" || r.Server == q.Server) &&
		(!q.Other || r.Decision != "allowed") && (q.Text == "" || strings.Contains(strings.ToLower(string(e.Body)), strings.ToLower(q.Text))) &&
		(q.From.IsZero() || !e.At.Before(q.From)) && (q.To.IsZero() || e.At.Before(q.To))
}

// TestJournalCutTakesWhatEntriesWereFoundBy: what finds entries goes with them.
func TestJournalCutTakesWhatEntriesWereFoundBy(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := context.Background()
		all := randomLog(t, s, rand.New(rand.NewPCG(3, 4)), 400)
		before := s.SeenRows(t)
		cut := all[len(all)/2].At
		for _, chain := range []string{"a", "b"} {
			seq, _, err := s.JournalFront(ctx, chain, cut)
			must(t, err)
			_, err = s.JournalCut(ctx, chain, seq, 10_000)
			must(t, err)
		}
		after := s.SeenRows(t)
		if after == 0 || after >= before {
			t.Errorf("%d rows, then %d", before, after)
		}
		p, err := s.PageJournal(ctx, console.JournalQuery{Client: "c1", Query: console.Query{Limit: 1000}})
		must(t, err)
		if len(p.Rows) == 0 {
			t.Error("nothing is found any more")
		}
	})
}
