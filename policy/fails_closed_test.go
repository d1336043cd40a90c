package policy

import (
	"strings"
	"testing"
)

// TestGTG5_ArgumentsThatCannotBeReadAreDenied: a rule that asks only whether an argument
// is there is not got round by arguments that are too deep or too many to be judged.
func TestGTG5_ArgumentsThatCannotBeReadAreDenied(t *testing.T) {
	s := compile(t, cedarFile(`@id("no-path") forbid (principal, action == Action::"call", resource) when { context.arguments has path };`))
	want(t, s, query(func(q *Query) { q.Arguments = []byte(`{"path":"/etc/passwd"}`) }), Deny, "no-path")
	want(t, s, query(func(q *Query) { q.Arguments = []byte(`{"x":1}`) }), Allow, "default-permit")
	for _, a := range []string{`{"path":"/etc/passwd","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, `{"path":"/etc/passwd","x":[` + strings.Repeat("1,", 10_000) + `1]}`, `{"path":`, `[]`} {
		want(t, s, query(func(q *Query) { q.Arguments = []byte(a) }), Deny, "error:arguments")
	}
}

// TestGTG5_WhatMayNotBeUsedIsNotListed: what a policy denies to be called is hidden though
// nothing is said of lists, and so is what a policy denies while a permit waits for
// arguments.
func TestGTG5_WhatMayNotBeUsedIsNotListed(t *testing.T) {
	listed := func(s *Set, name string) bool {
		return s.Listed(query(func(q *Query) { q.Object.Name, q.Action = name, List }), Call)
	}
	s := compile(t, cedarFile(`forbid (principal, action == Action::"call", resource == Tool::"github/delete_repo");`))
	if listed(s, "delete_repo") || !listed(s, "get_issue") {
		t.Error("a tool that may not be called is listed, or one that may is not")
	}
	o := cedarFile(`permit (principal, action, resource in Server::"github") when { context.arguments has owner };
forbid (principal, action == Action::"call", resource == Tool::"github/delete_repo");`)
	o.Default = Deny
	s, _ = Compile(o) // list has no arguments, and is warned of
	if s == nil {
		t.Fatal("it does not compile")
	}
	if listed(s, "delete_repo") || !listed(s, "get_issue") {
		t.Error("where a permit waits for arguments, a tool that may not be called is listed, or one that may is not")
	}
}

// TestGTG5_RulesNameUsersByID: a rule holds for a user by the id that tokens have, which
// stays when the name of the login changes.
func TestGTG5_RulesNameUsersByID(t *testing.T) {
	s := compile(t, Options{Rules: []Rule{{Deny: []string{"github/*"}, Users: []string{"u_1"}}}})
	want(t, s, query(nil), Deny, "rule-1")
	want(t, s, query(func(q *Query) { q.Principal.ID = "u_2" }), Allow, "default-permit")
	closed := compile(t, Options{Default: Deny, Rules: []Rule{{Allow: []string{"github/get_*"}}}})
	want(t, closed, query(func(q *Query) { q.Action, q.Object.Name = List, "create_issue" }), Deny, "")
}
