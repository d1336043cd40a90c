package kidoban

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestThreatModelNamesWhatExists: a threat without code, or code without a test, is
// a sentence and no protection.
func TestThreatModelNamesWhatExists(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(raw, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, line := range strings.Split(string(raw), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[3], "Test") {
			continue
		}
		rows++
		for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cells[3], -1) {
			if !tests[name[1]] {
				t.Errorf("there is no %s", name[1])
			}
		}
		for _, file := range regexp.MustCompile("`([a-z]+/[a-z_]*(?:\\.go)?)`").FindAllStringSubmatch(cells[2], -1) {
			if _, err := os.Stat(file[1]); err != nil {
				t.Errorf("there is no %s", file[1])
			}
		}
	}
	if rows < 25 {
		t.Errorf("only %d threats have a test", rows)
	}
}

// TestDocumentationLinksLead follows every relative link of every page, to the heading
// where it names one.
func TestDocumentationLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"docs/*/*.md", "README*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	anchors := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			to := page
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s leads to %s, which does not exist", page, m[1])
			} else if m[2] != "" && strings.HasSuffix(to, ".md") {
				anchors++
				if !headings(t, to)[m[2]] {
					t.Errorf("%s leads to %s%s: the page has no such heading", page, m[1], m[2])
				}
			}
		}
	}
	if anchors < 5 {
		t.Errorf("only %d links lead to a heading: are they still found?", anchors)
	}
}

// headings gives the anchors of a page, as GitHub makes them: lower case, spaces as
// hyphens, punctuation left out.
func headings(t *testing.T, page string) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(raw), -1) {
		found["#"+strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return found
}
