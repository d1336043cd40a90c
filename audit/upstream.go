package audit

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban/outbound"
)

// L2 is one request of the server under test to its upstream, as it passes
// through the browser (catalogue 5.6).
type L2 struct {
	URL         string
	Upstream    string // origin and path of the upstream's authorization endpoint
	ClientID    string
	RedirectURI string // the server's own callback
	State       string
	HasState    bool
	Challenge   string
	Method      string
	Nonce       string
	Scope       string
	Hidden      bool // PAR or a signed request: the contents cannot be seen
	Trail       *Trail
	jar         *outbound.Jar
	sent        authRequest // the request of ours that led here
}

// Upstreams are the samples of a run.
type Upstreams struct {
	Samples []L2
	// Delegated tells delegated authorization (scopes of the upstream's own) from
	// a federated login (openid, profile, email only). The study counts the first.
	Delegated bool
}

// names returns the upstreams' endpoints, sorted, each once.
func (u *Upstreams) names() []string {
	out := []string{}
	for _, s := range u.Samples {
		if !slices.Contains(out, s.Upstream) {
			out = append(out, s.Upstream)
		}
	}
	slices.Sort(out)
	return out
}

// readL2 reads the upstream request that ends a trail.
func readL2(t *Trail, jar *outbound.Jar, sent authRequest) (L2, bool) {
	if t == nil || t.Kind != Upstream {
		return L2{}, false
	}
	u, err := url.Parse(t.At)
	if err != nil {
		return L2{}, false
	}
	q := t.Params
	l := L2{URL: t.At, Upstream: u.Scheme + "://" + u.Host + u.Path, ClientID: q.Get("client_id"), RedirectURI: q.Get("redirect_uri"), State: q.Get("state"),
		HasState: q.Has("state") && q.Get("state") != "", Challenge: q.Get("code_challenge"), Method: q.Get("code_challenge_method"),
		Nonce: q.Get("nonce"), Scope: q.Get("scope"), Trail: t, jar: jar, sent: sent}
	l.Hidden = q.Get("request_uri") != "" || q.Get("request") != ""
	return l, l.ClientID != ""
}

// delegated tells whether the scopes ask for more than who the person is.
func (l L2) delegated() bool {
	for _, s := range strings.Fields(l.Scope) {
		switch s {
		case "openid", "email", "profile", "offline_access":
		default:
			return true
		}
	}
	return false
}

// layer is one decoding of a state that gave something readable.
type layer struct {
	how    string // raw, base64, url, json, jwt, zlib
	text   string
	signed bool // a signature or MAC part stands beside it
}

// Unnest decodes a state in the ways that servers nest routing data: base64,
// URL-encoding, JSON, JWT payload, zlib, at most three layers deep.
func unnest(state string) []layer {
	return unnestAt(state, false, 3)
}

func unnestAt(s string, signed bool, depth int) []layer {
	if depth == 0 || s == "" || len(s) > 16<<10 {
		return nil
	}
	var out []layer
	if head, payload, sig, ok := jwtParts(s); ok {
		return append([]layer{{"jwt", payload, sig != "" && !strings.EqualFold(algOf(head), "none")}}, unnestAt(payload, sig != "", depth-1)...)
	}
	// data.signature, as itsdangerous and many others write it
	if i := strings.LastIndexAny(s, ".|"); i > 0 && macLike(s[i+1:]) {
		if d, ok := unbase64(s[:i]); ok {
			return append([]layer{{"base64", d, true}}, unnestAt(d, true, depth-1)...)
		}
	}
	if d, ok := unbase64(s); ok {
		out = append(out, layer{"base64", d, signed})
		return append(out, unnestAt(d, signed, depth-1)...)
	}
	if d, err := url.QueryUnescape(s); err == nil && d != s {
		return append([]layer{{"url", d, signed}}, unnestAt(d, signed, depth-1)...)
	}
	if json.Valid([]byte(s)) && s[0] == '{' {
		return []layer{{"json", s, signed || hasMAC(s)}}
	}
	if strings.Contains(s, "://") {
		return []layer{{"raw", s, signed}}
	}
	return nil
}

// hasMAC tells whether a JSON object carries a member that looks like a MAC.
func hasMAC(s string) bool {
	for k, v := range jsonObject([]byte(s)) {
		low := strings.ToLower(k)
		var text string
		if (strings.Contains(low, "sig") || strings.Contains(low, "mac") || low == "hash" || low == "hmac") && json.Unmarshal(v, &text) == nil && macLike(text) {
			return true
		}
	}
	return false
}

// macLike tells whether s could be a MAC or signature: 16 to 512 random bytes.
func macLike(s string) bool {
	if len(s) < 22 || len(s) > 700 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isWord(s[i]) && s[i] != '+' && s[i] != '/' {
			return false
		}
	}
	return entropy(s) >= 3
}

func jwtParts(s string) (head, payload, sig string, ok bool) {
	p := strings.Split(s, ".")
	if len(p) != 3 {
		return "", "", "", false
	}
	h, ok1 := unbase64(p[0])
	b, ok2 := unbase64(p[1])
	if !ok1 || !ok2 || !json.Valid([]byte(h)) || !json.Valid([]byte(b)) {
		return "", "", "", false
	}
	return h, b, p[2], true
}

func algOf(head string) string {
	var h struct{ Alg string }
	_ = json.Unmarshal([]byte(head), &h) // an unreadable header has no algorithm
	return h.Alg
}

// unbase64 decodes base64 in any alphabet when the result is readable text, or
// unpacks to it.
func unbase64(s string) (string, bool) {
	t := strings.TrimRight(s, "=")
	if len(t) < 8 {
		return "", false
	}
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		b, err := enc.DecodeString(t)
		if err != nil {
			continue
		}
		if readable(b) {
			return string(b), true
		}
		for _, open := range []func(io.Reader) (io.ReadCloser, error){zlib.NewReader, func(r io.Reader) (io.ReadCloser, error) { return flate.NewReader(r), nil }} {
			if r, err := open(bytes.NewReader(b)); err == nil {
				u, err := io.ReadAll(io.LimitReader(r, 64<<10))
				r.Close()
				if err == nil && len(u) > 0 && readable(u) {
					return string(u), true
				}
			}
		}
	}
	return "", false
}

func readable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}

func entropy(s string) float64 {
	var n [256]int
	for i := 0; i < len(s); i++ {
		n[s[i]]++
	}
	var e float64
	for _, c := range n {
		if c > 0 {
			p := float64(c) / float64(len(s))
			e -= p * math.Log2(p)
		}
	}
	return e
}

// routing says what routing data of ours a state carries: our redirect URI, our
// client id, our challenge, or any URL. "" for none.
func routing(state string, sent authRequest) (what string, signed bool) {
	for _, l := range unnest(state) {
		for _, w := range []struct{ name, value string }{
			{"the client's redirect URI", sent.Registered}, {"the client_id", sent.Params.get("client_id")}, {"the code_challenge", sent.Params.get("code_challenge")},
		} {
			if w.value != "" && (strings.Contains(l.text, w.value) || strings.Contains(l.text, strings.ReplaceAll(w.value, "/", `\/`)) || strings.Contains(l.text, url.QueryEscape(w.value))) {
				return w.name, l.signed
			}
		}
		if strings.Contains(l.text, "://") {
			return "a URL", l.signed
		}
	}
	return "", false
}

// retarget rewrites the redirect URI inside a state to another one and encodes
// the state again in the same way. ok is false when the state does not carry it
// in a form we can rewrite.
func retarget(state, from, to string) (string, bool) {
	swap := func(s string) (string, bool) {
		for _, esc := range []func(string) string{func(x string) string { return x }, func(x string) string { return strings.ReplaceAll(x, "/", `\/`) }, url.QueryEscape} {
			if strings.Contains(s, esc(from)) {
				return strings.ReplaceAll(s, esc(from), esc(to)), true
			}
		}
		return s, false
	}
	if head, payload, sig, ok := jwtParts(state); ok {
		if p, ok := swap(payload); ok {
			_ = head
			return strings.Split(state, ".")[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(p)) + "." + sig, true
		}
	}
	body, tail := state, ""
	if i := strings.LastIndexAny(state, ".|"); i > 0 && macLike(state[i+1:]) {
		body, tail = state[:i], state[i:]
	}
	if d, ok := unbase64(body); ok {
		if p, ok := swap(d); ok {
			return rebase64(body, p) + tail, true
		}
		if in, ok := retarget(d, from, to); ok { // one more layer inside
			return rebase64(body, in) + tail, true
		}
	}
	if d, err := url.QueryUnescape(state); err == nil && d != state {
		if p, ok := swap(d); ok {
			return url.QueryEscape(p), true
		}
	}
	return swap(state)
}

// rebase64 encodes text in the alphabet and padding that like was written in.
func rebase64(like, text string) string {
	enc := base64.URLEncoding
	if strings.ContainsAny(like, "+/") {
		enc = base64.StdEncoding
	}
	if !strings.HasSuffix(like, "=") {
		enc = enc.WithPadding(base64.NoPadding)
	}
	return enc.EncodeToString([]byte(text))
}

// unsigned turns a signed JWT state into one that claims no algorithm, keeping
// the payload.
func unsigned(state string) (string, bool) {
	p := strings.Split(state, ".")
	if len(p) != 3 {
		return "", false
	}
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + p[1] + ".", true
}
