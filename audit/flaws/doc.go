// Package flaws holds the text about each flaw of the catalogue, in the file
// beside the code that judges it: what it is, why it matters for MCP, how it is
// tested, what must not be mistaken for it, which norm it breaks and what fixes
// it. The terminal's "explain", the reports and docs/flaws are all made from
// these files, so there is one place to correct a sentence.
//
// A page is strict: a fixed list of sections in a fixed order, one question for
// each check of the catalogue, at least one norm, and a fix. Parse refuses
// anything else; a test holds every flaw of the catalogue to it.
package flaws

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/kidoban/kidoban"
)

//go:embed *.md
var pages embed.FS

// Doc is the parsed page of one flaw. Texts are Markdown of the plainest kind:
// paragraphs, "- " lists, fenced code, `code` and **strong**.
type Doc struct {
	ID        string
	Name      string
	Summary   string            // one sentence
	What      string            // what it is
	Why       string            // why it matters for MCP
	How       string            // how it is tested, without the questions
	Questions map[string]string // check key → the question the probe asks
	Not       []string          // what is not a finding
	Norms     []Norm
	Fix       string    // prose of the fix
	Snippets  []Snippet // code that shows the fix
}

// Norm is one clause of one document in one revision.
type Norm struct {
	Document string // "RFC 9700", "OAuth 2.1 draft-16", "MCP 2026-07-28"
	Section  string // "4.8", "authorization, Token Handling"; "" for the whole document
	Text     string // what it asks for, in our words
}

// Ref returns the short form that results carry: "RFC 9700 §4.8" or
// "MCP 2026-07-28 (authorization, Token Handling)".
func (n Norm) Ref() string {
	switch {
	case n.Section == "":
		return n.Document
	case n.Section[0] >= '0' && n.Section[0] <= '9':
		return n.Document + " §" + n.Section
	}
	return n.Document + " (" + n.Section + ")"
}

// Snippet is one fenced block of code.
type Snippet struct {
	Lang string // info string: "go", "js", "python", "http", "yaml", …
	Code string
}

// Refs returns the short forms of all norms in page order.
func (d Doc) Refs() []string {
	out := make([]string, len(d.Norms))
	for i, n := range d.Norms {
		out[i] = n.Ref()
	}
	return out
}

// FirstFix returns the first sentence of the fix: what a result carries.
func (d Doc) FirstFix() string {
	text := strings.Join(strings.Fields(d.Fix), " ")
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1]
	}
	return text
}

// Text returns the page of one flaw. An unknown id is KindNotFound.
func Text(id string) (Doc, error) {
	if _, ok := kidoban.FlawByID(id); !ok {
		return Doc{}, kidoban.Errorf(kidoban.KindNotFound, "no flaw is called %.20q: kidoban checks lists them", id)
	}
	raw, err := fs.ReadFile(pages, id+".md")
	if err != nil {
		return Doc{}, kidoban.Wrap(kidoban.KindInternal, err, "the page of %s is missing from this build", id)
	}
	return Parse(string(raw))
}

// All returns every page in catalogue order.
func All() ([]Doc, error) {
	var out []Doc
	for _, f := range kidoban.Flaws() {
		d, err := Text(f.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}
