package audit

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// E15: does the server fetch what a registration names? Every address leads to the
// tester's collector. A logo fetched for a stranger is the signal itself; the
// others are fetched by design, so for them the question is whether the fetch
// follows a redirect, in a lab also to an address that must not be dialled.

// fetchFields are the members by check. A list stands for a member with a list.
var fetchFields = []struct {
	key, member string
	list        bool
}{
	{"E15-a", "logo_uri", false},
	{"E15-b", "jwks_uri", false},
	{"E15-c", "sector_identifier_uri", false},
	{"E15-d", "request_uris", true},
}

// fetchTrial is what became of one address.
type fetchTrial struct {
	key, member string
	list        bool
	at          attempt
	path        string // at the collector; it redirects to path + "/next", but for the logo
	hits        []CanaryHit
	next        []CanaryHit // requests that followed the redirect
	inside      []CanaryHit // requests to the special address that the next one leads to
}

func probeE15() probe {
	return define(spec{name: "addresses in registrations", keys: []string{"E15-a", "E15-b", "E15-c", "E15-d"}, tier: kidoban.T2, cost: 5}, collectE15, judgeE15)
}

func collectE15(ctx context.Context, s *session) []*fetchTrial {
	special := s.specialCanary(ctx)
	defer special.Close()
	var trials []*fetchTrial
	for _, f := range fetchFields {
		if s.wants(f.key) {
			t := &fetchTrial{key: f.key, member: f.member, list: f.list, path: s.nonce(10) + "/" + f.member}
			s.lay(t, special)
			trials = append(trials, t)
		}
	}
	s.name(ctx, trials)
	for _, t := range trials {
		if t.at.accepted() && s.facts.AS.Meta.AuthorizationEndpoint != "" && s.left() > 0 {
			s.follow(ctx, "E15", "authorization of the client with addresses", s.baseline(t.at.reg.Client))
			break
		}
	}
	s.await(ctx, func() bool {
		return !slices.ContainsFunc(trials, func(t *fetchTrial) bool { return len(s.o.Canary.Seen(t.path)) == 0 })
	})
	for _, t := range trials {
		t.hits, t.next = s.o.Canary.Seen(t.path), s.o.Canary.Seen(t.path+"/next")
		if special != nil {
			t.inside = special.Seen(t.path)
		}
	}
	return trials
}

// lay publishes what a fetch of t finds.
func (s *session) lay(t *fetchTrial, special *Canary) {
	json := map[string]string{"Content-Type": "application/json"}
	if t.member == "logo_uri" {
		s.o.Canary.Publish(t.path, CanaryDoc{Header: map[string]string{"Content-Type": "image/svg+xml"}, Body: []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>`)})
		return
	}
	s.o.Canary.Publish(t.path, CanaryDoc{Status: http.StatusFound, Header: map[string]string{"Location": s.o.Canary.URL(t.path + "/next")}})
	if special == nil {
		s.o.Canary.Publish(t.path+"/next", CanaryDoc{Header: json, Body: []byte(`{"keys":[]}`)})
		return
	}
	s.o.Canary.Publish(t.path+"/next", CanaryDoc{Status: http.StatusFound, Header: map[string]string{"Location": special.URL(t.path)}})
	special.Publish(t.path, CanaryDoc{Header: json, Body: []byte(`{"keys":[]}`)})
}

// name registers a client with all the addresses. A refusal that blames a member
// is that member's answer, and the rest is asked again; one that blames none is
// asked again for each.
func (s *session) name(ctx context.Context, trials []*fetchTrial) {
	ask := func(ts []*fetchTrial) attempt {
		meta := s.template(s.loopbackRedirect())
		for _, t := range ts {
			meta[t.member] = s.o.Canary.URL(t.path)
			if t.list {
				meta[t.member] = []string{s.o.Canary.URL(t.path)}
			}
		}
		at := s.attempt(ctx, "E15", "addresses of the collector", meta)
		for _, t := range ts {
			t.at = at
		}
		return at
	}
	for len(trials) > 0 {
		at := ask(trials)
		if !at.refused() {
			return
		}
		rest := slices.DeleteFunc(slices.Clone(trials), func(t *fetchTrial) bool { return at.blames(t.member) })
		if len(rest) == len(trials) && len(rest) > 1 {
			for _, t := range rest {
				ask([]*fetchTrial{t})
			}
			return
		}
		if len(rest) == len(trials) {
			return
		}
		trials = rest
	}
}

// specialCanary listens on a loopback address that stands, in a lab, for one that
// must never be dialled. It is nil elsewhere, and where the machine has no such
// address.
func (s *session) specialCanary(ctx context.Context) *Canary {
	if !s.o.Lab || s.o.Canary == nil || !strings.HasPrefix(s.o.Canary.base, "http://127.0.0.1:") {
		return nil
	}
	c, err := ListenCanary(ctx, "127.0.0.2:0", "")
	if err != nil {
		return nil
	}
	return c
}

// await waits until done, for at most the time that the server gets.
func (s *session) await(ctx context.Context, done func() bool) {
	end := time.NewTimer(s.o.CanaryWait)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func judgeE15(f *Facts, trials []*fetchTrial) []kidoban.Result {
	var out []kidoban.Result
	for _, t := range trials {
		out = append(out, judgeFetch(f, t))
	}
	return out
}

func judgeFetch(f *Facts, t *fetchTrial) kidoban.Result {
	x := t.at.x()
	switch {
	case len(t.inside) > 0:
		return positive(t.key, kidoban.Signal, "the server fetches "+t.member+", follows its redirect and dials an address that is not public", x)
	case len(t.next) > 0:
		return positive(t.key, kidoban.Signal, "the server fetches "+t.member+" for a stranger and follows its redirect", x)
	case len(t.hits) > 0 && t.key == "E15-a":
		return positive(t.key, kidoban.Signal, "the server fetches logo_uri for a stranger", x)
	case len(t.hits) > 0:
		return passed(t.key, "the server fetches "+t.member+" and follows no redirect", x)
	}
	if r, ok := t.at.turnedDown(t.key, "an address in "+t.member, f); ok {
		return r
	}
	return passed(t.key, "the server does not fetch "+t.member, x)
}
