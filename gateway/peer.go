package gateway

import (
	"context"
	"maps"
	"slices"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// peer is a relationship that the gateway itself has with a server. It is safe
// for concurrent use and hides the server's era and transport: a request goes
// in, what the server wants meanwhile comes back through the handler, and the
// answer is a result or an error.
type peer interface {
	hello() hello
	// request sends a request. The answer's slices belong to the caller. An error
	// means that there is no answer; its sentence may be shown.
	request(ctx context.Context, o outgoing, h handler) (wire.Message, error)
	// subscribe gives what belongs to no request to the subscriber, until cancel.
	subscribe(s subscriber) (cancel func())
	// tell passes on a notification that the client sends of its own accord, if the
	// relationship is that client's alone: a server takes it for whom it serves. It is
	// nobody's loss when it is lost.
	tell(ctx context.Context, client, method string, params wire.Raw)
	// left forgets what a session followed that has ended.
	left(who string)
	// usedBy notes a client that has to do with the server through this relationship.
	usedBy(client string)
	// done is closed when the relationship has ended.
	done() <-chan struct{}
	close()
}

// outgoing is a request on its way to a peer.
type outgoing struct {
	method string
	params wire.Raw
	caps   wire.Raw // capabilities of the client that asks; nil means none
	who    string   // whose session it comes from, see call.who; "" is the gateway's own
	again  bool     // it was refused by a session that was over
}

// handler is the asking client's side of a request under way.
type handler struct {
	note func(wire.Message) // a notification that belongs to the request; must not block
	// ask puts a request of the server to the client and waits for the result.
	// refusal is a JSON-RPC error object instead.
	ask func(ctx context.Context, q *question) (result, refusal wire.Raw)
}

// subscriber is a client that listens to a server beside its requests.
type subscriber struct {
	handler
	ctx  context.Context // what it may be asked is asked until this ends
	caps wire.Raw        // what it may be asked; nil is nothing
	who  string          // as in outgoing
}

// hello is what a server said of itself.
type hello struct {
	era          wire.Era
	version      string
	capabilities wire.Raw
	info         wire.Raw
	instructions wire.Raw
}

func (h hello) has(capability string) bool {
	_, ok := wire.Lookup(h.capabilities, capability)
	return ok
}

// helloOf reads the result of initialize or of server/discover.
func helloOf(era wire.Era, result wire.Raw) hello {
	h := hello{era: era, version: wire.LatestModern}
	member := func(names ...string) wire.Raw { v, _ := wire.Lookup(result, names...); return slices.Clone(v) }
	h.capabilities, h.instructions = member("capabilities"), member("instructions")
	h.info = member("serverInfo")
	if era == wire.Legacy {
		h.version = wire.LookupString(result, "protocolVersion")
	} else if h.info == nil {
		h.info = member("_meta", "io.modelcontextprotocol/serverInfo")
	}
	if len(h.capabilities) == 0 || h.capabilities[0] != '{' {
		h.capabilities = wire.Raw("{}")
	}
	return h
}

// ourCapabilities is what the gateway declares where one relationship serves
// many clients. What the asking client cannot do is refused on its behalf.
var ourCapabilities = wire.Raw(`{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{"listChanged":true}}`)

// initializeParams introduces us. A server that several users share is not told of
// changed roots: they would be everybody's (see peer.tell).
func initializeParams(shared bool) wire.Raw {
	caps := ourCapabilities
	if shared {
		caps = wire.SetMember(caps, "roots", wire.Raw("{}"))
	}
	p := wire.SetMember(wire.Raw("{}"), "protocolVersion", wire.Quote(wire.LatestLegacy))
	return wire.SetMember(wire.SetMember(p, "capabilities", caps), "clientInfo", clientInfo())
}

// maxRounds bounds how often a modern server may ask for input in one request.
const maxRounds = 10

// rounds carries a request to a modern server and answers its demands for input
// through the handler, until the result is complete.
func rounds(ctx context.Context, o outgoing, h handler, send func(params wire.Raw) (wire.Message, error)) (wire.Message, error) {
	params := modernParams(o)
	for range maxRounds {
		m, err := send(params)
		if err != nil || m.Kind != wire.Result || wire.LookupString(m.Result, "resultType") != "input_required" {
			return m, err
		}
		responses := wire.Raw("{}")
		asked, _ := wire.Lookup(m.Result, "inputRequests")
		var refused wire.Raw
		n := 0
		wire.Each(asked, func(name, req wire.Raw) bool {
			key, _ := wire.String(name)
			p, _ := wire.Lookup(req, "params")
			var res wire.Raw
			if n++; n > 16 || h.ask == nil {
				refused = wire.Raw(`{"code":-32603,"message":"The client cannot be asked."}`)
				return false
			}
			res, refused = h.ask(ctx, &question{method: wire.LookupString(req, "method"), params: p})
			if res == nil && refused == nil { // the client has gone
				refused = cannotAsk
			}
			if refused == nil {
				responses = wire.SetMember(responses, key, res)
			}
			return refused == nil
		})
		if refused != nil {
			return wire.Message{Kind: wire.ErrorReply, Error: refused}, nil
		}
		params = wire.SetMember(params, "inputResponses", responses)
		if state, ok := wire.Lookup(m.Result, "requestState"); ok {
			params = wire.SetMember(params, "requestState", state)
		} else {
			params = wire.DropMember(params, "requestState")
		}
	}
	return wire.Message{}, kidoban.Errorf(kidoban.KindLimit, "The server asked for input more than %d times.", maxRounds)
}

// modernParams puts the members on that every modern request carries.
func modernParams(o outgoing) wire.Raw {
	params := o.params
	if params == nil {
		params = wire.Raw("{}")
	}
	meta, ok := wire.Lookup(params, "_meta")
	if !ok || len(meta) == 0 || meta[0] != '{' {
		meta = wire.Raw("{}")
	}
	caps := o.caps
	if caps == nil {
		caps = wire.Raw("{}")
	}
	meta = wire.SetMember(meta, wire.MetaProtocolVersion, wire.Quote(wire.LatestModern))
	meta = wire.SetMember(meta, wire.MetaClientInfo, clientInfo())
	meta = wire.SetMember(meta, wire.MetaClientCapabilities, caps)
	return wire.SetMember(params, "_meta", meta)
}

// legacyParams takes the modern members off.
func legacyParams(params wire.Raw) wire.Raw {
	meta, ok := wire.Lookup(params, "_meta")
	if !ok || len(meta) == 0 || meta[0] != '{' {
		return params
	}
	for _, name := range []string{wire.MetaProtocolVersion, wire.MetaClientInfo, wire.MetaClientCapabilities, wire.MetaLogLevel} {
		meta = wire.DropMember(meta, name)
	}
	if string(meta) == "{}" {
		return wire.DropMember(params, "_meta")
	}
	return wire.SetMember(params, "_meta", meta)
}

// capable tells whether a client declared what a server's request needs.
func capable(caps wire.Raw, method string, params wire.Raw) bool {
	has := func(names ...string) bool { _, ok := wire.Lookup(caps, names...); return ok }
	switch method {
	case wire.MethodSampling:
		return has("sampling")
	case wire.MethodRoots:
		return has("roots")
	case wire.MethodElicit:
		e, ok := wire.Lookup(caps, "elicitation")
		if wire.LookupString(params, "mode") == "url" {
			return has("elicitation", "url")
		}
		return ok && (has("elicitation", "form") || string(e) == "{}" || !has("elicitation", "url"))
	}
	return false
}

var cannotAsk = wire.Raw(`{"code":-32601,"message":"The client does not offer this."}`)

// own copies a message out of the buffer it was read from.
func own(m wire.Message) wire.Message {
	m.ID.Raw, m.Params, m.Result, m.Error, m.Raw = slices.Clone(m.ID.Raw), slices.Clone(m.Params), slices.Clone(m.Result), slices.Clone(m.Error), nil
	return m
}

// fan hands notifications to subscribers. Its zero value is ready; the owner's
// lock guards it.
type fan struct {
	next int
	to   map[int]subscriber
}

func (f *fan) add(to subscriber) int {
	if f.to == nil {
		f.to = map[int]subscriber{}
	}
	f.next++
	f.to[f.next] = to
	return f.next
}

// all are the subscribers, to be told without the owner's lock.
func (f *fan) all() []subscriber { return slices.Collect(maps.Values(f.to)) }

// of is the newest subscriber of a session.
func (f *fan) of(who string) (newest subscriber, ok bool) {
	last := 0
	for n, s := range f.to {
		if s.who == who && n > last {
			newest, last = s, n
		}
	}
	return newest, last != 0
}

// asker is the subscriber that a request of the server belongs to when no call is
// under way: the newest, if all that can be asked are one session's.
func (f *fan) asker() (newest subscriber, ok bool) {
	last := 0
	for n, s := range f.to {
		switch {
		case s.ask == nil:
			continue
		case s.who == "" || last != 0 && s.who != newest.who:
			return subscriber{}, false
		case n > last:
			newest, last = s, n
		}
	}
	return newest, last != 0
}
