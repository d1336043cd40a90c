package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/kidoban/kidoban"
)

// TestUnconnectedSaysWhatToDo: an address without a way to it is told apart from one
// where nothing listens, and the sentence holds nothing that the system said.
func TestUnconnectedSaysWhatToDo(t *testing.T) {
	dial := func(errno syscall.Errno, addrs ...string) error {
		d := newDialer(Guard{}, func(context.Context, string) (out []netip.Addr, err error) {
			for _, a := range addrs {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		})
		d.connect = func(_ context.Context, network, address string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: &net.TCPAddr{Port: 443}, Err: os.NewSyscallError("connect", errno)}
		}
		_, err := d.dialer(false)(t.Context(), "tcp", "mcp.example.com:443")
		return err
	}
	for _, c := range []struct {
		errno syscall.Errno
		addrs []string
		want  string
	}{
		{syscall.ECONNREFUSED, []string{"8.8.8.8"}, "nothing listens there"},
		{syscall.ENETUNREACH, []string{"2606:4700::1111"}, "IPv6 addresses only"},
		{syscall.EHOSTUNREACH, []string{"2606:4700::1111", "8.8.8.8"}, "no way to it from this machine"},
		{syscall.ECONNRESET, []string{"8.8.8.8"}, "a firewall may be in the way"},
	} {
		sentence, cause := told(dial(c.errno, c.addrs...))
		if !strings.Contains(sentence, "mcp.example.com did not accept a connection on port 443: ") || !strings.Contains(sentence, c.want) {
			t.Errorf("%v: %q lacks %q", c.errno, sentence, c.want)
		}
		if want := "dial tcp: connect: " + c.errno.Error(); cause != want {
			t.Errorf("%v: cause %q, want %q", c.errno, cause, want)
		}
	}
}

// TestToldWithoutCause: an error of ours without a cause, and one of somebody else's.
func TestToldWithoutCause(t *testing.T) {
	if s, c := told(kidoban.Errorf(kidoban.KindRefused, "no")); s != "no" || c != "" {
		t.Errorf("%q %q", s, c)
	}
	if s, c := told(errors.New("strange")); s != "strange" || c != "" {
		t.Errorf("%q %q", s, c)
	}
}
