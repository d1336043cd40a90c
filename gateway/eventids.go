package gateway

import (
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// Event ids of a server's streams say how a legacy client goes on after a cut
// (2025-11-25, basic/transports, resumability). They are the server's own words
// about its memory, so towards the client they are sealed like the ids of tasks:
// for this user, client, grant, session and server, and what was not sealed so goes
// to no server. The session, without which they are worth nothing, ends them.
// Modern streams are not resumed; they have none (TR-03).
//
// With it is sealed which request the stream answers. A server may cut any answer
// short and give it where the client resumes, so what comes there must be judged as
// what it is: a list by pins and policy, a text as read by the session.

const (
	// maxEventID bounds a server's own id, in bytes. Longer ones are left out of
	// their events, so that the client goes on from an earlier one.
	maxEventID = 1 << 10
	// maxEventAbout bounds what is sealed with it, in bytes. Streams of requests with
	// more, such as those for endless URIs, cannot be resumed.
	maxEventAbout = 1 << 10
	// maxSealedID bounds what a client sends back: both with their lengths, nonce, tag,
	// and four thirds of it.
	maxSealedID = (maxEventID+maxEventAbout+2*binary.MaxVarintLen16+12+16)*4/3 + 4
)

func (c *call) eventBinding() []byte {
	return binding("event of", c.Caller.User, c.Caller.Client, c.Caller.Grant, c.target.path, c.Server, c.session)
}

// about is what must be known of the call to judge an answer to it; "" for a stream
// that answers no request.
func (c *call) about() string {
	if c.Message.Kind != wire.Request {
		return ""
	}
	return pack(string(c.Message.ID.Raw), c.Message.Method, c.Params.Name, c.Params.URI, c.Params.Cursor, strings.Join(c.labels, " "))
}

// resumes makes a call that listens one that waits for the answer of another.
func (c *call) resumes(about string) bool {
	if about == "" {
		return true
	}
	f, ok := unpack(about)
	if !ok || len(f) != 6 {
		return false
	}
	c.Message = wire.Message{Kind: wire.Request, ID: wire.ID{Raw: wire.Raw(f[0])}, Method: f[1]}
	c.Params.Name, c.Params.URI, c.Params.Cursor, c.labels = f[2], f[3], f[4], strings.Fields(f[5])
	return true
}

// pack writes strings one after the other, each after its length; unpack reads them.
func pack(parts ...string) string {
	var out []byte
	for _, p := range parts {
		out = append(binary.AppendUvarint(out, uint64(len(p))), p...)
	}
	return string(out)
}

func unpack(s string) (parts []string, ok bool) {
	for s != "" {
		n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(s)-size) {
			return nil, false
		}
		parts, s = append(parts, s[size:size+int(n)]), s[size+int(n):]
	}
	return parts, true
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
	about := c.about()
	if len(about) > maxEventAbout {
		return "", false
	}
	return g.seal.name(pack(ev.ID, about), c.eventBinding()), true
}

// lastEvent opens what a client says it saw last, "" when it says nothing. The call
// is then about the request that the stream answers.
func (g *Gateway) lastEvent(c *call) (string, *Refusal) {
	ids := c.r.Header.Values("Last-Event-ID")
	if len(ids) == 0 || len(ids) == 1 && ids[0] == "" {
		return "", nil
	}
	if len(ids) == 1 && len(ids[0]) <= maxSealedID {
		plain, ok := g.seal.named(ids[0], c.eventBinding())
		if parts, whole := unpack(plain); ok && whole && len(parts) == 2 && c.resumes(parts[1]) {
			return parts[0], nil
		}
	}
	return "", refuse(http.StatusBadRequest, 0, "event:unknown", "This Last-Event-ID is not one of this session. Open the stream without it.")
}
