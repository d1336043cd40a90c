package main

import (
	"time"

	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/toolscan"
)

// guards are the judges of what passes through the gateway.
func (s *service) guards(conf gatewayConfig) gateway.Guards {
	scanner := toolscan.New()
	return gateway.Guards{
		Pins: gateway.NewPinGuard(s.db, gateway.Trust(conf.Tools.Trust), scanner, s.journal, s.log, time.Now),
	}
}
