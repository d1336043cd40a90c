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

// TestOnceInstallsOnce: of many at the same time one installs and the others wait;
// another list, or an install that broke off, is made anew.
func TestOnceInstallsOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache", "set")
	log := filepath.Join(t.TempDir(), "log")
	install := func(what string) {
		npmtest.Once(t, dir, "mark", what, func() *exec.Cmd {
			return exec.Command("sh", "-c", `test ! -e "$1/half" && touch "$1/half" && sleep 0.1 && echo x >> "$2" && mv "$1/half" "$1/whole"`, "sh", dir, log)
		})
		if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
			t.Error(err)
		}
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
		all.Go(func() { install("one") })
	}
	all.Wait()
	times(1)
	install("another")
	times(2)
	if err := os.Remove(filepath.Join(dir, "mark")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	install("another")
	times(3)
}
