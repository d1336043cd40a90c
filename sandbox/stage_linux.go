package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Stage is the helper stage: the program that calls it must do nothing else.
// With "box" it reads its policy from descriptor 3, restricts itself and becomes
// the server; it returns only when that failed, after it wrote the reason to
// descriptor 4. With "reap" it waits for the host's end. It returns an exit code.
func Stage(args []string) int {
	if len(args) == 1 && args[0] == "reap" {
		reap(os.Stdin)
		return 0
	}
	if len(args) != 1 || args[0] != "box" {
		fmt.Fprintln(os.Stderr, "this command is the gateway's own helper; it is not for people")
		return 2
	}
	runtime.LockOSThread() // credentials and filters are the thread's; the thread becomes the server
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	status := os.NewFile(4, "status")
	var pol boxPolicy
	err := json.NewDecoder(io.LimitReader(os.NewFile(3, "policy"), 8<<20)).Decode(&pol)
	if err == nil {
		err = become(pol)
	}
	fmt.Fprintf(status, "%v", err)
	return 1
}

// become restricts this thread and turns it into the server. The order matters:
// each step still needs what the next one takes away.
func become(pol boxPolicy) error {
	for _, step := range []struct {
		what string
		do   func(boxPolicy) error
	}{
		{"the working directory cannot be entered", func(p boxPolicy) error { return os.Chdir(p.Dir) }},
		{"the file box cannot be closed", restrictFiles},
		{"the rights of root cannot be dropped", dropRoot},
		{"the death signal cannot be set", dieWithParent},
		{"the limits cannot be set", setLimits},
		{"the descriptors cannot be closed", func(boxPolicy) error {
			return unix.CloseRange(3, ^uint(0)>>1&0x7fffffff, unix.CLOSE_RANGE_CLOEXEC)
		}},
		{"no-new-privileges cannot be set", func(boxPolicy) error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"the system call filter cannot be set", installFilter},
	} {
		if err := step.do(pol); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	unix.Umask(0o077)
	err := syscall.Exec(pol.Command, append([]string{pol.Command}, pol.Args...), pol.Env)
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%s may not be executed in the box: put its directory among the readable roots", pol.Command)
	}
	return fmt.Errorf("%s cannot be executed: %w", pol.Command, err)
}

// What every program needs to start: libraries, time zones, trust anchors, and
// the devices that hold nothing. /etc as a whole is not among it.
var (
	systemDirs  = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ca-certificates", "/etc/ld.so.conf.d", "/sys/devices/system/cpu", "/nix/store", "/proc/self"}
	systemFiles = []string{"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/localtime", "/etc/timezone", "/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/os-release", "/etc/ssl/openssl.cnf", "/dev/random", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version"}
	systemSinks = []string{"/dev/null", "/dev/zero", "/dev/full"}
)

const (
	fsReadFile = ll.AccessFSReadFile
	fsReadDir  = ll.AccessFSReadFile | ll.AccessFSReadDir
	// Everything a directory's owner does, except to execute, to make devices
	// or sockets, and to talk to sockets that others made.
	fsWrite = fsReadDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
		ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSym | ll.AccessFSRefer
	fsWriteFile = fsReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
)

// restrictFiles closes Landlock over files, TCP ports, signals and abstract
// sockets. Handled rights are everything this kernel knows.
func restrictFiles(pol boxPolicy) error {
	if pol.ABI < minABI {
		return nil // the parent decided that this is allowed
	}
	rules := []landlock.Rule{}
	grant := func(path string, dir, file landlock.AccessFSSet) error {
		i, err := os.Stat(path)
		if err != nil {
			return err
		}
		if i.IsDir() {
			rules = append(rules, landlock.PathAccess(dir, path))
		} else {
			rules = append(rules, landlock.PathAccess(file, path))
		}
		return nil
	}
	const exec, execDir = fsReadFile | ll.AccessFSExecute, fsReadDir | ll.AccessFSExecute
	for _, p := range systemDirs {
		_ = grant(p, execDir, exec) // systems differ; what is missing is not granted
	}
	for _, p := range systemFiles {
		_ = grant(p, 0, fsReadFile)
	}
	for _, p := range systemSinks {
		_ = grant(p, 0, fsReadFile|ll.AccessFSWriteFile)
	}
	for _, p := range pol.Read {
		if err := grant(p, execDir, exec); err != nil {
			return err
		}
	}
	for _, p := range append([]string{pol.scratch()}, pol.Write...) {
		if err := grant(p, fsWrite, fsWriteFile); err != nil {
			return err
		}
	}
	if err := grant(pol.Command, 0, exec); err != nil {
		return err
	}
	for _, port := range pol.Ports {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	cfg := landlock.V9
	if pol.Network && len(pol.Ports) == 0 {
		cfg.HandledAccessNet = ll.AccessNetBindTCP
	}
	return cfg.BestEffort().Restrict(rules...)
}

// scratch is the server's TMPDIR, which the parent chose.
func (p boxPolicy) scratch() string {
	for _, kv := range p.Env {
		if len(kv) > 7 && kv[:7] == "TMPDIR=" {
			return kv[7:]
		}
	}
	return p.Dir
}

// dropRoot becomes the given user and gives up every capability but, if Reach
// is set, the one that lets it into directories of other owners: which ones
// that are is for Landlock to say, which is closed by now.
func dropRoot(pol boxPolicy) error {
	if os.Geteuid() == 0 {
		for c := uintptr(0); c <= 63; c++ {
			if c == unix.CAP_DAC_OVERRIDE && pol.Reach {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
				break // past the last capability of this kernel
			} else if err != nil {
				return err
			}
		}
	}
	keep := uint32(0)
	if pol.UID != 0 {
		if pol.Reach {
			keep = 1 << unix.CAP_DAC_OVERRIDE
			if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
				return err
			}
		}
		id := uintptr(pol.UID)
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, id, id, id}, {unix.SYS_SETRESUID, id, id, id}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				return errno
			}
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep, Inheritable: keep}}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return err
	}
	if keep != 0 {
		return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_DAC_OVERRIDE, 0, 0)
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

// dieWithParent sets the death signal again (a change of user clears it) and
// looks whether the parent is still there.
func dieWithParent(pol boxPolicy) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != pol.Parent {
		return errors.New("the gateway is gone")
	}
	return nil
}

func setLimits(pol boxPolicy) error {
	l := pol.Limits
	for _, r := range []struct {
		which int
		max   uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_DATA, uint64(l.Memory)}, // private writable memory; reserved address space is free
		{unix.RLIMIT_CPU, uint64(max(1, l.CPU.Seconds()))},
		{unix.RLIMIT_NPROC, uint64(l.Tasks)},
		{unix.RLIMIT_NOFILE, uint64(l.OpenFiles)},
		{unix.RLIMIT_FSIZE, uint64(l.FileSize)},
		{unix.RLIMIT_MEMLOCK, 64 << 10},
		{unix.RLIMIT_MSGQUEUE, 0},
		{unix.RLIMIT_SIGPENDING, 256},
	} {
		var was syscall.Rlimit
		if err := syscall.Getrlimit(r.which, &was); err != nil {
			return err
		}
		r.max = min(r.max, was.Max)
		// Go's own call: it also forgets the limit it would restore at exec.
		if err := syscall.Setrlimit(r.which, &syscall.Rlimit{Cur: r.max, Max: r.max}); err != nil {
			return err
		}
	}
	return nil
}

func installFilter(pol boxPolicy) error {
	prog, err := filter(pol)
	if err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return errno
	}
	return nil
}
