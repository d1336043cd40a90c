package gateway

import (
	"encoding/base32"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// Elicitations in URL mode send a person to a page (2025-11-25 and 2026-07-28,
// client/elicitation). The two eras do not say it alike: the earlier one names each
// with an id, tells when it is over, and has an error by which a server says that a
// page must be seen first; the later one has none of these, and forbids the error
// (TR-21). Servers choose the address, so one that is no page is not passed on.

// methodElicited tells that an elicitation is over, to legacy clients alone.
const methodElicited = "notifications/elicitation/complete"

// urlMode tells whether params are those of an elicitation that opens a page.
func urlMode(method string, params wire.Raw) bool {
	return method == wire.MethodElicit && wire.LookupString(params, "mode") == "url"
}

// withElicitationID gives an elicitation in URL mode the id without which a legacy client does
// not understand it. It is a name, not a secret.
func (g *Gateway) withElicitationID(method string, params wire.Raw) wire.Raw {
	if _, has := wire.Lookup(params, "elicitationId"); has || !urlMode(method, params) {
		return params
	}
	return wire.SetMember(params, "elicitationId", wire.Quote(g.elicitationID()))
}

func (g *Gateway) elicitationID() string {
	var id [10]byte
	_, _ = io.ReadFull(g.deps.Rand, id[:])
	return base32.StdEncoding.EncodeToString(id[:])
}

// elicited is what a modern client gets instead of the error by which a legacy server
// asks for pages to be seen first: the same question in its own era. Whatever it
// answers, the call is made again as if it were the first time.
func (g *Gateway) elicited(c *call, m wire.Message) (wire.Message, *Refusal) {
	asks, n := wire.Raw("{}"), 0
	list, _ := wire.Lookup(m.Error, "data", "elicitations")
	wire.Elements(list, func(e wire.Raw) bool {
		if !urlMode(wire.MethodElicit, e) {
			return true
		}
		n++
		ask := wire.SetMember(wire.Raw(`{"method":"elicitation/create"}`), "params", wire.DropMember(e, "elicitationId"))
		asks = wire.SetMember(asks, "page-"+string(rune('0'+n)), ask)
		return n < maxPagesAsked
	})
	_, can := wire.Lookup(c.Params.Capabilities, "elicitation", "url")
	switch {
	case n == 0 || !inputAllowed(c.Message.Method):
		m.Error = wire.SetMember(wire.DropMember(m.Error, "data"), "code", wire.Raw("-32603"))
		return m, nil
	case !can:
		m.Error = wire.Raw(`{"code":-32021,"message":"This needs a client that opens pages (elicitation.url).","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}`)
		return m, nil
	}
	sealed, err := g.seal.seal([]byte{modeRetry}, c.stateBinding(), c.st.config.StateLife)
	if err != nil {
		return m, refuse(http.StatusInternalServerError, wire.CodeInternal, "state", "The request cannot be continued.").because(err)
	}
	result := wire.SetMember(wire.Raw(`{"resultType":"input_required"}`), "inputRequests", asks)
	return wire.Message{Kind: wire.Result, ID: m.ID, Result: wire.SetMember(result, "requestState", wire.Quote(sealed))}, nil
}

// maxPagesAsked bounds the pages of one answer.
const maxPagesAsked = 9

// pages refuses a message of a server that would have a person open what is no page:
// a script, a file, an address with a password in it, plain http (CL-14,
// mcp-authorization 2.6).
func (c *call) pages(m wire.Message) *Refusal {
	ok := true
	inside := c.server != nil && (c.server.Transport == TransportStdio || c.server.Loopback || c.server.Private)
	check := func(params wire.Raw) { ok = ok && isPage(wire.LookupString(params, "url"), inside) }
	switch {
	case m.Kind == wire.Request && urlMode(m.Method, m.Params):
		check(m.Params)
	case m.Kind == wire.Result && c.Era == wire.Modern && wire.LookupString(m.Result, "resultType") == "input_required":
		asked, _ := wire.Lookup(m.Result, "inputRequests")
		wire.Each(asked, func(_, req wire.Raw) bool {
			if params, _ := wire.Lookup(req, "params"); urlMode(wire.LookupString(req, "method"), params) {
				check(params)
			}
			return true
		})
	case m.Kind == wire.ErrorReply && errorCode(m) == wire.CodeElicitationRequired:
		list, _ := wire.Lookup(m.Error, "data", "elicitations")
		wire.Elements(list, func(e wire.Raw) bool {
			if urlMode(wire.MethodElicit, e) {
				check(e)
			}
			return true
		})
	}
	if ok {
		return nil
	}
	return refuse(http.StatusOK, wire.CodeInternal, "upstream:page", "The server "+c.Server+" wants an address opened that is not a page.")
}

// isPage tells whether a person may be sent to an address: https, a host, and nobody's
// name or password; plain http where a server that is itself inside the house sends
// to an address inside.
func isPage(address string, inside bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(address, "\\ \t\r\n") {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	near := u.Hostname() == "localhost" || err == nil && (ip.IsLoopback() || ip.IsPrivate())
	return u.Scheme == "https" || u.Scheme == "http" && inside && near
}
