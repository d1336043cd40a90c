package lab

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// spellings are names that servers invented for parameters of OAuth. The study's
// tool missed its one flaw at a server with such names.
func spellings() map[string]string {
	return map[string]string{"clientId": "client_id", "redirectUri": "redirect_uri", "responseType": "response_type", "codeChallenge": "code_challenge",
		"codeChallengeMethod": "code_challenge_method", "codeVerifier": "code_verifier", "grantType": "grant_type", "refreshToken": "refresh_token"}
}

// respell gives the parameters of a request the names that the handlers know.
func respell(r *http.Request) {
	r.URL.RawQuery = respelled(r.URL.RawQuery)
	if r.Method != http.MethodPost || !isForm(r) {
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // the handler finds the body cut off
	}
	s := respelled(string(b))
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(s)), int64(len(s))
}

func respelled(query string) string {
	v, err := url.ParseQuery(query)
	if err != nil {
		return query
	}
	changed := false
	for odd, name := range spellings() {
		if v.Has(odd) && !v.Has(name) {
			v[name] = v[odd]
			v.Del(odd)
			changed = true
		}
	}
	if !changed {
		return query
	}
	return v.Encode()
}
