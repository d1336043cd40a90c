package flaws

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// TestEveryFlawHasACompletePage holds the pages to the catalogue, both ways.
func TestEveryFlawHasACompletePage(t *testing.T) {
	for _, f := range kidoban.Flaws() {
		d, err := Text(f.ID)
		if err != nil {
			t.Errorf("%s: %v", f.ID, err)
			continue
		}
		if d.ID != f.ID || d.Name != f.Name {
			t.Errorf("%s: the page is titled %q %q, the catalogue says %q", f.ID, d.ID, d.Name, f.Name)
		}
		asked := map[string]bool{}
		for _, c := range kidoban.Checks() {
			if c.ID != f.ID {
				continue
			}
			asked[c.Key()] = true
			if d.Questions[c.Key()] == "" {
				t.Errorf("%s: no question for %s (%s)", f.ID, c.Key(), c.Slug)
			}
		}
		for k := range d.Questions {
			if !asked[k] {
				t.Errorf("%s: a question for %s, which is no check", f.ID, k)
			}
		}
		if len(d.Not) < 1 || len(d.Norms) < 1 || len(d.Refs()) != len(d.Norms) {
			t.Errorf("%s: traps or norms are missing", f.ID)
		}
		if n := len(d.FirstFix()); n < 20 || n > 320 {
			t.Errorf("%s: the first sentence of the fix has %d characters", f.ID, n)
		}
	}
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if _, ok := kidoban.FlawByID(strings.TrimSuffix(name, ".md")); !ok {
			t.Errorf("%s is the page of no flaw", name)
		}
	}
	if docs, err := All(); err == nil && len(docs) != len(files) {
		t.Errorf("%d pages read, %d files", len(docs), len(files))
	}
}

// TestNormsName a document in a known revision: a section number without a
// revision is worth nothing once the draft moves.
func TestNormsNameADocumentAndRevision(t *testing.T) {
	known := []string{"RFC ", "OAuth 2.1 draft-16", "MCP 2026-07-28", "MCP 2025-11-25", "CIMD draft-01",
		"MCP security best practices 2026-07-28", "MCP security best practices 2025-11-25", "OpenID Connect Core 1.0", "W3C CSP Level 3"}
	docs, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		for _, n := range d.Norms {
			ok := false
			for _, k := range known {
				ok = ok || strings.HasPrefix(n.Document, k)
			}
			if !ok {
				t.Errorf("%s: norm %q names no known document and revision", d.ID, n.Document)
			}
		}
	}
}

func TestParseRefusesWhatIsNotAPage(t *testing.T) {
	raw, err := os.ReadFile("F4.md")
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":                  "",
		"no title":               strings.Replace(good, "# F4 ", "F4 ", 1),
		"no summary":             good[:strings.Index(good, "\n")] + "\n\n" + good[strings.Index(good, "## "):],
		"section missing":        strings.Replace(good, "## Norms\n", "", 1),
		"section empty":          strings.Replace(good, "## Norms\n", "## Norms\n\n## Fix\n", 1),
		"sections swapped":       strings.Replace(strings.Replace(good, "## What it is", "## X", 1), "## Why it matters for MCP", "## What it is", 1),
		"unknown section":        good + "\n## Variants\n\nwritten by hand\n",
		"norm without text":      strings.Replace(good, "## Norms\n", "## Norms\n\n- RFC 1\n", 1),
		"prose among norms":      strings.Replace(good, "## Norms\n", "## Norms\n\nsome prose\n", 1),
		"code not closed":        good + "\n```go\n",
		"asked twice":            strings.Replace(good, "- F4-1: ", "- F4-1: Really?\n- F4-1: ", 1),
		"question without mark":  strings.Replace(good, "- F4-1: ", "- F4-1: Yes.\n- F4-9: ", 1),
		"longer than the bound":  good + strings.Repeat("x", maxPage),
		"summary of two lines":   strings.Replace(good, "\n\n## What it is", "\nMore.\n\n## What it is", 1),
		"summary without a stop": strings.Replace(good, ".\n\n## What it is", "\n\n## What it is", 1),
	} {
		if d, err := Parse(bad); err == nil {
			t.Errorf("%s: accepted as %q", name, d.ID)
		} else if kidoban.KindOf(err) != kidoban.KindInput {
			t.Errorf("%s: %v is not an input error", name, err)
		}
	}
}

func TestTextOfAnUnknownFlaw(t *testing.T) {
	for _, id := range []string{"", "F99", "../F1", "f1"} {
		if _, err := Text(id); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Errorf("Text(%q): %v", id, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("F4.md")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Add("# F1 x\n\ny.\n\n## What it is\n")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err == nil && (d.ID == "" || d.Fix == "" || len(d.Norms) == 0) {
			t.Errorf("an incomplete page was accepted: %+v", d)
		}
	})
}
