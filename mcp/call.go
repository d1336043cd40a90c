package mcp

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Call is one message to send, with control over every part of the request. Zero
// values mean what the negotiated era asks for.
type Call struct {
	Method       string   // JSON-RPC method
	Params       wire.Raw // an object; modern _meta members are added
	Notification bool     // no id, no reply expected
	ID           wire.ID  // default: the next number

	Version    string // send as this revision instead of the negotiated one
	Bearer     *string
	HTTPMethod string         // default POST
	URL        string         // another endpoint, absolute or relative to the client's
	Header     kidoban.Fields // set last: replaces headers of the same name
	Drop       []string       // headers to leave out
	Body       []byte         // sent instead of the message; Method and ID still say which reply to look for
	NoSession  bool           // leave out the session id
	Raw        bool           // outbound's own HTTP/1.1 writer: Header alone is sent, in order
	Target     string         // request target for Raw
	Timeout    time.Duration
	Note       string // copied into the exchange
}

// Call sends one message and returns what came back. The error is that of the
// Doer: no response head arrived. Any response, also one that is no MCP at all,
// is a Reply without error.
func (c *Client) Call(ctx context.Context, call Call) (*Reply, error) {
	st := c.state()
	if call.Version != "" {
		st.version = call.Version
		st.era, _ = wire.EraOf(call.Version)
	}
	id := call.ID
	if !call.Notification && len(id.Raw) == 0 {
		id = c.newID()
	}
	target, err := c.target(call.URL, st)
	if err != nil {
		return nil, err
	}
	body, params := c.body(call, st, id)
	reply := &Reply{id: id, notification: call.Notification}
	req := outbound.Req{
		Method: "POST", URL: target, Body: body, Jar: c.o.Jar, Probe: c.o.Probe, Note: call.Note,
		MaxBody: c.o.MaxBody, Timeout: c.o.Timeout, Raw: call.Raw, Target: call.Target,
		Header: c.header(call, st, params), Stream: reply.feed(c.o.MaxBody),
	}
	if call.HTTPMethod != "" {
		req.Method = call.HTTPMethod
	}
	if call.Timeout > 0 {
		req.Timeout = call.Timeout
	}
	if call.Raw {
		req.Header = call.Header
	}
	if c.o.Bearer != "" && call.Bearer == nil {
		req.CredentialOrigin = c.o.URL // CL-12: the token goes to its own server only
	}
	var waiting <-chan wire.Message
	if st.stream != nil && !call.Notification {
		var done func()
		waiting, done = st.stream.expect(id)
		defer done()
	}
	x, err := c.do.Do(ctx, req)
	reply.Exchange = x
	if x == nil || x.Response == nil {
		if err == nil {
			err = kidoban.Errorf(kidoban.KindUnreachable, "The server sent no response.")
		}
		return reply, err
	}
	reply.read()
	if waiting != nil && reply.Outcome == Accepted {
		if m, ok := st.stream.wait(ctx, waiting); ok {
			reply.take(m)
			reply.Streamed = true
		} else {
			reply.Outcome = NotMCP
		}
	}
	return reply, nil
}

// target returns the URL to send to.
func (c *Client) target(override string, st state) (string, error) {
	base := c.o.URL
	if st.stream != nil {
		base = st.stream.endpoint
	}
	if override == "" {
		return base, nil
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindInput, err, "The endpoint is not a URL")
	}
	u, err := b.Parse(override)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "The URL to call is malformed")
	}
	return u.String(), nil
}

// body writes the message, and returns the params as sent for the headers.
func (c *Client) body(call Call, st state, id wire.ID) ([]byte, wire.Raw) {
	params := call.Params
	if st.era == wire.Modern {
		params = c.withMeta(params, st.version)
	}
	switch {
	case call.Body != nil:
		return call.Body, params
	case call.Method == "":
		return nil, params
	case call.Notification:
		return wire.AppendNotification(nil, call.Method, params), params
	}
	return wire.AppendRequest(nil, id, call.Method, params), params
}

// withMeta adds the members that every modern request must carry (TR-09),
// keeping those the caller has set.
func (c *Client) withMeta(params wire.Raw, version string) wire.Raw {
	if params == nil {
		params = wire.Raw("{}")
	}
	meta, ok := wire.Lookup(params, "_meta")
	if !ok || meta[0] != '{' {
		meta = wire.Raw("{}")
	}
	for _, m := range []struct {
		name  string
		value wire.Raw
	}{
		{wire.MetaProtocolVersion, wire.Quote(version)},
		{wire.MetaClientInfo, c.clientInfo()},
		{wire.MetaClientCapabilities, c.o.Capabilities},
	} {
		if _, has := wire.Lookup(meta, m.name); !has {
			meta = wire.SetMember(meta, m.name, m.value)
		}
	}
	return wire.SetMember(params, "_meta", meta)
}

// header returns the request's header: what the era asks for, then the
// client's own, then the call's.
func (c *Client) header(call Call, st state, params wire.Raw) kidoban.Fields {
	h := kidoban.Fields{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "application/json, text/event-stream"},
	}
	if call.HTTPMethod == "GET" || call.HTTPMethod == "DELETE" {
		h = kidoban.Fields{{Name: "Accept", Value: "text/event-stream"}}
	}
	switch {
	case st.era == wire.Modern:
		p, err := wire.PeekParams(params)
		if err != nil || p.ProtocolVersion == "" { // a probe's odd params: mirror what can be mirrored
			p.ProtocolVersion = st.version
		}
		for _, f := range wire.MirrorHeaders(call.Method, p, nil) {
			if f.Value != "" {
				h = h.Set(f.Name, f.Value)
			}
		}
	case st.version >= wire.Rev20250618 && call.Method != wire.MethodInitialize:
		h = h.Set(wire.HeaderVersion, st.version)
	}
	if st.session != "" && !call.NoSession && st.era == wire.Legacy {
		h = h.Set(wire.HeaderSession, st.session)
	}
	bearer := c.o.Bearer
	if call.Bearer != nil {
		bearer = *call.Bearer
	}
	if bearer != "" {
		h = h.Set("Authorization", "Bearer "+bearer)
	}
	for _, f := range append(append(kidoban.Fields(nil), c.o.Header...), call.Header...) {
		h = h.Set(f.Name, f.Value)
	}
	out := h[:0]
	for _, f := range h {
		drop := false
		for _, name := range call.Drop {
			drop = drop || strings.EqualFold(name, f.Name)
		}
		if !drop {
			out = append(out, f)
		}
	}
	return out
}
