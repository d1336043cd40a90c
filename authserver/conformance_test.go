package authserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/outbound/freeport"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

var tally = regexp.MustCompile(`(\d+) passed, (\d+) failed`)

// TestGAS1_OfficialConformance runs the official suite's authorization scenarios
// for a public and a confidential client; the person is a scripted browser.
func TestGAS1_OfficialConformance(t *testing.T) {
	node, modules := npmtest.Node(t), npmtest.Install(t, "@modelcontextprotocol/conformance@0.2.0-alpha.12")
	suite := filepath.Join(modules, "@modelcontextprotocol/conformance/dist/index.js")
	secret := strings.Repeat("s3cret", 8)
	for _, kind := range []string{"public", "confidential"} {
		t.Run(kind, func(t *testing.T) {
			at, err := freeport.Loopback()
			if err != nil {
				t.Fatal(err)
			}
			port := int(at.Port())
			callback := fmt.Sprintf("http://127.0.0.1:%d/callback", port)
			w := newWorld(t, func(w *world) {
				w.cfg.Clients = []authserver.PreRegistered{{ID: "suite", Name: "Suite", RedirectURIs: []string{callback}}}
				if kind == "confidential" {
					w.cfg.Clients[0].AuthMethod, w.cfg.Clients[0].Secret = "client_secret_post", secret
					w.cfg.ConfidentialOnly = true // else the suite takes the public way although it has a secret
				}
			})
			alice := w.person()
			args := []string{suite, "authorization", "--url", w.url, "--client-id", "suite", "--resource", w.url + "/mcp", "-p", strconv.Itoa(port), "-o", t.TempDir()}
			if kind == "confidential" {
				args = append(args, "--client-secret", secret)
			}
			cmd := exec.CommandContext(t.Context(), node, args...)
			cmd.Dir = t.TempDir()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			link := regexp.MustCompile(regexp.QuoteMeta(w.url) + `/authorize\?\S+`)
			var log strings.Builder
			done := false
			for lines := bufio.NewScanner(io.TeeReader(out, &log)); lines.Scan(); {
				if u := link.FindString(lines.Text()); u != "" && !done {
					done = true
					to := alice.approve(alice.get(u)).location(t)
					// The suite prints the link a moment before it listens.
					for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
						if c, err := net.Dial("tcp", to.Host); err == nil {
							c.Close()
							break
						}
					}
					alice.get(to.String())
				}
			}
			err = cmd.Wait()
			m := tally.FindAllStringSubmatch(log.String(), -1)
			if err != nil || !done || len(m) == 0 || m[len(m)-1][2] != "0" || m[len(m)-1][1] == "0" {
				t.Fatalf("%v\n%s", err, log.String())
			}
			t.Log(m[len(m)-1][0])
		})
	}
}
