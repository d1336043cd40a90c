package authserver

import (
	"context"
	"strings"
	"sync"
	"time"
)

// alarm keeps one kind of alert about one subject from being raised over and
// over: an attack is one line to read, not a thousand.
type alarm struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// alertQuiet is how long the same alert is not repeated.
const alertQuiet = time.Hour

// alert raises an alert: to the observer at once, and into the store for the
// console. A store that is away loses nothing but the console's copy.
func (s *Server) alert(ctx context.Context, kind, subject, text, do string) {
	now := s.deps.Now()
	key := kind + "\x00" + subject
	s.alerts.mu.Lock()
	if s.alerts.last == nil || len(s.alerts.last) > 10_000 {
		s.alerts.last = map[string]time.Time{}
	}
	if at, ok := s.alerts.last[key]; ok && now.Sub(at) < alertQuiet {
		s.alerts.mu.Unlock()
		return
	}
	s.alerts.last[key] = now
	s.alerts.mu.Unlock()
	a := Alert{ID: newID(s.deps.Rand, "a"), Kind: kind, At: now, Subject: subject, Text: text, Do: do}
	s.deps.Observer.Alert(a)
	if err := s.deps.Store.AddAlert(ctx, a); err != nil {
		s.deps.Observer.Event(Event{At: now, Name: "alert", Outcome: "failed", Detail: err.Error()})
	}
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
		s.alert(ctx, "first_seen_host", h, "A client registered a callback at "+h+", a host never seen here before.",
			"Find out whose host it is. If nobody here uses it, block it: kidoban gateway deny host "+h)
	}
	return nil
}

// watchCampaign looks for consent phishing: one client that many people approve
// within minutes of its registration (G-RG8).
func (s *Server) watchCampaign(ctx context.Context, cl *client, host string) {
	now := s.deps.Now()
	if cl.Kind == ClientPre || now.Sub(cl.Created) > 7*24*time.Hour {
		return
	}
	n, err := s.deps.Store.RecentGrants(ctx, cl.ID, now.Add(-15*time.Minute))
	if err != nil || n < campaignUsers {
		return
	}
	s.alert(ctx, "consent_campaign", cl.ID, "Within 15 minutes several people gave access to one new client whose callback is at "+host+".",
		"Ask them whether they meant to. If not, block the client and its host: every grant ends at once.")
}

// campaignUsers is how many people it takes within 15 minutes.
const campaignUsers = 3
