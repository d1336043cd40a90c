package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/kidoban/kidoban"
)

// letterVersion counts what letters can say. Whoever adds a kind of letter, or a
// member without which one is misunderstood, adds one to it, and writes the new
// number into Needs of such letters. Members that a reader may overlook need
// nothing: gob leaves out what it does not know, and what is missing is zero.
//
// A replica does not guess at a letter that it cannot read:
//   - to all, it is dropped. What is told to all must be a courtesy, or be told in
//     the earlier form, too, for one release.
//   - what begins a conversation is answered with errUnread, so that the writer can
//     begin it in the earlier form at once.
//   - within a conversation, one without Needs is a courtesy and dropped; one with
//     Needs ends the conversation on both sides with errUnread.
const letterVersion = 1

// errUnread is what the other replica says of a letter that it cannot read.
var errUnread = errors.New("the other replica is of a version that cannot read the letter")

// unread deals with a letter of a later version than ours.
func (m *mail) unread(l letter) {
	m.mu.Lock()
	b, s := m.boxes[l.Box], m.served[l.Box]
	m.mu.Unlock()
	led := b != nil && b.from == l.From
	serves := s != nil && s.to == l.From
	if l.Box == "" || (led || serves) && l.Needs <= letterVersion {
		return
	}
	no := failure(kidoban.Wrap(kidoban.KindUnreachable, errUnread, "Another process of the gateway is of another version; this works again when the upgrade has ended."))
	no.From, no.Box = l.From, l.Box
	answer := no
	switch {
	case led:
		m.into(no)
		answer = letter{Kind: "cancel", Box: l.Box}
	case serves:
		s.cancel()
	}
	m.g.deps.Log.Warn("a replica of a later version wrote what this one cannot read", "kind", l.Kind, "needs", l.Needs)
	m.wg.Go(func() {
		ctx, cancel := context.WithTimeout(m.g.ctx, 2*time.Second)
		defer cancel()
		_ = m.post(ctx, l.From, answer) // without it the writer waits as long as it does for any answer
	})
}
