package toolscan

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAutomatonFindsWhatSearchingFinds: the automaton finds exactly the words that
// a plain search for each finds.
func TestAutomatonFindsWhatSearchingFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfNDistinct(rapid.StringMatching("[abü\x00]{1,5}"), 0, 12, rapid.ID[string]).Draw(t, "words")
		text := rapid.StringMatching("[abcü\x00]{0,60}").Draw(t, "text")
		a := newAutomaton(words)
		got := map[int]bool{}
		a.each([]byte(text), func(set int32) {
			for _, w := range a.sets[set] {
				got[w] = true
			}
		})
		for i, w := range words {
			if got[i] != strings.Contains(text, w) {
				t.Fatalf("%q in %q: %v", w, text, got[i])
			}
		}
		if a.contains(text) != slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) }) {
			t.Fatal("contains says something else")
		}
	})
}
