//lint:file-ignore SA1019 roots are deprecated, not gone: servers and clients use them.

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// TestGPX2_ServersHearOfTheProgressTheyAskedFor: what a client says of its progress
// with a question reaches the server that put it, under that server's token, for two
// users at once, at a server's own endpoint and at that of all.
func TestGPX2_ServersHearOfTheProgressTheyAskedFor(t *testing.T) {
	r := newRig(t, hearingServers(t), withSandbox(t))
	var wg sync.WaitGroup
	for _, user := range []string{"alice", "bob"} {
		for path, servers := range map[string][]string{"/s/own/mcp": {""}, "/s/old/mcp": {""}, "/s/web/mcp": {""}, "/mcp": {"own__", "old__", "web__"}} {
			_, s := hearingClient(t, r, path, user)
			for _, server := range servers {
				for token, want := range map[string]string{"": "7 0.5 of " + user, "p-1": "p-1 0.5 of " + user} {
					wg.Go(func() {
						got := callText(t, s, server+"work", map[string]any{"text": token}, nil)
						if !strings.Contains(got, want) || strings.Count(got, user) != strings.Count(got, " of ") {
							t.Errorf("%s at %s%s: the server heard %q", user, path, server, got)
						}
					})
				}
				wg.Wait() // of one process, calls of one session at a time are its own questions
			}
		}
	}
	_, s := hearingClient(t, r, "/s/shared/mcp", "alice")
	if got := callText(t, s, "work", map[string]any{"text": ""}, nil); got != "7 0.5 of alice" {
		t.Errorf("the shared server heard %q", got)
	}
	m := connect(t, r, "own", "carol", "modern", &mcp.ClientOptions{ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		if len(req.Params.Meta) != 0 {
			t.Errorf("a modern client was asked for progress: %v", req.Params.Meta)
		}
		return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
	}})
	if res, err := m.CallTool(t.Context(), &mcp.CallToolParams{Name: "plain", Arguments: map[string]any{"text": ""}}); err != nil || res.IsError {
		t.Errorf("a modern client: %+v %v", res, err)
	}
}

// TestGPX2_GPX5_ServersHearThatRootsChanged: a legacy server that serves one client
// alone hears that the client's roots changed, and may ask which they are on the
// client's stream. Nobody else's server does, nor one that several share.
func TestGPX2_GPX5_ServersHearThatRootsChanged(t *testing.T) {
	r := newRig(t, hearingServers(t), withSandbox(t))
	for path, servers := range map[string][]string{"/s/own/mcp": {""}, "/s/old/mcp": {""}, "/mcp": {"own__", "old__", "web__", "shared__"}} {
		t.Run(path, func(t *testing.T) {
			alice, a := hearingClient(t, r, path, "alice"+path)
			_, b := hearingClient(t, r, path, "bob"+path)
			for _, server := range servers { // relationships that are to be told begin
				for _, s := range []*mcp.ClientSession{a, b} {
					if got := callText(t, s, server+"roots", map[string]any{"text": ""}, nil); got != "none" {
						t.Fatalf("%s: %q", server, got)
					}
				}
			}
			want := "file:///first-of-alice" + path + " file:///second "
			told := make(chan string, 1)
			for _, server := range servers {
				if server == "shared__" {
					continue
				}
				eventually(t, server+": the new roots", told, func(i int) { // the client's stream may just begin
					alice.RemoveRoots("file:///second")
					alice.AddRoots(&mcp.Root{URI: "file:///second"})
					if got := callText(t, a, server+"roots", map[string]any{"text": ""}, nil); got == want {
						hand(told, got)
					} else if i > 20 && got == "none" {
						t.Fatalf("%s was told nothing", server)
					}
				})
				if got := callText(t, b, server+"roots", map[string]any{"text": ""}, nil); got != "none" {
					t.Errorf("%s: bob's server was told of %q", server, got)
				}
			}
			if slices.Contains(servers, "shared__") {
				if got := callText(t, a, "shared__roots", map[string]any{"text": ""}, nil); got != "none" {
					t.Errorf("the shared server was told of %q", got)
				}
			}
		})
	}
}

// TestGPX2_GPX5_WhatClientsSayOfTheirOwnAccord: which notifications cross which bridge,
// unharmed, and which end there. None reaches a process that another client uses.
func TestGPX2_GPX5_WhatClientsSayOfTheirOwnAccord(t *testing.T) {
	notes := map[string]string{
		"x/vendor":                   `{"n":12345678901234567890,"a":{"b":[1.0]}}`,
		"roots/list_changed":         `{"_meta":{"x/y":1}}`,
		"progress":                   `{"progressToken":7,"progress":1}`, // of no question
		"initialized":                `{}`,
		"tasks/status":               `{"taskId":"t","status":"working"}`,
		"message":                    `{"level":"info","data":"x"}`,
		"tools/list_changed":         `{}`,
		"resources/list_changed":     `{}`,
		"prompts/list_changed":       `{}`,
		"resources/updated":          `{"uri":"x://y"}`,
		"elicitation/complete":       `{"elicitationId":"e"}`,
		"subscriptions/acknowledged": `{}`,
		"cancelled":                  `{"requestId":99}`,
	}
	type way struct {
		path, client, server string
		passes               []string
	}
	for _, w := range []way{
		{"/s/legacy/mcp", "legacy", "legacy", []string{"roots/list_changed", "x/vendor"}},
		{"/s/modern/mcp", "legacy", "modern", nil},
		{"/s/legacy/mcp", "modern", "legacy", nil},
		{"/s/modern/mcp", "modern", "modern", []string{"x/vendor"}},
		{"/s/shared/mcp", "legacy", "shared", nil},
		{"/mcp", "legacy", "legacy", []string{"roots/list_changed"}},
		{"/mcp", "legacy", "modern", nil},
		{"/mcp", "modern", "legacy", nil},
		{"/mcp", "modern", "modern", nil},
	} {
		t.Run(w.client+" client, "+w.server+" server, "+w.path, func(t *testing.T) {
			shared := stdioOf(t, "shared", "stdio-plain", "legacy")
			shared.Shared = true
			r := newRig(t, []Server{stdioOf(t, "legacy", "stdio-plain", "legacy"), stdioOf(t, "modern", "stdio-plain", "modern"), shared}, withSandbox(t))
			tool := "heard"
			if w.path == "/mcp" {
				tool = w.server + "__heard"
			}
			heard := func(client, sid string) string {
				t.Helper()
				var a answer
				if w.client == "legacy" {
					a = r.asClient(w.path, "alice", client, sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+tool+`","arguments":{}}}`)
				} else {
					body, header := modern("tools/call", `"name":"`+tool+`","arguments":{}`, tool)
					a = r.asClient(w.path, "alice", client, "", body, header...)
				}
				var m struct {
					Result struct{ Content []struct{ Text string } }
				}
				if err := json.Unmarshal([]byte(a.body), &m); err != nil || len(m.Result.Content) != 1 {
					t.Fatalf("%d %s", a.status, a.body)
				}
				return m.Result.Content[0].Text
			}
			open := func(client string) string {
				if w.client == "modern" {
					return ""
				}
				return r.asClient(w.path, "alice", client, "", initializeWithRoots).header.Get("Mcp-Session-Id")
			}
			say := func(client, sid string) {
				t.Helper()
				for name, params := range notes {
					header := []string{}
					if w.client == "modern" {
						header = []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/" + name}
					}
					if a := r.asClient(w.path, "alice", client, sid, `{"jsonrpc":"2.0","method":"notifications/`+name+`","params":`+params+`}`, header...); a.status != http.StatusAccepted || a.body != "" {
						t.Errorf("%s: %d %s", name, a.status, a.body)
					}
				}
			}
			sid := open("one")
			before := heard("one", sid)
			say("one", sid)
			text := strings.TrimSpace(strings.TrimPrefix(heard("one", sid), before))
			var got []string
			for _, line := range strings.Fields(text) {
				name, _, _ := strings.Cut(strings.TrimPrefix(line, `{"jsonrpc":"2.0","method":"notifications/`), `"`)
				if got = append(got, name); !strings.HasSuffix(line, `"params":`+notes[name]+`}`) {
					t.Errorf("it arrived as %s", line)
				}
			}
			if slices.Sort(got); !slices.Equal(got, w.passes) {
				t.Errorf("passed %v, want %v", got, w.passes)
			}
			two := open("two") // another client of the user uses the process from now on
			before = heard("two", two)
			say("one", sid)
			say("two", two)
			if text := strings.TrimPrefix(heard("two", two), before); text != "" {
				t.Errorf("with two clients passed %s", text)
			}
		})
	}
}

// TestGPX2_OldServersOverHTTPHearNothingOfOthers: at the aggregate, over streamable
// HTTP, each user's session of a server hears what that user says.
func TestGPX2_OldServersOverHTTPHearNothingOfOthers(t *testing.T) {
	var mu sync.Mutex
	said, n := map[string][]string{}, 0 // by session
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.Contains(body, `"initialize"`):
			if n++; !strings.Contains(body, `"roots":{"listChanged":true}`) {
				t.Errorf("introduced itself with %s", body)
			}
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", n))
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"p","version":"1"}}`)
		case strings.Contains(body, "tools/call"):
			result(w, body, `{"content":[{"type":"text","text":"`+r.Header.Get("Mcp-Session-Id")+`"}]}`)
		default:
			sid := r.Header.Get("Mcp-Session-Id")
			said[sid] = append(said[sid], body)
			w.WriteHeader(http.StatusAccepted)
		}
	})
	old, other := at("old", up.URL), at("other", up.URL)
	old.Era, other.Era = "legacy", "legacy"
	var barred sync.Map
	r := newRig(t, []Server{old, other}, func(_ *Config, d *Deps) { d.Guards.Policy = connectsPolicy{&barred} })
	open := func(user, caps string) string {
		return r.asClient("/mcp", user, "c", "", strings.Replace(initializeWithRoots, `"roots":{"listChanged":true},`, caps, 1)).header.Get("Mcp-Session-Id")
	}
	at := func(user, sid, server string) string { // the server's session
		a := r.asClient("/mcp", user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+server+`__x","arguments":{}}}`)
		_, rest, _ := strings.Cut(a.body, `"text":"`)
		got, _, _ := strings.Cut(rest, `"`)
		return got
	}
	const note = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	count := func(sid string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range said[sid] {
			if s == note {
				n++
			}
		}
		return n
	}
	alice, bob, plain := open("alice", `"roots":{},`), open("bob", `"roots":{},`), open("carol", "")
	a1, a2, b1, c1 := at("alice", alice, "old"), at("alice", alice, "other"), at("bob", bob, "old"), at("carol", plain, "old")
	r.asClient("/mcp", "alice", "c", alice, note)
	r.asClient("/mcp", "carol", "c", plain, note) // who said that it has no roots
	r.asClient("/mcp", "alice", "c", "", note)    // nor has who opened no session
	if got := []int{count(a1), count(a2), count(b1), count(c1)}; !slices.Equal(got, []int{1, 1, 0, 0}) {
		t.Errorf("heard %v", got)
	}
	barred.Store("other", true)
	r.asClient("/mcp", "alice", "c", alice, note)
	if got := []int{count(a1), count(a2)}; !slices.Equal(got, []int{2, 1}) {
		t.Errorf("with a server that policy bars: %v", got)
	}
}

// connectsPolicy bars servers by name.
type connectsPolicy struct{ barred *sync.Map }

func (p connectsPolicy) Connects(_ context.Context, _ *Call, server string) *Refusal {
	if _, no := p.barred.Load(server); no {
		return refuse(http.StatusOK, wire.CodeInternal, "policy", "no")
	}
	return nil
}
func (connectsPolicy) Decide(context.Context, *Call) *Refusal { return nil }
func (connectsPolicy) List(_ context.Context, _ *Call, result wire.Raw) (wire.Raw, *Refusal) {
	return result, nil
}
func (connectsPolicy) Saw(context.Context, *Call, wire.Message) *Refusal { return nil }

// TestGPX2_QuestionsThatServersTakeBack: a client is told under the id it was asked
// by, its late answer reaches nobody, and neither does progress.
func TestGPX2_QuestionsThatServersTakeBack(t *testing.T) {
	r := newRig(t, []Server{stdioOf(t, "p", "stdio-plain", "legacy")}, withSandbox(t))
	for path, prefix := range map[string]string{"/s/p/mcp": "", "/mcp": "p__"} {
		user := "alice" + path
		sid := r.asClient(path, user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		next, leave := r.stream(path, user, sid, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+prefix+`withdraw","arguments":{}}}`)
		defer leave()
		asked := next()
		id := idOf(asked)
		if !strings.Contains(asked, `"_meta":{"progressToken":`+id+`}`) || !strings.HasPrefix(id, `"kidoban-`) {
			t.Fatalf("asked %s", asked)
		}
		say := func(body string) { r.asClient(path, user, "c", sid, body) }
		progress := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + id + `,"progress":1,"x":12345678901234567890}}`
		say(progress)
		if got := next(); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}` {
			t.Errorf("taken back with %s", got)
		}
		say(progress)
		say(`{"jsonrpc":"2.0","id":` + id + `,"result":{"action":"cancel"}}`)
		if path == "/mcp" { // where what is not of the specification ends
			continue
		}
		say(`{"jsonrpc":"2.0","method":"notifications/x/go"}`)
		done := next()
		if n := strings.Count(done, "notifications/progress"); n != 1 || !strings.Contains(done, `\"progressToken\":12345678901234567890,\"progress\":1,\"x\":12345678901234567890`) || strings.Contains(done, `\"id\":\"q\"`) {
			t.Errorf("the server heard %s", done)
		}
	}
}

// TestGPX5_GTG5_UpdatesOfPartsAreAskedOfPolicy: a server may name a part of what is
// followed; who may not read the part does not hear of it, on any way.
func TestGPX5_GTG5_UpdatesOfPartsAreAskedOfPolicy(t *testing.T) {
	const whole, secret, open = "test://all/", "test://all/secret", "test://all/open"
	touch := `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"touch","arguments":{"uris":["` + secret + `","` + open + `"]}}}`
	web := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			for _, uri := range []string{secret, open} {
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":%q}}\n\n", uri)
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(body, `"initialize"`):
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true}},"serverInfo":{"name":"p","version":"1"}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	shared, streams := stdioOf(t, "shared", "stdio-plain", "legacy"), at("web", web.URL)
	shared.Shared, streams.Era = true, "legacy"
	var rules string
	for _, server := range []string{"shared", "own", "web"} {
		rules += `forbid (principal in Group::"support", action == Action::"read", resource == Resource::"` + server + "/" + secret + "\");\n"
	}
	set, problems := policy.Compile(policy.Options{Files: []policy.File{{Name: "x.cedar", Text: []byte(rules)}}})
	if set == nil {
		t.Fatal(problems)
	}
	guard := NewPolicyGuard(nil, nil, toolscan.New(), nil, time.Now)
	guard.SetRules(PolicyRules{Set: set, Groups: map[string][]string{"support": {"bob"}}})
	r := newRig(t, []Server{shared, stdioOf(t, "own", "stdio-plain", "legacy"), streams}, withSandbox(t), func(_ *Config, d *Deps) { d.Guards.Policy = guard })
	for _, user := range []string{"alice", "bob"} {
		want := []string{secret, open}
		if user == "bob" {
			want = want[1:]
		}
		check := func(what, prefix string, next func() string) {
			t.Helper()
			for _, uri := range want {
				if got := next(); !strings.Contains(got, `"uri":"`+prefix+uri+`"`) {
					t.Errorf("%s, %s: got %s, want %s", what, user, got, uri)
				}
			}
		}
		for _, server := range []string{"shared", "own"} {
			path := "/s/" + server + "/mcp"
			sid := r.asClient(path, user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
			if a := r.asClient(path, user, "c", sid, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"`+whole+`"}}`); a.status != http.StatusOK || strings.Contains(a.body, "error") {
				t.Fatalf("%d %s", a.status, a.body)
			}
			next, leave := r.stream(path, user, sid, "") // its head says that it listens
			r.asClient(path, user, "c", sid, touch)
			check(server+", legacy client", "", next)
			leave()
			body, header := modern("subscriptions/listen", `"notifications":{"resourceSubscriptions":["`+server+"+"+whole+`"]}`, "")
			next, leave = r.stream("/mcp", user, "", body, header...)
			if ack := next(); !strings.Contains(ack, server+"+"+whole) {
				t.Fatal(ack)
			}
			r.asClient(path, user, "c", sid, touch)
			check(server+", modern client of the aggregate", server+"+", next)
			leave()
		}
		sid := r.asClient("/s/web/mcp", user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
		next, leave := r.stream("/s/web/mcp", user, sid, "", "MCP-Protocol-Version", "2025-11-25")
		check("what passes", "", next)
		leave()
	}
}

// TestGPX5_ProgressReachesItsCallAlone: two users, one of them with two calls, under way
// at once with tokens that are alike: a number and a string, over each bridge. What a
// server says of a call, in whatever stream, reaches that call alone, under its own
// token; what it says of one that is over, nobody.
func TestGPX5_ProgressReachesItsCallAlone(t *testing.T) {
	for _, server := range []string{"legacy", "modern"} {
		for _, transport := range []string{"stdio", "http"} {
			for _, client := range []string{"legacy", "modern"} {
				for _, path := range []string{"/s/x/mcp", "/mcp"} {
					if transport == "http" && client == server && (path == "/s/x/mcp" || client == "modern") {
						continue // messages pass: each stream is its own call's
					}
					t.Run(client+" client, "+server+" server, "+transport+", "+path, func(t *testing.T) {
						s, tool := stdioOf(t, "x", "stdio-plain", server), "steps"
						s.Shared = true
						if transport == "http" {
							s = at("x", stepping(t, server == "modern").URL)
							s.Era = server
						}
						if path == "/mcp" {
							tool = "x__steps"
						}
						r := newRig(t, []Server{s}, withSandbox(t))
						var wg sync.WaitGroup
						for i, c := range []struct{ user, token string }{{"alice", "7"}, {"bob", "7"}, {"alice", `"7"`}} {
							who := fmt.Sprint(c.user, " ", i)
							args := `"name":"` + tool + `","arguments":{"uris":["` + who + `"]}`
							body, header := modern("tools/call", args, tool)
							body = strings.Replace(body, `"_meta":{`, `"_meta":{"progressToken":`+c.token+`,`, 1)
							sid := ""
							if client == "legacy" {
								sid = r.asClient(path, c.user, "c", "", initializeWithRoots).header.Get("Mcp-Session-Id")
								body, header = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{`+args+`,"_meta":{"progressToken":`+c.token+`}}}`, nil
							}
							wg.Go(func() {
								got := r.asClient(path, c.user, "c", sid, body, header...).body
								n := 1
								if transport == "http" { // once in each stream of the user, as long as the call lasts
									n = strings.Count(got, `"message":"`+who+` in`)
								}
								if strings.Count(got, "notifications/progress") != n || n < 1 || n > 2 || strings.Count(got, `"progressToken":`+c.token+`,"progress":1,"message":"`+who) != n || !strings.Contains(got, "end of "+who) || strings.Contains(got, "late") {
									t.Errorf("%s was told %s", who, got)
								}
							})
						}
						wg.Wait()
					})
				}
			}
		}
	}
}
