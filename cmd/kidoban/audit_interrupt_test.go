package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban/lab"
)

// TestAuditInterrupted: an audit that is stopped says so in its report, removes what it
// made, and ends with a code of its own.
func TestAuditInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen atomic.Int64
	l, err := lab.Start(context.Background(), lab.Options{Flaws: []string{"F5-a"}, Front: func(_ string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1) == 30 {
				stop()
			}
			next.ServeHTTP(w, r)
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	state := t.TempDir()
	var out, errs bytes.Buffer
	e := &env{ctx: ctx, stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(name string) string {
		return map[string]string{"XDG_STATE_HOME": state, "HOME": state}[name]
	}}
	code := run(e, []string{"audit", l.MCPURL, "--lab", "--active", "--own-server"})
	if code != exitInterrupted || !strings.Contains(out.String(), "INTERRUPTED: the run was stopped before") || !strings.Contains(out.String(), "the run was interrupted → run it again") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	if strings.Contains(out.String(), "budget was spent") || strings.Contains(out.String(), "GRADE") || !strings.Contains(errs.String(), "being removed") {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	if left := l.Clients(); len(left) > 0 {
		t.Errorf("left behind %v", left)
	}
}

// TestInterruptedToolsCommands: a scan, a check and a pin that were stopped while
// a server kept silent end as stopped ones, in words of this program.
func TestInterruptedToolsCommands(t *testing.T) {
	dir := t.TempDir()
	lock, defs := filepath.Join(dir, "kidoban.lock"), filepath.Join(dir, "defs.json")
	if err := os.WriteFile(defs, []byte(`{"tools":[{"name":"a","description":"b","inputSchema":{"type":"object"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, dir, "tools", "pin", defs, "--by", "ann", "--lock", lock); code != exitClean {
		t.Fatalf("exit %d %s", code, errs)
	}
	for _, args := range [][]string{{"scan", "--lab"}, {"verify", "--lab", "--lock", lock}, {"pin", "--lab", "--by", "ann", "--lock", filepath.Join(dir, "new.lock")}, {"doctor"}} {
		t.Run(args[0], func(t *testing.T) {
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			over := make(chan struct{})
			silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				stop()
				<-over
			}))
			defer silent.Close()
			defer close(over)
			args := append([]string{"tools", args[0], silent.URL}, args[1:]...)
			if args[1] == "doctor" {
				args = args[1:]
			}
			var out, errs bytes.Buffer
			e := &env{ctx: ctx, stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(name string) string {
				return map[string]string{"XDG_STATE_HOME": dir, "HOME": dir}[name]
			}}
			if code := run(e, args); code != exitInterrupted || strings.Contains(errs.String(), "interrupted: context canceled") || strings.Contains(out.String(), "as it was") {
				t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
			}
			if _, err := os.Stat(filepath.Join(dir, "new.lock")); err == nil {
				t.Error("an interrupted pin wrote a lock file")
			}
		})
	}
}

// TestAuditBesideAGatewaysConfig: a gateway's config and the suppressions have one
// default name; the audit takes neither for the other, and still refuses a file
// that is meant for it and wrong.
func TestAuditBesideAGatewaysConfig(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]int{
		"servers:\n  a:\n    url: http://127.0.0.1:1/mcp\n    address: loopback\n": exitIncomplete,
		"public_url: http://127.0.0.1:1\n":                                         exitIncomplete,
		"suppresions: []\n":                                                        exitUsage,
		"servers: {}\nsuppressions: []\n":                                          exitUsage,
	} {
		if err := os.WriteFile("kidoban.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := command(t, t.TempDir(), "audit", "http://127.0.0.1:1/mcp", "--lab"); code != want {
			t.Errorf("%q: exit %d, want %d\n%s%s", text, code, want, out, errs)
		}
		if code, _, errs := command(t, t.TempDir(), "audit", "http://127.0.0.1:1/mcp", "--lab", "--config", "kidoban.yaml"); code != exitUsage {
			t.Errorf("%q named: exit %d\n%s", text, code, errs)
		}
	}
}
