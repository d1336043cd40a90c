package gateway

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban/outbound"
)

// urlGuard judges URLs that a server is asked to fetch: the scheme, the address
// in whatever notation, and what the name resolves to now. A name that resolves
// to something else a moment later is the business of the box around the server.
type urlGuard struct {
	resolve func(context.Context, string) ([]netip.Addr, error)
}

// Schemes that reach places no web address does.
var badSchemes = []string{"file", "gopher", "dict", "ldap", "ldaps", "tftp", "ftp", "jar", "netdoc", "phar", "javascript", "vbscript", "data", "php", "expect", "smb", "unix", "view-source"}

var hostLike = regexp.MustCompile(`^(?:\[[0-9a-fA-F:.]+\]|[^/\s:?#]+)(?::\d+)?(?:[/?#]|$)`)

// bad says why a URL is refused; "" when it is not. hosts are allowed by name.
func (g *urlGuard) bad(ctx context.Context, v string, hosts []string) string {
	if len(v) > 32<<10 {
		return "too_long"
	}
	v = strings.TrimSpace(v)
	if strings.ContainsAny(v, "\\\x00\n\r\t") {
		return "characters"
	}
	switch scheme, rest, ok := strings.Cut(v, ":"); {
	case strings.HasPrefix(v, "//"):
		v = "https:" + v
	case ok && slices.Contains(badSchemes, strings.ToLower(scheme)):
		return "scheme"
	case ok && strings.HasPrefix(rest, "//"):
		if s := strings.ToLower(scheme); s == "http" || s == "https" {
			v = "https:" + rest // an address is judged alike with both
		} else if u, err := url.Parse(v); err != nil || u.Hostname() == "" || !strings.Contains(u.Hostname(), ".") && !strings.Contains(u.Hostname(), ":") && u.Hostname() != "localhost" {
			return "" // an identifier such as test://note
		} else {
			v = "https://" + u.Host + "/"
		}
	case hostLike.MatchString(v) && (strings.ContainsAny(v, ".:") || strings.HasPrefix(strings.ToLower(v), "localhost")):
		v = "https://" + v
	default:
		return "" // relative
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" {
		return "malformed"
	}
	if slices.Contains(hosts, strings.ToLower(u.Host)) || slices.Contains(hosts, strings.ToLower(u.Hostname())) && u.User == nil {
		return ""
	}
	if outbound.CheckURL(v) != nil {
		return "address"
	}
	return g.named(ctx, u.Hostname())
}

// named refuses names that resolve to closed addresses. One that does not resolve
// here is let through: the server will hardly fare better.
func (g *urlGuard) named(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resolve := g.resolve
	if resolve == nil {
		resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if (outbound.Guard{}).CheckAddr(a.Unmap()) != nil {
			return "address"
		}
	}
	return ""
}
