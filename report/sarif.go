package report

import (
	"encoding/json"
	"io"
	"path"
	"strings"

	"github.com/kidoban/kidoban"
)

// Location is the place in a repository that names the audited server: what
// GitHub annotates. File is relative to the repository's root.
type Location struct {
	File string
	Line int // from 1
}

// FallbackFile is the file that SARIF names when the repository does not say
// where the server is configured. GitHub refuses results without a file, and an
// address on the network is none.
const FallbackFile = "mcp.json"

// FindServer finds the line of a configuration (mcp.json, kidoban.lock) that
// names the server at url. name is the file's path in the repository.
func FindServer(name string, data []byte, url string) (Location, bool) {
	escaped := strings.ReplaceAll(url, "/", `\/`)
	for i, line := range strings.Split(string(data), "\n") {
		for _, want := range []string{url, escaped} {
			for _, quote := range []string{`"`, `'`} {
				if strings.Contains(line, quote+want+quote) || strings.Contains(line, quote+strings.TrimSuffix(want, "/")+quote) {
					return Location{name, i + 1}, true
				}
			}
		}
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == url { // unquoted YAML
			return Location{name, i + 1}, true
		}
	}
	return Location{}, false
}

// The parts of SARIF 2.1.0 that GitHub reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool              sarifTool      `json:"tool"`
		AutomationDetails sarifID        `json:"automationDetails"`
		ColumnKind        string         `json:"columnKind"`
		Results           []sarifResult  `json:"results"`
		Properties        map[string]any `json:"properties,omitempty"`
	}
	sarifID struct {
		ID string `json:"id"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		Organization    string      `json:"organization,omitempty"`
		InformationURI  string      `json:"informationUri"`
		SemanticVersion string      `json:"semanticVersion"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifRule struct {
		ID                   string         `json:"id"`
		Name                 string         `json:"name"`
		ShortDescription     sarifText      `json:"shortDescription"`
		FullDescription      sarifText      `json:"fullDescription"`
		Help                 sarifText      `json:"help"`
		HelpURI              string         `json:"helpUri"`
		DefaultConfiguration sarifLevel     `json:"defaultConfiguration"`
		Properties           map[string]any `json:"properties"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Properties          map[string]any     `json:"properties"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI       string `json:"uri"`
		URIBaseID string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

const (
	sarifSchema = "https://json.schemastore.org/sarif-2.1.0.json"
	projectURI  = "https://github.com/kidoban/kidoban"
)

// SARIF writes SARIF 2.1.0 that GitHub code scanning takes: every result lies on
// a line of a file of the repository, the audited address stands in message and
// properties, rules carry a security severity, and fingerprints do not move when
// lines do. Suppressed findings are written with their suppression.
func SARIF(w io.Writer, in Input) error {
	where, fallback := in.Where, false
	if where.File == "" {
		where, fallback = Location{FallbackFile, 1}, true
	}
	where.File = repositoryPath(where.File)
	run := sarifRun{
		Tool: sarifTool{sarifDriver{Name: "kidoban", InformationURI: projectURI, SemanticVersion: kidoban.Version, Rules: []sarifRule{}}},
		// One category for each audited server, so that two servers in one
		// repository do not close each other's alerts.
		AutomationDetails: sarifID{"kidoban/" + Clean(in.Run.Target.URL, maxURL) + "/"},
		ColumnKind:        "unicodeCodePoints",
		Results:           []sarifResult{},
		Properties:        map[string]any{"target": Clean(in.Run.Target.URL, maxURL), "grade": letter(in.Run.Grade), "locationIsFallback": fallback},
	}
	index := map[string]int{}
	for _, r := range append(Findings(in.Run.Results), Suppressed(in.Run.Results)...) {
		i, ok := index[r.Key()]
		if !ok {
			i = len(run.Tool.Driver.Rules)
			index[r.Key()] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, in.sarifRule(r))
		}
		run.Results = append(run.Results, in.sarifResult(r, i, where))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return kidoban.Wrap(kidoban.KindInternal, enc.Encode(sarifLog{sarifSchema, "2.1.0", []sarifRun{run}}), "the SARIF file could not be written")
}

// repositoryPath makes a relative path with forward slashes that stays inside
// the repository.
func repositoryPath(p string) string {
	p = path.Clean("/" + strings.ReplaceAll(p, `\`, "/"))
	return strings.TrimPrefix(p, "/")
}

func (in Input) sarifRule(r kidoban.Result) sarifRule {
	f, _ := kidoban.FlawByID(r.ID)
	p := in.page(r.ID)
	question := p.Questions[r.Key()]
	if question == "" {
		question = strings.ReplaceAll(Clean(r.Slug, maxWord), "-", " ")
	}
	summary, fix := p.Summary, p.Fix
	if summary == "" {
		summary = f.Name
	}
	if fix == "" {
		fix = Clean(r.Fix, maxSummary)
	}
	tags := []string{"security", "mcp", "oauth"}
	for _, n := range f.CWE {
		tags = append(tags, "external/cwe/cwe-"+itoa(n))
	}
	help := summary + "\n\nFix: " + fix
	md := "**" + question + "**\n\n" + summary + "\n\n**Fix.** " + fix
	for _, s := range p.Snippets {
		md += "\n\n```" + s.Lang + "\n" + s.Code + "\n```"
	}
	c, known := kidoban.CheckByKey(r.Key())
	if !known {
		c = kidoban.Check{Severity: r.Severity, Outcome: r.Outcome}
	}
	return sarifRule{
		ID: Clean(r.Key(), maxWord), Name: Clean(r.Slug, maxWord),
		ShortDescription: sarifText{Text: question}, FullDescription: sarifText{Text: summary},
		Help:                 sarifText{Text: help, Markdown: md},
		HelpURI:              projectURI + "/blob/main/docs/flaws/" + Clean(r.ID, 8) + ".md",
		DefaultConfiguration: sarifLevel{level(c.Outcome, c.Severity)},
		Properties: map[string]any{
			"tags": tags, "precision": "high", "problem.severity": problem(c.Outcome, c.Severity), "security-severity": securitySeverity(c.Severity),
		},
	}
}

func (in Input) sarifResult(r kidoban.Result, rule int, where Location) sarifResult {
	msg := plain(Clean(r.Summary, maxSummary)) + " (" + plain(Clean(in.Run.Target.URL, maxURL)) + ")"
	if len(r.Norms) > 0 {
		msg += ". Norm: " + plain(Clean(r.Norms[0], maxWord))
	}
	out := sarifResult{
		RuleID: Clean(r.Key(), maxWord), RuleIndex: rule, Level: level(r.Outcome, r.Severity), Message: sarifText{Text: msg},
		Locations:           []sarifLocation{{sarifPhysical{sarifArtifact{where.File, "%SRCROOT%"}, sarifRegion{max(where.Line, 1)}}}},
		PartialFingerprints: map[string]string{"primaryLocationLineHash": Clean(r.Fingerprint, 64), "kidobanFinding/v1": Clean(r.Fingerprint, 64)},
		Properties: map[string]any{
			"target": Clean(in.Run.Target.URL, maxURL), "slug": Clean(r.Slug, maxWord), "evidence": Clean(string(r.Evidence), 12),
			"severity": Clean(string(r.Severity), 12), "outcome": Clean(string(r.Outcome), 20), "exchanges": append([]int{}, r.Exchanges...),
		},
	}
	if r.Suppressed != "" {
		out.Suppressions = []sarifSuppression{{"external", "accepted", plain(Clean(r.Suppressed, maxSummary))}}
	}
	return out
}

// plain takes the characters out of target text that SARIF messages give a
// meaning: links in brackets and placeholders in braces.
func plain(s string) string {
	return strings.NewReplacer("[", "(", "]", ")", "{", "(", "}", ")", `\`, `/`).Replace(s)
}

func level(o kidoban.Outcome, s kidoban.Severity) string {
	switch {
	case s.Rank() >= kidoban.High.Rank() && o == kidoban.Fail:
		return "error"
	case s.Rank() <= kidoban.Info.Rank():
		return "note"
	}
	return "warning"
}

func problem(o kidoban.Outcome, s kidoban.Severity) string {
	if l := level(o, s); l != "note" {
		return l
	}
	return "recommendation"
}

// securitySeverity puts a severity into the middle of GitHub's bands.
func securitySeverity(s kidoban.Severity) string {
	switch s {
	case kidoban.Critical:
		return "9.5"
	case kidoban.High:
		return "8.0"
	case kidoban.Medium:
		return "5.5"
	case kidoban.Low:
		return "3.0"
	}
	return "0.5"
}
