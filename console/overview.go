package console

import (
	"context"
	"fmt"
	"html/template"
	"strconv"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// span is a stretch of time that the overview shows.
type span struct {
	Name  string // in the address, and with "span_" its text
	Long  time.Duration
	Step  time.Duration // one point of the charts
	Width time.Duration // of the stored counts
}

var spans = []span{
	{"1h", time.Hour, time.Minute, minute},
	{"24h", 24 * time.Hour, 15 * time.Minute, minute},
	{"7d", 7 * 24 * time.Hour, 2 * time.Hour, hour},
	{"30d", 30 * 24 * time.Hour, 8 * time.Hour, hour},
}

type overviewPage struct {
	Span   span
	Spans  []span
	Sum    Meter
	Charts []chart
	Totals Totals
	Waits  Waiting
	Alerts []kidoban.Alert
}

type chart struct {
	Title  string
	Legend []string
	SVG    template.HTML
}

// overview shows what happened over time, and what waits for a decision.
func (s *Server) overview(v *visit) (any, error) {
	ctx := v.r.Context()
	p := overviewPage{Span: spans[1], Spans: spans}
	for _, x := range spans {
		if v.query.Get("span") == x.Name {
			p.Span = x
		}
	}
	points, err := s.series(ctx, p.Span, v.now)
	if err != nil {
		return nil, err
	}
	for _, m := range points {
		p.Sum.add(m)
	}
	p.Charts = v.charts(p.Span, points)
	if p.Totals, err = s.totals.get(ctx, s.deps.Store, v.now); err != nil {
		return nil, err
	}
	if p.Waits, err = s.deps.Store.Waiting(ctx); err != nil {
		return nil, err
	}
	alerts, err := s.deps.Store.PageAlerts(ctx, AlertQuery{Query: Query{Limit: 5}})
	p.Alerts = alerts.Rows
	return p, err
}

// totals remembers what there is for a minute: counting reads whole indexes, and
// the overview renews itself.
type totals struct {
	mu   sync.Mutex
	at   time.Time // guarded by mu
	last Totals    // guarded by mu
}

func (t *totals) get(ctx context.Context, st Store, now time.Time) (Totals, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if age := now.Sub(t.at); age >= 0 && age < time.Minute {
		return t.last, nil
	}
	fresh, err := st.Totals(ctx, now)
	if err == nil {
		t.at, t.last = now, fresh
	}
	return fresh, err
}

// series sums the stored counts up to the points of a span.
func (s *Server) series(ctx context.Context, x span, now time.Time) ([]Meter, error) {
	to := now.Truncate(x.Step).Add(x.Step)
	from := to.Add(-x.Long)
	rows, err := s.deps.Meters.read(ctx, x.Width, from, to)
	if err != nil {
		return nil, err
	}
	out := make([]Meter, int(x.Long/x.Step))
	for i := range out {
		out[i].At, out[i].Width = from.Add(time.Duration(i)*x.Step), x.Step
	}
	for _, m := range rows {
		if i := int(m.At.Sub(from) / x.Step); i >= 0 && i < len(out) {
			out[i].add(m)
		}
	}
	return out, nil
}

func (v *visit) charts(x span, points []Meter) []chart {
	count := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	make1 := func(id, title string, bars bool, format func(float64) string, lines ...func(Meter) (string, float64)) chart {
		p := plot{ID: "plot-" + id, Title: v.t(title), Bars: bars, Format: format, Long: x.Long > 24*time.Hour}
		for _, m := range points {
			p.Times = append(p.Times, m.At)
		}
		c := chart{Title: p.Title}
		for _, f := range lines {
			l := plotLine{}
			for _, m := range points {
				name, value := f(m)
				l.Name = v.t(name)
				l.Values = append(l.Values, value)
			}
			p.Lines = append(p.Lines, l)
			c.Legend = append(c.Legend, l.Name)
			p.Desc += v.describe(l, p, format)
		}
		c.SVG = p.SVG()
		return c
	}
	number := func(name string, f func(Meter) int64) func(Meter) (string, float64) {
		return func(m Meter) (string, float64) { return name, float64(f(m)) }
	}
	return []chart{
		make1("calls", "chart_calls", false, count, number("calls", func(m Meter) int64 { return m.Calls }),
			number("refused", func(m Meter) int64 { return m.Refused }), number("failed", func(m Meter) int64 { return m.Failed })),
		make1("latency", "chart_latency", false, func(f float64) string { return millis(int64(f)) },
			number("median", func(m Meter) int64 { return m.Quantile(0.5) }), number("p95", func(m Meter) int64 { return m.Quantile(0.95) })),
		make1("access", "chart_access", true, count, number("registrations", func(m Meter) int64 { return m.Registrations }),
			number("consents", func(m Meter) int64 { return m.Consents }), number("logins", func(m Meter) int64 { return m.Logins })),
		make1("alerts", "chart_alerts", true, count, number("alerts", func(m Meter) int64 { return m.Alerts })),
	}
}

// describe puts a line in words: its most, when, and where it ends.
func (v *visit) describe(l plotLine, p plot, format func(float64) string) string {
	if len(l.Values) == 0 {
		return ""
	}
	at, last := 0, len(l.Values)-1
	for i, x := range l.Values {
		if x > l.Values[at] {
			at = i
		}
	}
	return fmt.Sprintf("%s: %s ", l.Name, v.t("line_says", format(l.Values[at]), p.Times[at].UTC().Format("01-02 15:04"), format(l.Values[last])))
}

func (v *visit) t(id string, args ...any) string { return say(v.langs[0], id, args...) }
