package lab

import (
	"slices"
	"testing"
)

// TestStudyHasTheStudysTotals: every figure that the study printed comes out of the
// population.
func TestStudyHasTheStudysTotals(t *testing.T) {
	count, union := map[string]int{}, map[string]int{}
	categories := map[string]string{"F1": "C1", "F2": "C1", "F3": "C2", "F4": "C2", "F5": "C3", "F6": "C3", "F7": "C4", "F8": "C4", "F9": "C4"}
	total, three, delegated, full := 0, 0, 0, 0
	situations := map[string]int{}
	for _, s := range Study() {
		if len(s.Flaws) == 0 {
			t.Errorf("%s has no flaw", s.Name)
		}
		hit := map[string]bool{}
		for _, f := range s.Flaws {
			count[f]++
			total++
			hit[categories[f]] = true
		}
		for c := range hit {
			union[c]++
		}
		if len(hit) >= 3 {
			three++
		}
		if s.Delegated {
			delegated++
		}
		if slices.Contains(s.Options.Flaws, "F7-1") {
			full++
		}
		if s.Situation != "" {
			situations[s.Situation]++
			if f := s.Situation[len(s.Situation)-2:]; slices.Contains(s.Flaws, f) {
				t.Errorf("%s has %s: no alarm about it could be false", s.Name, f)
			}
		}
		if s.Options.Upstream != s.Delegated {
			t.Errorf("%s: delegated %v, upstream %v", s.Name, s.Delegated, s.Options.Upstream)
		}
	}
	for f, want := range map[string]int{"F1": 114, "F2": 12, "F3": 12, "F4": 7, "F5": 81, "F6": 62, "F7": 28, "F8": 3, "F9": 6} {
		if count[f] != want {
			t.Errorf("%s: %d servers, want %d", f, count[f], want)
		}
	}
	for c, want := range map[string]int{"C1": 115, "C2": 18, "C3": 102, "C4": 34} {
		if union[c] != want {
			t.Errorf("%s: %d servers, want %d", c, union[c], want)
		}
	}
	for s, want := range map[string]int{"truncation-F2": 18, "truncation-F7": 25, "noise-F3": 7, "noise-F8": 4} {
		if situations[s] != want {
			t.Errorf("%s: %d servers, want %d", s, situations[s], want)
		}
	}
	if len(Study()) != 119 || total != 325 || three != 39 || delegated != 81 || full != 15 {
		t.Errorf("%d servers, %d instances, %d in three categories, %d delegated, %d with a foreign redirect", len(Study()), total, three, delegated, full)
	}
}
