package gateway

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/wire"
)

// What a client says without asking crosses a bridge where the other side can make
// something of it (schema, ClientNotification of 2025-11-25 and 2026-07-28):
//
//   - cancelled ends the client's own call; its server is told under the gateway's id,
//     or by the end of the stream in the later era;
//   - progress goes to the server whose question it is about, under that server's
//     token, as long as the question is open; servers of the later era ask in results
//     and hear of no progress;
//   - roots/list_changed goes to the servers of the earlier era that serve this client
//     alone: those of the later era ask for roots anew in each request, and one that
//     several share would take these for everybody's;
//   - what the specification does not name goes to the server whose endpoint it was
//     sent to, if that speaks the client's era and serves this client alone; the
//     aggregate cannot tell whose it is.
//
// All else ends here, accepted as any notification is: initialized is the bridge's
// own, tasks of clients are promised to no server, and what only servers say no server
// wants to hear.
var endHere = []string{wire.MethodInitialized, wire.MethodLogMessage, wire.MethodToolsChanged, wire.MethodPromptsChanged,
	wire.MethodResChanged, wire.MethodResUpdated, methodElicited, methodAcknowledged}

// methodAcknowledged is what a server of the later era says first to whoever listens.
const methodAcknowledged = "notifications/subscriptions/acknowledged"

// ofTasks begins the notifications about tasks.
const ofTasks = "notifications/tasks"

// said acts on a client's notification. s is its session, nil in the later era.
func (g *Gateway) said(c *call, s *session) {
	ctx, m := context.WithoutCancel(c.r.Context()), c.Message
	switch {
	case m.Method == wire.MethodCancelled:
		if s != nil {
			g.cancelled(ctx, s, m)
		}
	case m.Method == wire.MethodProgress:
		if s != nil {
			g.progressed(ctx, s, m)
		}
	case m.Method == wire.MethodRootsChanged:
		if s == nil || s.id == "" {
			return
		}
		if _, has := wire.Lookup(s.caps, "roots"); has {
			g.tell(ctx, c, g.reach(c))
		}
	case slices.Contains(endHere, m.Method), strings.HasPrefix(m.Method, ofTasks), c.server == nil:
	case s == nil || s.id != "":
		g.tell(ctx, c, []*server{c.server})
	}
}

// cancelled ends a call of the client, here or where it is made.
func (g *Gateway) cancelled(ctx context.Context, s *session, m wire.Message) {
	id, _ := wire.Lookup(m.Params, "requestId")
	if !s.cancel(string(id)) && g.mail != nil && s.id != "" && g.mail.others() > 0 {
		_ = g.mail.post(ctx, "*", letter{Kind: "cancelled", Client: s.id, ID: id}) // as much as a client may expect
	}
}

// progressed tells the server that asked, here or where it was asked.
func (g *Gateway) progressed(ctx context.Context, s *session, m wire.Message) {
	raw, _ := wire.Lookup(m.Params, "progressToken")
	token, ok := wire.String(raw)
	if !ok {
		return // not one of ours
	}
	if !s.progressed(token, m.Params) {
		g.forwarded(ctx, s, token, letter{Kind: "progress", Text: token, Params: m.Params})
	}
}

// tell passes a notification on to servers, here and in the other processes. Each
// counts against its server's rate like a call.
func (g *Gateway) tell(ctx context.Context, c *call, servers []*server) {
	var names []string
	for _, s := range servers {
		if s.Shared || c.target.server == nil && !g.spare(c, s) {
			continue
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return
	}
	l := letter{Kind: "tell", User: c.Caller.User, Client: c.Caller.Client, Server: strings.Join(names, "\n"),
		Method: c.Message.Method, Params: c.Message.Params, Text: string(c.Era)}
	if g.mail != nil && g.mail.others() > 0 {
		_ = g.mail.post(ctx, "*", l) // as much as a client may expect
	}
	g.bridges.tell(ctx, l)
}

// spare charges a server's rate for what was sent to the aggregate; that of the
// server's own endpoint is charged already.
func (g *Gateway) spare(c *call, s *server) bool {
	l := c.st.config.Limits.CallPerServer
	if c.st.config.Open {
		return true
	}
	if !s.shares.Take(l, c.Caller.User, g.limits.Left(l, s.Name), c.from).Allowed {
		return false
	}
	if g.limits.Allow(limit.Ask{Limit: l, Key: s.Name, Cost: 1}).Allowed {
		return true
	}
	s.shares.GiveBack(l, c.Caller.User)
	return false
}

// tell passes a notification on over the relationships that this client has here; a
// server that it has none with knows nothing that could be out of date.
func (b *bridges) tell(ctx context.Context, l letter) {
	st := b.g.state.Load()
	var wg sync.WaitGroup
	for _, name := range strings.Split(l.Server, "\n") {
		s := st.servers[name]
		if s == nil || s.Shared {
			continue
		}
		key := peerKey{s: s, user: l.User, client: l.Client}
		if s.Transport == TransportStdio {
			key.client = ""
		}
		p, release := b.present(key)
		if p == nil {
			continue
		}
		wg.Go(func() {
			defer release()
			ctx, cancel := context.WithTimeout(ctx, s.Wait)
			defer cancel()
			if string(p.hello().era) == l.Text {
				p.tell(ctx, clientKey(Caller{User: l.User, Client: l.Client}), l.Method, l.Params)
			}
		})
	}
	wg.Wait()
}

// present is a relationship that is there already; nil when it is not.
func (b *bridges) present(key peerKey) (peer, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.peers[key]
	if h == nil {
		return nil, nil
	}
	select {
	case <-h.ready:
	default:
		return nil, nil // it begins, and asks what it wants to know
	}
	if h.err != nil {
		return nil, nil
	}
	h.refs++
	return h.p, func() { b.release(h) }
}
