//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRootLeavesFilesToTheGateway: an operator's commands, run as root beside a
// gateway that runs as a user of its own, leave nothing that this user cannot
// open: no database, no key, nothing restored.
func TestRootLeavesFilesToTheGateway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const nobody = 65534
	top := t.TempDir()
	own := func(name string) string {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	theirs := func(dir string, wanted ...string) {
		t.Helper()
		for _, name := range wanted {
			i, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			} else if st := i.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody || i.Mode().Perm() != 0o600 {
				t.Errorf("%s belongs to %d:%d, mode %v", name, st.Uid, st.Gid, i.Mode())
			}
		}
	}
	do := func(args ...string) {
		t.Helper()
		if code, said := operate(t, args...); code != exitClean {
			t.Fatalf("%v: exit %d, %s", args, code, said)
		}
	}
	first, second, backup := own("first"), own("second"), filepath.Join(top, "b.tar")
	do("gateway", "user", "add", "ann", "--data", first)
	theirs(first, "kidoban.db", "vault.key")
	do("vault", "rotate", "--data", first)
	theirs(first, "kidoban.db", "vault.key")
	do("gateway", "backup", "--data", first, "--out", backup, "--with-key")
	do("gateway", "restore", backup, "--data", second)
	theirs(second, "kidoban.db", "vault.key", "kidoban.db.lock")
}
