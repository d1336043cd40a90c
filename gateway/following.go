package gateway

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// following is who follows which resources over a relationship with a legacy server.
// The server takes all who use the relationship for one client: that a resource is no
// longer wanted it hears from the last of them. It stands where the relationship does,
// so that those who come from other replicas count too. Its zero value is ready.
type following struct {
	order oneByOne // by resource: what the server hears last is how things are

	mu  sync.Mutex
	all []followed // oldest first; guarded by mu
}

// followed says by digests which resource, and who: a session, or a stream of a modern
// client.
type followed struct{ uri, who string }

// maxFollowed bounds what is remembered of one relationship; sessions end without a
// word. Who is forgotten may have the server told too early.
const maxFollowed = 2048

func followedBy(who, uri string) followed {
	return followed{string(binding("followed", uri)), string(binding("follows", who))}
}

// request sends a request of o.who to follow a resource, or no longer to, if the server
// must hear of it.
func (f *following) request(ctx context.Context, o outgoing, send func() (wire.Message, error)) (wire.Message, error) {
	uri := wire.LookupString(o.params, "uri")
	leave, err := f.order.take(ctx, uri)
	if err != nil {
		return wire.Message{}, err
	}
	defer leave()
	who := followedBy(o.who, uri)
	if o.method == wire.MethodUnsubscribe {
		if f.remove(who) {
			return wire.Message{Kind: wire.Result, Result: wire.Raw("{}")}, nil
		}
		return send()
	}
	fresh := f.add(who)
	m, err := send()
	if fresh && (err != nil || m.Kind != wire.Result) {
		f.remove(who)
	}
	return m, err
}

// add tells whether this one is new.
func (f *following) add(o followed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.all, o) {
		return false
	}
	if len(f.all) >= maxFollowed {
		f.all = slices.Delete(f.all, 0, 1)
	}
	f.all = append(f.all, o)
	return true
}

// remove tells whether others follow the resource still.
func (f *following) remove(o followed) (others bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(a followed) bool { return a == o })
	return slices.ContainsFunc(f.all, func(a followed) bool { return a.uri == o.uri })
}

// left forgets somebody who has ended.
func (f *following) left(who string) {
	digest := followedBy(who, "").who
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(a followed) bool { return a.who == digest })
}

// left has all relationships that are here forget what a session followed.
func (b *bridges) left(who string) {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.peers))
	b.mu.Unlock()
	for _, h := range all {
		select {
		case <-h.ready:
			if h.p != nil {
				h.p.left(who)
			}
		default: // it begins, and knows nobody yet
		}
	}
}

// oneByOne lets one after the other do what has the same name. Its zero value is ready.
type oneByOne struct {
	mu   sync.Mutex
	busy map[string]*turn // guarded by mu
}

type turn struct {
	free chan struct{} // holds one while nobody has it
	wait int           // who has it or waits; guarded by oneByOne.mu
}

// take waits until ctx ends.
func (t *oneByOne) take(ctx context.Context, name string) (leave func(), err error) {
	t.mu.Lock()
	if t.busy == nil {
		t.busy = map[string]*turn{}
	}
	mine := t.busy[name]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.busy[name] = mine
	}
	mine.wait++
	t.mu.Unlock()
	gone := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.wait--; mine.wait == 0 {
			delete(t.busy, name)
		}
	}
	select {
	case <-mine.free:
		return func() { mine.free <- struct{}{}; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, kidoban.Wrap(kidoban.KindUnreachable, context.Cause(ctx), "The server did not answer in time.")
	}
}
