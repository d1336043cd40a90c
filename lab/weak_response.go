package lab

import (
	"net/url"
	"slices"
	"strings"
)

// responseSwitches are the flaws of authorization responses (E12) and of legacy
// grants (E26).
func responseSwitches() []Switch {
	return []Switch{
		{Key: "E12-a", Title: "Authorization responses carry no iss, and the metadata do not promise it."},
		{Key: "E12-b", Title: "The metadata promise iss, the responses do not carry it."},
		{Key: "E12-c", Title: "The iss of responses is not the issuer."},
		{Key: "E26-a", Title: "response_type=token works."},
		{Key: "E26-b", Title: "The hybrid response types code token, code id_token and id_token token work."},
		{Key: "E26-c", Title: "The password grant works for public clients."},
	}
}

// addIssuer puts iss into an authorization response.
func (l *Lab) addIssuer(params url.Values) {
	switch {
	case l.any("E12-a", "E12-b"):
	case l.on("E11-a"):
		params.Set("iss", strangerIssuer)
	case l.on("E12-c"):
		params.Set("iss", l.Issuer+"/")
	default:
		params.Set("iss", l.Issuer)
	}
}

// weakResponseType tells whether a switch lets a response type other than code
// through.
func (l *Lab) weakResponseType(rt string) bool {
	if rt == "token" {
		return l.on("E26-a")
	}
	parts := strings.Fields(rt)
	slices.Sort(parts)
	return l.on("E26-b") && slices.Contains([]string{"code token", "code id_token", "id_token token", "code id_token token"}, strings.Join(parts, " "))
}

// weakResponse fills in what the legacy response types deliver; all of it goes into
// the fragment.
func (l *Lab) weakResponse(t *txn, params url.Values) {
	t.mode = "fragment"
	parts := strings.Fields(t.response)
	if slices.Contains(parts, "code") {
		params.Set("code", l.issueCode(t))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(parts, "token") {
		answer := l.issue(t.client, l.newGrant(), t.user, t.scope, t.resource, false)
		params.Set("access_token", answer["access_token"].(string))
		params.Set("token_type", "Bearer")
	}
	if slices.Contains(parts, "id_token") {
		params.Set("id_token", l.signJWT("JWT", map[string]any{"iss": l.Issuer, "sub": t.user, "aud": t.client.id, "iat": l.now().Unix(), "exp": l.now().Add(accessTTL).Unix()}))
	}
}
