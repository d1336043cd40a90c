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
