package report

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

// maxMarkdownRows keeps a comment below GitHub's limit of 65,536 characters.
const maxMarkdownRows = 60

// Markdown writes a comment for a pull request. Target text can neither mention
// a person, link, nor break out of its table cell.
func Markdown(w io.Writer, in Input) error {
	run := in.Run
	var b bytes.Buffer
	title := "kidoban"
	if l := letter(run.Grade); l != "" && run.Target.Headline == kidoban.HeadlineGraded {
		title += ": grade " + md(l)
	}
	fmt.Fprintf(&b, "### %s\n\n%s, %s, %s\n\n%s.\n", title, mdCode(run.Target.URL, maxURL), md(tiers(run.Meta)), md(coverageText(run)), md(headline(run)))
	for _, c := range run.Chains {
		fmt.Fprintf(&b, "\n**How an attacker gets in: %s** (%s)\n\n", md(Clean(c.Title, maxSummary)), mdCode(c.ID, maxWord))
		for i, h := range c.Hops {
			proof := "follows"
			if h.Check != "" {
				proof = Clean(h.Check, 12)
			}
			fmt.Fprintf(&b, "%d. %s (%s)\n", i+1, md(Clean(h.Text, maxSummary)), md(proof))
		}
		fmt.Fprintf(&b, "\nBreak it: %s\n", md(Clean(c.Break, maxSummary)))
	}
	list := Findings(run.Results)
	if len(list) > 0 {
		b.WriteString("\n| | severity | check | what was seen | norm |\n|---|---|---|---|---|\n")
	}
	for i, r := range list {
		if i == maxMarkdownRows {
			fmt.Fprintf(&b, "\nand %d more in the full report\n", len(list)-i)
			break
		}
		norm := ""
		if len(r.Norms) > 0 {
			norm = Clean(r.Norms[0], maxWord)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", md(Clean(string(r.Outcome), 12)), md(Clean(string(r.Severity), 12)), mdCode(r.Key(), 12), md(summary(r)), md(norm))
	}
	t := Count(run.Results)
	fmt.Fprintf(&b, "\n<details><summary>%d clean, %d not decided, %d not applicable, %d suppressed</summary>\n\n", t.Pass, t.NotTested+t.Inconclusive, t.NotApplicable, t.Suppressed)
	for _, g := range Gaps(run.Results) {
		fmt.Fprintf(&b, "- %d %s: %s\n", len(g.Keys), md(outcomeText(g.Outcome)), md(g.why()))
	}
	for _, r := range Suppressed(run.Results) {
		fmt.Fprintf(&b, "- suppressed %s: %s\n", mdCode(r.Key(), 12), md(Clean(r.Suppressed, maxSummary)))
	}
	for _, l := range run.Residue.LeftBehind {
		fmt.Fprintf(&b, "- left behind: %s\n", md(leftOver(l)))
	}
	fmt.Fprintf(&b, "\n</details>\n\n<sub>%s, %s. Every request is in the evidence file.</sub>\n", md(Clean(run.Meta.Tool, maxWord)), kidoban.Count(run.Requests, "request", "requests"))
	_, err := w.Write(b.Bytes())
	return err
}

// md escapes clean text for Markdown: what could mention (@), refer (#), link or
// format becomes a character reference.
func md(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case strings.ContainsRune("@#:\\`*_{}[]()<>|~!&", r), r == '-' && b.Len() == 0, r == '+' && b.Len() == 0:
			if r == '&' || r == '<' || r == '>' {
				b.WriteString(html.EscapeString(string(r)))
				continue
			}
			if r == '(' || r == ')' {
				b.WriteRune(r) // harmless once brackets are gone
				continue
			}
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	// An address is recognised by www. as well.
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "www.", "www&#46;"), "WWW.", "WWW&#46;")
}

// mdCode sets target text as code, which is neither formatted nor linked.
func mdCode(s string, max int) string {
	s = strings.NewReplacer("`", "'", "|", "¦").Replace(Clean(s, max))
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
