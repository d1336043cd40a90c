package census

import (
	_ "embed" // the page's text
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed report.html
var reportPage string

// numbered is a table with its number on the page.
type numbered struct {
	table
	N     int
	Study bool // the study says something about a row
}

// WriteHTML writes one file without scripts and without anything to load: the
// results section of a paper, with its figures as SVG.
func (s *Stats) WriteHTML(w io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{
		"pct": paperPercent, "lo": func(i Interval) string { return fmt.Sprintf("%.1f", 100*i.Low) }, "hi": func(i Interval) string { return fmt.Sprintf("%.1f", 100*i.High) },
		"n": thousands, "words": words, "plain": plain, "points": points, "apart": apart, "day": func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04") },
		"bar": func(n int, rows []Count) int { return 100 * n / max(1, rows[0].N) },
	}).Parse(reportPage)
	if err != nil {
		return err
	}
	tables := map[string]numbered{}
	for i, t := range s.tables() {
		tables[[...]string{"Auth", "Classes", "OAuth", "Flaws", "Groups", "Clusters"}[i]] =
			numbered{t, [...]int{1, 2, 3, 4, 5, 7}[i], slices.ContainsFunc(t.Rows, func(r Row) bool { return r.Study != "" })}
	}
	return page.Execute(w, map[string]any{
		"S": s, "T": tables, "Rankings": s.rankings(), "AuthFigure": authFigure(s.Auth), "OAuthFigure": shareFigure(s.OAuth),
		"FlawFigure": shareFigure(s.Flaws), "ClusterFigure": shareFigure(s.Clusters), "FunnelFigure": funnelFigure(s.Funnel),
	})
}

// paperPercent keeps the number and its sign on one line.
func paperPercent(f float64) string { return fmt.Sprintf("%.2f\u00a0%%", 100*f) }

// points is a difference of shares in percentage points.
func points(a, b float64) string {
	return strings.Replace(fmt.Sprintf("%+.1f", 100*(a-b)), "-", "\u2212", 1)
}

// apart says whether two intervals exclude each other.
func apart(a Interval, b *Interval) string {
	if b != nil && (a.Low > b.High || b.Low > a.High) {
		return "and the two intervals exclude each other"
	}
	return "and the two intervals overlap"
}

// svg draws in a small vocabulary; texts are escaped here, so that the figures
// may be embedded as they are.
type svg struct{ b strings.Builder }

func (s *svg) open(w, h int, title string) {
	fmt.Fprintf(&s.b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, w, h, template.HTMLEscapeString(title))
}

func (s *svg) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(&s.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`, x, y, max(w, 0), h, class)
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&s.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (s *svg) text(x, y float64, anchor, t string) {
	fmt.Fprintf(&s.b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, template.HTMLEscapeString(t))
}

func (s *svg) done() template.HTML {
	s.b.WriteString("</svg>")
	return template.HTML(s.b.String()) //nolint:gosec // numbers and escaped texts only
}

// shareScale draws the grid of a figure whose axis runs from 0 to 100 %.
func (s *svg) shareScale(left, width, bottom float64) {
	for _, tick := range []float64{0, 0.25, 0.5, 0.75, 1} {
		s.line(left+width*tick, 6, left+width*tick, bottom, "grid")
		s.text(left+width*tick, bottom+16, "middle", fmt.Sprintf("%.0f %%", 100*tick))
	}
}

// authFigure sets the three shares beside the study's, each with its interval.
func authFigure(rows []Row) template.HTML {
	var s svg
	s.open(720, 34+66*len(rows), "authentication here and in the study")
	const left, width = 190.0, 500.0
	s.shareScale(left, width, 10+66*float64(len(rows)))
	for i, r := range rows {
		y := 16 + 66*float64(i)
		s.text(left-10, y+24, "end", r.Label)
		s.bar(left, y, width, r.Here, "here", "here")
		if r.There != nil {
			s.bar(left, y+24, width, *r.There, "study", "study")
		}
	}
	return s.done()
}

// bar is a share with its interval and its number.
func (s *svg) bar(left, y, width float64, i Interval, class, who string) {
	s.rect(left, y, width*i.Share, 20, class)
	s.line(left+width*i.Low, y+10, left+width*i.High, y+10, "whisker")
	s.text(left+width*i.High+8, y+15, "start", percent(i.Share)+" "+who)
}

// shareFigure draws each share as a square with its interval, and the study's as
// a ring under it.
func shareFigure(rows []Row) template.HTML {
	var s svg
	s.open(720, 40+22*max(1, len(rows)), "shares with 95 % intervals")
	const left, width = 330.0, 360.0
	s.shareScale(left, width, 14+22*float64(len(rows)))
	for i, r := range rows {
		y := 20 + 22*float64(i)
		s.text(left-10, y+4, "end", r.title())
		if r.There != nil {
			s.line(left+width*r.There.Low, y+5, left+width*r.There.High, y+5, "there")
			fmt.Fprintf(&s.b, `<circle cx="%.1f" cy="%.1f" r="3.5" class="ring"/>`, left+width*r.There.Share, y+5)
			y -= 3
		}
		s.line(left+width*r.Here.Low, y, left+width*r.Here.High, y, "whisker")
		s.rect(left+width*r.Here.Share-3, y-3, 6, 6, "here")
	}
	return s.done()
}

// funnelFigure draws how many were left after each stage.
func funnelFigure(stages []Count) template.HTML {
	var s svg
	s.open(720, 16+32*len(stages), "from candidates to servers")
	const left, width = 190.0, 400.0
	for i, c := range stages {
		y := 8 + 32*float64(i)
		share := 0.0
		if stages[0].N > 0 {
			share = float64(c.N) / float64(stages[0].N)
		}
		s.text(left-10, y+16, "end", c.Word)
		s.rect(left, y, width*share, 22, "here")
		s.text(left+width*share+8, y+16, "start", fmt.Sprintf("%s (%s)", thousands(c.N), percent(share)))
	}
	return s.done()
}
