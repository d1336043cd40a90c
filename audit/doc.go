// Package audit tests the authentication of a remote MCP server and says how an
// attacker gets in, or what could not be tested and why.
//
// The way of a run: discovery (what is there) → plan (which probes may run at
// which tier, with which budget) → probes, which only send requests and keep
// the exchanges → judges, which are pure functions from facts and exchanges to
// results → chains and grade, which are pure functions from results. Collection
// never judges; judging never does I/O. So a verdict can be tested on recorded
// bytes, and the same bytes give the same verdict.
//
// Two rules stand above all checks. A verdict is never louder than its proof: a
// redirect counts only when a Location shows it, a limit is not a refusal, a
// login page shown to everybody says nothing. And every check of the catalogue
// ends with exactly one result: what was not tested is named with its reason
// and with the command that would test it.
//
// Whoever adds a check writes the file of its flaw (f4.go), with a run function
// that collects and a judge that decides, and names it in the list of probe.go.
package audit
