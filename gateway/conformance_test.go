package gateway

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

var stamp = regexp.MustCompile(`-20\d\d-\d\d-\d\dT.*$`)

// everything starts the Go SDK's own conformance server.
func everything(t *testing.T, stateless bool) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "everything-server")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	at, err := freeport.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	addr := at.String()
	c := exec.Command(bin, "-http", addr, fmt.Sprintf("-stateless=%v", stateless))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return "http://" + addr
		}
	}
	t.Fatal("the everything-server does not start")
	return ""
}

// conformance runs the official suite against url and returns the status of
// each check of each scenario.
func conformance(t *testing.T, modules, url string, args ...string) map[string]string {
	t.Helper()
	out := t.TempDir()
	c := exec.Command(npmtest.Node(t), append([]string{filepath.Join(modules, "@modelcontextprotocol", "conformance", "dist", "index.js"), "server", "--url", url, "-o", out}, args...)...)
	text, _ := c.CombinedOutput() // a failing scenario is in the results
	results := map[string]string{}
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "checks.json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var checks []struct{ ID, Status string }
		if err := json.Unmarshal(raw, &checks); err != nil {
			return err
		}
		scenario := filepath.Base(filepath.Dir(path))
		scenario = stamp.ReplaceAllString(scenario, "")
		counts := map[string]int{}
		for _, k := range checks {
			counts[k.ID+" "+k.Status]++
		}
		keys := []string{}
		for k, n := range counts {
			keys = append(keys, fmt.Sprintf("%s x%d", k, n))
		}
		sort.Strings(keys)
		results[scenario] = strings.Join(keys, "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 20 {
		t.Fatalf("%d scenarios ran only:\n%s", len(results), text)
	}
	return results
}

// TestGPX1_OfficialConformanceSuite: the official suite sees the same through the
// gateway as without it, open and behind authorization.
func TestGPX1_OfficialConformanceSuite(t *testing.T) {
	old := npmtest.Install(t, "@modelcontextprotocol/conformance@0.1.16")
	now := npmtest.Install(t, "@modelcontextprotocol/conformance@0.2.0-alpha.12")
	for _, c := range []struct {
		name, modules string
		stateless     bool
		args          []string
	}{
		{"0.1.16", old, false, nil},
		{"2025-11-25", now, false, []string{"--requirements", "2025-11-25"}},
		{"2026-07-28", now, true, []string{"--requirements", "2026-07-28"}},
	} {
		if testing.Short() && c.modules == now {
			continue // the race detector sees the same paths with the first
		}
		t.Run(c.name, func(t *testing.T) {
			up := everything(t, c.stateless)
			// Some checks are about time, and a busy machine fails them now with,
			// now without the gateway: what counts is a run in which both agree.
			same := func(what, url string) {
				t.Helper()
				diff := ""
				for range 3 {
					if diff = cmp.Diff(conformance(t, c.modules, up, c.args...), conformance(t, c.modules, url, c.args...)); diff == "" {
						return
					}
				}
				t.Errorf("%s (- direct, + through it):\n%s", what, diff)
			}
			open := newRig(t, []Server{at("every", up)}, func(c *Config, _ *Deps) { c.Open = true })
			same("open gateway", open.resource("every"))
			// The suite cannot send a token, so a shim puts one on.
			closed := newRig(t, []Server{at("every", up)}, func(c *Config, _ *Deps) {
				c.Limits = limit.Defaults()
				for _, l := range c.Limits.All() {
					l.Burst = 100_000
				}
			})
			same("closed gateway", newShim(t, closed, "every"))
		})
	}
}

// newShim passes requests on with a token, and nothing else changed.
func newShim(t *testing.T, r *rig, name string) string {
	t.Helper()
	proxy := newShimProxy(r, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: proxy}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String() + "/s/" + name + "/mcp"
}
