package authserver_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// TestGVA2_TokenRequestsToProvidersAreSentOnce: a provider that refuses a refresh
// token, fails, or answers with nonsense is not sent it again in another way: it may
// be spent. Only one that does not know the client is, and what it takes is remembered.
func TestGVA2_TokenRequestsToProvidersAreSentOnce(t *testing.T) {
	const header, body = "header", "form"
	for name, c := range map[string]struct {
		methods []string // of the metadata
		status  int
		answer  string
		secret  string
		takes   string // the way of authentication that the provider knows the client by
		says    string // to the other one; "" is invalid_client
		over    bool   // the login, for good
		want    []string
		again   []string // and of the next renewal
	}{
		"a dead token":              {status: 400, answer: `{"error":"invalid_grant"}`, secret: "s", over: true, want: []string{header}, again: []string{header}},
		"a dead token, by 401":      {status: 401, answer: `{"error":"invalid_grant"}`, secret: "s", over: true, want: []string{header}, again: []string{header}},
		"a dead token, by 403":      {status: 403, answer: `{"error":"invalid_grant"}`, secret: "s", over: true, want: []string{header}, again: []string{header}},
		"the person is wanted":      {status: 400, answer: `{"error":"interaction_required"}`, secret: "s", over: true, want: []string{header}, again: []string{header}},
		"dead, says what fails":     {status: 503, answer: `{"error":"invalid_grant"}`, secret: "s", want: []string{header}, again: []string{header}},
		"the client may not":        {status: 400, answer: `{"error":"unauthorized_client"}`, secret: "s", want: []string{header}, again: []string{header}},
		"a proxy's page":            {status: 400, answer: `<html>`, secret: "s", want: []string{header}, again: []string{header}},
		"too many requests":         {status: 429, answer: `{"error":"slow_down"}`, secret: "s", want: []string{header}, again: []string{header}},
		"a failure":                 {status: 500, answer: `oops`, secret: "s", want: []string{header}, again: []string{header}},
		"nonsense":                  {status: 200, answer: `<html>`, secret: "s", want: []string{header}, again: []string{header}},
		"it takes the form alone":   {methods: []string{"client_secret_post"}, status: 400, answer: `{"error":"invalid_grant"}`, secret: "s", over: true, want: []string{body}, again: []string{body}},
		"no secret":                 {status: 401, answer: `{"error":"invalid_client"}`, want: []string{body}, again: []string{body}},
		"the client is not known":   {status: 401, answer: `{"error":"invalid_client"}`, secret: "s", want: []string{header, body}, again: []string{header, body}},
		"it is, in other words":     {status: 200, answer: `{"access_token":"a","token_type":"Bearer"}`, secret: "s", takes: body, says: `{"error":"access_denied","error_description":"Unauthorized"}`, over: true, want: []string{header, body}, again: []string{body}},
		"known by the form, of two": {methods: []string{"client_secret_basic", "client_secret_post"}, status: 200, answer: `{"access_token":"a","token_type":"Bearer"}`, secret: "s", takes: body, over: true, want: []string{header, body}, again: []string{body}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			var idp *httptest.Server
			idp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path != "/t" {
					json.NewEncoder(w).Encode(map[string]any{"issuer": idp.URL, "authorization_endpoint": idp.URL + "/a", "token_endpoint": idp.URL + "/t", "jwks_uri": idp.URL + "/k", "token_endpoint_auth_methods_supported": c.methods})
					return
				}
				_ = r.ParseForm()
				how := body
				if _, _, ok := r.BasicAuth(); ok {
					how = header
				}
				asked = append(asked, how)
				if r.Form.Get("refresh_token") != "granted" {
					t.Errorf("asked with %v", r.Form)
				}
				if c.takes != "" && how != c.takes {
					w.WriteHeader(http.StatusUnauthorized)
					fmt.Fprint(w, cmp.Or(c.says, `{"error":"invalid_client"}`))
					return
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.answer)
			}))
			t.Cleanup(idp.Close)
			w := newWorld(t, func(w *world) {
				w.cfg.Login.Providers = []authserver.Provider{{ID: "corp", Name: "Corp", Issuer: idp.URL, ClientID: "rp", ClientSecret: c.secret}}
			})
			for i, want := range [][]string{c.want, c.again} {
				asked = nil
				_, err := w.s.RenewLogin(t.Context(), authserver.ProviderLogin{Issuer: idp.URL, Subject: "42", Refresh: "granted"}, nil)
				if over := kidoban.KindOf(err) == kidoban.KindNotFound; err == nil || over != c.over {
					t.Errorf("the login is over: %v, %v", over, err)
				}
				if !slices.Equal(asked, want) {
					t.Errorf("renewal %d asked by %v, want %v", i, asked, want)
				}
			}
		})
	}
}
