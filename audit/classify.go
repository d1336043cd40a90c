package audit

import (
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// Class is what a census counts a server as (catalogue 5.8).
type Class string

// The classes.
const (
	NoAuthFull    Class = "noauth_full" // tools/list and a call answer to anyone
	NoAuthList    Class = "noauth_list" // tools/list answers to anyone; calling was not tested
	HandshakeOnly Class = "handshake_only"
	OAuth         Class = "oauth"
	Static        Class = "static" // refused, and no OAuth metadata anywhere
	OtherAuth     Class = "other_auth"
	NotMCP        Class = "not_mcp"
	Dead          Class = "dead"
	Unstable      Class = "unstable"
)

// Classification is a class with its sub-flags, sorted.
type Classification struct {
	Class  Class
	Flags  []string // dcr, cimd, prereg_only, prm, as_same_origin
	Header string   // for static: the header that the server names, if any
}

// Classify decides the class from facts alone.
func Classify(f *Facts) Classification {
	switch f.Headline {
	case kidoban.HeadlineMoved, kidoban.HeadlineNotMCP, kidoban.HeadlineUnreachable, "":
		if f.Headline == kidoban.HeadlineUnreachable && (f.Discover == nil || f.Discover.Response == nil) {
			return Classification{Class: Dead}
		}
		if x := f.Discover; x != nil && x.Response != nil && (x.Status() == 402 || challenged(x)) {
			return Classification{Class: OtherAuth} // payment or a firewall: what is behind cannot be seen
		}
		if f.Headline == kidoban.HeadlineUnreachable {
			return Classification{Class: Unstable} // outages and failures: what is behind cannot be told
		}
		return Classification{Class: NotMCP}
	}
	if f.Open {
		return Classification{Class: NoAuthList, Flags: f.authFlags()}
	}
	if f.AS != nil || f.PRM != nil {
		return Classification{Class: OAuth, Flags: f.authFlags()}
	}
	if f.Refused == nil {
		if f.Greets {
			return Classification{Class: HandshakeOnly}
		}
		return Classification{Class: Unstable}
	}
	if other(f) {
		return Classification{Class: OtherAuth}
	}
	if f.Greets {
		return Classification{Class: HandshakeOnly}
	}
	return Classification{Class: Static, Header: keyHeader(f)}
}

// other tells whether the refusal is of another kind than a token: Basic,
// payment, a client certificate, a firewall.
func other(f *Facts) bool {
	if f.Refused.Status() == 402 || challenged(f.Refused) || rateLimited(f.Refused) {
		return true
	}
	bearer := len(f.Asks) == 0
	for _, c := range f.Asks {
		if c.Is("Bearer") || c.Is("DPoP") || c.Is("ApiKey") {
			bearer = true
		}
	}
	return !bearer
}

// keyHeader finds the header that a static-key server names in its refusal.
func keyHeader(f *Facts) string {
	if f.Refused.Response == nil {
		return ""
	}
	low := strings.ToLower(string(head(f.Refused.Response.Body, 4096)))
	for _, h := range []string{"x-api-key", "api-key", "x-auth-token", "x-access-token", "authorization"} {
		if strings.Contains(low, h) {
			return h
		}
	}
	return ""
}

func (f *Facts) authFlags() []string {
	var out []string
	if f.PRM != nil {
		out = append(out, "prm")
	}
	if f.AS == nil {
		return out
	}
	m := &f.AS.Meta
	if m.RegistrationEndpoint != "" {
		out = append(out, "dcr")
	}
	if m.ClientIDMetadataDocumentSupport {
		out = append(out, "cimd")
	}
	if m.RegistrationEndpoint == "" && !m.ClientIDMetadataDocumentSupport {
		out = append(out, "prereg_only")
	}
	if sameOrigin(f.AS.Issuer, f.URL) {
		out = append(out, "as_same_origin")
	}
	slices.Sort(out)
	return out
}
