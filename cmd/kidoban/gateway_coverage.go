package main

import (
	"context"

	"github.com/kidoban/kidoban/gateway"
)

// covers is what a consent for a resource names now.
func (s *service) covers(resource string) string {
	if s.gate == nil { // no page is shown before the gateway is there
		return gateway.CoversAll
	}
	return s.gate.Coverage(resource)
}

// fixCoverage gives grants of earlier versions, which named no servers, those of now.
func (s *service) fixCoverage(ctx context.Context, conf gatewayConfig) error {
	all := conf.PublicURL + "/mcp"
	if !on(conf.Aggregate) {
		return nil
	}
	n, err := s.db.FixCoverage(ctx, all, s.gate.Coverage(all))
	if n > 0 {
		s.log.Info("grants of an earlier version cover the servers of now; later ones need a new consent", "grants", n)
	}
	return err
}

// grantCoverage tells the gateway what grants cover.
type grantCoverage struct{ s *service }

// Covers implements gateway.Coverage. A grant without one was given by a replica of
// an earlier version since this one began; it is fixed now.
func (c grantCoverage) Covers(ctx context.Context, id string) (string, error) {
	g, err := c.s.db.Grant(ctx, id)
	if err != nil || g.Covers != "" {
		return g.Covers, err
	}
	if _, err := c.s.db.FixCoverage(ctx, g.Resource, c.s.covers(g.Resource)); err != nil {
		return "", err
	}
	g, err = c.s.db.Grant(ctx, id)
	return g.Covers, err
}
