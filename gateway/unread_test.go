package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// post carries letters between the replicas of a test; the rest of Replicas is not used.
type post struct {
	Replicas
	all map[string]*mail
}

func (p *post) Post(_ context.Context, to string, body []byte) error {
	for name, m := range p.all {
		if to == "*" || to == name {
			m.arrived(body)
		}
	}
	return nil
}

func (p *post) join(t *testing.T, name string, others ...string) *mail {
	t.Helper()
	seal, err := newSealer(make([]byte, 32), rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{seal: seal, ctx: t.Context()}
	g.deps.Log, g.deps.Now = slog.New(slog.DiscardHandler), time.Now
	m := &mail{g: g, to: p, name: name, lives: map[string]*life{}, boxes: map[string]*box{}, served: map[string]*served{}}
	for _, o := range others {
		m.lives[o] = &life{}
	}
	p.all[name] = m
	return m
}

// TestLettersOfALaterVersion: while an upgrade rolls, the later version writes what
// the earlier one cannot read. It is told so at once where somebody waits, and what
// is a courtesy is passed over; nothing is taken for what it is not.
func TestLettersOfALaterVersion(t *testing.T) {
	p := &post{all: map[string]*mail{}}
	earlier, later := p.join(t, "earlier", "later"), p.join(t, "later", "earlier")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	for _, l := range []letter{{Kind: "batch"}, {Kind: "request", Needs: letterVersion + 1}} {
		if _, err := later.lead(ctx, "earlier", l, handler{}); !errors.Is(err, errUnread) {
			t.Errorf("%q that needs version %d: %v", l.Kind, l.Needs, err)
		}
	}

	// Conversations that the later one leads for the earlier one.
	write := func(l letter) {
		t.Helper()
		if err := later.post(ctx, "earlier", l); err != nil {
			t.Fatal(err)
		}
	}
	id, b, shut := earlier.open("later")
	defer shut()
	read := func(in <-chan letter) (e letter) {
		select {
		case e = <-in:
		case <-ctx.Done():
		}
		return e
	}
	write(letter{Kind: "hint", Box: id})
	write(letter{Kind: "hint", Needs: letterVersion + 1}) // to all
	write(letter{Kind: "opened", Box: id})
	if e := read(b.in); e.Kind != "opened" {
		t.Errorf("a courtesy was taken for %+v", e)
	}
	ended := make(chan struct{})
	later.mu.Lock()
	later.served[id] = &served{to: "earlier", cancel: sync.OnceFunc(func() { close(ended) })}
	later.mu.Unlock()
	write(letter{Kind: "opened", Box: id, Needs: letterVersion + 1})
	if e := read(b.in); e.Kind != "fail" || !errors.Is(e.failure(), errUnread) {
		t.Errorf("what cannot be read was taken for %+v", e)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the writer goes on")
	}

	// And one that the earlier one leads for the later one.
	id, b, shut = later.open("earlier")
	defer shut()
	told, stopped := b.in, make(chan struct{})
	earlier.mu.Lock()
	earlier.served[id] = &served{to: "later", cancel: sync.OnceFunc(func() { close(stopped) })}
	earlier.mu.Unlock()
	write(letter{Kind: "hint", Box: id})
	write(letter{Kind: "answer", Box: id, Needs: letterVersion + 1})
	for range 2 {
		select {
		case e := <-told:
			if !errors.Is(e.failure(), errUnread) {
				t.Errorf("the writer is told %+v", e)
			}
			told = nil
		case <-stopped:
			stopped = nil
		case <-ctx.Done():
			t.Fatal("the conversation goes on")
		}
	}
}
