package main

import (
	"bytes"
	"context"
	"net/http"
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
