//go:build amd64 || arm64

package sandbox

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter is a list of refusals over a default of "allowed", with one
// exception: calls newer than the list's review are answered as if the kernel
// did not know them. Programs fall back then, and nothing unreviewed gets in.

// newest is the highest system call number that was looked at.
const newest = unix.SYS_RSEQ_SLICE_YIELD

// Offsets in struct seccomp_data; both supported machines are little-endian.
const (
	offNr   = 0
	offArch = 4
)

func offArg(n int) uint32 { return uint32(16 + 8*n) } // low half

// refused are the calls nobody in the box needs. EPERM.
var refused = []uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_PROCESS_MRELEASE, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET, unix.SYS_SCHED_SETATTR,
	// leaving the session: the group is what is killed at the end
	unix.SYS_SETSID, unix.SYS_SETPGID,
	// mounts, roots, name spaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	// ways round the file box
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_MKNODAT, unix.SYS_FANOTIFY_INIT,
	// the kernel itself
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	// shared memory outside the box's own count
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_MSGGET, unix.SYS_SEMGET, unix.SYS_MQ_OPEN,
	// other identities
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID,
	unix.SYS_SETGROUPS, unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_CAPSET,
	// being a network server
	unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
}

// absent are answered with ENOSYS, which makes libraries take the older call:
// clone3 hides its flags from the filter, io_uring does whole calls behind it,
// and anonymous files would hold memory that nothing counts.
var absent = []uint32{
	unix.SYS_CLONE3, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET,
}

// newNamespaces are the flags of clone that make a name space.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

const (
	protoMPTCP   = 262        // TCP by another door: Landlock's port rules do not see it
	protoSCTP    = 132        // likewise
	msgFastOpen  = 0x20000000 // connects while sending
	sockTypeMask = 0xf
)

type program struct{ ins []bpf.Instruction }

func deny(errno unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

var (
	allow  = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	murder = bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
)

// on runs body for one system call and answers "allowed" where body falls through.
func (p *program) on(nr uint32, body ...bpf.Instruction) {
	body = append(body, allow)
	p.ins = append(p.ins, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(len(body))})
	p.ins = append(p.ins, body...)
}

func arg(n int) bpf.Instruction { return bpf.LoadAbsolute{Off: offArg(n), Size: 4} }

// denyIf refuses when the loaded value stands in the relation.
func denyIf(cond bpf.JumpTest, val uint32, errno unix.Errno) []bpf.Instruction {
	return []bpf.Instruction{bpf.JumpIf{Cond: cond, Val: val, SkipFalse: 1}, deny(errno)}
}

func seq(parts ...[]bpf.Instruction) []bpf.Instruction {
	var out []bpf.Instruction
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func one(i bpf.Instruction) []bpf.Instruction { return []bpf.Instruction{i} }

// filter builds the program for a policy.
func filter(pol boxPolicy) ([]unix.SockFilter, error) {
	p := &program{}
	p.ins = append(p.ins,
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1}, murder, // the 32-bit calls have other numbers
		bpf.LoadAbsolute{Off: offNr, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: newest, SkipFalse: 1}, deny(unix.ENOSYS), // also the x32 calls
	)
	p.signals(pol)
	p.arguments()
	p.sockets(pol)
	for _, nr := range append(refused, refusedHere...) {
		p.ins = append(p.ins, denyIf(bpf.JumpEqual, nr, unix.EPERM)...)
	}
	for _, nr := range absent {
		p.ins = append(p.ins, denyIf(bpf.JumpEqual, nr, unix.ENOSYS)...)
	}
	p.ins = append(p.ins, allow)
	raw, err := bpf.Assemble(p.ins)
	if err != nil {
		return nil, err
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

// arguments are calls that are harmless with some arguments only.
func (p *program) arguments() {
	p.on(unix.SYS_CLONE, seq(one(arg(0)), denyIf(bpf.JumpBitsSet, newNamespaces, unix.EPERM))...)
	// Limits, affinity and scheduling: one's own, not those of the gateway,
	// which may have the same user.
	for _, nr := range []uint32{unix.SYS_PRLIMIT64, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER} {
		p.on(nr, seq(one(arg(0)), denyIf(bpf.JumpNotEqual, 0, unix.EPERM))...)
	}
	// Typing into a terminal that someone else reads.
	p.on(unix.SYS_IOCTL, seq(one(arg(1)), denyIf(bpf.JumpEqual, unix.TIOCSTI, unix.EPERM), denyIf(bpf.JumpEqual, unix.TIOCLINUX, unix.EPERM))...)
	// 32-bit emulation by another name.
	p.on(unix.SYS_PERSONALITY, seq(one(arg(0)), denyIf(bpf.JumpBitsSet, 0x00ff, unix.EPERM))...)
}

// signals: from kernel 6.12 on Landlock keeps them in the box. Before, only
// those to the own group and to the own threads are let through.
func (p *program) signals(pol boxPolicy) {
	if pol.ABI >= 6 {
		return
	}
	p.on(unix.SYS_KILL, seq(one(arg(0)), denyIf(bpf.JumpNotEqual, 0, unix.EPERM))...)
	for _, nr := range []uint32{unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_SEND_SIGNAL} {
		p.ins = append(p.ins, denyIf(bpf.JumpEqual, nr, unix.EPERM)...)
	}
	p.on(unix.SYS_TGKILL, seq(one(arg(0)), denyIf(bpf.JumpNotEqual, uint32(unix.Getpid()), unix.EPERM))...)
}

// sockets: pairs of connected local sockets are pipes and stay. Datagram pairs
// do not, for they can be sent anywhere with sendmsg.
func (p *program) sockets(pol boxPolicy) {
	and := func(mask uint32) bpf.Instruction { return bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask} }
	p.on(unix.SYS_SOCKETPAIR, seq(
		one(arg(0)), denyIf(bpf.JumpNotEqual, unix.AF_UNIX, unix.EACCES),
		one(arg(1)), one(and(sockTypeMask)), denyIf(bpf.JumpEqual, unix.SOCK_DGRAM, unix.EACCES), denyIf(bpf.JumpEqual, unix.SOCK_RAW, unix.EACCES))...)
	if !pol.Network {
		for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND} {
			p.ins = append(p.ins, denyIf(bpf.JumpEqual, nr, unix.EACCES)...)
		}
		return
	}
	p.on(unix.SYS_SOCKET, seq(
		one(arg(2)), denyIf(bpf.JumpEqual, protoMPTCP, unix.EPROTONOSUPPORT), denyIf(bpf.JumpEqual, protoSCTP, unix.EPROTONOSUPPORT),
		one(arg(1)), one(and(sockTypeMask)), denyIf(bpf.JumpGreaterThan, unix.SOCK_DGRAM, unix.EACCES),
		one(arg(0)),
		[]bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 1},
			deny(unix.EACCES),
		})...)
	if len(pol.Ports) > 0 {
		for nr, n := range map[uint32]int{unix.SYS_SENDTO: 3, unix.SYS_SENDMSG: 2, unix.SYS_SENDMMSG: 3} {
			p.on(nr, seq(one(arg(n)), denyIf(bpf.JumpBitsSet, msgFastOpen, unix.EACCES))...)
		}
	}
}
