package gateway

import (
	"net/url"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// server is one upstream with what is known of it.
type server struct {
	Server
	url     *url.URL
	http    *outbound.Direct // nil for stdio
	breaker breaker
	catalog catalog
	eras    eras
	hoard   *hoard      // of all servers
	rooms   *wire.Rooms // of all servers
	held    int64       // of this one; guarded by hoard.mu
	flow    flow
	shares  limit.Shares // of its rate
	mark    string       // what it is, for consents; see coverage.go
}

// keep returns the running server of the old state when its config is the same.
func (g *Gateway) keep(old *state, s *Server, c Config) *server {
	if old != nil {
		if have := old.servers[s.Name]; have != nil && reflect.DeepEqual(have.Server, *s) {
			return have
		}
	}
	n := &server{Server: *s, hoard: &g.hoard, rooms: &g.rooms, mark: s.mark()}
	n.breaker.most, n.breaker.longest = s.Failures, s.Rest
	n.flow.rate, n.flow.now = s.Rate, g.deps.Now
	n.catalog.tools = map[string]map[string]listedTool{}
	if s.URL != "" {
		n.url, _ = url.Parse(s.URL) // judged by Validate
		n.http = outbound.NewDirect(n.url.Scheme == "http", outbound.RelayOptions{Lab: s.Loopback, Private: s.Private, RootCAs: s.RootCAs, MaxIdle: 256, Dialed: g.deps.Dialed})
	}
	n.eras.fixed = wire.Era(s.Era)
	return n
}

// retire closes the servers that a new state no longer has.
func (g *Gateway) retire(old, now *state) {
	if old == nil {
		return
	}
	for name, s := range old.servers {
		if now.servers[name] != s {
			s.close()
			g.bridges.drop(s)
		}
	}
}

func (s *server) close() {
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
}

// accountKey tells whose view of the server this is: views are shared only where
// all users come with the same account (E31).
func (c *call) accountKey() string {
	if c.server != nil && c.server.Account == AccountUser {
		return c.Caller.User
	}
	return ""
}

// catalog remembers the tools that a server listed, by whose view it was.
type catalog struct {
	mu    sync.RWMutex
	tools map[string]map[string]listedTool // account key → tool; guarded by mu
	asked map[string][]string              // account key → lists the gateway asked for itself; guarded by mu

	asking map[viewMethod]*listAsk // lists that the gateway asks for; guarded by mu

	seen  map[string]time.Time // account key → when it was listed, roughly; guarded by mu
	sizes map[string]int       // account key → bytes of its definitions; guarded by mu
	lists map[string]int       // account key → first pages there were; guarded by mu
	size  int                  // of all; guarded by mu
}

// viewMethod is a list of a view.
type viewMethod struct{ view, method string }

// listedTool is a definition and its hash.
type listedTool struct {
	list int // catalog.lists when it was last seen
	def  wire.Raw
	sum  string
}

const (
	maxViews = 512    // users remembered per server
	maxTools = 10_000 // tools remembered per view

	// What definitions take in memory, in bytes: of one view, which is as much as the
	// aggregate takes of a server's list, and of all views of a server. Pages of a list
	// may be many and long, and clients follow them.
	maxViewBytes = maxListBytes
	maxAllBytes  = 8 * maxViewBytes
)

// tool returns the definition of a tool with its hash, nil and "" for what was never
// listed.
func (k *catalog) tool(view, name string) (def wire.Raw, sum string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	t := k.tools[view][name]
	return t.def, t.sum
}

// headers returns the annotated parameters of a tool, from any view of it: they
// only say what a modern request must repeat in its header (TR-07).
func (k *catalog) headers(name string) []wire.HeaderParam {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, view := range k.tools {
		if t := view[name]; t.def != nil {
			schema, _ := wire.Lookup(t.def, "inputSchema")
			params, err := wire.HeaderParams(schema)
			if err != nil {
				return nil
			}
			return params
		}
	}
	return nil
}

// learn takes the definitions of one page. A list in one page replaces what was known.
// Of a list in several, what was known stays until the last page: others who share the
// view call tools of the later pages while somebody reads the first. Two lists may be
// read at once, so what the list before held goes with the next.
func (k *catalog) learn(view string, first bool, result wire.Raw) {
	list, ok := wire.Lookup(result, "tools")
	if !ok {
		return
	}
	more := wire.LookupString(result, "nextCursor") != ""
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lists == nil {
		k.lists = map[string]int{}
	}
	if first {
		k.lists[view]++
	}
	now, known := k.lists[view], k.tools[view]
	page, size := map[string]listedTool{}, 0
	for n, d := range known {
		if first && !more || !first && !more && d.list < now-1 {
			continue
		}
		page[n] = d
		size += len(d.def)
	}
	wire.Elements(list, func(def wire.Raw) bool {
		name := wire.LookupString(def, "name")
		if name == "" || len(def) > maxPinned {
			return true
		}
		old, have := page[name]
		if !have && len(page) >= maxTools || size+len(def)-len(old.def) > maxViewBytes {
			return true
		}
		size += len(def) - len(old.def)
		if was, same := known[name]; same && string(was.def) == string(def) {
			page[name] = listedTool{now, was.def, was.sum}
		} else {
			page[name] = listedTool{now, slices.Clone(def), toolscan.Fingerprint(def)}
		}
		return true
	})
	if k.sizes == nil {
		k.sizes = map[string]int{}
	}
	k.size += size - k.sizes[view]
	k.tools[view], k.sizes[view] = page, size
	for other := range k.tools {
		if len(k.tools) <= maxViews && k.size <= maxAllBytes {
			break
		}
		if other != view {
			k.drop(other)
		}
	}
}

// forget drops a view: its next call asks the server anew.
func (k *catalog) forget(view string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(view)
}

// drop is forget. The caller holds mu.
func (k *catalog) drop(view string) {
	k.size -= k.sizes[view]
	delete(k.tools, view)
	delete(k.sizes, view)
	delete(k.lists, view)
	delete(k.asked, view)
}

// eras is what is known of the revisions a server speaks.
type eras struct {
	fixed wire.Era

	mu     sync.Mutex
	modern bool // guarded by mu
	legacy bool // guarded by mu
	at     time.Time
}

// erasLife is how long an observation is believed.
const erasLife = 10 * time.Minute

// known returns what the server speaks; ok is false when it must be found out.
func (e *eras) known(now time.Time) (modern, legacy, ok bool) {
	if e.fixed != "" {
		return e.fixed == wire.Modern, e.fixed == wire.Legacy, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.modern, e.legacy, !e.at.IsZero() && now.Sub(e.at) < erasLife
}

func (e *eras) learn(now time.Time, modern, legacy bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.modern, e.legacy, e.at = modern, legacy, now
}

// forget makes the next call find out again.
func (e *eras) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at = time.Time{}
}
