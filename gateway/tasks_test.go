package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// taskServer is a modern server that answers calls with tasks; the id names
// nobody. It notes the ids and the Mcp-Name headers that reach it.
func taskServer(t *testing.T) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		var m struct {
			Params struct {
				TaskID string `json:"taskId"`
			} `json:"params"`
		}
		_ = json.Unmarshal([]byte(body), &m)
		switch method := r.Header.Get("Mcp-Method"); {
		case method == "server/discover":
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
		case method == "tools/list":
			result(w, body, `{"resultType":"complete","tools":[{"name":"build","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}`)
		case method == "tools/call":
			result(w, body, `{"resultType":"task","taskId":"task-7","status":"working","ttlMs":60000,"pollIntervalMs":10}`)
		case strings.HasPrefix(method, "tasks/") && m.Params.TaskID == "task-7" && r.Header.Get("Mcp-Name") == "task-7":
			result(w, body, `{"resultType":"complete","taskId":"task-7","status":"completed","ttlMs":60000,"result":{"content":[{"type":"text","text":"built"}]},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"task-7"}}}`)
		case method == "subscriptions/listen":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks/status\",\"params\":{\"taskId\":\"task-7\",\"status\":\"completed\"}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"complete\"}}\n\n", idOf(body))
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			io.WriteString(w, `{"jsonrpc":"2.0","id":`+idOf(body)+`,"error":{"code":-32602,"message":"no such task"}}`)
		}
	})
}

// TestGPX5_E37_TasksBelongToTheirUserAndClient: a task's id is the caller's own,
// the same each time, and opens for nobody else; the server's own id, if it leaks,
// opens nothing. Tasks work through the aggregate too.
func TestGPX5_E37_TasksBelongToTheirUserAndClient(t *testing.T) {
	up := taskServer(t)
	s := at("ci", up.URL)
	s.Era = "modern"
	r := newRig(t, []Server{s})
	ask := func(path, user, client, method, params, name string) answer {
		t.Helper()
		body, header := modern(method, params, name)
		token := r.as.token(t, r.url+path, user, func(m map[string]any) { m["client_id"] = client; m["jti"] = user + client + path })
		return r.do(http.MethodPost, r.url+path, body, append([]string{"Authorization", "Bearer " + token}, header...)...)
	}
	elsewhere := map[string]string{"/s/ci/mcp": "/mcp", "/mcp": "/s/ci/mcp"}
	for path, tool := range map[string]string{"/s/ci/mcp": "build", "/mcp": "ci__build"} {
		var first, again struct {
			Result struct {
				TaskID, ResultType string
				Meta               map[string]struct{ TaskID string } `json:"_meta"`
			}
		}
		a := ask(path, "alice", "c1", "tools/call", `"name":"`+tool+`","arguments":{}`, tool)
		if err := json.Unmarshal([]byte(a.body), &first); err != nil || first.Result.ResultType != "task" || first.Result.TaskID == "" || strings.Contains(a.body, "task-7") {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		id := first.Result.TaskID
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			a = ask(path, "alice", "c1", method, `"taskId":"`+id+`"`, id)
			if err := json.Unmarshal([]byte(a.body), &again); err != nil || again.Result.TaskID != id || again.Result.Meta["io.modelcontextprotocol/related-task"].TaskID != id || !strings.Contains(a.body, "built") {
				t.Errorf("%s %s: %d %s", path, method, a.status, a.body)
			}
		}
		if a := ask(path, "alice", "c1", "tasks/get", `"taskId":"`+id+`"`, "another"); a.status != http.StatusBadRequest || !strings.Contains(a.body, "-32020") {
			t.Errorf("header and body differ: %d %s", a.status, a.body)
		}
		for what, b := range map[string]answer{
			"another user":     ask(path, "bob", "c1", "tasks/get", `"taskId":"`+id+`"`, id),
			"another client":   ask(path, "alice", "c2", "tasks/get", `"taskId":"`+id+`"`, id),
			"the server's own": ask(path, "alice", "c1", "tasks/get", `"taskId":"task-7"`, "task-7"),
			"a changed one":    ask(path, "alice", "c1", "tasks/get", `"taskId":"A`+id[1:]+`x"`, "A"+id[1:]+"x"),
			"another address":  ask(elsewhere[path], "alice", "c1", "tasks/get", `"taskId":"`+id+`"`, id),
			"a list":           ask(path, "alice", "c1", "tasks/list", `"cursor":""`, ""),
		} {
			if strings.Contains(b.body, "built") || strings.Contains(b.body, `"result"`) || b.status == http.StatusInternalServerError {
				t.Errorf("%s, %s: %d %s", path, what, b.status, b.body)
			}
			if code, say := b.rpc(t); path == "/mcp" && what == "another user" && (code != -32602 || say != unknownTask().Say) {
				t.Errorf("%s: %d %s", what, code, say)
			}
		}
		if path == "/s/ci/mcp" {
			a = ask(path, "alice", "c1", "subscriptions/listen", `"notifications":{"taskIds":["`+id+`"]}`, "")
			if !strings.Contains(a.body, id) || strings.Contains(a.body, "task-7") || !strings.Contains(up.last().body, `"taskIds":["task-7"]`) {
				t.Errorf("listen: %d %s, up %s", a.status, a.body, up.last().body)
			}
			if a := ask(path, "bob", "c1", "subscriptions/listen", `"notifications":{"taskIds":["`+id+`"]}`, ""); strings.Contains(a.body, "completed") {
				t.Errorf("listen of another: %s", a.body)
			}
		}
	}
	for _, x := range up.seen {
		if strings.HasPrefix(x.header.Get("Mcp-Method"), "tasks/") && !strings.Contains(x.body, `"taskId":"task-7"`) && !strings.Contains(x.body, `"taskId":"unknown-`) {
			t.Errorf("a client's id went up: %s", x.body)
		}
	}
}

// TestGPX5_TasksOfTheLegacyExperiment: the tasks of 2025-11-25, in the result, the
// list, the notification and _meta.
func TestGPX5_TasksOfTheLegacyExperiment(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, "tools/call"):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks/status\",\"params\":{\"taskId\":\"task-7\",\"status\":\"working\"}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"task\":{\"taskId\":\"task-7\",\"status\":\"working\",\"ttl\":1}}}\n\n", idOf(body))
		case strings.Contains(body, "tasks/list"):
			result(w, body, `{"tasks":[{"taskId":"task-7"},{"taskId":"task-8"}]}`)
		case strings.Contains(body, `"taskId":"task-7"`):
			result(w, body, `{"content":[{"type":"text","text":"the taskId was task 7"}],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"task-7"}}}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	own := at("own", up.URL)
	own.Account, own.Era = AccountUser, "legacy"
	w := newWallet(t, nil)
	if err := w.Set(t.Context(), "alice", "own", Header{Name: "X-Key", Value: "of-alice-alone"}); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []Server{own}, func(_ *Config, d *Deps) { d.Accounts = w })
	a := r.post("own", "alice", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","task":{"ttl":1}}}`, "MCP-Protocol-Version", "2025-11-25")
	if strings.Contains(a.body, "task-7") || strings.Count(a.body, "taskId") != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	_, rest, _ := strings.Cut(a.body, `"taskId":"`)
	id, _, _ := strings.Cut(rest, `"`)
	a = r.post("own", "alice", `{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{"taskId":"`+id+`","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"`+id+`"}}}}`, "MCP-Protocol-Version", "2025-11-25")
	if !strings.Contains(a.body, "the taskId was task 7") || !strings.Contains(a.body, id) || strings.Contains(a.body, "task-7") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.post("own", "alice", `{"jsonrpc":"2.0","id":3,"method":"tasks/list","params":{}}`, "MCP-Protocol-Version", "2025-11-25"); !strings.Contains(a.body, id) || strings.Contains(a.body, "task-7") || strings.Count(a.body, "taskId") != 2 {
		t.Errorf("%d %s", a.status, a.body)
	}
	all := r.window("/mcp")
	if code, say := all.ask("tasks/list", `{}`).rpc(t); code != -32601 || !strings.Contains(say, "Ask for each by its id") {
		t.Errorf("a list of all: %d %s", code, say)
	}
}

// TestGPX5_TasksAreNotPromisedAcrossEras: the experiment and the extension are two
// protocols; neither side is told that the other has tasks.
func TestGPX5_TasksAreNotPromisedAcrossEras(t *testing.T) {
	modernServer := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{},"x/other":{}}},"ttlMs":0,"cacheScope":"public"}`)
	})
	legacyServer := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, `"initialize"`) {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"old","version":"1"}}`)
	})
	young, old := at("young", modernServer.URL), at("old", legacyServer.URL)
	young.Era, old.Era = "modern", "legacy"
	r := newRig(t, []Server{young, old})
	if a := r.post("young", "alice", initialize); a.status != 200 || strings.Contains(a.body, "tasks") || !strings.Contains(a.body, "x/other") {
		t.Errorf("a legacy client: %d %s", a.status, a.body)
	}
	body, header := modern("server/discover", "", "")
	if a := r.post("old", "alice", body, header...); a.status != 200 || strings.Contains(a.body, "tasks") || !strings.Contains(a.body, `"tools"`) {
		t.Errorf("a modern client: %d %s", a.status, a.body)
	}
}

// TestGPX5_TasksThatQuestionsAndAnswersSpeakOf: what a server says beside an answer, and
// what the client answers, name tasks as everything else does: a server's own id reaches
// no client, and no server hears an id that was not made for who sends it. A task of the
// client's, which the server asks about, keeps its name.
func TestGPX5_TasksThatQuestionsAndAnswersSpeakOf(t *testing.T) {
	const about = `"_meta":{"x/kept":1,"io.modelcontextprotocol/related-task":{"taskId":`
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, "tools/call") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, m := range []string{
			`"id":"q1","method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}},` + about + `"task-7"}}}`,
			`"method":"notifications/message","params":{"level":"info","data":"x",` + about + `"task-7"}}}`,
			`"method":"notifications/tasks/status","params":{"taskId":77777,"status":"working"}`,
			`"method":"notifications/message","params":{"level":"info","data":"x","_meta":{"io.modelcontextprotocol/Related-Task":{"taskId":"task-7"}}}`,
			`"id":"q2","method":"tasks/get","params":{"taskId":"clients-own"}`,
			`"id":` + idOf(body) + `,"result":{"content":[]}`,
		} {
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",%s}\n\n", m)
		}
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	call := func(user string) (id string) {
		t.Helper()
		a := r.post("s", user, callTool("x"), "MCP-Protocol-Version", "2025-11-25")
		_, rest, _ := strings.Cut(a.body, `related-task":{"taskId":"`)
		id, _, _ = strings.Cut(rest, `"`)
		if id == "" || strings.Count(a.body, id) != 2 || strings.Contains(a.body, "task-7") || strings.Contains(a.body, "77777") || !strings.Contains(a.body, `"taskId":"clients-own"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return id
	}
	alices, bobs := call("alice"), call("bob")
	for id, want := range map[string]string{alices: about + `"task-7"}}`, bobs: `"_meta":{"x/kept":1}`, "task-7": `"_meta":{"x/kept":1}`} {
		a := r.post("s", "alice", `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept","content":{},`+about+`"`+id+`"}}}}`, "MCP-Protocol-Version", "2025-11-25")
		if got := up.last().body; a.status != http.StatusAccepted || !strings.HasSuffix(got, want+"}}") {
			t.Errorf("%d %s; the server heard %s", a.status, a.body, got)
		}
	}
}

// TestGPX5_TaskIDsAreBounded: one that is too long to be carried, or no text, is left out.
func TestGPX5_TaskIDsAreBounded(t *testing.T) {
	for id, named := range map[string]bool{`"` + strings.Repeat("i", maxTaskID) + `"`: true, `"` + strings.Repeat("i", maxTaskID+1) + `"`: false, "777777": false} {
		up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
			if strings.Contains(body, "tasks/get") {
				result(w, body, `{"content":[{"type":"text","text":"`+fmt.Sprint(strings.Contains(body, id))+`"}]}`)
				return
			}
			result(w, body, `{"task":{"taskId":`+id+`,"status":"working"}}`)
		})
		s := at("s", up.URL)
		s.Era = "legacy"
		r := newRig(t, []Server{s})
		a := r.post("s", "alice", callTool("x"), "MCP-Protocol-Version", "2025-11-25")
		_, rest, has := strings.Cut(a.body, `"taskId":"`)
		sealed, _, _ := strings.Cut(rest, `"`)
		if has != named || strings.Contains(a.body, "777777") || !strings.Contains(a.body, `"status":"working"`) {
			t.Errorf("%d %s", a.status, a.body)
		}
		if !has {
			continue
		}
		if a := r.post("s", "alice", `{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"`+sealed+`"}}`, "MCP-Protocol-Version", "2025-11-25"); !strings.Contains(a.body, `"true"`) {
			t.Errorf("the longest does not come back: %d %s", a.status, a.body)
		}
	}
}
