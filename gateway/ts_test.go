package gateway

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGPX2_EraMatrixWithTheTypeScriptSDK: the same matrix with the other official
// client, which shares no code with the Go SDK.
func TestGPX2_EraMatrixWithTheTypeScriptSDK(t *testing.T) {
	ts := newTypescript(t)
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
				c := exec.Command(ts.node, filepath.Join(ts.dir, "client.mjs"), client, r.resource("one"), r.token("one", "alice"), r.resource("ask"), r.token("ask", "alice"))
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
