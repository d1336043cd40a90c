package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/toolscan"
)

func TestContractJournal(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		chain := func(from int64, prev []byte, bodies ...string) (out []gateway.Entry) {
			for i, b := range bodies {
				e := gateway.Entry{Seq: from + int64(i), At: epoch, Prev: prev, Body: []byte(b)}
				e.Hash = gateway.ChainHash(prev, e.Seq, e.Body)
				prev, out = e.Hash, append(out, e)
			}
			return out
		}
		seq, hash, err := s.LastEntry(ctx, "a")
		if err != nil || seq != 0 || hash != nil {
			t.Fatalf("empty: %d %x %v", seq, hash, err)
		}
		zero := make([]byte, 32)
		first := chain(1, zero, `{"id":"1"}`, `{"id":"2"}`)
		must(t, s.AppendEntries(ctx, "a", first))
		must(t, s.AppendEntries(ctx, "b", chain(1, zero, `{"id":"b"}`)))
		if err := s.AppendEntries(ctx, "a", first); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("the same again: %v", err)
		}
		if err := s.AppendEntries(ctx, "a", chain(4, first[1].Hash, `{}`)); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("a gap: %v", err)
		}
		second := chain(3, first[1].Hash, `{"id":"3"}`, `{"id":"4"}`)
		broken := append(second[:1:1], chain(5, nil, `{}`)...)
		if err := s.AppendEntries(ctx, "a", broken); err == nil {
			t.Error("a batch with a gap was taken")
		}
		must(t, s.AppendEntries(ctx, "a", second)) // the broken batch left nothing
		all, err := s.JournalEntries(ctx, "a", 0, 100)
		must(t, err)
		if diff := cmp.Diff(append(first, second...), all); diff != "" {
			t.Error(diff)
		}
		must(t, gateway.VerifyChain(zero, all))
		chains, err := s.JournalChains(ctx)
		must(t, err)
		if diff := cmp.Diff([]string{"a", "b"}, chains); diff != "" {
			t.Error(diff)
		}
		late := chain(5, second[1].Hash, `{"id":"5"}`)
		late[0].At = epoch.Add(time.Hour)
		must(t, s.AppendEntries(ctx, "a", late))
		for _, c := range []struct {
			before time.Time
			seq    int64
		}{{epoch, 0}, {epoch.Add(time.Minute), 4}, {epoch.Add(2 * time.Hour), 4}} { // the last entry stays
			if seq, hash, err := s.JournalFront(ctx, "a", c.before); err != nil || seq != c.seq || seq > 0 && string(hash) != string(all[seq-1].Hash) {
				t.Errorf("front before %s: %d %v", c.before, seq, err)
			}
		}
		if n, err := s.JournalCut(ctx, "a", 4, 3); err != nil || n != 3 {
			t.Errorf("deleted %d, %v", n, err)
		}
		if n, err := s.JournalCut(ctx, "a", 4, 3); err != nil || n != 1 {
			t.Errorf("deleted %d, %v", n, err)
		}
		left, err := s.JournalEntries(ctx, "a", 0, 10)
		must(t, err)
		if len(left) != 1 || gateway.VerifyChain(second[1].Hash, left) != nil {
			t.Errorf("%v", left)
		}
		must(t, s.AppendEntries(ctx, "a", chain(6, late[0].Hash, `{}`)))
	})
}

func TestContractAccounts(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		a := account.Account{User: "u1", Server: "github", Issuer: "https://i", Sealed: []byte{1, 2}, Updated: epoch}
		if _, err := s.Account(ctx, "u1", "github"); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("%v", err)
		}
		must(t, s.PutAccount(ctx, a))
		got, err := s.Account(ctx, "u1", "github")
		must(t, err)
		a.Version = epoch.UnixMilli()
		if diff := cmp.Diff(a, got); diff != "" {
			t.Error(diff)
		}
		next := got
		next.Sealed = []byte{3}
		must(t, s.SwapAccount(ctx, next))
		if err := s.SwapAccount(ctx, next); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("a second swap from the same version: %v", err)
		}
		next.Version, next.Issuer = a.Version+1, "https://other"
		if err := s.SwapAccount(ctx, next); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("another issuer: %v", err)
		}
		for _, b := range []account.Account{{User: "", Server: "x"}, {User: "u1", Server: "a"}, {User: "u2", Server: "github"}} {
			b.Sealed, b.Updated = []byte{9}, epoch
			must(t, s.PutAccount(ctx, b))
		}
		mine, err := s.UserAccounts(ctx, "u1")
		if err != nil || len(mine) != 2 || mine[0].Server != "a" || mine[1].Server != "github" || mine[1].Version != a.Version+1 {
			t.Errorf("%+v %v", mine, err)
		}
		var seen []string
		user, server := "", ""
		for {
			page, err := s.AllAccounts(ctx, user, server, 1)
			must(t, err)
			if len(page) == 0 {
				break
			}
			user, server = page[0].User, page[0].Server
			seen = append(seen, user+"/"+server)
		}
		if diff := cmp.Diff([]string{"/x", "u1/a", "u1/github", "u2/github"}, seen); diff != "" {
			t.Error(diff)
		}
		had, err := s.Account(ctx, "u1", "github")
		must(t, err)
		gone, err := s.DeleteAccount(ctx, "u1", "github")
		must(t, err)
		if diff := cmp.Diff(had, gone); diff != "" {
			t.Error(diff)
		}
		if _, err := s.DeleteAccount(ctx, "u1", "github"); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("%v", err)
		}
		// A renewal that began before an account was taken out is not stored over the
		// one that was connected instead.
		first := account.Account{User: "u1", Server: "github", Issuer: "https://i", Sealed: []byte{5}, Updated: epoch}
		must(t, s.PutAccount(ctx, first))
		late, err := s.Account(ctx, "u1", "github")
		must(t, err)
		_, err = s.DeleteAccount(ctx, "u1", "github")
		must(t, err)
		first.Sealed, first.Updated = []byte{6}, epoch.Add(time.Minute)
		must(t, s.PutAccount(ctx, first))
		if err := s.SwapAccount(ctx, late); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("a renewal of the account before: %v", err)
		}
	})
}

// TestContractGTG1Pins: a pin is added once, decided by its exact version, and
// its bytes come back only when they are asked for.
func TestContractGTG1Pins(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		pin := func(server, name, sum string) gateway.Pin {
			return gateway.Pin{Server: server, Kind: toolscan.KindTool, Name: name, SHA256: sum, Raw: []byte(`{"name":"` + name + `"}`), State: gateway.PinHeld, Reason: "new", First: epoch}
		}
		a, b := pin("files", "read", "01"), pin("mail", "send", "02")
		must(t, s.AddPins(ctx, []gateway.Pin{b, a}))
		again := a
		again.State = gateway.PinApproved
		must(t, s.AddPins(ctx, []gateway.Pin{again})) // what is there stays as it was decided
		all, err := s.Pins(ctx, "", true)
		must(t, err)
		if diff := cmp.Diff([]gateway.Pin{a, b}, all); diff != "" {
			t.Error(diff)
		}
		a.State, a.Decided, a.By = gateway.PinApproved, epoch.Add(time.Hour), "ada"
		must(t, s.DecidePin(ctx, a))
		one, err := s.Pins(ctx, "files", false)
		must(t, err)
		want := a
		want.Raw = nil
		if diff := cmp.Diff([]gateway.Pin{want}, one); diff != "" {
			t.Error(diff)
		}
		a.SHA256 = "03"
		if err := s.DecidePin(ctx, a); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("a version that is not there: %v", err)
		}
	})
}

func TestContractNotes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		_, err := s.Recall(ctx, "k", epoch)
		wantKind(t, err, kidoban.KindNotFound)
		must(t, s.Remember(ctx, "k", "one", epoch.Add(time.Minute)))
		must(t, s.Remember(ctx, "k", "two", epoch.Add(time.Minute)))
		got, err := s.Recall(ctx, "k", epoch)
		must(t, err)
		same(t, got, "two")
		_, err = s.Recall(ctx, "k", epoch.Add(time.Minute))
		wantKind(t, err, kidoban.KindNotFound)

		amend := func(was, value string, now time.Time, want bool) {
			t.Helper()
			ok, err := s.Amend(ctx, "k", was, value, now, now.Add(time.Minute))
			must(t, err)
			same(t, ok, want)
		}
		amend("one", "three", epoch, false)
		amend("", "three", epoch, false)
		amend("two", "three", epoch, true)
		amend("", "four", epoch.Add(time.Minute), true) // the old one has expired
		got, err = s.Recall(ctx, "k", epoch.Add(time.Minute))
		must(t, err)
		same(t, got, "four")
		for _, was := range []string{"four", ""} {
			key := "of " + was
			if was != "" {
				must(t, s.Remember(ctx, key, was, epoch.Add(time.Minute)))
			}
			if n := parallel(t, 8, func(i int) (bool, error) {
				return s.Amend(ctx, key, was, fmt.Sprint("by ", i), epoch, epoch.Add(time.Minute))
			}); n != 1 {
				t.Errorf("%d replaced the same note %q", n, was)
			}
		}
	})
}

func TestContractReplicas(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, store.Options{URL: cluster.Postgres(t)})
	must(t, err)
	r := db.Replicas()
	t.Cleanup(func() { r.Close(); db.Close() })
	for range 2 {
		_, err = r.Beat(ctx, "a")
		must(t, err)
	}
	beats, err := r.Beat(ctx, "b")
	must(t, err)
	same(t, beats, map[string]int64{"a": 2, "b": 1})

	if n := parallel(t, 8, func(i int) (bool, error) {
		name := fmt.Sprint("r", i)
		holder, err := r.Claim(ctx, "key", name, "")
		return holder == name, err
	}); n != 1 {
		t.Errorf("%d hold one key", n)
	}
	holder, err := r.Claim(ctx, "key", "a", "")
	must(t, err)
	if n := parallel(t, 8, func(i int) (bool, error) { // the dead holder's key goes to one
		name := fmt.Sprint("s", i)
		got, err := r.Claim(ctx, "key", name, holder)
		return got == name, err
	}); n != 1 {
		t.Errorf("%d took over one key", n)
	}
	_, err = r.Claim(ctx, "of a", "a", "")
	must(t, err)
	must(t, r.Bury(ctx, "a", 1)) // it has beaten since
	if holder, _ = r.Claim(ctx, "of a", "b", ""); holder != "a" {
		t.Errorf("a living holder lost its key to %s", holder)
	}
	must(t, r.Bury(ctx, "a", 2))
	if holder, _ = r.Claim(ctx, "of a", "b", ""); holder != "b" {
		t.Errorf("the key of a dead holder stays with %s", holder)
	}
	must(t, r.Release(ctx, "of a", "a"))
	must(t, r.Release(ctx, "of a", "b"))
	if holder, _ = r.Claim(ctx, "of a", "c", ""); holder != "c" {
		t.Errorf("a released key stays with %s", holder)
	}

	// Letters: in order, short and long, for one and for all, for nobody else.
	listening, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	inboxes := map[string]chan string{"a": make(chan string, 100), "b": make(chan string, 100)}
	for name, in := range inboxes {
		ready := make(chan struct{})
		wg.Go(func() {
			_ = r.Receive(listening, name, func() { close(ready) }, func(body []byte) { in <- string(body) })
		})
		<-ready
	}
	long := strings.Repeat("long ", 10_000)
	want := []string{}
	for i := range 20 {
		body := fmt.Sprint(i)
		if i%5 == 4 {
			body = long + body
		}
		want = append(want, body)
		must(t, r.Post(ctx, "a", []byte(body)))
	}
	must(t, r.Post(ctx, "*", []byte(long)))
	for i, w := range append(want, long) {
		if got := <-inboxes["a"]; got != w {
			t.Fatalf("letter %d of %d bytes is %.20q", i, len(w), got)
		}
	}
	if got := <-inboxes["b"]; got != long {
		t.Errorf("b got %.20q", got)
	}
	stop()
	wg.Wait()
	for name, in := range inboxes {
		if len(in) != 0 {
			t.Errorf("%s got too much: %.20q", name, <-in)
		}
	}
}
