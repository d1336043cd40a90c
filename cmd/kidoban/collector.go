package main

import (
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// collector is the place where the audit sees what a server fetches of what it was
// told: client documents, logos, sector lists.
type collector struct {
	CanaryDomain string `help:"Public https address of your collector, forwarded to --canary-listen." placeholder:"DOMAIN"`
	CanaryListen string `help:"Address on which the collector listens; without one there is none." placeholder:"ADDR"`
}

// listen opens the collector where one is asked for; end closes it.
func (c collector) listen(e *env, o *audit.Options) (end func(), err error) {
	if c.CanaryListen == "" {
		if c.CanaryDomain != "" {
			return nil, kidoban.Errorf(kidoban.KindUsage, "--canary-domain needs --canary-listen: the collector runs in this process")
		}
		return func() {}, nil
	}
	base := ""
	if c.CanaryDomain != "" {
		base = "https://" + strings.TrimSuffix(strings.TrimPrefix(c.CanaryDomain, "https://"), "/")
	}
	if o.Canary, err = audit.ListenCanary(e.ctx, c.CanaryListen, base); err != nil {
		return nil, err
	}
	return o.Canary.Close, nil
}
