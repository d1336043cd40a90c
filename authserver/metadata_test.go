package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/oauth"
)

func TestGAS1_MetadataAtEveryWellKnownForm(t *testing.T) {
	for _, path := range []string{"", "/gate/way"} {
		w := newWorld(t, func(w *world) {
			w.cfg.Issuer += path
			w.cfg.Resources = []authserver.Resource{{URI: w.cfg.Issuer + "/mcp", Name: "x"}}
		})
		urls, err := oauth.MetadataURLs(w.cfg.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		first := ""
		for _, u := range append(urls, w.cfg.Issuer+"/.well-known/oauth-authorization-server") {
			a := w.browser().get(u)
			m, err := oauth.ParseMetadata([]byte(a.body))
			if a.StatusCode != http.StatusOK || err != nil || len(m.Faults()) > 0 || m.Issuer != w.cfg.Issuer {
				t.Fatalf("%s: %d %v %s", u, a.StatusCode, err, a.body)
			}
			if first == "" {
				first = a.body
			}
			if a.body != first || a.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Fatalf("%s differs", u)
			}
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(first), &m); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{ // AS-03, AS-04, AS-07, AS-26
			"code_challenge_methods_supported": `["S256"]`, "response_types_supported": `["code"]`, "client_id_metadata_document_supported": "true",
			"authorization_response_iss_parameter_supported": "true",
		} {
			got, _ := json.Marshal(m[name])
			if string(got) != want {
				t.Errorf("%s is %s", name, got)
			}
		}
	}
}

// TestGAS2_EverythingAdvertisedAnswers walks the document and calls each endpoint.
func TestGAS2_EverythingAdvertisedAnswers(t *testing.T) {
	w := newWorld(t, nil)
	m := w.browser().get("/.well-known/oauth-authorization-server").json(t)
	n := 0
	for name, v := range m {
		u, ok := v.(string)
		if !ok || name == "issuer" {
			continue
		}
		n++
		method, form := http.MethodPost, url.Values{}
		if name == "authorization_endpoint" || name == "jwks_uri" {
			method, form = http.MethodGet, nil
		}
		a := w.browser().do(method, u, form)
		if a.StatusCode == http.StatusNotFound || a.StatusCode == http.StatusMethodNotAllowed || a.StatusCode >= 500 {
			t.Errorf("%s %s answers %d", name, u, a.StatusCode)
		}
	}
	if n < 7 {
		t.Fatalf("%d endpoints only", n)
	}
	for _, g := range m["grant_types_supported"].([]any) {
		a := w.browser().post("/token", url.Values{"grant_type": {g.(string)}, "client_id": {"x"}})
		wantError(t, a, http.StatusUnauthorized, "invalid_client") // known grant, unknown client
	}
}

func TestGAS2_NothingSwitchedOffIsAdvertised(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Registration.DisableDCR, w.cfg.Registration.DisableCIMD = true, true })
	a := w.browser().get("/.well-known/openid-configuration")
	if strings.Contains(a.body, "registration_endpoint") || strings.Contains(a.body, "client_id_metadata_document_supported") || strings.Contains(a.body, "jwt-bearer") {
		t.Fatal(a.body)
	}
	if a := w.postJSON("/register", "{}"); a.StatusCode != http.StatusNotFound {
		t.Fatalf("registration answers %d", a.StatusCode)
	}
}

func TestURLsComeFromTheConfigurationOnly(t *testing.T) {
	w := newWorld(t, nil)
	for _, h := range []string{"X-Forwarded-Host", "Forwarded", "X-Original-Host", "X-Forwarded-Proto"} {
		if a := w.browser().get("/.well-known/oauth-authorization-server", h, "evil.example"); strings.Contains(a.body, "evil") {
			t.Errorf("%s changes the metadata", h)
		}
	}
}

// TestGRG2_AnonymousScopesFromTheDefaultVocabulary: a config without scopes of its
// own may still choose which of the default ones strangers get.
func TestGRG2_AnonymousScopesFromTheDefaultVocabulary(t *testing.T) {
	c := authserver.Config{Issuer: "https://gate.example", Registration: authserver.Registration{AnonymousScopes: []string{"mcp:read"}}}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Registration.AnonymousScopes = []string{"mcp:everything"}
	if c.Validate() == nil {
		t.Error("an unknown scope is accepted")
	}
}
