package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The reference servers as they are published.
const (
	proofFilesystem = "@modelcontextprotocol/server-filesystem@2026.8.31"
	proofMemory     = "@modelcontextprotocol/server-memory@2026.8.31"
)

// TestGPX2_McpRemoteRealServers: mcp-remote in front of the reference servers: files
// and memory as children of the gateway in the box, and the everything server over
// the two endpoints of 2024-11-05.
func TestGPX2_McpRemoteRealServers(t *testing.T) {
	t.Parallel()
	node, files := proofNPM(t, proofFilesystem)
	_, memory := proofNPM(t, proofMemory)
	_, every := proofNPM(t, proofEverything)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := proofPort(t)
	old := exec.Command(node, filepath.Join(every, "@modelcontextprotocol/server-everything/dist/index.js"), "sse")
	old.Env = append(os.Environ(), "PORT="+port)
	said := &lockedBuffer{}
	old.Stdout, old.Stderr = said, said
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Process.Kill(); old.Wait() })
	listens(t, "127.0.0.1:"+port, said)
	p := startProgram(t, fmt.Sprintf(`registration: {anonymous_scopes: ['mcp:read', 'mcp:write', 'mcp:destroy', offline_access]}
servers:
  files:
    command: [%[1]q, %[2]q, %[3]q]
    read: [%[1]q, %[4]q]
    write: [%[3]q]
  memory:
    command: [%[1]q, %[5]q]
    read: [%[1]q, %[6]q]
    write: [%[3]q]
    env: {MEMORY_FILE_PATH: %[7]q}
  old:
    url: http://127.0.0.1:%[8]s/sse
    transport: sse
    address: loopback
`, node, filepath.Join(files, "@modelcontextprotocol/server-filesystem/dist/index.js"), dir, files,
		filepath.Join(memory, "@modelcontextprotocol/server-memory/dist/index.js"), memory, filepath.Join(dir, "graph.jsonl"), port))
	newPerson(p).firstAccount()
	remote := func(path string) *remote {
		return startRemote(t, p, p.url+path, nil, proofPort(t), "--host", "127.0.0.1")
	}
	f := remote("/s/files/mcp")
	f.call("read_text_file", map[string]any{"path": filepath.Join(dir, "note.txt")}, "inside")
	if got := f.refused("read_text_file", map[string]any{"path": "/etc/passwd"}); strings.Contains(got, "root:") {
		t.Error("a file outside was read")
	}
	m := remote("/s/memory/mcp")
	m.call("create_entities", map[string]any{"entities": []any{map[string]any{"name": "gate", "entityType": "thing", "observations": []string{"stands"}}}}, "gate")
	m.call("read_graph", map[string]any{}, "stands")
	o := remote("/s/old/mcp")
	o.call("echo", map[string]any{"message": "hello"}, "Echo: hello")
	if res := fmt.Sprint(o.ask("resources/list", map[string]any{})); !strings.Contains(res, "uri") {
		t.Errorf("%s\n%s", res, said)
	}
	all := remote("/mcp")
	if tools := fmt.Sprint(all.ask("tools/list", map[string]any{})); !strings.Contains(tools, "files__read_text_file") || !strings.Contains(tools, "memory__read_graph") || !strings.Contains(tools, "old__echo") {
		t.Errorf("%.3000s", tools)
	}
	all.call("old__echo", map[string]any{"message": "through all"}, "Echo: through all")
}

// listens waits until somebody listens at an address.
func listens(t *testing.T, addr string, said fmt.Stringer) {
	t.Helper()
	if !within(patience, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Fatalf("nobody listens at %s:\n%s", addr, said)
	}
}

// refused calls a tool and returns the answer, which is an error.
func (r *remote) refused(tool string, arguments map[string]any) string {
	r.t.Helper()
	r.id++
	r.send(map[string]any{"jsonrpc": "2.0", "id": r.id, "method": "tools/call", "params": map[string]any{"name": tool, "arguments": arguments}})
	for r.out.Scan() {
		var m struct {
			ID    any `json:"id"`
			Error any `json:"error"`
		}
		if err := json.Unmarshal(r.out.Bytes(), &m); err == nil && m.ID == float64(r.id) {
			if m.Error == nil {
				r.t.Errorf("%s was not refused: %s", tool, r.out.Bytes())
			}
			return string(r.out.Bytes())
		}
	}
	r.t.Fatalf("%s: no answer\n%s", tool, r.note)
	return ""
}
