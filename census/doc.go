// Package census measures thousands of MCP servers that belong to strangers:
// what answers, who is let in, where authorization lives, and which flaws can be
// known by reading alone.
//
// The idea is one unit, repeated: look at a target, store one result, forget it.
// A look sends what the audit's discovery sends (T0 and T1) and nothing that
// leaves state behind: no registration, no tools/call. Targets, results, turns
// and what is known about authorization servers live in a [Store], so a run has
// no state of its own: it can be killed at any moment and the same command goes
// on, on one machine or on many. A result depends on the target alone, never on
// the order, the worker or the clock; times are kept apart. So two runs over the
// same servers give the same bytes.
//
// Nothing is dropped: every line of every source ends as a target, as a
// duplicate, or as rejected with a reason; every target ends in a class with a
// reason.
//
// Reading order: target.go and source.go (what to measure), polite.go (how
// often), look.go (one target), run.go (all of them), stats.go (what it means).
package census
