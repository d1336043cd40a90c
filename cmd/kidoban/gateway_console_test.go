package main

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// TestConsole_InTheGateway: the program serves the console with the gateway's
// login, names it on the account page, counts what happens, and keeps foreign host
// names out.
func TestConsole_InTheGateway(t *testing.T) {
	g := startGateway(t, "servers:\n  files:\n    url: http://127.0.0.1:9/mcp\n    address: loopback\n    headers: {X-Team: \"s3cr3t-team\"}\n")
	g.setUp()
	if body, _ := g.page(g.url+"/account", nil); !strings.Contains(body, `href="/console"`) {
		t.Error("the account page does not lead to the console")
	}
	waitFor(t, func() bool { // records are written behind the answer
		body, _ := g.page(g.url+"/console/log", nil)
		return strings.Contains(body, "auth:setup")
	})
	for path, want := range map[string]string{"/console": `class="plot"`, "/console/servers": "files", "/console/limits": "registration_per_ip", "/console/settings": "X-Team: (hidden)", "/console/log": "auth:setup", "/console/mine": "/decisions"} {
		body, resp := g.page(g.url+path, nil)
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "s3cr3t") {
			t.Errorf("%s: %d %.2000s", path, resp.StatusCode, body)
		}
	}
	r, err := http.NewRequest("GET", g.url+"/console", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	resp, err := g.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign host name: %d", resp.StatusCode)
	}
}

// TestConsole_SettingsHideSecrets: nothing that may be a secret is shown, the rest is.
func TestConsole_SettingsHideSecrets(t *testing.T) {
	c := gatewayConfig{PublicURL: "https://mcp.example", Database: "postgres://kidoban:p4ssw0rd@db.example/kidoban?sslmode=require&password=p4ssw0rd", Servers: map[string]serverConfig{
		"a": {URL: "https://a.example/mcp?key=p4ssw0rd", Headers: map[string]string{"X-Key": "p4ssw0rd"}},
		"b": {Command: []string{"srv", "--api-key", "p4ssw0rd", "--token=p4ssw0rd", "--root", "/data", "ghp_p4ssw0rdp4ssw0rd"}, Env: map[string]string{"K": "p4ssw0rd"}},
	}}
	text, err := c.shown()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "p4ssw0rd") {
		t.Errorf("%s", text)
	}
	for _, want := range []string{"db.example", "https://a.example/mcp", "X-Key", "--root", "/data", "sslmode=require"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not shown: %s", want, text)
		}
	}
	for _, unset := range []string{"drain", "pages", "limits", "login", "null", `""`} {
		if strings.Contains(string(text), unset) {
			t.Errorf("%s is shown, which nobody set: %s", unset, text)
		}
	}
	if c.Servers["b"].Command[2] != "p4ssw0rd" || c.Servers["a"].Headers["X-Key"] != "p4ssw0rd" {
		t.Error("the config itself was changed")
	}
}

// TestConsole_SettingsCanBeRead: spans of time stand as the file has them, and what is
// shown is a file that says the same.
func TestConsole_SettingsCanBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"drain: 20s": "drain: 20s", "drain: 90s": "drain: 1m30s", "drain: 10m": "drain: 10m", "drain: 120m": "drain: 2h", "drain: 61m1s": "drain: 1h1m1s", "drain: 1h20m": "drain: 1h20m",
		"notice: 0s": "notice: 0s", "limits: {login_per_ip: {count: 5, per: 250ms, burst: 2}}": "per: 250ms",
	} {
		c, err := parseGatewayConfig("test.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		shown, err := c.shown()
		if err != nil || !strings.Contains(string(shown)+"\n", want+"\n") {
			t.Errorf("%s is shown as %s (%v)", text, shown, err)
			continue
		}
		again, err := parseGatewayConfig("test.yaml", shown)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%s: what is shown is another config: %s (%v)", text, shown, err)
		}
	}
}
