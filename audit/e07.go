package audit

import (
	"context"
	"net/http"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/wire"
)

// E07 as far as no login is needed: an invented session id, ids that can be
// predicted, and the message address of the older transport.
func probeE07() probe {
	return define(spec{name: "sessions", keys: []string{"E07-4", "E07-5", "E07-7"}, tier: kidoban.T1}, collectE07, judgeE07)
}

type sessionsSeen struct {
	invented volley
	bare     reached // the list without any session, where sessions exist
	ids      []string
	xs       []*kidoban.Exchange // where the ids came from
}

const (
	idsQuick    = 3  // ids of a run with a small budget
	idsThorough = 20 // what the catalogue asks for
	idBits      = 64 // ids that cannot hold more are guessable
)

func collectE07(ctx context.Context, s *session) (e sessionsSeen) {
	f := s.facts
	if f.Open && f.Session != "" && s.wants("E07-4") {
		e.bare = s.knock(ctx, "E07-4", "no session id", call{Method: "tools/list", Version: s.legacyVersion(), Drop: []string{"Mcp-Session-Id"}})
	}
	if s.wants("E07-4") && !f.SSE && !(f.Open && f.Session == "") && !e.bare.listed {
		id := s.nonce(32)
		core := 0 // where the era is hidden, it is one guess among many
		if f.Legacy {
			core = 1
		}
		e.invented = s.volley(ctx, "E07-4", core, []form{{"an invented session id", call{Method: "tools/list", Version: s.legacyVersion(), Session: id,
			Header: kidoban.Fields{{Name: "Mcp-Session-Id", Value: id}}}}})
	}
	if !s.wants("E07-5") {
		return e
	}
	want := idsQuick
	if s.thorough() {
		want = idsThorough
	}
	switch {
	case f.SSE && f.StreamID != "":
		e.ids, e.xs = []string{f.StreamID}, []*kidoban.Exchange{f.Stream}
		for len(e.ids) < want && s.left() > 4 {
			r := s.overStream(ctx, "E07-5", "another session", call{Method: "ping"})
			if r.sid == "" {
				break
			}
			e.ids, e.xs = append(e.ids, r.sid), append(e.xs, r.last())
		}
	case f.Session != "" || f.Init == nil && f.Legacy && f.Greets:
		if f.Session != "" {
			e.ids, e.xs = []string{f.Session}, []*kidoban.Exchange{f.Init}
		}
		for len(e.ids) < want && s.left() > 2 {
			x := s.rpc(ctx, "E07-5", "another session", call{Method: wire.MethodInitialize, Version: wire.LatestLegacy, Session: "none", Drop: []string{"Mcp-Session-Id"},
				Params: map[string]any{"protocolVersion": wire.LatestLegacy, "capabilities": map[string]any{}, "clientInfo": clientInfo()}})
			id := x.Header("Mcp-Session-Id")
			if x.Status() != http.StatusOK || id == "" || len(id) > 1024 {
				break
			}
			e.ids, e.xs = append(e.ids, id), append(e.xs, x)
			s.endSession(ctx, call{}, id)
		}
	}
	return e
}

// legacyVersion is the session-era revision to speak.
func (s *session) legacyVersion() string {
	for _, v := range s.facts.Versions {
		if era, known := wire.EraOf(v); known && era == wire.Legacy {
			return v
		}
	}
	return wire.LatestLegacy
}

func judgeE07(f *Facts, e sessionsSeen) []kidoban.Result {
	return []kidoban.Result{judgeInvented(f, &e), judgeIDs(e.ids, e.xs), judgeOldStream(f)}
}

func judgeInvented(f *Facts, e *sessionsSeen) kidoban.Result {
	const key = "E07-4"
	v := &e.invented
	switch {
	case f.SSE:
		return absent(key, "the server speaks the older transport, where the server names the session")
	case f.Open && f.Session == "":
		return absent(key, "the server hands out no sessions")
	case len(e.bare.xs) > 0 && hidden(e.bare.last()):
		r, _ := undecided(key, "the list without a session", e.bare.last())
		return r
	case e.bare.listed:
		return absent(key, "the list is served without any session, so an invented one is ignored", e.bare.last())
	case f.door() == doorUnknown && len(v.shots) == 0:
		return noControl(key, f)
	}
	return v.decide(key, f.List, func(h *shot) string {
		return h.what + " is taken for a session: the tools are listed"
	}, "an invented session id is refused")
}

// judgeIDs: can ids be predicted? Twenty say much, three only the plain cases.
func judgeIDs(ids []string, xs []*kidoban.Exchange) kidoban.Result {
	const key = "E07-5"
	if len(ids) == 0 {
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	}
	c := oauth.CompareStates(ids)
	why := ""
	switch {
	case c.Fixed():
		why = "the same id comes more than once"
	case c.Sequential:
		why = "they count upwards"
	case c.Timestamps && c.RandomBits < idBits:
		why = "they are made of the time"
	case c.Bits < idBits:
		why = "they are too short to be random"
	}
	if why != "" {
		return positive(key, kidoban.Confirmed, "session ids can be predicted: "+why+" ("+kidoban.Count(len(ids), "id", "ids")+" seen)", xs...)
	}
	if len(ids) == 1 {
		return unclear(key, kidoban.ReasonUnstable, "only one session id was seen; it is long enough", xs...)
	}
	r := passed(key, "session ids look random ("+itoa(len(ids))+" seen)", xs[len(xs)-1])
	if len(ids) < idsThorough {
		r.Detail = detailFor(kidoban.ReasonBudget)
	}
	return r
}

// judgeOldStream: with the older transport the address for messages holds the
// session, and whoever has it sends in its name.
func judgeOldStream(f *Facts) kidoban.Result {
	const key = "E07-7"
	switch {
	case !f.SSE:
		return absent(key, "the server does not speak the older transport")
	case f.Open && f.StreamID != "":
		return positive(key, kidoban.Confirmed, "the event stream opens without credentials, and the session id in its message address is all that is asked for", f.List)
	case f.Open:
		return absent(key, "the message address carries no session id", f.List)
	}
	return passed(key, "messages need credentials of their own", f.List)
}
