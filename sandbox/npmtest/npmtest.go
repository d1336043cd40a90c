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
	Once(t, dir, "installed", strings.Join(packages, "\n"), func() *exec.Cmd {
		return exec.Command("npm", append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=5", "--prefix", dir}, packages...)...)
	})
	return filepath.Join(dir, "node_modules")
}

// Once fills dir with what a command installs, unless the file mark in it says that
// just this was done before. Tests of several packages are several processes: one
// installs, the others wait for it. What an install that broke off left is removed.
func Once(t testing.TB, dir, mark, what string, install func() *exec.Cmd) {
	t.Helper()
	mark = filepath.Join(dir, mark)
	there := func() bool { b, err := os.ReadFile(mark); return err == nil && string(b) == what }
	if there() {
		return
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // and the lock ends
	if err := hold(lock); err != nil {
		t.Fatal(err)
	}
	if there() {
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := install().CombinedOutput(); err != nil {
		t.Fatalf("installing into %s: %v\n%s", dir, err, out)
	}
	if err := os.WriteFile(mark, []byte(what), 0o644); err != nil {
		t.Fatal(err)
	}
}
