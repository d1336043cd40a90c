package authserver

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// Use is one call that was made with an access token.
type Use struct {
	Grant   string
	User    string
	Address netip.Addr
	At      time.Time
}

// Used tells the server of a call, so that it can raise an alert when access is
// used as a thief would (G-RG8): right after the consent from a network never
// seen, or far more than its user ever did. It returns at once. When more calls
// come than can be looked at, some are not: this is a watch, not a count.
func (s *Server) Used(u Use) {
	select {
	case s.uses.in <- u:
		s.uses.taken.Add(1)
	default:
	}
}

// useQueue is calls on their way to the watch.
type useQueue struct {
	in            chan Use
	taken, looked atomic.Int64
}

// present notes that a person was here, in the browser that logged in or agreed.
func (s *Server) present(userID string, addr netip.Addr, now time.Time) {
	s.Used(Use{User: userID, Address: addr, At: now})
}

const (
	// useSpan is the time over which calls are counted.
	useSpan = 10 * time.Minute
	// A burst is more calls in a span than both of these.
	burstFloor = 1000
	burstTimes = 10 // times the most that the user ever made in an earlier span
	// burstPast is how many earlier spans with calls make a past to compare with.
	burstPast = 6
	// freshGrant is how long after its consent a grant's networks are looked at.
	freshGrant = 10 * time.Minute
	// seenLife is how long a network is remembered.
	seenLife = 90 * 24 * time.Hour
	// maxWatched bounds the users and grants in memory. Who is forgotten begins anew.
	maxWatched = 10_000
)

// useWatch is what the watch remembers; its goroutine alone touches it.
type useWatch struct {
	grants map[string]*grantUse
	users  map[string]*habit
}

// grantUse is one grant. created is zero when its networks say nothing.
type grantUse struct {
	created time.Time
	client  string
	span    time.Time
	calls   int
}

// habit is what is known of a user: networks, and how much is usual.
type habit struct {
	networks map[string]bool
	most     int // calls of one grant in one earlier span
	spans    int // earlier spans with calls
}

// usePace is how long calls gather before the watch looks at them: a call that woke
// it each time would wait for that.
const usePace = 20 * time.Millisecond

// watchUses is the goroutine behind Used.
func (s *Server) watchUses(ctx context.Context) {
	w := useWatch{grants: map[string]*grantUse{}, users: map[string]*habit{}}
	tick := time.NewTimer(usePace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-s.uses.in:
			s.watchUse(ctx, &w, u)
			s.uses.looked.Add(1)
		}
		if len(s.uses.in) > 0 {
			continue
		}
		tick.Reset(usePace)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) watchUse(ctx context.Context, w *useWatch, u Use) {
	h := w.users[u.User]
	if h == nil {
		makeRoom(w.users)
		h = &habit{networks: map[string]bool{}}
		w.users[u.User] = h
	}
	var g *grantUse
	if u.Grant != "" {
		if g = s.watchedGrant(ctx, w, u); g == nil {
			return
		}
		s.countUse(ctx, g, h, u)
		if g.created.IsZero() || u.At.Sub(g.created) > freshGrant {
			return
		}
	}
	network := limit.PrefixKey(u.Address)
	if h.networks[network] || !u.Address.IsValid() {
		return
	}
	makeRoom(h.networks)
	h.networks[network] = true
	// The store knows what was seen before this process began, and by other replicas.
	first, err := s.deps.Store.UseOnce(ctx, "network "+limit.Key(u.User, network), u.At, u.At.Add(seenLife))
	if err != nil || !first || g == nil {
		return
	}
	s.alert(ctx, kidoban.AlertTokenElsewhere, u.Grant, kidoban.AlertWords{"client": printable(g.client, 80), "network": network})
}

// watchedGrant finds a grant, in the store at its first call here.
func (s *Server) watchedGrant(ctx context.Context, w *useWatch, u Use) *grantUse {
	if g := w.grants[u.Grant]; g != nil {
		return g
	}
	rec, err := s.deps.Store.Grant(ctx, u.Grant)
	if err != nil {
		return nil // gone, or the store is away: the next call asks again
	}
	makeRoom(w.grants)
	g := &grantUse{client: rec.ClientID, span: u.At}
	if rec.UserID != "" && !s.callsFromElsewhere(rec) {
		g.created = rec.Created
	}
	w.grants[u.Grant] = g
	return g
}

// callsFromElsewhere tells that a client is a service whose calls come from its
// own machines, as its operator's or our operator's word says. A program on the
// person's device calls from where the person is; and a stranger's service that
// calls from nobody knows where is what the watch is for.
func (s *Server) callsFromElsewhere(g Grant) bool {
	host, loopback := redirectHost(g.RedirectURI)
	if loopback || strings.HasPrefix(host, "scheme:") {
		return false
	}
	p := s.policy.Load()
	anonymous := strings.HasPrefix(g.ClientID, "c_")
	return !anonymous || hostMatches(host, p.Registration.RemoteHosts) || hostMatches(host, defaultRemoteHosts)
}

// countUse counts the call and compares the span with the user's past.
func (s *Server) countUse(ctx context.Context, g *grantUse, h *habit, u Use) {
	if d := u.At.Sub(g.span); d >= useSpan || d < -useSpan {
		h.most, h.spans = max(g.calls, h.most-h.most/64), h.spans+1
		g.span, g.calls = u.At, 0
	}
	g.calls++
	if g.calls != max(burstFloor, burstTimes*h.most)+1 || h.spans < burstPast {
		return
	}
	s.alert(ctx, kidoban.AlertTokenBurst, u.Grant, kidoban.AlertWords{"client": printable(g.client, 80), "calls": strconv.Itoa(g.calls - 1), "most": strconv.Itoa(h.most)})
}

// makeRoom forgets an entry of a full map.
func makeRoom[V any](m map[string]V) {
	if len(m) < maxWatched {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}
