package kidoban

import "testing"

func TestGRG8_EveryKindOfAlertIsExplainedOnceWorstFirst(t *testing.T) {
	seen := map[AlertKind]bool{}
	last := Critical
	for _, m := range AlertKinds() {
		if seen[m.Kind] || m.Text == "" || m.Severity.Rank() < 1 || m.Severity.Rank() > last.Rank() {
			t.Errorf("%+v", m)
		}
		seen[m.Kind], last = true, m.Severity
		if m.Kind.Severity() != m.Severity {
			t.Error(m.Kind)
		}
	}
	if AlertKind("something else").Severity() != Medium {
		t.Error("an unknown kind has no severity")
	}
}
