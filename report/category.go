package report

import "github.com/kidoban/kidoban"

// Category is one bar of the report: how the decided checks of one part of the
// server came out.
type Category struct {
	Name                             string // short: "C1 client registration"
	Pass, Weak, Fail, Undecided, Sup int
}

// Decided is how many checks have a verdict.
func (c Category) Decided() int { return c.Pass + c.Weak + c.Fail + c.Sup }

// Cells is the filled part of a bar of n cells: the share of decided checks that
// are clean, rounded down so that one finding always shows. Nothing decided
// gives -1: an empty bar would say "all bad".
func (c Category) Cells(n int) int {
	if c.Decided() == 0 {
		return -1
	}
	return c.Pass * n / c.Decided()
}

// categories are the bars in report order, and which catalogue categories each
// collects. C1–C4 are those of the study; the extensions join the part of the
// server they are about.
var categories = [...]struct {
	name string
	of   []string
}{
	{"C1 client registration", []string{"C1", "REG"}},
	{"C2 delegation", []string{"C2"}},
	{"C3 open client", []string{"C3"}},
	{"C4 classic OAuth", []string{"C4", "TOK"}},
	{"MCP endpoint", []string{"MCP", "META", "CLI"}},
}

// Categories returns the bars of a run.
func Categories(results []kidoban.Result) []Category {
	index := map[string]int{}
	out := make([]Category, len(categories))
	for i, c := range categories {
		out[i].Name = c.name
		for _, k := range c.of {
			index[k] = i
		}
	}
	of := map[string]string{}
	for _, f := range kidoban.Flaws() {
		of[f.ID] = f.Category
	}
	for _, r := range results {
		i, ok := index[of[r.ID]]
		if !ok {
			continue
		}
		c := &out[i]
		switch {
		case isFinding(r) && r.Suppressed != "":
			c.Sup++
		case r.Outcome == kidoban.Fail:
			c.Fail++
		case r.Outcome == kidoban.Weak:
			c.Weak++
		case r.Outcome == kidoban.Pass:
			c.Pass++
		case r.Outcome == kidoban.NotTested, r.Outcome == kidoban.Inconclusive:
			c.Undecided++
		}
	}
	return out
}

// Gain is what fixing one flaw would do to the grade.
type Gain struct {
	Flaw   string // id
	Name   string
	Keys   []string // the checks that would pass
	Letter string   // grade afterwards; "" when it cannot be told
	Chains int      // chains that would be broken
}

// Gains returns, for every flaw with findings, what fixing it alone would give,
// in the order of the worst finding.
func (in Input) Gains() []Gain {
	var out []Gain
	at := map[string]int{}
	for _, r := range Findings(in.Run.Results) {
		i, ok := at[r.ID]
		if !ok {
			i = len(out)
			at[r.ID] = i
			f, _ := kidoban.FlawByID(r.ID)
			out = append(out, Gain{Flaw: r.ID, Name: f.Name})
		}
		out[i].Keys = append(out[i].Keys, r.Key())
	}
	for i := range out {
		fixed := in.without(out[i].Flaw)
		out[i].Chains = len(in.Run.Chains) - len(fixed.Chains)
		if in.Regrade != nil && in.Run.Target.Headline == kidoban.HeadlineGraded {
			out[i].Letter = letter(in.Regrade(fixed))
		}
	}
	return out
}

// without returns the run as it would be with one flaw fixed.
func (in Input) without(flaw string) kidoban.Run {
	run := in.Run
	run.Results = make([]kidoban.Result, len(in.Run.Results))
	fixed := map[string]bool{}
	for i, r := range in.Run.Results {
		if r.ID == flaw && isFinding(r) {
			fixed[r.Key()] = true
			r.Outcome, r.Evidence = kidoban.Pass, ""
		}
		run.Results[i] = r
	}
	run.Chains = nil
	for _, c := range in.Run.Chains {
		broken := false
		for _, k := range c.Checks {
			broken = broken || fixed[k]
		}
		if !broken {
			run.Chains = append(run.Chains, c)
		}
	}
	return run
}
