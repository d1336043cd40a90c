package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/kidoban/kidoban"
)

// maxURL bounds the text of a URL, in bytes.
const maxURL = 8 << 10

// CheckURL judges the text of a URL without resolving or dialling: https,
// host present, no userinfo, no IP literal of a special-use range in whatever
// notation, no name that is local by definition. A URL that passes may still be
// refused at dial time, when its name resolves to a closed address.
func CheckURL(raw string) error { return Guard{}.CheckURL(raw) }

// CheckURL is the package's CheckURL; in Lab http and https to loopback pass.
func (g Guard) CheckURL(raw string) error {
	u, err := parseURL(raw)
	if err != nil {
		return err
	}
	return g.checkParsed(u, false, false)
}

// parseURL parses raw and never repeats it in an error: it may hold secrets.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, kidoban.Errorf(kidoban.KindRefused, "the URL is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = errors.New(ue.Op + ": not a URL")
		}
		return nil, kidoban.Wrap(kidoban.KindRefused, err, "the URL cannot be read; give an absolute https URL")
	}
	return u, nil
}

// checkParsed holds the textual rules. plain lifts the https rule, odd admits
// IPv4 in notations other than dotted decimal (raw mode; still judged).
func (g Guard) checkParsed(u *url.URL, plain, odd bool) error {
	refuse := func(format string, args ...any) error {
		return kidoban.Errorf(kidoban.KindRefused, format, args...)
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return refuse("the URL's scheme is not https")
	}
	if u.User != nil {
		return refuse("the URL carries a user name or password; remove it")
	}
	if u.Opaque != "" || u.Hostname() == "" {
		return refuse("the URL names no host")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return refuse("the URL's port is not between 1 and 65535")
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return refuse("the URL's port is empty")
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return err
	}
	addr, dotted, isIP := literal(host)
	if isIP {
		if !dotted && !odd {
			return refuse("the URL writes an IPv4 address in an unusual notation; write four decimal numbers")
		}
		if err := g.CheckAddr(addr); err != nil {
			return err
		}
	} else if localName(host) && !(g.Lab && loopbackName(host)) && !g.Private { // the dialler decides
		return refuse("the URL's host is a local name; only public hosts are contacted")
	}
	if u.Scheme == "http" && !plain {
		// In Lab a name may still turn out to be loopback: the dialler decides.
		if !g.Lab || isIP && !addr.IsLoopback() {
			return refuse("the URL is http; only https is contacted")
		}
	}
	return nil
}

// asciiHost maps an internationalised name as a client would, so that
// full-width digits and dots are judged as what they become. One trailing dot
// is dropped, case is folded.
func asciiHost(host string) (string, error) {
	bad := kidoban.Errorf(kidoban.KindRefused, "the URL's host is not a valid name or address")
	if strings.Contains(host, ":") { // IPv6 literal, already unbracketed
		if strings.ContainsAny(host, "%") {
			return "", kidoban.Errorf(kidoban.KindRefused, "the URL's address names a network interface; remove the zone")
		}
		return strings.ToLower(host), nil
	}
	for i := 0; i < len(host); i++ {
		if host[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", bad
			}
			host = a
			break
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > 253 {
		return "", bad
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 {
			return "", bad
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", bad
			}
		}
	}
	return host, nil
}

// literal reports whether host is an IP address in any notation. dotted is
// false for the notations of inet_aton that browsers and libc accept too:
// decimal, octal, hexadecimal, fewer than four parts. A host that ends in a
// number is always an address (WHATWG URL, "ends in a number"): one that
// overflows comes back as an invalid address, which no guard lets through.
func literal(host string) (addr netip.Addr, dotted, isIP bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, true, true
	}
	if strings.Contains(host, ":") {
		return netip.Addr{}, true, true
	}
	parts := strings.Split(host, ".")
	if _, ok := number(parts[len(parts)-1]); !ok {
		return netip.Addr{}, false, false
	}
	if len(parts) > 4 {
		return netip.Addr{}, false, true
	}
	var v uint64
	for i, p := range parts {
		n, ok := number(p)
		if !ok {
			return netip.Addr{}, false, true
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false, true
			}
			v |= n << (8 * (3 - i))
			continue
		}
		if n >= 1<<(8*(5-len(parts))) {
			return netip.Addr{}, false, true
		}
		v |= n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), false, true
}

// number reads one part of an address: 0x… hexadecimal, 0… octal, else
// decimal. All-digit text that overflows or is bad octal is still a number; it
// comes back too large to be part of any address.
func number(s string) (uint64, bool) {
	const tooLarge = 1 << 40
	base, digits := 10, s
	switch {
	case len(s) >= 2 && (s[:2] == "0x" || s[:2] == "0X"):
		base, digits = 16, s[2:]
		if digits == "" {
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		base, digits = 8, s[1:]
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err == nil && n < tooLarge {
		return n, true
	}
	set := "0123456789"
	if base == 16 {
		set += "abcdefABCDEF"
	}
	return tooLarge, s != "" && strings.Trim(digits, set) == ""
}

// localName reports names that never mean a public host: RFC 6761 localhost,
// RFC 6762 local, RFC 8375 home.arpa, and the private-use TLD internal.
func localName(host string) bool {
	for _, s := range []string{"localhost", "local", "internal", "home.arpa", "localdomain"} {
		if host == s || strings.HasSuffix(host, "."+s) {
			return true
		}
	}
	return false
}

// loopbackName reports localhost and what lies under it (RFC 6761 §6.3).
func loopbackName(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Origin returns the origin of an absolute http(s) URL as "scheme://host:port",
// lower case, with the port always written. Two URLs are of one origin exactly
// when their origins are equal (RFC 6454 §5). KindInput when there is none.
func Origin(raw string) (string, error) {
	u, err := parseURL(raw)
	if err != nil {
		return "", err
	}
	o := originOf(u)
	if o == "" {
		return "", kidoban.Errorf(kidoban.KindInput, "the URL has no http or https origin")
	}
	return o, nil
}

func originOf(u *url.URL) string {
	port := u.Port()
	switch {
	case u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return ""
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	host := strings.ToLower(u.Hostname())
	if a, err := asciiHost(u.Hostname()); err == nil {
		host = a
	}
	return fmt.Sprintf("%s://%s", u.Scheme, net.JoinHostPort(host, port))
}
