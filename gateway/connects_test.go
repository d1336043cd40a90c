package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// talker is a server that says on its stream what the test wants.
type talker struct {
	*raw
	say chan string // data of a line of the log
}

func newTalker(t testing.TB) *talker {
	s := &talker{say: make(chan string)}
	s.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body)); {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for {
				select {
				case <-r.Context().Done():
					return
				case text := <-s.say:
					io.WriteString(w, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"`+text+`"}}`+"\n\n")
					w.(http.Flusher).Flush()
				}
			}
		case m.Method == wire.MethodInitialize:
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"logging":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case m.Method == wire.MethodToolsList:
			result(w, body, `{"tools":[`+addTool+`]}`)
		case m.Kind == wire.Request:
			result(w, body, `{"content":[{"type":"text","text":"ran"}]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return s
}

// openEvents opens a stream of events; it ends with the test.
func (r *rig) openEvents(method, url, body string, header ...string) *wire.EventReader {
	r.t.Helper()
	ctx, leave := context.WithTimeout(context.Background(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.http.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { leave(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("the stream was answered with %d", resp.StatusCode)
	}
	return wire.NewEventReader(resp.Body, 1<<20)
}

// until reads events up to the one that holds text, and returns all data on the way.
func until(t testing.TB, in *wire.EventReader, text string) (all string) {
	t.Helper()
	for !strings.Contains(all, text) {
		ev, err := in.Next()
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		all += string(ev.Data) + "\n"
	}
	return all
}

// watchedPolicy tells of servers that callers were kept from.
type watchedPolicy struct {
	*PolicyGuard
	barred chan string
}

func (p *watchedPolicy) Connects(ctx context.Context, c *Call, server string) *Refusal {
	refusal := p.PolicyGuard.Connects(ctx, c, server)
	if refusal != nil {
		select {
		case p.barred <- server:
		default:
		}
	}
	return refusal
}

type connectRig struct {
	*rig
	policy *PolicyGuard
	barred chan string
	a, b   *talker
}

// forbidB keeps the group support from the server b.
const forbidB = `forbid (principal in Group::"support", action == Action::"connect", resource == Server::"b");`

func newConnectRig(t *testing.T) *connectRig {
	p := &connectRig{policy: NewPolicyGuard(nil, nil, toolscan.New(), nil, time.Now), barred: make(chan string, 1), a: newTalker(t), b: newTalker(t)}
	p.rule(t, "bob")
	p.rig = newRig(t, []Server{at("a", p.a.URL), at("b", p.b.URL)}, func(_ *Config, d *Deps) {
		d.Guards.Policy = &watchedPolicy{p.policy, p.barred}
	})
	return p
}

// rule puts the rule in force for the members of the group.
func (p *connectRig) rule(t *testing.T, members ...string) {
	set, problems := policy.Compile(policy.Options{Files: []policy.File{{Name: "x.cedar", Text: []byte(forbidB)}}})
	if set == nil {
		t.Fatal(problems)
	}
	p.policy.SetRules(PolicyRules{Set: set, Groups: map[string][]string{"support": members}})
}

func (p *connectRig) all(user string) []string {
	return []string{"Authorization", "Bearer " + p.as.token(p.t, p.url+"/mcp", user, nil)}
}

// TestGTG5_TheAggregateAsksForEachServer: a user who may not connect to a server has
// nothing of it at the aggregate, and the server never hears of him.
func TestGTG5_TheAggregateAsksForEachServer(t *testing.T) {
	p := newConnectRig(t)
	url := p.url + "/mcp"
	bob := p.all("bob")
	session := append([]string{"Mcp-Session-Id", p.do(http.MethodPost, url, initialize, bob...).header.Get("Mcp-Session-Id")}, bob...)
	if list := p.do(http.MethodPost, url, listTools, session...).body; !strings.Contains(list, "a__add") || strings.Contains(list, "b__") {
		t.Errorf("bob's list: %s", list)
	}
	call := p.do(http.MethodPost, url, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"b__add","arguments":{}}}`, session...)
	made := p.do(http.MethodPost, url, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"none__add","arguments":{}}}`, session...)
	if call.body != made.body {
		t.Errorf("the server is told from one that is not there: %s, %s", call.body, made.body)
	}
	in := p.openEvents(http.MethodGet, url, "", session...)
	p.a.say <- "first"
	if got := until(t, in, "first"); strings.Contains(got, "of b") {
		t.Error(got)
	}
	body, header := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
	in = p.openEvents(http.MethodPost, url, body, append(header, bob...)...)
	until(t, in, "acknowledged")
	if offers := p.g.Describe(t.Context(), "bob", url); len(offers) != 2 || offers[0].Tools == nil || offers[1].Tools != nil {
		t.Errorf("bob's consent page: %+v", offers)
	}
	body, header = modern("tools/list", "", "")
	if list := p.do(http.MethodPost, url, body, append(header, bob...)...).body; !strings.Contains(list, "a__add") || strings.Contains(list, "b__") {
		t.Errorf("bob's list in the modern era: %s", list)
	}
	if n := p.b.count(); n != 0 {
		t.Errorf("%d requests reached a server that bob may not connect to; the last: %+v", n, p.b.last())
	}

	alice := p.all("alice")
	if list := p.do(http.MethodPost, url, listTools, alice...).body; !strings.Contains(list, "a__add") || !strings.Contains(list, "b__add") {
		t.Errorf("alice's list: %s", list)
	}
}

// TestGTG5_WhoMayNotConnectHasNothing: at the server's own endpoint, too, whatever
// the message is.
func TestGTG5_WhoMayNotConnectHasNothing(t *testing.T) {
	p := newConnectRig(t)
	bob := []string{"Authorization", "Bearer " + p.token("b", "bob")}
	for _, body := range []string{initialize, listTools, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"test://a"}}`, `{"jsonrpc":"2.0","id":3,"method":"ping"}`} {
		if a := p.do(http.MethodPost, p.resource("b"), body, bob...); !strings.Contains(a.body, sayDenied) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for _, body := range []string{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, `{"jsonrpc":"2.0","id":9,"result":{}}`} {
		if a := p.do(http.MethodPost, p.resource("b"), body, bob...); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := p.do(http.MethodGet, p.resource("b"), "", append([]string{"Accept", "text/event-stream"}, bob...)...); a.status != http.StatusForbidden {
		t.Errorf("the stream: %d %s", a.status, a.body)
	}
	if n := p.b.count(); n != 0 {
		t.Errorf("%d requests reached the server; the last: %+v", n, p.b.last())
	}
	if a := p.post("b", "alice", listTools); !strings.Contains(a.body, "add") {
		t.Errorf("alice: %d %s", a.status, a.body)
	}
}

// TestGTG5_OpenStreamsHeedNewRules: what a server says once the rules keep its
// listener from it is told to nobody.
func TestGTG5_OpenStreamsHeedNewRules(t *testing.T) {
	p := newConnectRig(t)
	url, alice := p.url+"/mcp", p.all("alice")
	session := append([]string{"Mcp-Session-Id", p.do(http.MethodPost, url, initialize, alice...).header.Get("Mcp-Session-Id")}, alice...)
	in := p.openEvents(http.MethodGet, url, "", session...)
	p.b.say <- "before"
	until(t, in, "before")
	p.rule(t, "alice")
	p.b.say <- "after"
	select { // judged before the next thing is said
	case <-p.barred:
	case <-time.After(time.Minute):
		t.Fatal("the notification was not judged")
	}
	p.a.say <- "end"
	if got := until(t, in, "end"); strings.Contains(got, "after") {
		t.Error(got)
	}
}

// TestGTG5_OpenStreamsOfAServerEnd: the same where the server's stream passes.
func TestGTG5_OpenStreamsOfAServerEnd(t *testing.T) {
	p := newConnectRig(t)
	in := p.openEvents(http.MethodGet, p.resource("b"), "", "Authorization", "Bearer "+p.token("b", "alice"))
	p.b.say <- "before"
	until(t, in, "before")
	p.rule(t, "alice")
	p.b.say <- "after"
	for {
		ev, err := in.Next()
		if err != nil {
			break // the stream has ended
		}
		if len(ev.Data) > 0 {
			t.Fatalf("%s", ev.Data)
		}
	}
}

// TestGTG5_WhatCannotBeDecidedConnectsNobody: a policy guard that does not know who
// asks keeps everybody out.
func TestGTG5_WhatCannotBeDecidedConnectsNobody(t *testing.T) {
	p := newConnectRig(t)
	g := NewPolicyGuard(nil, noPeople{}, nil, nil, time.Now)
	if refusal := g.Connects(t.Context(), &Call{Caller: Caller{User: "alice"}}, "a"); refusal == nil || refusal.Rule != ruleUnknown {
		t.Errorf("%+v", refusal)
	}
	if refusal := p.policy.Connects(t.Context(), &Call{Caller: Caller{User: "alice"}}, "a"); refusal != nil {
		t.Errorf("%+v", refusal)
	}
}

// noPeople cannot be asked.
type noPeople struct{}

func (noPeople) Person(context.Context, string) (Person, error) {
	return Person{}, kidoban.Errorf(kidoban.KindUnreachable, "the store is away")
}
