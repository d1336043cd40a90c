package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestLabStudy reproduces the study's table and totals, from recorded traffic and by
// probing, without a false alarm and without a miss, over all of its servers.
func TestLabStudy(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	code := run(e, []string{"lab", "study", "--json", "--jobs", "2"})
	var doc struct{ Columns []studyColumn }
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, errs.String())
	}
	if code != exitClean || len(doc.Columns) != 3 {
		t.Errorf("exit %d, %d columns", code, len(doc.Columns))
	}
	want := printed()
	for _, c := range doc.Columns[1:] {
		for f, n := range want.Flaws {
			if c.Flaws[f] != n {
				t.Errorf("%s: %s at %d servers, the study has %d", c.Way, f, c.Flaws[f], n)
			}
		}
		for k, n := range want.Categories {
			if c.Categories[k] != n {
				t.Errorf("%s: %s at %d servers, the study has %d", c.Way, k, c.Categories[k], n)
			}
		}
		if c.Servers != 119 || c.Alerts != 325 || c.False != 0 || c.Missed != 0 || c.Three != want.Three {
			t.Errorf("%s: %d servers, %d alerts, %d false, %d missed, %d in three categories: %+v", c.Way, c.Servers, c.Alerts, c.False, c.Missed, c.Three, c.Wrong)
		}
	}
}

// TestLabStudyForPeople: the table names the study's own figures beside ours, and a
// wrong verdict is printed with its server and ends in exit code 1.
func TestLabStudyForPeople(t *testing.T) {
	col := count("recorded", []studied{
		{Server: "study-001", Has: []string{"F1"}, Found: []string{"F1", "F3"}, False: []string{"F3"}},
		{Server: "study-002", Situation: "noise-F8", Has: []string{"F1", "F9"}, Found: []string{"F1"}, Missed: []string{"F9"}},
	})
	var b bytes.Buffer
	printStudy(&b, []studyColumn{printed(), col})
	for _, want := range []string{"379         3", "54         1", "0.8575    0.6667", "0.9969    0.6667", "WRONG  recorded study-001 (): false [F3]", "study-002 (noise-F8): false [], missed [F9]"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
