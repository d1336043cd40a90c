package census

import (
	_ "embed" // the page's text
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed report.html
var reportPage string

// WriteHTML writes one file without scripts and without anything to load: the
// results section of a paper, with its figures as SVG.
func (s *Stats) WriteHTML(w io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{
		"pct": percent, "lo": func(i Interval) string { return fmt.Sprintf("%.1f", 100*i.Low) }, "hi": func(i Interval) string { return fmt.Sprintf("%.1f", 100*i.High) },
		"title": Row.title, "plain": plain, "points": func(a, b float64) string { return fmt.Sprintf("%+.1f", 100*(a-b)) },
	}).Parse(reportPage)
	if err != nil {
		return err
	}
	return page.Execute(w, map[string]any{
		"S": s, "Tables": s.tables(), "Rankings": s.rankings(),
		"AuthFigure": authFigure(s.Auth), "FlawFigure": shareFigure(s.Flaws), "ClusterFigure": shareFigure(s.Clusters), "FunnelFigure": funnelFigure(s.Funnel),
	})
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

// authFigure sets the three shares beside the study's.
func authFigure(rows []Row) template.HTML {
	var s svg
	s.open(720, 40+70*len(rows), "authentication here and in the study")
	const left, width = 210.0, 420.0
	for i, r := range rows {
		y := 20 + 70*float64(i)
		s.text(left-10, y+24, "end", r.Label)
		s.rect(left, y, width*r.Here.Share, 20, "here")
		s.line(left+width*r.Here.Low, y+10, left+width*r.Here.High, y+10, "whisker")
		s.text(left+width*r.Here.High+8, y+15, "start", percent(r.Here.Share))
		s.rect(left, y+24, width*r.Share, 20, "study")
		s.text(left+width*r.Share+8, y+39, "start", percent(r.Share)+" study")
	}
	return s.done()
}

// shareFigure draws each share as a dot with its interval.
func shareFigure(rows []Row) template.HTML {
	var s svg
	s.open(720, 40+22*max(1, len(rows)), "shares with 95 % intervals")
	const left, width = 330.0, 330.0
	bottom := 14 + 22*float64(len(rows))
	for _, tick := range []float64{0, 0.25, 0.5, 0.75, 1} {
		s.line(left+width*tick, 8, left+width*tick, bottom, "grid")
		s.text(left+width*tick, bottom+16, "middle", fmt.Sprintf("%.0f %%", 100*tick))
	}
	for i, r := range rows {
		y := 20 + 22*float64(i)
		s.text(left-10, y+4, "end", r.title())
		s.line(left+width*r.Here.Low, y, left+width*r.Here.High, y, "whisker")
		s.rect(left+width*r.Here.Share-3, y-3, 6, 6, "here")
	}
	return s.done()
}

// funnelFigure draws how many were left after each stage.
func funnelFigure(stages []Count) template.HTML {
	var s svg
	s.open(720, 20+34*len(stages), "from candidates to servers")
	const left, width = 180.0, 430.0
	for i, c := range stages {
		y := 10 + 34*float64(i)
		share := 0.0
		if stages[0].N > 0 {
			share = float64(c.N) / float64(stages[0].N)
		}
		s.text(left-10, y+17, "end", c.Word)
		s.rect(left, y, width*share, 24, "here")
		s.text(left+width*share+8, y+17, "start", fmt.Sprint(c.N))
	}
	return s.done()
}
