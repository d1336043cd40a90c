package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
)

// verify checks every chain as kidoban gateway log --verify does.
func verify(t *testing.T, s *store.DB) error {
	t.Helper()
	_, err := gateway.VerifyArchive(t.Context(), s, s.JournalEntries)
	return err
}

// TestRetentionKeepsTheChainVerifiable: old entries go, what is left is verified
// from a checkpoint, and a front that somebody cut off themselves is found.
func TestRetentionKeepsTheChainVerifiable(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		j, err := gateway.OpenJournal(ctx, s, "gateway")
		must(t, err)
		other, err := gateway.OpenJournal(ctx, s, "gone")
		must(t, err)
		for day := range 40 {
			at := epoch.AddDate(0, 0, day)
			for i := range 60 {
				j.Append(ctx, gateway.Record{ID: fmt.Sprint(day, "-", i), At: at, User: "u", Decision: "allowed"})
			}
			if day < 3 {
				other.Append(ctx, gateway.Record{ID: fmt.Sprint(day), At: at, User: "u", Decision: "allowed"})
			}
		}
		must(t, j.Flush(ctx))
		must(t, other.Close(ctx))
		now := epoch.AddDate(0, 0, 40)
		gone, err := j.Trim(ctx, s, now.AddDate(0, 0, -10), now)
		must(t, err)
		if gone != 30*60+2 { // of the chain that has ended the last entry stays
			t.Errorf("%d entries went", gone)
		}
		must(t, verify(t, s))
		if gone, err = j.Trim(ctx, s, now.AddDate(0, 0, -10), now); err != nil || gone != 0 {
			t.Errorf("the second time %d went: %v", gone, err)
		}
		must(t, j.Close(ctx))
		j, err = gateway.OpenJournal(ctx, s, "gateway") // goes on where it was
		must(t, err)
		j.Append(ctx, gateway.Record{ID: "later", At: now.Add(time.Hour), User: "u", Decision: "allowed"})
		must(t, j.Close(ctx))
		must(t, verify(t, s))
		// Somebody hides what they did by cutting the front, without a checkpoint.
		all, err := s.JournalEntries(ctx, "gateway", 0, 10)
		must(t, err)
		if _, err := s.JournalCut(ctx, "gateway", all[4].Seq, 100); err != nil {
			t.Fatal(err)
		}
		if err := verify(t, s); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("a front cut off in secret was not found: %v", err)
		}
	})
}
