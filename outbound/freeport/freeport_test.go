package freeport_test

import (
	"net"
	"testing"

	"github.com/kidoban/kidoban/outbound/freeport"
)

// TestLoopbackIsNobodysNextConnection: what is found can be listened on twice in a row
// while connections come and go that take whatever port the system gives them.
func TestLoopbackIsNobodysNextConnection(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for range 20 {
		a, err := freeport.Loopback()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := net.Listen("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			for range 20 {
				c, err := net.Dial("tcp", busy.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if c.LocalAddr().String() == a.String() {
					t.Errorf("%v is among the ports of connections", a)
				}
			}
		}
	}
}
