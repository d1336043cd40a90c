//go:build unix

package vault

import (
	"io/fs"
	"os"
	"syscall"
)

// othersBits are the permissions that a key file must not give. What root made
// and gave to our group was made for us: we could not have made it stricter.
func othersBits(i fs.FileInfo) fs.FileMode {
	if st, ok := i.Sys().(*syscall.Stat_t); ok && st.Uid == 0 && os.Geteuid() != 0 {
		return 0o037
	}
	return 0o077
}

// OwnAs gives f, which this process has just made, to the owner of what like is
// of, when root made it: an operator's commands beside a gateway that runs as a
// user of its own must leave files that this user can open.
func OwnAs(f *os.File, like fs.FileInfo) error {
	if st, ok := like.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
