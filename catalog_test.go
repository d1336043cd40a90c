package kidoban

import (
	"regexp"
	"testing"
)

func TestCatalogueIsConsistent(t *testing.T) {
	flaws := map[string]bool{}
	for _, f := range Flaws() {
		if flaws[f.ID] {
			t.Errorf("flaw %s twice", f.ID)
		}
		flaws[f.ID] = true
	}
	slugRE := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	keys, slugs := map[string]bool{}, map[string]bool{}
	for _, c := range Checks() {
		if !flaws[c.ID] {
			t.Errorf("%s: no flaw %s", c.Key(), c.ID)
		}
		if keys[c.Key()] {
			t.Errorf("key %s twice", c.Key())
		}
		if slugs[c.Slug] {
			t.Errorf("slug %s twice", c.Slug)
		}
		if !slugRE.MatchString(c.Slug) {
			t.Errorf("%s: slug %q", c.Key(), c.Slug)
		}
		if c.Severity.Rank() < 0 || c.Max.Rank() == 0 || (c.Outcome != Fail && c.Outcome != Weak) {
			t.Errorf("%s: severity, evidence or outcome unset", c.Key())
		}
		keys[c.Key()], slugs[c.Slug] = true, true
		for _, k := range []string{c.Key(), c.Slug} {
			if got, ok := CheckByKey(k); !ok || got != c {
				t.Errorf("CheckByKey(%q) = %v, %v", k, got, ok)
			}
		}
	}
}
