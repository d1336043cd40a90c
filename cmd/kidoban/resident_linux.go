package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownFile finds where the program's own file, code and tables, is mapped; without
// /proc nowhere.
func ownFile() []mapping {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil
	}
	return ownPages(smaps, exe)
}

// unmap gives back the pages of mappings of the program's file: they are unchanged
// copies of it, and one that is needed again is mapped again.
func unmap(file []mapping) {
	for _, m := range file {
		// An error says that the kernel keeps the pages: no harm.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// ownPages finds the mappings of the program's file that cannot be written to
// and of which no page ever was: a page that was written and protected later
// (relocations of a position-independent program) is no copy of the file.
func ownPages(smaps []byte, exe string) (out []mapping) {
	var at mapping
	mine, pristine := false, 0
	for s := bufio.NewScanner(bytes.NewReader(smaps)); s.Scan(); {
		f := strings.Fields(s.Text())
		switch {
		case len(f) >= 5 && strings.Contains(f[0], "-"):
			from, to, _ := strings.Cut(f[0], "-")
			a, err1 := strconv.ParseUint(from, 16, 64)
			b, err2 := strconv.ParseUint(to, 16, 64)
			at, pristine = mapping{uintptr(a), uintptr(b)}, 0
			mine = err1 == nil && err2 == nil && b > a && len(f) == 6 && f[5] == exe && strings.HasPrefix(f[1], "r-") && f[1][3] == 'p'
		case mine && len(f) == 3 && (f[0] == "Anonymous:" || f[0] == "Swap:") && f[1] == "0":
			if pristine++; pristine == 2 {
				out = append(out, at)
			}
		}
	}
	return out
}
