package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/kidoban/kidoban/lab"
)

// TestFullDiskBehindStandardOutput: whatever a command prints, when it does not
// arrive the command says so in one sentence and does not end as a success.
func TestFullDiskBehindStandardOutput(t *testing.T) {
	l, err := lab.Start(context.Background(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{nil, {"--help"}, {"--version"}, {"gateway", "--help"}, {"checks"}, {"explain", "F4"}, {"advisories"},
		{"completion", "bash"}, {"config", "schema"}, {"tools", "scan", l.MCPURL, "--lab"}, {"audit", l.MCPURL, "--lab", "--json", "-"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var said bytes.Buffer
			state := t.TempDir()
			code := run(&env{ctx: context.Background(), stdin: strings.NewReader(""), stdout: full{}, stderr: &said,
				getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": state, "HOME": state}[name] }}, args)
			if code != exitInternal || strings.Count(said.String(), "no space left") != 1 || !strings.Contains(said.String(), "standard output cannot be written: no space left on device") {
				t.Errorf("exit %d, said %q", code, said.String())
			}
		})
	}
}

// full is a file on a disk that has no room.
type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}
