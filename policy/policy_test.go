package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func query(change func(*Query)) *Query {
	q := &Query{Principal: Principal{ID: "u_1", Name: "ann", Groups: []string{"support"}}, Action: Call, Object: Object{Kind: Tool, Server: "github", Name: "get_issue", Class: "read"},
		Client: "c1", Scopes: []string{"mcp:write"}, Method: "tools/call", Era: "legacy", Address: netip.MustParseAddr("10.1.2.3"), At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	if change != nil {
		change(q)
	}
	return q
}

func compile(t *testing.T, o Options) *Set {
	t.Helper()
	s, problems := Compile(o)
	if s == nil || len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return s
}

func cedarFile(text string) Options { return Options{Files: []File{{"own.cedar", []byte(text)}}} }

func want(t *testing.T, s *Set, q *Query, e Effect, ids string) {
	t.Helper()
	v := s.Decide(q)
	slices.Sort(v.Policies)
	if v.Effect != e || strings.Join(v.Policies, " ") != ids {
		t.Errorf("%s %s/%s: %s %v (%v), want %s %s", q.Action, q.Object.Server, q.Object.Name, v.Effect, v.Policies, v.Err, e, ids)
	}
}

// TestGTG5_Defaults: what a token reaches is allowed, what a server marks
// destructive asks, ways out ask once something was read.
func TestGTG5_Defaults(t *testing.T) {
	s := Default()
	want(t, s, query(nil), Allow, "default-permit")
	destroy := func(q *Query) { q.Object.Class = "destroy" }
	want(t, s, query(destroy), Ask, "default-destructive")
	want(t, s, query(func(q *Query) { destroy(q); q.Approved = true }), Allow, "default-permit")
	want(t, s, query(func(q *Query) { destroy(q); q.Action = List }), Allow, "default-permit")
	for _, c := range []struct {
		label   string
		session []string
		e       Effect
	}{
		{Sends, nil, Allow}, {Sends, []string{Untrusted}, Ask}, {Sends, []string{Private}, Ask}, {Sends, []string{Injected}, Ask}, {Sends, []string{"other"}, Allow},
		{Unclear, []string{Untrusted, Private}, Allow}, {Unclear, []string{Injected}, Ask},
		{Reaches, []string{Untrusted}, Allow}, {Reaches, []string{Private}, Allow}, {Reaches, []string{Private, Untrusted}, Ask}, {Private, []string{Private, Untrusted}, Allow},
	} {
		q := query(func(q *Query) { q.Object.Labels, q.Session = []string{c.label}, c.session })
		if v := s.Decide(q); v.Effect != c.e {
			t.Errorf("%s after %v: %s %v", c.label, c.session, v.Effect, v.Policies)
		}
	}
	block := compile(t, Options{Flow: Deny, Destructive: Allow})
	q := query(func(q *Query) {
		q.Object.Labels, q.Session, q.Object.Class = []string{Sends}, []string{Untrusted}, "destroy"
	})
	want(t, block, q, Deny, "default-flow-send")
	q.Approved = true
	want(t, block, q, Deny, "default-flow-send")
	for _, label := range []string{Untrusted, Private, Injected} {
		want(t, block, query(func(q *Query) { q.Object.Labels, q.Session = []string{Unclear}, []string{label} }), Deny, "default-flow-unclear")
	}
	want(t, block, query(func(q *Query) { q.Object.Labels = []string{Unclear} }), Allow, "default-permit")
	want(t, compile(t, Options{Flow: Allow}), query(func(q *Query) { q.Object.Labels, q.Session = []string{Sends}, []string{Untrusted} }), Allow, "default-permit")
}

func TestGTG5_SimpleRules(t *testing.T) {
	s := compile(t, Options{Rules: []Rule{
		{Deny: []string{"github/delete_*", "*/shell"}},
		{Ask: []string{"mail/send"}, Groups: []string{"support"}},
		{Deny: []string{"pay/*"}, Users: []string{"ann"}, Clients: []string{"c2"}},
		{Allow: []string{"files/remove"}},
	}})
	tool := func(server, name string) func(*Query) {
		return func(q *Query) { q.Object.Server, q.Object.Name = server, name }
	}
	want(t, s, query(tool("github", "delete_repo")), Deny, "rule-1")
	want(t, s, query(tool("x", "shell")), Deny, "rule-1")
	want(t, s, query(tool("x", "shell2")), Allow, "default-permit")
	want(t, s, query(tool("mail", "send")), Ask, "rule-2")
	want(t, s, query(func(q *Query) { tool("mail", "send")(q); q.Principal.Groups = nil }), Allow, "default-permit")
	want(t, s, query(tool("pay", "now")), Allow, "default-permit")
	want(t, s, query(func(q *Query) { tool("pay", "now")(q); q.Client = "c2" }), Deny, "rule-3")
	want(t, s, query(func(q *Query) { tool("files", "remove")(q); q.Object.Class = "destroy" }), Allow, "default-permit rule-4")

	closed := compile(t, Options{Default: Deny, Rules: []Rule{{Allow: []string{"github/get_*"}}, {Ask: []string{"mail/send"}}}})
	want(t, closed, query(nil), Allow, "rule-1")
	want(t, closed, query(tool("github", "create_issue")), Deny, "")
	want(t, closed, query(tool("mail", "send")), Ask, "rule-2")
	if closed.Listed(query(func(q *Query) { tool("github", "create_issue")(q); q.Action = List }), Call) {
		t.Error("a tool that nothing permits is listed")
	}
	if !closed.Listed(query(func(q *Query) { tool("mail", "send")(q); q.Action = List }), Call) {
		t.Error("a tool that asks is hidden")
	}
}

// TestGTG5_OwnPolicies: Cedar over user, group, client, server, tool, class,
// labels, arguments, time and address.
func TestGTG5_OwnPolicies(t *testing.T) {
	s := compile(t, cedarFile(`
@id("acme-only") forbid (principal, action == Action::"call", resource in Server::"github")
  unless { context.arguments has owner && context.arguments.owner == "acme" };
@id("night") forbid (principal in Group::"support", action, resource is Tool) when { context.hour < 5 };
forbid (principal, action, resource) when { !context.address.isInRange(ip("10.0.0.0/8")) };
@id("amount") forbid (principal, action == Action::"call", resource == Tool::"pay/pay") when { context.arguments.amount > 100 } unless { context.approved };
`))
	args := func(a string) func(*Query) { return func(q *Query) { q.Arguments = []byte(a) } }
	want(t, s, query(args(`{"owner":"acme"}`)), Allow, "default-permit")
	want(t, s, query(args(`{"owner":"evil"}`)), Deny, "acme-only")
	want(t, s, query(nil), Deny, "acme-only")
	want(t, s, query(func(q *Query) { args(`{"owner":"acme"}`)(q); q.At = q.At.Add(-2 * time.Hour) }), Deny, "night")
	want(t, s, query(func(q *Query) { args(`{"owner":"acme"}`)(q); q.Address = netip.MustParseAddr("8.8.8.8") }), Deny, "own-3")
	want(t, s, query(func(q *Query) { args(`{"owner":"acme"}`)(q); q.Address = netip.Addr{} }), Deny, "own-3")
	pay := func(a string) *Query {
		return query(func(q *Query) { args(a)(q); q.Object.Server, q.Object.Name = "pay", "pay" })
	}
	want(t, s, pay(`{"amount":100}`), Allow, "default-permit")
	want(t, s, pay(`{"amount":101}`), Ask, "amount")
	if !s.Listed(query(func(q *Query) { q.Action = List }), Call) {
		t.Error("a tool whose call depends on arguments is hidden")
	}
}

// TestGTG5_FailsClosed: a forbid that cannot be evaluated would let everything
// through by Cedar's own rule.
func TestGTG5_FailsClosed(t *testing.T) {
	s := compile(t, cedarFile(`@id("amount") forbid (principal, action == Action::"call", resource == Tool::"pay/pay") when { context.arguments.amount > 100 };`))
	for _, a := range []string{``, `{}`, `{"amount":"101"}`, `{"amount":100.5}`, `{"amount":null}`, `{"amount":1e2}`, `{"amount":99999999999999999999}`, `{`, `[]`,
		`{"amount":1,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, `{"amount":1,"x":[` + strings.Repeat("1,", 10_000) + `1]}`} {
		v := s.Decide(query(func(q *Query) { q.Arguments, q.Object.Server, q.Object.Name = []byte(a), "pay", "pay" }))
		if v.Effect != Deny || v.Err == nil {
			t.Errorf("%.40s: %+v", a, v)
		}
	}
}

// TestGTG5_CheckNamesWhatIsWrong: each fault is found at load, with its place.
func TestGTG5_CheckNamesWhatIsWrong(t *testing.T) {
	for text, say := range map[string]string{
		`permit (principal, action, resource)`:                                                               "own.cedar",
		`permit (principal, action == Action::"cal", resource);`:                                             `no action "cal"`,
		`permit (principal == Usr::"x", action, resource);`:                                                  "principal cannot be a Usr",
		`permit (principal, action, resource is Tol);`:                                                       "resource is Tol",
		`permit (principal, action, resource == Tool::"shell");`:                                             "names no server",
		`permit (principal, action, resource) when { context.argument has x };`:                              `context has no "argument"`,
		`forbid (principal, action, resource) when { true || resource.clas == "x" };`:                        `resource has no "clas"`,
		`permit (principal, action, resource) when { principal in Grp::"x" };`:                               `no entity type "Grp"`,
		"@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);": "own.cedar:2:1: two policies have the id",
		`@id("a b") permit (principal, action, resource);`:                                                   "visible ASCII",
		`@id("default-permit") permit (principal, action, resource);`:                                        "two policies have the id",
	} {
		s, problems := Compile(cedarFile(text))
		if s != nil || !strings.Contains(fmt.Sprint(problems), say) {
			t.Errorf("%s: %v", text, problems)
		}
	}
	for _, r := range []Rule{{}, {Allow: []string{"a/b"}, Deny: []string{"a/c"}}, {Deny: []string{"shell"}}, {Deny: []string{"a/"}}} {
		if s, problems := Compile(Options{Rules: []Rule{r}}); s != nil {
			t.Errorf("%+v: %v", r, problems)
		}
	}
	o := cedarFile(`forbid (principal, action, resource in Server::"gihub");`)
	o.Servers = []string{"github"}
	if s, problems := Compile(o); s == nil || len(problems) != 1 || problems[0].Fatal {
		t.Errorf("%v", problems)
	}
}

// TestGTG5_PrintedPoliciesDecideTheSame: what Cedar prints is what decides.
func TestGTG5_PrintedPoliciesDecideTheSame(t *testing.T) {
	o := Options{Default: Deny, Rules: []Rule{{Allow: []string{`git*/get_\"*`, "a/*b*"}, Users: []string{`x"y`}}, {Ask: []string{"mail/*"}}, {Deny: []string{"*/shell"}, Groups: []string{"g"}}}}
	s := compile(t, o)
	text := s.Cedar()
	again, problems := Compile(Options{Default: Deny, Destructive: Allow, Flow: Allow, Files: []File{{"p.cedar", []byte(strings.Replace(text, `"default-connect"`, `"connect"`, 1))}}})
	if again == nil {
		t.Fatalf("%v\n%s", problems, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		q := query(func(q *Query) {
			q.Object.Server, q.Object.Name = pick("server", "git", "github", "a", "mail", "x"), pick("name", `get_\"x`, "b", "xbx", "send", "shell")
			q.Principal.Name, q.Principal.Groups = pick("user", `x"y`, "ann"), []string{pick("group", "g", "h")}
			q.Object.Class, q.Session, q.Object.Labels = pick("class", "read", "destroy"), []string{pick("session", Private, Untrusted, "")}, []string{pick("label", Sends, Reaches, Unclear, "")}
			q.Action, q.Approved = rapid.SampledFrom(actions).Draw(t, "action"), rapid.Bool().Draw(t, "approved")
		})
		if a, b := s.Decide(q), again.Decide(q); a.Effect != b.Effect {
			t.Fatalf("%+v: %v and %v", q, a, b)
		}
	})
}

// FuzzArguments: no argument breaks a decision or is permitted by an error.
func FuzzArguments(f *testing.F) {
	s, _ := Compile(cedarFile(`@id("no") forbid (principal, action, resource) unless { context.arguments has a && context.arguments.a == "yes" };`))
	for _, seed := range []string{`{"a":"yes"}`, `{"a":[1,2.5,null,{"b":true}]}`, `{`, `{"a":"yes","a":"no"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v := s.Decide(query(func(q *Query) { q.Arguments = []byte(text) })); v.Effect == Allow && !strings.Contains(text, "yes") && !strings.Contains(text, `\u`) {
			t.Errorf("%q was allowed", text)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	own := `@id("acme-only") forbid (principal, action == Action::"call", resource in Server::"github") unless { context.arguments has owner && context.arguments.owner == "acme" };`
	rules := make([]Rule, 20)
	for i := range rules {
		rules[i] = Rule{Deny: []string{fmt.Sprintf("s%d/delete_*", i)}}
	}
	for name, o := range map[string]Options{"default": {}, "20 rules and arguments": {Rules: rules, Files: []File{{"o.cedar", []byte(own)}}}} {
		b.Run(name, func(b *testing.B) {
			s, _ := Compile(o)
			q := query(func(q *Query) {
				q.Arguments = []byte(`{"owner":"acme","repo":"site","title":"hello","labels":["a","b"]}`)
			})
			b.ReportAllocs()
			for b.Loop() {
				if s.Decide(q).Effect != Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}

// TestGTG5_ADeniedServerIsNotConnectedTo: a rule that denies all of a server leaves no
// session with it; one that leaves something does.
func TestGTG5_ADeniedServerIsNotConnectedTo(t *testing.T) {
	s := compile(t, Options{Rules: []Rule{{Deny: []string{"github/*", "files/drop_*"}, Groups: []string{"support"}}}})
	connect := func(server, group string) *Query {
		return query(func(q *Query) {
			q.Action, q.Object, q.Principal.Groups = Connect, Object{Kind: Server, Server: server}, []string{group}
		})
	}
	want(t, s, connect("github", "support"), Deny, "rule-1-connect")
	want(t, s, connect("github", "others"), Allow, "default-permit")
	want(t, s, connect("files", "support"), Allow, "default-permit")
}
