package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
)

// TestGRG5_FloodsAreSummedUp: refusals at a rate limit are recorded up to a
// number a minute and counted beyond it; nothing else is ever left out.
func TestGRG5_FloodsAreSummedUp(t *testing.T) {
	var f floods
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	limited := authserver.Event{At: at, Name: "register", Outcome: "refused", Code: "temporarily_unavailable"}
	recorded := 0
	for range 1000 {
		if ok, sums := f.pass(limited); len(sums) > 0 {
			t.Fatal("a sum before the minute ended")
		} else if ok {
			recorded++
		}
		for _, e := range []authserver.Event{{At: at, Name: "register", Outcome: "ok"}, {At: at, Name: "register", Outcome: "refused", Code: "invalid_client_metadata"}, {At: at, Name: "token", Outcome: "failed", Code: "temporarily_unavailable"}} {
			if ok, _ := f.pass(e); !ok {
				t.Fatalf("left out: %+v", e)
			}
		}
	}
	if recorded != floodRecords {
		t.Errorf("%d recorded", recorded)
	}
	limited.At = at.Add(time.Minute)
	ok, sums := f.pass(limited)
	if !ok || len(sums) != 1 || !strings.HasPrefix(sums[0].Detail, "940 more") || !sums[0].At.Equal(at) {
		t.Errorf("%v %+v", ok, sums)
	}
	if end := f.end(); len(end) != 0 {
		t.Errorf("%+v", end)
	}
}
