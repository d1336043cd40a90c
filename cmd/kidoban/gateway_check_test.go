package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestGatewayConfigErrorsSpeakOfYAML: what belongs there, in words of the file, not of
// the program; and nothing that a terminal would obey.
func TestGatewayConfigErrorsSpeakOfYAML(t *testing.T) {
	for text, want := range map[string]string{
		"listen: [1]\n":   "a text belongs here, not a list",
		"open: perhaps\n": "true or false belongs here, not a text",
		"limits:\n  login_per_ip: {count: many}\n": "a whole number belongs here, not a text",
		"servers: 3\n":                              "members belong here",
		"trusted_proxies: 10.0.0.0/8\n":             "a list belongs here",
		"servers:\n\ta: {}\n":                       "a tab stands where",
		"name: \x1b[2J\n":                           "is no text",
		"name: \xff\n":                              "is no text",
		"nmae: " + strings.Repeat("x", 5000) + "\n": "…",
	} {
		_, err := parseGatewayConfig("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") || len(err.Error()) > 600 {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestGatewayConfigErrorsHaveAPlace(t *testing.T) {
	for text, want := range map[string]string{
		"servers:\n  a:\n    url: x\n    colour: red\n":  "f.yaml:4:5: unknown field",
		"servers:\n  a:\n    url: x\n  a:\n    url: y\n": "f.yaml:4:3: ",
		"listen: [1]\n":                                           "f.yaml:1:",
		"servers:\n  a:\n    ports: [no]\n":                       "f.yaml:3:",
		"servers: {a: {url: x}\n":                                 "f.yaml:",
		"drain: soon\n":                                           "f.yaml:1:",
		"open: perhaps\n":                                         "f.yaml:1:",
		"tokens:\n  access: 5m\n  acces: 5m\n":                    "f.yaml:3:3: ",
		"public_url: &a https://x\nname: *b\n":                    "f.yaml:",
		"registration:\n  dcr: false\n  deny:\n  - {kin: host}\n": "f.yaml:4:",
	} {
		_, err := parseGatewayConfig("f.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := parseGatewayConfig("f.yaml", nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestGatewayCheckListsEverythingAtOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	text := `
public_url: http://gate.example
listen: 0.0.0.0:8787
open: true
vault_key: oddkms://keys/x
limits: {call_per_moon: {count: 1, per: 1s, burst: 1}}
trusted_proxies: [everybody]
servers:
  Bad_Name: {url: "https://a.example/mcp"}
  plain: {url: "http://a.example/mcp"}
  secret: {url: "https://a.example/mcp", headers: {X-Token: ghp_0123456789abcdef}}
  both: {url: "https://a.example/mcp", command: [x]}
  turned: {url: "https://a.example/mcp", title: "\u202Egpj.exe"}
  hebrew: {url: "https://a.example/mcp", title: "ארכיון\u200f (2)"}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := kidobanCmd(t, nil, "gateway", "check", "-c", file, "--data", dir)
	if code != exitFindings {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"must begin with https://", "open switches authorization off", "call_per_moon", "everybody", "Bad_Name", "vault_key must be", "server plain: plain http", "kidoban vault set secret", "server both", "title of server turned holds U+202E", "docs/gateway.md#"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hebrew") {
		t.Errorf("a mark of ordinary Hebrew is refused:\n%s", out)
	}
	if strings.Contains(out, "ghp_0123") {
		t.Error("a secret is printed")
	}
	if _, stderr, code := kidobanCmd(t, nil, "gateway", "-c", file, "--data", dir); code != exitUsage || !strings.Contains(stderr, "gateway check") {
		t.Errorf("such a gateway starts: %d %s", code, stderr)
	}
}

func TestGatewaySchemaAcceptsWhatTheGatewayAccepts(t *testing.T) {
	out, _, code := kidobanCmd(t, nil, "config", "schema")
	if code != exitClean {
		t.Fatal(code)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for text, good := range map[string]bool{
		`{"listen":"127.0.0.1:1","servers":{"a":{"url":"https://a.example","account":"user","idle":"5m"}}}`: true,
		`{"servers":{"a":{"command":["x"],"runner":"docker","ports":[443]}},"registration":{"dcr":false}}`:  true,
		`{"servers":{"a":{"urll":"x"}}}`:           false,
		`{"servers":{"a":{"runner":"chroot"}}}`:    false,
		`{"drain":"soon"}`:                         false,
		`{"limits":{"call_per_user":{"count":1}}}`: true,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestGatewayCheckPointsToTheDocs: every code has its place in the page.
func TestGatewayCheckPointsToTheDocs(t *testing.T) {
	src, err := os.ReadFile("gateway_config.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?:fail\(|warn\(|gatewayFinding\{)"([a-z]+)"`).FindAllStringSubmatch(string(src), -1)
	if len(codes) < 10 {
		t.Fatalf("%d codes", len(codes))
	}
	for _, c := range codes {
		if n := strings.Count(string(page), "\n### "+c[1]+"\n"); n != 1 {
			t.Errorf("docs/gateway.md has %d headings %s", n, c[1])
		}
	}
}
