package oauth

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kidoban/kidoban"
)

func faultsOf(fs []Fault) string {
	var out []string
	for _, f := range fs {
		out = append(out, f.String())
	}
	return strings.Join(out, "; ")
}

func TestRS01_ParsePRM(t *testing.T) {
	p, err := ParsePRM([]byte(`{"resource":"https://r/mcp","authorization_servers":["https://a"],"scopes_supported":["x"],"bearer_methods_supported":["header"],"new":{"a":1}}`))
	if err != nil || p.Resource != "https://r/mcp" || p.AuthorizationServers[0] != "https://a" || len(p.Faults()) != 0 || !p.Has("new") || p.Has("jwks_uri") {
		t.Errorf("%+v %v", p, err)
	}
	p, err = ParsePRM([]byte(`{"resource":["x"],"authorization_servers":"https://a","scopes_supported":[1,"s",null],"resource":7,"jwks_uri":null}`))
	if err != nil || len(p.AuthorizationServers) != 1 || p.Resource != "" || !cmp.Equal(p.ScopesSupported, []string{"s"}) {
		t.Errorf("%+v %v", p, err)
	}
	const want = "resource: want one member of this name, got a duplicate; resource: want a string, got a number; " +
		"authorization_servers: want an array of strings, got a string; jwks_uri: want a string, got null; " +
		"scopes_supported: want an array of strings, got an array holding a number; scopes_supported: want an array of strings, got an array holding null"
	if got := faultsOf(p.Faults()); got != want {
		t.Errorf("%s", got)
	}
	for body, kind := range map[string]kidoban.Kind{"": kidoban.KindInput, "[]": kidoban.KindInput, "<html>": kidoban.KindInput, `{"a":1} x`: kidoban.KindInput,
		`{"a":`: kidoban.KindInput, `{"a":1`: kidoban.KindInput, `"x"`: kidoban.KindInput, strings.Repeat(" ", MaxDocument+1): kidoban.KindLimit} {
		if _, err := ParsePRM([]byte(body)); err == nil || kidoban.KindOf(err) != kind {
			t.Errorf("%.20q: %v", body, err)
		}
	}
	if p, err := ParsePRM([]byte("\xef\xbb\xbf{\"resource\":\"\xff\"}")); err != nil || len(p.Faults()) != 1 {
		t.Errorf("%v %v", p.Faults(), err)
	}
}

func TestAS02_AS03_ParseMetadata(t *testing.T) {
	m, err := ParseMetadata([]byte(`{"issuer":"https://a","token_endpoint":"https://a/t","code_challenge_methods_supported":["plain","S256"],
		"authorization_response_iss_parameter_supported":true,"client_id_metadata_document_supported":"true"}`))
	if err != nil || !m.SupportsS256() || !m.IssParameterSupported || m.ClientIDMetadataDocumentSupport {
		t.Errorf("%+v %v", m, err)
	}
	if got := faultsOf(m.Faults()); got != "client_id_metadata_document_supported: want true or false, got a string" {
		t.Error(got)
	}
	if !cmp.Equal(m.GrantTypes(), []string{"authorization_code", "implicit"}) || !cmp.Equal(m.TokenAuthMethods(), []string{"client_secret_basic"}) {
		t.Error("defaults of RFC 8414")
	}
	if !cmp.Equal(m.Endpoints(), []Endpoint{{"token_endpoint", "https://a/t"}}) {
		t.Errorf("%v", m.Endpoints())
	}
}

// The example of RFC 7591 §3.1 with its localized members.
func TestGRG1_ClientMetadataRoundTrip(t *testing.T) {
	const in = `{"redirect_uris":["https://client.example.org/callback","https://client.example.org/callback2"],
	 "client_name":"My Example Client","client_name#ja-Jpan-JP":"\u30AF\u30E9\u30A4\u30A2\u30F3\u30C8\u540D","token_endpoint_auth_method":"client_secret_basic",
	 "logo_uri":"https://client.example.org/logo.png","jwks_uri":"https://client.example.org/my_public_keys.jwks","example_extension_parameter":"example_value"}`
	c, err := ParseClientMetadata([]byte(in))
	if err != nil || len(c.Faults()) != 0 {
		t.Fatal(err, c.Faults())
	}
	if c.In("client_name", "ja-JP", "en") != "My Example Client" || c.In("client_name", "ja") != "クライアント名" || c.In("client_name", "ja-Jpan-JP-x") != "クライアント名" ||
		c.In("client_name", "fr") != "My Example Client" || c.In("tos_uri", "ja") != "" {
		t.Error("languages")
	}
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if json.Unmarshal([]byte(in), &a) != nil || json.Unmarshal(out, &b) != nil || !cmp.Equal(a, b) {
		t.Errorf("%s", out)
	}
	var again ClientMetadata
	if err := json.Unmarshal(out, &again); err != nil {
		t.Fatal(err)
	}
	if second, _ := json.Marshal(again); string(second) != string(out) {
		t.Errorf("%s", second)
	}
}

func TestRFC7591_ResponseMembers(t *testing.T) {
	c, err := ParseClientMetadata([]byte(`{"client_id":"x","client_secret":"s","client_secret_expires_at":0,"client_id_issued_at":"1795000000",
		"registration_access_token":"t","registration_client_uri":"https://a/r/x","client_name#":"bad","client_name#toolonglanguage":"bad","jwks":[]}`))
	if err != nil || *c.ClientSecretExpiresAt != 0 || *c.ClientIDIssuedAt != 1795000000 || c.RegistrationClientURI != "https://a/r/x" || c.AuthMethod() != "client_secret_basic" || c.JWKS != nil {
		t.Errorf("%+v %v", c, err)
	}
	if len(c.Faults()) != 4 {
		t.Error(faultsOf(c.Faults()))
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"resource":"x","authorization_servers":["y"],"client_name#ja":"z","jwks":{"keys":[{"kty":"oct"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParsePRM(b)
		_, _ = ParseMetadata(b)
		_, _ = ParseErrorResponse(b)
		_, _ = ParseTokenResponse(200, b)
		_, _ = ParseClientDocument(b, "https://x/y")
		c, err := ParseClientMetadata(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if _, err := ParseClientMetadata(out); err != nil {
			t.Fatalf("own output refused: %s: %v", out, err)
		}
	})
}
