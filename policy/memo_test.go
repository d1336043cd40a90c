package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestGTG5_WhatIsRememberedIsWhatWouldBeDecided: for policies that read any part of
// a query, a verdict from memory is the one that Cedar gives.
func TestGTG5_WhatIsRememberedIsWhatWouldBeDecided(t *testing.T) {
	reads := []string{
		`principal.name == "ann"`, `principal.groups.contains("g")`, `principal in Group::"g"`, `principal.admin`, `principal == User::"u1"`,
		`resource.server == "git"`, `resource.name == "send"`, `resource.class == "read"`, `resource.labels.contains("sends")`, `action == Action::"call"`,
		`context.approved`, `context.session.contains("private")`, `context.client == "c1"`, `context.scopes.contains("mcp:read")`, `context.method == "tools/call"`, `context.era == "modern"`,
		`context.address.isLoopback()`, `context.now > datetime("2026-01-01")`, `context.hour > 12`, `context.weekday == "Monday"`, `context.arguments has a`, `context has era`,
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom(reads).Draw(t, "a"), rapid.SampledFrom(reads).Draw(t, "b")
		o := Options{Files: []File{{"p.cedar", []byte(fmt.Sprintf("forbid (principal, action, resource) when { %s };\nforbid (principal, action, resource) when { %s && !context.approved };", a, b))}}}
		s, problems := Compile(o)
		if s == nil {
			t.Fatal(problems)
		}
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		for range 20 {
			q := &Query{Principal: Principal{ID: pick("id", "u1", "u2"), Name: pick("user", "ann", "bob"), Groups: []string{pick("group", "g", "h")}, Admin: rapid.Bool().Draw(t, "admin")},
				Action: rapid.SampledFrom(actions).Draw(t, "action"), Object: Object{Kind: Tool, Server: pick("server", "git", "mail"), Name: pick("name", "send", "b"), Class: pick("class", "read", "destroy"), Labels: []string{pick("label", Sends, Reaches)}},
				Client: pick("client", "c1", "c2"), Scopes: []string{pick("scope", "mcp:read", "mcp:write")}, Session: []string{pick("session", Private, Untrusted)}, Arguments: []byte(pick("arguments", `{"a":1}`, `{}`)),
				Approved: rapid.Bool().Draw(t, "approved"), Method: pick("method", "tools/call", "prompts/get"), Era: pick("era", "modern", "legacy"),
				Address: netip.MustParseAddr(pick("address", "127.0.0.1", "192.0.2.1")), At: time.Date(2025+rapid.IntRange(0, 1).Draw(t, "year"), 3, rapid.IntRange(1, 7).Draw(t, "day"), rapid.SampledFrom([]int{3, 20}).Draw(t, "hour"), 0, 0, 0, time.UTC)}
			want := s.judge(q)
			for range 2 {
				if diff := cmp.Diff(want, s.Decide(q), cmpopts.IgnoreFields(Verdict{}, "Err")); diff != "" {
					t.Fatalf("%s, %s: %+v: %s", a, b, q, diff)
				}
			}
		}
	})
}

// TestGTG5_KeysKnowEveryMemberOfTheContext: a member that is added without a thought
// to the memo switches it off.
func TestGTG5_KeysKnowEveryMemberOfTheContext(t *testing.T) {
	never := []string{"arguments", "now"}
	for _, member := range append(slices.Clone(attributes["context"]), "later") {
		var m memo
		m.read(member)
		if _, keep := m.key(nil, &Query{}); keep == (slices.Contains(never, member) || member == "later") {
			t.Errorf("%s: remembered %v", member, keep)
		}
	}
	s := Default()
	for i := range 3 * maxMemo {
		s.Decide(&Query{Principal: Principal{ID: fmt.Sprint(i)}, Action: Call, Object: Object{Kind: Tool, Server: "s", Name: "t"}})
	}
	if n := len(s.memo.seen); n > maxMemo {
		t.Errorf("%d verdicts are remembered", n)
	}
}

// TestGTG5_GroupsThatMatter: of a person's groups those count that a policy names, or
// all when one looks for something in principal.groups.
func TestGTG5_GroupsThatMatter(t *testing.T) {
	for text, want := range map[string][2]bool{
		`permit (principal in Group::"a", action, resource);`:                                  {true, false},
		`permit (principal, action, resource) when { principal in Group::"a" };`:               {true, false},
		`permit (principal, action, resource) when { principal in [Group::"c", Group::"a"] };`: {true, false},
		`permit (principal is User in Group::"a", action, resource);`:                          {true, false},
		`permit (principal, action, resource) when { principal.groups.contains("z") };`:        {true, true},
		`permit (principal, action, resource) when { principal has groups };`:                  {true, true},
		`permit (principal, action, resource);`:                                                {false, false},
	} {
		set, problems := Compile(Options{Files: []File{{Name: "f", Text: []byte(text)}}})
		if set == nil {
			t.Fatal(problems)
		}
		if got := [2]bool{set.Matters("a"), set.Matters("b")}; got != want {
			t.Errorf("%s: a, b matter: %v", text, got)
		}
	}
	set, _ := Compile(Options{Rules: []Rule{{Deny: []string{"*/*"}, Groups: []string{"corp:/a/b"}}}})
	if !set.Matters("corp:/a/b") || set.Matters("corp:/a") {
		t.Error("the groups of a rule")
	}
}
