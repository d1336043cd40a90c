package gateway

import (
	"net/http"

	"github.com/kidoban/kidoban/wire"
)

// Event ids of a server's streams say how a legacy client goes on after a cut
// (2025-11-25, basic/transports, resumability). They are the server's own words
// about its memory, so towards the client they are sealed like the ids of tasks:
// for this user, client, grant, session and server, and what was not sealed so goes
// to no server. The session, without which they are worth nothing, ends them.
// Modern streams are not resumed; they have none (TR-03).

const (
	// maxEventID bounds a server's own id, in bytes. Longer ones are left out of
	// their events, so that the client goes on from an earlier one.
	maxEventID = 1 << 10
	// maxSealedID bounds what a client sends back: nonce, tag and four thirds of it.
	maxSealedID = (maxEventID+12+16)*4/3 + 4
)

func (c *call) eventBinding() []byte {
	return binding("event", c.Caller.User, c.Caller.Client, c.Caller.Grant, c.target.path, c.Server, c.session)
}

// outEvent seals a server's event id for the client. An empty one, by which a server
// takes the last one back, stays empty.
func (g *Gateway) outEvent(c *call, ev wire.Event) (id string, has bool) {
	if !ev.HasID || len(ev.ID) > maxEventID || c.Era == wire.Modern {
		return "", false
	}
	if ev.ID == "" {
		return "", true
	}
	return g.seal.name(ev.ID, c.eventBinding()), true
}

// lastEvent opens what a client says it saw last, "" when it says nothing.
func (g *Gateway) lastEvent(c *call) (string, *Refusal) {
	ids := c.r.Header.Values("Last-Event-ID")
	if len(ids) == 0 || len(ids) == 1 && ids[0] == "" {
		return "", nil
	}
	if len(ids) == 1 && len(ids[0]) <= maxSealedID {
		if id, ok := g.seal.named(ids[0], c.eventBinding()); ok {
			return id, nil
		}
	}
	return "", refuse(http.StatusBadRequest, 0, "event:unknown", "This Last-Event-ID is not one of this session. Open the stream without it.")
}
