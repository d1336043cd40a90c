package oauth

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// CanonicalResource returns the form of a resource identifier that MCP asks
// for (RFC 8707 §2, RS-12): scheme and host in lower case, no default port, no
// root slash. Path and query are left as they are: /mcp and /mcp/ are two
// resources. A fragment or userinfo is an error.
func CanonicalResource(raw string) (string, error) {
	u, err := parseHTTPURL(raw, "resource")
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(u.Host, ":") || u.Port() != "" && !isPort(u.Port()) {
		return "", kidoban.Errorf(kidoban.KindInput, "The resource has no host or a port that is not a number from 1 to 65535.")
	}
	_, path, query, err := splitHTTPURL(raw, "resource")
	if err != nil {
		return "", err
	}
	if path == "/" && query == "" {
		path = ""
	}
	out := originOf(u) + path
	if query != "" {
		out += "?" + query
	}
	return out, nil
}

// ResourceRelation says how two resource identifiers relate.
type ResourceRelation string

// The relations, from the same to unrelated. The first difference in this
// order that applies is reported.
const (
	ResourceIdentical     ResourceRelation = "identical"      // the same bytes
	ResourceHostCase      ResourceRelation = "host_case"      // only the case of scheme or host, or a default port written out
	ResourceTrailingSlash ResourceRelation = "trailing_slash" // only a slash at the end of the path
	ResourceQuery         ResourceRelation = "query"          // only the query
	ResourceParent        ResourceRelation = "parent"         // same origin, the other's path is a prefix of the wanted one, by whole segments
	ResourcePath          ResourceRelation = "path"           // same origin, another path
	ResourcePort          ResourceRelation = "port"           // same scheme and host, another port
	ResourceScheme        ResourceRelation = "scheme"         // same host, http instead of https or the reverse
	ResourceOtherHost     ResourceRelation = "other_host"     // another host: tokens would be for someone else
	ResourceInvalid       ResourceRelation = "invalid"        // one of the two is no resource identifier
)

// Equivalent tells whether RFC 3986 §6.2.2 calls the two the same; a client
// should accept these and report anything but identical.
func (r ResourceRelation) Equivalent() bool {
	return r == ResourceIdentical || r == ResourceHostCase
}

// CompareResource says how got (what a server's metadata names) relates to
// want (the URL in use). An empty path and "/" are the same (RFC 3986 §6.2.3)
// and count as ResourceHostCase.
func CompareResource(want, got string) ResourceRelation {
	if want == got && want != "" {
		return ResourceIdentical
	}
	cw, err1 := CanonicalResource(want)
	cg, err2 := CanonicalResource(got)
	if err1 != nil || err2 != nil {
		return ResourceInvalid
	}
	if cw == cg {
		return ResourceHostCase
	}
	uw, _ := parseHTTPURL(cw, "resource")
	ug, _ := parseHTTPURL(cg, "resource")
	switch {
	case uw.Hostname() != ug.Hostname():
		return ResourceOtherHost
	case uw.Scheme != ug.Scheme:
		return ResourceScheme
	case uw.Port() != ug.Port():
		return ResourcePort
	}
	pw, pg := uw.EscapedPath(), ug.EscapedPath()
	switch {
	case pw == pg:
		return ResourceQuery
	case strings.TrimSuffix(pw, "/") == strings.TrimSuffix(pg, "/"):
		return ResourceTrailingSlash
	case strings.HasPrefix(pw, strings.TrimSuffix(pg, "/")+"/"):
		return ResourceParent
	}
	return ResourcePath
}
