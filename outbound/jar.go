package outbound

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Bounds of a Jar: what a hostile server can make us keep.
const (
	maxCookies    = 64   // per host and port
	maxCookieSite = 512  // hosts
	maxCookie     = 4096 // bytes of name and value
)

// Jar keeps cookies the way RFC 6265 §5 wants where it matters to an audit:
// host, path, Secure, expiry, the __Host- and __Secure- prefixes. It is stricter
// than a browser on purpose: cookies are keyed by host AND port and the Domain
// attribute is ignored, so two lab servers never see each other's. Loopback
// counts as secure. Safe for concurrent use; copy with Clone.
type Jar struct {
	Name string // shown as Exchange.Jar; set it before first use

	mu   sync.Mutex
	site map[string][]cookie // by host:port
}

type cookie struct {
	name, value, path string
	secure            bool
	expires           time.Time // zero = session
}

// NewJar returns an empty jar named "jar".
func NewJar() *Jar { return &Jar{Name: "jar", site: make(map[string][]cookie)} }

// name returns the jar's name; "" for no jar.
func (j *Jar) name() string {
	if j == nil {
		return ""
	}
	return cmp.Or(j.Name, "jar")
}

// Clone returns an independent jar with the same cookies: the same browser at
// the same moment, twice.
func (j *Jar) Clone(name string) *Jar {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := &Jar{Name: name, site: make(map[string][]cookie, len(j.site))}
	for k, v := range j.site {
		out.site[k] = slices.Clone(v)
	}
	return out
}

// Put stores a session cookie for the host and port of rawURL, path "/".
func (j *Jar) Put(rawURL, name, value string) error {
	u, err := parseURL(rawURL)
	if err != nil {
		return err
	}
	key := siteKey(u)
	if key == "" || name == "" || len(name)+len(value) > maxCookie {
		return kidoban.Errorf(kidoban.KindUsage, "the cookie has no name, no site, or is larger than %d bytes", maxCookie)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.put(key, cookie{name: name, value: value, path: "/", secure: u.Scheme == "https"}, time.Time{})
	return nil
}

// Cookies returns the names and values that a request to rawURL would carry.
func (j *Jar) Cookies(rawURL string, now time.Time) []*http.Cookie {
	u, err := parseURL(rawURL)
	if j == nil || err != nil {
		return nil
	}
	var out []*http.Cookie
	for _, c := range j.match(u, now) {
		out = append(out, &http.Cookie{Name: c.name, Value: c.value})
	}
	return out
}

// header returns the Cookie header for u, or "".
func (j *Jar) header(u *url.URL, now time.Time) string {
	var b strings.Builder
	for _, c := range j.match(u, now) {
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.name + "=" + c.value)
	}
	return b.String()
}

func (j *Jar) match(u *url.URL, now time.Time) []cookie {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []cookie
	for _, c := range j.site[siteKey(u)] {
		if (c.expires.IsZero() || now.Before(c.expires)) && (!c.secure || secureContext(u)) && pathMatch(u.EscapedPath(), c.path) {
			out = append(out, c)
		}
	}
	// RFC 6265 §5.4: longer paths first, older first among equals.
	slices.SortStableFunc(out, func(a, b cookie) int { return len(b.path) - len(a.path) })
	return out
}

// learn stores the Set-Cookie fields of a response from u.
func (j *Jar) learn(u *url.URL, h kidoban.Fields, now time.Time) {
	if j == nil {
		return
	}
	key := siteKey(u)
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, line := range h.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if i >= maxCookies || err != nil || len(c.Name)+len(c.Value) > maxCookie || !allowed(c, u) {
			continue
		}
		n := cookie{name: c.Name, value: c.Value, path: c.Path, secure: c.Secure, expires: c.Expires}
		if !strings.HasPrefix(n.path, "/") {
			n.path = defaultPath(u.EscapedPath())
		}
		if c.MaxAge > 0 {
			n.expires = now.Add(time.Duration(min(c.MaxAge, 400*24*3600)) * time.Second)
		} else if c.MaxAge < 0 {
			n.expires = time.Unix(1, 0)
		}
		j.put(key, n, now)
	}
}

// allowed applies the Secure rule and the name prefixes (RFC 6265bis §4.1.3).
func allowed(c *http.Cookie, u *url.URL) bool {
	if c.Secure && !secureContext(u) {
		return false
	}
	lower := strings.ToLower(c.Name)
	if strings.HasPrefix(lower, "__host-") {
		return c.Secure && c.Path == "/" && c.Domain == ""
	}
	return !strings.HasPrefix(lower, "__secure-") || c.Secure
}

// put replaces or adds n; expired ones go. The oldest goes when there are too
// many. The caller holds mu.
func (j *Jar) put(key string, n cookie, now time.Time) {
	list := j.site[key]
	at := slices.IndexFunc(list, func(c cookie) bool { return c.name == n.name && c.path == n.path })
	gone := !n.expires.IsZero() && !now.Before(n.expires)
	switch {
	case at >= 0 && gone:
		list = slices.Delete(list, at, at+1)
	case at >= 0:
		list[at] = n
	case gone:
		return
	case list == nil && len(j.site) >= maxCookieSite:
		return
	default:
		if len(list) >= maxCookies {
			list = slices.Delete(list, 0, 1)
		}
		list = append(list, n)
	}
	if j.site == nil {
		j.site = make(map[string][]cookie)
	}
	j.site[key] = list
}

// siteKey is scheme-less: an http cookie is seen by https of the same port,
// as in browsers, and Secure keeps the other direction closed.
func siteKey(u *url.URL) string {
	_, key, _ := strings.Cut(originOf(u), "://")
	return key
}

func secureContext(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return false
	}
	a, _, isIP := literal(host)
	return loopbackName(host) || isIP && a.IsLoopback()
}

// defaultPath is RFC 6265 §5.1.4.
func defaultPath(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}

// pathMatch is RFC 6265 §5.1.4.
func pathMatch(request, path string) bool {
	if request == "" {
		request = "/"
	}
	return request == path || strings.HasPrefix(request, path) &&
		(strings.HasSuffix(path, "/") || request[len(path)] == '/')
}
