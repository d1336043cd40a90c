//go:build !linux

package main

import "net"

// alive cannot tell here.
func alive(net.Conn) bool { return true }
