package report

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kidoban/kidoban"

	// The SARIF schema that the tests validate against lies in this module.
	_ "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

func validate(t *testing.T, schema, doc []byte) error {
	t.Helper()
	s, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", s); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(v)
}

// TestJSONMatchesTheContract validates real output, also of the odd runs.
func TestJSONMatchesTheContract(t *testing.T) {
	schema, err := os.ReadFile(filepath.Join("..", "docs", "schema", "kidoban.audit.1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	full := sample().Run
	runs := map[string]kidoban.Run{"sample": full}
	for _, h := range []string{kidoban.HeadlineOpen, kidoban.HeadlineMoved, kidoban.HeadlineNotMCP, kidoban.HeadlineUnreachable} {
		r := kidoban.Run{Target: kidoban.Target{URL: sampleURL, Headline: h, Detail: "12 tools answer to anyone"}}
		runs[h] = r
	}
	for name, r := range runs {
		doc := write(t, func(w io.Writer) error { return JSON(w, r) })
		if err := validate(t, schema, doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		back, err := ReadRun(bytes.NewReader(doc))
		if err != nil {
			t.Fatal(err)
		}
		if again := write(t, func(w io.Writer) error { return JSON(w, back) }); !bytes.Equal(doc, again) {
			t.Errorf("%s: reading and writing again changed it: %s", name, firstDifference(doc, again))
		}
	}
	bad := full
	bad.Results = append([]kidoban.Result{}, full.Results...)
	bad.Results[0].Outcome = "maybe"
	if validate(t, schema, write(t, func(w io.Writer) error { return JSON(w, bad) })) == nil {
		t.Error("the schema accepts an outcome that does not exist")
	}
}

// sarifSchemaText is the official schema (OASIS, 2.1.0 errata 01) as the
// go-sarif module carries it in its source.
func sarifSchemaText(t *testing.T) []byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/owenrumney/go-sarif/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(out)), "pkg", "report", "v210", "sarif", "schema.go")
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && len(lit.Value) > 10000 {
			text, err = strconv.Unquote(lit.Value)
		}
		return true
	})
	if err != nil || !strings.Contains(text, "Static Analysis Results Format (SARIF) Version 2.1.0") {
		t.Fatalf("the module holds no SARIF schema: %v", err)
	}
	return []byte(text)
}

// TestSARIFIsValidAndGitHubTakesIt holds the output to the official schema and
// to what GitHub documents for code scanning.
func TestSARIFIsValidAndGitHubTakesIt(t *testing.T) {
	schema := sarifSchemaText(t)
	located := sample()
	located.Where = Location{File: `.\config\mcp.json`, Line: 7}
	for name, in := range map[string]Input{"fallback": sample(), "located": located, "hostile": hostile(), "empty": {Run: kidoban.Run{Target: kidoban.Target{URL: sampleURL}}}} {
		doc := write(t, func(w io.Writer) error { return SARIF(w, in) })
		if err := validate(t, schema, doc); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var log sarifLog
		if err := json.Unmarshal(doc, &log); err != nil {
			t.Fatal(err)
		}
		run := log.Runs[0]
		rules := run.Tool.Driver.Rules
		if want := len(Findings(in.Run.Results)) + len(Suppressed(in.Run.Results)); len(run.Results) != want {
			t.Errorf("%s: %d results for %d findings", name, len(run.Results), want)
		}
		for _, r := range run.Results {
			loc := r.Locations[0].PhysicalLocation
			switch {
			case len(r.Locations) != 1 || loc.Region.StartLine < 1:
				t.Errorf("%s: %s has no line", name, r.RuleID)
			case strings.Contains(loc.ArtifactLocation.URI, ":") || strings.HasPrefix(loc.ArtifactLocation.URI, "/") || strings.Contains(loc.ArtifactLocation.URI, ".."):
				t.Errorf("%s: the location %q is no path in the repository", name, loc.ArtifactLocation.URI)
			case rules[r.RuleIndex].ID != r.RuleID:
				t.Errorf("%s: %s points to rule %s", name, r.RuleID, rules[r.RuleIndex].ID)
			case r.PartialFingerprints["primaryLocationLineHash"] == "" && name != "hostile":
				t.Errorf("%s: %s has no fingerprint", name, r.RuleID)
			case strings.ContainsAny(r.Message.Text, "[]{}"):
				t.Errorf("%s: the message of %s can hold a link or placeholder: %s", name, r.RuleID, r.Message.Text)
			}
		}
		for _, r := range rules {
			sev, _ := r.Properties["security-severity"].(string)
			if v, err := strconv.ParseFloat(sev, 64); err != nil || v <= 0 || v > 10 {
				t.Errorf("%s: rule %s has security severity %q", name, r.ID, sev)
			}
			if tags, _ := r.Properties["tags"].([]any); len(tags) == 0 || len(tags) > 20 {
				t.Errorf("%s: rule %s has %d tags", name, r.ID, len(tags))
			}
		}
		if name == "located" && run.Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI != "config/mcp.json" {
			t.Errorf("the location is %+v", run.Results[0].Locations[0])
		}
	}
}

func TestFindServer(t *testing.T) {
	for _, c := range []struct {
		data string
		line int
	}{
		{"{\n\"url\": \"https://mcp.example.com/mcp\"}", 2},
		{"{\n\n\"url\": \"https:\\/\\/mcp.example.com\\/mcp\"}", 3},
		{"servers:\n  files:\n    url: https://mcp.example.com/mcp\n", 3},
		{"{\"url\": \"https://mcp.example.com/mcp2\"}", 0},
		{"", 0},
	} {
		got, ok := FindServer("mcp.json", []byte(c.data), sampleURL)
		if ok != (c.line > 0) || got.Line != c.line {
			t.Errorf("%q: line %d, want %d", c.data, got.Line, c.line)
		}
	}
}
