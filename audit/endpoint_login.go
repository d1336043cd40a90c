package audit

import (
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// What a server does after it has seen a token shows only to somebody who has
// one: whether it then looks at the origin and the content type (E09), and whether
// its header and its body may differ (E33). The collectors and judges are those of
// the servers that are open; their control is the list with the tester's token.

type tokenSide struct {
	none  kidoban.Result
	has   bool
	facts *Facts // as they are to the owner of a token
	pages foreignPages
	mixed mixedReadings

	ids    []string // of sessions, with the answers that gave them
	opened []*kidoban.Exchange
}

func probeEndpointLogin() probe {
	keys := []string{"E07-5", "E09-a", "E09-b", "E09-d", "E09-e", "E33-a", "E33-b", "E33-c"}
	return define(spec{name: "the endpoint behind the token", keys: keys, tier: kidoban.T3}, collectTokenSide, func(_ *Facts, e tokenSide) []kidoban.Result {
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		out := []kidoban.Result{absent("E07-5", "the server hands out no sessions", e.facts.List)}
		if len(e.ids) > 0 {
			out[0] = judgeIDs(e.ids, e.opened)
		}
		for _, r := range append(judgeE09(e.facts, e.pages), judgeE33(e.facts, e.mixed)...) {
			if r.Key() != "E09-c" { // asked without a token, by a preflight
				out = append(out, r)
			}
		}
		return out
	})
}

func collectTokenSide(ctx context.Context, s *session) (e tokenSide) {
	f := s.facts
	e.none = untested("E09-a", kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	if f.door() != doorClosed || f.SSE {
		return e // seen without a token already, or not to be seen at all
	}
	t, none := s.admission(ctx, "E09-a", "E09", "a grant to enter with")
	if t == nil {
		e.none = none
		return e
	}
	in := s.enter(ctx, t.Access)
	mine := *f
	mine.Modern, mine.Legacy = in.modern, in.legacy
	s.bearer = t.Access
	defer func() { s.facts, s.bearer = f, "" }()
	if !in.modern && in.legacy {
		sid, init := s.sessionFor(ctx, "E09", t.Access, latestLegacy)
		mine.Session, mine.Init, mine.Versions = sid, init, []string{latestLegacy}
		defer func() {
			if sid != "" {
				s.endSession(ctx, call{}, sid)
			}
		}()
	}
	s.facts = &mine
	mine.List = s.rpc(ctx, "E09", "control: the list with the genuine token", call{Method: "tools/list"})
	if mine.Tools, mine.Open = ReplyOf(mine.List).tools(); !mine.Open {
		e.none = unclear("E09-a", kidoban.ReasonUnstable, "the genuine token does not list the tools", mine.List)
		return e
	}
	// Only who answers server/discover reads the headers of that era.
	mine.Modern = mine.Modern && ReplyOf(s.rpc(ctx, "E33-a", "the stateless era's first question", call{Method: wire.MethodDiscover, Version: wire.LatestModern})).ok()
	s.sessionIDs(ctx, t.Access, &e)
	own := f.Local || s.o.OwnServer
	asked := s.keys
	if !own { // a token goes to no virtual host but the one it was issued for
		s.keys = map[string]bool{}
		for k := range asked {
			s.keys[k] = k != "E09-d"
		}
	}
	e.pages, e.mixed = collectE09(ctx, s), collectE33(ctx, s)
	s.keys = asked
	e.facts, e.has = &mine, true
	behind := mine
	behind.Open, behind.held = true, true
	e.facts = &behind
	return e
}

// sessionIDs opens sessions of the session era one after the other and ends them.
func (s *session) sessionIDs(ctx context.Context, token string, e *tokenSide) {
	if !s.wants("E07-5") || !s.facts.Legacy && s.facts.Modern {
		return
	}
	want := idsQuick
	if s.thorough() || s.o.Lab {
		want = idsThorough
	}
	for len(e.ids) < want && s.left() > 3 {
		sid, x := s.sessionFor(ctx, "E07-5", token, latestLegacy)
		if sid == "" {
			return
		}
		e.ids, e.opened = append(e.ids, sid), append(e.opened, x)
		s.endSession(ctx, call{}, sid)
	}
}
