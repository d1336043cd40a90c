package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
	"github.com/kidoban/kidoban/oauth"
)

// Observation judges traffic that somebody else made (tier T0): not one packet
// is sent. Exchanges come from files (ReadHAR, ReadBurp, ReadPCAP) or one by one
// from a recorder (Add), in the order in which they happened; Report judges what
// has been seen so far and may be called again.
//
// The way is the study's, without its two causes of false alarms: identify OAuth
// and MCP messages by what they carry, not by where they go; tell the layers by
// the callback (catalogue 5.6); bind request, callback and token by state and
// code, however late and over any number of hops; keep everything that is not
// part of the target's own flows apart; then judge.
//
// Memory is bounded: messages of interest are kept, at most keepOAuth and
// keepMCP of them. Not safe for concurrent use.
type Observation struct {
	number     int                 // exchanges seen
	unreadable int                 // entries without request
	kept       []*kidoban.Exchange // of interest, in order
	calls      int                 // of kept: answered MCP calls
	dropped    int                 // OAuth messages beyond the bound
	size       int
	awaited    map[string]bool // Locations of kept exchanges: the next hops
	origins    map[string]bool // of authorization and MCP endpoints
	notes      []string
	keys       *keylog.Log // of captures; nil without
}

// Bounds of an observation.
const (
	keepOAuth = 20000
	keepMCP   = 1000
	keepBytes = 64 << 20
)

// Observe starts an observation.
func Observe() *Observation {
	return &Observation{awaited: map[string]bool{}, origins: map[string]bool{}}
}

// Add observes one exchange. It is not copied; the caller lets it be. An ID of 0
// is numbered.
func (o *Observation) Add(x *kidoban.Exchange) {
	o.number++
	if x.ID == 0 {
		x.ID = o.number
	}
	if o.wanted(x) {
		o.add(x)
	}
}

// Seen returns how many exchanges were read, and how many of them are part of
// the story.
func (o *Observation) Seen() (all, kept int) { return o.number, len(o.kept) }

// Notes are sentences about what could not be read. Not empty means that the
// observation is partial.
func (o *Observation) Notes() []string { return slices.Clone(o.notes) }

func (o *Observation) partial(format string, args ...any) {
	if len(o.notes) < 20 {
		o.notes = append(o.notes, fmt.Sprintf(format, args...))
	}
}

// wanted decides from the heads and the request whether an exchange matters.
func (o *Observation) wanted(x *kidoban.Exchange) bool {
	u := x.Request.URL
	switch {
	case o.awaited[u]:
		return true
	case strings.Contains(u, "/.well-known/") && (strings.Contains(u, "oauth-") || strings.Contains(u, "openid-configuration")):
		return true
	case isMCP(x):
		return true
	}
	if kindOfMessage(x) != notOAuth {
		return true
	}
	if x.Response == nil {
		return false
	}
	if loc := x.Header("Location"); loc != "" && oauthURL(loc) {
		return true
	}
	return o.origins[originOf(u)] && (x.Request.Method != "GET" || strings.Contains(mediaType(x), "html") || x.Header("Location") != "" || x.Status() == 401)
}

func (o *Observation) add(x *kidoban.Exchange) {
	n := len(x.Request.Body)
	if x.Response != nil {
		n += len(x.Response.Body)
	}
	kind := kindOfMessage(x)
	routine := kind == notOAuth && isMCP(x) && x.Status() == 200 && hasCredential(x)
	if routine {
		o.calls++
	}
	if len(o.kept) >= keepOAuth || o.size+n > keepBytes || routine && o.calls > keepMCP {
		if !routine {
			o.dropped++
		}
		return
	}
	o.size += n
	o.kept = append(o.kept, x)
	if (kind == askAuthorization || kind == askToken || kind == askRegistration || isMCP(x)) && len(o.origins) < 1000 {
		o.origins[originOf(x.Request.URL)] = true
	}
	if loc := x.Header("Location"); loc != "" && len(o.awaited) < keepOAuth {
		o.awaited[resolve(x.Request.URL, loc)] = true
	}
}

// messageKind is one of OAuth's kinds of messages, by what a request carries.
type messageKind int

const (
	notOAuth messageKind = iota
	askAuthorization
	askPushed // RFC 9126
	askToken
	askRegistration
	isCallback
)

// canonical maps the spellings in use to the names of the RFCs. The study missed
// one flaw because a server called its parameters otherwise.
func canonical(name string) string {
	switch plain := strings.Map(func(r rune) rune {
		switch {
		case r == '_' || r == '-' || r == '.':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, name); plain {
	case "clientid", "appid", "applicationid", "consumerkey":
		return "client_id"
	case "redirecturi", "redirecturl", "callbackurl", "callbackuri", "returnurl", "returnuri":
		return "redirect_uri"
	case "codechallenge", "pkcechallenge", "challenge":
		return "code_challenge"
	case "codechallengemethod", "pkcemethod", "challengemethod", "pkcechallengemethod":
		return "code_challenge_method"
	case "codeverifier", "pkceverifier", "verifier":
		return "code_verifier"
	case "responsetype":
		return "response_type"
	case "granttype":
		return "grant_type"
	case "code", "authcode", "authorizationcode":
		return "code"
	case "refreshtoken":
		return "refresh_token"
	case "requesturi":
		return "request_uri"
	}
	return name
}

// paramsOf reads the parameters of a request: its query, and a form or JSON body.
func paramsOf(x *kidoban.Exchange) url.Values {
	out := url.Values{}
	take := func(v url.Values) {
		for k, vs := range v {
			out[canonical(k)] = append(out[canonical(k)], vs...)
		}
	}
	if _, q, ok := strings.Cut(x.Request.URL, "?"); ok {
		q, _, _ = strings.Cut(q, "#")
		v, _ := url.ParseQuery(q) // what can be read of it counts
		take(v)
	}
	take(bodyParams(x))
	return out
}

func bodyParams(x *kidoban.Exchange) url.Values {
	b := bytes.TrimSpace(x.Request.Body)
	if len(b) == 0 || len(b) > observeBody {
		return nil
	}
	if b[0] == '{' {
		out := url.Values{}
		for k, raw := range jsonObject(b) {
			var s string
			if json.Unmarshal(raw, &s) == nil {
				out.Set(k, s)
			} else if k == "redirect_uris" || k == "redirectUris" {
				out.Set("redirect_uris", string(raw))
			}
		}
		return out
	}
	if b[0] == '<' || bytes.IndexByte(b, '=') < 0 {
		return nil
	}
	v, _ := url.ParseQuery(string(b))
	return v
}

// formOf writes pairs as a form.
func formOf(f kidoban.Fields) string {
	var p params
	for _, h := range f {
		p = append(p, param{h.Name, h.Value})
	}
	return p.encode()
}

func kindOfMessage(x *kidoban.Exchange) messageKind {
	if strings.IndexByte(x.Request.URL, '?') < 0 && len(x.Request.Body) == 0 || isMCP(x) {
		return notOAuth
	}
	return kindOfParams(paramsOf(x), x.Request.Method == "POST")
}

func kindOfParams(p url.Values, post bool) messageKind {
	has := func(names ...string) bool {
		for _, n := range names {
			if p.Get(n) == "" {
				return false
			}
		}
		return true
	}
	switch {
	case post && (has("grant_type") || has("code", "code_verifier") || has("code", "client_id") || has("code", "redirect_uri")):
		return askToken
	case post && p.Has("redirect_uris"):
		return askRegistration
	case has("client_id") && (has("response_type") || has("redirect_uri") || has("request_uri") || has("request")):
		if post {
			return askPushed
		}
		return askAuthorization
	case has("code") && (has("state") || has("iss")), has("error") && has("state"):
		return isCallback
	}
	return notOAuth
}

// oauthURL tells whether an address carries an authorization request or answer.
func oauthURL(raw string) bool {
	bare, frag, _ := strings.Cut(raw, "#")
	_, q, _ := strings.Cut(bare, "?")
	if q == "" {
		q = frag
	}
	if q == "" {
		return false
	}
	v, _ := url.ParseQuery(q)
	p := url.Values{}
	for k, vs := range v {
		p[canonical(k)] = vs
	}
	return kindOfParams(p, false) != notOAuth || p.Get("code") != "" || p.Get("access_token") != ""
}

// isMCP tells an MCP message: JSON-RPC, or the protocol's own headers.
func isMCP(x *kidoban.Exchange) bool {
	if x.Request.Header.Get("Mcp-Session-Id") != "" || x.Request.Header.Get("Mcp-Protocol-Version") != "" && !strings.Contains(x.Request.URL, "/.well-known/") {
		return true
	}
	if x.Request.Method != "POST" || len(x.Request.Body) == 0 {
		return false
	}
	b := head(x.Request.Body, 4096)
	return bytes.Contains(b, []byte(`"jsonrpc"`)) && bytes.Contains(b, []byte(`"method"`)) || bytes.Contains(b, []byte(`"jsonrpc"`)) && bytes.Contains(b, []byte(`"result"`))
}

// hasCredential tells whether a request proves who asks.
func hasCredential(x *kidoban.Exchange) bool {
	h := x.Request.Header
	if h.Get("Authorization") != "" || h.Get("Cookie") != "" || h.Get("X-Api-Key") != "" || h.Get("Api-Key") != "" {
		return true
	}
	return len(secretsIn(x.Request.URL, tokenNames())) > 0
}

// layerOf sorts a redirect URI by whose callback it is: 1 for MCP clients, cloud
// clients included, 2 for the server's own towards an upstream.
func layerOf(redirect, target, issuer string) int {
	return oauth.ClassifyCallback(redirect, target, issuer).Layer()
}
