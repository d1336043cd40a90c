package census

import (
	"net/url"
	"strings"
)

// robots is what a robots.txt (RFC 9309) says to kidoban: the rules of all groups that
// name it. Groups for "*" are about crawlers that index, which a census is not.
type robots []robotsRule

type robotsRule struct {
	pattern string
	allow   bool
}

// robotsBytes is how much of a file is read.
const robotsBytes = 64 << 10

func parseRobots(body []byte) (rules robots) {
	mine, inRules := false, false
	for line := range strings.Lines(string(body[:min(len(body), robotsBytes)])) {
		line, _, _ = strings.Cut(line, "#")
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		switch key {
		case "user-agent":
			if inRules {
				mine, inRules = false, false
			}
			name, _, _ := strings.Cut(value, "/")
			mine = mine || strings.EqualFold(name, "kidoban")
		case "disallow", "allow":
			inRules = true
			if mine && value != "" {
				rules = append(rules, robotsRule{pattern: decoded(value), allow: key == "allow"})
			}
		}
	}
	return rules
}

// refuse tells whether the rules keep kidoban from a path, with its query: the longest
// pattern that matches decides, and of two of one length the one that allows (RFC 9309
// §2.2.2).
func (r robots) refuse(path string) bool {
	path = decoded(path)
	best, allow := -1, true
	for _, rule := range r {
		if n := len(rule.pattern); n >= best && rule.matches(path) {
			allow = rule.allow || n == best && allow
			best = n
		}
	}
	return !allow
}

// decoded gives the form in which patterns and paths are compared, whatever they
// escape.
func decoded(s string) string {
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}

// matches tells whether the pattern stands at the start of path: * is any run of
// characters, $ at the end is the path's end (§2.2.3). Taking each part at its first
// place is enough, for what follows a * may stand anywhere behind it.
func (r robotsRule) matches(path string) bool {
	pattern, whole := strings.CutSuffix(r.pattern, "$")
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(path, parts[0])
	if !ok {
		return false
	}
	for i, part := range parts[1:] {
		if whole && i == len(parts)-2 {
			return strings.HasSuffix(rest, part)
		}
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return !whole || rest == ""
}

// asks are the paths that a look at a target, or at an issuer, is sure to ask for.
func asks(u *url.URL) []string {
	under := strings.TrimSuffix(u.EscapedPath(), "/")
	out := []string{u.RequestURI()}
	for _, known := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"} {
		out = append(out, known, known+under)
	}
	return out
}
