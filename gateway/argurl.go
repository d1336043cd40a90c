package gateway

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
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
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return "characters" // which some readers leave out, and others do not
	}
	v = asWeb(v)
	switch scheme, rest, ok := strings.Cut(v, ":"); {
	case strings.HasPrefix(v, "https://"):
	case ok && slices.Contains(badSchemes, strings.ToLower(scheme)):
		return "scheme"
	case ok && strings.HasPrefix(rest, "//"):
		host := rest[2:]
		if i := strings.IndexAny(host, "/?#"); i >= 0 {
			host = host[:i]
		}
		host = host[strings.LastIndexByte(host, '@')+1:]
		if !addressLike(host) {
			return "" // an identifier such as test://note
		}
		v = "https://" + host + "/"
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

// asWeb writes a web address as https://…, in whichever way it is written: browsers
// and their relatives on servers take "http:host" and "https:////host" for the same
// as "http://host", Java drops "url:", and a text that begins with two slashes has
// the scheme of the page. An address is judged alike with both schemes. Other texts
// come back as they are.
func asWeb(v string) string {
	scheme, rest, ok := strings.Cut(v, ":")
	for ok && strings.EqualFold(scheme, "url") {
		v = rest
		scheme, rest, ok = strings.Cut(v, ":")
	}
	switch {
	case strings.HasPrefix(v, "//"):
		rest = v
	case !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https"):
		return v
	}
	return "https://" + strings.TrimLeft(rest, "/")
}

// addressLike tells a host that is an address or a name from an identifier that
// stands where a host would.
func addressLike(host string) bool {
	name, _, _ := strings.Cut(host, ":")
	digit := name != "" && name[0] >= '0' && name[0] <= '9'
	return strings.HasPrefix(host, "[") || strings.Contains(name, ".") || strings.EqualFold(name, "localhost") || digit && !serial(name)
}

// serial tells that a number stands for the thing itself, as in note://42: as an
// address it would be in 0.0.0.0/8, of which nothing but 0 leads anywhere.
func serial(name string) bool {
	n, err := strconv.ParseUint(name, 10, 64)
	return err == nil && n > 0 && n < 1<<24 && name[0] != '0'
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
