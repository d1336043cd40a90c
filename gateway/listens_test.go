package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
)

// askModern sends a modern request as a user and returns the answer.
func (r *rig) askModern(t *testing.T, path, user, method, params, name string) answer {
	t.Helper()
	body, header := modern(method, params, name)
	return r.do(http.MethodPost, r.url+path, body, append([]string{"Authorization", "Bearer " + r.as.token(t, r.url+path, user, nil)}, header...)...)
}

// TestGTG5_APassingListenFollowsWhatItsUserMay: where the server speaks the client's
// era, subscriptions/listen goes through as it is, but for the resources that its user
// may not read.
func TestGTG5_APassingListenFollowsWhatItsUserMay(t *testing.T) {
	up := taskServer(t)
	s := at("ci", up.URL)
	s.Era = "modern"
	set, problems := policy.Compile(policy.Options{Rules: []policy.Rule{{Deny: []string{"ci/secret:*"}, Groups: []string{"support"}}}})
	if set == nil {
		t.Fatal(problems)
	}
	guard := NewPolicyGuard(nil, nil, toolscan.New(), nil, time.Now)
	guard.SetRules(PolicyRules{Set: set, Groups: map[string][]string{"support": {"bob"}}})
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) { d.Guards.Policy = guard })
	for user, want := range map[string]string{"alice": `"resourceSubscriptions":["note://a","secret://b"]`, "bob": `"resourceSubscriptions":["note://a"]`} {
		a := r.askModern(t, "/s/ci/mcp", user, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["note://a","secret://b"]}`, "")
		if went := up.last().body; a.status != http.StatusOK || !strings.Contains(went, want) || !strings.Contains(went, `"toolsListChanged":true`) {
			t.Errorf("%s: %d; the server was asked %s", user, a.status, went)
		}
	}
}

// TestGPX5_HandlesInOtherLettersAreRefused: what a tolerant server reads as a task's id
// or as a resource to follow, and we do not, reaches no server.
func TestGPX5_HandlesInOtherLettersAreRefused(t *testing.T) {
	up := taskServer(t)
	s := at("ci", up.URL)
	s.Era = "modern"
	r := newRig(t, []Server{s})
	for _, path := range []string{"/s/ci/mcp", "/mcp"} {
		for _, q := range [][3]string{
			{"subscriptions/listen", `"notifications":{"TaskIds":["task-7"]}`},
			{"subscriptions/listen", `"notifications":{"taskIDs":["task-7"]}`},
			{"subscriptions/listen", `"notifications":{"ResourceSubscriptions":["x://y"]}`},
			{"subscriptions/listen", `"Notifications":{"taskIds":["task-7"]}`},
			{"completion/complete", `"Ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"}`},
		} {
			if a := r.askModern(t, path, "alice", q[0], q[1], q[2]); strings.Contains(a.body, `"result"`) || !strings.Contains(a.body, `"error"`) {
				t.Errorf("%s %s: %d %s", path, q[1], a.status, a.body)
			}
		}
	}
	for _, meta := range []string{`"io.modelcontextprotocol/related-task":{"taskID":"task-7"}`, `"io.modelcontextprotocol/Related-Task":{"taskId":"task-7"}`} {
		body, header := modern("tools/call", `"name":"build","arguments":{}`, "build")
		body = strings.Replace(body, `"_meta":{`, `"_meta":{`+meta+`,`, 1)
		a := r.do(http.MethodPost, r.url+"/s/ci/mcp", body, append([]string{"Authorization", "Bearer " + r.as.token(t, r.url+"/s/ci/mcp", "alice", nil)}, header...)...)
		if !strings.Contains(body, meta) || strings.Contains(a.body, `"result"`) || !strings.Contains(a.body, `"error"`) {
			t.Errorf("%s: %d %s", meta, a.status, a.body)
		}
	}
	for _, x := range up.seen {
		if strings.Contains(x.body, "task-7") || strings.Contains(x.body, "x://y") || strings.Contains(x.body, `"Ref"`) {
			t.Errorf("the server was asked %s", x.body)
		}
	}
}

// TestGPX5_OnlyATasksServerLearnsItsID: at the aggregate, a call to one server that belongs
// to another's task would tell it that task's id.
func TestGPX5_OnlyATasksServerLearnsItsID(t *testing.T) {
	one, two := taskServer(t), taskServer(t)
	a, b := at("a", one.URL), at("b", two.URL)
	a.Era, b.Era = "modern", "modern"
	r := newRig(t, []Server{a, b})
	var made struct {
		Result struct{ TaskID string }
	}
	got := r.askModern(t, "/mcp", "alice", "tools/call", `"name":"a__build","arguments":{}`, "a__build")
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Result.TaskID == "" {
		t.Fatalf("no task: %d %s", got.status, got.body)
	}
	for tool, served := range map[string]bool{"a__build": true, "b__build": false} {
		body, header := modern("tools/call", `"name":"`+tool+`","arguments":{}`, tool)
		body = strings.Replace(body, `"_meta":{`, `"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"`+made.Result.TaskID+`"},`, 1)
		got := r.do(http.MethodPost, r.url+"/mcp", body, append([]string{"Authorization", "Bearer " + r.as.token(t, r.url+"/mcp", "alice", nil)}, header...)...)
		if strings.Contains(got.body, `"result"`) != served {
			t.Errorf("%s: %d %s", tool, got.status, got.body)
		}
	}
	if one.asked(`related-task":{"taskId":"task-7"}`) == 0 {
		t.Error("its own server was not told")
	}
	if two.asked("task-7") > 0 {
		t.Error("another server learned the id")
	}
}

// TestGPX5_ATaskThatCannotBeSealedIsNotNamed: an id that is no string is left out with
// what it stands in; the rest of the answer stays.
func TestGPX5_ATaskThatCannotBeSealedIsNotNamed(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch r.Header.Get("Mcp-Method") {
		case "server/discover":
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
		case "tools/list":
			result(w, body, `{"resultType":"complete","tools":[{"name":"build","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}`)
		default:
			result(w, body, `{"resultType":"complete","content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":777777},"x.example/kept":1}}`)
		}
	})
	s := at("ci", up.URL)
	s.Era = "modern"
	r := newRig(t, []Server{s})
	a := r.askModern(t, "/s/ci/mcp", "alice", "tools/call", `"name":"build","arguments":{}`, "build")
	if !strings.Contains(a.body, `"x.example/kept":1`) || strings.Contains(a.body, "777777") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
