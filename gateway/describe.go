package gateway

import (
	"context"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// Offer is what one server behind a resource offers, for the page on which a
// person consents.
type Offer struct {
	Server string
	Title  string
	Tools  map[Class][]string // by class, in order of name; nil when the server did not say in time
	// Needs is the scope without which calls of a class are refused; nil when calls do
	// not depend on the tool's class.
	Needs map[Class]string
}

// onlyLooks stands for the client while the consent page asks: nothing but lists is
// asked for, and nothing else is shown.
const onlyLooks = "consent page"

// describeWait is how long a consent page waits for servers.
const describeWait = 2 * time.Second

// Describe asks the servers behind a resource for their tools, as the user. A
// server that does not answer in two seconds, that the user has no account at yet or
// may not connect to, is named without tools. Tools' names are the servers' words: escape them.
func (g *Gateway) Describe(ctx context.Context, user, resource string) []Offer {
	st := g.state.Load()
	var t *target
	for _, have := range st.targets {
		if have.resource == resource {
			t = have
		}
	}
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, describeWait)
	defer cancel()
	c := &call{st: st, target: t, server: t.server, r: (&http.Request{Method: http.MethodPost}).WithContext(ctx)}
	c.Caller = Caller{User: user, Client: onlyLooks, Scopes: []string{"mcp:destroy"}}
	c.Era, c.Message.Kind, c.Message.Method = wire.Legacy, wire.Request, wire.MethodToolsList
	var servers []*server
	if t.server != nil {
		servers = []*server{t.server}
	} else {
		for _, s := range st.servers {
			servers = append(servers, s)
		}
		sort.Slice(servers, func(i, j int) bool { return servers[i].Name < servers[j].Name })
	}
	out := make([]Offer, len(servers))
	slots := make(chan struct{}, fanOut)
	var wg sync.WaitGroup
	for i, s := range servers {
		out[i] = Offer{Server: s.Name, Title: s.Title, Needs: st.needs(s)}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if g.connects(c, s) != nil {
				return
			}
			items, ok, _ := g.listOne(ctx, c, s)
			if !ok && len(items) == 0 {
				return
			}
			tools := map[Class][]string{}
			for _, item := range items {
				name := wire.LookupString(item, "name")
				tools[ClassOf(item)] = append(tools[ClassOf(item)], name[len(s.Name)+len(nameMark):])
			}
			for _, names := range tools {
				sort.Strings(names)
			}
			out[i].Tools = tools
		})
	}
	wg.Wait()
	return out
}
