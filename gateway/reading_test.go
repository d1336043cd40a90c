package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGPX1_E33_OneStrictReading(t *testing.T) {
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)})
	for name, body := range map[string]string{
		"duplicate":          `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{}}`,
		"deep duplicate":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}`,
		"escaped duplicate":  `{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"a","\u006eame":"b"}}`,
		"other case":         `{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}`,
		"params other case":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`,
		"batch":              `[` + listTools + `]`,
		"invalid UTF-8":      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"x\":\"\xff\"}}",
		"two messages":       listTools + listTools,
		"no version":         `{"id":1,"method":"tools/list"}`,
		"version 1":          `{"jsonrpc":"1.0","id":1,"method":"tools/list"}`,
		"array params":       `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}`,
		"object id":          `{"jsonrpc":"2.0","id":{},"method":"tools/list"}`,
		"null byte":          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\x00",
		"nothing":            ``,
		"deep":               `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`,
		"name is no string":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`,
		"result and method":  `{"jsonrpc":"2.0","id":1,"method":"a","result":{}}`,
		"comment":            `{"jsonrpc":"2.0",/**/"id":1,"method":"tools/list"}`,
		"single quotes":      `{'jsonrpc':'2.0','id':1,'method':'tools/list'}`,
		"unpaired surrogate": `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"\ud800"}}`,
	} {
		if a := r.post("one", "alice", body); a.status != 400 && a.status != 413 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"} {
		if a := r.post("one", "alice", listTools, "Content-Type", ct); a.status != 415 {
			t.Errorf("%q: %d", ct, a.status)
		}
	}
	if a := r.post("one", "alice", listTools, "Content-Encoding", "gzip"); a.status != 415 {
		t.Errorf("gzip: %d", a.status)
	}
	if a := r.post("one", "alice", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"`+strings.Repeat("x", 4<<20)+`"}}`); a.status != 413 {
		t.Errorf("more than 4 MiB: %d", a.status)
	}
	if up.count() != 0 {
		t.Errorf("the server saw %d requests, the last %q", up.count(), up.last().body)
	}
}

// TestGPX1_Fidelity: what the gateway does not know arrives as it was sent, in
// both directions.
func TestGPX1_Fidelity(t *testing.T) {
	const odd = `{"content":[{"type":"hologram","data":9007199254740993,"x":1.0e+2,"name\u0041":"\u00e9\/"}],"_meta":{"a/b":[null,true]},"unknown":{"deep":{"n":123456789012345678901234567890}}}`
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) { result(w, body, odd) })
	r := newRig(t, []Server{at("one", up.URL)})
	params := `{"name":"x","arguments":{"big":9007199254740993,"f":1.50,"s":"\u00e9\/","unknown":[{}]},"_meta":{"progressToken":9007199254740993,"x/y":"z"},"extra":{"a":1}}`
	for _, id := range []string{`1`, `"a\u0062c"`, `12345678901234567890`, `"𝔘"`, `-7`} {
		a := r.post("one", "alice", `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call","params":`+params+`}`)
		if want := `{"jsonrpc":"2.0","id":` + id + `,"result":` + odd + `}`; a.body != want {
			t.Errorf("down: %s", cmp.Diff(want, a.body))
		}
		if want := `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":` + params + `}`; up.last().body != want {
			t.Errorf("up: %s", cmp.Diff(want, up.last().body))
		}
	}
}

func TestTR04_TR06_E33_HeaderAndBodyMustAgree(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"tools":[]}`)
	})
	r := newRig(t, []Server{at("one", up.URL)})
	body, header := modern("tools/call", `"name":"read","arguments":{}`, "read")
	if a := r.post("one", "alice", body, header...); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	n := up.count()
	v := "2026-07-28"
	for name, c := range map[string]struct {
		header []string
		code   int
	}{
		"other name":     {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "tools/call", "Mcp-Name", "drop"}, -32020},
		"name case":      {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "tools/call", "Mcp-Name", "Read"}, -32020},
		"two names":      {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "tools/call", "Mcp-Name", "read", "Mcp-Name", "drop"}, -32020},
		"no name":        {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "tools/call"}, -32020},
		"other method":   {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "server/discover", "Mcp-Name", "read"}, -32020},
		"no method":      {[]string{"MCP-Protocol-Version", v, "Mcp-Name", "read"}, -32020},
		"other version":  {[]string{"MCP-Protocol-Version", "2027-01-01", "Mcp-Method", "tools/call", "Mcp-Name", "read"}, -32020},
		"legacy version": {[]string{"MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/call", "Mcp-Name", "read"}, -32020},
		"no version":     {[]string{"Mcp-Method", "tools/call", "Mcp-Name", "read"}, -32020},
		"bad base64":     {[]string{"MCP-Protocol-Version", v, "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?!!?="}, -32020},
	} {
		a := r.post("one", "alice", body, c.header...)
		if code, _ := a.rpc(t); a.status != 400 || code != c.code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.post("one", "alice", body, "MCP-Protocol-Version", v, "Mcp-Method", "tools/call", "Mcp-Name", "=?base64?cmVhZA==?="); a.status != 200 {
		t.Errorf("sentinel: %d %s", a.status, a.body)
	} else if got := up.last().header.Get("Mcp-Name"); got != "read" {
		t.Errorf("recomputed header: %q", got)
	}
	future := strings.ReplaceAll(body, v, "2031-01-01")
	a := r.post("one", "alice", future, "MCP-Protocol-Version", "2031-01-01", "Mcp-Method", "tools/call", "Mcp-Name", "read")
	if code, _ := a.rpc(t); a.status != 400 || code != -32022 || !strings.Contains(a.body, `"supported":["2026-07-28"]`) || !strings.Contains(a.body, `"requested":"2031-01-01"`) {
		t.Errorf("TR-05: %d %s", a.status, a.body)
	}
	bare := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	a = r.post("one", "alice", bare, "MCP-Protocol-Version", v, "Mcp-Method", "tools/list")
	if code, _ := a.rpc(t); a.status != 400 || code != -32602 {
		t.Errorf("TR-09: %d %s", a.status, a.body)
	}
	for _, m := range []string{"GET", "DELETE"} {
		if a := r.do(m, r.resource("one"), "", "Authorization", "Bearer "+r.token("one", "alice"), "MCP-Protocol-Version", v); a.status != 405 {
			t.Errorf("TR-03 %s: %d", m, a.status)
		}
	}
	if up.count() != n+1 {
		t.Errorf("the server saw %d requests more", up.count()-n)
	}
}

func TestTR17_E08_StatesBelongToTheirRequest(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "upstream-secret-state") {
			result(w, body, `{"resultType":"complete","content":[]}`)
			return
		}
		result(w, body, `{"resultType":"input_required","supportedVersions":["2026-07-28"],"inputRequests":{"a":{"method":"elicitation/create","params":{}}},"requestState":"upstream-secret-state"}`)
	})
	r := newRig(t, []Server{at("one", up.URL), at("two", up.URL)})
	ask := func(name, args, more string) (string, []string) {
		return modern("tools/call", `"name":"`+name+`","arguments":`+args+more, name)
	}
	body, header := ask("pay", `{"to":"bob"}`, "")
	a := r.post("one", "alice", body, header...)
	var m struct{ Result struct{ RequestState string } }
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Result.RequestState == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if strings.Contains(a.body, "upstream-secret") {
		t.Error("the server's state is in the open")
	}
	state := m.Result.RequestState
	again := func(server, user, tool, args, state string) int {
		body, header := ask(tool, args, `,"inputResponses":{"a":{"action":"accept"}},"requestState":"`+state+`"`)
		return r.post(server, user, body, header...).status
	}
	if got := again("one", "alice", "pay", `{"to":"bob"}`, state); got != 200 {
		t.Errorf("the right retry: %d", got)
	}
	if !strings.Contains(up.last().body, `"requestState":"upstream-secret-state"`) {
		t.Errorf("the server got %s", up.last().body)
	}
	if got := again("one", "alice", "pay", `{"to":"bob"}`, state); got != 400 {
		t.Errorf("a second time: %d", got)
	}

	// Each of what follows is tried with a state that is good for its own request.
	type request struct{ path, user, client, method, member, value, args string }
	own := request{"/s/one/mcp", "alice", "client-1", "tools/call", "name", "pay", `{"to":"bob"}`}
	send := func(q request, more string) answer {
		t.Helper()
		name := q.value
		if q.path == "/mcp" {
			name = "one__" + name
		}
		body, header := modern(q.method, `"`+q.member+`":"`+name+`","arguments":`+q.args+more, name)
		token := r.as.token(t, r.url+q.path, q.user, func(m map[string]any) { m["client_id"] = q.client })
		return r.do(http.MethodPost, r.url+q.path, body, append(header, "Authorization", "Bearer "+token)...)
	}
	fresh := func(q request) string {
		t.Helper()
		a := send(q, "")
		if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Result.RequestState == "" {
			t.Fatalf("%+v: %d %s", q, a.status, a.body)
		}
		return m.Result.RequestState
	}
	with := func(change func(*request)) request { q := own; change(&q); return q }
	prompt := with(func(q *request) { q.method = "prompts/get" })
	page := with(func(q *request) { q.method, q.member, q.value = "resources/read", "uri", "test://a" })
	send(with(func(q *request) { q.path = "/s/two/mcp" }), "") // its era is known afterwards
	send(with(func(q *request) { q.path = "/mcp" }), "")
	for name, c := range map[string]struct{ made, used request }{
		"another user":     {own, with(func(q *request) { q.user = "mallory" })},
		"another client":   {own, with(func(q *request) { q.client = "client-2" })},
		"another argument": {own, with(func(q *request) { q.args = `{"to":"mallory"}` })},
		"another tool":     {own, with(func(q *request) { q.value = "burn" })},
		"another server":   {own, with(func(q *request) { q.path = "/s/two/mcp" })},
		"the aggregate":    {own, with(func(q *request) { q.path = "/mcp" })},
		"another method":   {own, prompt},
		"another resource": {page, with(func(q *request) { *q = page; q.value = "test://b" })},
	} {
		state := fresh(c.made)
		n := up.count()
		more := `,"inputResponses":{"a":{"action":"accept"}},"requestState":"` + state + `"`
		if a := send(c.used, more); a.status != 400 || !strings.Contains(a.body, "not valid for this request") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if up.count() != n {
			t.Errorf("%s: the server was asked", name)
		}
		if a := send(c.made, more); a.status != 200 || strings.Contains(a.body, "input_required") {
			t.Errorf("%s, and then the right one: %d %s", name, a.status, a.body)
		}
	}
	flipped := []byte(fresh(own))
	flipped[20] ^= 1
	for name, bad := range map[string]string{"flipped": string(flipped), "raw": "upstream-secret-state"} {
		n := up.count()
		if got := again("one", "alice", "pay", `{"to":"bob"}`, bad); got != 400 || up.count() != n {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// TestTR07_ArgumentsThatHeadersMirror: once the tool's schema is known, its
// annotated arguments and their headers must agree, and go on as they are.
func TestTR07_ArgumentsThatHeadersMirror(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"tools":[{"name":"q","inputSchema":{"type":"object","properties":{"tenant":{"type":"string","x-mcp-header":"Tenant"}}}}]}`)
	})
	r := newRig(t, []Server{at("one", up.URL)})
	body, header := modern("tools/list", "", "")
	r.post("one", "alice", body, header...)
	body, header = modern("tools/call", `"name":"q","arguments":{"tenant":"blue"}`, "q")
	if a := r.post("one", "alice", body, append(header, "Mcp-Param-Tenant", "blue", "Mcp-Param-Other", "x")...); a.status != 200 || up.last().header.Get("Mcp-Param-Tenant") != "blue" || up.last().header.Get("Mcp-Param-Other") != "x" {
		t.Errorf("%d %s %v", a.status, a.body, up.last().header)
	}
	n := up.count()
	for _, h := range [][]string{nil, {"Mcp-Param-Tenant", "red"}, {"Mcp-Param-Tenant", "blue", "Mcp-Param-Tenant", "red"}} {
		a := r.post("one", "alice", body, append(header, h...)...)
		if code, _ := a.rpc(t); a.status != 400 || code != -32020 {
			t.Errorf("%v: %d %s", h, a.status, a.body)
		}
	}
	if up.count() != n {
		t.Error("the server saw a mismatch")
	}
}
