package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kidoban/kidoban"
)

// plainAttr gives every child a session of its own, so that it has no terminal
// and its process group can be killed as one, and ties it to our life.
func plainAttr(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// kill ends the whole process group. It is called before the leader is reaped,
// so that the number cannot belong to someone else by then.
func (p *Process) kill() {
	if p.pid > 1 {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
}

// waitLeader returns when the process has ended, without reaping it.
func waitLeader(proc *os.Process) {
	for {
		err := unix.Waitid(unix.P_PID, proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// residentByGroup sums the resident memory of the given process groups, in bytes.
func residentByGroup(groups map[int]*Process) map[int]int64 {
	sum := make(map[int]int64, len(groups))
	eachProcess(func(f procStat) {
		if _, ours := groups[f.pgrp]; ours {
			sum[f.pgrp] += f.rss * int64(os.Getpagesize())
		}
	})
	return sum
}

type procStat struct {
	pid, pgrp, threads int
	rss                int64 // pages
}

// eachProcess reads /proc/<pid>/stat of every process we may see.
func eachProcess(f func(procStat)) {
	d, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + n + "/stat")
		if err != nil {
			continue
		}
		// The name stands in parentheses and may hold anything, even ")".
		i := bytes.LastIndexByte(raw, ')')
		if i < 0 {
			continue
		}
		var fields = bytes.Fields(raw[i+1:])
		if len(fields) < 22 {
			continue
		}
		pgrp, _ := strconv.Atoi(string(fields[2]))
		threads, _ := strconv.Atoi(string(fields[17]))
		rss, _ := strconv.ParseInt(string(fields[21]), 10, 64)
		f(procStat{pid: pid, pgrp: pgrp, threads: threads, rss: rss})
	}
}

// reaper is one small process beside the host. It knows the process groups of
// all servers and kills them when its pipe closes, that is, when the host died
// without clearing up (the kernel's death signal reaches direct children only).
type reaper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func (h *Host) helper() []string {
	if len(h.opt.Helper) > 0 {
		return h.opt.Helper
	}
	return []string{"/proc/self/exe", "__sandbox"}
}

func (h *Host) startReaper() (*reaper, error) {
	argv := append(append([]string{}, h.helper()...), "reap")
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = []string{}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the process that ends stdio servers with the gateway cannot be started")
	}
	return &reaper{cmd: c, in: in}, nil
}

func (r *reaper) add(pid int)    { fmt.Fprintf(r.in, "+%d\n", pid) }
func (r *reaper) remove(pid int) { fmt.Fprintf(r.in, "-%d\n", pid) }
func (r *reaper) close()         { r.in.Close(); _ = r.cmd.Wait() }

// reap is the reaper's whole life.
func reap(in io.Reader) {
	groups := map[int]bool{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		t := lines.Text()
		if len(t) < 2 {
			continue
		}
		pid, err := strconv.Atoi(t[1:])
		if err != nil || pid < 2 {
			continue
		}
		if t[0] == '+' {
			groups[pid] = true
		} else {
			delete(groups, pid)
		}
	}
	for pid := range groups {
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
}
