package console

import (
	"time"

	"github.com/kidoban/kidoban/gateway"
)

// serverRow is a server with what the last day brought.
type serverRow struct {
	gateway.Health
	State  string // text id: "server_up", "server_down", "server_idle"
	Day    Meter
	Held   int
	Pinned int
}

// servers shows the health of the servers behind the gateway.
func (s *Server) servers(v *visit) (any, error) {
	ctx := v.r.Context()
	sums, err := s.deps.Store.ServerMeters(ctx, hour, v.now.Add(-24*time.Hour).Truncate(hour), v.now.Add(hour))
	if err != nil {
		return nil, err
	}
	counts, err := s.deps.Store.PinCounts(ctx)
	if err != nil {
		return nil, err
	}
	var rows []serverRow
	for _, h := range s.deps.Gateway.Health() {
		row := serverRow{Health: h, State: "server_idle"}
		switch {
		case h.Open || h.Fails > 0:
			row.State = "server_down"
		case !h.Good.IsZero():
			row.State = "server_up"
		}
		for _, m := range sums {
			if m.Server == h.Server {
				row.Day = m
			}
		}
		for _, c := range counts {
			if c.Server != h.Server {
				continue
			}
			switch c.State {
			case gateway.PinHeld:
				row.Held = c.N
			case gateway.PinApproved:
				row.Pinned = c.N
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}
