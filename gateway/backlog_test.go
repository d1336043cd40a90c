package gateway

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/wire"
)

// What waits is at most the bound, but for a single notification, and what is
// taken off leaves the room it had.
func TestGPX3_BacklogIsBounded(t *testing.T) {
	long := wire.Raw(strings.Repeat("x", 3*backlogMost))
	rapid.Check(t, func(t *rapid.T) {
		var b backlog
		var waiting []wire.Message
		held := func() (n int) {
			for _, m := range waiting {
				n += len(m.Params)
			}
			return n
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(waiting) > 0 && rapid.Bool().Draw(t, "take") {
				b.took(waiting[0])
				waiting = waiting[1:]
				continue
			}
			m := wire.Message{Params: long[:rapid.SampledFrom([]int{0, 10, 60_000, backlogMost, 3 * backlogMost}).Draw(t, "size")]}
			room := held()+len(m.Params) <= backlogMost || held() == 0
			if b.add(m) != room {
				t.Fatalf("%d more when %d wait: room is %v", len(m.Params), held(), room)
			}
			if room {
				waiting = append(waiting, m)
			}
		}
		if int(b.bytes.Load()) != held() {
			t.Fatalf("%d are counted, %d wait", b.bytes.Load(), held())
		}
	})
}
