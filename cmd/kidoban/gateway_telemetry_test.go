package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/outbound/freeport"
)

// TestTelemetryOfARunningGateway sees a call, a refusal and an alert arrive at a
// Prometheus scrape, an OpenTelemetry receiver and a webhook.
func TestTelemetryOfARunningGateway(t *testing.T) {
	otlp, hook := &lockedBuffer{}, make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/alert" {
			hook <- r.Header.Get("X-Kidoban-Signature") + " " + string(body)
			return
		}
		fmt.Fprintf(otlp, "%s %s %s\n", r.URL.Path, r.Header.Get("Api-Key"), body)
	}))
	defer receiver.Close()
	at, err := freeport.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	metrics := at.String()
	dir := t.TempDir()
	for name, text := range map[string]string{"headers": "Api-Key: k3y\n", "url": receiver.URL + "/alert\n", "secret": "s3cret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	upstream, _ := echoServer(t)
	g := startGateway(t, fmt.Sprintf(`
servers:
  echo: {url: %q, address: loopback}
telemetry: {metrics: %q, otlp: %q, otlp_headers_file: %q, address: loopback}
registration:
  remote_hosts:
    - new.example
alerts:
  webhooks:
    - {name: ops, url_file: %q, secret_file: %q, address: loopback}
`, upstream, metrics, receiver.URL, filepath.Join(dir, "headers"), filepath.Join(dir, "url"), filepath.Join(dir, "secret")))
	g.setUp()
	token := g.token(g.url+"/s/echo/mcp", "mcp:read mcp:write")
	s := g.connect(g.url+"/s/echo/mcp", token)
	sayEcho(t, s, "echo", "hello")
	s.Close()
	resp, err := http.Post(g.url+"/register", "application/json", strings.NewReader(`{"client_name":"x","redirect_uris":["https://new.example/cb"]}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case got := <-hook:
		if !strings.HasPrefix(got, "t=") || !strings.Contains(got, `"kind":"first_seen_host"`) {
			t.Errorf("webhook got %s", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("no alert at the webhook")
	}
	resp, err = http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	for _, want := range []string{`kidoban_calls_total{decision="allowed",method="tools/call",rule="",server="echo"} 1`, `kidoban_auth_events_total{event="register",outcome="ok"} 2`,
		`kidoban_alerts_total{kind="first_seen_host",severity="medium"} 1`, "kidoban_audit_log_waiting_records ", "process_resident_memory_bytes "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if resp, err := http.Get(g.url + "/metrics"); err != nil || resp.StatusCode == http.StatusOK {
		t.Errorf("the public listener shows metrics: %v %v", resp.Status, err)
	}
	g.stop() // sends what waits
	for _, want := range []string{"/v1/traces k3y ", "/v1/logs k3y ", "tools/call echo"} {
		if !strings.Contains(otlp.String(), want) {
			t.Errorf("the receiver never saw %q", want)
		}
	}
	for _, where := range []string{otlp.String(), string(text), g.stderr.String()} {
		if strings.Contains(where, token) || strings.Contains(where, "s3cret") {
			t.Error("a secret got out")
		}
	}
}

func TestTelemetryConfigIsChecked(t *testing.T) {
	for config, want := range map[string]string{
		`telemetry: {metrics: "9464"}`:                                          "metrics must be address:port",
		`telemetry: {otlp: "http://collector.example"}`:                         "telemetry: otlp",
		`telemetry: {otlp: "https://c.example", sample_percent: 101}`:           "sample_percent must be 0 to 100",
		`alerts: {webhooks: [{url: "https://169.254.169.254/x"}]}`:              "alerts: webhook number 1",
		`alerts: {webhooks: [{url: "https://h.example/x", least: "terrible"}]}`: "least must be a severity",
		`alerts: {webhooks: [{url_file: "/nowhere"}]}`:                          "/nowhere cannot be read",
	} {
		path := filepath.Join(t.TempDir(), "k.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, said := operate(t, "gateway", "check", "--config", path); code != exitFindings || !strings.Contains(said, want) {
			t.Errorf("%s: exit %d, %s", config, code, said)
		}
	}
}

// TestEveryLimitIsTaken: a limit that the config offers and nobody asks would be a promise.
func TestEveryLimitIsTaken(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"gateway", "authserver"} {
		files, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(f, "_test.go") {
				code.Write(raw)
			}
		}
	}
	for field := range reflect.TypeFor[limit.Limits]().Fields() {
		if !regexp.MustCompile(`\.` + field.Name + `\b`).MatchString(code.String()) {
			t.Errorf("nobody takes %s", field.Name)
		}
	}
	for _, row := range strings.Split(configReference(), "\n") {
		if strings.HasPrefix(row, "| `call_per_tool`") && !strings.Contains(row, "calls of one tool and user") {
			t.Errorf("a limit does not say what it counts: %s", row)
		}
	}
}

// TestConfigPagesAreCurrent fails when the published reference or schema is not
// what this program reads.
func TestConfigPagesAreCurrent(t *testing.T) {
	for file, args := range map[string][]string{"config.md": {"config", "docs"}, "schema/gateway.schema.json": {"config", "schema"}} {
		code, said := operate(t, args...)
		want, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
		if err != nil || code != exitClean || said != string(want) {
			t.Errorf("docs/%s is not current: make docs (%v)", file, err)
		}
	}
}
