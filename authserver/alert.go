package authserver

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// alarm lets one key pass once in a while: an attack is one line to read, not a
// thousand. It holds at most 10,000 keys.
type alarm struct {
	quiet time.Duration
	mu    sync.Mutex
	last  map[string]time.Time // guarded by mu
}

// alertsPerKind is how many alerts of one kind are told.
var alertsPerKind = limit.Limit{Name: "alerts_per_kind", Count: 30, Per: time.Hour, Burst: 30, Key: limit.Global}

// alertQuiet is how long the same alert is not repeated.
const alertQuiet = time.Hour

// alert raises an alert about something that this server saw.
func (s *Server) alert(ctx context.Context, kind kidoban.AlertKind, subject string, with kidoban.AlertWords) {
	s.Raise(ctx, kidoban.NewAlert(kind, subject, with))
}

// Raise raises an alert: to the observer at once, and into the store for the
// console; ID and At are filled in. The same kind about the same subject is not
// repeated within the hour. A store that is away loses nothing but the console's
// copy. The rest of the gateway raises its alerts here too.
func (s *Server) Raise(ctx context.Context, a Alert) {
	a.At = s.deps.Now()
	if !s.alerts.pass(string(a.Kind)+"\x00"+a.Subject, a.At) {
		return
	}
	// Strangers choose hosts and networks, so they could raise alerts by the
	// thousand: of one kind so many are told in an hour, then that there are more.
	switch d := s.limits.Allow(limit.Ask{Limit: alertsPerKind, Key: string(a.Kind), Cost: 1}); {
	case !d.Allowed:
		return
	case d.Remaining == 0:
		at, with := a.At, kidoban.AlertWords{kidoban.AlertMore: "yes"}
		maps.Copy(with, a.With) // whose map belongs to whoever raised it
		a = kidoban.NewAlert(a.Kind, a.Subject, with)
		a.At = at
	}
	a.ID = newID(s.deps.Rand, "a")
	s.deps.Observer.Alert(a)
	if err := s.deps.Store.AddAlert(ctx, a); err != nil {
		s.deps.Observer.Event(Event{At: a.At, Name: "alert", Outcome: "failed", Detail: err.Error()})
	}
}

// pass tells whether the key did not pass within the quiet time.
func (a *alarm) pass(key string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil || len(a.last) > 10_000 {
		a.last = map[string]time.Time{}
	}
	if at, ok := a.last[key]; ok && now.Sub(at) < a.quiet {
		return false
	}
	a.last[key] = now
	return true
}

// watchHosts records the redirect hosts of a client and raises an alert for
// every non-loopback host that was never seen before (G-RG3). Pre-registered
// clients are the operator's own doing and raise none.
func (s *Server) watchHosts(ctx context.Context, clientID string, redirects []string, kind string) error {
	var hosts []Host
	for _, raw := range redirects {
		h, loopback := redirectHost(raw)
		hosts = append(hosts, Host{Host: h, Loopback: loopback})
	}
	fresh, err := s.deps.Store.SeeHosts(ctx, clientID, hosts, s.deps.Now())
	if err != nil {
		return err
	}
	for _, h := range fresh {
		if kind == ClientPre || isLoopbackName(h) || strings.HasPrefix(h, "scheme:") {
			continue
		}
		s.alert(ctx, kidoban.AlertFirstSeenHost, h, kidoban.AlertWords{"host": h})
	}
	return nil
}

// watchCampaign looks for consent phishing: one client that many people approve
// within minutes of its registration (G-RG8).
func (s *Server) watchCampaign(ctx context.Context, cl *client, userID, host string) {
	now := s.deps.Now()
	if cl.Kind == ClientPre || now.Sub(cl.Created) > 7*24*time.Hour {
		return
	}
	// A second yes of the same person changes no count: the store is asked once.
	if !s.approvals.pass(cl.ID+"\x00"+userID, now) {
		return
	}
	n, err := s.deps.Store.RecentGrants(ctx, cl.ID, now.Add(-campaignSpan))
	if err != nil || n < campaignUsers {
		return
	}
	s.alert(ctx, kidoban.AlertConsentCampaign, cl.ID, kidoban.AlertWords{"host": host})
}

// A campaign is so many people within so much time.
const (
	campaignUsers = 3
	campaignSpan  = 15 * time.Minute
)
