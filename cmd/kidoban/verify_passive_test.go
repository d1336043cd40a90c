package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
)

// TestPassiveMatrix proves the passive judges on the plain profile: every switch,
// from an ordinary client's traffic. kidoban lab verify --passive runs them all.
func TestPassiveMatrix(t *testing.T) {
	var out, errs bytes.Buffer
	c := verifyCmd{Tiers: []string{"T0"}, Passive: true, Profiles: []string{"plain"}, Jobs: 2, JSON: true}
	err := c.Run(&env{ctx: context.Background(), stdout: &out, stderr: &errs})
	var rep verifyReport
	if jerr := json.Unmarshal(out.Bytes(), &rep); jerr != nil {
		t.Fatal(err, jerr)
	}
	for _, r := range rep.Results {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Why)
		}
	}
	if rep.Precision != 1 || rep.Recall != 1 || rep.Cases < 400 {
		t.Errorf("precision %v recall %v over %d cases", rep.Precision, rep.Recall, rep.Cases)
	}
	shown := map[string]bool{}
	for _, r := range rep.Results {
		for _, k := range r.Expect {
			shown[k] = true
			if r.Group != "odd" && slices.Contains(oddClients(), k) {
				t.Errorf("%s is shown by ordinary traffic", k)
			}
		}
	}
	for _, check := range kidoban.Checks() {
		if k := check.Key(); check.Passive && !slices.Contains(otherWires(), k) && !shown[k] {
			t.Errorf("%s is passive and no case shows it", k)
		}
	}
}

// TestAuditOfAFile: the same verdicts from the file as from the traffic, for
// everything that redaction leaves readable.
func TestAuditOfAFile(t *testing.T) {
	for _, key := range []string{"F3-a", "F6-A", "E11-d", "E28-a"} {
		sw := lab.Options{}
		for _, s := range lab.Switches() {
			if s.Key == key {
				sw, _ = s.Options(lab.Options{})
			}
		}
		l, err := lab.Start(t.Context(), sw)
		if err != nil {
			t.Fatal(err)
		}
		rec, o := outbound.NewRecorder(), audit.Observe()
		err = drive(t.Context(), l, "modern", 2, func(x *kidoban.Exchange) { rec.Add(*x); o.Add(x) })
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		live, err := o.Report(audit.ObservedOptions{Target: l.MCPURL})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "f.har")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.WriteHAR(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		var stdout, stderr bytes.Buffer
		e := &env{ctx: t.Context(), stdout: &stdout, stderr: &stderr, getenv: func(k string) string {
			if k == "XDG_STATE_HOME" || k == "HOME" {
				return dir
			}
			return ""
		}}
		code := run(e, []string{"audit", "--har", file, "--json", "-", "--fail-on", "info"})
		var got kidoban.Run
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v %s", key, err, stderr.String())
		}
		if code != exitFindings && slices.ContainsFunc(got.Results, func(r kidoban.Result) bool { return r.Outcome == kidoban.Fail }) {
			t.Errorf("%s: exit %d", key, code)
		}
		for i, r := range got.Results {
			if r.Key() == "E08-d" { // a requestState is masked in the file
				continue
			}
			if a, b := string(r.Outcome), string(live.Results[i].Outcome); a != b {
				t.Errorf("%s: %s is %s from the file and %s live: %s", key, r.Key(), a, b, r.Summary)
			}
		}
	}
}

func TestAuditNeedsSomething(t *testing.T) {
	for _, args := range [][]string{{"audit"}, {"audit", "--har", "/nonexistent"}, {"audit", "--har", "x", "--active"}, {"audit", "--keylog", "x"}} {
		var stdout, stderr bytes.Buffer
		if code := run(&env{ctx: t.Context(), stdout: &stdout, stderr: &stderr}, args); code != exitUsage || !strings.HasPrefix(stderr.String(), "kidoban: ") {
			t.Errorf("%v: exit %d %s", args, code, stderr.String())
		}
	}
}

// TestAuditOfWhatCannotBeRead: a sentence that says what, where and what to do.
func TestAuditOfWhatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(file, []byte("dear diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"--har": "notes.txt is no HAR file", "--burp": "notes.txt is no Burp export", "--pcap": "notes.txt is no packet capture", "--keylog": "notes.txt holds no TLS secrets"} {
		var stdout, stderr bytes.Buffer
		args := []string{"audit", flag, file}
		if flag == "--keylog" {
			args = append(args, "--pcap", file)
		}
		if code := run(&env{ctx: t.Context(), stdout: &stdout, stderr: &stderr}, args); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d %s", flag, code, stderr.String())
		}
	}
}
