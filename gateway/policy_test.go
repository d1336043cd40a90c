package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// policyRig is a gateway with policy, pins, approvals and results before servers
// that offer what the test says.
type policyRig struct {
	*rig
	policy    *PolicyGuard
	approvals *approvalMemory
	guard     *ApprovalGuard
	clock     *clock
	offers    map[string]*offer
}

func newPolicyRig(t *testing.T, o policy.Options, servers map[string]string, more ...rigOption) *policyRig {
	t.Helper()
	p := &policyRig{approvals: &approvalMemory{all: map[string]Approval{}}, clock: &clock{now: time.Now()}, offers: map[string]*offer{}}
	var list []Server
	for name, tools := range servers {
		p.offers[name] = &offer{tools: tools, prompts: `{"name":"ask"}`, instructions: `"hello"`}
		list = append(list, at(name, newRaw(t, p.offers[name].serve).URL))
	}
	sc := toolscan.New()
	set, problems := policy.Compile(o)
	if set == nil {
		t.Fatal(problems)
	}
	p.policy = NewPolicyGuard(nil, nil, sc, nil, p.clock.get)
	p.policy.SetRules(PolicyRules{Set: set, Groups: map[string][]string{"support": {"bob"}}})
	var err error
	if p.guard, err = NewApprovalGuard(p.approvals, []byte(strings.Repeat("k", 32)), func(id string) string { return "https://g.example/decisions/call/" + id }, nil, p.clock.get, rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.guard.SetRules(ApprovalRules{Hold: -1})
	more = append([]rigOption{func(_ *Config, d *Deps) {
		d.Guards = Guards{Policy: p.policy, Pins: NewPinGuard(&pinMemory{}, "", sc, nil, nil, p.clock.get), Approval: p.guard, Results: NewResultGuard(sc, nil)}
	}}, more...)
	p.rig = newRig(t, list, more...)
	return p
}

// call makes a tools/call and returns the error's sentence, "" for none.
func (p *policyRig) call(server, user, tool, args string, header ...string) string {
	p.t.Helper()
	a := p.post(server, user, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"`+tool+`","arguments":`+args+`}}`, header...)
	if strings.Contains(a.body, `"result"`) {
		return ""
	}
	_, say := a.rpc(p.t)
	return say
}

const (
	readIssue = `{"name":"get_issue","description":"Gets an issue of a repository.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`
	readFile  = `{"name":"read_file","description":"Reads one of the user's files.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`
	getReview = `{"name":"get_review","description":"Gets a product review.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`
	sendMail  = `{"name":"send_mail","description":"Sends an e-mail message.","inputSchema":{"type":"object"}}`
	fetchPage = `{"name":"fetch","description":"Fetches a web page from a URL.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}`
	dropTable = `{"name":"drop_table","description":"Drops a table.","inputSchema":{"type":"object"},"annotations":{"destructiveHint":true}}`
)

// TestGTG5_DeniedIsHiddenAndRefused: the list shows what may be called, by user.
func TestGTG5_DeniedIsHiddenAndRefused(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Deny: []string{"s/send_*"}}, {Deny: []string{"*/get_issue"}, Groups: []string{"support"}}}},
		map[string]string{"s": readIssue + "," + sendMail + "," + readFile})
	for user, want := range map[string][3]bool{"alice": {true, false, true}, "bob": {false, false, true}} {
		list := p.post("s", user, listTools).body
		for i, tool := range []string{"get_issue", "send_mail", "read_file"} {
			if shown := strings.Contains(list, tool); shown != want[i] {
				t.Errorf("%s in %s's list: %v", tool, user, shown)
			}
			if say := p.call("s", user, tool, `{}`); (say == "") != want[i] || say != "" && say != sayDenied {
				t.Errorf("%s called by %s: %q", tool, user, say)
			}
		}
	}
	if n := p.offers["s"].count(); n != 3 {
		t.Errorf("%d calls reached the server", n)
	}
}

// TestGTG5_DestructiveToolsAskAPerson: least privilege by default.
func TestGTG5_DestructiveToolsAskAPerson(t *testing.T) {
	p := newPolicyRig(t, policy.Options{}, map[string]string{"s": dropTable})
	destroy := func(m map[string]any) { m["scope"] = "mcp:destroy" }
	call := func() string {
		a := p.do(http.MethodPost, p.resource("s"), `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"drop_table","arguments":{}}}`,
			"Authorization", "Bearer "+p.as.token(t, p.resource("s"), "alice", destroy))
		if strings.Contains(a.body, `"result"`) {
			return ""
		}
		_, say := a.rpc(t)
		return say
	}
	if say := call(); !strings.HasPrefix(say, sayAsk) {
		t.Errorf("%q", say)
	}
	p.approvals.answer(t, "alice", ApprovalApproved, p.clock.get())
	if say := call(); say != "" || p.offers["s"].count() != 1 {
		t.Errorf("%q", say)
	}
	if say := call(); !strings.HasPrefix(say, sayAsk) {
		t.Errorf("a second call on one yes: %q", say)
	}
}

// TestGTG5_TheBarrierSpansServers: what is read at one server bars the ways out
// of all, in both modes, until it is forgotten or long ago.
func TestGTG5_TheBarrierSpansServers(t *testing.T) {
	servers := map[string]string{"hub": getReview, "files": readFile, "mail": sendMail, "web": fetchPage}
	for mode, want := range map[policy.Effect]string{policy.Ask: sayAsk, policy.Deny: sayDenied} {
		p := newPolicyRig(t, policy.Options{Flow: mode}, servers)
		sends := func(user string, barred bool) {
			t.Helper()
			if say := p.call("mail", user, "send_mail", `{}`); barred != strings.HasPrefix(say, want) || !barred && say != "" {
				t.Errorf("%s: sending by %s: %q", mode, user, say)
			}
		}
		sends("alice", false)
		if say := p.call("hub", "alice", "get_review", `{}`); say != "" {
			t.Fatal(say)
		}
		sends("alice", true)
		sends("bob", false) // another user's session is another one
		if say := p.call("web", "alice", "fetch", `{}`); say != "" {
			t.Errorf("the web is closed after a review: %q", say)
		}
		if err := p.policy.Forget(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		sends("alice", false)
		if say := p.call("files", "alice", "read_file", `{}`); say != "" {
			t.Fatal(say)
		}
		sends("alice", true)
		if say := p.call("web", "alice", "fetch", `{}`); say != "" { // its page is what strangers wrote
			t.Errorf("the web is closed after a file alone: %q", say)
		}
		if say := p.call("web", "alice", "fetch", `{}`); !strings.HasPrefix(say, want) {
			t.Errorf("private data may leave in an address: %q", say)
		}
		p.clock.advance(5 * time.Hour)
		sends("alice", false)
	}
}

// TestGTG5_TheBarrierTellsAPerson: once text that reads like orders came in, a way
// out that is barred raises an alert, in no words but ours and the operator's; what
// is barred for other reasons, and what passes, raises none.
func TestGTG5_TheBarrierTellsAPerson(t *testing.T) {
	const obscure = `{"name":"synchronise_zebra","description":"Synchronises.","inputSchema":{"type":"object"}}`
	for mode, did := range map[policy.Effect]string{policy.Ask: "waits", policy.Deny: "refused", policy.Allow: ""} {
		p := newPolicyRig(t, policy.Options{Flow: mode}, map[string]string{"hub": readIssue, "mail": sendMail, "cloud": obscure})
		var told []kidoban.Alert
		p.policy.Alert = func(_ context.Context, a kidoban.Alert) { told = append(told, a) } // calls come one after the other
		p.call("hub", "alice", "get_issue", `{}`)
		p.call("mail", "alice", "send_mail", `{}`)
		if say := p.call("cloud", "alice", "synchronise_zebra", `{}`); (say == "") != (mode != policy.Deny) {
			t.Errorf("%s: a tool that may send, after text of strangers: %q", mode, say)
		}
		if len(told) != 0 {
			t.Errorf("%s: nothing gave orders, and yet %+v", mode, told)
		}
		p.offers["hub"].say(order)
		p.call("hub", "alice", "get_issue", `{}`)
		p.call("mail", "bob", "send_mail", `{}`)
		p.call("mail", "alice", "send_mail", `{}`)
		say := p.call("cloud", "alice", "synchronise_zebra", `{}`)
		if mode == policy.Allow {
			if say != "" || len(told) != 0 {
				t.Errorf("there is no barrier, and yet %q %+v", say, told)
			}
			continue
		}
		if say == "" || len(told) != 2 {
			t.Fatalf("%s: %q, %d alerts", mode, say, len(told))
		}
		for i, server := range []string{"mail", "cloud"} {
			a := told[i]
			if a.Kind != kidoban.AlertFlowBarred || a.Subject != "alice" || a.Do == "" || a.At.IsZero() ||
				!strings.Contains(a.Text, "alice") || !strings.Contains(a.Text, "at hub ") || !strings.Contains(a.Text, server) || !strings.Contains(a.Text, did) {
				t.Errorf("%s: %+v", mode, a)
			}
			if text := a.Text + a.Do; strings.Contains(text, "zebra") || strings.Contains(text, "evil.example") || strings.Contains(text, "get_issue") {
				t.Errorf("the alert speaks in the server's words: %s", text)
			}
		}
	}
}

// TestGTG4_UntrustedContentIsLabelled: all of it, not only what is flagged.
func TestGTG4_UntrustedContentIsLabelled(t *testing.T) {
	p := newPolicyRig(t, policy.Options{}, map[string]string{"hub": readIssue + "," + sendMail})
	a := p.post("hub", "alice", callTool("get_issue"))
	if !strings.Contains(a.body, `"kidoban/untrusted":{"flagged":false}`) {
		t.Errorf("%s", a.body)
	}
	if a = p.post("hub", "bob", callTool("send_mail")); strings.Contains(a.body, MetaUntrusted) {
		t.Errorf("%s", a.body)
	}
}

// sessionsAway is a store of sessions that does not answer.
type sessionsAway struct{ SessionStore }

func (sessionsAway) SessionLabels(context.Context, string, time.Time) ([]SessionLabel, error) {
	return nil, kidoban.Errorf(kidoban.KindUnreachable, "away")
}

// TestGTG5_WithoutItsStoreNothingLeaves: what the session has read is not known,
// so calls are refused, and what was read cannot be noted.
func TestGTG5_WithoutItsStoreNothingLeaves(t *testing.T) {
	p := newPolicyRig(t, policy.Options{}, map[string]string{"mail": sendMail + "," + readIssue})
	p.policy.sessions = sessionsAway{}
	for _, tool := range []string{"send_mail", "get_issue"} {
		if say := p.call("mail", "alice", tool, `{}`); say != sayUnsure {
			t.Errorf("%s: %q", tool, say)
		}
	}
	if p.offers["mail"].count() != 0 {
		t.Error("a call reached the server")
	}
}

// TestGTG5_DecisionsAreInTheAuditLog: allowed, asked and denied, each with the
// policies that decided.
func TestGTG5_DecisionsAreInTheAuditLog(t *testing.T) {
	sink := &memorySink{}
	j, err := OpenJournal(t.Context(), sink, "t")
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Deny: []string{"s/send_mail"}}, {Ask: []string{"s/read_file"}}}}, map[string]string{"s": readIssue + "," + sendMail + "," + readFile},
		func(_ *Config, d *Deps) { d.Journal = j })
	for _, tool := range []string{"get_issue", "send_mail", "read_file"} {
		p.call("s", "alice", tool, `{}`)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := ""
	for _, e := range sink.entries() {
		log += string(e.Body) + "\n"
	}
	for _, want := range []string{`"policies":["default-permit"]`, `"rule":"policy:rule-1"`, `"policies":["rule-1"]`, `"rule":"approval:waiting"`, `"policies":["rule-2"]`, `"detail":"read: untrusted`} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, log)
		}
	}
}

// TestGTG7_NoGuardRepeatsTheServer: not policy, not arguments, not approval.
func TestGTG7_NoGuardRepeatsTheServer(t *testing.T) {
	const send = `{"name":"xyzzy_send","description":"Plugh sends.","inputSchema":{"type":"object","properties":{"frobozz":{"type":"string"}}}}`
	for name, o := range map[string]policy.Options{"ask": {Rules: []policy.Rule{{Ask: []string{"*/xyzzy*"}}}}, "deny": {Rules: []policy.Rule{{Deny: []string{"*/xyzzy*"}}}}, "arguments": {}} {
		p := newPolicyRig(t, o, map[string]string{"s": send}, func(_ *Config, d *Deps) { d.Guards.Arguments = NewArgumentGuard(nil, nil) })
		say := p.call("s", "alice", "xyzzy_send", `{"frobozz":1,"other":"quux"}`)
		if say == "" {
			t.Errorf("%s: the call ran", name)
		}
		for _, word := range []string{"xyzzy", "lugh", "frobozz", "quux", "default-", "rule-"} {
			if strings.Contains(say, word) {
				t.Errorf("%s: %q stands in %q", name, word, say)
			}
		}
	}
}

// TestGTG5_LabelsAreFoundOut from names, annotations and what a server reaches;
// the operator's word goes over it.
func TestGTG5_LabelsAreFoundOut(t *testing.T) {
	l := labeler{scanner: toolscan.New()}
	remote := &Server{Name: "r", URL: "https://x"}
	boxed := &Server{Name: "b", Stdio: &sandbox.Spec{Name: "b", Command: "x"}}
	tool := func(name, about, more string) wire.Raw {
		return wire.Raw(`{"name":"` + name + `","description":"` + about + `"` + more + `}`)
	}
	const ro, closed = `,"annotations":{"readOnlyHint":true}`, `,"annotations":{"openWorldHint":false}`
	for _, c := range []struct {
		s    *Server
		def  wire.Raw
		want string
	}{
		{remote, tool("list_issues", "List issues of a repository", ro), "private untrusted"},
		{remote, tool("create_issue", "Create an issue", ""), "sends"},
		{remote, tool("create_issue", "Create an issue", closed), ""},
		{remote, tool("add_numbers", "Adds two numbers", ro), ""},
		{boxed, tool("write_file", "Writes a file", ""), ""},
		{boxed, tool("read_file", "Reads a file", ro), "private"},
		{remote, tool("fetch", "Fetches a URL from the internet", ro), "reaches untrusted"},
		{boxed, tool("fetch", "Fetches a URL from the internet", ro), "untrusted"},
		{remote, tool("send_message", "Send a WhatsApp message to a person", ""), "sends"},
		{remote, tool("list_messages", "Get WhatsApp messages", ro), "private untrusted"},
		{remote, tool("convert", "Converts", `,"inputSchema":{"type":"object","properties":{"source_url":{"type":"string"}}}`), "reaches unclear"},
		{remote, tool("synchronise", "Synchronises", ""), "unclear"},
		{remote, tool("synchronise", "Synchronises", closed), ""},
		{remote, tool("synchronise", "Synchronises", ro), ""},
		{boxed, tool("synchronise", "Synchronises", ""), ""},
		{remote, nil, "unclear"},
		{&Server{Name: "o", URL: "https://x", Labels: map[string][]string{"sends": {"add_*"}}}, tool("synchronise", "Synchronises", ""), ""},
		{&Server{Name: "o", URL: "https://x", Labels: map[string][]string{"unclear": {"get_*"}}}, tool("get_weather", "Gets", ro), "unclear"},
		{&Server{Name: "o", URL: "https://x", Labels: map[string][]string{"sends": {"add_*"}, "private": {}, "secret": {"*"}}}, tool("add_numbers", "Adds", ro), "secret sends"},
		{&Server{Name: "o", URL: "https://x", Account: AccountUser}, tool("get_weather", "Gets the weather", ro), "private"},
	} {
		got := l.tool(c.s, wire.LookupString(c.def, "name"), c.def)
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s at %s: %v, want %s", wire.LookupString(c.def, "name"), c.s.Name, got, c.want)
		}
	}
}

func TestMatchPattern(t *testing.T) {
	for _, c := range []struct {
		p, name string
		want    bool
	}{{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"*b", "ab", true}, {"a*a", "a", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "acb", false}, {"*", "", true}, {"", "", true}, {"", "x", false}} {
		if matchPattern(c.p, c.name) != c.want {
			t.Errorf("%q %q", c.p, c.name)
		}
	}
}

// TestGTG5_WhatIsReadAsAResourceCounts: a file read as a resource bars the ways
// out as one read by a tool does.
func TestGTG5_WhatIsReadAsAResourceCounts(t *testing.T) {
	for uri, barred := range map[string]bool{"file:///home/ann/plan.txt": true, "https://example.org/page": true, "note://public/1": false} {
		p := newPolicyRig(t, policy.Options{Flow: policy.Deny}, map[string]string{"s": sendMail})
		p.post("s", "alice", `{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"`+uri+`"}}`)
		if say := p.call("s", "alice", "send_mail", `{}`); (say == sayDenied) != barred {
			t.Errorf("after %s: %q", uri, say)
		}
	}
}

// TestMatchPatternAgreesWithRegularExpressions for whatever patterns and names.
func TestMatchPatternAgreesWithRegularExpressions(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab*")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		p, name := text.Draw(t, "pattern"), strings.ReplaceAll(text.Draw(t, "name"), "*", "b")
		re := regexp.MustCompile("^" + strings.ReplaceAll(p, "*", ".*") + "$")
		if got := matchPattern(p, name); got != re.MatchString(name) {
			t.Fatalf("%q %q: %v", p, name, got)
		}
	})
}
