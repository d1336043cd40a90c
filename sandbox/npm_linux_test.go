package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// Real servers, at the versions the expectations below were written for.
const (
	everything = "@modelcontextprotocol/server-everything@2025.9.25"
	filesystem = "@modelcontextprotocol/server-filesystem@2025.8.21"
	memory     = "@modelcontextprotocol/server-memory@2025.9.25"
)

// talk speaks line-delimited JSON-RPC with a server.
type talk struct {
	t   *testing.T
	p   *Process
	in  *bufio.Reader
	seq int
}

func (k *talk) call(method, params string) string {
	k.t.Helper()
	k.seq++
	fmt.Fprintf(k.p.Stdin, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", k.seq, method, params)
	for {
		line, err := k.in.ReadBytes('\n')
		if err != nil {
			k.t.Fatalf("%s: %v (%v)\n%s", method, err, k.p.Err(), k.p.Tail())
		}
		var m struct {
			ID     int             `json:"id"`
			Method string          `json:"method"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if json.Unmarshal(line, &m) != nil || m.Method != "" || m.ID != k.seq {
			continue
		}
		if m.Error != nil {
			return "error " + string(m.Error)
		}
		return string(m.Result)
	}
}

func TestGTG8_RealServersWorkInTheBox(t *testing.T) {
	modules := npmtest.Install(t, everything, filesystem, memory)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "note.txt"), []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside.txt")
	if err := os.WriteFile(outside, []byte("canary"), 0o644); err != nil {
		t.Fatal(err)
	}
	index := func(name string) string {
		return filepath.Join(modules, "@modelcontextprotocol", name, "dist", "index.js")
	}
	type step struct{ tool, args, want string }
	for _, c := range []struct {
		spec  Spec
		steps []step
	}{
		{Spec{Name: "everything", Args: []string{index("server-everything")}},
			[]step{{"echo", `{"message":"hello box"}`, "hello box"}, {"add", `{"a":2,"b":40}`, "42"}}},
		{Spec{Name: "filesystem", Args: []string{index("server-filesystem"), data}, Write: []string{data}},
			[]step{
				{"read_text_file", fmt.Sprintf(`{"path":%q}`, filepath.Join(data, "note.txt")), "inside"},
				{"write_file", fmt.Sprintf(`{"path":%q,"content":"new"}`, filepath.Join(data, "new.txt")), "Successfully"},
				{"list_directory", fmt.Sprintf(`{"path":%q}`, data), "new.txt"},
			}},
		{Spec{Name: "memory", Args: []string{index("server-memory")}, Write: []string{data}, Env: []string{"MEMORY_FILE_PATH=" + filepath.Join(data, "graph.json")}},
			[]step{
				{"create_entities", `{"entities":[{"name":"kidoban","entityType":"gate","observations":["stands"]}]}`, "kidoban"},
				{"read_graph", `{}`, "stands"},
			}},
	} {
		t.Run(c.spec.Name, func(t *testing.T) {
			h := newHost(t, Options{})
			c.spec.Command, c.spec.Read = "node", []string{modules}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			p, err := h.Start(ctx, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			k := &talk{t: t, p: p, in: bufio.NewReader(p.Stdout)}
			k.call("initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
			fmt.Fprintln(p.Stdin, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
			if got := k.call("tools/list", `{}`); !strings.Contains(got, c.steps[0].tool) {
				t.Errorf("tools/list: %.300s", got)
			}
			for _, s := range c.steps {
				if got := k.call("tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, s.tool, s.args)); !strings.Contains(got, s.want) {
					t.Errorf("%s: %.400s", s.tool, got)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			noneLeft(t, p.PID())
		})
	}
}
