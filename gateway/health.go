package gateway

import (
	"sort"
	"time"
)

// Health is what the gateway knows of a server from the calls it made; it asks
// nobody for it.
type Health struct {
	Server    string
	Title     string
	Transport string
	Account   string // AccountUser, AccountShared or ""
	Eras      string // what it was seen to speak: "legacy", "modern", "both" or ""
	Fails     int    // failures in a row
	Open      bool   // calls are refused until Retry
	Retry     time.Time
	Good      time.Time // last answer; zero: none since the start
	Bad       time.Time // last failure; zero: none since the start
}

// Health tells how the servers are, in order of name.
func (g *Gateway) Health() []Health {
	now := g.deps.Now()
	var out []Health
	for _, s := range g.state.Load().servers {
		h := Health{Server: s.Name, Title: s.Title, Transport: s.Transport, Account: s.Account}
		if modern, legacy, ok := s.eras.known(now); ok {
			switch {
			case modern && legacy:
				h.Eras = "both"
			case modern:
				h.Eras = "modern"
			case legacy:
				h.Eras = "legacy"
			}
		}
		s.breaker.mu.Lock()
		h.Fails, h.Good, h.Bad = s.breaker.fails, s.breaker.good, s.breaker.bad
		if retry := s.breaker.bad.Add(s.breaker.wait); h.Fails >= s.Failures && now.Before(retry) {
			h.Open, h.Retry = true, retry
		}
		s.breaker.mu.Unlock()
		out = append(out, h)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Server < out[j].Server })
	return out
}
