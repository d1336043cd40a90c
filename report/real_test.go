package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/flaws"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/report"
)

// TestReportsOfARealAudit writes every format from an audit of a weak lab and
// holds the JSON to its schema: the sample alone could agree with nothing real.
func TestReportsOfARealAudit(t *testing.T) {
	l, err := lab.Start(context.Background(), lab.Options{Flaws: []string{"F1-a", "E01-a", "F5-b", "F4-1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, OwnServer: true, StateDir: t.TempDir(), MaxRequests: 600,
		Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	in := report.Input{Run: r.Run, Exchanges: r.Exchanges, Regrade: audit.Grade, Pages: func(id string) (report.Page, bool) {
		d, err := flaws.Text(id)
		return report.Page{Summary: d.Summary, Questions: d.Questions, Fix: d.Fix}, err == nil
	}}
	if len(report.Findings(in.Run.Results)) == 0 || len(in.Run.Chains) == 0 {
		t.Fatalf("the weak lab gave %d findings and %d chains", len(report.Findings(in.Run.Results)), len(in.Run.Chains))
	}
	validateRun(t, in)
	var page, text bytes.Buffer
	for _, f := range []func(io.Writer) error{
		func(io.Writer) error { return report.HTML(&page, in) },
		func(io.Writer) error { return report.Terminal{}.Write(&text, in) },
		func(w io.Writer) error { return report.SARIF(w, in) },
		func(w io.Writer) error { return report.JUnit(w, in, kidoban.High) },
		func(w io.Writer) error { return report.Markdown(w, in) },
		func(w io.Writer) error { return report.Badge(w, in.Run) },
	} {
		if err := f(io.Discard); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(text.String(), "\n"); n > 40 {
		t.Errorf("the terminal report has %d lines", n)
	}
	for _, want := range []string{"HOW AN ATTACKER GETS IN", "FAIL", "F4-1", "GRADE"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the terminal report lacks %q:\n%s", want, text.String())
		}
	}
	for _, r := range report.Findings(in.Run.Results) {
		if !strings.Contains(page.String(), `id="f-`+r.Key()+`"`) {
			t.Errorf("the page does not show %s", r.Key())
		}
	}
	for _, g := range in.Gains() {
		if g.Letter == "" {
			t.Errorf("no grade is told for fixing %s", g.Flaw)
		}
	}
	if dir := os.Getenv("KEEP_REPORT"); dir != "" {
		for name, b := range map[string][]byte{"report.html": page.Bytes(), "report.txt": text.Bytes()} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
}

func validateRun(t *testing.T, in report.Input) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "docs", "schema", "kidoban.audit.1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc bytes.Buffer
	if err := report.JSON(&doc, in.Run); err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(doc.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("a real run breaks the contract: %v", err)
	}
}
