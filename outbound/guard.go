package outbound

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"

	"github.com/kidoban/kidoban"
)

// Guard judges addresses and URLs. The zero value is the strict guard; Lab
// opens loopback (127.0.0.0/8, ::1), and http to it, and nothing else.
type Guard struct {
	Lab     bool
	Private bool // opens private ranges (RFC 1918, RFC 6598, RFC 4193), and http to them
	Cloud   bool // opens the addresses of cloudServices, and http to them
}

// cloudServices are where a cloud tells its machines and containers who they
// are, and hands them credentials: the metadata services of AWS and Google, and
// AWS's for containers and pods. They are what a forged URL wants most.
var cloudServices = []netip.Prefix{
	netip.MustParsePrefix("169.254.169.254/32"),
	netip.MustParsePrefix("169.254.170.2/32"),
	netip.MustParsePrefix("169.254.170.23/32"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("fd00:ec2::23/128"),
	netip.MustParsePrefix("fd20:ce::254/128"),
}

func cloudService(a netip.Addr) bool {
	return slices.ContainsFunc(cloudServices, func(p netip.Prefix) bool { return p.Contains(a) })
}

// special is one closed range and the name its refusal gives.
type special struct {
	prefix netip.Prefix
	name   string
}

// closed4 is the IANA IPv4 special-purpose registry, with multicast and the
// retired 6to4 relay block. The AS112 and AMT blocks are globally reachable by
// the registry, but no MCP server lives there.
var closed4 = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignment"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112"},
	{netip.MustParsePrefix("192.52.193.0/24"), "AMT relay"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmark"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
}

// closed6 names the IPv6 ranges worth a name; what lies outside 2000::/3 is
// closed anyway. Ranges that carry an IPv4 address are closed whole, so the
// embedded address can never matter. The most specific prefixes stand first.
var closed6 = []special{
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "dummy"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignment"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112"},
	{netip.MustParsePrefix("3ffe::/16"), "6bone"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "unique local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

var globalUnicast = netip.MustParsePrefix("2000::/3")

// Class names the special-use range of a, or returns "" for a public address.
// A zone makes any address special: it means an interface of this machine.
func Class(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "invalid"
	case a.Zone() != "":
		return "scoped"
	case a.Is4():
		return find(closed4, a)
	}
	if n := find(closed6, a); n != "" {
		return n
	}
	if !globalUnicast.Contains(a) {
		return "reserved"
	}
	// ISATAP (RFC 5214 §6.1): the interface id, not the prefix, carries IPv4.
	b := a.As16()
	if b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return "ISATAP"
	}
	return ""
}

func find(table []special, a netip.Addr) string {
	for _, s := range table {
		if s.prefix.Contains(a) {
			return s.name
		}
	}
	return ""
}

// privateClass tells the ranges that Private opens.
func privateClass(class string) bool {
	return class == "private" || class == "carrier-grade NAT" || class == "unique local"
}

// CheckAddr refuses (KindRefused) every address that is not public; loopback
// passes in Lab. IPv4-mapped IPv6 is refused like any transition form: whoever
// resolves names unmaps the answers first (see Client).
//
// The sentence names the range, never the address: it may be shown to a
// stranger who would like to learn what our resolver says.
func (g Guard) CheckAddr(a netip.Addr) error {
	class := Class(a)
	if class == "" || g.Lab && class == "loopback" || g.Private && privateClass(class) || g.Cloud && cloudService(a) {
		return nil
	}
	return &kidoban.Error{Kind: kidoban.KindRefused,
		Sentence: "the host leads to a special-use address (" + class + "); only public addresses are contacted",
		Cause:    fmt.Errorf("address %s", a)}
}

// control builds the last line of defence for net.Dialer.Control: the kernel is
// about to connect to exactly this address, whatever led here. A library's
// table and our own must both agree.
func (g Guard) control() func(network, address string, c syscall.RawConn) error {
	var v4, v6 []netip.Prefix // given once: the library's options replace each other
	if g.Lab {
		v4, v6 = append(v4, netip.MustParsePrefix("127.0.0.0/8")), append(v6, netip.MustParsePrefix("::1/128"))
	}
	if g.Private {
		for _, s := range closed4 {
			if privateClass(s.name) {
				v4 = append(v4, s.prefix)
			}
		}
		v6 = append(v6, netip.MustParsePrefix("fc00::/7"))
	}
	if g.Cloud {
		for _, p := range cloudServices {
			if p.Addr().Is4() {
				v4 = append(v4, p)
			} else {
				v6 = append(v6, p)
			}
		}
	}
	opts := []ssrf.Option{ssrf.WithAnyPort()}
	if len(v4) > 0 {
		opts = append(opts, ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	}
	guardian := ssrf.New(opts...)
	return func(network, address string, c syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return kidoban.Wrap(kidoban.KindRefused, err, "only TCP to an address and port is dialled")
		}
		if err := g.CheckAddr(ap.Addr()); err != nil {
			return err
		}
		return kidoban.Wrap(kidoban.KindRefused, guardian.Safe(network, address, c),
			"the host leads to a special-use address; only public addresses are contacted")
	}
}
