package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// bodyWait is how long a client may take to send its message.
const bodyWait = 30 * time.Second

// read reads the body of a POST: one message, strictly, and decides its era.
func (g *Gateway) read(st *state, c *call) *Refusal {
	mt, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, 0, "content_type", "Send the message as application/json.")
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return refuse(http.StatusUnsupportedMediaType, 0, "content_encoding", "Send the message without content encoding.")
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyWait)) // the kernel's clock; a client that dribbles does not hold a place
	defer rc.SetReadDeadline(time.Time{})
	if c.room, _, err = readRoom(&g.rooms, c.r.Body, st.config.MaxRequest+1, min(c.r.ContentLength, firstRoom)); err != nil {
		return refuse(http.StatusBadRequest, wire.CodeParse, "body", "The message did not arrive whole.").because(err)
	}
	m, err := st.requests.Read(c.room)
	if err != nil {
		return ofWire(err, http.StatusBadRequest)
	}
	if m.Misplaced() {
		return refuse(http.StatusBadRequest, wire.CodeInvalidRequest, "wire:no_id", "A request needs an id; without one only names that begin with "+wire.NotificationPrefix+" are accepted.")
	}
	if m.Method == wire.MethodComplete && ambiguous(m.Params) {
		return refuse(http.StatusOK, wire.CodeInvalidParams, "ref", "A completion refers to a prompt by name or to a resource by uri, as its type says, not to both.")
	}
	c.Message = m
	if m.Params != nil {
		if c.Params, err = wire.PeekParams(m.Params); err != nil {
			return ofWire(err, http.StatusBadRequest)
		}
	}
	c.asked = c.Params
	c.rec.Method, c.rec.Name = m.Method, c.Params.Name
	if c.Params.Name == "" {
		c.rec.Name = c.Params.URI
	}
	if m.Method == wire.MethodToolsCall {
		sum := sha256.Sum256(c.Params.Arguments)
		c.rec.Digest = hex.EncodeToString(sum[:])
	}
	return c.era()
}

// ambiguous tells whether the reference of a completion names two things, another than
// its type says, or one in other letters that some servers take for it: policy would
// judge one, and the server take the other (server/utilities/completion).
func ambiguous(params wire.Raw) bool {
	ref, _ := wire.Lookup(params, "ref")
	name, uri, other := false, false, false
	wire.Each(ref, func(member, v wire.Raw) bool {
		text, _ := wire.String(member)
		there := string(v) != "null"
		switch low := strings.ToLower(text); {
		case low != "type" && low != "name" && low != "uri":
		case low != text:
			other = true
		default:
			name, uri = name || there && text == "name", uri || there && text == "uri"
		}
		return !other
	})
	kind := wire.LookupString(ref, "type")
	return other || name && uri || name && kind == "ref/resource" || uri && kind == "ref/prompt"
}

// era decides which rules hold, and holds the message to them. A message is
// modern when its header or its body says so (mcp-authorization 3.8, 1).
func (c *call) era() *Refusal {
	versions := c.r.Header.Values(wire.HeaderVersion)
	if len(versions) > 1 {
		return refuse(http.StatusBadRequest, wire.CodeHeaderMismatch, "wire:header_mismatch", "The header MCP-Protocol-Version is there more than once.")
	}
	header := ""
	if len(versions) == 1 {
		header = strings.TrimSpace(versions[0])
	}
	if era, _ := wire.EraOf(header); era != wire.Modern && !wire.HasModernMeta(c.Message.Params) {
		return c.legacy(header)
	}
	return c.modern(header)
}

func (c *call) legacy(header string) *Refusal {
	c.Era, c.Version = wire.Legacy, header
	if header == "" {
		c.Version = wire.Rev20250326 // TR-20
		return nil
	}
	if c.Message.Method == wire.MethodInitialize {
		return nil // negotiates in the body
	}
	if _, known := wire.EraOf(header); !known {
		return refuse(http.StatusBadRequest, wire.CodeInvalidRequest, "version", "This protocol version is not supported.")
	}
	return nil
}

// modern applies TR-03…TR-10 to a request or notification.
func (c *call) modern(header string) *Refusal {
	c.Era, c.Version = wire.Modern, c.Params.ProtocolVersion
	switch c.Message.Kind {
	case wire.Request:
	case wire.Notification:
		c.Version = header
		return nil
	default:
		return refuse(http.StatusBadRequest, wire.CodeInvalidRequest, "modern:reply", "In this protocol version a client sends requests only.")
	}
	if c.Params.ProtocolVersion == "" {
		return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "modern:meta", "The request lacks "+wire.MetaProtocolVersion+" in _meta.")
	}
	if header != c.Params.ProtocolVersion {
		return refuse(http.StatusBadRequest, wire.CodeHeaderMismatch, "wire:header_mismatch", "The header MCP-Protocol-Version differs from the body.")
	}
	if era, known := wire.EraOf(c.Params.ProtocolVersion); era != wire.Modern || !known {
		r := refuse(http.StatusBadRequest, wire.CodeUnsupportedVersion, "version", "Unsupported protocol version")
		r.Data = versionsData(c.Params.ProtocolVersion)
		return r
	}
	if c.Params.Capabilities == nil {
		return refuse(http.StatusBadRequest, wire.CodeInvalidParams, "modern:meta", "The request lacks "+wire.MetaClientCapabilities+" in _meta.")
	}
	if err := wire.CheckMirror(mirrored(c.r.Header), c.Message.Method, c.Params, nil); err != nil {
		return ofWire(err, http.StatusBadRequest)
	}
	return nil
}

// versionsData is what goes with -32022.
func versionsData(requested string) wire.Raw {
	list := wire.Raw{'['}
	for i, v := range modernVersions() {
		if i > 0 {
			list = append(list, ',')
		}
		list = wire.AppendQuote(list, v)
	}
	d := wire.SetMember(wire.Raw("{}"), "supported", append(list, ']'))
	return wire.SetMember(d, "requested", wire.Quote(requested))
}

func modernVersions() []string {
	return slices.DeleteFunc(wire.Revisions(), func(v string) bool { e, _ := wire.EraOf(v); return e != wire.Modern })
}

// mirrored are the header fields that mirror a message, as wire judges them.
func mirrored(h http.Header) kidoban.Fields {
	var out kidoban.Fields
	for name, values := range h {
		if len(name) > 4 && strings.EqualFold(name[:4], "mcp-") {
			for _, v := range values {
				out = append(out, kidoban.Field{Name: name, Value: v})
			}
		}
	}
	return out
}

// writeBody writes a message as a whole answer. A client gets WriteWait to begin
// taking it, and more for a long one; whoever does not read holds nothing for ever.
func (c *call) writeBody(m wire.Message) {
	head, value, tail := wire.SplitMessage(c.rooms.Take(envelope), m)
	n := len(head) + len(value) + len(tail)
	if c.rec.Status == http.StatusOK { // with another status the head is out
		c.w.Header()["Content-Length"] = []string{strconv.Itoa(n)}
	}
	defer c.deadline(n)()
	_ = writeParts(c.w, c.rooms, head, value, tail) // the client may have gone
}

// writeParts writes what follows each other, without a copy but into net/http's
// buffer, which holds what is short until all of it is there: a short message is one
// system call, a long one at most one more than in one piece. head is in a room, which
// goes back when it is out.
func writeParts(w io.Writer, rooms *wire.Rooms, head []byte, value wire.Raw, tail string) error {
	_, err := w.Write(head)
	rooms.Give(head)
	if err == nil && len(value) > 0 {
		_, err = w.Write(value)
	}
	if err == nil && tail != "" {
		_, err = io.WriteString(w, tail)
	}
	return err
}

// deadline gives a client the time to take an answer of n bytes. written must
// follow.
func (c *call) deadline(n int) (written func()) {
	c.dated = true
	wait, written := c.st.config.WriteWait, func() {}
	if n > flowFree { // a short one waits in the kernel
		wait = c.stalls.enter(c.Caller.User, wait)
		written = func() { c.stalls.leave(c.Caller.User) }
	}
	wait += time.Duration(n>>16) * time.Second
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(wait)) // the kernel's clock
	return written
}
