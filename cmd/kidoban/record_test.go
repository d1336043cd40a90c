package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// recordedExample is the version of the TypeScript SDK whose example server the
// clients log in to.
const recordedExample = "@modelcontextprotocol/sdk@1.32.2"

// TestRecordCommand runs kidoban record between real clients and a real server: they
// log in through it and list the tools, verdicts are printed while they do, and
// kidoban audit --har says of the file what the recording said.
func TestRecordCommand(t *testing.T) {
	node, sdk := proofNPM(t, recordedExample)
	_, remote := proofNPM(t, proofRemote)
	_, inspect := proofNPM(t, proofInspector)
	browser := filepath.Join(t.TempDir(), "open.sh")
	if err := os.WriteFile(browser, []byte("#!/bin/sh\nexec curl -sL -o /dev/null \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		want string
	}{
		"mcp-remote": {[]string{filepath.Join(remote, "mcp-remote/dist/client.js"), "URL", "--host", "127.0.0.1"},
			[]string{"MCP_REMOTE_CONFIG_DIR=" + t.TempDir()}, "Connected successfully"},
		"inspector": {[]string{filepath.Join(inspect, "@modelcontextprotocol/inspector/clients/launcher/build/index.js"), "--cli", "URL", "--transport", "http", "--method", "tools/list", "--format", "json",
			"--callback-url", "http://127.0.0.1:" + proofPort(t) + "/oauth/callback"}, // its own port is one for all
			[]string{"MCP_STORAGE_DIR=" + t.TempDir(), "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file"}, "greet"},
	} {
		t.Run(name, func(t *testing.T) {
			server := startRecordedExample(t, node, sdk)
			dir := t.TempDir()
			har, live := filepath.Join(dir, "f.har"), filepath.Join(dir, "live.json")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, w := io.Pipe()
			var stderr strings.Builder
			done := make(chan int, 1)
			e := &env{ctx: ctx, stdin: strings.NewReader(""), stdout: w, stderr: &stderr, getenv: func(k string) string {
				if k == "XDG_STATE_HOME" || k == "HOME" {
					return dir
				}
				return ""
			}}
			go func() { done <- run(e, []string{"record", server, "--write-har", har, "--json", live}); w.Close() }()
			lines := bufio.NewReader(r)
			first, err := lines.ReadString('\n')
			at, ok := strings.CutPrefix(strings.TrimSpace(first), "point the client at ")
			if err != nil || !ok {
				t.Fatalf("%q %v", first, err)
			}
			var printed strings.Builder
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = io.Copy(&printed, lines) })

			args := append([]string{}, c.args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "URL", at)
			}
			within, stop := context.WithTimeout(t.Context(), 5*time.Minute)
			defer stop()
			cmd := exec.CommandContext(within, node, args...)
			cmd.Env = append(append(os.Environ(), "BROWSER="+browser), c.env...)
			in, err := cmd.StdinPipe() // mcp-remote leaves when its input ends
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.CombinedOutput()
			in.Close()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("the client: %v\n%s", err, out)
			}
			cancel() // as Ctrl-C does
			code := <-done
			wg.Wait()
			if code != exitFindings {
				t.Errorf("exit %d: %s", code, stderr.String())
			}
			if !strings.Contains(printed.String(), "F6-A") {
				t.Errorf("no live verdict about the missing interaction:\n%s", printed.String())
			}
			sameVerdicts(t, live, har, dir)
		})
	}
}

// sameVerdicts judges the file with kidoban audit and compares with the live run.
func sameVerdicts(t *testing.T, live, har, dir string) {
	t.Helper()
	var was kidoban.Run
	raw, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &was); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ := kidobanCmd(t, map[string]string{"XDG_STATE_HOME": dir, "HOME": dir}, "audit", "--har", har, "--json", "-", was.Target.URL)
	var is kidoban.Run
	if err := json.Unmarshal([]byte(stdout), &is); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if len(is.Results) != len(was.Results) || len(is.Results) == 0 {
		t.Fatalf("%d results live, %d from the file", len(was.Results), len(is.Results))
	}
	said := map[string]bool{}
	for i, r := range was.Results {
		if f := is.Results[i]; f.Outcome != r.Outcome || f.Evidence != r.Evidence || f.Summary != r.Summary {
			t.Errorf("%s: %s %q live, %s %q from the file", r.Key(), r.Outcome, r.Summary, f.Outcome, f.Summary)
		}
		said[r.Key()] = r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak
	}
	for _, k := range []string{"F6-A", "E11-g", "E12-a"} { // the example asks nobody, and leaves iss out
		if !said[k] {
			t.Errorf("%s was not found", k)
		}
	}
}

// startRecordedExample runs the example server; it asks nobody before it gives codes.
func startRecordedExample(t *testing.T, node, modules string) string {
	t.Helper()
	mcpPort, authPort := proofPort(t), proofPort(t)
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(modules, "@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js"), "--oauth")
	cmd.Env = append(os.Environ(), "MCP_PORT="+mcpPort, "MCP_AUTH_PORT="+authPort)
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, port := range []string{mcpPort, authPort} {
		listens(t, "localhost:"+port, said)
	}
	return "http://localhost:" + mcpPort + "/mcp"
}
