//go:build !linux

package sandbox

import (
	"context"
	"os"
	"os/exec"

	"github.com/kidoban/kidoban"
)

// Stage is the helper stage of the box, which exists on Linux only.
func Stage(args []string) int { return 2 }

// Available says whether the box can be built on this machine.
func Available() error {
	return kidoban.Errorf(kidoban.KindRefused, "the box for stdio servers needs Linux: set runner to docker or podman, or spell out none")
}

func (h *Host) prepareBox(p *Process, s Spec) error { return Available() }

func plainAttr(*exec.Cmd) {}

func (p *Process) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
	}
}

func waitLeader(proc *os.Process) { _, _ = proc.Wait() }

func residentByGroup(map[int]*Process) map[int]int64 { return nil }

type reaper struct{}

func (h *Host) startReaper() (*reaper, error) { return &reaper{}, nil }

func (*reaper) add(int)    {}
func (*reaper) remove(int) {}
func (*reaper) close()     {}

type stage struct{}

func (*stage) await(context.Context, string) error { return nil }
func (*stage) close()                              {}
