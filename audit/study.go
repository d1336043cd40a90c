package audit

import (
	"slices"

	"github.com/kidoban/kidoban"
)

// StudyFlaws returns which of the nine flaws of arXiv:2605.22333 a run shows, by
// the definitions of the study, so that its figures can be compared with ours. Our
// finer findings that it had no eye for (a code's lifetime, a consent page without a
// warning, plain in the metadata) are findings all the same, and count for nothing
// here.
//
// A nested state that nothing protects (F4-0) counts where no probe decided what
// changing it does.
func StudyFlaws(results []kidoban.Result) (out []string) {
	outcome := map[string]kidoban.Outcome{}
	for _, r := range results {
		outcome[r.Key()] = r.Outcome
	}
	bad := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return outcome[k] == kidoban.Fail || outcome[k] == kidoban.Weak })
	}
	decided := func(k string) bool { return outcome[k] == kidoban.Pass || bad(k) }
	for _, f := range []struct {
		id  string
		has bool
	}{
		{"F1", bad("F1-a", "F1-b", "F1-d")},
		{"F2", bad("F2-a", "F2-b", "F2-c", "F2-d")},
		{"F3", bad("F3-a", "F3-b")},
		{"F4", bad("F4-1", "F4-2", "F4-3", "F4-4") || bad("F4-0") && !decided("F4-1")},
		{"F5", bad("F5-a", "F5-b", "F5-c", "F5-d", "F5-f", "F5-g", "F5-h")},
		{"F6", bad("F6-A", "F6-B")},
		{"F7", bad("F7-1", "F7-2", "F7-3", "F7-4", "F7-5", "F7-6", "F7-7", "F7-8", "F7-9", "F7-10", "F7-11", "F7-12", "F7-13", "F7-14", "F7-17")},
		{"F8", bad("F8-a", "F8-b", "F8-e")},
		{"F9", bad("F9-2", "F9-4")},
	} {
		if f.has {
			out = append(out, f.id)
		}
	}
	return out
}
