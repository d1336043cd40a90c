package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

func textMember(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // what is no text is no value here
	return s
}

// judgeRegistrations judges what clients registered and what came back. Only
// what was asked for and given says anything: a client that asked for a loopback
// redirect says nothing about foreign ones.
func (t *traffic) judgeRegistrations() []kidoban.Result {
	keys := []string{"F1-a", "F1-b", "E13-a", "E13-b", "E13-c", "E14-a", "E14-c", "E17-c", "E18-a", "E18-b", "E20-g"}
	best := map[string]kidoban.Result{}
	say := func(r kidoban.Result) {
		if old, ok := best[r.Key()]; !ok || heavier(r, old) {
			best[r.Key()] = r
		}
	}
	for _, reg := range t.regs {
		if reg.Client == nil || reg.X.Request.Header.Get("Authorization") != "" {
			continue
		}
		m, x := &reg.Client.Meta, reg.X
		for _, uri := range reg.Client.Redirects {
			say(registeredURI(uri, x))
		}
		if low := strings.ToLower(m.ClientURI); strings.HasPrefix(low, "javascript:") || strings.HasPrefix(low, "data:") {
			say(positive("E14-a", kidoban.Signal, "a client_uri that is a script was kept", x))
		}
		if clean(m.ClientName) != m.ClientName && len(m.ClientName) <= 300 {
			say(positive("E14-c", kidoban.Signal, "a client name with invisible characters was kept", x))
		}
		if slices.ContainsFunc(strings.Fields(m.Scope), catchAll) {
			say(positive("E18-a", kidoban.Signal, "an anonymous registration got a catch-all scope", x))
		}
		for _, g := range m.GrantTypes {
			if g == "client_credentials" || g == "password" || g == "implicit" {
				say(positive("E18-b", kidoban.Signal, "an anonymous registration got the grant type "+g, x))
			}
		}
		if m.RegistrationClientURI != "" {
			if at := resolve(x.Request.URL, m.RegistrationClientURI); !sameOrigin(at, x.Request.URL) && !sameOrigin(at, t.f.AS.Issuer) {
				say(positive("E20-g", kidoban.Confirmed, "the registration_client_uri is on another origin than the server, which gets the access token to it", x))
			} else {
				say(passed("E20-g", "the registration_client_uri is on the server's origin", x))
			}
		}
	}
	// RFC 7591 has no member for the end of a public client: that it is missing says
	// nothing, and what a server says beyond it counts.
	if slices.ContainsFunc(t.f.registered, func(c *Client) bool { return c.Secret != "" || expiry(&c.Meta) != "" }) {
		say(judgeExpiry(t.f, attempt{}))
	}
	var out []kidoban.Result
	for _, k := range keys {
		if r, ok := best[k]; ok {
			out = append(out, r)
		}
	}
	return out
}

// registeredURI is the signal in one redirect URI that an anonymous request
// registered.
func registeredURI(uri string, x *kidoban.Exchange) kidoban.Result {
	scheme, _, _ := strings.Cut(strings.ToLower(uri), ":")
	switch {
	case scheme == "javascript" || scheme == "vbscript":
		return positive("E13-a", kidoban.Signal, "a redirect URI that is a script was registered", x)
	case scheme == "data":
		return positive("E13-b", kidoban.Signal, "a data: redirect URI was registered", x)
	case scheme == "http" && !isLoopbackURL(uri):
		return positive("F1-b", kidoban.Signal, "an anonymous request registered a plain http redirect URI on a foreign host", x)
	case scheme == "https" && !isLoopbackURL(uri):
		return positive("F1-a", kidoban.Signal, "an anonymous request registered an https redirect URI on "+hostOf(uri), x)
	case scheme != "http" && scheme != "https" && !strings.Contains(scheme, "."):
		return positive("E13-c", kidoban.Signal, "a redirect URI with a one-word scheme was registered", x)
	}
	return notShown("F1-a")
}

// judgeTokens judges the token endpoint's answers.
func (t *traffic) judgeTokens() []kidoban.Result {
	var out []kidoban.Result
	out = append(out, t.judgeReplays()...)
	best := map[string]kidoban.Result{}
	say := func(r kidoban.Result) {
		if old, ok := best[r.Key()]; !ok || heavier(r, old) {
			best[r.Key()] = r
		}
	}
	for _, a := range t.tokens {
		if !a.ok {
			continue
		}
		say(observedLifetime(a))
		say(observedExpiry(a))
		say(t.judgeGranted(a))
		for _, r := range t.judgeJWT(a) {
			say(r)
		}
	}
	for _, r := range best {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b kidoban.Result) int { return strings.Compare(a.Key(), b.Key()) })
	return append(out, t.judgePassedOn(), t.judgePasswordGrant())
}

// judgePasswordGrant is E26-c as observed: a password was taken at the token
// endpoint.
func (t *traffic) judgePasswordGrant() kidoban.Result {
	for _, a := range t.tokens {
		if a.p.Get("grant_type") == "password" && a.ok {
			return positive("E26-c", kidoban.Likely, "the token endpoint takes a person's password", a.x)
		}
	}
	return notShown("E26-c")
}

const day = 24 * 3600

func observedLifetime(a tokenAnswer) kidoban.Result {
	ttl := a.reply.ExpiresIn
	if j, ok := oauth.PeekJWT(a.reply.AccessToken); ok && !j.Encrypted && j.Expires > 0 && j.IssuedAt > 0 {
		ttl = max(ttl, j.Expires-j.IssuedAt)
	}
	switch {
	case ttl > day:
		return positive("E24-a", kidoban.Confirmed, "access tokens live longer than a day", a.x)
	case ttl > 3600:
		r := positive("E24-a", kidoban.Confirmed, "access tokens live longer than an hour", a.x)
		r.Severity = kidoban.Low
		return r
	case ttl > 0:
		return passed("E24-a", "access tokens live an hour at most", a.x)
	}
	return notShown("E24-a")
}

func observedExpiry(a tokenAnswer) kidoban.Result {
	if a.reply.ExpiresIn < 0 {
		return positive("E24-b", kidoban.Confirmed, "the token answer has no expires_in", a.x)
	}
	return passed("E24-b", "the token answer says when the token expires", a.x)
}

// judgeGranted is E30-c: more scope than was asked for.
func (t *traffic) judgeGranted(a tokenAnswer) kidoban.Result {
	const key = "E30-c"
	asked := a.p.Get("scope")
	for _, fl := range t.flows {
		if fl.token == a.x {
			asked = fl.params.Get("scope")
		}
	}
	if asked == "" {
		return notShown(key)
	}
	granted := a.reply.Scope
	if j, ok := oauth.PeekJWT(a.reply.AccessToken); ok && granted == "" {
		granted = j.Scope
	}
	if !oauth.IsSubset(strings.Fields(granted), strings.Fields(asked)) {
		return positive(key, kidoban.Confirmed, "the token carries more scope than was asked for", a.x)
	}
	return passed(key, "the token carries no more scope than was asked for", a.x)
}

// judgeReplays is F9-2, E22-1 and E22-7 as observed: a client, or somebody else,
// used a code or a refresh token twice and was answered twice.
func (t *traffic) judgeReplays() []kidoban.Result {
	code, old, rotated := notShown("F9-2"), notShown("E22-1"), notShown("E22-7")
	codes, fresh := map[string]*kidoban.Exchange{}, map[string]*kidoban.Exchange{}
	for _, a := range t.tokens {
		if c := a.p.Get("code"); c != "" {
			if first := codes[c]; first != nil && a.ok {
				code = positive("F9-2", kidoban.Confirmed, "one code gave tokens twice", first, a.x)
			} else if first != nil && code.Outcome != kidoban.Fail {
				code = passed("F9-2", "a code that was used before is refused", first, a.x)
			} else if a.ok {
				codes[c] = a.x
			}
		}
		rt := a.p.Get("refresh_token")
		if rt == "" {
			continue
		}
		public := a.p.Get("client_secret") == "" && a.x.Request.Header.Get("Authorization") == ""
		switch first := fresh[rt]; {
		case !a.ok:
			if first != nil {
				old = passed("E22-1", "a refresh token that was used before is refused", first, a.x)
			}
		case public && (a.reply.RefreshToken == "" || a.reply.RefreshToken == rt):
			rotated = positive("E22-7", kidoban.Confirmed, "a public client's refresh token is not rotated", a.x)
		case first != nil:
			old = positive("E22-1", kidoban.Confirmed, "a refresh token that was exchanged works again", first, a.x)
		case rotated.Outcome != kidoban.Fail && public:
			rotated = passed("E22-7", "refresh tokens are rotated", a.x)
			fresh[rt] = a.x
		}
	}
	return []kidoban.Result{code, old, rotated}
}

// judgeJWT reads tokens that can be read. A recorder's mask cannot.
func (t *traffic) judgeJWT(a tokenAnswer) []kidoban.Result {
	j, ok := oauth.PeekJWT(a.reply.AccessToken)
	if !ok || j.Encrypted {
		return nil
	}
	aud := passed("E05-c", "the token's audience is the resource", a.x)
	if !slices.ContainsFunc(j.Audience, func(s string) bool { return oauth.CompareResource(t.f.URL, s).Equivalent() || s == t.f.Resource }) {
		aud = positive("E05-c", kidoban.Confirmed, "the token's audience is not this resource", a.x)
	}
	alg := notShown("E24-c")
	if strings.EqualFold(j.Alg, "none") || len(j.Signature) == 0 {
		alg = positive("E24-c", kidoban.Confirmed, "access tokens are unsigned", a.x)
	} else if guessed := sampleSecret(a.reply.AccessToken, j); guessed {
		alg = positive("E24-c", kidoban.Confirmed, "access tokens are signed with a secret out of a guide", a.x)
	} else if !strings.HasPrefix(strings.ToUpper(j.Alg), "HS") {
		alg = passed("E24-c", "access tokens are signed with "+clean(j.Alg), a.x)
	}
	var lacks []string
	for _, c := range []struct {
		name string
		has  bool
	}{{"iss", j.Issuer != ""}, {"exp", j.Expires > 0}, {"aud", len(j.Audience) > 0}, {"sub", j.Subject != ""}} {
		if !c.has {
			lacks = append(lacks, c.name)
		}
	}
	claims := passed("E24-d", "access tokens carry iss, exp, aud and sub", a.x)
	if len(lacks) > 0 {
		claims = positive("E24-d", kidoban.Confirmed, "access tokens lack "+strings.Join(lacks, ", "), a.x)
	}
	typ := passed("E24-e", "the tokens' type is at+jwt", a.x)
	if low := strings.ToLower(j.Typ); low != "at+jwt" && low != "application/at+jwt" {
		typ = positive("E24-e", kidoban.Confirmed, "the tokens' type is not at+jwt", a.x)
	}
	return []kidoban.Result{aud, alg, claims, typ, personal(j, a.x)}
}

// sampleSecret tries the secrets that guides print on a token signed with HS256.
// Nothing is sent.
func sampleSecret(token string, j oauth.JWT) bool {
	i := strings.LastIndexByte(token, '.')
	if !strings.EqualFold(j.Alg, "HS256") || i < 0 {
		return false
	}
	for _, s := range append(sampleKeys(), "secret", "your-256-bit-secret", "jwt-secret", "jwt_secret", "supersecret", "super-secret", "my-secret", "mysecret", "secretkey", "secret-key", "dev", "development", "password", "key", "") {
		m := hmac.New(sha256.New, []byte(s))
		m.Write([]byte(token[:i]))
		if hmac.Equal(m.Sum(nil), j.Signature) {
			return true
		}
	}
	return false
}

// personal is E24-f: whoever sees the token reads more than who it is for.
func personal(j oauth.JWT, x *kidoban.Exchange) kidoban.Result {
	for _, m := range j.Claims.Members() {
		low := strings.ToLower(m.Name)
		switch low {
		case "email", "phone_number", "address", "birthdate", "name", "given_name", "family_name", "preferred_username":
			return positive("E24-f", kidoban.Confirmed, "access tokens carry personal data ("+low+")", x)
		}
		if strings.Contains(low, "access_token") || strings.Contains(low, "upstream") || strings.Contains(low, "idp_token") {
			return positive("E24-f", kidoban.Confirmed, "access tokens carry a token of another server ("+clean(low)+")", x)
		}
	}
	return passed("E24-f", "access tokens carry no personal data", x)
}

// judgePassedOn is E06-b: the token that a client got is used at another host, or
// has the form of a provider's own.
func (t *traffic) judgePassedOn() kidoban.Result {
	const key = "E06-b"
	mine := map[string]*kidoban.Exchange{}
	for _, a := range t.tokens {
		if a.ok {
			mine[a.reply.AccessToken] = a.x
			for _, p := range []string{"gho_", "ghu_", "ya29.", "xoxp-", "xoxb-", "EwA", "EAA"} {
				if strings.HasPrefix(a.reply.AccessToken, p) && t.f.L2 != nil {
					return positive(key, kidoban.Signal, "the token given to clients has the form of a provider's own ("+p+"…)", a.x)
				}
			}
		}
	}
	for _, x := range t.all {
		if tok, ok := strings.CutPrefix(x.Request.Header.Get("Authorization"), "Bearer "); ok && mine[tok] != nil && !t.ofServer(x) && x.Status() == 200 {
			return positive(key, kidoban.Likely, "the token given to a client was taken by "+hostOf(x.Request.URL), mine[tok], x)
		}
	}
	return notShown(key)
}
