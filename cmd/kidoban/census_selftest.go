package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/store"
)

type censusSelftestCmd struct {
	N       int           `short:"n" name:"n" help:"Servers." default:"8000"`
	Seed    uint64        `help:"Seed of the population." default:"7"`
	Workers int           `help:"Targets in flight." default:"96"`
	Timeout time.Duration `help:"Bound of one exchange." default:"3s"`
	TLS     bool          `name:"tls" help:"Over https, with certificate keys in the truth."`
	Keep    string        `help:"Directory to keep the database and the truth in." placeholder:"DIR"`
	JSON    bool          `name:"json" help:"Print one JSON document."`
}

// selftestLine is the JSON of a self-test.
type selftestLine struct {
	N                 int                      `json:"n"`
	Seed              uint64                   `json:"seed"`
	Targets           int                      `json:"targets"`
	Mismatches        int                      `json:"mismatches"`
	First             []census.Mismatch        `json:"first_mismatches"`
	Scores            map[string]*census.Score `json:"scores"`    // by class and by passive flaw
	Precision         float64                  `json:"precision"` // the worst of all classes and flaws
	Recall            float64                  `json:"recall"`
	Seconds           float64                  `json:"seconds"`
	ServersPerSecond  float64                  `json:"servers_per_second"`
	RequestsPerServer float64                  `json:"requests_per_server"`
	SecondsTo99       float64                  `json:"seconds_to_99_percent"` // the rest are those that never end their answers
	CPUMillis         float64                  `json:"cpu_ms_per_server"`     // user and system, simulator included
	RSSMB             float64                  `json:"rss_mb"`                // highest, simulator included
	RSSOverTime       []float64                `json:"rss_mb_at_each_tenth"`  // resident memory when a tenth, two tenths … were done
	CPUs              int                      `json:"cpus"`
	Classes           map[string]int           `json:"classes"`
	Study             map[string][2]float64    `json:"study"` // share here and in the study, percent
}

// Run measures a population and compares.
func (c censusSelftestCmd) Run(e *env) error {
	dir := c.Keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "kidoban-census-"); err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "no temporary directory")
		}
		defer os.RemoveAll(dir)
	}
	p, err := lab.StartPopulation(e.ctx, lab.PopulationOptions{N: c.N, Seed: c.Seed, TLS: c.TLS})
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the population does not start")
	}
	defer p.Close()
	var optOut strings.Builder
	if err := p.WriteOptOut(&optOut); err != nil {
		return err
	}
	out, err := census.ReadOptOut(strings.NewReader(optOut.String()))
	if err != nil {
		return err
	}
	db, err := store.Open(e.ctx, store.Options{URL: filepath.Join(dir, "census.db")})
	if err != nil {
		return err
	}
	defer db.Close()
	list := filepath.Join(dir, "targets.txt")
	if err := wholeFile(list, 0o666, p.WriteTargets); err != nil {
		return err
	}
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	_, err = census.Import(e.ctx, db, "census", true, "population", f, nil)
	f.Close()
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if ca, err := p.CA(); err != nil || !roots.AppendCertsFromPEM(ca) {
		return kidoban.Wrap(kidoban.KindInternal, err, "the population's authority cannot be trusted")
	}
	var last census.Progress
	line := selftestLine{N: c.N, Seed: c.Seed, CPUs: runtime.GOMAXPROCS(0), Precision: 1, Recall: 1}
	began, cpu := time.Now(), processorTime()
	err = census.Run(e.ctx, db, census.Options{Lab: true, Workers: c.Workers, Timeout: c.Timeout, OptOut: out, RootCAs: roots, Progress: func(q census.Progress) {
		last = q
		line.watch(q, time.Since(began).Seconds())
	}})
	if err != nil {
		return err
	}
	line.Seconds, line.Classes, line.RSSMB = time.Since(began).Seconds(), last.Classes, peakRSS()
	line.CPUMillis = float64((processorTime() - cpu).Microseconds()) / 1000 / float64(max(1, last.Done))
	line.ServersPerSecond, line.RequestsPerServer = float64(last.Done)/line.Seconds, float64(last.Requests)/float64(max(1, last.Done))
	if err := c.compare(e, &line, db, p, dir); err != nil {
		return err
	}
	return c.print(e, line)
}

// watch notes the memory at each tenth, and when nearly all were done.
func (l *selftestLine) watch(p census.Progress, seconds float64) {
	for 10*p.Done >= (len(l.RSSOverTime)+1)*p.All && len(l.RSSOverTime) < 10 {
		l.RSSOverTime = append(l.RSSOverTime, math.Round(statusMB("VmRSS:")))
	}
	if l.SecondsTo99 == 0 && 100*p.Done >= 99*p.All {
		l.SecondsTo99 = seconds
	}
}

func (c censusSelftestCmd) compare(e *env, line *selftestLine, db *store.DB, p *lab.Population, dir string) error {
	path := filepath.Join(dir, "truth.jsonl")
	if err := wholeFile(path, 0o666, p.WriteTruth); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	cmp, err := census.CompareTruth(e.ctx, db, "census", f, lab.PopulationChecks())
	if err != nil {
		return err
	}
	line.Targets, line.Mismatches, line.First = cmp.Targets, cmp.Mismatches, cmp.First
	line.Scores = cmp.Scores
	for _, s := range cmp.Scores {
		line.Precision, line.Recall = min(line.Precision, s.Precision()), min(line.Recall, s.Recall())
	}
	n := float64(line.Classes["noauth_list"] + line.Classes["oauth"] + line.Classes["static"])
	share := func(class string) float64 { return 100 * float64(line.Classes[class]) / max(1, n) }
	line.Study = map[string][2]float64{"none": {share("noauth_list"), 40.55}, "oauth": {share("oauth"), 30.45}, "static": {share("static"), 29.00}}
	return nil
}

func (c censusSelftestCmd) print(e *env, line selftestLine) (err error) {
	if c.JSON {
		err = json.NewEncoder(e.stdout).Encode(line)
	} else {
		_, err = fmt.Fprintf(e.stdout, "%d servers in %.1f s (99 %% of them in %.1f s): %.0f a second, %.1f requests and %.2f ms of processor time each, at most %.0f MB (at each tenth %.0f); %d differ from the truth\n",
			line.Targets, line.Seconds, line.SecondsTo99, line.ServersPerSecond, line.RequestsPerServer, line.CPUMillis, line.RSSMB, line.RSSOverTime, line.Mismatches)
		for _, m := range line.First {
			fmt.Fprintf(e.stdout, "  %s (%s): %s is %q, found %q\n", m.URL, m.Kind, m.Of, m.Want, m.Got)
		}
	}
	if err == nil && line.Mismatches > 0 {
		return exitError(exitFindings)
	}
	return err
}

// peakRSS is the highest resident memory of this process in MB, 0 where the
// system does not tell.
func peakRSS() float64 { return statusMB("VmHWM:") }

func statusMB(field string) float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// processorTime is what this process has used so far, user and system; 0 where
// the system does not tell. Linux counts in hundredths of a second (proc(5)).
func processorTime() time.Duration {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])) // the name before may hold blanks
	if len(f) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
