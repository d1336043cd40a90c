package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// haltPollDefault is how long Linux lets an idle processor of a virtual machine look
// for work before it halts, unless told otherwise (drivers/cpuidle/governors/haltpoll.c).
const haltPollDefault = 200 * time.Microsecond

// haltPoll is that setting of this machine. A processor that has halted is the host's,
// and getting it back takes longer than a step of a call; a call through a process in
// between waits for four processors, a direct one for two.
type haltPoll struct {
	file string // "" where the kernel has none, or goes by another rule
	was  time.Duration
	now  time.Duration
	why  error // it could not be switched on
}

// readHaltPoll reads the setting from the files under sys, which is /sys.
func readHaltPoll(sys string) haltPoll {
	governor, err := os.ReadFile(filepath.Join(sys, "devices/system/cpu/cpuidle/current_governor"))
	if err != nil || strings.TrimSpace(string(governor)) != "haltpoll" {
		return haltPoll{}
	}
	file := filepath.Join(sys, "module/haltpoll/parameters/guest_halt_poll_ns")
	raw, err := os.ReadFile(file)
	if err != nil {
		return haltPoll{}
	}
	ns, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
	if err != nil {
		return haltPoll{}
	}
	d := time.Duration(ns)
	return haltPoll{file: file, was: d, now: d}
}

// switchOn gives a machine that halts at once Linux's default, until back is called.
func (h *haltPoll) switchOn() {
	if h.file == "" || h.was > 0 {
		return
	}
	if h.why = h.write(haltPollDefault); h.why == nil {
		h.now = haltPollDefault
	}
}

// back puts the setting back as it was.
func (h *haltPoll) back() error {
	if h.now == h.was {
		return nil
	}
	if err := h.write(h.was); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the machine's setting could not be put back; write %d to %s", h.was.Nanoseconds(), h.file)
	}
	h.now = h.was
	return nil
}

func (h *haltPoll) write(d time.Duration) error {
	f, err := os.OpenFile(h.file, os.O_WRONLY|os.O_TRUNC, 0) // never made: it is the kernel's
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, d.Nanoseconds())
	if shut := f.Close(); err == nil {
		err = shut
	}
	return err
}

// say tells what the figures were measured with.
func (h *haltPoll) say(to io.Writer) {
	switch {
	case h.file == "":
	case h.now != h.was:
		fmt.Fprintf(to, "idle processors look for work for %v before they halt, Linux's default; put back afterwards to halting at once, as this machine is set\n", h.now)
	case h.why != nil:
		fmt.Fprintf(to, "idle processors halt at once and could not be told otherwise (%v): one connection's figures are mostly waking\n", h.why)
	case h.now == 0:
		fmt.Fprintf(to, "idle processors of this machine halt at once (guest_halt_poll_ns is 0, Linux's default %d): one connection's figures are mostly waking; --halt-poll measures with the default\n", haltPollDefault.Nanoseconds())
	default:
		fmt.Fprintf(to, "idle processors look for work for %v before they halt\n", h.now)
	}
}

// nanoseconds is the setting for JSON, nil where there is none.
func (h *haltPoll) nanoseconds() *int64 {
	if h.file == "" {
		return nil
	}
	ns := h.now.Nanoseconds()
	return &ns
}
