package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// approvalMemory keeps approvals in memory; what databases do with them is tested
// in store.
type approvalMemory struct {
	mu  sync.Mutex
	all map[string]Approval // by binding
}

func (m *approvalMemory) AskApproval(_ context.Context, a Approval, max int) (Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, o := range m.all {
		if o.User == a.User && o.State == ApprovalWaiting && o.Expires.After(a.Created) && o.Binding != a.Binding {
			n++
		}
	}
	if n >= max {
		return a, kidoban.Errorf(kidoban.KindLimit, "full")
	}
	if o, ok := m.all[a.Binding]; ok && o.State != ApprovalUsed && o.Expires.After(a.Created) {
		return o, nil
	}
	m.all[a.Binding] = a
	return a, nil
}

func (m *approvalMemory) Approval(_ context.Context, id string) (Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.all {
		if a.ID == id {
			return a, nil
		}
	}
	return Approval{}, kidoban.Errorf(kidoban.KindNotFound, "none")
}

func (m *approvalMemory) WaitingApprovals(_ context.Context, user string, now time.Time) (out []Approval, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.all {
		if a.User == user && a.State == ApprovalWaiting && a.Expires.After(now) {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *approvalMemory) DecideApproval(_ context.Context, a Approval) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.all[a.Binding]
	if have.ID != a.ID || have.State != ApprovalWaiting || !have.Expires.After(a.Decided) {
		return kidoban.Errorf(kidoban.KindConflict, "gone")
	}
	have.State, have.By, have.Decided, have.Expires = a.State, a.By, a.Decided, a.Expires
	m.all[a.Binding] = have
	return nil
}

func (m *approvalMemory) UseApproval(_ context.Context, id string, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, a := range m.all {
		if a.ID == id && a.State == ApprovalApproved && a.Expires.After(now) {
			a.State = ApprovalUsed
			m.all[k] = a
			return true, nil
		}
	}
	return false, nil
}

// answer decides about the only call that waits for a user.
func (m *approvalMemory) answer(t *testing.T, user string, s ApprovalState, now time.Time) {
	t.Helper()
	list, _ := m.WaitingApprovals(t.Context(), user, now)
	if len(list) != 1 {
		t.Fatalf("%d calls wait for %s", len(list), user)
	}
	a := list[0]
	a.State, a.By, a.Decided, a.Expires = s, user, now, now.Add(10*time.Minute)
	if err := m.DecideApproval(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

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

// TestGTG6_ApprovalIsForExactlyOneCall: in both eras and through the aggregate.
func TestGTG6_ApprovalIsForExactlyOneCall(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	ask := func(want bool, user, args string, header ...string) {
		t.Helper()
		if say := p.call("s", user, "send_mail", args, header...); strings.HasPrefix(say, sayAsk) != want || !want && say != "" {
			t.Errorf("%s %s %v: %q", user, args, header, say)
		}
	}
	now := p.clock.get
	ask(true, "alice", `{"to":"a","n":1}`)
	ask(true, "alice", `{"to":"a","n":1}`) // asking again is no answer
	p.approvals.answer(t, "alice", ApprovalApproved, now())
	ask(true, "alice", `{"to":"b","n":1}`)   // another argument
	ask(true, "alice", `{"to":"a","n":1.0}`) // another number
	ask(true, "bob", `{"to":"a","n":1}`)     // another user
	ask(false, "alice", `{"n":1, "to":"a"}`) // the same call, members in another order
	ask(true, "alice", `{"to":"a","n":1}`)   // a replay
	p.approvals.all = map[string]Approval{}

	ask(true, "alice", `{}`)
	p.approvals.answer(t, "alice", ApprovalApproved, now())
	p.clock.advance(11 * time.Minute)
	ask(true, "alice", `{}`) // too late
	p.approvals.answer(t, "alice", ApprovalRefused, now())
	if say := p.call("s", "alice", "send_mail", `{}`); say != sayNo {
		t.Errorf("%q", say)
	}
	if n := p.offers["s"].count(); n != 1 {
		t.Errorf("%d calls reached the server", n)
	}
}

// TestGTG6_BindingCoversEverything: each member of a call is part of what a yes
// is for.
func TestGTG6_BindingCoversEverything(t *testing.T) {
	base := func() *Call {
		c := &Call{Caller: Caller{User: "u", Client: "c", Grant: "g"}, Server: "s", Tool: wire.Raw(`{"name":"t"}`), sessionID: "i"}
		c.Message.Method, c.Params.Name, c.Params.URI = "tools/call", "t", ""
		return c
	}
	seen := map[string]int{approvalBinding(base(), []byte(`{}`)): -1, approvalBinding(base(), []byte(`{"a":1}`)): -2}
	for i, change := range []func(*Call){
		func(c *Call) { c.Caller.User = "v" }, func(c *Call) { c.Caller.Client = "d" }, func(c *Call) { c.Caller.Grant = "h" }, func(c *Call) { c.sessionID = "j" },
		func(c *Call) { c.Server = "x" }, func(c *Call) { c.Tool = wire.Raw(`{"name":"t" }`) }, func(c *Call) { c.Tool = nil },
		func(c *Call) { c.Message.Method = "prompts/get" }, func(c *Call) { c.Params.Name = "n" }, func(c *Call) { c.Params.URI = "u" },
	} {
		c := base()
		change(c)
		b := approvalBinding(c, []byte(`{}`))
		if j, dup := seen[b]; dup {
			t.Errorf("change %d gives the binding of %d", i, j)
		}
		seen[b] = i
	}
}

// TestGTG6_AChangedToolNeedsANewYes: the yes was for what the tool said then.
func TestGTG6_AChangedToolNeedsANewYes(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	p.call("s", "alice", "send_mail", `{}`)
	p.approvals.answer(t, "alice", ApprovalApproved, p.clock.get())
	p.g.deps.Guards.Pins = nil // the operator approved the new version meanwhile
	p.offers["s"].set(strings.Replace(sendMail, "an e-mail message", "a mail", 1))
	p.post("s", "alice", listTools)
	if say := p.call("s", "alice", "send_mail", `{}`); !strings.HasPrefix(say, sayAsk) {
		t.Errorf("%q", say)
	}
}

// TestGTG6_BothEras: a modern client gets an input request with the page and goes
// on with its state; a client of 2025-11-25 the elicitation error; older ones a
// sentence. What the client says of itself ("accept") is no yes.
func TestGTG6_BothEras(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	a := p.post("s", "alice", callTool("send_mail"), "MCP-Protocol-Version", "2025-11-25")
	if code, _ := a.rpc(t); code != wire.CodeElicitationRequired || !strings.Contains(a.body, `"mode":"url"`) || !strings.Contains(a.body, "https://g.example/decisions/call/") {
		t.Errorf("2025-11-25: %s", a.body)
	}
	a = p.post("s", "bob", callTool("send_mail"), "MCP-Protocol-Version", "2025-06-18")
	if code, say := a.rpc(t); code != wire.CodeInternal || !strings.Contains(say, "https://g.example/decisions/call/") {
		t.Errorf("2025-06-18: %s", a.body)
	}

	params := `"name":"send_mail","arguments":{"to":"x"}`
	body, header := modern("tools/call", params, "send_mail")
	a = p.post("s", "carol", body, header...)
	state := between(a.body, `"requestState":"`, `"`)
	if !strings.Contains(a.body, `"input_required"`) || !strings.Contains(a.body, `"elicitation/create"`) || state == "" {
		t.Fatalf("2026-07-28: %s", a.body)
	}
	more, header := modern("tools/call", params+`,"requestState":"`+state+`","inputResponses":{"kidoban-approval":{"action":"accept","content":{"approved":true}}}`, "send_mail")
	if a = p.post("s", "carol", more, header...); !strings.Contains(a.body, `"input_required"`) {
		t.Errorf("the client's own word counted as a yes: %s", a.body)
	}
	p.approvals.answer(t, "carol", ApprovalApproved, p.clock.get())
	state = between(a.body, `"requestState":"`, `"`)
	changed, header := modern("tools/call", `"name":"send_mail","arguments":{"to":"evil"},"requestState":"`+state+`"`, "send_mail")
	if a = p.post("s", "carol", changed, header...); !strings.Contains(a.body, "requestState is not valid") {
		t.Errorf("a changed argument under an old state: %s", a.body)
	}
	more, header = modern("tools/call", params+`,"requestState":"`+state+`"`, "send_mail")
	if a = p.post("s", "carol", more, header...); !strings.Contains(a.body, `ran`) {
		t.Errorf("after the yes: %s", a.body)
	}
	if a = p.post("s", "carol", more, header...); !strings.Contains(a.body, `"input_required"`) {
		t.Errorf("a replay: %s", a.body)
	}
}

func between(text, from, to string) string {
	_, rest, ok := strings.Cut(text, from)
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, to)
	return v
}

// TestGTG6_ACallThatComesAgainIsHeld until the person decides.
func TestGTG6_ACallThatComesAgainIsHeld(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	p.guard.SetRules(ApprovalRules{Hold: time.Hour})
	p.call("s", "alice", "send_mail", `{}`)
	done := make(chan string, 1)
	go func() { done <- p.call("s", "alice", "send_mail", `{}`) }()
	p.approvals.answer(t, "alice", ApprovalApproved, p.clock.get())
	if say := <-done; say != "" {
		t.Errorf("%q", say)
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

// TestGTG6_NobodyIsAskedTooMuch: questions to one person are bounded, and an
// argument that cannot be shown is refused.
func TestGTG6_NobodyIsAskedTooMuch(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	for i := range 20 {
		p.call("s", "alice", "send_mail", `{"n":`+string(rune('1'+i%9))+strings.Repeat("0", i)+`}`)
	}
	if say := p.call("s", "alice", "send_mail", `{"n":0}`); say != sayTooMany {
		t.Errorf("%q", say)
	}
	if say := p.call("s", "bob", "send_mail", `{"text":"`+strings.Repeat("x", 60<<10)+`"}`); say != sayTooLong {
		t.Errorf("%q", say)
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

// TestGTG6_AClientMadeByOthers: the Go SDK opens the page in both eras; in the
// modern one it goes on by itself once the person has said yes.
func TestGTG6_AClientMadeByOthers(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	p.guard.SetRules(ApprovalRules{Hold: 5 * time.Second})
	var opened []string
	options := &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			opened = append(opened, r.Params.URL)
			p.approvals.answer(t, "alice", ApprovalApproved, p.clock.get()) // the person in the browser
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
	}
	s := connect(t, p.rig, "s", "alice", "modern", options)
	if got := callText(t, s, "send_mail", map[string]any{"to": "x"}, nil); got != "ran" || len(opened) != 1 || !strings.HasPrefix(opened[0], "https://g.example/decisions/call/") {
		t.Errorf("modern: %q %v", got, opened)
	}
	s = connect(t, p.rig, "s", "alice", "legacy", options)
	call := func() (string, error) {
		res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "send_mail", Arguments: map[string]any{"to": "y"}})
		if err != nil {
			return "", err
		}
		return res.Content[0].(*mcp.TextContent).Text, nil
	}
	var rpc *jsonrpc.Error
	if _, err := call(); !errors.As(err, &rpc) || rpc.Code != mcp.CodeURLElicitationRequired {
		t.Fatalf("legacy: %v", err)
	}
	p.approvals.answer(t, "alice", ApprovalApproved, p.clock.get())
	if got, err := call(); err != nil || got != "ran" {
		t.Errorf("legacy after the yes: %q %v", got, err)
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
