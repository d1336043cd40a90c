package gateway

import (
	"sync/atomic"

	"github.com/kidoban/kidoban/wire"
)

// backlog bounds the bytes of notifications that wait for one client; how many
// wait, their channel bounds. What does not fit is dropped: a client that does not
// read loses progress, not answers.
type backlog struct{ bytes atomic.Int64 }

// backlogMost may wait; a single notification always may.
const backlogMost = 256 << 10

// add counts a notification that is about to wait; false says that there is no
// room for it.
func (b *backlog) add(m wire.Message) bool {
	n := int64(len(m.Params))
	if all := b.bytes.Add(n); all > backlogMost && all > n {
		b.bytes.Add(-n)
		return false
	}
	return true
}

// took takes one off that waits no more.
func (b *backlog) took(m wire.Message) { b.bytes.Add(-int64(len(m.Params))) }
