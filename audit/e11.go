package audit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// E11: do the authorization server's metadata mislead clients, which configure
// themselves from them without a person? Discovery has fetched the first
// document; one more fetch gets the other kind for comparison.
func probeE11() probe {
	return define(spec{name: "authorization server metadata", tier: kidoban.T1, keys: []string{
		"E11-a", "E11-b", "E11-c", "E11-d", "E11-e", "E11-f", "E11-g", "E11-h", "E11-i"}},
		func(ctx context.Context, s *session) []Document {
			if !s.wants("E11-h") {
				return nil
			}
			return s.otherDocuments(ctx, s.facts.AS)
		}, judgeE11)
}

// otherDocuments fetches the well-known places that discovery did not ask: one
// of the other kind, and in thorough runs all.
func (s *session) otherDocuments(ctx context.Context, as *AS) (out []Document) {
	urls, err := oauth.MetadataURLs(as.Issuer)
	if err != nil {
		return nil
	}
	for _, u := range urls {
		kind := kindOfPlace(u)
		known := slices.ContainsFunc(as.Tried, func(d Document) bool { return d.URL == u })
		if known || s.left() == 0 || !s.thorough() && (kind == kindOfPlace(as.URL) || len(out) > 0) {
			continue
		}
		d := Document{Kind: kind, URL: u, X: s.get(ctx, "E11-h", "the other metadata document", u)}
		if d.Err = usable(d.X); d.Err == "" {
			if d.Meta, err = oauth.ParseMetadata(d.X.Response.Body); err != nil {
				d.Err = "it is no JSON object"
			}
		}
		out = append(out, d)
	}
	return out
}

func kindOfPlace(u string) string {
	if strings.Contains(u, "openid-configuration") {
		return "oidc"
	}
	return "as"
}

func judgeE11(f *Facts, other []Document) []kidoban.Result {
	return []kidoban.Result{
		judgeIssuer(f), judgeEndpoints(f), judgeDomains(f), judgeImplicit(f), judgeLegacyGrants(f), judgePublicClients(f), judgeDocumentsOfClients(f),
		judgeContradiction(f, other), judgeASType(f),
	}
}

// servers are those with a usable document.
func (f *Facts) servers() []*AS {
	return slices.DeleteFunc(slices.Clone(f.Servers), func(a *AS) bool { return a.Err != "" })
}

func judgeIssuer(f *Facts) kidoban.Result {
	const key = "E11-a"
	for _, as := range f.servers() {
		if as.Meta.Issuer == as.Issuer {
			continue
		}
		r := positive(key, kidoban.Confirmed, "the metadata name another issuer than the one they were asked for", as.X)
		switch {
		case as.Meta.Issuer == "":
			r.Summary = "the metadata name no issuer"
		case strings.TrimRight(as.Meta.Issuer, "/") == strings.TrimRight(as.Issuer, "/"):
			r.Severity = kidoban.Low
			r.Summary = "the issuer in the metadata differs by a slash at the end"
		case f.Fallback && site(hostOf(as.Meta.Issuer)) == site(hostOf(as.Issuer)):
			r.Severity = kidoban.Medium
			r.Summary += "; the issuer had to be guessed from the server's origin"
		}
		return r
	}
	return passed(key, "the issuer in the metadata is the one that was asked for", f.AS.X)
}

func judgeEndpoints(f *Facts) kidoban.Result {
	const key = "E11-b"
	for _, as := range f.servers() {
		for _, e := range as.Meta.Endpoints() {
			if why := f.unsafeURL(e.URL, false); why != "" {
				return positive(key, kidoban.Confirmed, e.Member+" "+why, as.X)
			}
		}
	}
	return passed(key, "all endpoints are https addresses without user information or fragment", f.AS.X)
}

// judgeDomains: vendors split their endpoints over domains, so this is a note.
func judgeDomains(f *Facts) kidoban.Result {
	const key = "E11-c"
	for _, as := range f.servers() {
		for _, e := range as.Meta.Endpoints() {
			host := hostOf(e.URL)
			if host == "" || site(host) == site(hostOf(as.Issuer)) || site(host) == site(hostOf(f.URL)) || f.Local && isLoopbackURL(e.URL) {
				continue
			}
			return positive(key, kidoban.Confirmed, e.Member+" is on another domain than the issuer", as.X)
		}
	}
	return passed(key, "all endpoints are on the issuer's domain", f.AS.X)
}

func judgeImplicit(f *Facts) kidoban.Result {
	const key = "E11-d"
	for _, rt := range f.AS.Meta.ResponseTypesSupported {
		if slices.Contains(strings.Fields(rt), "token") {
			return positive(key, kidoban.Confirmed, "the metadata offer response_type "+rt, f.AS.X)
		}
	}
	return passed(key, "the implicit response type is not offered", f.AS.X)
}

func judgeLegacyGrants(f *Facts) kidoban.Result {
	const key = "E11-e"
	for _, g := range f.AS.Meta.GrantTypesSupported {
		if g == "implicit" || g == "password" {
			return positive(key, kidoban.Confirmed, "the metadata offer the grant type "+g, f.AS.X)
		}
	}
	return passed(key, "neither the implicit nor the password grant is offered", f.AS.X)
}

func judgePublicClients(f *Facts) kidoban.Result {
	const key = "E11-f"
	m := &f.AS.Meta
	switch {
	case m.RegistrationEndpoint == "":
		return absent(key, "the authorization server offers no dynamic registration", f.AS.X)
	case m.TokenAuthMethodsSupported == nil:
		return passed(key, "the metadata do not list the methods of client authentication", f.AS.X)
	case !slices.Contains(m.TokenAuthMethodsSupported, "none"):
		return positive(key, kidoban.Confirmed, "registration is offered, but not the method none, without which public clients cannot be", f.AS.X)
	}
	return passed(key, "registration is offered for public clients", f.AS.X)
}

func judgeDocumentsOfClients(f *Facts) kidoban.Result {
	const key = "E11-g"
	if !f.AS.Meta.ClientIDMetadataDocumentSupport {
		return positive(key, kidoban.Confirmed, "client metadata documents are not supported, so strangers' clients need registration", f.AS.X)
	}
	return passed(key, "client metadata documents are supported", f.AS.X)
}

// judgeContradiction compares what both documents say; what only one says is no
// contradiction.
func judgeContradiction(f *Facts, other []Document) kidoban.Result {
	const key = "E11-h"
	mine := f.AS.Meta.Document
	compared := 0
	for _, d := range other {
		if d.Err != "" || d.Meta.Issuer == "" && d.Meta.AuthorizationEndpoint == "" {
			continue
		}
		compared++
		for _, name := range []string{
			"issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri",
			"code_challenge_methods_supported", "response_types_supported",
		} {
			a, has := mine.Raw(name)
			b, also := d.Meta.Raw(name)
			if has && also && !sameValue(a, b) {
				return positive(key, kidoban.Confirmed, "the OAuth and the OpenID document contradict each other: "+name, f.AS.X, d.X)
			}
		}
	}
	if compared == 0 {
		if len(other) > 0 {
			for _, d := range other {
				if r, bad := undecided(key, "the other metadata document", d.X); bad {
					return r
				}
			}
			return absent(key, "there is one document only", f.AS.X, other[0].X)
		}
		for _, d := range f.AS.Tried {
			if r, bad := undecided(key, "the other metadata document", d.X); bad {
				return r
			}
		}
		if len(f.AS.Tried) > 1 { // discovery asked the other places before it found this one
			return absent(key, "there is one document only", f.AS.X)
		}
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	return passed(key, "the documents agree", f.AS.X, other[0].X)
}

// sameValue compares two JSON values; the order in lists does not matter.
func sameValue(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, ok1 := stringList(a)
	y, ok2 := stringList(b)
	if !ok1 || !ok2 {
		return false
	}
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// stringList reads a JSON list of strings.
func stringList(raw []byte) (out []string, ok bool) { return out, json.Unmarshal(raw, &out) == nil }

func judgeASType(f *Facts) kidoban.Result {
	const key = "E11-i"
	for _, as := range f.servers() {
		if !jsonType(mediaType(as.X)) {
			return positive(key, kidoban.Confirmed, "the metadata are served as "+orNone(mediaType(as.X))+", not as application/json", as.X)
		}
	}
	return passed(key, "the metadata are served as JSON", f.AS.X)
}
