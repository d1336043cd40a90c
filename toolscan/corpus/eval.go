package corpus

import (
	"sort"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
)

// Classes whose attack a definition shows: the ones macro recall is over.
var Classes = []string{"poisoning", "shadowing", "preference_manipulation", "suspicious_parameter"}

// Rate is hits of a number of trials.
type Rate struct {
	Hits  int     `json:"hits"`
	Total int     `json:"total"`
	Rate  float64 `json:"rate"`
}

func (r *Rate) add(hit bool) {
	r.Total++
	if hit {
		r.Hits++
	}
	r.Rate = float64(r.Hits) / float64(r.Total)
}

// Case is one example of the worst list.
type Case struct {
	ID     string   `json:"id"`
	Source string   `json:"source"`
	Class  string   `json:"class,omitempty"`
	Score  float64  `json:"score"`
	Rules  []string `json:"rules"`
	Text   string   `json:"text"`
}

// Report is the JSON contract of `kidoban tools eval`.
type Report struct {
	MacroRecall       float64                     `json:"macro_recall"` // mean over sources, four classes, definition_detectable = yes
	MicroRecall       float64                     `json:"micro_recall"`
	FalseAlarmRate    float64                     `json:"false_alarm_rate"`
	StrictRecall      float64                     `json:"strict_macro_recall"`
	StrictFalseAlarms float64                     `json:"strict_false_alarm_rate"`
	Classes           map[string]*Rate            `json:"classes"`
	Sources           map[string]*Rate            `json:"sources"`
	ClassBySource     map[string]map[string]*Rate `json:"class_by_source"`
	Apart             map[string]*Rate            `json:"apart"` // not in macro recall: overt capabilities, collisions, clean definitions
	BenignSources     map[string]*Rate            `json:"benign_sources"`
	BenignStrict      Rate                        `json:"benign_strict"`
	Benign            Rate                        `json:"benign"`
	Contents          Contents                    `json:"contents"`
	Drift             Drift                       `json:"drift"`
	DirectInjection   Rate                        `json:"direct_injection"` // user prompts: not an MCP channel, for reference
	Curve             []Point                     `json:"curve"`            // what other thresholds would give
	RuleHits          map[string][2]int           `json:"rule_hits"`        // rule → attacks, benign tools
	MicrosPerTool     float64                     `json:"micros_per_tool"`
	WorstMissed       []Case                      `json:"worst_missed"`
	WorstFalseAlarms  []Case                      `json:"worst_false_alarms"`
	WorstContents     []Case                      `json:"worst_contents_missed"`
	WorstContentFalse []Case                      `json:"worst_contents_false_alarms"`
}

// Contents are the numbers of returned texts.
type Contents struct {
	Recall         float64          `json:"recall"`
	Explicit       Rate             `json:"explicit"` // every source but BIPIA
	BIPIA          Rate             `json:"bipia"`
	FalseAlarmRate float64          `json:"false_alarm_rate"`
	FalseAlarms    map[string]*Rate `json:"false_alarms"`
	Sources        map[string]*Rate `json:"sources"`
	Kinds          map[string]*Rate `json:"kinds"`
}

// Drift are the numbers of changed definitions.
type Drift struct {
	MaliciousHeld  Rate           `json:"malicious_held"`  // any change is held
	MaliciousAlarm Rate           `json:"malicious_alarm"` // and graded an alarm
	BenignCalm     Rate           `json:"benign_calm"`
	Grades         map[string]int `json:"grades"`
	NotCalm        []Case         `json:"not_calm"`
}

// Point is one threshold of the score and what it would give.
type Point struct {
	Score          float64 `json:"score"`
	MacroRecall    float64 `json:"macro_recall"`
	FalseAlarmRate float64 `json:"false_alarm_rate"`
}

// curveAt are the thresholds of the curve.
var curveAt = []float64{0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2}

// worst is how many cases each list keeps.
const worst = 20

// Evaluate measures sc on the corpus in dir.
func Evaluate(sc *toolscan.Scanner, dir string) (*Report, error) {
	rep := &Report{Classes: map[string]*Rate{}, Sources: map[string]*Rate{}, ClassBySource: map[string]map[string]*Rate{},
		Apart: map[string]*Rate{}, BenignSources: map[string]*Rate{}, RuleHits: map[string][2]int{}}
	bad, err := Read(dir, "malicious_tools.jsonl")
	if err != nil {
		return nil, err
	}
	good, err := Read(dir, "benign_tools.jsonl")
	if err != nil {
		return nil, err
	}
	if len(bad) == 0 && len(good) == 0 {
		return nil, kidoban.Errorf(kidoban.KindInput, "no corpus here: the directory holds neither malicious_tools.jsonl nor benign_tools.jsonl")
	}
	rep.attacks(sc, bad)
	rep.honest(sc, good)
	if err := rep.contents(sc, dir); err != nil {
		return nil, err
	}
	if err := rep.drift(sc, dir); err != nil {
		return nil, err
	}
	prompts, err := Read(dir, "user_prompts_direct_injection.jsonl")
	if err != nil {
		return nil, err
	}
	for i := range prompts {
		rep.DirectInjection.add(sc.Content(prompts[i].Content).Flagged)
	}
	return rep, nil
}

// Contexts gives every tool the names of its server's other tools: what a
// client that listed the server knows. Records of one source and server are one
// server.
func Contexts(recs []Record) func(*Record) *toolscan.Context {
	servers := map[string]*toolscan.Server{}
	key := func(r *Record) string { return r.Source + "\x00" + r.Server }
	for i := range recs {
		r := &recs[i]
		s := servers[key(r)]
		if s == nil {
			s = &toolscan.Server{Name: r.Server}
			servers[key(r)] = s
		}
		if r.Server != "" {
			s.Items = append(s.Items, toolscan.Item{Kind: toolscan.KindTool, Name: r.Name()})
		}
	}
	made := map[string]*toolscan.Context{}
	return func(r *Record) *toolscan.Context {
		k := key(r)
		if made[k] == nil {
			made[k] = toolscan.NewContext(*servers[k], nil)
		}
		return made[k]
	}
}

func (rep *Report) attacks(sc *toolscan.Scanner, recs []Record) {
	ctx := Contexts(recs)
	counted := map[string]bool{}
	for _, c := range Classes {
		counted[c] = true
		rep.Classes[c] = &Rate{}
	}
	strict := map[string]*Rate{}
	all := Rate{}
	scores := map[string][]float64{}
	for i := range recs {
		r := &recs[i]
		v := sc.Item(ctx(r), toolscan.Item{Kind: toolscan.KindTool, Name: r.Name(), Raw: r.Tool})
		if !counted[r.Class] || r.Detectable != "yes" {
			rate(rep.Apart, r.Class+"/"+r.Detectable).add(v.Flagged)
			continue
		}
		rate(rep.Classes, r.Class).add(v.Flagged)
		rate(rep.Sources, r.Source).add(v.Flagged)
		if rep.ClassBySource[r.Class] == nil {
			rep.ClassBySource[r.Class] = map[string]*Rate{}
		}
		rate(rep.ClassBySource[r.Class], r.Source).add(v.Flagged)
		rate(strict, r.Source).add(v.Strict)
		all.add(v.Flagged)
		scores[r.Source] = append(scores[r.Source], v.Score)
		rep.hits(v, 0)
		if !v.Flagged {
			rep.WorstMissed = append(rep.WorstMissed, caseOf(r, v, string(r.Tool)))
		}
	}
	rep.MacroRecall, rep.StrictRecall, rep.MicroRecall = mean(rep.Sources), mean(strict), all.Rate
	for _, t := range curveAt {
		per := map[string]*Rate{}
		for src, list := range scores {
			for _, x := range list {
				rate(per, src).add(x >= t)
			}
		}
		rep.Curve = append(rep.Curve, Point{Score: t, MacroRecall: mean(per)})
	}
	rep.WorstMissed = keep(rep.WorstMissed, func(a, b Case) bool { return a.Score < b.Score })
}

func (rep *Report) honest(sc *toolscan.Scanner, recs []Record) {
	ctx := Contexts(recs)
	spent := time.Duration(0)
	for i := range recs {
		r := &recs[i]
		c, it := ctx(r), toolscan.Item{Kind: toolscan.KindTool, Name: r.Name(), Raw: r.Tool}
		began := time.Now()
		v := sc.Item(c, it)
		spent += time.Since(began)
		rate(rep.BenignSources, r.Source).add(v.Flagged)
		rep.Benign.add(v.Flagged)
		rep.BenignStrict.add(v.Strict)
		for p := range rep.Curve {
			if v.Score >= rep.Curve[p].Score {
				rep.Curve[p].FalseAlarmRate += 1 / float64(len(recs))
			}
		}
		rep.hits(v, 1)
		if v.Flagged {
			rep.WorstFalseAlarms = append(rep.WorstFalseAlarms, caseOf(r, v, string(r.Tool)))
		}
	}
	rep.FalseAlarmRate, rep.StrictFalseAlarms = rep.Benign.Rate, rep.BenignStrict.Rate
	if len(recs) > 0 {
		rep.MicrosPerTool = float64(spent.Microseconds()) / float64(len(recs))
	}
	rep.WorstFalseAlarms = keep(rep.WorstFalseAlarms, func(a, b Case) bool { return a.Score > b.Score })
}

func (rep *Report) contents(sc *toolscan.Scanner, dir string) error {
	c := &rep.Contents
	c.FalseAlarms, c.Sources, c.Kinds = map[string]*Rate{}, map[string]*Rate{}, map[string]*Rate{}
	bad, err := Read(dir, "malicious_contents.jsonl")
	if err != nil {
		return err
	}
	all := Rate{}
	for i := range bad {
		r := &bad[i]
		v := sc.Content(r.Content)
		rate(c.Sources, r.Source).add(v.Flagged)
		rate(c.Kinds, r.Kind).add(v.Flagged)
		all.add(v.Flagged)
		if r.Source == "bipia" {
			c.BIPIA.add(v.Flagged)
		} else {
			c.Explicit.add(v.Flagged)
		}
		if !v.Flagged {
			text := r.Injection
			if text == "" {
				text = r.Content
			}
			rep.WorstContents = append(rep.WorstContents, caseOf(r, v, text))
		}
	}
	good, err := Read(dir, "benign_contents.jsonl")
	if err != nil {
		return err
	}
	false2 := Rate{}
	for i := range good {
		r := &good[i]
		v := sc.Content(r.Content)
		rate(c.FalseAlarms, r.Source).add(v.Flagged)
		false2.add(v.Flagged)
		if v.Flagged {
			text := r.Content
			if len(v.Findings) > 0 {
				text = v.Findings[0].Excerpt
			}
			rep.WorstContentFalse = append(rep.WorstContentFalse, caseOf(r, v, text))
		}
	}
	c.Recall, c.FalseAlarmRate = all.Rate, false2.Rate
	rep.WorstContents = keep(rep.WorstContents, func(a, b Case) bool { return a.Score < b.Score })
	rep.WorstContentFalse = keep(rep.WorstContentFalse, func(a, b Case) bool { return a.Score > b.Score })
	return nil
}

func (rep *Report) hits(v toolscan.Verdict, column int) {
	seen := map[string]bool{}
	for _, f := range v.Findings {
		if f.Tier == toolscan.Label || seen[f.Rule] {
			continue
		}
		seen[f.Rule] = true
		n := rep.RuleHits[f.Rule]
		n[column]++
		rep.RuleHits[f.Rule] = n
	}
}

func rate(m map[string]*Rate, k string) *Rate {
	if m[k] == nil {
		m[k] = &Rate{}
	}
	return m[k]
}

func mean(m map[string]*Rate) float64 {
	if len(m) == 0 {
		return 0
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	t := 0.0
	for _, k := range keys {
		t += m[k].Rate
	}
	return t / float64(len(m))
}

func caseOf(r *Record, v toolscan.Verdict, text string) Case {
	c := Case{ID: r.ID, Source: r.Source, Class: r.Class, Score: v.Score, Text: toolscan.Visible(text, 400)}
	for _, f := range v.Findings {
		if f.Tier != toolscan.Label {
			c.Rules = append(c.Rules, f.Rule)
		}
	}
	return c
}

// keep sorts cases and cuts the list, one case per text: twenty copies of one
// mistake show one mistake.
func keep(cases []Case, less func(a, b Case) bool) []Case {
	sort.SliceStable(cases, func(i, j int) bool { return less(cases[i], cases[j]) })
	seen := map[string]bool{}
	var out []Case
	for _, c := range cases {
		if seen[c.Text] {
			continue
		}
		seen[c.Text] = true
		if out = append(out, c); len(out) == worst {
			break
		}
	}
	return out
}
