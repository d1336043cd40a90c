package account

import (
	"net/url"
	"slices"
	"strings"
)

// quirk is how a provider differs from the specifications. The zero value is a
// provider that does not.
type quirk struct {
	params     map[string]string // its authorization request needs these
	noResource bool              // it refuses the resource parameter (RFC 8707)
	audience   bool              // it calls the resource audience
	ended      []string          // error codes that mean invalid_grant
	endpoints  *endpoints        // it publishes no metadata
}

// quirks is the one table of providers, by host of the issuer; a leading dot
// means every name below.
var quirks = []struct {
	host string
	quirk
}{
	// Gives no refresh token without these; asking again must ask the person.
	{"accounts.google.com", quirk{params: map[string]string{"access_type": "offline", "prompt": "consent"}, noResource: true}},
	// v2.0 endpoints take the audience from the scopes and refuse resource.
	{"login.microsoftonline.com", quirk{noResource: true}},
	{".b2clogin.com", quirk{noResource: true}},
	{".ciamlogin.com", quirk{noResource: true}},
	// Errors with status 200, and codes of its own for a dead refresh token.
	{"github.com", quirk{ended: []string{"bad_refresh_token", "bad_verification_code"}, endpoints: &endpoints{
		authorize: "https://github.com/login/oauth/authorize", token: "https://github.com/login/oauth/access_token", methods: []string{methodPost}}}},
	// The API's tokens are asked for by audience.
	{"auth.atlassian.com", quirk{params: map[string]string{"audience": "api.atlassian.com", "prompt": "consent"}, noResource: true, ended: []string{"unauthorized_client"}}},
	{".auth0.com", quirk{audience: true}},
	{"www.dropbox.com", quirk{params: map[string]string{"token_access_type": "offline"}, noResource: true, endpoints: &endpoints{
		authorize: "https://www.dropbox.com/oauth2/authorize", token: "https://api.dropboxapi.com/oauth2/token", revoke: "https://api.dropboxapi.com/2/auth/token/revoke", methods: []string{methodPost}}}},
	{"slack.com", quirk{noResource: true, ended: []string{"token_revoked", "invalid_refresh_token", "token_expired"}}},
}

func quirkOf(issuer string) quirk {
	host := hostOf(issuer)
	for _, q := range quirks {
		if q.host == host || strings.HasPrefix(q.host, ".") && strings.HasSuffix(host, q.host) {
			return q.quirk
		}
	}
	return quirk{}
}

// ends tells whether an error code says that the account is over.
func (q quirk) ends(code string) bool {
	return code == "invalid_grant" || slices.Contains(q.ended, code)
}

// resource puts the audience into a request in the provider's way.
func (q quirk) resource(form url.Values, resource string) {
	switch {
	case q.noResource:
	case q.audience:
		form.Set("audience", resource)
	default:
		form.Set("resource", resource)
	}
}
