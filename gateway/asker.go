package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// underway are the calls over one relationship that wait for their answers, for a
// server's question that does not say which call it is about. Its zero value is ready;
// the owner's lock guards it.
type underway struct {
	calls []*asking         // oldest first
	given map[string]string // whose were given up of late, by id
}

func (u *underway) add(a *asking) { u.calls = append(u.calls, a) }

// remove tells whether it was the last call of whoever made it.
func (u *underway) remove(a *asking) (last bool) {
	u.calls = slices.DeleteFunc(u.calls, func(o *asking) bool { return o == a })
	return !slices.ContainsFunc(u.calls, func(o *asking) bool { return o.who == a.who })
}

// lingers is how long a server may still be at a call that was given up.
const lingers = time.Minute

// giveUp notes a call that the server may still be at: what it asks, or logs, may be
// about that one, and is nothing for another client or window. id is the gateway's own
// of the call, mu the owner's lock, which the caller holds.
func (u *underway) giveUp(id, who string, mu sync.Locker) {
	if u.given == nil {
		u.given = map[string]string{}
	}
	u.given[id] = who
	time.AfterFunc(lingers, func() {
		mu.Lock()
		defer mu.Unlock()
		delete(u.given, id)
	})
}

// answered ends the wait for a call that was given up: the server is done with it.
func (u *underway) answered(id string) { delete(u.given, id) }

// another tells whether the server may be at a call that somebody else has given up.
func (u *underway) another(who string) bool {
	for _, other := range u.given {
		if other != who {
			return true
		}
	}
	return false
}

// asker is who a question of the server belongs to: the newest call that may be asked
// it, if all that are under way come from one session, and those given up of late, too;
// without any, who listens, if that is one session of the only client. Which of several the server means it does not say, so
// then it is none.
func (u *underway) asker(m wire.Message, listeners *fan, shared bool) (a asking) {
	var last *asking
	for _, o := range u.calls {
		if last != nil && (o.who != last.who || o.who == "") { // a replica of an earlier version says nothing
			return asking{}
		}
		last = o
		if o.h.ask != nil && capable(o.caps, m.Method, m.Params) { // lists, say, may not
			a = *o
		}
	}
	switch {
	case last != nil && u.another(last.who):
		return asking{}
	case last != nil || shared:
		return a
	}
	if s, ok := listeners.asker(); ok && !u.another(s.who) {
		a = asking{ctx: s.ctx, caps: s.caps, h: s.handler}
	}
	return a.of(m)
}
