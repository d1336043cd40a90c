package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"database/sql"

	_ "github.com/jackc/pgx/v5/stdlib" // to look for the canary
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/sandbox/npmtest"
	"github.com/kidoban/kidoban/store/storetest"
	"github.com/kidoban/kidoban/toolscan"
)

// The servers below are published and have publicly known holes. Each is
// exploited directly, which shows that the attack works, and then through the
// gateway with its default guards, which refuse it; ordinary calls pass. All of
// it stays in temporary files and on loopback.

// vulnerable installs them.
func vulnerable(t *testing.T) string {
	return npmtest.Install(t, "@modelcontextprotocol/server-filesystem@2025.3.28", "figma-developer-mcp@0.6.0", "fetch-mcp@0.0.5", "@modelcontextprotocol/server-postgres@0.6.2")
}

// direct starts a server without anything between.
func direct(t *testing.T, env []string, args ...string) *mcp.ClientSession {
	t.Helper()
	cmd := exec.Command("node", args...)
	cmd.Env = append(os.Environ(), env...)
	s, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// auditSink keeps the audit log of a test.
type auditSink struct {
	mu   sync.Mutex
	text strings.Builder
	seq  int64
	hash []byte
}

func (m *auditSink) AppendEntries(_ context.Context, _ string, entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.text.Write(e.Body)
		m.text.WriteByte('\n')
		m.seq, m.hash = e.Seq, e.Hash
	}
	return nil
}

func (m *auditSink) LastEntry(context.Context, string) (int64, []byte, error) { return 0, nil, nil }

// guarded is a gateway with its default guards before one server, and a way to
// read its audit log.
func guarded(t *testing.T, s Server) (*mcp.ClientSession, func() string) {
	t.Helper()
	sink := &auditSink{}
	j, err := OpenJournal(t.Context(), sink, "t")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []Server{s}, withSandbox(t), func(_ *Config, d *Deps) {
		d.Journal = j
		d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), j, nil, time.Now)
		d.Guards.Arguments = NewArgumentGuard(nil, nil)
	})
	c := connect(t, r, s.Name, "alice", "legacy", nil)
	return c, func() string {
		if err := j.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		return sink.text.String()
	}
}

// tryCall calls a tool and returns what came back, an error's text included.
func tryCall(t *testing.T, s *mcp.ClientSession, tool string, args map[string]any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return "error: " + err.Error()
	}
	out := ""
	for _, c := range res.Content {
		if x, ok := c.(*mcp.TextContent); ok {
			out += x.Text
		}
	}
	return out
}

func wantRefusal(t *testing.T, got, say string) {
	t.Helper()
	if !strings.HasPrefix(got, "error: ") || !strings.Contains(got, say) {
		t.Errorf("not refused: %.300q", got)
	}
}

// TestGTG3_FilesystemEscape: CVE-2025-53110 (a sibling that begins like the
// allowed directory) and CVE-2025-53109 (a link that leads out).
func TestGTG3_FilesystemEscape(t *testing.T) {
	modules := vulnerable(t)
	base := t.TempDir()
	root, evil := filepath.Join(base, "data"), filepath.Join(base, "data_private")
	for _, d := range []string{root, evil} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{filepath.Join(root, "note.txt"): "ordinary", filepath.Join(evil, "canary.txt"): "CANARY"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(modules, "@modelcontextprotocol/server-filesystem/dist/index.js")
	if err := os.Symlink(filepath.Join(evil, "canary.txt"), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	attacks := []map[string]any{{"path": filepath.Join(evil, "canary.txt")}, {"path": filepath.Join(root, "link")}, {"path": root + "/../data_private/canary.txt"}}
	d := direct(t, nil, script, root)
	for _, a := range attacks {
		if got := tryCall(t, d, "read_file", a); !strings.Contains(got, "CANARY") {
			t.Errorf("direct %v: %q", a, got)
		}
	}
	for _, runner := range []sandbox.Runner{sandbox.RunnerBox, sandbox.RunnerNone} { // the guard stands without the box too
		s, log := guarded(t, Server{Name: "files", Stdio: &sandbox.Spec{Name: "files", Runner: runner, Command: "node", Args: []string{script, root}, Read: []string{modules}, Write: []string{root}}})
		for _, a := range attacks {
			wantRefusal(t, tryCall(t, s, "read_file", a), sayKind[ArgPath])
		}
		wantRefusal(t, tryCall(t, s, "read_multiple_files", map[string]any{"paths": []string{filepath.Join(root, "note.txt"), filepath.Join(evil, "canary.txt")}}), sayKind[ArgPath])
		wantRefusal(t, tryCall(t, s, "move_file", map[string]any{"source": filepath.Join(root, "note.txt"), "destination": filepath.Join(evil, "moved")}), sayKind[ArgPath])
		for i := range 20 { // ordinary work
			file := filepath.Join(root, fmt.Sprintf("work %d.md", i))
			for _, call := range []struct {
				tool string
				args map[string]any
			}{
				{"write_file", map[string]any{"path": file, "content": "see ../other; rm -rf is only text $(here)"}},
				{"read_file", map[string]any{"path": file}}, {"get_file_info", map[string]any{"path": file}},
				{"edit_file", map[string]any{"path": file, "edits": []map[string]any{{"oldText": "only", "newText": "just"}}, "dryRun": true}},
				{"list_directory", map[string]any{"path": root}}, {"search_files", map[string]any{"path": root, "pattern": "*.md"}},
				{"create_directory", map[string]any{"path": filepath.Join(root, fmt.Sprint("sub", i))}},
				{"read_multiple_files", map[string]any{"paths": []string{file, filepath.Join(root, "note.txt")}}}, {"list_allowed_directories", map[string]any{}},
			} {
				if got := tryCall(t, s, call.tool, call.args); strings.HasPrefix(got, "error") || strings.HasPrefix(got, "Error") {
					t.Errorf("%s %s: %q", runner, call.tool, got)
				}
			}
		}
		if text := log(); strings.Count(text, `"rule":"argument:path:`) != len(attacks)+2 || strings.Contains(text, "CANARY") {
			t.Errorf("audit log: %s", text)
		}
	}
}

// TestGTG3_CommandInjection: CVE-2025-53967. When its fetch fails, the server
// builds a command line with the key that the model gave.
func TestGTG3_CommandInjection(t *testing.T) {
	modules := vulnerable(t)
	dir := t.TempDir()
	canary, bin, pre := filepath.Join(dir, "canary"), filepath.Join(dir, "bin"), filepath.Join(dir, "offline.cjs")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// Nothing leaves the machine: fetch knows one file, curl does nothing.
	for file, text := range map[string]string{
		filepath.Join(bin, "curl"): "#!/bin/sh\nexit 7\n",
		pre:                        `globalThis.fetch = async (u) => { if (String(u).includes("/files/GoodKey1")) return new Response(JSON.stringify({name: "Drawing", lastModified: "", thumbnailUrl: "", nodes: {}, document: {id: "0:0", name: "d", type: "DOCUMENT", children: []}, components: {}, componentSets: {}, styles: {}}), {headers: {"content-type": "application/json"}}); throw new Error("offline"); };`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-r", pre, filepath.Join(modules, "figma-developer-mcp/dist/cli.js"), "--stdio", "--figma-api-key=none"}
	attack := map[string]any{"fileKey": "x$(touch " + canary + ")"}
	d := direct(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, args...)
	tryCall(t, d, "get_figma_data", attack)
	if _, err := os.Stat(canary); err != nil {
		t.Fatalf("directly the attack does not work: %v", err)
	}
	if err := os.Remove(canary); err != nil {
		t.Fatal(err)
	}
	s, log := guarded(t, Server{Name: "figma", Stdio: &sandbox.Spec{Name: "figma", Runner: sandbox.RunnerNone, Command: "node", Args: args, Read: []string{modules}}})
	for _, a := range []map[string]any{attack, {"fileKey": "x`touch " + canary + "`"}, {"fileKey": `x"; touch ` + canary + `; "`}, {"fileKey": "GoodKey1", "nodeId": "1:2$(touch " + canary + ")"}} {
		wantRefusal(t, tryCall(t, s, "get_figma_data", a), sayKind[ArgToken])
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("the canary is there")
	}
	for i := range 20 {
		for _, a := range []map[string]any{{"fileKey": "GoodKey1"}, {"fileKey": "GoodKey1", "depth": 1 + i%3}, {"fileKey": "GoodKey1", "nodeId": "I5666:180910;1:10515;1:10336"}} {
			if got := tryCall(t, s, "get_figma_data", a); strings.HasPrefix(got, "error") || strings.Contains(got, "rror fetching") {
				t.Errorf("%v: %q", a, got)
			}
		}
	}
	if text := log(); strings.Count(text, `"rule":"argument:token:`) != 4 {
		t.Errorf("audit log: %s", text)
	}
}

// TestGTG3_SSRF: a fetcher that goes wherever it is told, loopback included.
func TestGTG3_SSRF(t *testing.T) {
	modules := vulnerable(t)
	var hits atomic.Int32
	page := func(text string, n *atomic.Int32) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n.Add(1)
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, "<html><body>%s</body></html>", text)
		}))
		t.Cleanup(s.Close)
		return s
	}
	inner, allowed := page("CANARY", &hits), page("ordinary page", new(atomic.Int32))
	args := []string{filepath.Join(modules, "fetch-mcp/cli.js")}
	d := direct(t, nil, args...)
	if got := tryCall(t, d, "fetch_url", map[string]any{"url": inner.URL}); !strings.Contains(got, "CANARY") || hits.Load() != 1 {
		t.Fatalf("directly the attack does not work: %q", got)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(inner.URL, "http://"), ":")
	s, log := guarded(t, Server{Name: "fetch", Arguments: ArgumentRules{Hosts: []string{strings.TrimPrefix(allowed.URL, "http://")}},
		Stdio: &sandbox.Spec{Name: "fetch", Runner: sandbox.RunnerNone, Command: "node", Args: args, Read: []string{modules}}})
	attacks := []string{inner.URL, "127.0.0.1:" + port, "http://localhost:" + port, "http://0x7f000001:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"}
	for _, u := range attacks {
		wantRefusal(t, tryCall(t, s, "fetch_url", map[string]any{"url": u}), sayKind[ArgURL])
	}
	if hits.Load() != 1 {
		t.Error("the inner page was reached")
	}
	for range 20 {
		if got := tryCall(t, s, "fetch_url", map[string]any{"url": allowed.URL + "/a?b=c", "max_length": 500}); !strings.Contains(got, "ordinary page") {
			t.Errorf("%q", got)
		}
	}
	if text := log(); strings.Count(text, `"rule":"argument:url:`) != len(attacks) {
		t.Errorf("audit log: %s", text)
	}
}

// TestGTG3_StackedSQL: a read-only transaction that a second statement leaves.
func TestGTG3_StackedSQL(t *testing.T) {
	modules := vulnerable(t)
	pg, err := storetest.StartServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Remove)
	url, err := pg.Create()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE people(id INT, name TEXT)`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO people VALUES (1, 'Ada; the first')`); err != nil {
		t.Fatal(err)
	}
	canary := func() bool {
		var there bool
		if err := db.QueryRow(`SELECT to_regclass('canary') IS NOT NULL`).Scan(&there); err != nil {
			t.Fatal(err)
		}
		return there
	}
	args := []string{filepath.Join(modules, "@modelcontextprotocol/server-postgres/dist/index.js"), url}
	attack := map[string]any{"sql": "COMMIT; CREATE TABLE canary(x INT);"}
	d := direct(t, nil, args...)
	tryCall(t, d, "query", attack)
	if !canary() {
		t.Fatal("directly the attack does not work")
	}
	if _, err := db.Exec(`DROP TABLE canary`); err != nil {
		t.Fatal(err)
	}
	s, log := guarded(t, Server{Name: "pg", Stdio: &sandbox.Spec{Name: "pg", Runner: sandbox.RunnerNone, Command: "node", Args: args, Read: []string{modules}}})
	attacks := []string{"COMMIT; CREATE TABLE canary(x INT);", "SELECT 1; COMMIT; CREATE TABLE canary(x INT)", "select 'a'; /**/ commit; create table canary(x int)", "COMMIT -- x", "CREATE TABLE canary(x INT)"}
	for _, q := range attacks {
		wantRefusal(t, tryCall(t, s, "query", map[string]any{"sql": q}), sayKind[ArgSQL])
	}
	if canary() {
		t.Error("the canary is there")
	}
	for range 8 {
		for _, q := range []string{"SELECT * FROM people;", "select count(*) from people where name like '%; %'", "WITH a AS (SELECT 1 AS n) SELECT n FROM a", "EXPLAIN SELECT * FROM people", "SELECT table_name FROM information_schema.tables LIMIT 3"} {
			if got := tryCall(t, s, "query", map[string]any{"sql": q}); strings.HasPrefix(got, "error") {
				t.Errorf("%s: %q", q, got)
			}
		}
	}
	if text := log(); strings.Count(text, `"rule":"argument:sql:`) != len(attacks) {
		t.Errorf("audit log: %s", text)
	}
}
