package audit

import (
	"slices"

	"github.com/kidoban/kidoban"
)

// What a login shows is put together from many answers: a code, its tokens, a
// control, a mutation, a look at what became of the tokens. Where a limit, an
// outage, a crash, a challenge or silence stands in for one of them, most of what
// the judges read from the rest still looks like a refusal. So the judges of the
// login tiers are not asked to look at each answer on their own: what they say
// counts only as far as the answers that it rests on came.

// miss notes an exchange that shows nothing of what the server thinks. Ending a
// session is a courtesy, and no verdict rests on its answer.
func (s *session) miss(x *kidoban.Exchange) {
	if !hidden(x) || x.Request.Method == "DELETE" {
		return
	}
	s.mu.Lock()
	s.blanks = append(s.blanks, x)
	s.mu.Unlock()
}

// made takes an exchange back from the missing ones: the same was asked again.
func (s *session) made(x *kidoban.Exchange) {
	s.mu.Lock()
	s.blanks = slices.DeleteFunc(s.blanks, func(b *kidoban.Exchange) bool { return b == x })
	s.mu.Unlock()
}

// weigh takes back what a result of a login tier claims where an answer that it
// rests on did not come. A finding shows itself: it stays, unless it is one that
// follows from a refusal.
func weigh(r kidoban.Result, blanks []*kidoban.Exchange) kidoban.Result {
	key := r.Key()
	switch r.Outcome {
	case kidoban.Pass, kidoban.NotApplicable:
	case kidoban.NotTested:
		if r.Reason != kidoban.ReasonBudget && r.Reason != kidoban.ReasonTime {
			return r
		}
	case kidoban.Fail, kidoban.Weak:
		if !slices.Contains(fromRefusals(), key) {
			return r
		}
	default:
		return r
	}
	for _, x := range blanks {
		if !concerns(x.Probe, key) {
			continue
		}
		if u, bad := undecided(key, "a request that this rests on", x); bad {
			return u
		}
	}
	return r
}

// fromRefusals are the findings that follow from a refusal, or that are told from a
// worse one by a refusal.
func fromRefusals() []string {
	return []string{"E01-b", "E04-i", "E05-b", "E22-2", "E22-6", "E25-b", "E25-c", "E31-d", "F6-G", "F9-3", "F9-4", "F9-5", "F9-6"}
}

// concerns tells whether the answer to a request that was sent under tag bears on
// check key: its own, one of those it leans on, and what was sent for no check alone.
func concerns(tag, key string) bool {
	_, own := catalogue()[tag]
	return tag == key || !own || slices.Contains(leansOn()[key], tag)
}

// leansOn names the checks whose requests another one reads too.
func leansOn() map[string][]string {
	return map[string][]string{
		"E01-b": {"E02-b"}, "F6-G": {"E02-b"}, "F4-3": {"E02-b"},
		"E04-i": {"E22-6", "E25-b"}, "E22-6": {"E04-i", "E25-b"}, "E25-b": {"E04-i", "E22-6"},
		"E07-3": {"E31-d"}, "E37-a": {"E31-d"},
		"E22-1": {"E22-7"}, "E22-2": {"E22-1", "E22-7"},
		"F5-i": {"F5-g"}, "F9-3": {"F9-2"}, "F9-4": {"F9-2"}, "F9-5": {"F5-g", "F9-2"}, "F9-6": {"F5-g", "F9-3"},
		"E21-c": {"F7-18"},
	}
}
