package main

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/flaws"
)

// explainCmd prints the page of a flaw, headed by the check that was asked for.
type explainCmd struct {
	What     string `arg:"" name:"check" help:"A flaw (F4), a check (F4-1) or its slug."`
	Markdown bool   `help:"Print the page as Markdown."`
}

// Run prints the page.
func (c explainCmd) Run(e *env) error {
	id, check, err := findCheck(c.What)
	if err != nil {
		return err
	}
	d, err := flaws.Text(id)
	if err != nil {
		return err
	}
	if c.Markdown {
		_, err = fmt.Fprint(e.stdout, d.Markdown())
		return err
	}
	_, err = fmt.Fprint(e.stdout, explain(d, check))
	return err
}

// findCheck turns what a person typed into a flaw and, if one was meant, a check.
func findCheck(name string) (id string, check *kidoban.Check, err error) {
	for _, try := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
		if _, ok := kidoban.FlawByID(try); ok {
			return try, nil, nil
		}
	}
	for _, c := range kidoban.Checks() {
		if strings.EqualFold(c.Key(), name) || strings.EqualFold(c.Slug, name) {
			return c.ID, &c, nil
		}
	}
	var near []string
	for _, c := range kidoban.Checks() {
		if len(near) < 3 && len(name) > 2 && strings.Contains(c.Slug, strings.ToLower(name)) {
			near = append(near, c.Slug)
		}
	}
	hint := "kidoban checks lists them"
	if near != nil {
		hint = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return "", nil, kidoban.Errorf(kidoban.KindUsage, "no flaw or check is called %.60q: %s", name, hint)
}

// explainWidth is the measure of running text in a terminal.
const explainWidth = 88

func explain(d flaws.Doc, check *kidoban.Check) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n%s\n", d.ID, d.Name, wrap(d.Summary, ""))
	if check != nil {
		fmt.Fprintf(&b, "\n%s  %s\n%s", check.Key(), check.Slug, wrap(d.Questions[check.Key()], "  "))
		fmt.Fprintf(&b, "\n  tier %s · %s · a positive is %q · proof at best %s\n", check.Tier, check.Severity, check.Outcome, check.Max)
	}
	part := func(title, text string) {
		fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(title))
		for i, para := range strings.Split(text, "\n\n") {
			if i > 0 {
				b.WriteString("\n")
			}
			b.WriteString(wrap(para, "  ") + "\n")
		}
	}
	part("What it is", d.What)
	part("Why it matters for MCP", d.Why)
	part("How Kidoban tests it", d.How)
	if check == nil {
		variants(&b, d)
	}
	b.WriteString("\nWHAT IS NOT A FINDING\n")
	for _, n := range d.Not {
		b.WriteString(bullet(n))
	}
	b.WriteString("\nNORMS\n")
	for _, n := range d.Norms {
		b.WriteString(bullet(n.Ref() + ": " + n.Text))
	}
	part("Fix", d.Fix)
	for _, s := range d.Snippets {
		b.WriteString("\n")
		for _, l := range strings.Split(s.Code, "\n") {
			b.WriteString("    " + l + "\n")
		}
	}
	return b.String()
}

// variants lists the checks of a flaw with their questions.
func variants(b *strings.Builder, d flaws.Doc) {
	if len(d.Questions) == 0 {
		return
	}
	b.WriteString("\nVARIANTS\n")
	for _, c := range kidoban.Checks() {
		if c.ID != d.ID {
			continue
		}
		fmt.Fprintf(b, "  %-6s %-4s %-8s %s\n", c.Key(), c.Tier, c.Severity, c.Slug)
		b.WriteString(wrap(d.Questions[c.Key()], "         ") + "\n")
	}
}

func bullet(s string) string {
	return "  - " + strings.TrimPrefix(wrap(s, "    "), "    ") + "\n"
}

// wrap breaks running text at explainWidth, each line behind indent; code marks
// are dropped.
func wrap(s, indent string) string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(strings.ReplaceAll(s, "`", "")) {
		if line != "" && lipgloss.Width(indent+line+" "+w) > explainWidth {
			lines = append(lines, indent+line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return strings.Join(append(lines, indent+line), "\n")
}
