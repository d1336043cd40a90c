package main

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

// TestBenchAuthMeasures: every number is there, and an idle gateway is small. Rates
// and times depend on the machine and are not judged here.
func TestBenchAuthMeasures(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	if code := run(e, []string{"bench", "auth", "--json", "--seconds", "0.5", "--clients", "4", "--starts", "1", "--idle", "3s"}); code != exitClean {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var b benchAuth
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if b.StartMS <= 0 || b.Syncs <= 0 || b.Refreshes <= 0 || b.RefreshP99 <= 0 || b.Flows <= 0 || b.FlowP99 <= 0 {
		t.Errorf("%+v", b)
	}
	// The test binary holds the tests too, and other tests run beside it; the program
	// itself is below 40 MB, which make bench shows.
	if runtime.GOOS == "linux" && (b.IdleRSS <= 0 || b.IdleRSS > 90) {
		t.Errorf("%.0f MB at rest", b.IdleRSS)
	}
}
