package audit

import (
	"context"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

// What is read from every answer of the run at no cost: errors that say too much
// (E32), secrets in addresses (E23-c), the transport's marks (E29-b, d, e) and
// caching (E31-b, c). The probe comes last.

const (
	seenMax  = 512      // answers kept
	seenBody = 16 << 10 // bytes kept of each
)

// keep notes an answer for the closing judges. s.mu is not needed: answers are
// kept by the goroutine that asked, and raced requests are not of interest.
func (s *session) keep(x *kidoban.Exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.Response == nil || len(s.seen) >= seenMax {
		return
	}
	c, resp := *x, *x.Response
	resp.Body = head(resp.Body, seenBody)
	c.Response = &resp
	s.seen = append(s.seen, &c)
}

func probeSeen() probe {
	keys := []string{"E23-c", "E29-b", "E29-d", "E29-e", "E31-b", "E31-c", "E32-a", "E32-b"}
	return define(spec{name: "all answers", keys: keys, tier: kidoban.T0},
		func(_ context.Context, s *session) []*kidoban.Exchange { return s.seen },
		func(f *Facts, seen []*kidoban.Exchange) []kidoban.Result {
			return []kidoban.Result{
				judgeURLs(f, seen), judgeLeavesTLS(f, seen), judgeCookies(f, seen), judgeHSTS(f, seen),
				judgeNoStore(f, seen), judgeShared(f), judgeInternals(f, seen), judgeSecrets(f, seen),
			}
		})
}

// ofTarget tells whether an answer came from the server under test or from its
// authorization server.
func ofTarget(f *Facts, x *kidoban.Exchange) bool { return f.owns(hostOf(x.Request.URL)) }

// judgeURLs: do secrets stand in addresses that the server makes, or in its own?
func judgeURLs(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E23-c"
	if names := secretsIn(f.URL, tokenNames()); len(names) > 0 {
		return positive(key, kidoban.Signal, "the server's address carries a credential in its query ("+strings.Join(names, ", ")+")", f.List)
	}
	names := []string{"access_token", "refresh_token", "id_token", "api_key", "apikey", "client_secret", "password", "session_id", "sessionid", "jsessionid", "phpsessid", "sid"}
	for _, x := range seen {
		loc := x.Header("Location")
		if loc == "" || !ofTarget(f, x) || strings.HasPrefix(x.Probe, "E26") {
			continue
		}
		if found := secretsIn(resolve(x.Request.URL, loc), names); len(found) > 0 {
			return positive(key, kidoban.Signal, "an address that the server makes carries "+strings.Join(found, ", "), x)
		}
	}
	if r, bad := f.unseen(key); bad {
		return r
	}
	return passed(key, "no credentials in the addresses that were seen", f.List)
}

// judgeLeavesTLS: does a redirect lead from https to http? A client's own
// loopback address is none of the server's.
func judgeLeavesTLS(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E29-b"
	for _, x := range seen {
		loc := x.Header("Location")
		if loc == "" || !strings.HasPrefix(x.Request.URL, "https://") || !ofTarget(f, x) {
			continue
		}
		to := resolve(x.Request.URL, loc)
		if strings.HasPrefix(to, "http://") && !f.isRedirectURI(to) {
			return positive(key, kidoban.Confirmed, "a redirect leads from https to plain http", x)
		}
	}
	if r, bad := f.unseen(key); bad {
		return r
	}
	return passed(key, "no redirect leaves https", f.List)
}

// unseen says that the way to the login, which these checks read, was hidden by
// a challenge, a limit or a page that needs its script.
func (f *Facts) unseen(key string) (kidoban.Result, bool) {
	if f.Base == nil {
		return kidoban.Result{}, false
	}
	why, bad := unclearKind(f.Base)
	if !bad || why == kidoban.ReasonNetwork {
		return kidoban.Result{}, false
	}
	return unclear(key, why, "the way to the login could not be seen: "+trailText(f.Base), f.Base.Last()), true
}

// isRedirectURI tells whether raw is an address that one of the run's clients
// registered or supplied.
func (f *Facts) isRedirectURI(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	if isProbeURL(raw) {
		return true
	}
	clients := append([]*Client{}, f.registered...)
	if f.Client != nil {
		clients = append(clients, f.Client)
	}
	for _, c := range clients {
		for _, r := range append([]string{c.RedirectURI}, c.Redirects...) {
			if v, err := url.Parse(r); err == nil && v.Host == u.Host && v.Scheme == u.Scheme {
				return true
			}
		}
	}
	return false
}

func judgeCookies(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E29-d"
	any := false
	for _, x := range seen {
		if !strings.HasPrefix(x.Request.URL, "https://") || !ofTarget(f, x) {
			continue
		}
		for _, v := range x.Response.Header.Values("Set-Cookie") {
			any = true
			parts := strings.Split(v, ";")
			secure, ends := false, false
			for _, p := range parts[1:] {
				name, val, _ := strings.Cut(strings.TrimSpace(p), "=")
				secure = secure || strings.EqualFold(name, "Secure")
				ends = ends || strings.EqualFold(name, "Max-Age") && strings.HasPrefix(strings.TrimSpace(val), "0")
			}
			if !secure && !ends {
				return positive(key, kidoban.Confirmed, "a cookie is set without Secure", x)
			}
		}
	}
	if r, bad := f.unseen(key); bad && !any {
		return r
	}
	if !any {
		return absent(key, "no cookie was set")
	}
	return passed(key, "cookies carry Secure")
}

func judgeHSTS(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E29-e"
	var first *kidoban.Exchange
	for _, x := range seen {
		if !strings.HasPrefix(x.Request.URL, "https://") || !sameOrigin(x.Request.URL, f.URL) {
			continue
		}
		if x.Header("Strict-Transport-Security") != "" {
			return passed(key, "HSTS is set", x)
		}
		if first == nil {
			first = x
		}
	}
	if first == nil {
		return unclear(key, kidoban.ReasonNetwork, "no answer over https")
	}
	return positive(key, kidoban.Confirmed, "no answer carries Strict-Transport-Security", first)
}

// judgeNoStore: answers that hold a secret must not be kept by caches (RFC 6749
// §5.1, RFC 7591 §3.2.1). Registrations are what a run without a login sees.
func judgeNoStore(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E31-b"
	var last *kidoban.Exchange
	for _, x := range seen {
		if x.Status() != 200 && x.Status() != 201 || !ofTarget(f, x) {
			continue
		}
		m := jsonObject(x.Response.Body)
		if m["registration_access_token"] == nil && m["client_secret"] == nil && m["access_token"] == nil {
			continue
		}
		last = x
		if !strings.Contains(strings.ToLower(strings.Join(x.Response.Header.Values("Cache-Control"), ",")), "no-store") {
			return positive(key, kidoban.Confirmed, "an answer with a secret is sent without Cache-Control: no-store", x)
		}
	}
	if last == nil {
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	}
	return passed(key, "answers with secrets carry no-store", last)
}

// judgeShared: does the endpoint itself answer from a cache that others share?
func judgeShared(f *Facts) kidoban.Result {
	const key = "E31-c"
	for _, x := range []*kidoban.Exchange{f.List, f.Discover, f.Init} {
		if x == nil || x.Response == nil {
			continue
		}
		if how := fromCache(x); how != "" {
			return positive(key, kidoban.Signal, "an answer of the endpoint comes from a shared cache ("+how+")", x)
		}
	}
	return passed(key, "no sign of a shared cache before the endpoint", f.List)
}

func fromCache(x *kidoban.Exchange) string {
	if age := strings.TrimSpace(x.Header("Age")); age != "" && age != "0" {
		return "Age"
	}
	for _, name := range []string{"X-Cache", "CF-Cache-Status", "X-Cache-Status", "X-Vercel-Cache", "X-Proxy-Cache"} {
		v := strings.ToUpper(x.Header(name))
		if strings.HasPrefix(v, "HIT") || strings.Contains(v, "HIT FROM") || strings.Contains(v, "TCP_HIT") {
			return name
		}
	}
	return ""
}
