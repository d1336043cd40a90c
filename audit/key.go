package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// Key is a credential of the tester's own for the target: a static key, or a token
// got elsewhere, where a login is not possible. What needs nothing but a good token
// is tested with it. It goes to the target's origin and nowhere else, and no trace
// of it stays in the run.
type Key struct {
	header string // "Authorization", "X-Api-Key"
	scheme string // what stands before the value, "Bearer"; "" for nothing
	value  string
}

// The bounds of a key. A shorter one could not be told from other text, and so not
// be kept out of the evidence.
const (
	minKey = 8
	maxKey = 16 << 10
)

// NewKey is the key that a header of the given name carries as value: for
// Authorization with its scheme, as in "Bearer abc". Errors are KindUsage and do not
// repeat the value.
func NewKey(header, value string) (*Key, error) {
	if header == "" || strings.ContainsFunc(header, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "a header for a key has a name of letters, digits and hyphens, for example X-Api-Key")
	}
	for _, own := range []string{"Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Accept", "Origin", "Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"} {
		if strings.EqualFold(header, own) {
			return nil, kidoban.Errorf(kidoban.KindUsage, "%s is a header of the requests themselves; name the one that carries the key", own)
		}
	}
	k := &Key{header: header, value: strings.TrimSpace(value)}
	if scheme, rest, ok := strings.Cut(k.value, " "); ok && strings.EqualFold(header, "Authorization") {
		k.scheme, k.value = scheme, strings.TrimLeft(rest, " ")
	}
	switch {
	case len(k.value) < minKey:
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key for %s is shorter than %d characters: it could not be kept out of the report", header, minKey)
	case len(k.value) > maxKey:
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key for %s is longer than %d characters", header, maxKey)
	case strings.ContainsFunc(k.value, func(r rune) bool { return r < ' ' || r >= 0x7f }):
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key for %s holds a line break or another character that no header may hold", header)
	}
	return k, nil
}

// with is the header field that carries a value in the place of the key's.
func (k *Key) with(value string) kidoban.Field {
	if k.scheme != "" {
		value = k.scheme + " " + value
	}
	return kidoban.Field{Name: k.header, Value: value}
}

// param is the query parameter in which such a key is wrongly sent.
func (k *Key) param() string {
	if k == nil || strings.EqualFold(k.scheme, "Bearer") {
		return "access_token"
	}
	return "api_key"
}

// bind gives a request that carries the key the only origin that may see it; the
// way out refuses any other.
func (k *Key) bind(r outbound.Req, target string) outbound.Req {
	if k == nil {
		return r
	}
	carries := outbound.Without(r.URL+" "+r.Target+" "+string(r.Body), k.value) != r.URL+" "+r.Target+" "+string(r.Body)
	for _, h := range r.Header {
		carries = carries || strings.Contains(h.Value, k.value)
	}
	if carries {
		r.Credential, r.CredentialOrigin = true, target
	}
	return r
}

// keyed tells whether the run was handed a key.
func (o *Options) keyed() bool { return o.Key != nil && o.has(kidoban.T3) }

// shows is how the endpoint is shown a token: in the header of the key that was
// handed over, else as a bearer token.
func (s *session) shows(token string) kidoban.Field {
	if s.o.Key != nil {
		return s.o.Key.with(token)
	}
	return kidoban.Field{Name: "Authorization", Value: "Bearer " + token}
}

// admission is a token to enter the endpoint with: the one that was handed over, or
// one of a fresh grant. Without one, the result says why, for check key.
func (s *session) admission(ctx context.Context, key, tag, note string) (*tokens, kidoban.Result) {
	if s.o.keyed() {
		return &tokens{Access: s.o.Key.value, Expires: -1}, kidoban.Result{}
	}
	if s.facts.Client == nil {
		return nil, untested(key, kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
	}
	t, w := s.grantTokens(ctx, tag, note, s.facts.Client, nil)
	switch {
	case t == nil:
		return nil, w.noCode(key)
	case !t.issued():
		return nil, unclear(key, kidoban.ReasonUnstable, "the server gives no tokens for a genuine code", t.x)
	}
	return t, kidoban.Result{}
}

// conceal takes the key out of a text of the report: servers repeat what they refuse.
func (s *session) conceal(text string) string {
	if s.o == nil || s.o.Key == nil { // recorded traffic has no options
		return text
	}
	return outbound.Without(text, s.o.Key.value)
}

// concealIn takes the key out of what a report holds beside its results: a server that
// was shown the key once may put it into anything.
func (s *session) concealIn(r *kidoban.Run) {
	t := &r.Target
	texts := []*string{&t.Issuer}
	for _, list := range [][]string{t.Versions, t.Upstreams, r.Meta.Hosts} {
		for i := range list {
			texts = append(texts, &list[i])
		}
	}
	for i := range r.Residue.LeftBehind {
		left := &r.Residue.LeftBehind[i]
		texts = append(texts, &left.Issuer, &left.ClientID, &left.Reason, &left.Expires)
	}
	for i := range r.Meta.Metadata {
		texts = append(texts, &r.Meta.Metadata[i].URL, &r.Meta.Metadata[i].Body)
	}
	for _, text := range texts {
		*text = s.conceal(*text)
	}
}

// withKey are the checks of tier T3 that need a good token and nothing of how it was
// got.
func withKey(key string) bool {
	switch key {
	case "E04-j", "E05-c", "E07-2", "E08-a", "E08-b", "E08-c", "E08-d", "E23-a", "E24-c", "E24-d", "E24-e", "E24-f", "E31-a", "E33-e", "E35-a", "E35-b":
		return true
	}
	return false
}
