package mcp

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// Hello is what Connect found out.
type Hello struct {
	Era          wire.Era // "" when the server refused or no MCP was found
	Version      string   // negotiated revision
	Transport    Transport
	SessionID    string
	Supported    []string // revisions the server says it speaks (modern)
	ServerInfo   wire.Raw
	Capabilities wire.Raw
	Instructions string
	Result       wire.Raw // the whole result of server/discover or initialize
	Refusal      *Refusal // the server said no at a step; an answer, not a failure
	Limited      bool     // a rate limit stopped the detection: nothing can be concluded
	Location     string   // the endpoint redirects there; not followed, the detection ended
	Steps        []Step   // every request in order

	bare *Reply // a modern-looking "method not found" to server/discover
}

// Step is one request of the detection.
type Step struct {
	Name  string // "discover", "initialize 2025-11-25", "initialized", "sse"
	Reply *Reply
	Err   error // no response
}

// Found tells whether the server spoke MCP with us.
func (h *Hello) Found() bool { return h.Era != "" }

const metaServerInfo = "io.modelcontextprotocol/serverInfo"

// Connect finds the era and opens a session where the era has them: modern
// server/discover first; a modern error names the revisions to choose from;
// anything else but a refusal leads to initialize with 2025-11-25, 2025-06-18
// and 2025-03-26, then to the HTTP+SSE transport. A 401 or 403 at any step ends
// the detection and is reported in Hello.Refusal. The error is not nil only when
// the server could not be reached at all.
func (c *Client) Connect(ctx context.Context) (*Hello, error) {
	h := &Hello{Transport: StreamableHTTP}
	version, legacyToo, err := c.discover(ctx, h, wire.LatestModern)
	if err != nil {
		return h, err
	}
	if h.stopped() || h.Found() {
		return h, nil
	}
	if version != "" { // the server named another modern revision we know
		if _, _, err := c.discover(ctx, h, version); err != nil || h.stopped() || h.Found() {
			return h, err
		}
	}
	if err := c.initialize(ctx, h, legacyToo); err != nil || h.stopped() || h.Found() {
		return h, err
	}
	if h.bare != nil { // modern in its errors, deaf to initialize: modern without server/discover
		c.accept(h, h.bare, wire.LatestModern)
		return h, nil
	}
	return h, c.connectSSE(ctx, h)
}

func (h *Hello) stopped() bool { return h.Refusal != nil || h.Limited || h.Location != "" }

// step sends one call of the detection and notes it.
func (c *Client) step(ctx context.Context, h *Hello, name string, call Call) (*Reply, error) {
	call.Note = name
	r, err := c.Call(ctx, call)
	h.Steps = append(h.Steps, Step{name, r, err})
	if err != nil {
		return nil, err
	}
	if r.Refusal != nil {
		r.Refusal.Step = name
		h.Refusal = r.Refusal
	}
	h.Limited = r.Outcome == RateLimited
	if r.Outcome == Redirected {
		h.Location = r.Exchange.Header("Location")
	}
	return r, nil
}

// discover asks in the modern way. next is another modern revision to try,
// legacy the legacy revisions a dual-era server offered.
func (c *Client) discover(ctx context.Context, h *Hello, version string) (next string, legacy []string, err error) {
	r, err := c.step(ctx, h, "discover", Call{Method: wire.MethodDiscover, Version: version})
	if err != nil || h.stopped() {
		return "", nil, err
	}
	switch {
	case r.Outcome == Answered:
		h.Supported = stringList(r.Result, "supportedVersions")
		if len(h.Supported) > 0 && !slices.Contains(h.Supported, version) {
			next, legacy = choose(h.Supported, version)
			return next, legacy, nil
		}
		c.accept(h, r, version)
	case r.RPC != nil && r.RPC.Code == wire.CodeUnsupportedVersion:
		h.Supported = stringList(r.RPC.Data, "supported")
		next, legacy = choose(h.Supported, version)
		if next == "" && len(legacy) == 0 {
			h.Era = wire.Modern // it speaks modern, in a revision we do not know
		}
		return next, legacy, nil
	case r.RPC != nil && wire.IsModernCode(r.RPC.Code):
		c.accept(h, r, version)
	case r.RPC != nil && r.RPC.Code == wire.CodeMethodNotFound && r.Exchange.Status() == 404:
		h.bare = r // TR-10 has this form, but so have some legacy servers: initialize decides
	}
	return "", nil, nil
}

// choose picks from what a server supports: the newest modern revision known
// to us other than the one tried, and the legacy ones, newest first.
func choose(supported []string, tried string) (modern string, legacy []string) {
	for _, v := range wire.Revisions() {
		if !slices.Contains(supported, v) {
			continue
		}
		if era, _ := wire.EraOf(v); era == wire.Legacy {
			legacy = append(legacy, v)
		} else if modern == "" && v != tried {
			modern = v
		}
	}
	return modern, legacy
}

// accept notes the result of discover or initialize and makes its era ours.
func (c *Client) accept(h *Hello, r *Reply, version string) {
	h.Era, _ = wire.EraOf(version)
	h.Version, h.Result = version, r.Result
	h.Capabilities, _ = wire.Lookup(r.Result, "capabilities")
	h.Instructions = wire.LookupString(r.Result, "instructions")
	var ok bool
	if h.ServerInfo, ok = wire.Lookup(r.Result, "serverInfo"); !ok {
		h.ServerInfo, _ = wire.Lookup(r.Result, "_meta", metaServerInfo)
	}
	if h.Era == wire.Legacy {
		h.SessionID = cleanSession(r.Exchange.Header(wire.HeaderSession))
	}
	c.Use(version, h.SessionID)
}

// cleanSession accepts a session id of visible ASCII (TR-20) of at most 1 KiB;
// anything else is not sent back.
func cleanSession(id string) string {
	if len(id) > 1024 {
		return ""
	}
	for i := 0; i < len(id); i++ {
		if id[i] < 0x21 || id[i] > 0x7e {
			return ""
		}
	}
	return id
}

// initialize opens a legacy session with the first revision the server takes.
func (c *Client) initialize(ctx context.Context, h *Hello, offered []string) error {
	versions := []string{wire.Rev20251125, wire.Rev20250618, wire.Rev20250326}
	if len(offered) > 0 {
		versions = offered
	}
	for i, v := range versions {
		r, err := c.step(ctx, h, "initialize "+v, c.initializeCall(v))
		if err != nil {
			if i > 0 {
				return nil // the server answered before; let what is known stand
			}
			return err
		}
		switch {
		case h.stopped():
			return nil
		case r.Outcome == Answered:
			return c.finishInitialize(ctx, h, r, v)
		case r.RPC == nil && (r.Exchange.Status() == 404 || r.Exchange.Status() == 405):
			return nil // no streamable endpoint here at all: no other revision will help
		}
	}
	return nil
}

func (c *Client) initializeCall(version string) Call {
	p := wire.AppendQuote([]byte(`{"protocolVersion":`), version)
	p = append(append(p, `,"capabilities":`...), c.o.Capabilities...)
	p = append(append(append(p, `,"clientInfo":`...), c.clientInfo()...), '}')
	return Call{Method: wire.MethodInitialize, Params: p, Version: version, NoSession: true}
}

// finishInitialize takes the revision the server chose and says initialized.
// A refusal of that notification is an answer too.
func (c *Client) finishInitialize(ctx context.Context, h *Hello, r *Reply, asked string) error {
	version := wire.LookupString(r.Result, "protocolVersion")
	if era, known := wire.EraOf(version); !known || era != wire.Legacy {
		version = asked // the server's own answer stands in Result
	}
	c.accept(h, r, version)
	_, _ = c.step(ctx, h, "initialized", Call{Method: wire.MethodInitialized, Notification: true})
	return nil
}

// stringList returns the strings of an array member, at most 64.
func stringList(raw wire.Raw, name string) []string {
	v, _ := wire.Lookup(raw, name)
	var out []string
	wire.Elements(v, func(e wire.Raw) bool {
		if s, ok := wire.String(e); ok {
			out = append(out, s)
		}
		return len(out) < 64
	})
	return out
}

// Close ends the legacy session with DELETE, where there is one, and the old
// transport's stream. It returns the exchange of the DELETE, or nil.
func (c *Client) Close(ctx context.Context) *kidoban.Exchange {
	st := c.state()
	var x *kidoban.Exchange
	if st.session != "" && st.stream == nil {
		if r, _ := c.Call(ctx, Call{HTTPMethod: "DELETE", Notification: true, Note: "close session"}); r != nil {
			x = r.Exchange
		}
	}
	if st.stream != nil {
		st.stream.close()
	}
	c.mu.Lock()
	c.session, c.stream = "", nil
	c.mu.Unlock()
	return x
}
