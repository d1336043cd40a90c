// Package policy is the one place where it is decided who may do what: allow,
// deny, or ask a person.
//
// The language is Cedar. What is not permitted is denied, and one forbid wins
// over any number of permits. Cedar knows no third answer, so asking is built
// from the two: a policy that wants a person's yes forbids "unless
// context.approved". What is denied now and would be allowed with
// context.approved set is Ask; the guard that asks says Approved when it comes
// back. An operator who reads the policies needs no rule beside Cedar's own.
//
// Three layers make one set: the defaults (a token is enough for what its
// scopes reach; what a server marks destructive asks; the barrier between what
// strangers write, what is private and the ways out), the simple rules of the
// configuration, and the operator's Cedar files. All of it is Cedar in the end
// and can be printed (Set.Cedar). Every policy has an id, and every verdict
// names those that decided.
//
// Whatever fails, denies: Cedar skips a policy that cannot be evaluated, which
// would let a call through a broken forbid; here an error is a denial (G-TG5).
// Check finds at load time what would fail later: attributes, entity types and
// actions that do not exist.
//
// Deciding is pure: no clock, no store, no I/O.
package policy
