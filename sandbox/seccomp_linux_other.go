//go:build linux && !amd64 && !arm64

package sandbox

import (
	"errors"

	"golang.org/x/sys/unix"
)

// auditArch 0 says that there is no filter for this machine; Available refuses.
const auditArch = 0

func filter(boxPolicy) ([]unix.SockFilter, error) {
	return nil, errors.New("no filter for this machine")
}
