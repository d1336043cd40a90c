package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
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
