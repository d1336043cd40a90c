package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/term"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/flaws"
	"github.com/kidoban/kidoban/report"
)

// outputs are the files a report can be written to; "-" is standard output.
// kidoban audit takes the same options.
type outputs struct {
	JSON     string `name:"json" placeholder:"FILE" help:"Write the JSON contract (kidoban.audit/1)."`
	HTML     string `name:"html" placeholder:"FILE" help:"Write one self-contained HTML file."`
	SARIF    string `name:"sarif" placeholder:"FILE" help:"Write SARIF 2.1.0 for code scanning."`
	JUnit    string `name:"junit" placeholder:"FILE" help:"Write JUnit XML."`
	Markdown string `name:"md" placeholder:"FILE" help:"Write a comment for a pull request."`
	Badge    string `name:"badge" placeholder:"FILE" help:"Write an SVG badge with grade, tiers and date."`
	Config   string `name:"server-config" placeholder:"FILE" help:"The mcp.json or kidoban.lock that names the server: SARIF points to its line."`
	FailOn   string `name:"fail-on" enum:"critical,high,medium,low,info" default:"high" help:"Severity from which findings count as failures (${enum})."`
}

// wanted reports whether any file is asked for.
func (o outputs) wanted() bool {
	return o.JSON+o.HTML+o.SARIF+o.JUnit+o.Markdown+o.Badge != ""
}

// write writes every file that was asked for.
func (o outputs) write(e *env, in report.Input) error {
	if o.Config != "" {
		data, err := os.ReadFile(o.Config)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "the server configuration %s cannot be read", o.Config)
		}
		if where, ok := report.FindServer(o.Config, data, in.Run.Target.URL); ok {
			in.Where = where
		} else {
			in.Where = report.Location{File: o.Config, Line: 1}
		}
	}
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{o.JSON, func(w io.Writer) error { return report.JSON(w, in.Run) }},
		{o.HTML, func(w io.Writer) error { return report.HTML(w, in) }},
		{o.SARIF, func(w io.Writer) error { return report.SARIF(w, in) }},
		{o.JUnit, func(w io.Writer) error { return report.JUnit(w, in, kidoban.Severity(o.FailOn)) }},
		{o.Markdown, func(w io.Writer) error { return report.Markdown(w, in) }},
		{o.Badge, func(w io.Writer) error { return report.Badge(w, in.Run) }},
	} {
		if f.path == "" {
			continue
		}
		if err := writeFile(e, f.path, 0o600, f.write); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes through a buffer, so that a failure leaves no half a report.
func writeFile(e *env, path string, mode os.FileMode, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	put := func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err }
	if path == "-" {
		return put(e.stdout)
	}
	return wholeFile(path, mode, put)
}

// places tells before a run whether its files will have a place: nobody waits for a
// report that then cannot be kept.
func places(files ...string) error {
	for _, path := range files {
		if path == "" || path == "-" {
			continue
		}
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return kidoban.Errorf(kidoban.KindUsage, "%s is a directory: name a file in it", path)
		}
		if st, err := os.Stat(filepath.Dir(path)); err != nil || !st.IsDir() {
			return kidoban.Errorf(kidoban.KindUsage, "%s cannot be written: there is no directory %s", path, filepath.Dir(path))
		}
	}
	return nil
}

// reportCmd shows a stored run again.
type reportCmd struct {
	Run_ string `arg:"" optional:"" name:"run" help:"A run directory, a run.json or a run's id; the last run by default."`
	outputs
}

// Run prints the terminal report, or writes the files asked for.
func (c reportCmd) Run(e *env) error {
	in, err := loadRun(e, c.Run_)
	if err != nil {
		return err
	}
	if c.wanted() {
		return c.write(e, in)
	}
	return terminal(e).Write(e.stdout, in)
}

// loadRun reads a stored run and gives it the texts reports use.
func loadRun(e *env, name string) (report.Input, error) {
	in, err := report.Load(report.RunsDir(e.env), name)
	if err != nil {
		return report.Input{}, err
	}
	in.Pages, in.Regrade = flawPage, audit.Grade
	return in, nil
}

// flawPage gives reports the text about a flaw.
func flawPage(id string) (report.Page, bool) {
	d, err := flaws.Text(id)
	if err != nil {
		return report.Page{}, false
	}
	p := report.Page{Summary: d.Summary, Why: d.Why, Questions: d.Questions, Fix: d.Fix}
	for _, n := range d.Norms {
		p.Norms = append(p.Norms, report.Norm{Ref: n.Ref(), Text: n.Text})
	}
	for _, s := range d.Snippets {
		p.Snippets = append(p.Snippets, report.Snippet{Lang: s.Lang, Code: s.Code})
	}
	return p, true
}

// terminal describes standard output: colours only on a terminal and without
// NO_COLOR, the width from the terminal or COLUMNS.
func terminal(e *env) report.Terminal {
	t := report.Terminal{}
	f, ok := file(e.stdout)
	if ok && term.IsTerminal(int(f.Fd())) {
		t.Colour = e.env("NO_COLOR") == "" && e.env("TERM") != "dumb"
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.Width = w
		}
	}
	if w, err := strconv.Atoi(e.env("COLUMNS")); err == nil && w > 0 && w < 1000 {
		t.Width = w
	}
	return t
}
