package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/lab"
)

// TestCensusProcess is no test of its own: it is the census that
// TestCensusSurvivesKill9 starts and kills.
func TestCensusProcess(t *testing.T) {
	args := os.Getenv("KIDOBAN_CENSUS_ARGS")
	if args == "" {
		return
	}
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: os.Stdout, stderr: os.Stderr}
	if code := run(e, strings.Split(args, "\n")); code != 0 {
		t.Fatalf("exit %d", code)
	}
}

// TestCensusSurvivesKill9: killed ten times in the middle, the same command goes
// on and ends with the bytes of a census that ran through.
func TestCensusSurvivesKill9(t *testing.T) {
	dir := t.TempDir()
	p, err := lab.StartPopulation(t.Context(), lab.PopulationOptions{N: 150, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	targets := filepath.Join(dir, "targets.txt")
	if err := wholeFile(targets, 0o666, p.WriteTargets); err != nil {
		t.Fatal(err)
	}
	census := func(name, workers string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCensusProcess$")
		cmd.Env = append(os.Environ(), "KIDOBAN_CENSUS_ARGS="+strings.Join([]string{"census", "run", targets, "--lab", "--interval", "0s", "--timeout", "3s",
			"--workers", workers, "--dir", filepath.Join(dir, name), "--json"}, "\n"))
		return cmd
	}
	if out, err := census("whole", "32").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	killed := 0
	for killed < 10 {
		cmd := census("cut", "2")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(150+40*killed) * time.Millisecond) // anywhere: start, import, measuring
		if err := cmd.Process.Kill(); err != nil {
			break // it was faster
		}
		cmd.Wait() //nolint:errcheck // it was killed
		killed++
	}
	if out, err := census("cut", "32").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"results.jsonl", "sources.json"} {
		a, err1 := os.ReadFile(filepath.Join(dir, "whole", name))
		b, err2 := os.ReadFile(filepath.Join(dir, "cut", name))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("after %d kills %s differs (%d and %d bytes, %v %v)", killed, name, len(a), len(b), err1, err2)
		}
	}
	var out bytes.Buffer
	e := &env{ctx: t.Context(), stdout: &out, stderr: os.Stderr}
	if code := run(e, []string{"census", "report", "--dir", filepath.Join(dir, "cut"), "--json"}); code != 0 || !json.Valid(out.Bytes()) {
		t.Errorf("exit %d: %s", code, &out)
	}
}

// TestCensusMetrics: what the progress says stands in /metrics, on loopback only.
func TestCensusMetrics(t *testing.T) {
	b := newBoard(&env{stderr: io.Discard})
	b.set(census.Progress{All: 10, Done: 4, Requests: 31, Classes: map[string]int{"oauth": 3, "dead": 1}})
	w := httptest.NewRecorder()
	b.metrics(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"kidoban_census_targets 10", "kidoban_census_done 4", "kidoban_census_requests_total 31", `kidoban_census_results_total{class="oauth"} 3`} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("%s is missing in %s", line, w.Body)
		}
	}
	if stop, err := b.serve("0.0.0.0:0"); err == nil {
		stop()
		t.Error("metrics were served to everybody")
	}
	stop, err := b.serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

// TestCensusAsksForAContact: strangers' servers are not measured anonymously,
// and a dry run contacts nobody.
func TestCensusAsksForAContact(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("https://mcp.example.com/mcp\nhttps://10.0.0.1/mcp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdout: &out, stderr: &errs}
	if code := run(e, []string{"census", "run", list, "--dir", t.TempDir()}); code != exitUsage || !strings.Contains(errs.String(), "--contact") {
		t.Errorf("exit %d: %s", code, &errs)
	}
	if code := run(e, []string{"census", "run", list, "--dry-run", "--json"}); code != 0 || !strings.Contains(out.String(), `"private_address":1`) || !strings.Contains(out.String(), `"every_entry_accounted_for":true`) {
		t.Errorf("exit %d: %s", code, &out)
	}
}

// TestPlanCountsOne: one of a thing is said as one in a plan too.
func TestPlanCountsOne(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("https://a.example/mcp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code := kidobanCmd(t, nil, "census", "run", list, "--dry-run")
	if code != exitClean || !strings.Contains(out, " 1 entry ") || !strings.Contains(out, " 1 new target ") || strings.Contains(out, "1 entries") {
		t.Errorf("%d %s%s", code, stderr, out)
	}
}
