package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
)

// Options of a Host.
type Options struct {
	// Helper is the command line of the helper stage; a program that hands its
	// arguments to Stage. Empty means the own binary with "__sandbox".
	Helper []string
	// Stderr gets what servers write to their standard error, in pieces of at
	// most 4 KiB; nil drops it. It is called by one goroutine per server.
	Stderr func(server string, piece []byte)
	// Every is the interval at which memory is summed up; 0 is one second.
	Every time.Duration
}

// Host starts servers and owns them all: when it is closed, or its process
// dies, however suddenly, no server and no descendant of one stays behind.
type Host struct {
	opt    Options
	spawn  chan func()
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	seq    atomic.Uint32 // numbers the users that servers run as

	mu     sync.Mutex
	live   map[*Process]struct{} // guarded by mu
	reaper *reaper               // guarded by mu; nil until the first start
	closed bool                  // guarded by mu
}

// NewHost returns a host without servers. Close it.
func NewHost(opt Options) *Host {
	if opt.Every <= 0 {
		opt.Every = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Host{opt: opt, spawn: make(chan func()), ctx: ctx, cancel: cancel, live: map[*Process]struct{}{}}
	h.wg.Add(2)
	go h.starter()
	go h.watch()
	return h
}

// starter runs all starts on one thread that lives as long as the host: the
// kernel's death signal for children is bound to the thread that started them.
func (h *Host) starter() {
	defer h.wg.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case f := <-h.spawn:
			f()
		case <-h.ctx.Done():
			return
		}
	}
}

// Start runs the server. ctx bounds the start alone; the process lives until it
// ends, is closed, or the host is closed. KindUsage and KindRefused mean the
// specification or the machine does not allow it.
func (h *Host) Start(ctx context.Context, s Spec) (*Process, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &Process{host: h, name: s.Name, limits: s.Limits.withDefaults(), done: make(chan struct{})}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no randomness", s.Name)
	}
	scratch, err := os.MkdirTemp("", "kidoban-"+s.Name+"-")
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no scratch directory", s.Name)
	}
	p.scratch = scratch
	if err := h.prepare(p, s, "kidoban-"+s.Name+"-"+hex.EncodeToString(id[:])); err != nil {
		p.abandon()
		return nil, err
	}
	if err := h.launch(ctx, p, s); err != nil {
		p.abandon()
		return nil, err
	}
	return p, nil
}

// prepare builds the command of the runner.
func (h *Host) prepare(p *Process, s Spec, id string) error {
	switch s.Runner {
	case RunnerDocker, RunnerPodman:
		argv, env, err := s.containerArgs(id)
		if err != nil {
			return err
		}
		bin, err := exec.LookPath(argv[0])
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: %s is not installed; install it or choose another runner", s.Name, s.Runner)
		}
		p.cmd = exec.Command(bin, argv[1:]...)
		p.cmd.Env, p.container = env, []string{bin, "rm", "--force", id}
	case RunnerNone:
		p.cmd = exec.Command(s.Command, s.Args...)
		p.cmd.Env, p.cmd.Dir = s.environment(p.scratch), s.Dir
		if p.cmd.Dir == "" {
			p.cmd.Dir = p.scratch
		}
	default:
		return h.prepareBox(p, s)
	}
	plainAttr(p.cmd)
	return nil
}

// launch starts the command, feeds the helper stage and waits for its verdict.
func (h *Host) launch(ctx context.Context, p *Process, s Spec) error {
	// Pipes of our own: the ones of os/exec are closed at the end of the
	// process, read to their end or not.
	outR, outW, err := os.Pipe()
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no pipes", s.Name)
	}
	defer outW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no pipes", s.Name)
	}
	defer errW.Close()
	p.Stdout, p.stderr, p.cmd.Stdout, p.cmd.Stderr = outR, errR, outW, errW
	if p.Stdin, err = p.cmd.StdinPipe(); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "stdio server %s: no pipes", s.Name)
	}
	if err := h.begin(p); err != nil {
		return err
	}
	if p.stage != nil {
		if err := p.stage.await(ctx, s.Name); err != nil {
			p.kill()
			<-p.done
			return err
		}
	}
	return nil
}

// begin starts the process and makes the host its owner.
func (h *Host) begin(p *Process) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return errf(kidoban.KindConflict, p.name, "the gateway is shutting down")
	}
	if h.reaper == nil {
		r, err := h.startReaper()
		if err != nil {
			h.mu.Unlock()
			return err
		}
		h.reaper = r
	}
	h.mu.Unlock()

	started := make(chan error, 1)
	select {
	case h.spawn <- func() { started <- p.cmd.Start() }:
	case <-h.ctx.Done():
		return errf(kidoban.KindConflict, p.name, "the gateway is shutting down")
	}
	if err := <-started; err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: the command cannot be started", p.name)
	}
	p.pid = p.cmd.Process.Pid
	h.mu.Lock()
	h.live[p] = struct{}{}
	h.reaper.add(p.pid)
	closed := h.closed
	h.mu.Unlock()
	h.wg.Add(1)
	go p.follow()
	if closed {
		p.kill()
	}
	return nil
}

// watch sums up the memory of every server and ends one that takes too much.
// Limits of the kernel are per process; the sum is what hurts the machine.
func (h *Host) watch() {
	defer h.wg.Done()
	tick := time.NewTicker(h.opt.Every)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		groups := make(map[int]*Process, len(h.live))
		for p := range h.live {
			groups[p.pid] = p
		}
		h.mu.Unlock()
		if len(groups) == 0 {
			continue
		}
		for pid, bytes := range residentByGroup(groups) {
			if p := groups[pid]; bytes > p.limits.Memory {
				p.fail(errf(kidoban.KindLimit, p.name, "ended: its processes held %d MiB of memory, the limit is %d MiB", bytes>>20, p.limits.Memory>>20))
				p.kill()
			}
		}
	}
}

// Close ends every server and waits until all are gone.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	all := make([]*Process, 0, len(h.live))
	for p := range h.live {
		all = append(all, p)
	}
	h.mu.Unlock()
	var each sync.WaitGroup
	for _, p := range all {
		each.Add(1)
		go func() { defer each.Done(); p.Close() }()
	}
	each.Wait()
	h.cancel()
	h.wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reaper != nil {
		h.reaper.close()
		h.reaper = nil
	}
	return nil
}

// Process is a running server.
type Process struct {
	Stdin  io.WriteCloser // the server's standard input
	Stdout io.ReadCloser  // the server's standard output; read it to its end

	host      *Host
	name      string
	limits    Limits
	cmd       *exec.Cmd
	pid       int // leader of the process group
	stderr    io.ReadCloser
	scratch   string
	container []string // command that removes the container
	stage     *stage   // nil without helper stage
	done      chan struct{}

	mu   sync.Mutex
	err  error  // why it ended; guarded by mu
	tail []byte // the last of its standard error; guarded by mu
}

// grace is how long a server may take to leave after its input was closed.
const grace = 2 * time.Second

// tailMax bounds what is kept of a server's standard error.
const tailMax = 8 << 10

// PID returns the process id of the server as the host sees it.
func (p *Process) PID() int { return p.pid }

// Done is closed when the server and all its descendants have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the server ended; nil while it runs and after a clean exit.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Tail returns the last 8 KiB of the server's standard error. It is a
// stranger's text: for the operator's log, never for a client.
func (p *Process) Tail() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]byte(nil), p.tail...)
}

// Close closes the server's input, waits two seconds, and then kills it with
// all descendants. It returns when they are gone and closes Stdout.
func (p *Process) Close() error {
	p.Stdin.Close()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.kill()
		<-p.done
	}
	p.Stdout.Close()
	return nil
}

// fail notes the first reason for the end.
func (p *Process) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// follow reads the standard error, waits for the end and clears up.
func (p *Process) follow() {
	defer p.host.wg.Done()
	drained := make(chan struct{})
	go func() { defer close(drained); p.drain() }()
	waitLeader(p.cmd.Process)
	p.kill() // descendants go with the leader
	select {
	case <-drained:
	case <-time.After(grace): // a descendant that is not in the group holds the pipe
		p.stderr.Close()
		<-drained
	}
	p.stderr.Close()
	err := p.cmd.Wait()
	var x *exec.ExitError
	if errors.As(err, &x) {
		p.fail(kidoban.Wrap(kidoban.KindUnreachable, err, "stdio server %s ended", p.name))
	}
	p.host.mu.Lock()
	delete(p.host.live, p)
	if p.host.reaper != nil {
		p.host.reaper.remove(p.pid)
	}
	p.host.mu.Unlock()
	if p.container != nil {
		// The engine's client is gone; its container may not be.
		rm := exec.Command(p.container[0], p.container[1:]...)
		rm.WaitDelay = grace
		_ = rm.Run()
	}
	os.RemoveAll(p.scratch)
	close(p.done)
}

func (p *Process) drain() {
	buf := make([]byte, 4<<10)
	for {
		n, err := p.stderr.Read(buf)
		if n > 0 {
			p.mu.Lock()
			p.tail = append(p.tail, buf[:n]...)
			if len(p.tail) > tailMax {
				p.tail = append(p.tail[:0], p.tail[len(p.tail)-tailMax:]...)
			}
			p.mu.Unlock()
			if p.host.opt.Stderr != nil {
				p.host.opt.Stderr(p.name, buf[:n])
			}
		}
		if err != nil {
			return
		}
	}
}

// abandon clears up after a start that did not happen.
func (p *Process) abandon() {
	if p.stage != nil {
		p.stage.close()
	}
	if p.pid == 0 && p.Stdout != nil {
		p.Stdout.Close()
		p.stderr.Close()
	}
	os.RemoveAll(p.scratch)
}
