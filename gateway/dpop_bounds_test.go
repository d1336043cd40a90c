package gateway

import (
	"strconv"
	"testing"
	"time"
)

// TestGPX1_ProofsAreRememberedWithinBounds: no proof counts twice while it is young
// enough, one user, with however many keys, does not fill the memory for all, and what is old makes room.
func TestGPX1_ProofsAreRememberedWithinBounds(t *testing.T) {
	j := &dpopJudge{young: newProofs(), old: newProofs()}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if !j.first("alice", "key", "a", now) {
		t.Fatal("a new proof is refused")
	}
	for _, later := range []time.Duration{0, time.Second, proofAge, proofAge + leeway} {
		if j.first("alice", "key", "a", now.Add(later)) {
			t.Errorf("the same proof counts again after %v", later)
		}
	}
	if !j.first("alice", "other key", "a", now) {
		t.Error("an id of another key is refused")
	}
	for i := 0; j.first("mallory", "flood"+strconv.Itoa(i%40), strconv.Itoa(i), now); i++ {
		if i > maxOfUser {
			t.Fatal("one user has no bound")
		}
	}
	if !j.first("alice", "key", "b", now) {
		t.Error("the flood of one user holds up another")
	}
	if !j.first("alice", "key", "c", now.Add(-time.Hour)) || j.first("alice", "key", "c", now.Add(-time.Hour+proofAge)) {
		t.Error("a clock that was set back loses proofs")
	}
	if late := now.Add(3 * (proofAge + leeway)); !j.first("mallory", "flood", "x", late) {
		t.Error("old proofs make no room")
	} else if n := len(j.young.seen) + len(j.old.seen); n != 1 {
		t.Errorf("%d old proofs are still remembered", n-1)
	}
}
