package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// TestGatewayRecord: a gateway records what a real client does at its door; the
// file is judged as any other traffic, finds nothing wrong with the gateway, and
// holds no secret and nothing that a tool was asked or answered.
func TestGatewayRecord(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "door.har")
	p := newProgram(t, proofTokens+"registration: {anonymous_scopes: ['mcp:read', 'mcp:write', 'mcp:destroy', offline_access]}\nservers:\n  two:\n    url: "+twoTools(t)+"\n    address: loopback\n")
	p.args = []string{"--record", file}
	p.start()
	newPerson(p).firstAccount()
	r := startRemote(t, p, p.url+"/s/two/mcp", nil, proofPort(t), "--host", "127.0.0.1")
	if tools, _ := json.Marshal(r.ask("tools/list", map[string]any{})); !strings.Contains(string(tools), `"look"`) {
		t.Errorf("tools: %.500s\n%s", tools, p.log)
	}
	r.call("look", map[string]any{"text": "between-us"}, "said between-us")
	p.kill()

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{proofPassword, "between-us", p.link} {
		if secret != "" && strings.Contains(string(raw), secret) {
			t.Errorf("%q is in the recording", secret)
		}
	}
	stdout, stderr, code := kidobanCmd(t, map[string]string{"XDG_STATE_HOME": dir, "HOME": dir}, "audit", "--har", file, "--json", "-", p.url+"/s/two/mcp")
	var run kidoban.Run
	if err := json.Unmarshal([]byte(stdout), &run); err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, stderr)
	}
	outcomes := map[string]kidoban.Outcome{}
	for _, r := range run.Results {
		outcomes[r.Key()] = r.Outcome
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			t.Errorf("%s %s: %s", r.Key(), r.Outcome, r.Summary)
		}
	}
	for _, k := range []string{"F6-A", "F6-B", "F8-d", "E12-a", "E22-7", "E24-b", "E28-a", "E10-c", "E11-a"} {
		if outcomes[k] != kidoban.Pass {
			t.Errorf("%s is %s from the gateway's own traffic", k, outcomes[k])
		}
	}
	if code != exitClean || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestGatewayRecordIsDiscreet: what people say and get stays out wherever it stands, and
// what everybody gets stays in.
func TestGatewayRecordIsDiscreet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "door.har")
	rec, err := outbound.CreateRecorder(file)
	if err != nil {
		t.Fatal(err)
	}
	var answer string
	front := &traffic{public: "https://gate.example", to: rec, now: time.Now, next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	})}
	const told = `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"between-us"}]}}`
	for _, c := range []struct{ method, path, body, answer string }{
		{"POST", "/s/x/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":{"a":"between-us"}}}`, told},
		{"POST", "/mcp", `{"jsonrpc":"2.0","id":7,"params":{"arguments":{"a":"between-us` + strings.Repeat("x", keptBody) + `"}},"method":"tools/call"}`, told},
		{"POST", "/mcp/", `{"jsonrpc":"2.0","id":7,"method":"tasks/result","params":{"taskId":"t"}}`, told},
		{"POST", "/s/x/mcp", `{"jsonrpc":"2.0","id":"q","result":{"action":"accept","content":{"name":"between-us"}}}`, ""},
		{"POST", "/s/x/mcp", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"between-us"}}`, ""},
		{"GET", "/s/x/mcp", "", "id: 1\ndata: " + told + "\n\n"},
		{"POST", "/s/x/mcp", `{"jsonrpc":"2.0","id":8,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":8,"result":{"tools":[{"name":"look-at-me"}]}}`},
		{"GET", "/.well-known/oauth-protected-resource/s/x/mcp", "", `{"resource":"https://gate.example/s/x/mcp","resource_name":"named-so"}`},
	} {
		answer = c.answer
		front.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "between-us"); n != 0 {
		t.Errorf("what was said stands there %d times", n)
	}
	for _, open := range []string{"look-at-me", "named-so", "tasks/result", "notifications/cancelled"} {
		if !strings.Contains(string(raw), open) {
			t.Errorf("%s is missing", open)
		}
	}
}
