package gateway

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// typescript is Node with the TypeScript SDK and the scripts of testdata beside it.
type typescript struct{ node, dir string }

func newTypescript(t *testing.T) typescript {
	t.Helper()
	modules := npmtest.Install(t, "@modelcontextprotocol/client@2.4.0", "@modelcontextprotocol/server@2.4.0", "@modelcontextprotocol/node@2.1.2")
	return typescript{npmtest.Node(t), npmtest.Beside(t, modules, "testdata/client.mjs", "testdata/whole-client.mjs", "testdata/whole-server.mjs")}
}

// server starts whole-server.mjs and returns its address and the lines it prints.
func (ts typescript) server(t *testing.T, era string) (url string, lines <-chan string) {
	t.Helper()
	cmd := exec.Command(ts.node, filepath.Join(ts.dir, "whole-server.mjs"), era)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 64)
	go func() {
		defer close(said)
		for s := bufio.NewScanner(out); s.Scan(); {
			said <- s.Text()
		}
	}()
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return <-said, said
}

// TestGPX2_AggregateWithTheTypeScriptSDK: the same as with the Go SDK, for clients
// and servers by the other official one, and across the two.
func TestGPX2_AggregateWithTheTypeScriptSDK(t *testing.T) {
	ts := newTypescript(t)
	for _, era := range []string{"legacy", "modern"} {
		t.Run(era+" client", func(t *testing.T) {
			oldURL, old := ts.server(t, "legacy")
			youngURL, young := ts.server(t, "modern")
			goOld, goYoung := newWhole(t, false), newWhole(t, true)
			servers := []Server{at("old", oldURL), at("young", youngURL), at("go-old", goOld.url), at("go-young", goYoung.url)}
			for i := range servers {
				servers[i].Era = []string{"legacy", "modern"}[i%2]
			}
			r := newRig(t, servers)
			cmd := exec.Command(ts.node, filepath.Join(ts.dir, "whole-client.mjs"), era, r.url+"/mcp", r.as.token(t, r.url+"/mcp", "alice", nil), "old", "young", "go-old", "go-young")
			timer := time.AfterFunc(5*time.Minute, func() { cmd.Process.Kill() })
			defer timer.Stop()
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			var seen struct {
				Tools, Progress map[string]int
				Said            map[string]string
			}
			if err := json.Unmarshal(out, &seen); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
			want := map[string]string{"elicit": "accept Aiko", "page": "accept", "sample": "m says three after count to three", "roots": "1 roots, file:///work", "steps": "done", "wait": "given up"}
			for _, s := range []string{"old", "young", "go-old", "go-young"} {
				if seen.Tools[s] != wholeTools+6 || seen.Progress[s] != 5 {
					t.Errorf("%s: %d tools, %d times progress", s, seen.Tools[s], seen.Progress[s])
				}
				for tool, text := range want {
					if got := seen.Said[s+" "+tool]; got != text {
						t.Errorf("%s %s: %q", s, tool, got)
					}
				}
			}
			for name, lines := range map[string]<-chan string{"old": old, "young": young} {
				if a, b := <-lines, <-lines; a != "waiting" || b != "cancelled" {
					t.Errorf("%s: the call that was given up: %s, %s", name, a, b)
				}
			}
			for name, w := range map[string]*whole{"go-old": goOld, "go-young": goYoung} {
				if got := <-w.ended; got != "cancelled" {
					t.Errorf("%s: the call that was given up was %s", name, got)
				}
			}
		})
	}
}
