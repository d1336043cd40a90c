package gateway

import (
	"context"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// gathered is a list over all servers, cut into pages that are written as they
// are. Views of one caller with other scopes are other lists.
type gathered struct {
	pages []wire.Raw // each `{"tools":[…]` and what follows; the end is written with the era's own members
	end   []place    // of each page, its last item
	size  int
	at    time.Time

	// parts are kept while something is missing, so that only that is asked again.
	parts   [][]wire.Raw
	missing []string

	uncovered []string // servers that the consent does not name
}

// place is where in the list of all servers something stands: a server, and the number
// of the item in the server's own list. Cursors are places, so that a server that goes
// away or comes back between two pages moves nobody else's items past a client.
type place struct {
	server string
	n      int
}

// beyond is the place after every other: no server's name holds such a letter.
var beyond = place{server: "~"}

func (p place) String() string { return p.server + uriMark + strconv.Itoa(p.n) }

func (p place) before(q place) bool {
	return p.server < q.server || p.server == q.server && p.n < q.n
}

func placeOf(cursor string) (p place, ok bool) {
	server, n, ok := strings.Cut(cursor, uriMark)
	p.server = server
	var err error
	p.n, err = strconv.Atoi(n)
	return p, ok && err == nil && p.n >= 0
}

// page returns the page on which the item at a place stands, or the first one after it.
// Items that come earlier on that page may have been seen before.
func (v *gathered) page(at place) wire.Raw {
	i := sort.Search(len(v.end), func(i int) bool { return !v.end[i].before(at) })
	return v.pages[min(i, len(v.pages)-1)]
}

// encode cuts the items of servers, each with its name, into pages.
func (v *gathered) encode(member string, names []string) {
	n := 0
	for _, p := range v.parts {
		n += len(p)
	}
	all, places := make([]wire.Raw, 0, n), make([]place, 0, n+1)
	for i, p := range v.parts {
		all = append(all, p...)
		for k := range p {
			places = append(places, place{names[i], k})
		}
	}
	places = append(places, beyond)
	for from := 0; ; from += pageSize { // the last page, for whoever asks beyond the end, is empty
		from = min(from, n)
		to := min(from+pageSize, n)
		size := 128
		for _, item := range all[from:to] {
			size += len(item) + 1
		}
		page := append(make(wire.Raw, 0, size), `{"`+member+`":[`...)
		for i, item := range all[from:to] {
			if i > 0 {
				page = append(page, ',')
			}
			page = append(page, item...)
		}
		page = append(page, ']')
		if to < n {
			page = append(page, `,"nextCursor":"`+places[to].String()+`"`...)
		}
		if said := v.without(); said != "" { // the rest goes on without them, and says so
			page = append(append(append(page, `,"_meta":{`...), said...), '}')
		}
		v.pages, v.end = append(v.pages, page), append(v.end, places[max(to-1, from)])
		v.size += len(page)
		if from == n {
			return
		}
	}
}

// without is what a page says of servers that are left out.
func (v *gathered) without() string {
	var said []string
	if len(v.missing) > 0 {
		said = append(said, namesMember("kidoban/missing", v.missing))
	}
	if len(v.uncovered) > 0 {
		said = append(said, namesMember("kidoban/uncovered", v.uncovered))
	}
	return strings.Join(said, ",")
}

// namesMember writes names as a member of an object.
func namesMember(member string, names []string) string {
	out := append(wire.Quote(member), ":["...)
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = wire.AppendQuote(out, name)
	}
	return string(append(out, ']'))
}

// modernTail is what every modern list has (TR-14, TR-15).
const modernTail = `,"resultType":"complete","ttlMs":0,"cacheScope":"private"`

// writePage answers with a page, without copying it.
func (c *call) writePage(page wire.Raw) {
	head := append(append([]byte(`{"jsonrpc":"2.0","id":`), c.Message.ID.Raw...), `,"result":`...)
	tail := `}}`
	if c.Era == wire.Modern {
		tail = modernTail + `}}`
	}
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(head) + len(page) + len(tail))}
	defer c.deadline(len(page))()
	for _, piece := range [][]byte{head, page, []byte(tail)} {
		if _, err := c.w.Write(piece); err != nil {
			return // the client has gone
		}
	}
}

// listCache keeps gathered lists for some seconds, each for one user, client and
// reach (E31). It is bounded in bytes; the oldest go.
type listCache struct {
	mu   sync.Mutex
	all  map[listKey]*gathered
	size int
}

type listKey struct{ user, client, method, reach string }

// maxListCache bounds all lists that are kept, in bytes.
const maxListCache = 32 << 20

func (l *listCache) init() { l.all = map[listKey]*gathered{} }

func (l *listCache) get(k listKey, now time.Time) *gathered {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.all[k]
	if v == nil || now.Sub(v.at) >= listFresh {
		l.delete(k)
		return nil
	}
	return v
}

func (l *listCache) put(k listKey, v *gathered, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delete(k)
	if v.size > maxListCache/4 {
		return
	}
	if l.size+v.size > maxListCache || len(l.all) >= 4096 {
		for other, o := range l.all { // what is over first, then whatever comes
			if now.Sub(o.at) >= listFresh {
				l.delete(other)
			}
		}
		for other := range l.all {
			if l.size+v.size <= maxListCache && len(l.all) < 4096 {
				break
			}
			l.delete(other)
		}
	}
	l.all[k] = v
	l.size += v.size
}

// delete takes a list out. The caller holds mu.
func (l *listCache) delete(k listKey) {
	if v := l.all[k]; v != nil {
		l.size -= v.size
		delete(l.all, k)
	}
}

// drop forgets the lists of a caller, because a server says they changed.
func (l *listCache) drop(user, client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.all {
		if k.user == user && k.client == client {
			l.delete(k)
		}
	}
}

// purge forgets what is over, so that an idle gateway holds nothing.
func (l *listCache) purge(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, v := range l.all {
		if now.Sub(v.at) >= listFresh {
			l.delete(k)
		}
	}
}

// How long the aggregate waits for a server's list: a server whose last call
// failed does not hold up the others again.
const (
	listWait    = 15 * time.Second
	listWaitBad = time.Second
)

// collect asks all servers at once, a few at a time. One that fails or is slow is
// named, the others are listed; the next time only what is missing is asked.
func (g *Gateway) collect(c *call) (*gathered, error) {
	servers := g.reach(c)
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.Name
	}
	uncovered := g.uncovered(c)
	key := listKey{c.Caller.User, c.Caller.Client, c.Message.Method, strings.Join(names, " ") + "\x00" + strings.Join(uncovered, " ")}
	have := g.bridges.list.get(key, g.deps.Now())
	if have != nil && len(have.missing) == 0 {
		return have, nil
	}
	v := &gathered{at: g.deps.Now(), uncovered: uncovered, parts: make([][]wire.Raw, len(servers))}
	failed := make([]bool, len(servers))
	slots := make(chan struct{}, fanOut)
	var wg sync.WaitGroup
	for i, s := range servers {
		if have != nil && !slices.Contains(have.missing, s.Name) {
			v.parts[i] = have.parts[i]
			v.at = have.at
			continue
		}
		wg.Go(func() {
			wait := min(s.Wait, listWait)
			if s.breaker.failing() {
				wait = min(wait, listWaitBad)
			} else {
				slots <- struct{}{}
				defer func() { <-slots }()
			}
			ctx, cancel := context.WithTimeout(c.r.Context(), wait)
			defer cancel()
			var ok bool
			v.parts[i], ok, _ = g.listOne(ctx, c, s)
			failed[i] = !ok
		})
	}
	wg.Wait()
	if err := c.r.Context().Err(); err != nil { // what is missing is the client's doing
		return nil, err
	}
	for i, s := range servers {
		if failed[i] {
			v.missing = append(v.missing, s.Name)
		}
	}
	v.encode(lists[c.Message.Method].items, names)
	if len(v.missing) == 0 {
		v.parts = nil
	} else {
		v.size *= 2
	}
	g.bridges.list.put(key, v, g.deps.Now())
	return v, nil
}
