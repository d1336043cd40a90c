package report

import (
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

// Badge writes a small SVG with the grade, the tiers and the date of the run: a
// badge without them would say more than was tested.
func Badge(w io.Writer, run kidoban.Run) error {
	left, grade := "MCP auth", letter(run.Grade)
	colour := map[string]string{"good": "#1f7a4d", "mid": "#a35f00", "bad": "#b3261e", "none": "#6a645b"}[gradeClass(run.Grade.Letter)]
	if run.Target.Headline != kidoban.HeadlineGraded {
		grade, colour = strings.ReplaceAll(Clean(run.Target.Headline, 16), "_", " "), "#6a645b"
		if run.Target.Headline == kidoban.HeadlineOpen {
			colour = "#b3261e"
		}
	}
	parts := []string{grade, tiers(run.Meta)}
	if d := run.Meta.Started; len(d) >= 10 {
		parts = append(parts, Clean(d[:10], 10))
	}
	right := strings.Join(nonEmpty(parts), " · ")
	lw, rw := badgeWidth(left), badgeWidth(right)
	l, r := html.EscapeString(left), html.EscapeString(right)
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s: %s"><title>%s: %s</title><clipPath id="c"><rect width="%d" height="20" rx="4"/></clipPath><g clip-path="url(#c)"><rect width="%d" height="20" fill="#3a352c"/><rect x="%d" width="%d" height="20" fill="%s"/></g><g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle"><text x="%d" y="14" textLength="%d">%s</text><text x="%d" y="14" textLength="%d">%s</text></g></svg>
`, lw+rw, l, r, l, r, lw+rw, lw, lw, rw, colour, lw/2, lw-12, l, lw+rw/2, rw-12, r)
	return err
}

func nonEmpty(in []string) []string {
	var out []string
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// badgeWidth estimates the width of 11-pixel text with padding; textLength makes
// the text fit exactly.
func badgeWidth(s string) int {
	w := 12.0
	for _, r := range s {
		if strings.ContainsRune("MWmw–", r) {
			w += 9.5
			continue
		}
		if strings.ContainsRune(" .·:-il", r) {
			w += 4.5
			continue
		}
		w += 7
	}
	return int(w)
}
