package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// TestDoctorSelf audits a fresh gateway with its defaults: nothing may fail.
func TestDoctorSelf(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	if code := run(e, []string{"doctor", "--self", "--json"}); code != exitClean {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var rep kidoban.Run
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			t.Errorf("%s %s: %s", r.Key(), r.Severity, r.Summary)
		}
	}
	if 100*rep.Coverage.Tested < 95*rep.Coverage.Applicable || rep.Grade.Bracketed {
		t.Errorf("coverage %d of %d, want 95 %%", rep.Coverage.Tested, rep.Coverage.Applicable)
	}
	if len(rep.Residue.LeftBehind) > 0 {
		t.Errorf("left behind: %v", rep.Residue.LeftBehind)
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{{"doctor"}, {"doctor", "--self", "http://127.0.0.1:1/mcp"}} {
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
		if code := run(e, args); code != exitUsage || !strings.Contains(errs.String(), "--self") {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}
