package corpus

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) rates(title string, m map[string]*Rate) {
	if len(m) == 0 {
		return
	}
	p.line("%s", title)
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		p.line("  %-48s %5d of %5d  %6.2f %%", n, m[n].Hits, m[n].Total, 100*m[n].Rate)
	}
}

func (p *printer) cases(title string, cases []Case) {
	if len(cases) == 0 {
		return
	}
	p.line("%s", title)
	for _, c := range cases {
		p.line("  %.2f %s %s [%s]", c.Score, c.ID, c.Class, strings.Join(c.Rules, " "))
		p.line("       %s", c.Text)
	}
}

// Text writes the report for people.
func (rep *Report) Text(w io.Writer) error {
	p := &printer{w: w}
	p.line("macro recall %.3f over %d sources (hard rules alone %.3f); false alarms %.2f %% of %d honest tools (hard rules alone %.2f %%)",
		rep.MacroRecall, len(rep.Sources), rep.StrictRecall, 100*rep.FalseAlarmRate, rep.Benign.Total, 100*rep.StrictFalseAlarms)
	p.line("%.0f µs a tool", rep.MicrosPerTool)
	p.rates("recall by source", rep.Sources)
	p.rates("recall by class", rep.Classes)
	p.rates("apart (not counted above)", rep.Apart)
	p.rates("false alarms by source", rep.BenignSources)
	c := &rep.Contents
	p.line("contents: explicit %d of %d, BIPIA %d of %d, false alarms %.2f %%", c.Explicit.Hits, c.Explicit.Total, c.BIPIA.Hits, c.BIPIA.Total, 100*c.FalseAlarmRate)
	p.rates("contents: recall by source", c.Sources)
	p.rates("contents: false alarms by source", c.FalseAlarms)
	d := &rep.Drift
	p.line("drift: %d of %d malicious changes held, %d graded alarm; %d of %d upgrades calm", d.MaliciousHeld.Hits, d.MaliciousHeld.Total, d.MaliciousAlarm.Hits, d.BenignCalm.Hits, d.BenignCalm.Total)
	p.line("thresholds")
	for _, x := range rep.Curve {
		p.line("  %.2f  recall %.3f  false alarms %.2f %%", x.Score, x.MacroRecall, 100*x.FalseAlarmRate)
	}
	p.cases("attacks not found", rep.WorstMissed)
	p.cases("false alarms", rep.WorstFalseAlarms)
	p.cases("contents not found", rep.WorstContents)
	p.cases("false alarms in contents", rep.WorstContentFalse)
	p.cases("upgrades that are not calm", d.NotCalm)
	return kidoban.Wrap(kidoban.KindInput, p.err, "cannot write the report")
}

// Text writes what leaving sources out says.
func (t *Trained) Text(w io.Writer) error {
	p := &printer{w: w}
	for _, part := range []struct {
		name string
		lo   *LeaveOut
	}{{"definitions", &t.Definitions}, {"sentences", &t.Sentences}} {
		p.line("%s: %d examples, %d of attacks; every source scored by weights that never saw it", part.name, part.lo.Examples, part.lo.Attacks)
		for _, s := range part.lo.Steps {
			p.line("  at %.2f %% false alarms: macro recall %.3f", 100*s.Share, s.Macro)
			names := make([]string, 0, len(s.Recall))
			for n := range s.Recall {
				names = append(names, n)
			}
			sort.Strings(names)
			for _, n := range names {
				p.line("    %-48s %.2f", n, s.Recall[n])
			}
		}
	}
	p.line("the whole scanner, weights without the source: macro recall %.3f, false alarms %.2f %%", t.Scanner.MacroRecall, 100*t.Scanner.FalseAlarmRate)
	p.rates("recall by source", t.Scanner.Recall)
	p.rates("false alarms by source", t.Scanner.FalseAlarms)
	return kidoban.Wrap(kidoban.KindInput, p.err, "cannot write the report")
}
