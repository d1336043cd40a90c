package sandbox

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attack is the hostile server: it tries one thing and says how that went, as
// "got: …" where it reached its goal and "refused: …" where it did not.
func attack(args []string) {
	verdict := func(err error) {
		if err != nil {
			say("refused: %v", err)
		} else {
			say("got: it")
		}
	}
	errno := func(e syscall.Errno) error {
		if e == 0 {
			return nil
		}
		return e
	}
	switch args[0] {
	case "read":
		_, err := os.ReadFile(args[1])
		verdict(err)
	case "list":
		_, err := os.ReadDir(args[1])
		verdict(err)
	case "write":
		verdict(os.WriteFile(args[1], []byte("x"), 0o600))
	case "truncate":
		verdict(os.Truncate(args[1], 0))
	case "open-truncate":
		_, err := unix.Open(args[1], unix.O_RDONLY|unix.O_TRUNC, 0)
		verdict(err)
	case "symlink": // make a link in the scratch directory and read through it
		if err := os.Symlink(args[1], os.Getenv("TMPDIR")+"/link"); err != nil {
			say("broken: %v", err)
			return
		}
		_, err := os.ReadFile(os.Getenv("TMPDIR") + "/link")
		verdict(err)
	case "exec-own": // write a program and run it
		p := os.Getenv("TMPDIR") + "/prog"
		if err := os.WriteFile(p, []byte("#!/bin/sh\necho hi\n"), 0o700); err != nil {
			say("broken: %v", err)
			return
		}
		verdict(exec.Command(p).Run())
	case "environ":
		for _, kv := range os.Environ() {
			say("%s", kv)
		}
	case "environ-of":
		_, err := os.ReadFile("/proc/" + args[1] + "/environ")
		verdict(err)
	case "descriptors":
		for fd := 3; fd < 256; fd++ {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT != 0 {
				if l, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); !strings.HasPrefix(l, "anon_inode:") && l != "" {
					say("fd %d is %s", fd, l)
				}
			}
		}
	case "dial":
		c, err := net.DialTimeout(args[1], args[2], time.Minute)
		if err == nil {
			c.Close()
		}
		verdict(err)
	case "listen":
		l, err := net.Listen(args[1], args[2])
		if err == nil {
			l.Close()
		}
		verdict(err)
	case "uring":
		_, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, 0, 0)
		verdict(errno(e))
	case "dgram-pair":
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		verdict(err)
	case "stream-pair":
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		verdict(err)
	case "ptrace":
		pid, _ := strconv.Atoi(args[1])
		runtime.LockOSThread()
		_, _, e := unix.Syscall(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(pid), 0)
		verdict(errno(e))
	case "vmread":
		pid, _ := strconv.Atoi(args[1])
		_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{}}, []unix.RemoteIovec{{}}, 0)
		verdict(err)
	case "kill":
		pid, _ := strconv.Atoi(args[1])
		verdict(unix.Kill(pid, 0))
	case "prlimit":
		pid, _ := strconv.Atoi(args[1])
		verdict(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 3}, nil))
	case "setsid":
		_, err := unix.Setsid()
		verdict(err)
	case "setpgid":
		verdict(exec.Command("/bin/sh", "-c", "set -m; sleep 0 & ps").Run())
	case "namespace":
		verdict(unix.Unshare(unix.CLONE_NEWUSER))
	case "clone-namespace":
		c := exec.Command("/bin/true")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		verdict(c.Run())
	case "mount":
		verdict(unix.Mount("none", os.Getenv("TMPDIR"), "tmpfs", 0, ""))
	case "chroot":
		verdict(unix.Chroot(os.Getenv("TMPDIR")))
	case "root": // become root again
		verdict(unix.Setuid(0))
	case "suid": // no program may give rights back
		out, err := exec.Command("/bin/su", "-c", "id -u").CombinedOutput()
		if err == nil && bytes.Contains(out, []byte("0")) {
			say("got: it")
		} else {
			say("refused: %v", err)
		}
	case "raise": // lift a limit
		verdict(unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	case "memfd":
		_, err := unix.MemfdCreate("x", 0)
		verdict(err)
	case "memory":
		var hold [][]byte
		for range 64 {
			b := bytes.Repeat([]byte{1}, 32<<20)
			hold = append(hold, b)
		}
		say("got: %d", len(hold))
	case "memory-shared": // memory that no per-process limit counts
		for i := range 64 {
			b, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
			if err != nil {
				say("refused: %v", err)
				return
			}
			for j := 0; j < len(b); j += 4096 {
				b[j] = byte(i)
			}
		}
		say("holding")
		time.Sleep(2 * time.Minute)
		say("got: it")
	case "bomb":
		n := 0
		for range 2000 {
			c := exec.Command("/bin/sleep", "30")
			if err := c.Start(); err != nil {
				if !errors.Is(err, unix.EAGAIN) {
					say("other: %v", err)
				}
				break
			}
			n++
		}
		say("children: %d", n)
	case "big-file":
		f, err := os.Create(os.Getenv("TMPDIR") + "/big")
		if err != nil {
			say("broken: %v", err)
			return
		}
		var total int
		for range 64 {
			n, werr := f.Write(make([]byte, 1<<20))
			total += n
			if err = werr; err != nil {
				break
			}
		}
		say("wrote %d MiB", total>>20)
		verdict(err)
	case "spin":
		for x := 0; ; x++ {
			_ = x
		}
	case "orphan": // leave a child behind that outlives everything
		c := exec.Command("/bin/sh", "-c", "trap '' HUP TERM; sleep 120 & sleep 120")
		if err := c.Start(); err != nil {
			say("broken: %v", err)
			return
		}
		say("child %d", c.Process.Pid)
		if len(args) > 1 {
			time.Sleep(time.Minute)
		}
	case "whoami":
		say("%d", os.Getuid())
	}
}
