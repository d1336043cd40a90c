//go:build !unix

package outbound

import "net"

// canPeek tells whether quiet works here; where it does not, Direct is Relay.
const canPeek = false

func quiet(net.Conn) bool { return false }
