package gateway

import (
	"encoding/base32"
	"io"
	"net/http"

	"github.com/kidoban/kidoban/wire"
)

// Elicitations in URL mode send a person to a page (2025-11-25 and 2026-07-28,
// client/elicitation). The two eras do not say it alike: the earlier one names each
// with an id, tells when it is over, and has an error by which a server says that a
// page must be seen first; the later one has none of these, and forbids the error
// (TR-21). Servers choose the address; what becomes of it is in pages.go.

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
