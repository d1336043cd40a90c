package main

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestGPX3_WhoeverDoesNotReadIsReset: the kernel takes little for a client that
// does not read, and keeps none of it when the deadline has passed. A client that
// reads gets everything, and an orderly end.
func TestGPX3_WhoeverDoesNotReadIsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 8 << 20
	serve := func(deadline time.Duration) (client net.Conn, written chan int) {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		conn, err := narrow{l}.Accept()
		if err != nil {
			t.Fatal(err)
		}
		written = make(chan int, 1)
		go func() {
			defer conn.Close()
			_ = conn.SetWriteDeadline(time.Now().Add(deadline))
			n, err := conn.Write(make([]byte, size))
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			written <- n
		}()
		return client, written
	}
	client, written := serve(time.Minute)
	n, err := io.Copy(io.Discard, client)
	if err != nil || n != size || <-written != size {
		t.Errorf("a client that reads: %d bytes, %v", n, err)
	}
	client, written = serve(100 * time.Millisecond)
	if n := <-written; n >= size {
		t.Errorf("the kernel took all %d bytes", n)
	}
	if _, err := io.Copy(io.Discard, client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end is no reset: %v", err)
	}
}
