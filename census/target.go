package census

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"

	"github.com/kidoban/kidoban/outbound"
)

// Target is one address to measure.
type Target struct {
	URL    string // normal form
	Host   string // lower case, ASCII, without port: the unit of politeness
	Source string // where it came from first
}

// Spread is a fixed pseudo-random number of the target: measuring in its order
// mixes the hosts, so that no host is asked for many targets in a row.
func (t Target) Spread() int64 {
	h := sha256.Sum256([]byte(t.URL))
	return int64(binary.BigEndian.Uint64(h[:8]) >> 1)
}

// Why a candidate is no target. The words are stable; reports count them.
const (
	RejectEmpty      = "empty"
	RejectTooLong    = "too_long"
	RejectBadURL     = "bad_url"
	RejectScheme     = "scheme"
	RejectPlain      = "plain_http"
	RejectUser       = "user_in_url"
	RejectCredential = "credential_in_url"
	RejectTemplate   = "unfilled_template"
	RejectWildcard   = "wildcard"
	RejectPrivate    = "private_address"
	RejectLocal      = "local_name"
	RejectIDN        = "bad_idn"
	RejectDuplicate  = "duplicate"
	RejectDeleted    = "deleted_in_registry"
	RejectNoRemote   = "no_remote"
	RejectBadJSON    = "bad_json"
)

const maxURL = 2048

// DefaultPath is where a bare host is asked: most servers answer there.
const DefaultPath = "/mcp"

// Normalize gives the normal form of a candidate: scheme and host in lower case
// and ASCII (IDNA 2008), no default port, no fragment, no dot at the end of the
// host. A name without scheme is read as https, one without path gets
// [DefaultPath]. reject is one of the Reject words, "" for a target. In lab,
// loopback and http to it are targets; otherwise neither is.
func Normalize(raw string, lab bool) (t Target, reject string) {
	raw = strings.TrimSpace(raw)
	switch {
	case raw == "":
		return t, RejectEmpty
	case len(raw) > maxURL:
		return t, RejectTooLong
	case strings.ContainsAny(raw, "{}<>") || strings.Contains(raw, "%7B") || strings.Contains(raw, "%7b"):
		return t, RejectTemplate
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] <= ' ' || raw[i] == 0x7f || raw[i] == '\\' || raw[i] == '"' || raw[i] == '`' {
			return t, RejectBadURL
		}
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return t, RejectBadURL
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return t, RejectScheme
	case u.User != nil:
		return t, RejectUser
	}
	host, reject := normalHost(u.Hostname(), lab)
	if reject != "" {
		return t, reject
	}
	local := loopback(host)
	if u.Scheme == "http" && !local {
		return t, RejectPlain
	}
	for name := range u.Query() {
		if credentialName(name) {
			return t, RejectCredential
		}
	}
	port := u.Port()
	if port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		port = ""
	}
	u.Host = host
	if strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	}
	if port != "" {
		u.Host += ":" + port
	}
	if u.Path == "" {
		u.Path = DefaultPath
	}
	u.Fragment, u.RawFragment, u.ForceQuery = "", "", false
	out := u.String()
	if len(out) > maxURL || (outbound.Guard{Lab: lab}).CheckURL(out) != nil {
		return t, RejectBadURL
	}
	return Target{URL: out, Host: host}, ""
}

// normalHost gives a host's ASCII form, or why it cannot be a target's.
func normalHost(host string, lab bool) (string, string) {
	if strings.HasPrefix(host, "*") {
		return "", RejectWildcard
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !isASCII(host) {
		a, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", RejectIDN
		}
		host = strings.ToLower(a)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if class := outbound.Class(a.Unmap()); class != "" && !(lab && class == "loopback") {
			return "", RejectPrivate
		}
		return a.String(), ""
	}
	if loopback(host) && lab {
		return host, ""
	}
	if !strings.Contains(host, ".") || loopback(host) {
		return "", RejectLocal
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", RejectBadURL // a number in an unusual notation: no name ends so
	}
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return "", RejectBadURL
	}
	if err := outbound.CheckURL("https://" + host + "/"); err != nil {
		return "", RejectLocal
	}
	return host, ""
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && a.IsLoopback()
}

// credentialName tells query parameters that carry keys. A key in a public list
// is somebody's: it is neither stored nor sent.
func credentialName(name string) bool {
	n := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	switch n {
	case "apikey", "key", "token", "accesstoken", "auth", "authorization", "secret", "password", "code", "sessionid", "refreshtoken", "clientsecret":
		return true
	}
	return strings.HasSuffix(n, "apikey") || strings.HasSuffix(n, "token")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
