package gateway

import (
	"context"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// The aggregate is one endpoint for all servers that the user may use. Tools and
// prompts carry the server's name and two underscores before theirs, resources
// the server's name and a plus before their URI; from the first server on, so
// that a second one renames nothing (CL-19).

const nameMark, uriMark = "__", "+"

// aggregateHello is what the aggregate says of itself. It offers what any server
// behind it may offer.
var aggregateHello = hello{era: wire.Legacy, version: wire.LatestLegacy, info: clientInfo(),
	capabilities: wire.Raw(`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{}}`)}

// reach lists the servers that a call is about: its own, or for the aggregate all
// that the token reaches and the caller may connect to, in order of name.
func (g *Gateway) reach(c *call) []*server {
	if c.target.server != nil {
		return []*server{c.target.server}
	}
	var out []*server
	for _, s := range c.st.servers {
		if g.reaches(c, s) {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// reaches tells whether a caller at the aggregate has anything to do with a server.
func (g *Gateway) reaches(c *call, s *server) bool {
	return c.covers.has(s) && g.mayReach(c, s)
}

func (g *Gateway) mayReach(c *call, s *server) bool {
	return (c.st.config.Open || c.st.allows(c.Caller.Scopes, s.Scopes)) && g.connects(c, s) == nil
}

// resolve finds the server that a call at the aggregate is for, and gives its
// params the names that the server knows.
func (g *Gateway) resolve(c *call) *Refusal {
	if refusal := g.openTask(c); refusal != nil {
		return refusal
	}
	if c.target.server != nil || c.Message.Kind != wire.Request {
		return nil
	}
	owner := c.server // of the task that the call belongs to
	if refusal := g.address(c); refusal != nil {
		return refusal
	}
	if owner != nil && c.server != owner {
		return unknownTask() // of the server that is asked: the id is another's
	}
	c.rec.Name = c.Params.Name + c.Params.URI
	return nil
}

// address finds the server that a request at the aggregate names.
func (g *Gateway) address(c *call) *Refusal {
	switch c.Message.Method {
	case wire.MethodToolsCall, wire.MethodPromptsGet:
		server, name, ok := strings.Cut(c.Params.Name, nameMark)
		if !ok || !g.pick(c, server) {
			return g.notHere(c, server, "There is no such name here. Names are server"+nameMark+"name, as the list says.")
		}
		c.Params.Name = name
		c.Message.Params = wire.SetMember(c.Message.Params, "name", wire.Quote(name))
	case wire.MethodResourcesRead, wire.MethodSubscribe, wire.MethodUnsubscribe:
		server, uri, ok := strings.Cut(c.Params.URI, uriMark)
		if !ok || !g.pick(c, server) {
			return g.notHere(c, server, "There is no such resource here. URIs begin with the server's name and "+uriMark+", as the list says.")
		}
		c.Params.URI = uri
		c.Message.Params = wire.SetMember(c.Message.Params, "uri", wire.Quote(uri))
	case wire.MethodComplete:
		return g.resolveRef(c)
	}
	return nil
}

// resolveRef does the same for the reference of a completion.
func (g *Gateway) resolveRef(c *call) *Refusal {
	ref, _ := wire.Lookup(c.Message.Params, "ref")
	named := ""
	for _, m := range [][2]string{{"name", nameMark}, {"uri", uriMark}} {
		member, mark := m[0], m[1]
		server, rest, ok := strings.Cut(wire.LookupString(ref, member), mark)
		if ok && g.pick(c, server) {
			c.Message.Params = wire.SetMember(c.Message.Params, "ref", wire.SetMember(ref, member, wire.Quote(rest)))
			return nil
		}
		if ok {
			named = server
		}
	}
	return g.notHere(c, named, "The reference names no server here.")
}

func unknownName(say string) *Refusal {
	return refuse(http.StatusOK, wire.CodeInvalidParams, "name", say)
}

// pick chooses the server of the aggregate, if the call reaches it.
func (g *Gateway) pick(c *call, name string) bool {
	s := c.st.servers[name]
	if s == nil || !g.reaches(c, s) {
		return false
	}
	c.server, c.Server = s, name
	return true
}

// What the lists hold: the member of the result, and the member that is renamed.
var lists = map[string]struct{ items, name string }{
	wire.MethodToolsList:     {"tools", "name"},
	wire.MethodPromptsList:   {"prompts", "name"},
	wire.MethodResourcesList: {"resources", "uri"},
	wire.MethodTemplatesList: {"resourceTemplates", "uriTemplate"},
}

// capabilityOf is what a server must declare to be asked for a list.
var capabilityOf = map[string]string{wire.MethodToolsList: "tools", wire.MethodPromptsList: "prompts", wire.MethodResourcesList: "resources", wire.MethodTemplatesList: "resources"}

const (
	pageSize = 250    // items per page of the aggregate
	maxPages = 100    // followed at one server
	maxItems = 10_000 // taken from one server
	// maxListBytes bounds what one server's list may take.
	maxListBytes = 8 << 20
	listFresh    = 10 * time.Second
	fanOut       = 8 // servers asked at once
)

// aggregate answers what is about all servers.
func (g *Gateway) aggregate(st *state, c *call) *Refusal {
	if _, ok := lists[c.Message.Method]; !ok {
		c.writeError(wire.CodeMethodNotFound, "The endpoint for all servers does not offer this; use the server's own.")
		return nil
	}
	var from place // the first
	if c.Params.Cursor != "" {
		var ok bool
		if from, ok = placeOf(c.Params.Cursor); !ok {
			c.writeError(wire.CodeInvalidParams, "The cursor is not one of this list.")
			return nil
		}
	}
	all, err := g.collect(c)
	if err != nil {
		return refuse(http.StatusGatewayTimeout, wire.CodeInternal, "upstream:timeout", "The servers did not answer in time.").because(err)
	}
	c.writePage(all.page(from))
	return nil
}

// listOne reads all pages of one server and renames what they hold. A cursor
// that comes twice ends the list (G-PX3). If it is not whole, why is the reason when
// the server did not answer; one that answers no has none.
func (g *Gateway) listOne(ctx context.Context, c *call, s *server) (items []wire.Raw, whole bool, why *Refusal) {
	sc := *c // guards and catalog see the server's own call
	sc.server, sc.Server = s, s.Name
	l := lists[c.Message.Method]
	p, release, refusal := g.acquire(ctx, &sc, s)
	if refusal != nil {
		return nil, false, refusal
	}
	defer release()
	if !p.hello().has(capabilityOf[c.Message.Method]) {
		return nil, true, nil
	}
	size := 0
	seen := map[string]bool{}
	params := wire.Raw("{}")
	for range maxPages {
		m, err := g.request(ctx, c.r.Context(), s, p, outgoing{method: c.Message.Method, params: params, who: c.who()}, handler{})
		if err != nil {
			return items, false, g.failed(&sc, err)
		}
		if m.Kind != wire.Result {
			return items, false, nil
		}
		sc.Params.Cursor = wire.LookupString(params, "cursor")
		result, refusal := g.result(&sc, m.Result)
		if refusal != nil {
			return items, false, nil
		}
		page, _ := wire.Lookup(result, l.items)
		wire.Elements(page, func(item wire.Raw) bool {
			items = append(items, rename(slices.Clone(item), l.name, s.Name))
			size += len(item)
			return len(items) < maxItems && size < maxListBytes
		})
		cursor := wire.LookupString(result, "nextCursor")
		if cursor == "" || seen[cursor] || len(items) >= maxItems || size >= maxListBytes {
			return items, cursor == "" || !seen[cursor], nil
		}
		seen[cursor] = true
		params = wire.SetMember(wire.Raw("{}"), "cursor", wire.Quote(cursor))
	}
	return items, false, nil
}

func rename(item wire.Raw, member, server string) wire.Raw {
	mark := nameMark
	if member != "name" {
		mark = uriMark
	}
	return wire.SetMember(item, member, wire.Quote(server+mark+wire.LookupString(item, member)))
}
