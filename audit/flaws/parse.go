package flaws

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// sections are the headings of a page, in the only order allowed.
var sections = [...]string{
	"What it is", "Why it matters for MCP", "How Kidoban tests it",
	"What is not a finding", "Norms", "Fix",
}

// maxPage bounds a page; pages are read by people.
const maxPage = 32 << 10

// Parse reads one page. Errors are KindInput and name the line.
func Parse(text string) (Doc, error) {
	if len(text) > maxPage {
		return Doc{}, kidoban.Errorf(kidoban.KindInput, "the page is longer than %d bytes", maxPage)
	}
	p := &parser{lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")}
	d := Doc{Questions: map[string]string{}}
	if err := p.head(&d); err != nil {
		return Doc{}, err
	}
	bodies := make([]string, len(sections))
	starts := make([]int, len(sections))
	for i, name := range sections {
		body, start, err := p.section(name)
		if err != nil {
			return Doc{}, err
		}
		bodies[i], starts[i] = body, start
	}
	if p.at < len(p.lines) {
		return Doc{}, p.fail(p.at, "a section that no page has: %.40q", p.lines[p.at])
	}
	d.What, d.Why = bodies[0], bodies[1]
	if err := d.how(bodies[2], starts[2]); err != nil {
		return Doc{}, err
	}
	if err := d.not(bodies[3], starts[3]); err != nil {
		return Doc{}, err
	}
	if err := d.norms(bodies[4], starts[4]); err != nil {
		return Doc{}, err
	}
	return d, d.fix(bodies[5], starts[5])
}

type parser struct {
	lines []string
	at    int
}

func (p *parser) fail(line int, format string, args ...any) error {
	return failAt(line, format, args...)
}

func failAt(line int, format string, args ...any) error {
	return kidoban.Errorf(kidoban.KindInput, "line %d: "+format, append([]any{line + 1}, args...)...)
}

// head reads "# F4 Name", and the one-sentence summary.
func (p *parser) head(d *Doc) error {
	if len(p.lines) == 0 || !strings.HasPrefix(p.lines[0], "# ") {
		return p.fail(0, `a page starts with "# ID Name"`)
	}
	id, name, ok := strings.Cut(p.lines[0][2:], " ")
	if !ok || strings.TrimSpace(name) == "" {
		return p.fail(0, "the title has no name")
	}
	d.ID, d.Name = id, strings.TrimSpace(name)
	p.at = 1
	start := p.at
	for p.at < len(p.lines) && !strings.HasPrefix(p.lines[p.at], "## ") {
		p.at++
	}
	d.Summary = strings.TrimSpace(strings.Join(p.lines[start:p.at], "\n"))
	switch {
	case d.Summary == "":
		return p.fail(start, "the summary is missing")
	case strings.Contains(d.Summary, "\n"):
		return p.fail(start, "the summary is one line")
	case !strings.HasSuffix(d.Summary, "."):
		return p.fail(start, "the summary ends with a full stop")
	}
	return nil
}

// section reads "## name" and its body up to the next heading outside code.
func (p *parser) section(name string) (body string, start int, err error) {
	if p.at >= len(p.lines) || p.lines[p.at] != "## "+name {
		return "", 0, p.fail(p.at, "the section %q is expected here", name)
	}
	p.at++
	start = p.at
	fenced := false
	for ; p.at < len(p.lines); p.at++ {
		l := p.lines[p.at]
		if strings.HasPrefix(l, "```") {
			fenced = !fenced
		}
		if !fenced && strings.HasPrefix(l, "#") {
			break
		}
	}
	if fenced {
		return "", 0, p.fail(start, "code in %q is not closed", name)
	}
	body = strings.Trim(strings.Join(p.lines[start:p.at], "\n"), "\n ")
	if body == "" {
		return "", 0, p.fail(start, "the section %q is empty", name)
	}
	return body, start, nil
}

// how splits the questions "- F5-a: …?" from the prose.
func (d *Doc) how(body string, start int) error {
	var prose []string
	for _, l := range strings.Split(body, "\n") {
		item, isItem := strings.CutPrefix(l, "- ")
		key, question, hasColon := strings.Cut(item, ": ")
		if !isItem || !hasColon || !isKey(d.ID, key) {
			prose = append(prose, l)
			continue
		}
		if !strings.HasSuffix(question, "?") {
			return failAt(start, "%s: a question ends with a question mark", key)
		}
		if _, twice := d.Questions[key]; twice {
			return failAt(start, "%s is asked twice", key)
		}
		d.Questions[key] = question
	}
	d.How = strings.Trim(strings.Join(prose, "\n"), "\n ")
	if d.How == "" {
		return failAt(start, "the section says only questions, not how they are decided")
	}
	return nil
}

// isKey reports whether key names a check of flaw id: "F5-a", "E06-a".
func isKey(id, key string) bool {
	v, ok := strings.CutPrefix(key, id+"-")
	return ok && v != "" && !strings.ContainsAny(v, " \t")
}

func (d *Doc) not(body string, start int) error {
	items, err := list(body, start)
	d.Not = items
	return err
}

// norms reads "- Document, section: what it asks" lines. The section may be
// left out.
func (d *Doc) norms(body string, start int) error {
	items, err := list(body, start)
	if err != nil {
		return err
	}
	for _, it := range items {
		ref, text, ok := strings.Cut(it, ": ")
		if !ok || strings.TrimSpace(text) == "" {
			return failAt(start, "a norm reads \"Document, section: what it asks\": %.60q", it)
		}
		doc, sec, _ := strings.Cut(ref, ", ")
		d.Norms = append(d.Norms, Norm{Document: doc, Section: strings.TrimPrefix(sec, "section "), Text: text})
	}
	return nil
}

// list reads a body of "- " items; a line indented by two spaces continues one.
func list(body string, start int) ([]string, error) {
	var out []string
	for i, l := range strings.Split(body, "\n") {
		if item, ok := strings.CutPrefix(l, "- "); ok {
			out = append(out, item)
			continue
		}
		if strings.HasPrefix(l, "  ") && len(out) > 0 {
			out[len(out)-1] += " " + strings.TrimSpace(l)
			continue
		}
		return nil, failAt(start+i, "this section is a list, and %.40q is no item", l)
	}
	return out, nil
}

// fix splits the snippets from the prose.
func (d *Doc) fix(body string, start int) error {
	var prose []string
	var code []string
	open := false
	for _, l := range strings.Split(body, "\n") {
		switch lang, fence := strings.CutPrefix(l, "```"); {
		case fence && !open:
			open = true
			d.Snippets = append(d.Snippets, Snippet{Lang: lang})
			code = code[:0]
		case fence:
			open = false
			d.Snippets[len(d.Snippets)-1].Code = strings.Join(code, "\n")
		case open:
			code = append(code, l)
		default:
			prose = append(prose, l)
		}
	}
	d.Fix = strings.Trim(strings.Join(prose, "\n"), "\n ")
	if d.Fix == "" {
		return failAt(start, "the fix is code only; say in words what to do")
	}
	return nil
}
