package gateway

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/sandbox/npmtest"
	"github.com/kidoban/kidoban/toolscan"
)

// upgrade is a published server in an older and a newer version.
type upgrade struct {
	name, pkg, old, new string
	args                func(dir string) []string
	env                 []string
}

// upgrades: the first three always, all of them with KIDOBAN_UPGRADES=1 (430 MB
// from npm).
var upgrades = []upgrade{
	{name: "filesystem", pkg: "@modelcontextprotocol/server-filesystem", old: "2025.8.21", new: "2026.8.31", args: func(dir string) []string { return []string{dir} }},
	{name: "memory", pkg: "@modelcontextprotocol/server-memory", old: "2025.9.25", new: "2026.8.31"},
	{name: "thinking", pkg: "@modelcontextprotocol/server-sequential-thinking", old: "2025.7.1", new: "2026.8.31"},
	{name: "everything", pkg: "@modelcontextprotocol/server-everything", old: "2025.9.25", new: "2026.8.31"},
	{name: "github", pkg: "@modelcontextprotocol/server-github", old: "2025.1.23", new: "2025.4.8", env: []string{"GITHUB_PERSONAL_ACCESS_TOKEN=x"}},
	{name: "figma", pkg: "figma-developer-mcp", old: "0.6.6", new: "0.13.2", args: func(string) []string { return []string{"--stdio"} }, env: []string{"FIGMA_API_KEY=x"}},
	{name: "tavily", pkg: "tavily-mcp", old: "0.2.9", new: "0.2.22", env: []string{"TAVILY_API_KEY=tvly-x"}},
	{name: "brave", pkg: "@brave/brave-search-mcp-server", old: "2.0.63", new: "2.1.4", env: []string{"BRAVE_API_KEY=x"}},
	{name: "context7", pkg: "@upstash/context7-mcp", old: "2.1.8", new: "4.1.1"},
	{name: "notion", pkg: "@notionhq/notion-mcp-server", old: "1.8.1", new: "2.5.2", env: []string{"OPENAPI_MCP_HEADERS={}"}},
	{name: "firecrawl", pkg: "firecrawl-mcp", old: "2.0.2", new: "3.22.4", env: []string{"FIRECRAWL_API_KEY=fc-x"}},
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// binOf reads what a package starts.
func binOf(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), `"bin":`)
	rest, _, _ = strings.Cut(rest, "}")
	parts := strings.Split(rest, `"`)
	for _, p := range parts {
		if strings.HasSuffix(p, "js") && exists(filepath.Join(dir, p)) {
			return filepath.Join(dir, p)
		}
	}
	t.Fatalf("%s starts nothing: %s", dir, rest)
	return ""
}

// TestGTG1_HonestUpgradesAreCalm: published servers are replaced by newer
// versions. Whatever changed is held, byte by byte, and shown as a calm diff;
// what did not change stays; after approval everything is there.
func TestGTG1_HonestUpgradesAreCalm(t *testing.T) {
	list := upgrades
	if os.Getenv("KIDOBAN_UPGRADES") == "" {
		list = list[:3]
	}
	var packages []string
	for _, u := range list {
		packages = append(packages, u.name+"-old@npm:"+u.pkg+"@"+u.old, u.name+"-new@npm:"+u.pkg+"@"+u.new)
	}
	modules := npmtest.Install(t, packages...)
	node := npmtest.Node(t)
	sc := toolscan.New()
	changed, added, alarms, newAlarms := 0, 0, 0, 0
	for _, u := range list {
		dir := t.TempDir()
		server := func(which string) Server {
			args := []string{binOf(t, filepath.Join(modules, u.name+"-"+which))}
			if u.args != nil {
				args = append(args, u.args(dir)...)
			}
			return Server{Name: "s", Stdio: &sandbox.Spec{Name: "s", Command: node, Args: args, Read: []string{modules, filepath.Dir(node)}, Write: []string{dir}, Env: u.env}}
		}
		store, ck := &pinMemory{}, &clock{now: time.Now()}
		r := newRig(t, []Server{server("old")}, withSandbox(t), func(_ *Config, d *Deps) {
			d.Guards.Pins = NewPinGuard(store, "", sc, nil, nil, ck.get)
		})
		names := func() (out []string) {
			s := connect(t, r, "s", "alice", "legacy", nil)
			defer s.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			for tool, err := range s.Tools(ctx, nil) {
				if err != nil {
					t.Fatalf("%s: %v", u.name, err)
				}
				out = append(out, tool.Name)
			}
			return out
		}
		before := names()
		if len(before) == 0 {
			t.Errorf("%s offers nothing at first; held: %s", u.name, store.held())
		}
		atFirst := map[string]bool{} // what the scanner flags in the old version is no news in the new one
		for _, p := range store.pins {
			if p.State == PinHeld {
				atFirst[p.Name] = true
				t.Logf("%s: %s waits at first sight: %s", u.name, p.Name, p.Reason)
			}
		}
		r.config.Servers = []Server{server("new")}
		if err := r.g.Reload(r.config); err != nil {
			t.Fatal(err)
		}
		shown := names()
		heldHere := 0
		for i, p := range store.pins {
			if p.State != PinHeld {
				continue
			}
			if atFirst[p.Name] {
				store.pins[i].State, store.pins[i].Decided = PinApproved, ck.get()
				continue
			}
			heldHere++
			if slices.Contains(shown, p.Name) && p.Kind == toolscan.KindTool {
				t.Errorf("%s: %s is held and shown", u.name, p.Name)
			}
			if was, ok := Against(store.pins, p); ok {
				changed++
				if d := sc.Drift(nil, toolscan.Item{Kind: was.Kind, Name: was.Name, Raw: was.Raw}, toolscan.Item{Kind: p.Kind, Name: p.Name, Raw: p.Raw}); !d.Grade.Calm() {
					alarms++
					t.Logf("%s: %s %s: %v", u.name, p.Name, d.Grade, d.Reasons)
				}
			} else {
				added++
				if strings.HasPrefix(p.Reason, "flagged") {
					newAlarms++
					t.Logf("%s: the new %s is %s", u.name, p.Name, p.Reason)
				}
			}
			store.pins[i].State, store.pins[i].Decided = PinApproved, ck.get()
		}
		ck.advance(3 * time.Second)
		if after := names(); heldHere == 0 || len(after) < len(shown) || heldHere > 0 && len(after) == len(shown) && len(shown) == len(before) {
			t.Errorf("%s: before %d, held %d, shown meanwhile %d, after approval %d", u.name, len(before), heldHere, len(shown), len(after))
		}
		r.g.bridges.drop(r.g.state.Load().servers["s"])
	}
	t.Logf("%d servers: %d changed definitions, %d of them alarms; %d new ones, %d of them flagged", len(list), changed, alarms, added, newAlarms)
	if changed < 20 || alarms*20 > changed || newAlarms*20 > added && added > 0 {
		t.Errorf("the upgrades are not calm")
	}
}
