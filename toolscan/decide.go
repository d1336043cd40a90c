package toolscan

import (
	"sort"
	"strings"
)

// Threshold is the score from which an item is flagged. It was chosen on the
// development corpus for about four false alarms in a thousand honest tools; a
// hard rule (weight 1 and more) is above it alone.
const Threshold = 0.6

// once keeps the strongest hit of a rule at one place.
func once(found []Finding) []Finding {
	type place struct{ rule, path, hidden string }
	at := map[place]int{}
	kept := found[:0]
	for _, f := range found {
		k := place{f.Rule, f.Path, f.Hidden}
		if i, dup := at[k]; dup {
			if f.weight > kept[i].weight {
				kept[i] = f
			}
			continue
		}
		at[k] = len(kept)
		kept = append(kept, f)
	}
	return kept
}

// decide adds up. Hits of one group count once, by the strongest.
func decide(found []Finding) Verdict {
	found = once(found)
	best := map[string]float64{}
	strict := false
	for i := range found {
		f := &found[i]
		if f.Tier == Label || f.weight == 0 {
			f.Tier = Label
			continue
		}
		g := groupOf(f)
		best[g] = max(best[g], f.weight)
		strict = strict || f.Tier == Hard && f.weight >= 1
		if f.weight < 1 {
			f.Tier = Soft
		}
	}
	total := 0.0
	groups := make([]string, 0, len(best))
	for g := range best {
		groups = append(groups, g)
	}
	sort.Strings(groups) // floating point sums must not depend on map order
	for _, g := range groups {
		total += best[g]
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].weight > found[j].weight })
	if len(found) > maxFindings {
		found = found[:maxFindings]
	}
	v := Verdict{Score: round3(total), Flagged: total >= Threshold, Strict: strict, Confidence: confidence(total), Findings: found}
	for i := range found {
		if found[i].Tier != Label {
			found[i].Confidence = confidence(found[i].weight)
		}
	}
	return v
}

func round3(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

var groupByRule = func() map[string]string {
	m := map[string]string{}
	for _, set := range ruleSets() {
		for _, r := range set {
			m[r.id] = r.group
		}
	}
	return m
}()

func groupOf(f *Finding) string {
	if g := groupByRule[f.Rule]; g != "" {
		return g
	}
	if strings.HasPrefix(f.Rule, "param-") {
		return "param"
	}
	return f.Rule
}
