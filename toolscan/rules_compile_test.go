package toolscan

import "testing"

// TestEveryRuleCompiles: rules are compiled when they are needed; a wrong one must
// show here and not in a gateway.
func TestEveryRuleCompiles(t *testing.T) {
	for _, r := range compileRuleset().rules {
		if r.re().NumSubexp() < 0 {
			t.Error(r.id)
		}
		if r.unless != nil {
			r.unless()
		}
	}
}
