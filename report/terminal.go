package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/kidoban/kidoban"
)

// maxLines is the height of the terminal report.
const maxLines = 40

// Terminal writes the report for a terminal: at most 40 lines of at most Width
// cells. It says everything in words, so that it can be read without colour.
type Terminal struct {
	Width  int  // cells; 0 means 100, less than 60 counts as 60
	Colour bool // ANSI colours; the caller respects NO_COLOR and asks whether this is a terminal
}

// Write writes the report.
func (t Terminal) Write(w io.Writer, in Input) error {
	if t.Width == 0 {
		t.Width = 100
	}
	t.Width = max(t.Width, 60)
	p := &page{t: t}
	p.header(in.Run)
	p.grade(in.Run)
	foot := p.footer(in.Run)
	gaps := p.gaps(in.Run)
	p.chains(in.Run, maxLines-len(p.lines)-len(foot)-len(gaps)-4)
	p.findings(in.Run, maxLines-len(p.lines)-len(foot)-len(gaps)-1)
	p.lines = append(append(p.lines, gaps...), foot...)
	for _, l := range p.lines {
		if _, err := io.WriteString(w, l+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// page collects lines that are already cut to the width.
type page struct {
	t     Terminal
	lines []string
}

// part is a piece of a line with its style.
type part struct {
	text  string
	style string // SGR parameters, "" for none
}

const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	yellow = "33"
	green  = "32"
	cyan   = "36"
)

// line joins parts, cut to the width as a whole.
func (t Terminal) line(parts ...part) string {
	left := t.Width
	var b strings.Builder
	for _, p := range parts {
		text := fit(p.text, left)
		left -= lipgloss.Width(text)
		if t.Colour && p.style != "" && text != "" {
			text = "\x1b[" + p.style + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if left <= 0 {
			break
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func (p *page) add(parts ...part) { p.lines = append(p.lines, p.t.line(parts...)) }

func (p *page) header(run kidoban.Run) {
	rest := []string{}
	if len(run.Target.Versions) > 0 {
		rest = append(rest, "MCP "+Clean(strings.Join(run.Target.Versions, ", "), maxWord))
	}
	if s := tiers(run.Meta); s != "" {
		if a := Clean(run.Meta.Authorized, maxWord); a != "" {
			s += " (authorized: " + a + ")"
		}
		rest = append(rest, s)
	}
	tail := ""
	if len(rest) > 0 {
		tail = " · " + strings.Join(rest, " · ")
	}
	url := fit(Clean(run.Target.URL, maxURL), max(p.t.Width*3/5, p.t.Width-lipgloss.Width(tail)-len("kidoban x.y.z · ")))
	p.add(part{"kidoban " + kidoban.Version, bold}, part{" · ", ""}, part{url, bold}, part{tail, ""})
	if run.Target.Issuer == "" {
		return
	}
	s := "AS " + Clean(run.Target.Issuer, maxURL)
	if len(run.Target.Upstreams) > 0 {
		s += " → upstream " + Clean(strings.Join(run.Target.Upstreams, ", "), maxURL) + " (delegated, not attacked)"
	}
	p.add(part{s, dim})
}

func (p *page) grade(run kidoban.Run) {
	p.add()
	if l := letter(run.Grade); l != "" && run.Target.Headline == kidoban.HeadlineGraded {
		caps := ""
		if len(run.Grade.Caps) > 0 {
			caps = "capped by " + capText(run.Grade.Caps[0])
		} else if run.Grade.Bracketed { // a good mark for what little was looked at
			caps = "in brackets: less than 60 % was decided"
		}
		cov := coverageText(run)
		room := p.t.Width - len("  GRADE ") - lipgloss.Width(l) - 3 - lipgloss.Width(cov) - 2
		p.add(part{"  GRADE ", bold}, part{l, gradeStyle(run.Grade.Letter)}, part{"   " + pad(fit(caps, room), room) + "  ", ""}, part{cov, dim})
	} else {
		lines := wrap(headline(run), p.t.Width-4, 3)
		for i, l := range lines {
			tail := ""
			if i == len(lines)-1 && run.Coverage.Tested > 0 {
				tail = "   " + coverageText(run)
			}
			p.add(part{"  " + l, bold}, part{tail, dim})
		}
	}
	if run.Coverage.Tested == 0 { // bars of nothing would hide why there is nothing
		return
	}
	var bars []part
	used := 0
	for _, c := range Categories(run.Results) {
		text := c.Name + " " + bar(c.Cells(8))
		if used > 0 && used+2+lipgloss.Width(text) > p.t.Width-2 {
			p.add(append([]part{{"  ", ""}}, bars...)...)
			bars, used = nil, 0
		}
		if used > 0 {
			text = "  " + text
		}
		bars, used = append(bars, part{text, barStyle(c)}), used+lipgloss.Width(text)
	}
	if bars != nil {
		p.add(append([]part{{"  ", ""}}, bars...)...)
	}
	p.add(part{"  " + fit(barsNote, p.t.Width-4), dim})
}

// barsNote keeps a long bar beside a bad grade from being read as a score.
const barsNote = "bars: clean among what was decided; the worst finding sets the grade, not they"

// capText drops the letter in front of a cap: "D: F1+F6 …" is shown beside it.
func capText(c string) string {
	c = Clean(c, maxSummary)
	if i := strings.Index(c, ": "); i > 0 && i <= 2 {
		return c[i+2:]
	}
	return c
}

func coverageText(run kidoban.Run) string {
	s := fmt.Sprintf("coverage %d/%d", run.Coverage.Tested, run.Coverage.Applicable)
	n := Count(run.Results)
	if open := n.NotTested + n.Inconclusive; open > 0 {
		s += fmt.Sprintf(" (%d undecided)", open)
	}
	return s
}

func bar(cells int) string {
	if cells < 0 {
		return "not tested"
	}
	return strings.Repeat("█", cells) + strings.Repeat("░", 8-cells)
}

func barStyle(c Category) string {
	switch {
	case c.Decided() == 0:
		return dim
	case c.Fail > 0:
		return red
	case c.Weak > 0:
		return yellow
	}
	return green
}

func gradeStyle(l string) string {
	switch {
	case strings.HasPrefix(l, "A"):
		return "1;32"
	case l == "B", l == "C":
		return "1;33"
	}
	return red
}

// chains writes the ways in, as many as fit into room lines; the first one
// always, cut when it must be.
func (p *page) chains(run kidoban.Run, room int) {
	for i, c := range run.Chains {
		need := len(c.Hops) + 3
		if i > 0 && need > room {
			p.add(part{fmt.Sprintf("    and %s: see the HTML report", kidoban.Count(len(run.Chains)-i, "further way in", "further ways in")), dim})
			return
		}
		p.add()
		p.add(part{"  HOW AN ATTACKER GETS IN", bold}, part{"   " + Clean(c.ID, maxWord) + "  ", dim}, part{Clean(c.Title, maxSummary), ""})
		for j, h := range c.Hops {
			if j == max(2, room-4) {
				p.add(part{fmt.Sprintf("    … %d more", len(c.Hops)-j), dim})
				break
			}
			p.hop(run, j+1, h)
		}
		p.add(part{"    break it here → ", green}, part{Clean(c.Break, maxSummary), ""}, part{effort(c.Effort), dim})
		room -= need
	}
}

func effort(e string) string {
	if e == "" {
		return ""
	}
	return "  [" + Clean(e, 20) + " effort]"
}

func (p *page) hop(run kidoban.Run, n int, h kidoban.Hop) {
	proof := "(follows)"
	style := dim
	if h.Check != "" {
		proof = Clean(h.Check, 12)
		for _, r := range run.Results {
			if r.Key() == h.Check && r.Evidence != "" {
				proof += " " + Clean(string(r.Evidence), 12)
			}
		}
		if h.XID > 0 {
			proof += fmt.Sprintf(" #%d", h.XID)
		}
		style = cyan
	}
	room := p.t.Width - lipgloss.Width(proof) - 8
	p.add(part{fmt.Sprintf("    %d ", n), bold}, part{pad(fit(Clean(h.Text, maxSummary), room), room) + "  ", ""}, part{proof, style})
}

// findings writes the findings in room lines.
func (p *page) findings(run kidoban.Run, room int) {
	list := Findings(run.Results)
	if len(list) == 0 || room < 2 {
		return
	}
	p.add()
	room--
	for i, r := range list {
		if i == room-1 && len(list) > room {
			p.add(part{fmt.Sprintf("  and %d more: kidoban report --html FILE", len(list)-i), dim})
			return
		}
		p.finding(r)
	}
}

func (p *page) finding(r kidoban.Result) {
	word, style := "FAIL", red
	if r.Outcome == kidoban.Weak {
		word, style = "WEAK", yellow
	}
	norm := ""
	if len(r.Norms) > 0 {
		norm = Clean(r.Norms[0], maxWord)
	}
	ref := evidenceRef(r)
	room := p.t.Width - 25 - lipgloss.Width(ref)
	if w := lipgloss.Width(norm); w > 0 && w+2 < room/2 {
		room -= w + 2
	} else {
		norm = ""
	}
	p.add(part{"  " + word, style}, part{" " + pad(Clean(string(r.Severity), 8), 8) + " ", ""},
		part{pad(Clean(r.Key(), 7), 6), bold}, part{pad(fit(summary(r), room), room) + "  ", ""}, part{ref, cyan},
		part{strings.Repeat(" ", min(2, len(norm))) + norm, dim})
}

// summary is the fact observed, or the slug where the judge wrote none.
func summary(r kidoban.Result) string {
	if s := Clean(r.Summary, maxSummary); s != "" {
		return s
	}
	return Clean(r.Slug, maxWord)
}

func evidenceRef(r kidoban.Result) string {
	if len(r.Exchanges) == 0 {
		return ""
	}
	return fmt.Sprintf("#%d", r.Exchanges[len(r.Exchanges)-1])
}

// gaps returns up to four lines about what was not decided.
func (p *page) gaps(run kidoban.Run) []string {
	var out []string
	all := Gaps(run.Results)
	for i, g := range all {
		if i == 4 {
			n := 0
			for _, rest := range all[i:] {
				n += len(rest.Keys)
			}
			out = append(out, p.t.line(part{fmt.Sprintf("  ?    %s undecided for other reasons", kidoban.Count(n, "check", "checks")), dim}))
			break
		}
		text := fmt.Sprintf("%s %s: %s", kidoban.Count(len(g.Keys), "check", "checks"), outcomeText(g.Outcome), g.why())
		text += "   " + strings.Join(flawsOf(g.Keys), " ")
		out = append(out, p.t.line(part{"  ?    ", yellow}, part{text, dim}))
	}
	return out
}

// flawsOf reduces check keys to their flaws, each once.
func flawsOf(keys []string) []string {
	var out []string
	for _, k := range keys {
		id, _, _ := strings.Cut(k, "-")
		if n := len(out); n == 0 || out[n-1] != id {
			out = append(out, Clean(id, 12))
		}
	}
	return out
}

func (p *page) footer(run kidoban.Run) []string {
	n := Count(run.Results)
	s := fmt.Sprintf("  ok %d · n/a %d · suppressed %d · left behind %d · %s · %s",
		n.Pass, n.NotApplicable, n.Suppressed, len(run.Residue.LeftBehind),
		kidoban.Count(run.Requests, "request", "requests"), duration(run.DurationMS))
	out := []string{p.t.line(part{s, ""})}
	for i, l := range run.Residue.LeftBehind {
		if i == 2 {
			out = append(out, p.t.line(part{fmt.Sprintf("  and %d more left behind", len(run.Residue.LeftBehind)-i), yellow}))
			break
		}
		out = append(out, p.t.line(part{"  left behind: " + leftOver(l), yellow}))
	}
	if fs := Findings(run.Results); len(fs) > 0 {
		out = append(out, p.t.line(part{"  kidoban explain " + Clean(fs[0].Key(), 12) + " says what it means and how to fix it", dim}))
	}
	return out
}

func leftOver(l kidoban.LeftOver) string {
	s := Clean(l.Kind, 20)
	if l.ClientID != "" {
		s += " " + Clean(l.ClientID, 60)
	}
	s += " at " + Clean(l.Issuer, maxURL) + ": " + Clean(l.Reason, maxSummary)
	if l.Expires != "" {
		s += " (expires " + Clean(l.Expires, 40) + ")"
	}
	return s
}

func duration(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}
