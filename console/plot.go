package console

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// plot is a chart over time, drawn as SVG. Lines differ in colour and in dashes,
// and the description says in words what they show.
type plot struct {
	ID     string // unique on the page
	Title  string
	Desc   string // what a screen reader says instead of the picture
	Times  []time.Time
	Lines  []plotLine
	Bars   bool
	Format func(float64) string
	Long   bool // the axis needs days
}

type plotLine struct {
	Name   string
	Values []float64
}

const (
	plotW, plotH           = 440.0, 170.0
	plotLeft, plotBottom   = 52.0, 22.0
	plotTop, plotRight     = 8.0, 8.0
	plotInnerW, plotInnerH = plotW - plotLeft - plotRight, plotH - plotTop - plotBottom
)

// SVG draws the chart. All text in it is escaped.
func (p plot) SVG() template.HTML {
	var b strings.Builder
	top := p.top()
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-labelledby="%s-t %s-d" class="plot" focusable="false"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		plotW, plotH, p.ID, p.ID, p.ID, esc(p.Title), p.ID, esc(p.Desc))
	for i := range 3 { // nothing, half, all
		v := top * float64(i) / 2
		y := plotTop + plotInnerH*(1-float64(i)/2)
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, plotW-plotRight, y, y, plotLeft-6, y+4, esc(p.Format(v)))
	}
	for i := 0; len(p.Times) > 0 && i <= 4; i++ {
		n := (len(p.Times) - 1) * i / 4
		anchor := []string{"start", "middle", "middle", "middle", "end"}[i]
		layout := "15:04"
		if p.Long {
			layout = "01-02"
		}
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%g" text-anchor="%s">%s</text>`, p.x(n), plotH-5, anchor, p.Times[n].UTC().Format(layout))
	}
	for i, l := range p.Lines {
		if p.Bars {
			p.bars(&b, i, l, top)
		} else {
			p.line(&b, i, l, top)
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // numbers of ours, and texts that esc went over
}

// top is a round number that nothing exceeds.
func (p plot) top() float64 {
	most := 0.0
	for _, l := range p.Lines {
		for _, v := range l.Values {
			most = max(most, v)
		}
	}
	if most <= 2 {
		return 2
	}
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{1, 2, 4, 6, 8, 10} {
		if most <= f*unit {
			return f * unit
		}
	}
	return most
}

func (p plot) x(i int) float64 {
	if p.Bars {
		return plotLeft + plotInnerW*(float64(i)+0.5)/float64(len(p.Times))
	}
	return plotLeft + plotInnerW*float64(i)/float64(max(len(p.Times)-1, 1))
}

func y(v, top float64) float64 { return plotTop + plotInnerH*(1-v/top) }

func (p plot) line(b *strings.Builder, n int, l plotLine, top float64) {
	b.WriteString(`<polyline class="line s` + strconv.Itoa(n) + `" points="`)
	for i, v := range l.Values {
		fmt.Fprintf(b, "%.1f,%.1f ", p.x(i), y(v, top))
	}
	b.WriteString(`"/>`)
}

func (p plot) bars(b *strings.Builder, n int, l plotLine, top float64) {
	w := plotInnerW / float64(len(p.Times)) * 0.8 / float64(len(p.Lines))
	for i, v := range l.Values {
		if v > 0 {
			left := p.x(i) - w*float64(len(p.Lines))/2 + w*float64(n)
			fmt.Fprintf(b, `<rect class="bar s%d" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, n, left, y(v, top), max(w, 1), plotTop+plotInnerH-y(v, top))
		}
	}
}

func esc(s string) string { return template.HTMLEscapeString(s) }

// hostGraph draws who meets at a callback host: clients to the left, people to the
// right (G-RG3). The lists below it say the same in words.
func hostGraph(title, host string, clients, users []string, moreClients, moreUsers bool) template.HTML {
	const most, row, width = 10, 24, 640
	side := func(names []string, more bool) []string {
		if len(names) > most {
			names, more = names[:most], true
		}
		names = append([]string(nil), names...)
		if more {
			names = append(names, "…")
		}
		return names
	}
	left, right := side(clients, moreClients), side(users, moreUsers)
	rows := max(len(left), len(right), 1)
	height := rows*row + 16
	middle := height / 2
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s" class="plot graph" focusable="false">`, width, height, esc(title))
	draw := func(names []string, x, to int, anchor string) {
		for i, name := range names {
			y := 8 + (rows-len(names))*row/2 + i*row + row/2
			fmt.Fprintf(&b, `<path class="edge" d="M%d %d C%d %d %d %d %d %d"/><text x="%d" y="%d" text-anchor="%s">%s</text>`,
				x, y, (x+to)/2, y, (x+to)/2, middle, to, middle, x+map[string]int{"end": -6, "start": 6}[anchor], y+4, anchor, esc(name))
		}
	}
	draw(left, 170, 215, "end")
	draw(right, 470, 425, "start")
	fmt.Fprintf(&b, `<rect class="node" x="215" y="%d" width="210" height="28" rx="6"/><text x="320" y="%d" text-anchor="middle" class="name">%s</text></svg>`, middle-14, middle+4, esc(host))
	return template.HTML(b.String()) // numbers of ours, and texts that esc went over
}
