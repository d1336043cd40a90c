package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
)

// TestContractGTG6Approvals: one approval for one binding, decided once by its
// user, used once, and gone when its time is over.
func TestContractGTG6Approvals(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		a := gateway.Approval{ID: "a1", Binding: "b1", User: "u1", Client: "c", Server: "mail", Tool: "send", Sealed: "x", State: gateway.ApprovalWaiting, Created: epoch, Expires: epoch.Add(time.Minute)}
		// Parallel asks for the same call get the same approval.
		ids := make([]string, 8)
		parallel(t, len(ids), func(i int) (bool, error) {
			mine := a
			mine.ID = fmt.Sprint("p", i)
			got, err := s.AskApproval(ctx, mine, 2)
			ids[i] = got.ID
			return got.ID == mine.ID, err
		})
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("several approvals for one call: %v", ids)
			}
		}
		got, err := s.Approval(ctx, ids[0])
		must(t, err)
		a.ID = ids[0]
		if diff := cmp.Diff(a, got); diff != "" {
			t.Error(diff)
		}
		other := a
		other.ID, other.Binding = "o", "b2"
		_, err = s.AskApproval(ctx, other, 2)
		must(t, err)
		third := a
		third.ID, third.Binding = "t", "b3"
		_, err = s.AskApproval(ctx, third, 2)
		wantKind(t, err, kidoban.KindLimit)
		list, err := s.WaitingApprovals(ctx, "u1", epoch)
		must(t, err)
		for _, c := range []struct {
			user     string
			at       time.Time
			own, all int
		}{{"u1", epoch, 2, 2}, {"u2", epoch, 0, 2}, {"u1", epoch.Add(time.Minute), 0, 0}} {
			if own, all, err := s.WaitingCalls(ctx, c.user, c.at); err != nil || own != c.own || all != c.all {
				t.Errorf("%s at %s: %d of %d calls wait, %v", c.user, c.at, own, all, err)
			}
		}
		if len(list) != 2 {
			t.Errorf("%d wait", len(list))
		}

		decide := a
		decide.State, decide.By, decide.Decided = gateway.ApprovalApproved, "ann", epoch.Add(time.Second)
		stranger := decide
		stranger.User = "u2"
		wantKind(t, s.DecideApproval(ctx, stranger), kidoban.KindConflict)
		late := decide
		late.Decided = a.Expires
		wantKind(t, s.DecideApproval(ctx, late), kidoban.KindConflict)
		if used, err := s.UseApproval(ctx, a.ID, epoch); used || err != nil {
			t.Errorf("used before it was approved: %v", err)
		}
		if n := parallel(t, 8, func(int) (bool, error) {
			err := s.DecideApproval(ctx, decide)
			if kidoban.KindOf(err) == kidoban.KindConflict {
				return false, nil
			}
			return err == nil, err
		}); n != 1 {
			t.Errorf("decided %d times", n)
		}
		if used, err := s.UseApproval(ctx, a.ID, a.Expires); used || err != nil {
			t.Errorf("used after its end: %v", err)
		}
		if n := parallel(t, 8, func(int) (bool, error) { return s.UseApproval(ctx, a.ID, epoch.Add(2*time.Second)) }); n != 1 {
			t.Errorf("used %d times", n)
		}
		again := a
		again.ID = "a2"
		if got, err = s.AskApproval(ctx, again, 2); err != nil || got.ID != "a2" || got.State != gateway.ApprovalWaiting {
			t.Errorf("after its use the next call asks anew: %+v %v", got, err)
		}
		n, err := s.Purge(ctx, epoch.Add(time.Hour), time.Minute, 10)
		must(t, err)
		if n != 2 {
			t.Errorf("purged %d", n)
		}
		_, err = s.Approval(ctx, "a2")
		wantKind(t, err, kidoban.KindNotFound)
	})
}

func TestContractGTG5SessionLabels(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		label := func(name, source string, at time.Time) []gateway.SessionLabel {
			return []gateway.SessionLabel{{Label: name, Source: source, At: at}}
		}
		must(t, s.LabelSession(ctx, "u1", label("untrusted", "web/fetch", epoch)))
		must(t, s.LabelSession(ctx, "u1", label("private", "files/read", epoch.Add(time.Minute))))
		must(t, s.LabelSession(ctx, "u1", label("untrusted", "mail/list", epoch.Add(time.Hour))))
		must(t, s.LabelSession(ctx, "u1", label("untrusted", "old", epoch)))
		must(t, s.LabelSession(ctx, "u2", label("private", "x/y", epoch)))
		got, err := s.SessionLabels(ctx, "u1", epoch)
		must(t, err)
		want := []gateway.SessionLabel{{Label: "private", Source: "files/read", At: epoch.Add(time.Minute)}, {Label: "untrusted", Source: "mail/list", At: epoch.Add(time.Hour)}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		got, err = s.SessionLabels(ctx, "u1", epoch.Add(2*time.Minute))
		must(t, err)
		if len(got) != 1 || got[0].Label != "untrusted" {
			t.Errorf("%+v", got)
		}
		must(t, s.ForgetSession(ctx, "u1"))
		if got, err = s.SessionLabels(ctx, "u1", epoch); err != nil || len(got) != 0 {
			t.Errorf("%+v %v", got, err)
		}
		n, err := s.Purge(ctx, epoch.Add(25*time.Hour), 24*time.Hour, 10)
		must(t, err)
		if n != 1 {
			t.Errorf("purged %d", n)
		}
	})
}
