package oauth

import (
	"strings"
	"testing"
)

func TestE16b_CheckClientIDURL(t *testing.T) {
	for raw, code := range map[string]string{
		"https://c.example/client.json":                    "",
		"https://c.example:8443/a/b?x=1":                   "",
		"https://xn--bcher-kva.example/c":                  "",
		"http://c.example/client.json":                     CodeNotHTTPS,
		"HTTPS://c.example/client.json":                    CodeNotHTTPS,
		"https://c.example":                                CodeNoPath,
		"https://c.example/":                               CodeNoPath,
		"https://c.example?x":                              CodeNoPath,
		"https://C.example/c":                              CodeNotCanonicalHost,
		"https://c.example:443/c":                          CodeNotCanonicalHost,
		"https://c.example./c":                             CodeBadHost,
		"https://c.example/a/../c":                         CodeDotSegment,
		"https://c.example/./c":                            CodeDotSegment,
		"https://c.example/a/%2e%2e/c":                     CodeDotSegment,
		"https://c.example/a/.%2E/c":                       CodeDotSegment,
		"https://c.example/a%2f..%2fc":                     CodeDotSegment,
		"https://c.example/c#f":                            CodeFragment,
		"https://u:p@c.example/c":                          CodeUserinfo,
		"https://c.example\\.evil.example/c":               CodeBackslash,
		"https://c.example/c\r\nX: y":                      CodeControlChar,
		"https://bücher.example/c":                         CodeNonASCII,
		"https://2130706433/c":                             CodeBadHost,
		"https:///c":                                       CodeNoHost,
		"":                                                 CodeEmpty,
		"https://c.example/" + strings.Repeat("x", MaxURL): CodeTooLong,
	} {
		if got := CodeOf(CheckClientIDURL(raw)); got != code {
			t.Errorf("%.60q: %q, want %q", raw, got, code)
		}
	}
	if LooksLikeClientIDURL("abc") || !LooksLikeClientIDURL("HTTPS://x") {
		t.Error("LooksLikeClientIDURL")
	}
}

func TestAS16_AS17_E16_ParseClientDocument(t *testing.T) {
	const url = "https://c.example/client.json"
	doc := func(members string) string { return `{"client_id":"` + url + `","client_name":"C"` + members + `}` }
	const redirects = `,"redirect_uris":["http://127.0.0.1/cb"]`
	for body, code := range map[string]string{
		doc(redirects): "",
		doc(redirects + `,"token_endpoint_auth_method":"none"`):                                                                         "",
		doc(redirects + `,"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b"}]}`): "",
		doc(redirects + `,"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://c.example/jwks"`):                          "",
		`<html>`:                              CodeNotJSON,
		`[]`:                                  CodeNotJSON,
		doc(redirects + `,"client_name":"D"`): CodeDocumentFault,
		doc(`,"redirect_uris":"x"`):           CodeDocumentFault,
		strings.Replace(doc(redirects), "client.json", "Client.json", 1): CodeClientIDDiffers,
		strings.Replace(doc(redirects), `"C"`, `" "`, 1):                 CodeMissingMember,
		doc(``):                                 CodeMissingMember,
		doc(`,"redirect_uris":[]`):              CodeMissingMember,
		doc(redirects + `,"client_secret":"s"`): CodeSymmetricSecret,
		doc(redirects + `,"client_secret":""`):  CodeSymmetricSecret,
		doc(redirects + `,"token_endpoint_auth_method":"client_secret_post"`):      CodeSymmetricSecret,
		doc(redirects + `,"token_endpoint_auth_method":"client_secret_jwt"`):       CodeSymmetricSecret,
		doc(redirects + `,"token_endpoint_auth_method":"tls_client_auth"`):         CodeAuthMethod,
		doc(redirects + `,"token_endpoint_auth_method":"private_key_jwt"`):         CodeNoKeys,
		doc(redirects + `,"jwks":{"keys":[]}`):                                     CodeNoKeys,
		doc(redirects + `,"jwks":{"keys":[{"kty":"oct","k":"x"}]}`):                CodePrivateKey,
		doc(redirects + `,"jwks":{"keys":[{"kty":"EC","x":"a","y":"b","d":"c"}]}`): CodePrivateKey,
		doc(redirects + `,"logo_uri":"javascript:alert(1)"`):                       CodeBadMetadataURL,
		doc(redirects + `,"client_uri#ja":"javascript:alert(1)"`):                  CodeBadMetadataURL,
		doc(redirects + `,"client_uri":"http://c.example"`):                        CodeBadMetadataURL,
		doc(`,"redirect_uris":["javascript:alert(1)"]`):                            CodeDangerousRedirect,
		doc(`,"redirect_uris":["https://a\\b/"]`):                                  CodeBackslash,
		doc(redirects + `,"x":"` + strings.Repeat("x", MaxClientDocument) + `"`):   CodeTooLong,
	} {
		c, err := ParseClientDocument([]byte(body), url)
		if CodeOf(err) != code || (err == nil) != (code == "") {
			t.Errorf("%.150s: %q, want %q (%v)", body, CodeOf(err), code, err)
		}
		if err == nil && c.TokenEndpointAuthMethod == "" {
			t.Error("no method")
		}
	}
}

func FuzzClientIDURL(f *testing.F) {
	f.Add("https://c.example/a")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckClientIDURL(s) != nil {
			return
		}
		o, err := Origin(s)
		if err != nil || !strings.HasPrefix(s, o+"/") {
			t.Errorf("accepted %q, origin %q, %v", s, o, err)
		}
	})
}
