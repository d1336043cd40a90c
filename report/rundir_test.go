package report

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// recordedRun makes evidence as the audit does: real requests through outbound,
// written by its recorder.
func recordedRun(t *testing.T) (dir string, runs string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://k7f3q.kidoban-probe.invalid/cb?code=SplxlOBeZQQYbYS6WxSbIA")
		w.WriteHeader(http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	runs = t.TempDir()
	dir = filepath.Join(runs, "20261121-093000-4f2a")
	if err := Save(dir, sample().Run); err != nil {
		t.Fatal(err)
	}
	rec, err := outbound.CreateRecorder(filepath.Join(dir, EvidenceFile))
	if err != nil {
		t.Fatal(err)
	}
	c := outbound.New(outbound.Options{Lab: true, Recorder: rec, Timeout: time.Minute})
	defer c.Close()
	for range 3 {
		_, err := c.Do(context.Background(), outbound.Req{Method: "POST", URL: srv.URL + "/token?x=1", Probe: "F9-2", Note: "control",
			Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer super-secret-token-0123456789"}}, Body: []byte("code=SplxlOBeZQQYbYS6WxSbIA&grant_type=authorization_code")})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, runs
}

func TestLoadReadsTheRecordersEvidence(t *testing.T) {
	dir, runs := recordedRun(t)
	for _, name := range []string{"", filepath.Base(dir), dir, filepath.Join(dir, RunFile)} {
		in, err := Load(runs, name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if len(in.Exchanges) != 3 || in.Run.Target.URL != sampleURL {
			t.Fatalf("%q: %d exchanges", name, len(in.Exchanges))
		}
		x := in.Exchanges[0]
		if x.ID != 1 || x.Probe != "F9-2" || x.Note != "control" || x.Status() != http.StatusFound || x.Header("Location") == "" {
			t.Errorf("%q: %+v", name, x)
		}
		line := Curl(x)
		if strings.Contains(line, "Splx") || strings.Contains(line, "super-secret") || strings.Contains(line, "sha256") || !strings.Contains(line, `"$CODE"`) || !strings.Contains(line, `"$AUTHORIZATION"`) {
			t.Errorf("curl: %s", line)
		}
	}
}

func TestLoadReadsTornEvidence(t *testing.T) {
	dir, runs := recordedRun(t)
	path := filepath.Join(dir, EvidenceFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := raw[:len(raw)-len(raw)/6]
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := Load(runs, dir)
	if err != nil || len(in.Exchanges) != 2 {
		t.Fatalf("%d exchanges, %v", len(in.Exchanges), err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, torn) {
		t.Error("reading changed the evidence")
	}
}

func TestLastIgnoresUnfinishedRuns(t *testing.T) {
	dir, runs := recordedRun(t)
	if err := os.MkdirAll(filepath.Join(runs, "20991231-000000-ffff"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := last(runs); err != nil || got != dir {
		t.Errorf("%q %v", got, err)
	}
	if _, err := Load(runs, "nothing"); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Error(err)
	}
}

func TestReadRunRefuses(t *testing.T) {
	for _, bad := range []string{"", "[]", `{"schema":"kidoban.audit/9"}`, `{"schema":1}`, "<html>"} {
		if _, err := ReadRun(strings.NewReader(bad)); kidoban.KindOf(err) != kidoban.KindInput {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRunsDir(t *testing.T) {
	for vars, want := range map[[2]string]string{
		{"/state", "/home/a"}: "/state/kidoban/runs",
		{"", "/home/a"}:       "/home/a/.local/state/kidoban/runs",
		{"rel", "/home/a"}:    "/home/a/.local/state/kidoban/runs", // the convention ignores relative values
	} {
		got := RunsDir(func(k string) string { return map[string]string{"XDG_STATE_HOME": vars[0], "HOME": vars[1]}[k] })
		if got != want {
			t.Errorf("%v: %s", vars, got)
		}
	}
}
