package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// studyCmd holds the tester against the figures of the study: the same
// distribution of flaws over 119 servers, the situations in which the study's own
// tool was wrong among them.
type studyCmd struct {
	Ways  []string `help:"How to judge the servers: recorded (traffic of a tester's client, nothing sent by the audit), probed (the audit with a login)." default:"recorded,probed" sep:"," enum:"recorded,probed"`
	Every int      `help:"Probe only every n-th server; recorded traffic is always judged of all." default:"1"`
	Jobs  int      `help:"Servers at a time." default:"4"`
	JSON  bool     `name:"json" help:"Print one JSON document instead of the table."`
}

// studied is one server as judged in one way.
type studied struct {
	Server    string   `json:"server"`
	Situation string   `json:"situation,omitempty"`
	Has       []string `json:"has"`
	Found     []string `json:"found"`
	Missed    []string `json:"missed,omitempty"`
	False     []string `json:"false,omitempty"`
}

// studyColumn is what one way of judging gave over all servers.
type studyColumn struct {
	Way        string         `json:"way"`
	Servers    int            `json:"servers"`
	Alerts     int            `json:"alerts"`
	False      int            `json:"false"`
	Missed     int            `json:"missed"`
	Flaws      map[string]int `json:"flaws"`      // servers with each flaw, as found
	Categories map[string]int `json:"categories"` // servers with a flaw of each category
	Three      int            `json:"three"`      // servers in three or more categories
	Seconds    float64        `json:"seconds"`
	Wrong      []studied      `json:"wrong,omitempty"`
}

// printed is what the study says about itself (its section 5.3 and figure 6; the
// text says 72 for F6, the total of 325 wants the figure's 62).
func printed() studyColumn {
	return studyColumn{Way: "study", Servers: 119, Alerts: 379, False: 54, Missed: 1, Three: 39,
		Flaws:      map[string]int{"F1": 114, "F2": 12, "F3": 12, "F4": 7, "F5": 81, "F6": 62, "F7": 28, "F8": 3, "F9": 6},
		Categories: map[string]int{"C1": 115, "C2": 18, "C3": 102, "C4": 34}}
}

// Run judges the population and exits with 1 when a verdict is wrong.
func (c *studyCmd) Run(e *env) error {
	columns := []studyColumn{printed()}
	wrong := 0
	for _, way := range c.Ways {
		servers := lab.Study()
		if way == "probed" && c.Every > 1 {
			servers = slices.Collect(everyNth(servers, c.Every))
		}
		start := time.Now()
		all, err := c.judge(e.ctx, way, servers)
		if err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "lab study: a server could not be judged")
		}
		col := count(way, all)
		col.Seconds = time.Since(start).Seconds()
		columns = append(columns, col)
		wrong += len(col.Wrong)
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", " ")
		if err := enc.Encode(map[string]any{"schema": "kidoban.study/1", "columns": columns}); err != nil {
			return err
		}
	} else {
		printStudy(e.stdout, columns)
	}
	if wrong > 0 {
		return exitError(exitFindings)
	}
	return nil
}

func everyNth(all []lab.StudyServer, n int) func(func(lab.StudyServer) bool) {
	return func(yield func(lab.StudyServer) bool) {
		for i := 0; i < len(all); i += n {
			if !yield(all[i]) {
				return
			}
		}
	}
}

func (c *studyCmd) judge(ctx context.Context, way string, servers []lab.StudyServer) ([]studied, error) {
	out := make([]studied, len(servers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, c.Jobs))
	for i, s := range servers {
		g.Go(func() error {
			rep, err := judgeStudyServer(ctx, way, s)
			if err != nil {
				return fmt.Errorf("%s %s: %w", s.Name, way, err)
			}
			found := audit.StudyFlaws(rep.Results)
			out[i] = studied{s.Name, s.Situation, s.Flaws, found, minus(s.Flaws, found), minus(found, s.Flaws)}
			return nil
		})
	}
	return out, g.Wait()
}

func judgeStudyServer(ctx context.Context, way string, s lab.StudyServer) (*audit.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	clock := &lab.Clock{}
	s.Options.Now = clock.Now
	l, err := lab.Start(ctx, s.Options)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if way == "probed" {
		return auditLab(ctx, l, []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3}, nil, clock)
	}
	o := audit.Observe()
	if err := (&driver{odd: s.OddNames}).run(ctx, l, s.Options.Era, recordedLogins, o.Add, testersHabits()); err != nil {
		return nil, err
	}
	return o.Report(audit.ObservedOptions{Target: l.MCPURL, Now: time.Now})
}

func categoryOf(flaw string) string {
	for _, f := range kidoban.Flaws() {
		if f.ID == flaw {
			return f.Category
		}
	}
	return ""
}

func count(way string, all []studied) studyColumn {
	c := studyColumn{Way: way, Servers: len(all), Flaws: map[string]int{}, Categories: map[string]int{}}
	for _, s := range all {
		hit := map[string]bool{}
		for _, f := range s.Found {
			c.Flaws[f]++
			hit[categoryOf(f)] = true
		}
		for k := range hit {
			c.Categories[k]++
		}
		if len(hit) >= 3 {
			c.Three++
		}
		c.Alerts += len(s.Found)
		c.False += len(s.False)
		c.Missed += len(s.Missed)
		if len(s.False)+len(s.Missed) > 0 {
			c.Wrong = append(c.Wrong, s)
		}
	}
	return c
}

func printStudy(w io.Writer, columns []studyColumn) {
	row := func(name string, value func(studyColumn) string) {
		fmt.Fprintf(w, "%-38s", name)
		for _, c := range columns {
			fmt.Fprintf(w, "%10s", value(c))
		}
		fmt.Fprintln(w)
	}
	number := func(f func(studyColumn) int) func(studyColumn) string {
		return func(c studyColumn) string { return fmt.Sprint(f(c)) }
	}
	row("", func(c studyColumn) string { return c.Way })
	row("servers", number(func(c studyColumn) int { return c.Servers }))
	for _, f := range kidoban.Flaws() {
		if !strings.HasPrefix(f.ID, "F") {
			continue
		}
		row(fmt.Sprintf("%s  %s %s", f.Category, f.ID, f.Name), number(func(c studyColumn) int { return c.Flaws[f.ID] }))
	}
	row("instances", number(func(c studyColumn) int {
		n := 0
		for _, k := range c.Flaws {
			n += k
		}
		return n - c.falseOurs()
	}))
	for _, k := range []string{"C1", "C2", "C3", "C4"} {
		row("servers with a flaw of "+k, number(func(c studyColumn) int { return c.Categories[k] }))
	}
	row("servers in three or more categories", number(func(c studyColumn) int { return c.Three }))
	row("alerts", number(func(c studyColumn) int { return c.Alerts }))
	row("false alarms", number(func(c studyColumn) int { return c.False }))
	row("missed", number(func(c studyColumn) int { return c.Missed }))
	right := func(c studyColumn) int { return c.Alerts - c.False }
	row("precision", func(c studyColumn) string { return fmt.Sprintf("%.4f", ratio(float64(right(c)), float64(c.Alerts))) })
	row("recall", func(c studyColumn) string {
		return fmt.Sprintf("%.4f", ratio(float64(right(c)), float64(right(c)+c.Missed)))
	})
	for _, c := range columns {
		for _, s := range c.Wrong {
			fmt.Fprintf(w, "WRONG  %s %s (%s): false %v, missed %v\n", c.Way, s.Server, s.Situation, s.False, s.Missed)
		}
	}
}

// falseOurs are the false alarms among the counted flaws. The study's counts are
// without them.
func (c studyColumn) falseOurs() int {
	if c.Way == "study" {
		return 0
	}
	return c.False
}
