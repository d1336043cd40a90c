package store_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

var cluster storetest.Cluster

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// onBoth runs a test of the contract on both engines.
func onBoth(t *testing.T, test func(t *testing.T, s *store.DB)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": cluster.Postgres} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), store.Options{URL: url(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, s)
		})
	}
}

var epoch = time.UnixMilli(1_800_000_000_000)

func hash(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, k kidoban.Kind) {
	t.Helper()
	if err == nil || kidoban.KindOf(err) != k {
		t.Fatalf("got error %v, want kind %s", err, k)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Millisecond)); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
}

// parallel runs fn n times at once and returns how often it said yes.
func parallel(t *testing.T, n int, fn func(i int) (bool, error)) int {
	t.Helper()
	var yes atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			ok, err := fn(i)
			if err != nil {
				t.Error(err)
			}
			if ok {
				yes.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(yes.Load())
}

func TestSecretsAndKeysAgree(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		var mu sync.Mutex
		got := map[string]bool{}
		parallel(t, 20, func(i int) (bool, error) {
			v, err := s.Secret(ctx, "ticket", fmt.Append(nil, "sealed", i))
			mu.Lock()
			defer mu.Unlock()
			got[string(v)] = true
			k, kerr := s.AddKey(ctx, authserver.SigningKey{KID: fmt.Sprint("k", i), Slot: "EdDSA:1", Alg: "EdDSA", Sealed: []byte{1}, Public: json.RawMessage(`{}`),
				Active: epoch, Retire: epoch.Add(time.Hour), Expires: epoch.Add(2 * time.Hour)})
			got[k.KID] = true
			if err == nil {
				err = kerr
			}
			return true, err
		})
		if len(got) != 2 {
			t.Fatalf("processes disagree: %v", got)
		}
		must(t, s.RetireKeys(ctx, epoch.Add(time.Minute)))
		keys, err := s.SigningKeys(ctx, epoch.Add(time.Minute))
		must(t, err)
		if len(keys) != 1 || !keys[0].Retire.Equal(epoch.Add(time.Minute)) {
			t.Fatalf("%+v", keys)
		}
	})
}

func TestGVA4_OneRingOnTheShelf(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		ring, err := s.Ring(ctx)
		must(t, err)
		same(t, ring, []byte(nil))
		same(t, parallel(t, 20, func(i int) (bool, error) { return s.SwapRing(ctx, nil, fmt.Append(nil, "first", i)) }), 1)
		first, err := s.Ring(ctx)
		must(t, err)
		same(t, parallel(t, 20, func(i int) (bool, error) { return s.SwapRing(ctx, first, fmt.Append(nil, "second", i)) }), 1)
		done, err := s.SwapRing(ctx, first, []byte("late"))
		must(t, err)
		same(t, done, false)
	})
}

func TestUseOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		n := parallel(t, 50, func(int) (bool, error) { return s.UseOnce(t.Context(), "jti", epoch, epoch.Add(time.Minute)) })
		same(t, n, 1)
		ok, err := s.UseOnce(t.Context(), "jti", epoch.Add(time.Minute), epoch.Add(2*time.Minute))
		must(t, err)
		same(t, ok, true)
	})
}

func TestTakeLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		n := parallel(t, 50, func(int) (bool, error) {
			wait, err := s.TakeLimit(ctx, "login:alice", epoch, time.Minute, 5)
			return wait == 0, err
		})
		same(t, n, 5)
		wait, err := s.TakeLimit(ctx, "login:alice", epoch, time.Minute, 5)
		must(t, err)
		same(t, wait, time.Minute)
		wait, err = s.TakeLimit(ctx, "login:alice", epoch.Add(time.Minute), time.Minute, 5)
		must(t, err)
		same(t, wait, time.Duration(0))
		wait, err = s.TakeLimit(ctx, "login:alice", epoch.Add(time.Hour), time.Minute, 1)
		must(t, err)
		same(t, wait, time.Duration(0))
	})
}

// TestGRG5_SharesAreTakenTogether: all or none, exactly as many as there are, and a
// clock that leapt back holds nobody longer than a whole burst.
func TestGRG5_SharesAreTakenTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		wide, narrow := authserver.Share{Key: "wide", Interval: time.Minute, Burst: 20}, authserver.Share{Key: "narrow", Interval: time.Minute, Burst: 5}
		n := parallel(t, 50, func(int) (bool, error) {
			spent, wait, err := s.TakeLimits(ctx, epoch, wide, narrow)
			if wait > 0 && spent != 1 {
				t.Errorf("share %d is said to be spent", spent)
			}
			return wait == 0, err
		})
		same(t, n, 5)
		n = parallel(t, 50, func(int) (bool, error) {
			_, wait, err := s.TakeLimits(ctx, epoch, wide)
			return wait == 0, err
		})
		same(t, n, 15) // what the narrow one refused was given back
		_, wait, err := s.TakeLimits(ctx, epoch.Add(-time.Hour), narrow)
		must(t, err)
		same(t, wait, time.Minute)
		_, wait, err = s.TakeLimits(ctx, epoch.Add(-58*time.Minute), narrow)
		must(t, err)
		same(t, wait, time.Duration(0))
	})
}

// TestGRG5_ABurstIsWholeInAnyOrder: callers read their clocks in one order and reach
// the database in another.
func TestGRG5_ABurstIsWholeInAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		share := authserver.Share{Key: "rate", Interval: time.Hour, Burst: 12}
		given := 0
		for i := range 20 {
			_, wait, err := s.TakeLimits(t.Context(), epoch.Add(-time.Duration(i*10)*time.Millisecond), share)
			must(t, err)
			if wait == 0 {
				given++
			}
		}
		same(t, given, 12)
		_, wait, err := s.TakeLimits(t.Context(), epoch, share)
		must(t, err)
		if wait == 0 || wait > time.Hour {
			t.Errorf("a spent limit says to wait %v", wait)
		}
	})
}

func TestGCO4_TransactionBelongsToOneBrowser(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		x := authserver.Transaction{Hash: hash("state"), Browser: hash("A"), Data: []byte("sealed"), Expires: epoch.Add(time.Minute)}
		must(t, s.CreateTransaction(ctx, x))
		_, err := s.UseTransaction(ctx, x.Hash, hash("B"), epoch)
		wantKind(t, err, kidoban.KindRefused)
		_, err = s.UseTransaction(ctx, x.Hash, x.Browser, epoch.Add(time.Minute))
		wantKind(t, err, kidoban.KindNotFound)
		n := parallel(t, 20, func(int) (bool, error) {
			got, err := s.UseTransaction(ctx, x.Hash, x.Browser, epoch)
			if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
				return false, nil
			}
			return string(got.Data) == "sealed", err
		})
		same(t, n, 1)
	})
}

func TestPurgeKeepsWhatLives(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		_, _, _, err := s.RegisterClient(ctx, dcr("old", "1"), hash("1"), true, 3)
		must(t, err)
		c := dcr("kept", "2")
		_, _, _, err = s.RegisterClient(ctx, c, hash("2"), true, 3)
		must(t, err)
		must(t, s.MarkConsented(ctx, "kept", epoch, epoch.Add(90*24*time.Hour)))
		must(t, s.CreateCode(ctx, code("c", "g")))
		must(t, s.CreateGrant(ctx, grant("g", "u1", "kept")))
		must(t, s.RevokeToken(ctx, "t", epoch))
		must(t, s.AddAlert(ctx, authserver.Alert{ID: "a", Kind: "k", At: epoch, Subject: "s", Text: "t", Do: "d"}))
		must(t, s.AddAlert(ctx, authserver.Alert{ID: "b", Kind: "k", At: epoch.Add(-time.Second), Subject: "s", Text: "t", Do: "d", With: kidoban.AlertWords{"host": "h\"{x}"}}))
		must(t, s.CreateTransaction(ctx, authserver.Transaction{Hash: hash("x"), Browser: hash("b"), Data: []byte{1}, Expires: epoch.Add(time.Minute)}))
		n, err := s.Purge(ctx, epoch.Add(2*time.Hour), time.Hour, 1000)
		must(t, err)
		if n != 4 { // the old client, the code, the revocation, the transaction
			t.Fatalf("%d rows purged", n)
		}
		_, err = s.Client(ctx, "old")
		wantKind(t, err, kidoban.KindNotFound)
		_, err = s.Client(ctx, "kept")
		must(t, err)
		_, err = s.Grant(ctx, "g")
		must(t, err)
		al, err := s.Alerts(ctx, 5)
		must(t, err)
		same(t, len(al), 2)
		same(t, al[0].With == nil, true) // as it was stored before alerts had languages
		same(t, al[1].With["host"], "h\"{x}")
	})
}
