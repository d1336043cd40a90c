package gateway

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// TestGTG5_RequestsWithoutAnIdAreRefused: many servers do what a message without
// an id says, so a call in the form of a notification must not go round the guards.
func TestGTG5_RequestsWithoutAnIdAreRefused(t *testing.T) {
	var calls atomic.Int64
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, "initialize"):
			w.Header().Set("Mcp-Session-Id", "s-1")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case strings.Contains(body, "tools/call"), strings.Contains(body, "resources/read"):
			calls.Add(1)
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Deny: []string{"s/drop_*", "s/file:*"}}}}, nil, func(c *Config, _ *Deps) { c.Servers = []Server{at("s", up.URL)} })
	sid := p.post("s", "alice", initialize).header.Get("Mcp-Session-Id")
	for _, body := range []string{
		`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"drop_table","arguments":{}}}`,
		`{"jsonrpc":"2.0","method":"resources/read","params":{"uri":"file:///etc/passwd"}}`,
	} {
		for era, header := range map[string][]string{
			"legacy":             {"MCP-Protocol-Version", "2025-11-25", "Mcp-Session-Id", sid},
			"without a session":  {},
			"modern by its head": {"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "drop_table"},
		} {
			if a := p.post("s", "alice", body, header...); a.status != http.StatusBadRequest {
				t.Errorf("%s: %s: %d %s", era, body, a.status, a.body)
			}
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls went round the guards", n)
	}
	if a := p.post("s", "alice", `{"jsonrpc":"2.0","method":"notifications/vendor/thing","params":{}}`, "Mcp-Session-Id", sid); a.status != http.StatusAccepted {
		t.Errorf("a true notification: %d %s", a.status, a.body)
	}
}

// TestGTG5_ACompletionRefersToOneThing: policy would judge the prompt that a
// reference names, and the server complete for the resource beside it.
func TestGTG5_ACompletionRefersToOneThing(t *testing.T) {
	var asked atomic.Int64
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, "initialize"):
			w.Header().Set("Mcp-Session-Id", "s-1")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"completions":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case strings.Contains(body, "completion/complete"):
			asked.Add(1)
			result(w, body, `{"completion":{"values":[]}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	p := newRig(t, []Server{at("s", up.URL)})
	sid := p.post("s", "alice", initialize).header.Get("Mcp-Session-Id")
	ask := func(ref string) answer {
		return p.post("s", "alice", `{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{"ref":`+ref+`,"argument":{"name":"a","value":"b"}}}`, "MCP-Protocol-Version", "2025-11-25", "Mcp-Session-Id", sid)
	}
	for _, ref := range []string{`{"type":"ref/resource","name":"harmless","uri":"file:///etc/{x}"}`, `{"type":"ref/prompt","name":"harmless","uri":"file:///etc/{x}"}`, `{"type":"ref/resource","name":"harmless"}`, `{"type":"ref/prompt","uri":"file:///etc/{x}"}`,
		`{"type":"ref/prompt","name":"harmless","Name":"other"}`, `{"type":"ref/prompt","name":"harmless","URI":"file:///etc/{x}"}`, `{"type":"ref/prompt","name":"harmless","Type":"ref/resource"}`} {
		if a := ask(ref); !strings.Contains(a.body, "-32602") {
			t.Errorf("%s: %s", ref, a.body)
		}
	}
	if asked.Load() != 0 {
		t.Error("the server was asked")
	}
	for _, ref := range []string{`{"type":"ref/resource","uri":"file:///etc/{x}"}`, `{"type":"ref/prompt","name":"harmless"}`, `{"type":"ref/prompt","name":"harmless","title":"T","uri":null}`} {
		if a := ask(ref); !strings.Contains(a.body, "values") {
			t.Errorf("%s: %s", ref, a.body)
		}
	}
}

// TestTR17_GTG6_AStateBelongsToItsServer: at the aggregate, two servers may have a
// tool of one name. The state that one of them gave out, of a call that needed
// nobody's yes, opens no call of the other.
func TestTR17_GTG6_AStateBelongsToItsServer(t *testing.T) {
	serve := func(server string, ran *atomic.Int64) *raw {
		return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
			switch {
			case strings.Contains(body, "server/discover"):
				result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
			case strings.Contains(body, "tools/list"):
				result(w, body, `{"resultType":"complete","tools":[`+sendMail+`],"ttlMs":0,"cacheScope":"private"}`)
			case strings.Contains(body, "tools/call") && server == "evil":
				result(w, body, `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"mode":"form","message":"?"}}},"requestState":"any"}`)
			case strings.Contains(body, "tools/call"):
				ran.Add(1)
				result(w, body, `{"resultType":"complete","content":[{"type":"text","text":"ran"}]}`)
			default:
				io.WriteString(w, "{}")
			}
		})
	}
	var ran atomic.Int64
	evil, mail := serve("evil", &ran), serve("mail", &ran)
	p := newPolicyRig(t, policy.Options{Flow: policy.Allow, Rules: []policy.Rule{{Ask: []string{"mail/send_mail"}}}}, nil,
		func(c *Config, _ *Deps) { c.Servers = []Server{at("evil", evil.URL), at("mail", mail.URL)} },
		func(_ *Config, d *Deps) { d.Guards.Pins = nil }) // which hold the second tool of a name until a person approves
	all := func(tool, more string) answer {
		body, header := modern("tools/call", `"name":"`+tool+`","arguments":{"to":"x"}`+more, tool)
		return p.do("POST", p.url+"/mcp", body, append([]string{"Authorization", "Bearer " + p.as.token(t, p.url+"/mcp", "alice", nil)}, header...)...)
	}
	if a := all("mail__send_mail", ""); ran.Load() != 0 || !strings.Contains(a.body, "kidoban-approval") {
		t.Fatalf("the call waits for nobody: %s", a.body)
	}
	a := all("evil__send_mail", "")
	state := between(a.body, `"requestState":"`, `"`)
	if state == "" {
		t.Fatalf("no state: %s", a.body)
	}
	if a = all("mail__send_mail", `,"inputResponses":{"a":{"action":"accept"}},"requestState":"`+state+`"`); ran.Load() != 0 || a.status != http.StatusBadRequest {
		t.Errorf("the state of one server opened a call of another, without a person's yes: %d %s", a.status, a.body)
	}
}

// notebook keeps the notes of sessions.
type notebook struct {
	notesHere
	longest atomic.Int64
}

func (n *notebook) Remember(ctx context.Context, key, value string, expires time.Time) error {
	if l := int64(len(value)); l > n.longest.Load() {
		n.longest.Store(l)
	}
	return n.notesHere.Remember(ctx, key, value, expires)
}

func (n *notebook) Amend(ctx context.Context, key, was, value string, now, expires time.Time) (bool, error) {
	if l := int64(len(value)); l > n.longest.Load() {
		n.longest.Store(l)
	}
	return n.notesHere.Amend(ctx, key, was, value, now, expires)
}

// TestGPX3_SessionsRememberLittle: what a client sets in its session is written down
// for all replicas, so it is a level that exists and URIs of usual length, and few.
func TestGPX3_SessionsRememberLittle(t *testing.T) {
	notes := &notebook{notesHere: notesHere{all: map[string]noteHere{}}}
	o := &offer{tools: echoTool, prompts: `{"name":"ask"}`, instructions: `"hello"`}
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, `"resources/subscribe"`) || strings.Contains(body, `"logging/setLevel"`) {
			result(w, body, `{}`)
			return
		}
		o.serve(w, r, body)
	})
	r := newRig(t, []Server{at("a", up.URL)}, func(_ *Config, d *Deps) { d.Notes = notes })
	token := r.as.token(t, r.url+"/mcp", "alice", nil)
	post := func(body string, header ...string) answer {
		return r.do("POST", r.url+"/mcp", body, append([]string{"Authorization", "Bearer " + token}, header...)...)
	}
	sid := post(initialize).header.Get("Mcp-Session-Id")
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"` + strings.Repeat("x", 1<<20) + `"}}`,
		`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"a+test://` + strings.Repeat("x", 1<<20) + `"}}`,
	} {
		if code, _ := post(body, "Mcp-Session-Id", sid).rpc(t); code != wire.CodeInvalidParams {
			t.Errorf("%.60s: %d", body, code)
		}
	}
	for i := range 2 * maxSubs {
		uri := "a+test://" + strconv.Itoa(i) + strings.Repeat("y", maxSubURI-20)
		if a := post(`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"`+uri+`"}}`, "Mcp-Session-Id", sid); strings.Contains(a.body, `"result"`) != (i < maxSubs) {
			t.Fatalf("resource %d: %d %s", i, a.status, a.body)
		}
	}
	if got, most := notes.longest.Load(), int64(maxSubs*(maxSubURI+64)); got > most || got < most/2 {
		t.Errorf("a session's note has %d bytes, at most %d are expected", got, most)
	}
}

// TestGPX3_RecordsAreShort: a name of a megabyte is no megabyte in the audit log.
func TestGPX3_RecordsAreShort(t *testing.T) {
	sink := &memorySink{}
	j, err := OpenJournal(t.Context(), sink, "a")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []Server{at("one", newRaw(t, (&offer{tools: echoTool, prompts: `{"name":"ask"}`, instructions: `""`}).serve).URL)}, func(_ *Config, d *Deps) { d.Journal = j })
	for _, params := range []string{`{"name":"` + strings.Repeat("é", 1<<19) + `"}`, `{"uri":"` + strings.Repeat("x", 1<<20) + `"}`} {
		r.post("one", "alice", `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":`+params+`}`)
	}
	closeJournal(t, j)
	for _, e := range sink.entries() {
		if len(e.Body) > 4<<10 || !utf8.Valid(e.Body) {
			t.Errorf("a record has %d bytes: %.200s", len(e.Body), e.Body)
		}
	}
	if len(sink.entries()) != 2 {
		t.Errorf("%d records", len(sink.entries()))
	}
}

// TestGPX3_DefinitionsAreBounded: a server whose list has no end, and a client that
// follows every page, take no more memory than a list may have; what one user sees
// does not cost the others theirs.
func TestGPX3_DefinitionsAreBounded(t *testing.T) {
	k := catalog{tools: map[string]map[string]listedTool{}}
	page := func(n, length int) wire.Raw {
		return wire.Raw(`{"tools":[{"name":"t` + strconv.Itoa(n) + `","description":"` + strings.Repeat("x", length) + `"}],"nextCursor":"more"}`)
	}
	for n := range 200 {
		k.learn("alice", n == 0, page(n, 200<<10))
	}
	k.learn("alice", false, page(1000, maxPinned))
	if def, _ := k.tool("alice", "t1000"); def != nil {
		t.Error("a definition that is too long to be pinned is kept")
	}
	if k.size > maxViewBytes || k.size < maxViewBytes/2 {
		t.Errorf("a view has %d bytes", k.size)
	}
	for i := range 20 {
		for n := range 40 {
			k.learn("user-"+strconv.Itoa(i), n == 0, page(n, 200<<10))
		}
		if def, _ := k.tool("user-"+strconv.Itoa(i), "t0"); def == nil {
			t.Errorf("user %d has no definitions", i)
		}
	}
	all := 0
	for _, view := range k.tools {
		for _, tool := range view {
			all += len(tool.def)
		}
	}
	if all != k.size || all > maxAllBytes {
		t.Errorf("%d bytes are kept, %d counted", all, k.size)
	}
	whole := wire.DropMember(page(0, 100), "nextCursor")
	for range 3 { // the same list again takes no more
		k.learn("user-19", true, whole)
	}
	if def, _ := wire.Lookup(whole, "tools"); k.sizes["user-19"] != len(def)-len("[]") {
		t.Errorf("%d bytes for one tool", k.sizes["user-19"])
	}
}

// TestGPX3_PagesOfOneAreTheToolsOfAll: who reads the first page of a list does not take
// the tools of the others from those who share the view; what a server no longer lists
// goes with the next whole list but one.
func TestGPX3_PagesOfOneAreTheToolsOfAll(t *testing.T) {
	k := catalog{tools: map[string]map[string]listedTool{}}
	page := func(first bool, next string, names ...string) {
		list := wire.Raw(`{"tools":[{"name":"` + strings.Join(names, `"},{"name":"`) + `"}]}`)
		if next != "" {
			list = wire.SetMember(list, "nextCursor", wire.Quote(next))
		}
		k.learn("", first, list)
	}
	knows := func(when string, names ...string) {
		t.Helper()
		for _, name := range []string{"a", "b", "c"} {
			if def, sum := k.tool("", name); (def != nil) != slices.Contains(names, name) || (sum != "") != (def != nil) {
				t.Errorf("%s: %s: %s", when, name, def)
			}
		}
	}
	page(true, "2", "a")
	page(false, "", "b", "c")
	knows("a list in two pages", "a", "b", "c")
	for range 5 {
		page(true, "2", "a")
		knows("a client that reads the first page", "a", "b", "c")
	}
	page(false, "", "b")
	page(true, "2", "a")
	page(true, "2", "a")
	page(false, "", "b")
	knows("two lists at once, without c", "a", "b")
	page(false, "", "b")
	knows("the end of the other one", "a", "b")
	page(true, "", "c")
	knows("a list in one page", "c")
	if def, _ := k.tool("", "c"); k.sizes[""] != len(def) || k.size != len(def) {
		t.Errorf("%d and %d bytes", k.sizes[""], k.size)
	}
}

// TestGPX3_PinsAreBounded: a server that lists something new each time does not fill
// the database; what there is no room for is not shown.
func TestGPX3_PinsAreBounded(t *testing.T) {
	store := &pinMemory{}
	now := time.Now() // stands still, so that the pins are not read anew
	guard := NewPinGuard(store, TrustFirstUse, toolscan.New(), nil, nil, func() time.Time { return now })
	x, err := guard.index(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxPins - 1 {
		x.take(pinKey{toolscan.KindResource, strconv.Itoa(i), "0"}, PinApproved)
	}
	c := &Call{Server: "s"}
	c.Message.Method = wire.MethodResourcesList
	list := wire.Raw(`{"resources":[{"uri":"test://a","name":"a"},{"uri":"test://b","name":"b"}]}`)
	for range 2 {
		got, refusal := guard.List(t.Context(), c, list)
		if refusal != nil || string(got) != `{"resources":[{"uri":"test://a","name":"a"}]}` {
			t.Errorf("%s %v", got, refusal)
		}
	}
	if n := len(store.pins); n != 1 {
		t.Errorf("%d pins are stored", n)
	}
}

// TestGTG6_ThePageNamesTheToolAlone: what else an agent puts into a call's params is
// not shown as a part of the tool's name.
func TestGTG6_ThePageNamesTheToolAlone(t *testing.T) {
	p := newPolicyRig(t, policy.Options{Rules: []policy.Rule{{Ask: []string{"s/send_mail"}}}}, map[string]string{"s": sendMail})
	p.post("s", "alice", `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"send_mail","uri":" (dry run, sends nothing)","arguments":{}}}`)
	list, err := p.approvals.WaitingApprovals(t.Context(), "alice", p.clock.get())
	if err != nil || len(list) != 1 || list[0].Tool != "send_mail" {
		t.Errorf("%+v %v", list, err)
	}
}

// TestGPX5_SharedServersTellNobodyOfOthers: what a server that several users share
// says of somebody's task or log reaches none of the others.
func TestGPX5_SharedServersTellNobodyOfOthers(t *testing.T) {
	d := &duplex{shared: true, pending: map[string]*pending{}}
	var got []string
	for range 2 {
		defer d.subscribe(subscriber{handler: handler{note: func(m wire.Message) { got = append(got, m.Method) }}})()
	}
	for _, method := range []string{"notifications/tasks/status", wire.MethodLogMessage, "notifications/elicitation/complete", "notifications/vendor", wire.MethodToolsChanged} {
		d.note(wire.Message{Kind: wire.Notification, Method: method, Params: wire.Raw(`{"taskId":"t-1","statusMessage":"of alice"}`)})
	}
	d.note(wire.Message{Kind: wire.Notification, Method: wire.MethodProgress, Params: wire.Raw(`{"progressToken":"k9","progress":1}`)}) // of a call that is over
	if len(got) != 2 || got[0] != wire.MethodToolsChanged || got[1] != wire.MethodToolsChanged {
		t.Errorf("%v", got)
	}
	got = nil
	bob := &pending{id: "1", asking: asking{h: handler{note: func(m wire.Message) { got = append(got, "bob's "+m.Method) }}}}
	d.pending["1"], d.calls.calls = bob, []*asking{&bob.asking} // has the only call under way
	for _, method := range []string{"notifications/tasks/status", "notifications/elicitation/complete", "notifications/vendor", wire.MethodLogMessage} {
		d.note(wire.Message{Kind: wire.Notification, Method: method, Params: wire.Raw(`{"taskId":"t-1","statusMessage":"of alice"}`)})
	}
	if len(got) != 1 || got[0] != "bob's "+wire.MethodLogMessage {
		t.Errorf("%v", got)
	}
}

// TestGPX5_PartsOfFollowedResourcesAreTold: a server may name what changed below the
// resource that was subscribed to, and nothing else.
func TestGPX5_PartsOfFollowedResourcesAreTold(t *testing.T) {
	s := &session{}
	s.wish.follow("one", "file:///a")
	s.wish.follow("one", "notes://all/")
	for uri, want := range map[string]bool{"file:///a": true, "file:///a/b.txt": true, "file:///a#1": true, "file:///a?x=1": true, "notes://all/1": true,
		"file:///ab": false, "file:///": false, "file:///b": false, "notes://all": false, "": false} {
		if s.followed("one", uri) != want || s.followed("two", uri) {
			t.Errorf("%s: %v", uri, !want)
		}
	}
	for i := range maxSubs {
		s.wish.follow("two", strconv.Itoa(i))
	}
	if !s.full("two", "more") || s.full("two", "1") || s.full("one", "file:///a") {
		t.Error("a session that is full takes more, or not what it has")
	}
}

// TestGTG4_NotificationsOfNoRequestAreGuarded: on the stream of a session, too, texts
// are cleaned and tasks are sealed.
func TestGTG4_NotificationsOfNoRequestAreGuarded(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"a\\u200bb\",\"taskId\":\"t-1\"}}\n\n"+
				"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks/status\",\"params\":{\"taskId\":\"t-1\",\"status\":\"working\"}}\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.Contains(body, "initialize\""):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"s","version":"1"}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	r := newRig(t, []Server{at("a", up.URL)}, func(_ *Config, d *Deps) { d.Guards.Results = NewResultGuard(toolscan.New(), nil) })
	token := r.as.token(t, r.url+"/mcp", "alice", nil)
	sid := r.do("POST", r.url+"/mcp", initialize, "Authorization", "Bearer "+token).header.Get("Mcp-Session-Id")
	ctx, leave := context.WithTimeout(t.Context(), time.Minute)
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", sid)
	resp, err := r.http.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := wire.NewEventReader(resp.Body, 1<<20)
	for n := 0; n < 2; {
		ev, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch text := string(ev.Data); {
		case strings.Contains(text, "notifications/message"):
			if n++; !strings.Contains(text, `"data":"ab"`) {
				t.Error(text)
			}
		case strings.Contains(text, "notifications/tasks/status"):
			if n++; strings.Contains(text, "t-1") || !strings.Contains(text, "working") {
				t.Error(text)
			}
		}
	}
}
