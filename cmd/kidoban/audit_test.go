package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
)

// command runs kidoban with a state directory of its own.
func command(t *testing.T, state string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	e := &env{ctx: context.Background(), stdin: strings.NewReader(""), stdout: &out, stderr: &err,
		getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": state, "HOME": state}[name] }}
	code = run(e, args)
	return code, out.String(), err.String()
}

// TestAuditCommand: exit codes, files, baseline and suppressions.
func TestAuditCommand(t *testing.T) {
	l, err := lab.Start(context.Background(), lab.Options{Flaws: []string{"F5-a", "F2-a"}, Registrations: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	state, dir := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "run.json")
	code, out, stderr := command(t, state, "audit", l.MCPURL, "--lab", "--active", "--own-server", "--max-requests", "300", "--json", file)
	if code != exitFindings || !strings.Contains(out, "F2-a") || !strings.Contains(out, "GRADE") {
		t.Fatalf("exit %d\n%s\n%s", code, out, stderr)
	}
	if n := strings.Count(out, "\n"); n > 40 {
		t.Errorf("%d lines", n)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc kidoban.Run
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Schema != kidoban.RunSchema || len(doc.Results) != len(kidoban.Checks()) {
		t.Fatalf("%v: schema %s, %d results", err, doc.Schema, len(doc.Results))
	}
	if left := l.Clients(); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
	if code, _, stderr := command(t, state, "audit", l.MCPURL, "--lab", "--active", "-q", "--baseline", file); code != exitClean {
		t.Errorf("against its own baseline: exit %d %s", code, stderr)
	}
	if code, out, _ := command(t, state, "report"); code != exitClean || !strings.Contains(out, "F2-a") {
		t.Errorf("report of the kept run: exit %d\n%s", code, out)
	}
	var fp string
	for _, r := range doc.Results {
		if r.Key() == "F2-a" {
			fp = r.Fingerprint
		}
	}
	conf := filepath.Join(dir, "kidoban.yaml")
	text := "suppressions:\n  - check: F2-a\n    target: " + l.MCPURL + "\n    fingerprint: " + fp + "\n    reason: known\n    owner: ops\n    expires: 2999-01-01\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr = command(t, state, "audit", l.MCPURL, "--lab", "--active", "--config", conf)
	if code != exitClean || !strings.Contains(out, "suppressed 1") {
		t.Errorf("suppressed: exit %d\n%s\n%s", code, out, stderr)
	}
	if code, out, _ := command(t, state, "audit", l.MCPURL, "--lab", "--only", "F5-a", "--active", "--fail-on", "medium", "--json", "-"); code != exitFindings || !strings.HasPrefix(out, "{") {
		t.Errorf("one check to standard output: exit %d %.80s", code, out)
	}
}

// TestAuditCommandRefuses: wrong use ends with exit code 2 and a sentence, an
// unreachable server with 3.
func TestAuditCommandRefuses(t *testing.T) {
	state := t.TempDir()
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{exitUsage, "plain http", []string{"audit", "http://mcp.example.com/mcp"}},
		{exitUsage, "--lab", []string{"audit", "http://127.0.0.1:1/mcp"}},
		{exitUsage, "no check", []string{"audit", "https://mcp.example.com/mcp", "--only", "F99"}},
		{exitUsage, "tier", []string{"audit", "https://mcp.example.com/mcp", "--tiers", "T9"}},
		{exitUsage, "--redirect-uri", []string{"audit", "https://mcp.example.com/mcp", "--client-id", "x"}},
		{exitUsage, "empty", []string{"audit", "https://mcp.example.com/mcp", "--client-id", "x", "--redirect-uri", "https://a/cb", "--client-secret-env", "NOPE"}},
		{exitUsage, "", []string{"audit"}},
		{exitIncomplete, "", []string{"audit", "http://127.0.0.1:1/mcp", "--lab", "-q"}},
	} {
		code, _, stderr := command(t, state, c.args...)
		if code != c.code || !strings.Contains(stderr, c.text) {
			t.Errorf("%v: exit %d, %s", c.args, code, stderr)
		}
	}
}
