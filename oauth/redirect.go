package oauth

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MatchRedirect tells whether a requested redirect URI is the registered one:
// the same bytes, with one exception. The port of a loopback redirect may
// differ, because native apps take whatever port is free (RFC 8252 §7.3,
// G-AS3). The host's text must be equal even then: localhost is not 127.0.0.1.
//
// It does not judge whether either URI is safe; that is CheckRedirect at
// registration.
func MatchRedirect(registered, requested string) bool {
	if registered == requested {
		return registered != ""
	}
	if len(registered) > MaxURL || len(requested) > MaxURL {
		return false
	}
	h1, r1, ok1 := splitLoopback(registered)
	h2, r2, ok2 := splitLoopback(requested)
	return ok1 && ok2 && h1 == h2 && r1 == r2
}

// IsLoopbackRedirect tells whether raw is an http URI on 127.0.0.1, [::1] or
// localhost, written exactly so.
func IsLoopbackRedirect(raw string) bool { _, _, ok := splitLoopback(raw); return ok }

// splitLoopback takes a loopback redirect apart on its raw text: the host, and
// everything after the port. Nothing is decoded, so no two readers can differ.
func splitLoopback(raw string) (host, rest string, ok bool) {
	after, ok := strings.CutPrefix(raw, "http://")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(after, "/?#\\")
	if end < 0 {
		end = len(after)
	}
	authority, rest := after[:end], after[end:]
	for _, h := range loopbackHosts {
		port, found := strings.CutPrefix(authority, h)
		if found && (port == "" || port[0] == ':' && isPort(port[1:])) {
			return h, rest, true
		}
	}
	return "", "", false
}

var loopbackHosts = [...]string{"127.0.0.1", "[::1]", "localhost"}

// isPort accepts 1 to 65535 without leading zeros.
func isPort(s string) bool {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// RedirectPolicy says which redirect URIs may be registered.
type RedirectPolicy struct {
	AppSchemes []string // schemes of known apps, lower case, without colon ("cursor", "vscode")
	PrivateUse bool     // also any reverse-domain scheme ("com.example.app"); RFC 8252 §7.1
	NoLoopback bool     // refuse loopback redirects (web clients)
}

// Codes of CheckRedirect.
const (
	CodeTooLong          = "too_long"
	CodeEmpty            = "empty"
	CodeControlChar      = "control_character"
	CodeNonASCII         = "non_ascii"
	CodeBackslash        = "backslash"
	CodeBadCharacter     = "bad_character"
	CodeFragment         = "fragment"
	CodeUserinfo         = "userinfo"
	CodeNotAbsolute      = "not_absolute"
	CodeDangerousScheme  = "dangerous_scheme"
	CodeSchemeNoDot      = "private_scheme_without_dot"
	CodeSchemeNotListed  = "scheme_not_listed"
	CodeHTTPNotLoopback  = "http_not_loopback"
	CodeLoopbackRefused  = "loopback_refused"
	CodeNoHost           = "no_host"
	CodeBadHost          = "bad_host"
	CodeBadPort          = "bad_port"
	CodeWildcard         = "wildcard"
	CodeDotSegment       = "dot_segment"
	CodeBadEscape        = "bad_escape"
	CodeNotHTTPS         = "not_https"
	CodeNoPath           = "no_path"
	CodeNotCanonicalHost = "not_canonical_host"
)

// CheckRedirect applies the registration-time rule (G-AS3, E13): https
// anywhere, http on loopback only, app schemes by the policy's list. Refused
// are schemes that run code or open files, fragments, userinfo, private
// schemes without a dot, wildcards, dot segments, control characters and
// backslashes. The error is a *Refusal with one of the codes above.
func CheckRedirect(raw string, policy RedirectPolicy) error {
	if err := checkURIText(raw, "redirect URI"); err != nil {
		return err
	}
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok || !isScheme(scheme) {
		return refuse(CodeNotAbsolute, "The redirect URI is not absolute; begin it with https:// or with an allowed app scheme.")
	}
	lower := strings.ToLower(scheme)
	switch {
	case lower == "https" || lower == "http":
		if scheme != lower {
			return refuse(CodeNotAbsolute, "The redirect URI's scheme must be written in lower case.")
		}
		return checkWebRedirect(lower, rest, policy)
	case IsDangerousScheme(lower):
		return refuse(CodeDangerousScheme, "The redirect URI's scheme %q can run code or open files and is never allowed.", lower)
	case slices.Contains(policy.AppSchemes, lower):
		return nil
	case !strings.Contains(lower, "."):
		return refuse(CodeSchemeNoDot, "The redirect URI's private scheme %q has no dot; use a reverse domain name you own (RFC 8252 section 7.1), or ask the operator to list the scheme.", clip(lower, 40))
	case !policy.PrivateUse:
		return refuse(CodeSchemeNotListed, "The redirect URI's scheme %q is not on the operator's list.", clip(lower, 40))
	}
	return nil
}

func checkWebRedirect(scheme, rest string, policy RedirectPolicy) error {
	after, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return refuse(CodeNoHost, "The redirect URI has no host.")
	}
	authority, path := after, ""
	if i := strings.IndexAny(after, "/?"); i >= 0 {
		authority, path = after[:i], after[i:]
	}
	host, err := checkAuthority(authority, "redirect URI")
	if err != nil {
		return err
	}
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if hasDotSegment(path) {
		return refuse(CodeDotSegment, "The redirect URI's path holds a . or .. segment; write the path it means.")
	}
	loop := slices.Contains(loopbackHosts[:], host)
	if scheme == "http" && !loop {
		return refuse(CodeHTTPNotLoopback, "The redirect URI uses http; that is allowed on 127.0.0.1, [::1] and localhost only. Use https.")
	}
	if loop && policy.NoLoopback {
		return refuse(CodeLoopbackRefused, "Loopback redirect URIs are not allowed for this client.")
	}
	return nil
}

// checkURIText refuses what makes two readers of the same URI disagree.
func checkURIText(raw, what string) error {
	switch {
	case raw == "":
		return refuse(CodeEmpty, "The %s is empty.", what)
	case len(raw) > MaxURL:
		return refuse(CodeTooLong, "The %s is longer than %d bytes.", what, MaxURL)
	}
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c < ' ' || c == 0x7f:
			return refuse(CodeControlChar, "The %s holds a control character at byte %d.", what, i)
		case c >= 0x80:
			return refuse(CodeNonASCII, "The %s holds a character outside ASCII at byte %d; write the host in Punycode and the path percent-encoded.", what, i)
		case c == '\\':
			return refuse(CodeBackslash, "The %s holds a backslash, which browsers read as a slash.", what)
		case c == '#':
			return refuse(CodeFragment, "The %s has a fragment, which RFC 6749 section 3.1.2 forbids.", what)
		case strings.IndexByte(" \"<>^`{|}", c) >= 0:
			return refuse(CodeBadCharacter, "The %s holds a character that RFC 3986 does not allow at byte %d; percent-encode it.", what, i)
		case c == '%' && (i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2])):
			return refuse(CodeBadEscape, "The %s holds a %% that no two hex digits follow at byte %d.", what, i)
		}
	}
	return nil
}

// checkAuthority checks host[:port] on its raw text and returns the host in
// lower case, brackets kept.
func checkAuthority(authority, what string) (string, error) {
	switch {
	case authority == "":
		return "", refuse(CodeNoHost, "The %s has no host.", what)
	case strings.Contains(authority, "@"):
		return "", refuse(CodeUserinfo, "The %s holds a user name before its host; remove it.", what)
	case strings.Contains(authority, "*"):
		return "", refuse(CodeWildcard, "The %s holds a wildcard in its host; register each URI in full.", what)
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
		if !isPort(port) {
			return "", refuse(CodeBadPort, "The %s has a port that is not a number from 1 to 65535.", what)
		}
	}
	host = strings.ToLower(host)
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(host[1:], "]"))
		if err != nil || !strings.HasSuffix(host, "]") || addr.Zone() != "" || !addr.Is6() || "["+addr.String()+"]" != host {
			return "", refuse(CodeBadHost, "The %s has an IPv6 host that is not in its shortest form.", what)
		}
		return host, nil
	}
	return host, checkHostName(host, what)
}

// checkHostName refuses names that resolvers and browsers read differently:
// empty labels, odd characters, and numbers that a browser takes for an IPv4
// address although they are not written as one (0x7f.1, 2130706433).
func checkHostName(host, what string) error {
	if len(host) > 253 {
		return refuse(CodeBadHost, "The %s has a host longer than 253 characters.", what)
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return refuse(CodeBadHost, "The %s has a host with an empty or over-long label.", what)
		}
		for i := 0; i < len(l); i++ {
			if c := l[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return refuse(CodeBadHost, "The %s has a host with a character that names do not have.", what)
			}
		}
	}
	if last := labels[len(labels)-1]; isNumberLabel(last) {
		if a, err := netip.ParseAddr(host); err != nil || a.String() != host {
			return refuse(CodeBadHost, "The %s has a number for a host that is not a plain IPv4 address.", what)
		}
	}
	return nil
}

func isNumberLabel(l string) bool {
	if rest, ok := strings.CutPrefix(l, "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(l, "0123456789") == ""
}

// hasDotSegment tells whether a raw path has a . or .. segment, also when its
// dots or its slashes are percent-encoded (once or several times over).
func hasDotSegment(path string) bool {
	for range 4 {
		for _, seg := range strings.Split(path, "/") {
			seg, _, _ = strings.Cut(seg, ";") // path parameters are dropped by some servers
			if seg == "." || seg == ".." {
				return true
			}
		}
		next, err := url.PathUnescape(path)
		if err != nil || next == path {
			return false
		}
		path = strings.ReplaceAll(next, "\\", "/")
	}
	return true // escaped more than four times over: nobody honest does that
}

// IsDangerousScheme tells whether a browser or desktop that is sent to this
// scheme (any case) would run code, open a file or start another protocol's
// handler. It is a deny-list: use it beside an allow-list, never alone.
func IsDangerousScheme(scheme string) bool {
	s := strings.ToLower(strings.TrimSpace(scheme))
	if slices.Contains(dangerousSchemes[:], s) {
		return true
	}
	for _, p := range [...]string{"ms-", "chrome", "moz-", "safari-", "edge", "opera"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

var dangerousSchemes = [...]string{
	"about", "blob", "cid", "content", "data", "dav", "dict", "feed", "file",
	"filesystem", "ftp", "ftps", "gopher", "imap", "intent", "jar", "java", "javascript",
	"jdbc", "ldap", "ldaps", "livescript", "mailto", "mhtml", "mk", "mocha", "ms",
	"news", "nfs", "nntp", "package", "php", "pop", "rdp", "res", "resource", "rlogin",
	"search", "search-ms", "sftp", "shell", "sms", "smb", "ssh", "steam", "svn", "tel",
	"telnet", "vbscript", "view-source", "vnc", "webcal", "ws", "wss", "x-apple.systempreferences",
	"wyciwyg", "xmpp",
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if c >= 'a' && c <= 'z' {
			continue
		}
		if i == 0 || !(s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.') {
			return false
		}
	}
	return s != ""
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
