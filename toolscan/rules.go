package toolscan

import (
	"regexp"

	"github.com/kidoban/kidoban"
)

// rule is one reason why a sentence is an attack.
//
// weight is the score the hit adds: from 1 on it is hard, enough alone and
// counted by --strict-only; a soft hit below Threshold needs company. group is what counts as
// independent: hits of one group count once, by their strongest.
type rule struct {
	id       string
	family   Family
	group    string
	weight   float64
	severity kidoban.Severity
	re       string // {concept} stands for the concept's alternatives
	unless   string // counter-evidence in the same sentence; "" for none
	where    places
	why, fix string

	// pre is a cheap condition on the sentence beyond the gate; nil is none.
	pre func(l []byte) bool

	// check looks at the match and the item; false drops the hit.
	check func(c *itemContext, l []byte, m []int) bool
}

// places limits a rule to roles of text.
type places uint8

const (
	anywhere    places = 0
	definitions places = 1 // not in returned contents
	contents    places = 2 // only in returned contents
	values      places = 4 // only in enum, default and example values
	parameters  places = 8 // only in descriptions of parameters
)

type compiled struct {
	rule
	gate   []conj
	re     func() *regexp.Regexp
	unless func() *regexp.Regexp // nil: nothing
}

func (r *rule) tier() Tier {
	if r.weight >= 1 {
		return Hard
	}
	return Soft
}

// Fixes, said once.
const (
	fixRemoveInstruction = "Remove the sentence: a definition describes its own tool and gives the model no orders."
	fixDoNotConnect      = "Do not connect this server; ask its publisher why the text is there."
	fixHold              = "Keep the item out of the model's context until a person has read it."
	fixParameter         = "Remove the parameter, or say in its description what the tool does with the value."
	fixNeutral           = "Describe what the tool does; leave the choice between tools to the user and the model."
)

// ruleSets lists the sentence rules.
func ruleSets() [][]rule {
	return [][]rule{instructionRules, politeRules, secrecyRules, secretRules, shadowRules, sinkRules, preferenceRules, contentRules, foreignRules}
}

func compileRules(l *lexer) []compiled {
	var out []compiled
	for _, set := range ruleSets() {
		for _, r := range set {
			c := compiled{rule: r}
			c.re, c.gate = l.compile(r.re)
			if c.group == "" {
				c.group = string(r.family)
			}
			if r.unless != "" {
				c.unless = lazily(l.expand.Replace(r.unless))
			}
			out = append(out, c)
		}
	}
	l.build()
	return out
}

// open says whether the anchors let the rule match.
func (r *compiled) open(s *anchorSet) bool {
	for i := range r.gate {
		if s.has(r.gate[i]) {
			return true
		}
	}
	return false
}

// Rules lists every rule by id with its family, tier and reason: sentence
// rules, and those that look at characters, parameters, schemas and servers.
func Rules() []RuleInfo {
	var out []RuleInfo
	for _, set := range ruleSets() {
		for _, r := range set {
			out = append(out, RuleInfo{r.id, r.family, r.tier(), r.severity, r.why, r.fix})
		}
	}
	return append(out, structuralRules...)
}

// RuleInfo describes a rule for reports and documentation.
type RuleInfo struct {
	ID       string           `json:"id"`
	Family   Family           `json:"family"`
	Tier     Tier             `json:"tier"`
	Severity kidoban.Severity `json:"severity"`
	Reason   string           `json:"reason"`
	Fix      string           `json:"fix"`
}
