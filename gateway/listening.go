package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// subscriptions serves subscriptions/listen: first what will come, then what
// was asked for and nothing else (TR-13).
func (g *Gateway) subscriptions(st *state, c *call) *Refusal {
	want, ok := wire.Lookup(c.Message.Params, "notifications")
	if !ok || want[0] != '{' {
		c.writeError(wire.CodeInvalidParams, "The params member notifications is missing.")
		return nil
	}
	kinds := map[string]string{wire.MethodToolsChanged: "toolsListChanged", wire.MethodPromptsChanged: "promptsListChanged", wire.MethodResChanged: "resourcesListChanged"}
	agreed, open := wire.Raw("{}"), map[string]bool{}
	for method, name := range kinds {
		if v, _ := wire.Lookup(want, name); string(v) == "true" {
			agreed, open[method] = wire.SetMember(agreed, name, wire.Raw("true")), true
		}
	}
	uris, _ := wire.Lookup(want, "resourceSubscriptions")
	notes, watched, stop := g.subscribeAll(c, nil, g.watchable(st, c, uris))
	defer stop()
	if len(watched) > 0 {
		open[wire.MethodResUpdated] = true
		agreed = wire.SetMember(agreed, "resourceSubscriptions", quoted(watched))
	}
	id := slices.Clone(c.Message.ID.Raw)
	mark := func(params wire.Raw) wire.Raw {
		meta, ok := wire.Lookup(params, "_meta")
		if !ok {
			meta = wire.Raw("{}")
		}
		if params == nil {
			params = wire.Raw("{}")
		}
		return wire.SetMember(params, "_meta", wire.SetMember(meta, wire.MetaSubscriptionID, id))
	}
	a := g.answering(st, c)
	defer a.end()
	ack := wire.Message{Kind: wire.Notification, Method: methodAcknowledged, Params: mark(wire.SetMember(wire.Raw("{}"), "notifications", agreed))}
	if a.stream().message(ack) != nil {
		return nil
	}
	drained := len(open) == 0 || a.notes(notes, func(m wire.Message) (wire.Message, bool) {
		ok := open[m.Method]
		if m.Method == wire.MethodResUpdated {
			uri := wire.LookupString(m.Params, "uri")
			ok = slices.ContainsFunc(watched, func(whole string) bool { return partOf(uri, whole) })
		}
		if ok {
			m.Params = mark(m.Params)
		}
		return m, ok
	}, func() bool { return true })
	if drained {
		a.result(wire.Message{Kind: wire.Result, ID: c.Message.ID, Result: wire.SetMember(mark(nil), "resultType", wire.Raw(`"complete"`))})
	}
	return nil
}

// watchable sorts the resources that a client wants to hear of by their servers,
// as these name them. What the guards would not let it subscribe to is left out.
func (g *Gateway) watchable(st *state, c *call, uris wire.Raw) map[*server][]string {
	out, n := map[*server][]string{}, 0
	wire.Elements(uris, func(raw wire.Raw) bool {
		uri, ok := wire.String(raw)
		if n++; !ok || n > maxSubs {
			return n <= maxSubs
		}
		one := *c
		one.Message.Method, one.Message.Params = wire.MethodSubscribe, wire.SetMember(wire.Raw("{}"), "uri", wire.Quote(uri))
		one.Params = wire.Params{URI: uri, Meta: c.Params.Meta, Capabilities: c.Params.Capabilities}
		if g.resolve(&one) == nil && g.judge(st, &one) == nil {
			out[one.server] = append(out[one.server], one.Params.URI)
		}
		return true
	})
	return out
}

// narrow leaves of the resources that a passing subscriptions/listen wants to follow
// those that its user may: the server's acknowledgement says which.
func (g *Gateway) narrow(st *state, c *call) {
	filter, _ := wire.Lookup(c.Message.Params, "notifications")
	uris, ok := wire.Lookup(filter, "resourceSubscriptions")
	if !ok {
		return
	}
	filter = wire.SetMember(filter, "resourceSubscriptions", quoted(g.watchable(st, c, uris)[c.server]))
	c.Message.Params = wire.SetMember(c.Message.Params, "notifications", filter)
}

// quoted is a list of strings as JSON.
func quoted(list []string) wire.Raw {
	out := wire.Raw("[")
	for i, v := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = wire.AppendQuote(out, v)
	}
	return append(out, ']')
}

// watch has the server tell when resources change, until ctx ends, and returns
// those that it will tell of.
func (f *follower) watch(ctx context.Context, p peer) (watched []string) {
	if v, _ := wire.Lookup(p.hello().capabilities, "resources", "subscribe"); string(v) != "true" {
		return nil
	}
	if p.hello().era == wire.Modern {
		f.wg.Go(func() { f.listen(ctx, p) })
		return f.uris
	}
	ctx, cancel := context.WithTimeout(ctx, f.srv.Wait) // a process has no limit of its own
	defer cancel()
	for _, uri := range f.uris {
		if f.tell(ctx, p, wire.MethodSubscribe, uri) {
			watched = append(watched, uri)
		}
	}
	return watched
}

// unwatch ends what watch began, as far as the server must be told.
func (f *follower) unwatch(p peer, watched []string) {
	if p.hello().era == wire.Modern {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.c.r.Context()), 2*time.Second)
	defer cancel()
	for _, uri := range watched {
		f.tell(ctx, p, wire.MethodUnsubscribe, uri)
	}
}

func (f *follower) tell(ctx context.Context, p peer, method, uri string) bool {
	m, err := p.request(ctx, outgoing{method: method, params: wire.SetMember(wire.Raw("{}"), "uri", wire.Quote(uri)), who: f.who}, handler{})
	if err != nil || m.Kind != wire.Result {
		f.g.deps.Log.Info("a server did not take a subscription", "server", f.srv.Name, "method", method, "error", err)
		return false
	}
	return true
}

// listen is the stream on which a modern server tells of resources. It is opened
// anew when it ends before the relationship does.
func (f *follower) listen(ctx context.Context, p peer) {
	params := wire.SetMember(wire.Raw("{}"), "notifications", wire.SetMember(wire.Raw("{}"), "resourceSubscriptions", quoted(f.uris)))
	const soon = 500 * time.Millisecond
	for wait := soon; ; wait = min(2*wait, time.Minute) {
		began := time.Now()
		_, _ = p.request(ctx, outgoing{method: wire.MethodListen, params: params}, handler{note: func(m wire.Message) {
			if m.Method == wire.MethodResUpdated {
				f.pass(m)
			}
		}}) // its end is what matters
		if time.Since(began) > wait { // it was a stream, and not a refusal
			wait = soon
		}
		select {
		case <-ctx.Done():
			return
		case <-p.done():
			return
		case <-time.After(wait):
		}
	}
}
