package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestDocsOfAccountsAreAccepted: every config in the page passes the check of the
// gateway, with the files it names in place.
func TestDocsOfAccountsAreAccepted(t *testing.T) {
	raw, err := os.ReadFile("../../docs/accounts.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n"
	for _, name := range []string{"github.secret", "client.pem", "files.secret", "login.secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(raw), -1)
	if len(blocks) < 6 {
		t.Fatalf("%d configs in the page", len(blocks))
	}
	for _, b := range blocks {
		conf, err := parseGatewayConfig("accounts.md", []byte(strings.ReplaceAll(b[1], "/etc/kidoban", dir)))
		if err != nil {
			t.Errorf("%s\n%v", b[1], err)
			continue
		}
		if conf, err = conf.withDefaults(); err != nil {
			t.Fatal(err)
		}
		g, err := conf.gateway()
		if err == nil {
			err = g.Validate()
		}
		apps, aerr := conf.apps()
		if err != nil || aerr != nil || strings.Contains(b[1], "oauth:") != (len(apps) == 1) {
			t.Errorf("%s\n%v %v, %d apps", b[1], err, aerr, len(apps))
		}
	}
}

// TestGatewayCheckOfAccounts: what does not fit together is named.
func TestGatewayCheckOfAccounts(t *testing.T) {
	for text, want := range map[string]string{
		"account: shared\n    oauth: {discover: true}":                                                                   "needs account: user",
		"account: user\n    oauth: {discover: true, issuer: 'https://as.example'}":                                       "choose one",
		"account: user\n    oauth: {grant: client_credentials, discover: true, client_id: x}":                            "needs account: shared",
		"account: shared\n    oauth: {grant: client_credentials, discover: true}":                                        "needs client_id",
		"account: user\n    oauth: {grant: id_jag, discover: true, client_id: x}":                                        "needs provider.issuer",
		"account: user\n    oauth: {grant: password, discover: true}":                                                    "grant must be",
		"account: user\n    oauth: {issuer: 'http://as.example', client_id: x}":                                          "oauth",
		"account: user\n    oauth: {discover: true, params: {state: x}}":                                                 "must not hold state",
		"account: user\n    oauth: {issuer: 'https://as.example', client_id: x, legacy: true}":                           "legacy goes with discover",
		"account: user\n    oauth: {discover: true, key_file: /nowhere}":                                                 "cannot be read",
		"account: user\n    oauth: {issuer: 'https://as.example', client_id: x, token_endpoint: 'https://as.example/t'}": "needs both",
	} {
		conf, err := parseGatewayConfig("x.yaml", []byte("servers:\n  s:\n    url: https://s.example/mcp\n    "+text+"\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := conf.apps(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestGVA5_SecretsInTheConfigAreRefused, in a header as in an environment, with the
// command that fixes it and without the secret.
func TestGVA5_SecretsInTheConfigAreRefused(t *testing.T) {
	const secret = "ghp_0123456789abcdef"
	for text, fix := range map[string]string{
		"url: https://s.example/mcp\n    headers: {X-Key: " + secret + "}": "kidoban vault set s",
		"command: [/bin/true]\n    env: {API_KEY: " + secret + "}":         "kidoban vault set s --env API_KEY",
	} {
		conf, err := parseGatewayConfig("x.yaml", []byte("servers:\n  s:\n    "+text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conf.gateway(); err == nil || !strings.Contains(err.Error(), fix) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
