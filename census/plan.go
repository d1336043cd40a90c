package census

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
)

// Plan is what a census would do, told without contacting anybody.
type Plan struct {
	Sources  []Accounting   `json:"sources"`
	Lines    int            `json:"lines,omitempty"`
	Blank    int            `json:"blank,omitempty"` // empty lines and comments
	Entries  int            `json:"entries"`
	Targets  int            `json:"targets"`
	Hosts    int            `json:"hosts"`
	Crowded  int            `json:"beyond_host_budget"` // targets that will be skipped
	Rejected map[string]int `json:"rejected"`
	// Typical is measured on the simulator's population: about eight requests to a
	// target. Most is the bound that cannot be exceeded.
	Typical  int           `json:"requests_typical"`
	Most     int           `json:"requests_at_most"`
	Shortest time.Duration `json:"shortest_ns"` // with one request a second to each host and all hosts at once
	Balanced bool          `json:"every_entry_accounted_for"`
}

// typicalRequests is what one target costs on average, robots.txt included.
const typicalRequests = 8

// MakePlan counts what is in the store.
func MakePlan(ctx context.Context, store Store, run string, sources []Accounting) (*Plan, error) {
	p := &Plan{Sources: sources, Rejected: map[string]int{}, Balanced: true}
	for _, a := range sources {
		p.Entries, p.Lines, p.Blank = p.Entries+a.Entries, p.Lines+a.Lines, p.Blank+a.Blank
		p.Balanced = p.Balanced && a.Balanced()
		for k, n := range a.Rejected {
			p.Rejected[k] += n
		}
	}
	all, done, err := store.CensusCount(ctx, run)
	if err != nil {
		return nil, err
	}
	p.Targets = all
	if p.Hosts, p.Crowded, err = store.CensusHosts(ctx, run, TargetsPerHost); err != nil {
		return nil, err
	}
	left := all - done - p.Crowded
	p.Typical, p.Most = left*typicalRequests, min(left*(requestsPerTarget+4), p.Hosts*DefaultPerHost)
	p.Shortest = time.Duration(min(DefaultPerHost, TargetsPerHost*typicalRequests)) * DefaultInterval
	return p, nil
}

// WriteText prints the plan for a person.
func (p *Plan) WriteText(w io.Writer) {
	for _, a := range p.Sources {
		fmt.Fprintf(w, "%-32s %17s  %21s", plain(a.Source), kidoban.Count(a.Entries, "entry  ", "entries"), kidoban.Count(a.Targets, "new target ", "new targets"))
		if a.Blank > 0 {
			fmt.Fprintf(w, "  (%s, %d of them empty or comments)", kidoban.Count(a.Lines, "line", "lines"), a.Blank)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\nentries %d, targets %d, hosts %d", p.Entries, p.Targets, p.Hosts)
	if len(p.Rejected) > 0 {
		fmt.Fprint(w, "; no target, and why:")
	}
	fmt.Fprintln(w)
	for _, k := range slices.Sorted(maps.Keys(p.Rejected)) {
		fmt.Fprintf(w, "  %-22s %9d\n", k, p.Rejected[k])
	}
	if p.Crowded > 0 {
		fmt.Fprintf(w, "%s beyond the %d that fit into the budget of one host, and will be reported as skipped.\n", kidoban.Count(p.Crowded, "target is", "targets are"), TargetsPerHost)
	}
	if p.Targets == 0 {
		fmt.Fprintln(w, "\nThere is nothing to measure. Nobody was contacted.")
		return
	}
	fmt.Fprintf(w, "\nA run sends about %d requests, never more than %d, at most one a second and %d to each host.\nWith %d targets in flight it takes about %s.\nNobody was contacted.\n",
		p.Typical, p.Most, DefaultPerHost, defaultWorkers, max(p.Shortest, time.Duration(p.Typical/defaultWorkers)*DefaultInterval*3/2).Round(time.Second))
}
