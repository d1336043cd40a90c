// Package freeport finds free ports on 127.0.0.1 for programs that are about to be
// started with one, and started again on the same.
//
// A port that the system chooses is free only as long as somebody holds it: once let
// go, it may be the near end of anybody's next connection. These ports are below the
// ones that systems choose from (RFC 6335 section 6: dynamic ports, from 49152;
// Linux: from 32768), so that only another caller who asks for just this one has it.
package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/kidoban/kidoban"
)

const (
	lowest  = 15_000
	highest = 32_000
	tries   = 200
)

// Loopback returns an address on 127.0.0.1 at which nobody listens. It reserves nothing.
func Loopback() (netip.AddrPort, error) {
	for range tries {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(lowest+rand.IntN(highest-lowest)))
		if l, err := net.Listen("tcp", a.String()); err == nil {
			return a, l.Close()
		}
	}
	return netip.AddrPort{}, kidoban.Errorf(kidoban.KindInternal, "no free port on 127.0.0.1 after %d tries between %d and %d", tries, lowest, highest)
}
