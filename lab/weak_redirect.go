package lab

import (
	"net/http"
	"net/url"
	"strings"
)

// redirectSwitches are the flaws of redirect URI matching (F7) and of redirecting
// (E27). Each matcher lets one family of mutations through and no other.
func redirectSwitches() []Switch {
	return []Switch{
		{Key: "F7-1", Title: "The redirect_uri is not compared with the registered ones at all. (Every narrower mutation of F7 that is a URI passes as well; they are reported under this one.)"},
		{Key: "F7-2", Title: "A path below the registered one is accepted."},
		{Key: "F7-3", Title: "A path that climbs out of the registered one (.., %2e%2e, ..;) is accepted."},
		{Key: "F7-4", Title: "A query added to the registered URI is accepted."},
		{Key: "F7-5", Title: "A fragment added to the registered URI is accepted."},
		{Key: "F7-6", Title: "Case, trailing slash and absence of the path do not matter."},
		{Key: "F7-7", Title: "A host that begins or ends with the registered host is accepted."},
		{Key: "F7-8", Title: "A registered host in the user information, or after a backslash, is taken for the host."},
		{Key: "F7-9", Title: "The scheme is not compared."},
		{Key: "F7-10", Title: "The port of an https redirect URI is not compared.", Needs: Needs{Flaws: []string{"F1-a"}}},
		{Key: "F7-11", Title: "127.0.0.1, localhost, [::1], 2130706433 and 0x7f.1 count as the same host."},
		{Key: "F7-12", Title: "Of two redirect_uri parameters the first is checked and the last is used."},
		{Key: "F7-13", Title: "A parameter redirect_uri[] is used and never checked."},
		{Key: "F7-14", Title: "The consent form carries the redirect_uri, and the copy that comes back is used unchecked."},
		{Key: "F7-15", Title: "The response modes fragment, form_post and web_message work."},
		{Key: "F7-16", Title: "A client with several redirect URIs may leave the parameter out; the first is used."},
		{Key: "F7-17", Title: "Redirects to the login are absolute and built from X-Forwarded-Host or Host."},
		{Key: "F7-18", Title: "The redirect_uri of the token request is not compared.", Expect: []string{"F7-18", "E21-c"}},
		{Key: "E27-a", Title: "Errors are redirected at once to any registered URI, also to one nobody has ever approved.", Needs: Needs{Flaws: []string{"F1-a"}}},
		{Key: "E27-b", Title: "The login takes next=, returnTo= and the like, and redirects there; //host works too."},
	}
}

// weakMatch lets one family of mutations of a registered URI through.
func (l *Lab) weakMatch(reg, got string) bool {
	rest, below := strings.CutPrefix(got, reg)
	lower := strings.ToLower(rest)
	climbs := strings.Contains(lower, "..") || strings.Contains(lower, "%2e") || strings.Contains(lower, "%2f") || strings.Contains(lower, "..;")
	if below {
		switch {
		case strings.HasPrefix(rest, "/") && climbs:
			return l.on("F7-3")
		case len(rest) > 1 && rest[0] == '/' && !strings.ContainsAny(rest, "?#&@\\"):
			return l.on("F7-2")
		case strings.HasPrefix(rest, "?") || strings.HasPrefix(rest, "&"):
			return l.on("F7-4")
		case strings.HasPrefix(rest, "#"):
			return l.on("F7-5")
		}
	}
	a, errA := url.Parse(reg)
	b, errB := url.Parse(strings.ReplaceAll(got, `\`, "/"))
	if errA != nil || errB != nil || a.Host == "" {
		return false
	}
	switch {
	case strings.ContainsAny(got, `@\`):
		return l.on("F7-8") && userinfoHost(got, a.Hostname())
	case a.RawQuery != b.RawQuery || strings.Contains(got, "#"):
		return false
	case a.Scheme != b.Scheme:
		return l.on("F7-9") && a.Path == b.Path && (b.Hostname() == a.Hostname() || b.Host == "")
	case a.Hostname() == b.Hostname() && a.Path != b.Path:
		return l.on("F7-6") && strings.EqualFold(strings.TrimSuffix(a.Path, "/"), strings.TrimSuffix(b.Path, "/")) ||
			l.on("F7-6") && strings.Trim(b.Path, "/") == ""
	case a.Path != b.Path:
		return false
	case a.Hostname() == b.Hostname():
		return l.on("F7-10") && a.Scheme == "https" && a.Port() != b.Port()
	case loopbackAlias(a.Hostname()) && loopbackAlias(b.Hostname()):
		return l.on("F7-11")
	}
	return l.on("F7-7") && (strings.HasPrefix(b.Hostname(), a.Hostname()) || strings.HasSuffix(b.Hostname(), a.Hostname()))
}

// userinfoHost tells whether host stands where a careless reader of raw looks for
// the host: before or after an @, or before a backslash.
func userinfoHost(raw, host string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return r == '@' || r == '\\' || r == '/' }) {
		name, _, _ := strings.Cut(part, ":")
		if name == host {
			return true
		}
	}
	return false
}

// loopbackAlias knows the spellings that a resolver or a URL parser turns into
// loopback.
func loopbackAlias(host string) bool {
	return isLoopbackHost(host) || host == "2130706433" || host == "0x7f.1" || host == "0x7f000001" || host == "127.1"
}

// weakRedirectParameter reads the redirect URI the way the switches on the
// parameter itself make it; done means that validation ends here.
func (l *Lab) weakRedirectParameter(t *txn, v url.Values) (f *fault, done bool) {
	if a := v["redirect_uri[]"]; l.on("F7-13") && len(a) > 0 {
		t.redirect = a[0]
		return nil, true
	}
	if all := v["redirect_uri"]; l.on("F7-12") && len(all) > 1 {
		if !l.matchRedirect(t.client.redirects, all[0]) {
			return &fault{"invalid_request", "The redirect_uri is not one that this client registered.", true}, true
		}
		t.redirect = all[len(all)-1]
		return nil, true
	}
	if l.on("F7-16") && t.redirect == "" && len(t.client.redirects) > 1 {
		t.redirect = t.client.redirects[0]
		return nil, true
	}
	return nil, false
}

// hostFromHeader is the origin that a server behind a careless proxy set-up takes
// for its own.
func (l *Lab) hostFromHeader(r *http.Request) string {
	host := r.Host
	if f := r.Header.Get("X-Forwarded-Host"); f != "" {
		host = f
	}
	return scheme(r) + host
}

// loginNext is the redirector of E27-b.
func (l *Lab) loginNext(w http.ResponseWriter, r *http.Request) bool {
	if !l.on("E27-b") || r.Method != http.MethodGet {
		return false
	}
	for _, name := range []string{"next", "returnTo", "return_to", "redirect", "redirect_to", "continue", "url", "post_logout_redirect_uri"} {
		if to := r.URL.Query().Get(name); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
			return true
		}
	}
	return false
}
