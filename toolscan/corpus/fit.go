package corpus

import (
	"math"
	"math/rand/v2"
	"sort"
	"strings"

	"github.com/kidoban/kidoban/toolscan"
)

// Shares of honest material above each step of a model (see toolscan's weights).
var (
	definitionShares = [3]float64{0.012, 0.006, 0.003}
	sentenceShares   = [3]float64{0.04, 0.02, 0.006}
)

// Trained is the outcome of a training: the bytes to embed, and what leaving
// sources out says about them.
type Trained struct {
	Weights     []byte   `json:"-"`
	Definitions LeaveOut `json:"definitions"`
	Sentences   LeaveOut `json:"sentences"`
	Scanner     Whole    `json:"scanner"`
}

// Whole is the whole scanner measured by leaving sources out: rules as they are,
// weights that never saw the source.
type Whole struct {
	MacroRecall    float64          `json:"macro_recall"`
	FalseAlarmRate float64          `json:"false_alarm_rate"`
	Recall         map[string]*Rate `json:"recall"`
	FalseAlarms    map[string]*Rate `json:"false_alarms"`
}

// LeaveOut is a leave-one-source-out measurement: no example of a source is
// scored by weights that saw the source.
type LeaveOut struct {
	Examples int            `json:"examples"`
	Attacks  int            `json:"attacks"`
	Steps    []LeaveOutStep `json:"steps"`
}

// LeaveOutStep is one step: the share of honest material above it and the
// recall per left-out source.
type LeaveOutStep struct {
	Share  float64            `json:"false_alarm_share"`
	Recall map[string]float64 `json:"recall"`
	Macro  float64            `json:"macro_recall"`
}

// Train reads the corpora in dirs, measures both models by leaving sources out,
// trains them on everything and encodes them. Deterministic.
func Train(sc *toolscan.Scanner, dirs []string) (*Trained, error) {
	var tools, lines []sample
	var honest []Record
	for _, d := range dirs {
		s, err := definitionSamples(sc, d)
		if err != nil {
			return nil, err
		}
		tools = append(tools, s...)
		h, err := Read(d, "benign_tools.jsonl")
		if err != nil {
			return nil, err
		}
		honest = append(honest, h...)
		l, err := sentenceSamples(sc, d)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l...)
	}
	planted := synthetic(sc, honest, plantedExamples)
	var out Trained
	defs, err := out.Definitions.run(tools, planted, definitionShares)
	if err != nil {
		return nil, err
	}
	texts, err := out.Sentences.run(lines, nil, sentenceShares)
	if err != nil {
		return nil, err
	}
	if out.Weights, err = toolscan.Encode(defs, texts); err != nil {
		return nil, err
	}
	return &out, out.Scanner.measure(sc, dirs, tools, planted, defs, texts)
}

// measure scans every source with weights that were trained without it. The
// steps stay those of the full training.
func (wh *Whole) measure(sc *toolscan.Scanner, dirs []string, tools, planted []sample, defs, texts toolscan.Weights) error {
	wh.Recall, wh.FalseAlarms = map[string]*Rate{}, map[string]*Rate{}
	left := map[string]*toolscan.Scanner{}
	for i := range tools {
		g := tools[i].group
		if left[g] != nil {
			continue
		}
		var train []sample
		for j := range tools {
			if tools[j].group != g {
				train = append(train, tools[j])
			}
		}
		w := fit(append(train, planted...))
		w.Steps = defs.Steps
		b, err := toolscan.Encode(w, texts)
		if err != nil {
			return err
		}
		if left[g], err = sc.WithWeights(b); err != nil {
			return err
		}
	}
	all := Rate{}
	for _, dir := range dirs {
		for _, file := range []string{"malicious_tools.jsonl", "benign_tools.jsonl"} {
			recs, err := Read(dir, file)
			if err != nil {
				return err
			}
			ctx := Contexts(recs)
			for i := range recs {
				r := &recs[i]
				scanner := left[r.Source]
				if scanner == nil || r.Label == "malicious" && (r.Detectable != "yes" || r.Class == "overt_capability") {
					continue
				}
				hit := scanner.Item(ctx(r), toolscan.Item{Kind: toolscan.KindTool, Name: r.Name(), Raw: r.Tool}).Flagged
				switch {
				case r.Label == "malicious":
					rate(wh.Recall, r.Source).add(hit)
				case r.Source != nearMisses:
					rate(wh.FalseAlarms, r.Source).add(hit)
					all.add(hit)
				}
			}
		}
	}
	wh.MacroRecall, wh.FalseAlarmRate = mean(wh.Recall), all.Rate
	return nil
}

// run leaves every group out once, sets the steps, and fits all.
func (lo *LeaveOut) run(all, extra []sample, shares [3]float64) (toolscan.Weights, error) {
	groups := map[string]bool{}
	for i := range all {
		groups[all[i].group] = true
		if all[i].y {
			lo.Attacks++
		}
	}
	lo.Examples = len(all)
	folds := foldsOf(groups)
	best := map[string]float64{} // unit → highest score of its sentences
	bad := map[string]bool{}
	group := map[string]string{}
	for _, fold := range folds {
		var train []sample
		for i := range all {
			if !fold[all[i].group] {
				train = append(train, all[i])
			}
		}
		w := fit(append(train, extra...))
		for i := range all {
			s := &all[i]
			if !fold[s.group] {
				continue
			}
			z := logit(w, s.x)
			if old, ok := best[s.unit]; !ok || z > old {
				best[s.unit] = z
			}
			bad[s.unit] = bad[s.unit] || s.y
			group[s.unit] = s.class
		}
	}
	// Examples written to look like attacks train, but do not stand for the share
	// of honest material.
	var honest []float64
	for u, z := range best {
		if !bad[u] && group[u] != nearMisses {
			honest = append(honest, z)
		}
	}
	w := fit(append(append([]sample(nil), all...), extra...))
	for i, share := range shares {
		at := quantile(honest, share)
		w.Steps[i] = at
		hits := map[string]*Rate{}
		for u, z := range best {
			if bad[u] {
				rate(hits, group[u]).add(z >= at)
			}
		}
		step := LeaveOutStep{Share: share, Recall: map[string]float64{}, Macro: mean(hits)}
		for g, r := range hits {
			step.Recall[g] = r.Rate
		}
		lo.Steps = append(lo.Steps, step)
	}
	return w, nil
}

// foldsOf puts groups into at most thirty folds by their names' order, so that
// training time does not grow with the number of sources.
func foldsOf(groups map[string]bool) []map[string]bool {
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	sort.Strings(names)
	const most = 30
	folds := make([]map[string]bool, min(most, len(names)))
	for i, g := range names {
		k := i % len(folds)
		if folds[k] == nil {
			folds[k] = map[string]bool{}
		}
		folds[k][g] = true
	}
	return folds
}

// nearMisses is the source of honest tools written to be hard.
const nearMisses = "own-honest"

// Training parameters, chosen by leaving sources out.
const (
	epochs          = 8
	decay           = 0.005
	balance         = 0.3
	plantedExamples = 1500
)

// fit trains a logistic regression with AdaGrad and L2 decay. Attacks are
// weighted up so that both sides matter; the order of examples comes from a
// fixed seed, so the same samples give the same weights.
func fit(samples []sample) toolscan.Weights {
	w := make([]float64, toolscan.FeatureSpace)
	g := make([]float64, toolscan.FeatureSpace)
	bias, gb := -3.0, 1e-6
	pos := 0
	for i := range samples {
		if samples[i].y {
			pos++
		}
	}
	if pos == 0 {
		return toolscan.Weights{Bias: -99, W: w}
	}
	up := math.Max(1, balance*float64(len(samples)-pos)/float64(pos))
	order := make([]int, len(samples))
	for i := range order {
		order[i] = i
	}
	rng := rand.New(rand.NewPCG(7, 11))
	for e := 0; e < epochs; e++ {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			s := &samples[i]
			z := bias
			for _, h := range s.x {
				z += w[h]
			}
			d := 1 / (1 + math.Exp(-z))
			if s.y {
				d = (d - 1) * up
			}
			gb += d * d
			bias -= 0.1 * d / math.Sqrt(gb)
			for _, h := range s.x {
				grad := d + decay*w[h]
				g[h] += grad * grad
				w[h] -= 0.1 * grad / math.Sqrt(g[h]+1e-8)
			}
		}
	}
	return toolscan.Weights{Bias: bias, W: w}
}

func logit(w toolscan.Weights, x []uint32) float64 {
	z := w.Bias
	for _, h := range x {
		z += w.W[h]
	}
	return z
}

// quantile returns a value that share of v lies above.
func quantile(v []float64, share float64) float64 {
	if len(v) == 0 {
		return math.MaxFloat64
	}
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	i := len(s) - 1 - int(share*float64(len(s)))
	return math.Nextafter(s[max(0, min(i, len(s)-1))], math.Inf(1))
}

// sentenceSamples cuts the contents of dir into sentences. A sentence is an
// attack when it is part of the record's injection. Records are grouped so that
// neither a kind of attack nor a carrier text is on both sides.
func sentenceSamples(sc *toolscan.Scanner, dir string) ([]sample, error) {
	var out []sample
	for _, file := range []string{"malicious_contents.jsonl", "benign_contents.jsonl"} {
		recs, err := Read(dir, file)
		if err != nil {
			return nil, err
		}
		for i := range recs {
			r := &recs[i]
			if r.Label == "malicious" && r.Injection == "" {
				continue // which sentence is the attack is not said
			}
			want := ""
			for _, s := range sc.Sentences(r.Injection) {
				want += s.Text + "\n"
			}
			first, _, _ := strings.Cut(want, "\n")
			group, class := carrier(r), "honest"
			if r.Label == "malicious" {
				group, class = r.AttackType, r.AttackType
			}
			for _, s := range sc.Sentences(r.Content) {
				bad := r.Label == "malicious" && len(s.Text) > 5 && (s.Text == first || strings.Contains(want, s.Text+"\n") && strings.Contains(first, s.Text))
				if r.Label == "malicious" && !bad {
					continue // the carrier is among the honest texts
				}
				out = append(out, sample{group: group, class: class, unit: r.ID, x: s.Features, y: bad})
			}
		}
	}
	return out, nil
}

// carrier names the text a record is made of: its longest line.
func carrier(r *Record) string {
	long := ""
	for _, l := range strings.Split(r.Content, "\n") {
		if len(l) > len(long) {
			long = l
		}
	}
	return "carrier:" + long
}
