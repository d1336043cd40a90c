package audit

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// E10: is the protected resource metadata there, right, safe and consistent?
// Discovery has fetched it; one more fetch, with another User-Agent and an
// Origin, shows whether it depends on who asks.
func probeE10() probe {
	return define(spec{name: "resource metadata", tier: kidoban.T1, keys: []string{
		"E10-a", "E10-b", "E10-c", "E10-d", "E10-e", "E10-f", "E10-g", "E10-h", "E10-i", "E10-j"}},
		func(ctx context.Context, s *session) (a otherCaller) {
			if s.facts.PRM == nil || !s.wants("E10-i") || s.left() == 0 {
				return a
			}
			req := outbound.Req{URL: s.facts.PRM.URL, Probe: "E10-i", Note: "resource metadata, asked by somebody else", Header: kidoban.Fields{
				{Name: "Accept", Value: "*/*"}, {Name: "User-Agent", Value: "Mozilla/5.0 (compatible; kidoban/" + kidoban.Version + ")"},
				{Name: "Origin", Value: "https://" + s.nonce(10) + probeDomain}}}
			if a.first = s.do(ctx, req); judgeVaries(s.facts, a).Outcome == kidoban.Inconclusive && !hidden(a.first) && s.left() > 0 {
				a.second = s.do(ctx, req) // a finding has to be seen twice
			}
			return a
		}, judgeE10)
}

// otherCaller is the metadata as somebody else gets them; second is nil where the
// first answer showed no difference.
type otherCaller struct{ first, second *kidoban.Exchange }

func judgeE10(f *Facts, again otherCaller) []kidoban.Result {
	keys := []string{"E10-c", "E10-e", "E10-f", "E10-g", "E10-h", "E10-i"}
	if !f.claimsOAuth() {
		return everyone(append(keys, "E10-a", "E10-b", "E10-d", "E10-j"), func(k string) kidoban.Result {
			if f.asksPassword() {
				return absent(k, "the server asks for "+f.Asks[0].Scheme+" authentication, not for OAuth", f.Refused)
			}
			return absent(k, "the server asks for no credentials and publishes no metadata", f.List)
		})
	}
	out := []kidoban.Result{judgePRMMissing(f), judgeChallengeLink(f), judgeLinkPlace(f), judgePRMType(f)}
	if f.PRM == nil {
		return append(out, everyone(keys, func(k string) kidoban.Result {
			if r, bad := f.unreadPRM(k); bad {
				return r
			}
			return absent(k, "there is no protected resource metadata (E10-a)", lastPRM(f))
		})...)
	}
	return append(out, judgeResource(f), judgeServers(f), judgeManyServers(f), judgeMethods(f), judgeScopes(f), judgeVaries(f, again))
}

// claimsOAuth is the precondition of E10: metadata, or a refusal that does not ask for
// a password instead (RFC 7617).
func (f *Facts) claimsOAuth() bool {
	return f.AS != nil || f.PRM != nil || f.Refused != nil && !f.asksPassword()
}

// asksPassword tells whether the challenges name schemes of passwords and no other.
func (f *Facts) asksPassword() bool {
	return len(f.Asks) > 0 && !slices.ContainsFunc(f.Asks, func(c oauth.Challenge) bool {
		return !c.Is("Basic") && !c.Is("Digest") && !c.Is("Negotiate")
	})
}

// unreadPRM says that one of the places where the metadata may be did not answer, so
// that nobody knows whether they are there.
func (f *Facts) unreadPRM(key string) (kidoban.Result, bool) {
	for _, d := range f.PRMs {
		if r, bad := undecided(key, "the address of the metadata", d.X); bad {
			return r, true
		}
	}
	return kidoban.Result{}, false
}

func lastPRM(f *Facts) *kidoban.Exchange {
	if n := len(f.PRMs); n > 0 {
		return f.PRMs[n-1].X
	}
	return nil
}

// onlyOld tells whether the server speaks revisions from before the document.
func (f *Facts) onlyOld() bool {
	if len(f.Versions) == 0 {
		return false
	}
	return !slices.ContainsFunc(f.Versions, func(v string) bool { return v > wire.Rev20250326 })
}

func judgePRMMissing(f *Facts) kidoban.Result {
	const key = "E10-a"
	if f.PRM != nil {
		return passed(key, "the metadata are published", f.PRM.X)
	}
	if f.onlyOld() {
		return absent(key, "revision "+f.Versions[0]+" had no such document", lastPRM(f))
	}
	if r, bad := f.unreadPRM(key); bad && r.Outcome == kidoban.Inconclusive {
		return r
	}
	if len(f.PRMs) == 0 {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	return positive(key, kidoban.Confirmed, "no protected resource metadata at "+kidoban.Count(len(f.PRMs), "place", "places")+" ("+f.PRMs[0].Err+")", f.Refused, lastPRM(f))
}

// judgeChallengeLink: a challenge that does not say where the metadata are is a
// fault only where they are not at the well-known places either.
func judgeChallengeLink(f *Facts) kidoban.Result {
	const key = "E10-b"
	if f.Refused == nil || f.Refused.Status() != 401 {
		return absent(key, "no request was answered with a 401", f.Refused)
	}
	if link, _ := f.link(); link != "" {
		return passed(key, "the challenge names the metadata", f.Refused)
	}
	if f.PRM != nil {
		return passed(key, "the challenge names no metadata; they are at the well-known place, which is enough", f.Refused, f.PRM.X)
	}
	if f.onlyOld() {
		return absent(key, "revision "+f.Versions[0]+" had no such document", f.Refused)
	}
	if r, bad := f.unreadPRM(key); bad {
		return r
	}
	return positive(key, kidoban.Confirmed, "the challenge does not name the metadata, and the well-known places have none", f.Refused, lastPRM(f))
}

// link is the metadata address in the challenge.
func (f *Facts) link() (raw string, typo bool) {
	for _, c := range f.Asks {
		if raw, typo = c.ResourceMetadata(); raw != "" {
			return raw, typo
		}
	}
	return "", false
}

func judgeLinkPlace(f *Facts) kidoban.Result {
	const key = "E10-d"
	link, _ := f.link()
	if link == "" {
		return absent(key, "the challenge names no metadata", f.Refused)
	}
	at := resolve(f.URL, link)
	u, err := url.Parse(at)
	switch {
	case err != nil || u.Host == "":
		return positive(key, kidoban.Confirmed, "the metadata address in the challenge is no URL", f.Refused)
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackURL(at) && f.Local && !f.TLS):
		return positive(key, kidoban.Confirmed, "the metadata address in the challenge is not https", f.Refused)
	case !sameOrigin(at, f.URL) && site(u.Host) == site(hostOf(f.URL)):
		r := positive(key, kidoban.Confirmed, "the metadata address in the challenge is on another host of the same domain", f.Refused)
		r.Severity = kidoban.Low
		return r
	case !sameOrigin(at, f.URL):
		return positive(key, kidoban.Confirmed, "the metadata address in the challenge is on another origin", f.Refused)
	}
	return passed(key, "the metadata address is on the server's own origin", f.Refused)
}

// judgeResource compares resource with the URL in use by bytes and grades the
// difference: a slash and a foreign host are not the same.
func judgeResource(f *Facts) kidoban.Result {
	const key = "E10-c"
	got, x := f.PRM.PRM.Resource, f.PRM.X
	if got == "" {
		return positive(key, kidoban.Confirmed, "the metadata name no resource", x)
	}
	rel := oauth.CompareResource(f.URL, got)
	r := positive(key, kidoban.Confirmed, "resource differs from the URL in use: "+relationText(rel), x)
	switch rel {
	case oauth.ResourceIdentical:
		return passed(key, "resource is the URL in use", x)
	case oauth.ResourceHostCase:
		return passed(key, "resource is the URL in use but for letter case or a default port", x)
	case oauth.ResourceTrailingSlash, oauth.ResourceParent, oauth.ResourceQuery:
		r.Severity = kidoban.Low
		r.Summary += "; most clients accept that"
	case oauth.ResourceScheme, oauth.ResourcePort:
		r.Severity = kidoban.Low
		r.Summary += ", as behind a proxy that the server does not know of"
	case oauth.ResourceOtherHost:
		r.Severity = kidoban.High
		if insideHost(hostOf(got)) {
			r.Severity = kidoban.Low
			r.Summary += "; it is an inside name, as behind a proxy that the server does not know of"
		}
	}
	return r
}

func relationText(r oauth.ResourceRelation) string {
	switch r {
	case oauth.ResourceTrailingSlash:
		return "a slash at the end"
	case oauth.ResourceQuery:
		return "the query"
	case oauth.ResourceParent:
		return "a path above it"
	case oauth.ResourcePath:
		return "another path"
	case oauth.ResourcePort:
		return "another port"
	case oauth.ResourceScheme:
		return "another scheme"
	case oauth.ResourceOtherHost:
		return "another host"
	}
	return "it is no resource identifier"
}

// insideHost tells a name or address that means something inside a network only.
func insideHost(host string) bool {
	u := url.URL{Host: host}
	h := strings.ToLower(u.Hostname())
	if a, err := netip.ParseAddr(h); err == nil {
		return outbound.Class(a) != ""
	}
	return !strings.Contains(h, ".") || strings.HasSuffix(h, ".internal") || strings.HasSuffix(h, ".local") || strings.HasSuffix(h, ".localhost")
}

func judgeServers(f *Facts) kidoban.Result {
	const key = "E10-e"
	list := f.PRM.PRM.AuthorizationServers
	if len(list) == 0 {
		return positive(key, kidoban.Confirmed, "the metadata name no authorization server", f.PRM.X)
	}
	for _, iss := range list {
		if why := f.unsafeURL(iss, true); why != "" {
			return positive(key, kidoban.Confirmed, "an authorization server is named at an address that "+why, f.PRM.X)
		}
	}
	return passed(key, "the named authorization servers are safe addresses", f.PRM.X)
}

// unsafeURL says what is wrong with a URL that clients will trust, or "". On
// loopback targets loopback http is allowed. issuer forbids query and fragment.
func (f *Facts) unsafeURL(raw string, issuer bool) string {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "is no URL"
	case u.User != nil:
		return "carries user information"
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return "has a fragment"
	case issuer && (u.RawQuery != "" || u.ForceQuery):
		return "has a query"
	case u.Scheme == "http" && !(f.Local && isLoopbackURL(raw)):
		return "is not https"
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not https"
	case f.Local && isLoopbackURL(raw):
		return ""
	case !strings.Contains(u.Hostname(), ".") && !strings.Contains(u.Hostname(), ":"), outbound.CheckURL((&url.URL{Scheme: "https", Host: u.Host}).String()) != nil:
		return "is private"
	}
	return ""
}

// judgeManyServers: several servers are legal; one of them on a domain that is
// neither the operator's nor a known provider's decides who gets the users.
func judgeManyServers(f *Facts) kidoban.Result {
	const key = "E10-f"
	list := f.PRM.PRM.AuthorizationServers
	if len(list) < 2 {
		return passed(key, "one authorization server is named", f.PRM.X)
	}
	for _, iss := range list {
		host := hostOf(iss)
		if host != "" && site(host) != site(hostOf(f.URL)) && !knownProvider(host) {
			return positive(key, kidoban.Confirmed, itoa(len(list))+" authorization servers are named, one of them on a domain that is neither the server's nor a known provider's", f.PRM.X)
		}
	}
	return passed(key, itoa(len(list))+" authorization servers are named, all on the server's domain or of known providers", f.PRM.X)
}

func judgeMethods(f *Facts) kidoban.Result {
	const key = "E10-g"
	for _, m := range f.PRM.PRM.BearerMethodsSupported {
		if m == "query" || m == "body" {
			return positive(key, kidoban.Confirmed, "the metadata allow tokens in the "+m, f.PRM.X)
		}
	}
	return passed(key, "the metadata allow tokens in the header only", f.PRM.X)
}

func judgeScopes(f *Facts) kidoban.Result {
	const key = "E10-h"
	listed := f.PRM.PRM.ScopesSupported
	var asked []string
	for _, c := range f.Asks {
		asked = append(asked, c.Scopes()...)
	}
	switch {
	case slices.Contains(listed, "offline_access") || slices.Contains(asked, "offline_access"):
		return positive(key, kidoban.Confirmed, "offline_access is listed for the resource; it is for clients to ask of the authorization server", f.Refused, f.PRM.X)
	case len(listed) > 0 && len(asked) > 0 && !oauth.IsSubset(asked, listed):
		return positive(key, kidoban.Confirmed, "the challenge asks for a scope that the metadata do not list", f.Refused, f.PRM.X)
	}
	return passed(key, "challenge and metadata agree on the scopes", f.PRM.X)
}

func judgeVaries(f *Facts, a otherCaller) kidoban.Result {
	const key = "E10-i"
	for _, x := range []*kidoban.Exchange{a.first, a.second} {
		if r, bad := undecided(key, "the metadata for another caller", x); bad && (x != nil || a.first == nil) {
			return r
		}
	}
	once := f.varies(a.first)
	switch {
	case once == "":
		return passed(key, "the metadata are the same for another caller", f.PRM.X, a.first)
	case a.second == nil || f.varies(a.second) == "":
		return unclear(key, kidoban.ReasonUnstable, once+", but it was not seen a second time", f.PRM.X, a.first, a.second)
	}
	return positive(key, kidoban.Confirmed, once, f.PRM.X, a.second, a.first)
}

// varies says how an answer differs from the metadata in use, or "".
func (f *Facts) varies(x *kidoban.Exchange) string {
	prm, err := oauth.ParsePRM(x.Response.Body)
	if x.Status() != 200 || err != nil {
		return "the metadata are served to one caller and not to another (status " + itoa(x.Status()) + ")"
	}
	if name := differentMember(f.PRM.PRM.Document, prm.Document); name != "" {
		return "the metadata change from one request to the next (" + name + ")"
	}
	return ""
}

// differentMember names the first member that differs between two documents.
func differentMember(a, b oauth.Document) string {
	for _, pair := range [][2]oauth.Document{{a, b}, {b, a}} {
		for _, m := range pair[0].Members() {
			if raw, ok := pair[1].Raw(m.Name); !ok || string(raw) != string(m.Raw) {
				return m.Name
			}
		}
	}
	return ""
}

// judgePRMType: JSON under another type, something else under JSON's, or a
// redirect to another host. A not-found page with status 200 is no document.
func judgePRMType(f *Facts) kidoban.Result {
	const key = "E10-j"
	for _, d := range f.PRMs {
		if d.X.Response == nil {
			continue
		}
		if loc := d.X.Header("Location"); d.X.Status() >= 300 && d.X.Status() < 400 && loc != "" {
			to := resolve(d.URL, loc)
			if !sameOrigin(to, d.URL) {
				return positive(key, kidoban.Confirmed, "the metadata address redirects to another origin, where clients must not follow", d.X)
			}
		}
		if d.X.Status() != 200 {
			continue
		}
		isJSON := jsonType(mediaType(d.X))
		switch {
		case d.Err == "" && !isJSON && f.PRM != nil && d.URL == f.PRM.URL:
			return positive(key, kidoban.Confirmed, "the metadata are served as "+orNone(mediaType(d.X))+", not as application/json", d.X)
		case d.Err != "" && isJSON:
			return positive(key, kidoban.Confirmed, "what is served as JSON at the metadata address is none", d.X)
		}
	}
	if f.PRM == nil {
		if r, bad := f.unreadPRM(key); bad {
			return r
		}
		return absent(key, "there is no protected resource metadata (E10-a)", lastPRM(f))
	}
	return passed(key, "the metadata are JSON and served as such", f.PRM.X)
}

func jsonType(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// knownProvider tells hosts of identity providers that serve many operators.
func knownProvider(host string) bool {
	h := strings.ToLower(host)
	for _, p := range []string{
		"accounts.google.com", "github.com", "gitlab.com", "login.microsoftonline.com", "login.windows.net", "sts.windows.net", "b2clogin.com", "ciamlogin.com",
		"okta.com", "oktapreview.com", "auth0.com", "onelogin.com", "pingidentity.com", "pingone.com", "amazoncognito.com", "amazonaws.com",
		"workos.com", "authkit.app", "clerk.com", "clerk.accounts.dev", "stytch.com", "descope.com", "fusionauth.io", "zitadel.cloud", "frontegg.com",
		"slack.com", "atlassian.com", "appleid.apple.com", "linkedin.com", "salesforce.com", "login.live.com", "kinde.com", "logto.app", "supabase.co", "scalekit.com",
	} {
		if h == p || strings.HasSuffix(h, "."+p) {
			return true
		}
	}
	return false
}
