package gateway

import (
	"strings"
	"testing"
	"time"
)

// TestGRG5_FloodsAreSummedUp: what strangers are refused is recorded up to a
// number a minute and counted beyond it; nothing else is ever left out.
func TestGRG5_FloodsAreSummedUp(t *testing.T) {
	var f floods
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stranger := Record{At: at, Method: "auth:register", Decision: "refused"}
	recorded := 0
	for range 1000 {
		if ok, sums := f.pass(&stranger); len(sums) > 0 {
			t.Fatal("a sum before the minute ended")
		} else if ok {
			recorded++
		}
		for _, r := range []Record{{At: at, Decision: "refused", Rule: "rate", User: "u"}, {At: at, Method: "auth:token", Decision: "refused", Grant: "g"},
			{At: at, Method: "alert", Decision: "alert"}, {At: at, Method: "auth:token", Decision: "failed"}} {
			if ok, _ := f.pass(&r); !ok {
				t.Fatalf("left out: %+v", r)
			}
		}
	}
	if recorded != floodRefused {
		t.Errorf("%d recorded", recorded)
	}
	if ok, _ := f.pass(&Record{At: at, Decision: "refused", Rule: "token:missing"}); !ok {
		t.Error("one kind silences another")
	}
	stranger.At = at.Add(time.Minute)
	ok, sums := f.pass(&stranger)
	if !ok || len(sums) != 1 || !strings.HasPrefix(sums[0].Detail, "940 more") || sums[0].Name != "auth:register" || !sums[0].At.Equal(at) {
		t.Errorf("%v %+v", ok, sums)
	}
	if end := f.end(); len(end) != 0 {
		t.Errorf("%+v", end)
	}
}
