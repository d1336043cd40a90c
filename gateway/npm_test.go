package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// TestGPX2_RealServersFromNpm: servers made by others, in the box, each to a
// legacy and to a modern client.
func TestGPX2_RealServersFromNpm(t *testing.T) {
	modules := npmtest.Install(t, "@modelcontextprotocol/server-everything@2025.9.25", "@modelcontextprotocol/server-filesystem@2025.8.21", "@modelcontextprotocol/server-memory@2025.9.25")
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "note.txt"), []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := func(name string, write []string, env []string, args ...string) Server {
		args = append([]string{filepath.Join(modules, "@modelcontextprotocol", "server-"+name, "dist", "index.js")}, args...)
		return Server{Name: name, Stdio: &sandbox.Spec{Name: name, Command: "node", Args: args, Read: []string{modules}, Write: write, Env: env}}
	}
	r := newRig(t, []Server{
		server("everything", nil, nil),
		server("filesystem", []string{data}, nil, data),
		server("memory", []string{data}, []string{"MEMORY_FILE_PATH=" + filepath.Join(data, "graph.json")}),
	}, withSandbox(t))
	for _, era := range []string{"legacy", "modern"} {
		options, progress := asker("Aiko")
		s := connect(t, r, "everything", "alice", era, options)
		if got := callText(t, s, "echo", map[string]any{"message": "hello"}, nil); !strings.Contains(got, "hello") {
			t.Errorf("%s echo: %q", era, got)
		}
		callText(t, s, "longRunningOperation", map[string]any{"duration": 1, "steps": 3}, mcp.Meta{"progressToken": "p"})
		if atLeast(progress, 1) == 0 {
			t.Errorf("%s: no progress", era)
		}
		if res, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "test://static/resource/1"}); err != nil || len(res.Contents) == 0 {
			t.Errorf("%s resource: %v", era, err)
		}
		if p, err := s.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "simple_prompt"}); err != nil || len(p.Messages) == 0 {
			t.Errorf("%s prompt: %v", era, err)
		}
		f := connect(t, r, "filesystem", "alice", era, nil)
		if got := callText(t, f, "read_text_file", map[string]any{"path": filepath.Join(data, "note.txt")}, nil); got != "inside" {
			t.Errorf("%s file: %q", era, got)
		}
		if got := callText(t, f, "read_text_file", map[string]any{"path": "/etc/passwd"}, nil); strings.Contains(got, "root:") {
			t.Errorf("%s: a file outside was read", era)
		}
		m := connect(t, r, "memory", "alice", era, nil)
		callText(t, m, "create_entities", map[string]any{"entities": []map[string]any{{"name": "gate", "entityType": "thing", "observations": []string{"stands"}}}}, nil)
		if got := callText(t, m, "read_graph", map[string]any{}, nil); !strings.Contains(got, "stands") {
			t.Errorf("%s memory: %q", era, got)
		}
		all := connect(t, r, "", "alice", era, nil)
		tools, err := all.ListTools(t.Context(), nil)
		if err != nil || len(tools.Tools) < 25 || tools.Meta["kidoban/missing"] != nil {
			t.Errorf("%s aggregate: %v %v", era, tools, err)
		}
	}
}
