//go:build !linux

package main

import "net"

// limitUnsent does nothing: the send buffer is the bound.
func limitUnsent(*net.TCPConn, int) {}
