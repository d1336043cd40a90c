package audit

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/wire"
)

// NormalizeTarget checks and canonicalises the URL of an MCP server: https, or
// http on loopback in a lab; a host; no user, fragment or control characters.
// A missing scheme is read as https, on loopback in a lab as http. Errors are KindUsage and say what to type.
func NormalizeTarget(raw string, lab bool) (string, error) {
	raw = strings.TrimSpace(raw)
	if raw == "" || len(raw) > 4096 {
		return "", kidoban.Errorf(kidoban.KindUsage, "give the URL of an MCP server, for example https://mcp.example.com/mcp")
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] <= ' ' || raw[i] == 0x7f || raw[i] == '\\' {
			return "", kidoban.Errorf(kidoban.KindUsage, "the URL holds a space, a backslash or a control character")
		}
	}
	if !strings.Contains(raw, "://") {
		scheme := "https://"
		if lab && isLoopbackURL(scheme+raw) {
			scheme = "http://"
		}
		raw = scheme + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", kidoban.Errorf(kidoban.KindUsage, "this is no URL of a server: write it as https://host/path")
	case u.User != nil:
		return "", kidoban.Errorf(kidoban.KindUsage, "the URL holds a user name; credentials do not belong into URLs")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", kidoban.Errorf(kidoban.KindUsage, "the scheme %q is not http or https", u.Scheme)
	case u.Scheme == "http" && !isLoopbackURL(raw):
		return "", kidoban.Errorf(kidoban.KindUsage, "plain http is audited on loopback only (with --lab); write https://%s", u.Host+u.RequestURI())
	case !lab && isLoopbackURL(raw):
		return "", kidoban.Errorf(kidoban.KindUsage, "this is a server on your own machine: add --lab, which allows loopback addresses and plain http")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// discover finds out what is there: the era, what answers without credentials,
// and where authorization lives. It needs about six requests.
func (s *session) discover(ctx context.Context) {
	f := s.facts
	s.handshake(ctx)
	f.Headline, f.Detail = f.headline()
	if f.Headline == kidoban.HeadlineMoved || f.Headline == kidoban.HeadlineUnreachable {
		return
	}
	s.metadata(ctx)
	f.Headline, f.Detail = f.headline()
}

// handshake asks modern first, then legacy, then the two-endpoint transport
// (streamable HTTP, Backward Compatibility). 401 and 403 are answers.
// tools/list is always asked, whether or not a session id came.
func (s *session) handshake(ctx context.Context) {
	f := s.facts
	f.Discover = s.patiently(ctx, func() *kidoban.Exchange {
		return s.rpc(ctx, "discover", "server/discover", call{Method: "server/discover", Version: wire.LatestModern})
	})
	if f.Discover.Response == nil {
		return
	}
	if loc := f.Discover.Header("Location"); loc != "" && f.Discover.Status() >= 300 && f.Discover.Status() < 400 {
		f.MovedTo = resolve(f.URL, loc)
		return
	}
	s.modernAnswer(ReplyOf(f.Discover))
	if !f.Modern || f.refusal() {
		f.Init = s.patiently(ctx, func() *kidoban.Exchange {
			return s.rpc(ctx, "discover", "initialize", call{Method: "initialize", Version: wire.LatestLegacy, Params: map[string]any{
				"protocolVersion": wire.LatestLegacy, "capabilities": map[string]any{}, "clientInfo": clientInfo()}})
		})
		s.legacyAnswer(ctx, ReplyOf(f.Init))
	}
	f.List = s.patiently(ctx, func() *kidoban.Exchange { return s.rpc(ctx, "discover", "tools/list", call{Method: "tools/list"}) })
	f.Tools, f.Open = ReplyOf(f.List).tools()
	if f.Open && !f.Modern && !f.Legacy { // it speaks, though it takes no handshake
		f.Modern, f.Versions = true, []string{wire.LatestModern}
	}
	s.refusals()
	if !f.Modern && !f.Legacy && f.Refused == nil {
		s.oldTransport(ctx)
	}
	if f.Tools > 0 {
		s.morePages(ctx)
	}
}

// patiently sends a request of the discovery, which everything else rests on, once
// more where a limit, an outage or a line that broke off stood in for the answer.
// A wait that the server names is kept up to ten seconds. A census has its own
// patience.
func (s *session) patiently(ctx context.Context, send func() *kidoban.Exchange) *kidoban.Exchange {
	x := send()
	broke := x.Response == nil && x.ErrKind == kidoban.KindUnreachable
	if !s.stubborn || !broke && !rateLimited(x) && !outage(x) || s.left() == 0 {
		return x
	}
	if n, err := strconv.Atoi(x.Header("Retry-After")); err == nil && n > 0 && !s.o.Lab && s.o.Wait(ctx, time.Duration(min(n, 10))*time.Second) != nil {
		return x
	}
	return send()
}

// refusal tells whether server/discover was refused for lack of credentials:
// then the era is unknown and the other one is asked too.
func (f *Facts) refusal() bool {
	st := f.Discover.Status()
	return st == 401 || st == 403
}

func (s *session) modernAnswer(r Reply) {
	f := s.facts
	switch {
	case r.ok():
		f.Modern, f.Greets = true, true
		f.Versions = stringsOf(r.Result, "supportedVersions", "protocolVersions", "versions")
		f.Software = software(r.Result)
	case r.IsError && wire.IsModernCode(r.Code):
		f.Modern = true
		f.Versions = stringsOf(r.Data, "supported")
	}
	modern := len(f.Versions) == 0
	for _, v := range f.Versions {
		era, known := wire.EraOf(v)
		f.Legacy = f.Legacy || known && era == wire.Legacy // it says so; its handshake was not needed
		modern = modern || era == wire.Modern
	}
	if !modern { // it answers the question, to say that it knows the session era only
		f.Modern, f.Legacy = false, false
		return
	}
	if f.Modern && len(f.Versions) == 0 {
		f.Versions = []string{wire.LatestModern}
	}
}

func (s *session) legacyAnswer(ctx context.Context, r Reply) {
	f := s.facts
	if !r.ok() {
		return
	}
	v := wire.LookupString(r.Result, "protocolVersion")
	if v == "" || len(v) > 32 {
		return
	}
	f.Legacy, f.Greets = true, true
	if !slices.Contains(f.Versions, v) {
		f.Versions = append(f.Versions, v)
	}
	if f.Software == "" {
		f.Software = software(r.Result)
	}
	if id := f.Init.Header("Mcp-Session-Id"); id != "" && len(id) <= 1024 {
		f.Session = id
		s.opened[id] = true
		s.reserve++ // it is ended at last
	}
	s.rpc(ctx, "discover", "initialized", call{Method: "notifications/initialized", Version: v})
}

// refusals notes the first refusal for lack of credentials and its challenges.
func (s *session) refusals() {
	f := s.facts
	for _, x := range []*kidoban.Exchange{f.List, f.Discover, f.Init} {
		if st := x.Status(); st == 401 || st == 403 && !challenged(x) || ReplyOf(x).authWording() {
			if f.Refused == nil || f.Refused.Status() != 401 && st == 401 {
				f.Refused = x
			}
		}
	}
	if f.Refused != nil {
		f.Asks = oauth.ParseChallenges(f.Refused.Response.Header.Values("WWW-Authenticate"))
	}
}

// oldTransport looks for the event stream of 2024-11-05, which announces its
// message endpoint in its first event.
func (s *session) oldTransport(ctx context.Context) {
	f := s.facts
	r := s.overStream(ctx, "discover", "tools/list over the event stream", call{Method: "tools/list"})
	x := r.stream
	if st := x.Status(); st == 401 || st == 403 && !challenged(x) {
		f.SSE, f.Refused = true, x
		f.Asks = oauth.ParseChallenges(x.Response.Header.Values("WWW-Authenticate"))
		return
	}
	if r.post == "" || mediaType(x) != "text/event-stream" {
		return
	}
	f.SSE, f.Legacy, f.Greets = true, true, true
	f.Versions = []string{wire.Rev20241105}
	f.Stream, f.StreamID, f.List = x, r.sid, r.last()
	f.Tools, f.Open = r.reply.tools()
	s.refusals()
}

// morePages follows the cursors of tools/list, at most eight, no cursor twice.
func (s *session) morePages(ctx context.Context) {
	f := s.facts
	seen := map[string]bool{}
	for x := f.List; len(seen) < 8; {
		cursor := wire.LookupString(ReplyOf(x).Result, "nextCursor")
		if cursor == "" || seen[cursor] {
			return
		}
		seen[cursor] = true
		x = s.rpc(ctx, "discover", "tools/list, next page", call{Method: "tools/list", Params: map[string]any{"cursor": cursor}})
		n, listed := ReplyOf(x).tools()
		if !listed {
			return
		}
		f.Tools += n
	}
}

func stringsOf(raw wire.Raw, names ...string) []string {
	var out []string
	for _, n := range names {
		v, ok := wire.Lookup(raw, n)
		if !ok {
			continue
		}
		wire.Elements(v, func(e wire.Raw) bool {
			if s, ok := wire.String(e); ok && len(s) <= 32 {
				out = append(out, s)
			}
			return len(out) < 16
		})
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func software(result wire.Raw) string {
	info, ok := wire.Lookup(result, "serverInfo")
	if !ok {
		meta, _ := wire.Lookup(result, "_meta")
		info, _ = wire.Lookup(meta, "io.modelcontextprotocol/serverInfo")
	}
	name, version := wire.LookupString(info, "name"), wire.LookupString(info, "version")
	s := strings.TrimSpace(name + " " + version)
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
