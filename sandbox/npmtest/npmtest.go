// Package npmtest gives tests packages from npm: servers and clients made by
// others, in exact versions, installed once and kept for the next run.
package npmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Install installs packages, each as name@version, into a cache of the user's
// outside the repository and returns their node_modules. No script of a package
// runs. name tells sets of packages apart; one that is there whole is not fetched
// again.
func Install(t testing.TB, name string, packages ...string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "kidoban-test", name)
	mark, want := filepath.Join(dir, "installed"), strings.Join(packages, "\n")
	if b, _ := os.ReadFile(mark); string(b) == want {
		return filepath.Join(dir, "node_modules")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("npm", append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", dir}, packages...)...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	if err := os.WriteFile(mark, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "node_modules")
}
