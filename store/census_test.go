package store_test

import (
	"testing"
	"time"

	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/store"
)

// TestCensusTurns: one at a time, at a distance, up to the bound; a turn that was
// never given back comes back after its lease.
func TestCensusTurns(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		const long = time.Minute
		turn := func(host string, lease time.Duration) (bool, bool) {
			wait, spent, err := s.CensusTurn(t.Context(), "run", host, 3, lease)
			must(t, err)
			return wait <= 0 && !spent, spent
		}
		n := parallel(t, 8, func(int) (bool, error) {
			wait, spent, err := s.CensusTurn(t.Context(), "run", "a.example", 3, long)
			return err == nil && wait <= 0 && !spent, err
		})
		same(t, n, 1)
		must(t, s.CensusRelease(t.Context(), "run", "a.example", long))
		if got, _ := turn("a.example", long); got {
			t.Error("a turn was given before its time")
		}
		for range 3 {
			for got := false; !got; got, _ = turn("b.example", time.Millisecond) { // nobody gives it back
			}
		}
		for range 50 { // the last lease ends too
			if _, spent := turn("b.example", long); spent {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("the bound of a host does not hold")
	})
}

// TestCensusClaims: one finds out, the others wait; a claim that is not renewed
// comes free, one that is renewed does not; the first answer stays.
func TestCensusClaims(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		nothing, err := s.CensusKnown(t.Context(), "run", "issuer") // reading is no claim
		must(t, err)
		same(t, len(nothing), 0)
		n := parallel(t, 8, func(int) (bool, error) {
			_, mine, err := s.CensusClaim(t.Context(), "run", "issuer", time.Minute)
			return mine, err
		})
		same(t, n, 1)
		must(t, s.CensusUnclaim(t.Context(), "run", "issuer"))
		_, mine, err := s.CensusClaim(t.Context(), "run", "issuer", time.Millisecond)
		must(t, err)
		same(t, mine, true)
		must(t, s.CensusRenew(t.Context(), "run", "issuer", time.Minute))
		time.Sleep(5 * time.Millisecond) // the first lease is over
		if _, mine, err = s.CensusClaim(t.Context(), "run", "issuer", time.Minute); err != nil || mine {
			t.Errorf("a renewed claim was given away (%v)", err)
		}
		must(t, s.CensusRenew(t.Context(), "run", "issuer", 0))
		time.Sleep(time.Millisecond)
		if _, mine, err = s.CensusClaim(t.Context(), "run", "issuer", time.Minute); err != nil || !mine {
			t.Errorf("a claim whose lease is over was kept (%v)", err)
		}
		must(t, s.CensusLearn(t.Context(), "run", "issuer", []byte("first")))
		must(t, s.CensusLearn(t.Context(), "run", "issuer", []byte("second")))
		must(t, s.CensusUnclaim(t.Context(), "run", "issuer"))
		known, mine, err := s.CensusClaim(t.Context(), "run", "issuer", time.Minute)
		must(t, err)
		same(t, string(known), "first")
		same(t, mine, false)
	})
}

// TestCensusResults: the first result of a target stays; results come in the
// order of the bytes of their addresses, on both engines.
func TestCensusResults(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		urls := []string{"https://b.example/", "https://B.example/é", "https://a.example/z", "https://a.example/"}
		var ts []census.Target
		for _, u := range urls {
			ts = append(ts, census.Target{URL: u, Host: "h", Source: "s"})
		}
		isNew, err := s.CensusAdd(t.Context(), "run", ts)
		must(t, err)
		same(t, isNew, []bool{true, true, true, true})
		isNew, err = s.CensusAdd(t.Context(), "run", ts[:1])
		must(t, err)
		same(t, isNew, []bool{false})
		for _, r := range []string{"1", "2"} {
			for _, u := range urls {
				must(t, s.CensusDone(t.Context(), "run", []census.Outcome{{URL: u, Result: []byte(r), Times: []byte(r)}}))
			}
		}
		var got []string
		must(t, s.CensusResults(t.Context(), "run", func(o census.Outcome) error { got = append(got, o.URL+" "+string(o.Result)); return nil }))
		same(t, got, []string{"https://B.example/é 1", "https://a.example/ 1", "https://a.example/z 1", "https://b.example/ 1"})
		all, done, err := s.CensusCount(t.Context(), "run")
		must(t, err)
		same(t, []int{all, done}, []int{4, 4})
	})
}
