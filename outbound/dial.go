package outbound

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
)

// maxAddrs bounds how many addresses of one host are tried.
const maxAddrs = 8

// dialer resolves, judges and connects.
type dialer struct {
	guard   Guard
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

func newDialer(g Guard, resolve func(context.Context, string) ([]netip.Addr, error)) dialer {
	d := &net.Dialer{KeepAlive: 30 * time.Second, Control: g.control()}
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return dialer{guard: g, resolve: resolve, connect: d.DialContext}
}

// addresses returns the checked addresses of host. One closed address refuses
// the whole host: a name that is half public is a rebinding attempt or a
// mistake, and neither should work by luck.
func (d dialer) addresses(ctx context.Context, host string, loopbackOnly bool) ([]netip.Addr, error) {
	host, err := asciiHost(host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if a, _, ok := literal(host); ok {
		addrs = []netip.Addr{a}
	} else if loopbackName(host) { // RFC 6761 §6.3: never asked of a resolver
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else {
		addrs, err = d.resolve(ctx, host)
		if err != nil || len(addrs) == 0 {
			return nil, unresolved(host, err)
		}
		out := make([]netip.Addr, 0, len(addrs))
		for _, a := range addrs {
			out = append(out, a.Unmap()) // resolvers return IPv4 in mapped form
		}
		addrs = out
	}
	for _, a := range addrs {
		if err := d.guard.CheckAddr(a); err != nil {
			return nil, err
		}
		if loopbackOnly && !a.IsLoopback() && !(d.guard.Private && privateClass(Class(a))) && !(d.guard.Cloud && cloudService(a)) {
			return nil, kidoban.Errorf(kidoban.KindRefused, "the URL is http; only https is contacted")
		}
	}
	return addrs[:min(len(addrs), maxAddrs)], nil
}

// dialer returns a function for http.Transport.DialContext. The addresses are
// tried in the resolver's order, each with its share of the time left.
func (d dialer) dialer(loopbackOnly bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindRefused, err, "the URL's host and port cannot be read")
		}
		addrs, err := d.addresses(ctx, host, loopbackOnly)
		if err != nil {
			return nil, err
		}
		var last error
		for i, a := range addrs {
			conn, err := d.attempt(ctx, net.JoinHostPort(a.String(), port), len(addrs)-i)
			if err == nil {
				return conn, nil
			}
			if last = err; ctx.Err() != nil {
				break
			}
		}
		if kidoban.KindOf(last) == kidoban.KindRefused {
			return nil, last
		}
		v6 := !slices.ContainsFunc(addrs, netip.Addr.Is4)
		return nil, unconnected(host, port, v6, last)
	}
}

func (d dialer) attempt(ctx context.Context, address string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		// The operating system's clock, not the run's: deadlines are its own.
		share := time.Until(deadline) / time.Duration(left)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return d.connect(ctx, "tcp", address)
}
