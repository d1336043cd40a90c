package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TestGAS9_AssertionsOfAConfiguredProvider: an identity provider of the config says for
// whom a client may act; the token that comes of it opens the server. A client that may
// introspect sees it, another one does not.
func TestGAS9_AssertionsOfAConfiguredProvider(t *testing.T) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k", Algorithm: "EdDSA", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	secret := rand.Text() + rand.Text()
	for name, text := range map[string][]byte{"keys.json": keys, "secret": []byte(secret)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	up, _ := echoServer(t)
	client := "  - {id: %s, auth_method: client_secret_basic, secret_file: " + filepath.Join(dir, "secret") + ", scopes: [mcp:read, mcp:write]%s}\n"
	g := startGateway(t, "registration: {confidential_only: true}\nlogin:\n  assertions:\n  - {issuer: https://idp.example, jwks_file: "+filepath.Join(dir, "keys.json")+"}\nclients:\n"+
		fmt.Sprintf(client, "agent", "")+fmt.Sprintf(client, "watcher", ", introspects: true")+fmt.Sprintf(client, "other", "")+
		"servers:\n  echo:\n    url: "+up+"\n    address: loopback\n")
	ask := func(who, path string, form url.Values) (code int, out map[string]any) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, g.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(who, secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, out
	}
	assertion := func(issuer string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: "k"}}, (&jose.SignerOptions{}).WithType("oauth-id-jag+jwt"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		text, err := jwt.Signed(signer).Claims(map[string]any{"iss": issuer, "sub": "emp-1", "aud": g.url, "client_id": "agent", "jti": rand.Text(),
			"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "resource": g.url + "/s/echo/mcp", "scope": "mcp:read mcp:write"}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	grant := func(issuer string) (int, map[string]any) {
		return ask("agent", "/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion(issuer)}})
	}
	if code, out := grant("https://another.example"); code != http.StatusBadRequest || out["error"] != "invalid_grant" {
		t.Errorf("a provider that is not configured: %d %v", code, out)
	}
	code, out := grant("https://idp.example")
	token, _ := out["access_token"].(string)
	if code != http.StatusOK || token == "" {
		t.Fatalf("%d %v", code, out)
	}
	for who, sees := range map[string]bool{"watcher": true, "agent": true, "other": false} {
		if code, out := ask(who, "/introspect", url.Values{"token": {token}}); code != http.StatusOK || out["active"] != sees {
			t.Errorf("%s introspects: %d %v", who, code, out)
		}
	}
	req, err := http.NewRequest(http.MethodPost, g.url+"/s/echo/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream"} {
		req.Header.Set(name, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"serverInfo"`) {
		t.Errorf("the token opens nothing: %d %s (%v)", resp.StatusCode, body, err)
	}
	meta, err := http.Get(g.url + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Body.Close()
	var said struct {
		Grants  []string `json:"grant_types_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := json.NewDecoder(meta.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	if list := fmt.Sprint(said); !strings.Contains(list, "jwt-bearer") || strings.Contains(list, "none") {
		t.Errorf("the metadata says %s", list)
	}
}

// TestGatewayCheckOfAssertions: what cannot work is named before the start.
func TestGatewayCheckOfAssertions(t *testing.T) {
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "no-keys.json")
	text := `
registration: {confidential_only: true}
login:
  assertions:
  - {issuer: "http://plain.example", jwks_uri: "https://plain.example/keys"}
  - {issuer: "https://none.example"}
  - {issuer: "https://listened.example", jwks_uri: "http://listened.example/keys"}
  - {issuer: "https://broken.example", jwks_file: "` + empty + `"}
  - {issuer: "https://twice.example", jwks_uri: "https://twice.example/keys"}
  - {issuer: "https://twice.example", jwks_uri: "https://twice.example/keys2"}
clients:
- {id: open-one, redirect_uris: ["http://127.0.0.1/cb"], introspects: true}
servers:
  a: {url: "https://a.example/mcp"}
`
	for name, body := range map[string]string{file: text, empty: "{}"} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _, code := kidobanCmd(t, nil, "gateway", "check", "-c", file, "--data", dir)
	if code != exitFindings {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{`issuer "http://plain.example" must be an https URL`, `"https://none.example": give its public keys`, `jwks_uri "http://listened.example/keys" must be`,
		`"https://broken.example": jwks_file must hold`, `"https://twice.example" are configured twice`, `"open-one" may introspect only`, `"open-one" does not authenticate`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}
