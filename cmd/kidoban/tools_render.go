package main

import (
	"fmt"
	"html/template"
	"io"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
)

// scanSchema names the JSON contract of a tool scan.
const scanSchema = "kidoban.tools/1"

// scanReport is the JSON contract of a tool scan.
type scanReport struct {
	Schema   string             `json:"schema"`
	Tool     string             `json:"tool"`
	Servers  []string           `json:"servers"`
	Problems []string           `json:"problems"`
	Static   []toolscan.Finding `json:"static"`
	toolscan.Report

	strict, all bool
}

// counts says whether a verdict is a finding under --strict-only.
func (r *scanReport) counts(v *toolscan.Verdict) bool {
	if r.strict {
		return v.Strict
	}
	return v.Flagged
}

// failing says whether anything reaches failOn. A flagged item counts by its
// strongest finding.
func (r *scanReport) failing(failOn kidoban.Severity) bool {
	for i := range r.Verdicts {
		if v := &r.Verdicts[i]; r.counts(v) && worstSeverity(v.Findings).Rank() >= failOn.Rank() {
			return true
		}
	}
	for _, list := range [][]toolscan.Finding{r.Static, r.Cross} {
		for i := range list {
			if list[i].Severity.Rank() >= failOn.Rank() {
				return true
			}
		}
	}
	return false
}

func worstSeverity(fs []toolscan.Finding) kidoban.Severity {
	worst := kidoban.Info
	for i := range fs {
		if fs[i].Tier != toolscan.Label && fs[i].Severity.Rank() > worst.Rank() {
			worst = fs[i].Severity
		}
	}
	return worst
}

// toolOutputs are the formats of a tool scan.
type toolOutputs struct {
	JSON   string `name:"json" placeholder:"FILE" help:"Write the JSON contract (kidoban.tools/1); - for standard output."`
	SARIF  string `name:"sarif" placeholder:"FILE" help:"Write SARIF 2.1.0 for code scanning."`
	HTML   string `name:"html" placeholder:"FILE" help:"Write one self-contained HTML file."`
	FailOn string `name:"fail-on" enum:"critical,high,medium,low,info" default:"medium" help:"Severity from which findings count as failures (${enum})."`
}

// write writes every format that was asked for, and the terminal's unless
// standard output holds another.
func (o toolOutputs) write(e *env, r *scanReport) error {
	if r.Problems == nil {
		r.Problems = []string{}
	}
	if r.Static == nil {
		r.Static = []toolscan.Finding{}
	}
	if r.Cross == nil {
		r.Cross = []toolscan.Finding{}
	}
	if r.Flows == nil {
		r.Flows = []toolscan.Flow{}
	}
	if r.Verdicts == nil {
		r.Verdicts = []toolscan.Verdict{}
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer, *scanReport) error
	}{{o.JSON, func(w io.Writer, r *scanReport) error { return writeJSON(w, r) }}, {o.SARIF, writeScanSARIF}, {o.HTML, writeScanHTML}} {
		if f.name == "" {
			continue
		}
		if err := writeFile(e, f.name, 0o666, func(w io.Writer) error { return f.write(w, r) }); err != nil {
			return err
		}
	}
	if o.JSON == "-" || o.SARIF == "-" || o.HTML == "-" {
		return nil
	}
	return writeScanText(e.stdout, r, colourful(e))
}

// colourful says whether the terminal takes colours.
func colourful(e *env) bool { return e.env("NO_COLOR") == "" && isTerminal(e.stdout) }

// paint wraps text in a colour.
func paint(on bool, code, text string) string {
	if !on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func severityColour(s kidoban.Severity) string {
	switch s {
	case kidoban.Critical, kidoban.High:
		return "31;1"
	case kidoban.Medium:
		return "33"
	}
	return "2"
}

// writeScanText writes the scan for a terminal. Everything is said in words;
// whatever came from a server has been made visible by the scanner.
func writeScanText(w io.Writer, r *scanReport, colour bool) error {
	p := &lines{w: w}
	flagged := 0
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if !r.counts(v) && !r.all {
			continue
		}
		if r.counts(v) {
			flagged++
		} else if len(v.Findings) == 0 {
			continue
		}
		p.verdict(v, r.counts(v), colour)
	}
	for _, part := range []struct {
		title string
		list  []toolscan.Finding
	}{{"Between servers", r.Cross}, {"Configuration", r.Static}} {
		if len(part.list) > 0 {
			p.put("%s", paint(colour, "1", part.title))
		}
		for i := range part.list {
			f := &part.list[i]
			p.put("  %s %s %s", paint(colour, severityColour(f.Severity), fmt.Sprintf("%-8s", f.Severity)), toolscan.Visible(f.Server, 60), toolscan.Visible(f.Item, 60))
			p.finding(f)
		}
	}
	for _, f := range r.Flows {
		p.put("%s", paint(colour, "1", "Toxic flow"))
		p.put("  untrusted text: %s", shown(f.Untrusted))
		p.put("  private data:   %s", shown(f.Private))
		p.put("  way out:        %s", shown(f.Out))
		p.put("  %s %s", f.Reason, f.Fix)
	}
	for _, s := range r.Problems {
		p.put("%s %s", paint(colour, "33", "not read:"), toolscan.Visible(s, 400))
	}
	p.put("%s of %s read, %d flagged, %s on the configuration, %d between servers.",
		kidoban.Count(len(r.Verdicts), "item", "items"), kidoban.Count(len(r.Servers), "server", "servers"), flagged, kidoban.Count(len(r.Static), "note", "notes"), len(r.Cross))
	return kidoban.Wrap(kidoban.KindInput, p.err, "cannot write the report")
}

// lines writes lines and keeps the first error.
type lines struct {
	w   io.Writer
	err error
}

func (p *lines) put(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *lines) verdict(v *toolscan.Verdict, counts, colour bool) {
	mark := paint(colour, "2", "note    ")
	if counts {
		s := worstSeverity(v.Findings)
		mark = paint(colour, severityColour(s), fmt.Sprintf("%-8s", s))
	}
	p.put("%s %s %s %s  (%d %% sure)", mark, toolscan.Visible(v.Server, 60), v.Kind, toolscan.Visible(v.Item, 80), sureness(v.Confidence))
	for i := range v.Findings {
		f := &v.Findings[i]
		if counts && f.Tier == toolscan.Label {
			continue
		}
		p.finding(f)
	}
	if len(v.Capabilities) > 0 && !counts {
		p.put("    can: %v", v.Capabilities)
	}
}

func (p *lines) finding(f *toolscan.Finding) {
	p.put("    %s [%s, %s]", f.Reason, f.Rule, f.Tier)
	where := f.Path
	if f.End > f.Start {
		if where == "" {
			where = "the text,"
		}
		where = fmt.Sprintf("%s bytes %d to %d", toolscan.Visible(where, 120), f.Start, f.End)
	}
	if f.Hidden != "" {
		where += ", hidden as " + f.Hidden
	}
	if where != "" {
		p.put("      at %s", where)
	}
	if f.Excerpt != "" {
		p.put("      “%s”", f.Excerpt)
	}
	p.put("      %s", f.Fix)
}

// sureness is a confidence in percent, rounded down: nothing here is quite sure.
func sureness(confidence float64) int { return min(int(100*confidence+1e-9), 99) }

func shown(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, toolscan.Visible(n, 60))
	}
	return strings.Join(out, ", ")
}

// writeDepartures writes a word-level diff of what is not as it was.
func writeDepartures(w io.Writer, deps []toolscan.Departure, colour bool) {
	p := &lines{w: w}
	for i := range deps {
		d := &deps[i]
		code := "33"
		if !d.Drift.Grade.Calm() {
			code = "31;1"
		}
		p.put("%s %s %s %s", paint(colour, code, fmt.Sprintf("%-8s %-9s", d.What, d.Drift.Grade)), toolscan.Visible(d.Server, 60), d.Kind, toolscan.Visible(d.Name, 80))
		if d.Was != "" {
			p.put("    was called %s", toolscan.Visible(d.Was, 80))
		}
		for _, reason := range d.Drift.Reasons {
			p.put("    %s", reason)
		}
		for _, c := range d.Drift.Changes {
			if c.Path != "" { // of a whole item the first line said it
				p.put("    %s %s", c.Kind, toolscan.Visible(c.Path, 160))
			}
			if len(c.Diff) > 0 {
				p.put("      %s", diffLine(c.Diff, colour))
				continue
			}
			if c.Before != "" {
				p.put("      %s", paint(colour, "31", "- "+toolscan.Visible(c.Before, 400)))
			}
			if c.After != "" {
				p.put("      %s", paint(colour, "32", "+ "+toolscan.Visible(c.After, 400)))
			}
		}
	}
	if len(deps) == 0 {
		p.put("Everything is as it was.")
		return
	}
	p.put("%s.", kidoban.Count(len(deps), "difference", "differences"))
}

// diffLine shows a word-level diff on one line: [-removed-] and {+added+};
// long stretches that are equal are cut in the middle.
func diffLine(ops []toolscan.DiffOp, colour bool) string {
	var b strings.Builder
	for _, op := range ops {
		switch op.Op {
		case "-":
			b.WriteString(paint(colour, "31", "[-"+toolscan.Visible(op.Text, 2000)+"-]"))
		case "+":
			b.WriteString(paint(colour, "32", "{+"+toolscan.Visible(op.Text, 2000)+"+}"))
		default:
			if r := []rune(op.Text); len(r) > 120 {
				b.WriteString(toolscan.Visible(string(r[:50]), 200) + " … " + toolscan.Visible(string(r[len(r)-50:]), 200))
			} else {
				b.WriteString(toolscan.Visible(op.Text, 400))
			}
		}
	}
	return b.String()
}

// writeScanSARIF writes SARIF 2.1.0: one result per finding of flagged items,
// and the notes on configuration and between servers.
func writeScanSARIF(w io.Writer, r *scanReport) error {
	rules := []map[string]any{}
	index := map[string]int{}
	for _, ru := range toolscan.Rules() {
		index[ru.ID] = len(rules)
		rules = append(rules, map[string]any{"id": ru.ID, "shortDescription": map[string]any{"text": ru.Reason}, "help": map[string]any{"text": ru.Fix},
			"properties": map[string]any{"family": ru.Family, "tier": ru.Tier}})
	}
	results := []map[string]any{}
	add := func(f *toolscan.Finding) {
		res := map[string]any{"ruleId": f.Rule, "level": sarifLevel(f.Severity), "message": map[string]any{"text": f.Reason + " " + f.Fix},
			"locations":           []any{map[string]any{"logicalLocations": []any{map[string]any{"fullyQualifiedName": toolscan.Visible(strings.Join([]string{f.Server, string(f.Kind), f.Item + f.Path}, "/"), 400)}}}},
			"partialFingerprints": map[string]any{"kidoban/v1": kidoban.Fingerprint(f.Rule, f.Server+"/"+f.Item, f.Path)},
			"properties":          map[string]any{"confidence": f.Confidence, "excerpt": f.Excerpt, "start": f.Start, "end": f.End}}
		if i, ok := index[f.Rule]; ok {
			res["ruleIndex"] = i
		}
		results = append(results, res)
	}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		for k := range v.Findings {
			if f := &v.Findings[k]; r.counts(v) && f.Tier != toolscan.Label || r.all {
				add(f)
			}
		}
	}
	for _, list := range [][]toolscan.Finding{r.Cross, r.Static} {
		for i := range list {
			add(&list[i])
		}
	}
	return writeJSON(w, map[string]any{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []any{map[string]any{"tool": map[string]any{"driver": map[string]any{"name": "kidoban", "version": kidoban.Version, "rules": rules}}, "results": results}}})
}

func sarifLevel(s kidoban.Severity) string {
	switch s {
	case kidoban.Critical, kidoban.High:
		return "error"
	case kidoban.Medium:
		return "warning"
	}
	return "note"
}

// writeScanHTML writes one file without scripts or outside resources.
func writeScanHTML(w io.Writer, r *scanReport) error {
	type row struct {
		toolscan.Verdict
		Worst kidoban.Severity
	}
	var rows []row
	for i := range r.Verdicts {
		if v := r.Verdicts[i]; r.counts(&v) {
			rows = append(rows, row{v, worstSeverity(v.Findings)})
		}
	}
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].Worst.Rank() > rows[j].Worst.Rank() })
	return kidoban.Wrap(kidoban.KindInput, scanPage.Execute(w, map[string]any{"R": r, "Rows": rows, "Items": len(r.Verdicts)}), "cannot write the HTML report")
}

var scanPage = template.Must(template.New("scan").Funcs(template.FuncMap{"count": kidoban.Count[int], "sure": sureness, "shown": shown}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Kidoban: tool scan</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h2{margin-top:2rem}article{border-left:4px solid #999;padding:.2rem 1rem;margin:1rem 0}article.critical,article.high{border-color:#b00020}article.medium{border-color:#b36b00}
code{background:#f2f2f2;padding:.1rem .3rem;overflow-wrap:anywhere}small{color:#555}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}code{background:#2a2a2a}small{color:#aaa}}</style></head><body>
<h1>Tool scan</h1>
<p>{{count .Items "item" "items"}} of {{count (len .R.Servers) "server" "servers"}} read, {{len .Rows}} flagged, {{count (len .R.Static) "note" "notes"}} on the configuration, {{len .R.Cross}} between servers.</p>
{{range .R.Problems}}<p>Not read: {{.}}</p>{{end}}
{{range .Rows}}<article class="{{.Worst}}"><h2>{{.Item}} <small>{{.Kind}} of {{.Server}}, {{.Worst}}, {{sure .Confidence}} % sure</small></h2>
{{range .Findings}}{{if ne .Tier "label"}}{{template "finding" .}}{{end}}{{end}}</article>{{end}}
{{if .R.Cross}}<h2>Between servers</h2>{{range .R.Cross}}<article class="{{.Severity}}"><b>{{.Server}} {{.Item}}</b>{{template "finding" .}}</article>{{end}}{{end}}
{{if .R.Static}}<h2>Configuration</h2>{{range .R.Static}}<article class="{{.Severity}}"><b>{{.Server}}</b>{{template "finding" .}}</article>{{end}}{{end}}
{{range .R.Flows}}<h2>Toxic flow</h2><p>{{.Reason}} {{.Fix}}</p><p>Untrusted text: {{shown .Untrusted}}<br>Private data: {{shown .Private}}<br>Way out: {{shown .Out}}</p>{{end}}
<p><small>{{.R.Tool}}</small></p></body></html>
{{define "finding"}}<p>{{.Reason}} <small>{{.Rule}}, {{.Tier}}, at {{.Path}}{{if .Hidden}}, hidden as {{.Hidden}}{{end}}</small>{{if .Excerpt}}<br><code>{{.Excerpt}}</code>{{end}}<br><small>{{.Fix}}</small></p>{{end}}
`))
