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
)

// kidobanCmd runs the program with args and an environment, and returns what it
// printed and its exit code.
func kidobanCmd(t *testing.T, vars map[string]string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &env{ctx: context.Background(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(k string) string { return vars[k] }}
	code = run(e, args)
	return out.String(), errs.String(), code
}

// TestDocsAreCurrent fails when docs/flaws is not what the texts beside the code
// give: make docs writes it.
func TestDocsAreCurrent(t *testing.T) {
	dir := t.TempDir()
	if _, stderr, code := kidobanCmd(t, nil, "docs", dir); code != exitClean {
		t.Fatal(stderr)
	}
	committed := filepath.Join("..", "..", "docs", "flaws")
	seen := map[string]bool{}
	for _, d := range []string{dir, committed} {
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range entries {
			seen[f.Name()] = true
		}
	}
	for name := range seen {
		want, _ := os.ReadFile(filepath.Join(dir, name))
		got, _ := os.ReadFile(filepath.Join(committed, name))
		if !bytes.Equal(want, got) {
			t.Errorf("docs/flaws/%s is not current: make docs", name)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, name := range []string{"F4", "f4", "F4-1", "tampered-state-redirects-error", "e36"} {
		out, stderr, code := kidobanCmd(t, nil, "explain", name)
		if code != exitClean || !strings.Contains(out, "NORMS") || !strings.Contains(out, "FIX") {
			t.Errorf("explain %s: %d %s%s", name, code, stderr, out)
		}
	}
	if out, _, _ := kidobanCmd(t, nil, "explain", "F4-1"); !strings.Contains(out, "tier T1 · critical") {
		t.Errorf("explain F4-1 does not say what the check is:\n%s", out)
	}
	_, stderr, code := kidobanCmd(t, nil, "explain", "verifier")
	if code != exitUsage || !strings.Contains(stderr, "did you mean token-without-verifier") {
		t.Errorf("explain of a half-known slug: %d %s", code, stderr)
	}
}

func TestChecksJSON(t *testing.T) {
	out, stderr, code := kidobanCmd(t, nil, "checks", "--json")
	if code != exitClean {
		t.Fatal(stderr)
	}
	var doc struct {
		Schema string
		Checks []listedCheck
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Checks) != len(kidoban.Checks()) {
		t.Errorf("%d checks listed, the catalogue has %d", len(doc.Checks), len(kidoban.Checks()))
	}
	for _, c := range doc.Checks {
		if c.Question == "" || len(c.Norms) == 0 {
			t.Errorf("%s has no question or norm", c.Key)
		}
	}
}

const sampleRun = "../../report/testdata/sample.json"

// TestReportOfTheLastRun stores a run as audit does and shows it again.
func TestReportOfTheLastRun(t *testing.T) {
	state := t.TempDir()
	vars := map[string]string{"XDG_STATE_HOME": state}
	if _, stderr, code := kidobanCmd(t, vars, "report"); code != exitUsage || !strings.Contains(stderr, "kidoban audit URL makes one") {
		t.Errorf("without a run: %d %s", code, stderr)
	}
	dir := filepath.Join(state, "kidoban", "runs", "20261121-093000-4f2a")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(sampleRun)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"report"}, {"report", "20261121-093000-4f2a"}, {"report", dir}} {
		out, stderr, code := kidobanCmd(t, vars, args...)
		if code != exitClean || !strings.Contains(out, "GRADE D") || strings.Contains(out, "\x1b") {
			t.Errorf("%v: %d %s\n%s", args, code, stderr, out)
		}
	}
	files := map[string]string{"--html": "<!doctype html>", "--sarif": `"version": "2.1.0"`, "--junit": "<testsuites", "--md": "### kidoban", "--badge": "<svg", "--json": `"kidoban.audit/1"`}
	for opt, want := range files {
		path := filepath.Join(t.TempDir(), "out")
		if _, stderr, code := kidobanCmd(t, vars, "report", opt, path); code != exitClean {
			t.Errorf("%s: %s", opt, stderr)
		}
		if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s wrote no %s", opt, want)
		}
		if out, _, _ := kidobanCmd(t, vars, "report", opt, "-"); !strings.Contains(out, want) {
			t.Errorf("%s - printed no %s", opt, want)
		}
	}
}

// TestReportPointsSARIFToTheServersLine uses the repository's own configuration.
func TestReportPointsSARIFToTheServersLine(t *testing.T) {
	config := filepath.Join(t.TempDir(), "mcp.json")
	if err := os.WriteFile(config, []byte("{\n \"servers\": {\n  \"files\": {\"url\": \"https://mcp.example.com/mcp\"}\n }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code := kidobanCmd(t, nil, "report", sampleRun, "--sarif", "-", "--server-config", config)
	if code != exitClean || !strings.Contains(out, `"startLine": 3`) {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestDiffOfARunWithItself(t *testing.T) {
	out, stderr, code := kidobanCmd(t, nil, "diff", sampleRun, sampleRun)
	if code != exitClean || !strings.Contains(out, "no finding appeared") {
		t.Errorf("%d %s%s", code, out, stderr)
	}
}
