package npmtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// TestCachedInstallsOnce: of many at the same time one installs and the others wait;
// other versions have a folder of their own, also where the names are long; an install
// that broke off is made anew.
func TestCachedInstallsOnce(t *testing.T) {
	t.Setenv("KIDOBAN_CACHE", filepath.Join(t.TempDir(), "cache"))
	log := filepath.Join(t.TempDir(), "log")
	install := func(versions ...string) string {
		dir := npmtest.Cached(t, "set", versions, func(dir string) *exec.Cmd {
			return exec.Command("sh", "-c", `test ! -e "$1/half" && touch "$1/half" && sleep 0.1 && echo x >> "$2" && mv "$1/half" "$1/whole"`, "sh", dir, log)
		})
		if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
			t.Error(err)
		}
		return dir
	}
	times := func(want int) {
		t.Helper()
		raw, err := os.ReadFile(log)
		if got := strings.Count(string(raw), "x"); err != nil || got != want {
			t.Errorf("installed %d times, want %d (%v)", got, want, err)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { install("@a/one@1.0.0") })
	}
	all.Wait()
	times(1)
	long := strings.Repeat("@a/one@1.0.0+", 30)
	seen := map[string]bool{}
	for _, v := range []string{"@a/one@1.0.0", "@a/one@1.0.1", long + "1", long + "2"} {
		seen[install(v)] = true
	}
	if times(4); len(seen) != 4 {
		t.Errorf("%d folders", len(seen))
	}
	dir := install("@a/one@1.0.1")
	times(4)
	if err := os.Remove(filepath.Join(dir, ".installed")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	install("@a/one@1.0.1")
	times(5)
}

// TestBesideFindsThePackages: each test has its scripts for itself.
func TestBesideFindsThePackages(t *testing.T) {
	modules, script := t.TempDir(), filepath.Join(t.TempDir(), "a.mjs")
	for file, text := range map[string]string{filepath.Join(modules, "package"): "p", script: "s"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, other := npmtest.Beside(t, modules, script), npmtest.Beside(t, modules, script)
	for _, f := range []string{"a.mjs", "node_modules/package"} {
		if _, err := os.Stat(filepath.Join(one, f)); err != nil || one == other {
			t.Error(one, other, err)
		}
	}
}
