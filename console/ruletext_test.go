package console

import (
	"testing"

	"github.com/kidoban/kidoban/toolscan"
)

// TestEveryRuleSpeaksEveryLanguage: what a rule says of a change stands in the three
// languages of the pages, and no text belongs to a rule that is gone.
func TestEveryRuleSpeaksEveryLanguage(t *testing.T) {
	known := map[string]bool{}
	for _, r := range toolscan.Rules() {
		known[r.ID] = true
		f := toolscan.Finding{Rule: r.ID, Reason: r.Reason}
		if r.Tier == toolscan.Label { // never a reason for a grade
			continue
		}
		seen := map[string]bool{}
		for _, lang := range []string{"en", "ja", "zh"} {
			s := ruleText(lang, f)
			if s == "" || seen[s] {
				t.Errorf("%s says %q in %s, as in another language", r.ID, s, lang)
			}
			seen[s] = true
		}
	}
	for id := range ruleTexts {
		if !known[id] {
			t.Errorf("there is no rule %s", id)
		}
	}
}

// TestWhyADefinitionIsHeldIsTranslated: the reasons of grades and the words of the
// gateway, in another language.
func TestWhyADefinitionIsHeldIsTranslated(t *testing.T) {
	for _, w := range []toolscan.Why{{ID: "renamed"}, {ID: "annotation", Path: "/a"}, {ID: "admits", Path: "/b"}, {ID: "finding", Finding: toolscan.Finding{Rule: "run-first"}}} {
		if ja := whyText("ja", w); ja == "" || ja == w.String() || ja == whyText("zh", w) {
			t.Errorf("%s: %q", w.ID, ja)
		}
	}
	for reason, want := range map[string]string{"changed": "有变更", "flagged: run-first, threat": "被标记：run-first, threat", "something else": "something else"} {
		if got := heldText("zh", reason); got != want {
			t.Errorf("%q is %q", reason, got)
		}
	}
}
