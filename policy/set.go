package policy

import (
	"iter"
	"maps"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/kidoban/kidoban"
)

// Effect is what is decided.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Ask   Effect = "ask" // allowed once a person said yes
	Deny  Effect = "deny"
)

// Verdict is a decision with the ids of the policies that made it, in order:
// the permits of an Allow, the forbids of a Deny or Ask. A Deny without any
// means that nothing permits. Err is why nothing could be decided; the effect is
// Deny then.
type Verdict struct {
	Effect   Effect
	Policies []string
	Err      error
}

// Barrier tells whether a policy is one of those that bar the ways out of a
// session that has read something (Options.Flow).
func Barrier(id string) bool { return strings.HasPrefix(id, "default-flow-") }

// Set is a compiled set of policies. It decides the same for ever, and is safe for
// concurrent use.
type Set struct {
	all       entries
	whatever  entries         // without the forbids that depend on arguments or session
	arguments bool            // some policy reads context.arguments
	session   bool            // some policy reads context.session
	byArgs    bool            // some permit depends on arguments or session
	groups    map[string]bool // that some policy names
	anyGroup  bool            // some policy reads principal.groups, and what it looks for there nobody knows
	memo      memo
}

// Matters tells whether being in a group can change a decision. Who is in hundreds that
// no policy speaks of is decided as fast as others, and remembered.
func (s *Set) Matters(group string) bool { return s.anyGroup || s.groups[group] }

// entry is one policy with its name and what it reads.
type entry struct {
	id                 cedar.PolicyID
	policy             *cedar.Policy
	arguments, session bool
}

// entries implements cedar.PolicyIterator in a fixed order.
type entries []entry

// All implements cedar.PolicyIterator.
func (l entries) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i := range l {
			if !yield(l[i].id, l[i].policy) {
				return
			}
		}
	}
}

// Groups lists the groups that some policy names, in order.
func (s *Set) Groups() []string { return slices.Sorted(maps.Keys(s.groups)) }

// Decide answers a query. The caller changes nothing in the verdict.
func (s *Set) Decide(q *Query) Verdict {
	var room [256]byte
	key, keep := s.memo.key(room[:0], q)
	if keep {
		if v, ok := s.memo.get(key); ok {
			return v
		}
	}
	v := s.judge(q)
	if keep {
		s.memo.put(key, v)
	}
	return v
}

// judge asks Cedar.
func (s *Set) judge(q *Query) Verdict {
	var args types.Record
	if s.arguments {
		var err error
		if args, err = arguments(q.Arguments); err != nil {
			return Verdict{Effect: Deny, Policies: []string{"error:arguments"}, Err: err}
		}
	}
	around := q.entities()
	v := s.decide(s.all, q, around, args)
	if v.Effect != Deny || v.Err != nil || len(v.Policies) == 0 || q.Approved {
		return v
	}
	with := *q
	with.Approved = true
	if w := s.decide(s.all, &with, around, args); w.Effect == Deny {
		return w // no yes would help: these are the ones that say no
	}
	v.Effect = Ask
	return v
}

func (s *Set) decide(policies entries, q *Query, around *around, args types.Record) Verdict {
	decision, diag := cedar.Authorize(policies, around, cedar.Request{Principal: around.who.UID, Action: actionUID(q.Action), Resource: around.what.UID, Context: q.context(args)})
	if len(diag.Errors) > 0 {
		e := diag.Errors[0]
		return Verdict{Effect: Deny, Policies: []string{"error:" + string(e.PolicyID)},
			Err: kidoban.Errorf(kidoban.KindInternal, "policy %s cannot be evaluated: %s", e.PolicyID, e.Message)}
	}
	v := Verdict{Effect: Deny}
	if decision == cedar.Allow {
		v.Effect = Allow
	}
	for _, r := range diag.Reasons {
		v.Policies = append(v.Policies, string(r.PolicyID))
	}
	return v
}

// Listed tells whether to show what the query is about (its action is List): it
// may be listed, and no policy denies its use whatever the arguments are and
// whatever the session has read. use is the action that would follow.
func (s *Set) Listed(q *Query, use Action) bool {
	around := q.entities()
	if v := s.decide(s.whatever, q, around, types.Record{}); v.Effect != Allow && !s.someday(v) {
		return false
	}
	then := *q
	then.Action, then.Approved = use, true
	v := s.decide(s.whatever, &then, around, types.Record{})
	return v.Effect == Allow || s.someday(v)
}

// someday tells that nothing permits, but that a permit depends on what is not
// known yet.
func (s *Set) someday(v Verdict) bool { return s.byArgs && v.Err == nil && len(v.Policies) == 0 }

// Cedar prints all policies, each with its id.
func (s *Set) Cedar() string {
	var b strings.Builder
	for _, e := range s.all {
		if _, named := e.policy.Annotations()["id"]; !named {
			b.WriteString("@id(" + quoted(string(e.id)) + ")\n")
		}
		b.Write(e.policy.MarshalCedar())
		b.WriteString("\n\n")
	}
	return b.String()
}

func quoted(s string) string { return string(types.String(s).MarshalCedar()) }

func (s *Set) add(e entry) {
	s.all = append(s.all, e)
	s.arguments, s.session = s.arguments || e.arguments, s.session || e.session
	loose := e.arguments || e.session
	permit := e.policy.Effect() == cedar.Permit
	switch {
	case !loose:
		s.whatever = append(s.whatever, e)
	case permit:
		s.byArgs = true
	}
}

func (s *Set) has(id string) bool {
	return slices.ContainsFunc(s.all, func(e entry) bool { return string(e.id) == id })
}
