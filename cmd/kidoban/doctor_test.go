package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/store/storetest"
)

// examine runs doctor and fails on anything that is not as it should be: any
// fail or weak, anything left behind, less coverage than least percent.
func examine(t *testing.T, least int, getenv func(string) string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: getenv}
	if code := run(e, append([]string{"doctor", "--json"}, args...)); code != exitClean {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	var rep kidoban.Run
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	for _, r := range rep.Results {
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			t.Errorf("%s %s: %s", r.Key(), r.Severity, r.Summary)
		}
		if r.Outcome == kidoban.NotTested || r.Outcome == kidoban.Inconclusive {
			t.Logf("%s %s: %s", r.Key(), r.Outcome, r.Summary)
		}
	}
	if 100*rep.Coverage.Tested < least*rep.Coverage.Applicable || rep.Grade.Bracketed {
		t.Errorf("coverage %d of %d, want %d %%", rep.Coverage.Tested, rep.Coverage.Applicable, least)
	}
	t.Logf("grade %s, coverage %d of %d", rep.Grade.Letter, rep.Coverage.Tested, rep.Coverage.Applicable)
	if len(rep.Residue.LeftBehind) > 0 {
		t.Errorf("left behind: %v", rep.Residue.LeftBehind)
	}
}

func noEnv(string) string { return "" }

// TestDoctorSelf audits a fresh gateway with its defaults, on SQLite: nothing may
// fail.
func TestDoctorSelf(t *testing.T) { examine(t, 95, noEnv, "--self") }

// TestDoctorSelf_PostgreSQL is the same with the other engine.
func TestDoctorSelf_PostgreSQL(t *testing.T) {
	_, db := storetest.Own(t)
	examine(t, 95, noEnv, "--self", "--database", db)
}

// TestDoctorURL audits a gateway that runs already, with two of its users. Its
// operator's certificates do not vouch for the doctor's collector, so what needs
// that stays untested.
func TestDoctorURL(t *testing.T) {
	p, err := admit(t.Context(), t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	examine(t, 80, func(string) string { return p.secret }, p.url, "--login-as", p.users[0], "--password-env", "A", "--second-login-as", p.users[1], "--second-password-env", "B",
		"--second-url", p.second, "--tool", "list_notes", "--tool", "add_note")
}

// TestDoctorSaysWhatItDidNotReach: a running gateway is examined without a collector
// that it would fetch from; which flaws that leaves open, why, and what reaches them
// stands below the report.
func TestDoctorSaysWhatItDidNotReach(t *testing.T) {
	p, err := admit(t.Context(), t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: noEnv}
	if code := run(e, []string{"doctor", p.url}); code != exitClean {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	_, below, _ := strings.Cut(out.String(), "were not reached: ")
	for _, want := range []string{"E15 E16", "public address", "kidoban doctor --self", "--canary-domain DOMAIN --canary-listen ADDR", "E22", "--login-as NAME"} {
		if !strings.Contains(below, want) {
			t.Errorf("%q is not said:\n%s", want, out.String())
		}
	}
	results := []kidoban.Result{
		{ID: "F1", Outcome: kidoban.Pass}, {ID: "F1", Outcome: kidoban.NotTested, Reason: kidoban.ReasonLogin}, // one check decided
		{ID: "F2", Outcome: kidoban.NotApplicable},
		{ID: "E15", Outcome: kidoban.NotTested, Reason: kidoban.ReasonCanary}, {ID: "E15", Outcome: kidoban.NotApplicable},
	}
	if gaps := unreached(results); len(gaps) != 1 || gaps[0].why != kidoban.ReasonCanary || strings.Join(gaps[0].flaws, " ") != "E15" {
		t.Errorf("%v", gaps)
	}
	people := []kidoban.Result{{ID: "E22", Outcome: kidoban.NotTested, Reason: kidoban.ReasonLogin}, {ID: "E37", Outcome: kidoban.NotTested, Reason: kidoban.ReasonSecondLogin}}
	if gaps := unreached(people); len(gaps) != 1 || strings.Join(gaps[0].flaws, " ") != "E22 E37" {
		t.Errorf("two people are one gap: %v", gaps)
	}
	var said strings.Builder
	doctorCmd{testers: testers{Tool: []string{"add_note"}}}.tellReach(&said, []kidoban.Result{
		{ID: "E37", Outcome: kidoban.NotTested, Reason: kidoban.ReasonToolNamed, Detail: "--tool NAME, of a tool that tells who calls"}})
	if !strings.Contains(said.String(), "not of add_note") || !strings.Contains(said.String(), "tells who calls") {
		t.Errorf("the tools that were given are not told from the one that is missing: %s", said.String())
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{{"doctor"}, {"doctor", "--self", "--canary-listen", "127.0.0.1:0"}, {"doctor", "--self", "http://127.0.0.1:1/mcp"}, {"doctor", "--self", "--login-as", "alice"}} {
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
		if code := run(e, args); code != exitUsage || !strings.Contains(errs.String(), "--self") {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}
