package main

import (
	"fmt"
	"os"
	"time"
)

// fileEvery is how often the config and what it names are looked at.
const fileEvery = time.Second

// followed tells when files are to be read again: when they are others than those
// that were read, and the same as at the last look. What still changes is being
// written, and half a config may be a config, too.
type followed struct {
	read string // as they were before they were read
	last string // at the last look
}

// changed takes a look.
func (f *followed) changed(now string) bool {
	yes := now != f.read && now == f.last
	if f.last = now; yes {
		f.read = now
	}
	return yes
}

// onDisk tells times and sizes of the config and of the policy files it names.
func (s *service) onDisk(config string) string {
	return onDisk(append([]string{config}, s.config().Policy.Files...)...)
}

func onDisk(names ...string) (out string) {
	for _, name := range names {
		if i, err := os.Stat(name); err == nil {
			out += fmt.Sprintf("%s %d;", i.ModTime(), i.Size())
		} else {
			out += "none;"
		}
	}
	return out
}
