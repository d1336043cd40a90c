package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kidoban/kidoban"
)

// minABI is the oldest Landlock that closes truncation (kernel 6.2).
const minABI = 3

// landlockABI asks the kernel; 0 means none.
func landlockABI() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Available says whether the box can be built on this machine; the sentence of
// the error says what is missing and what to do.
func Available() error { return available(landlockABI()) }

func available(abi int) error {
	if auditArch == 0 {
		return kidoban.Errorf(kidoban.KindRefused, "the box for stdio servers has no system call filter for %s: set runner to docker or podman, or spell out none", runtime.GOARCH)
	}
	if abi < minABI {
		return kidoban.Errorf(kidoban.KindRefused, "the box for stdio servers needs Landlock of kernel 6.2 or newer, this kernel offers version %d: enable it (lsm=landlock,…), set runner to docker or podman, or spell out none", abi)
	}
	return nil
}

// boxPolicy is what the helper stage is told. It travels through a pipe, never
// through arguments or the environment.
type boxPolicy struct {
	Command string
	Args    []string
	Env     []string
	Dir     string
	Read    []string
	Write   []string
	Network bool
	Ports   []uint16
	Limits  Limits
	UID     int  // 0: stay who we are
	Reach   bool // keep the right to read what the roots name, whoever owns it
	Parent  int
	ABI     int
}

// stage is the parent's side of the helper stage.
type stage struct {
	policyR, policyW *os.File
	statusR, statusW *os.File
	policy           []byte
}

func (st *stage) close() {
	for _, f := range []*os.File{st.policyR, st.policyW, st.statusR, st.statusW} {
		if f != nil {
			f.Close()
		}
	}
}

// await hands the policy over and returns when the server runs, or with what
// the stage reported.
func (st *stage) await(ctx context.Context, name string) error {
	st.policyR.Close()
	st.statusW.Close()
	defer st.close()
	deadline := time.Now().Add(10 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = st.policyW.SetDeadline(deadline)
	_ = st.statusR.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = st.statusR.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := st.policyW.Write(st.policy); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: the helper stage did not take its policy", name)
	}
	st.policyW.Close()
	said, err := io.ReadAll(io.LimitReader(st.statusR, 4<<10))
	if err != nil {
		return kidoban.Wrap(kidoban.KindLimit, err, "stdio server %s: the helper stage did not finish in time", name)
	}
	if len(said) > 0 { // the pipe closes by itself when the server's program starts
		return errf(kidoban.KindRefused, name, "%s", said)
	}
	return nil
}

func (h *Host) prepareBox(p *Process, s Spec) error {
	abi := landlockABI()
	if err := available(abi); err != nil {
		return err
	}
	if len(s.Ports) > 0 && abi < 4 {
		return errf(kidoban.KindRefused, s.Name, "ports can be limited from kernel 6.7 on: leave ports away or take a newer kernel")
	}
	pol := boxPolicy{
		Args: s.Args, Env: s.environment(p.scratch), Dir: s.Dir,
		Network: s.Network == NetworkOut, Ports: s.Ports, Limits: p.limits, Parent: os.Getpid(), ABI: abi,
	}
	if pol.Dir == "" {
		pol.Dir = p.scratch
	}
	var err error
	if pol.Command, err = lookup(s.Command, pol.Env); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: command %.100q is not found in the box's PATH; give an absolute path", s.Name, s.Command)
	}
	// A program that is not there is told as that, not by the first step that needs it.
	if _, err = os.Stat(pol.Command); errors.Is(err, os.ErrNotExist) {
		return kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: there is no program %.200q", s.Name, pol.Command)
	}
	if pol.Read, err = resolveAll(s.Read); err != nil {
		return err
	}
	if pol.Write, err = resolveAll(s.Write); err != nil {
		return err
	}
	if err := h.identity(p, s, &pol); err != nil {
		return err
	}
	return p.stageCommand(h.helper(), pol)
}

// identity decides who the server is. Started by root, it becomes a user that
// nobody else is: the kernel then counts its tasks exactly, and it owns nothing.
func (h *Host) identity(p *Process, s Spec, pol *boxPolicy) error {
	if os.Geteuid() != 0 {
		// The kernel counts tasks per user, ours included: allow what is there
		// now and the server's share on top.
		pol.Limits.Tasks += tasksOf(uint32(os.Getuid()))
		return nil
	}
	pol.UID, pol.Reach = s.UID, s.UID == 0
	if pol.UID == 0 {
		pol.UID = unusedUser(os.Getpid(), int(h.seq.Add(1)))
	}
	if err := os.Chown(p.scratch, pol.UID, pol.UID); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: the scratch directory cannot change hands", s.Name)
	}
	return nil
}

// unusedUser gives a number that no account has. In a container that maps few
// users it lies in the usual range of 65,536.
func unusedUser(pid, seq int) int {
	raw, _ := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(raw))
	if len(f) == 3 && len(f[2]) >= 10 { // all of them
		return 0x6b000000 + pid&0xffff<<12 + seq&0xfff
	}
	return 20000 + (pid*97+seq)%40000
}

func resolveAll(in []string) ([]string, error) {
	out := make([]string, len(in))
	for i, p := range in {
		r, err := resolve(p)
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "file root %.200q cannot be used", p)
		}
		out[i] = r
	}
	return out, nil
}

// lookup finds the command with the box's PATH, not with ours.
func lookup(command string, env []string) (string, error) {
	if strings.ContainsRune(command, '/') {
		if !filepath.IsAbs(command) {
			return "", &os.PathError{Op: "exec", Path: command, Err: errors.New("the path is not absolute")}
		}
		return command, nil
	}
	for _, kv := range env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, d := range filepath.SplitList(dirs) {
			f := filepath.Join(d, command)
			if i, err := os.Stat(f); err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0 && filepath.IsAbs(f) {
				return f, nil
			}
		}
	}
	return "", exec.ErrNotFound
}

func (p *Process) stageCommand(helper []string, pol boxPolicy) error {
	raw, err := json.Marshal(pol)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: policy", p.name)
	}
	st := &stage{policy: raw}
	p.stage = st
	if st.policyR, st.policyW, err = os.Pipe(); err == nil {
		st.statusR, st.statusW, err = os.Pipe()
	}
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no pipes", p.name)
	}
	argv := append(append([]string{}, helper...), "box")
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env, p.cmd.Dir = []string{}, "/"
	p.cmd.ExtraFiles = []*os.File{st.policyR, st.statusW} // descriptors 3 and 4
	plainAttr(p.cmd)
	return nil
}

// tasksOf counts the processes and threads of a user.
func tasksOf(uid uint32) int {
	n := 0
	eachProcess(func(f procStat) {
		if i, err := os.Stat(fmt.Sprintf("/proc/%d", f.pid)); err == nil {
			if st, ok := i.Sys().(*syscall.Stat_t); ok && st.Uid == uid {
				n += f.threads
			}
		}
	})
	return n
}
