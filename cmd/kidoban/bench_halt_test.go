package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machineThatHalts is a tree as /sys has it.
func machineThatHalts(t *testing.T, governor, setting string) (sys, file string) {
	t.Helper()
	sys = t.TempDir()
	file = filepath.Join(sys, "module/haltpoll/parameters/guest_halt_poll_ns")
	for name, text := range map[string]string{filepath.Join(sys, "devices/system/cpu/cpuidle/current_governor"): governor, file: setting} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sys, file
}

// TestBenchPutsTheMachinesSettingBack: what a measurement switches on it switches off
// again, and what somebody has set it leaves alone.
func TestBenchPutsTheMachinesSettingBack(t *testing.T) {
	for name, c := range map[string]struct {
		governor, setting string
		during            string // what stands in the file while measuring
		now               time.Duration
		said              string
	}{
		"halts at once":         {"haltpoll\n", "0\n", "200000\n", haltPollDefault, "put back afterwards"},
		"the default":           {"haltpoll\n", "200000\n", "200000\n", haltPollDefault, "for 200µs before they halt"},
		"somebody's own":        {"haltpoll\n", "50000\n", "50000\n", 50 * time.Microsecond, "for 50µs before they halt"},
		"another governor":      {"menu\n", "0\n", "0\n", 0, ""},
		"no number":             {"haltpoll\n", "much\n", "much\n", 0, ""},
		"more than a word says": {"haltpoll\n", "99999999999999999999\n", "99999999999999999999\n", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sys, file := machineThatHalts(t, c.governor, c.setting)
			h := readHaltPoll(sys)
			h.switchOn()
			var said strings.Builder
			h.say(&said)
			during, _ := os.ReadFile(file)
			if string(during) != c.during || h.now != c.now || !strings.Contains(said.String(), c.said) || (c.said == "") != (said.Len() == 0) {
				t.Errorf("in between: %q, %v, %q", during, h.now, said.String())
			}
			if known := h.nanoseconds() != nil; known != (c.said != "") {
				t.Errorf("in the JSON: %v", known)
			}
			if err := h.back(); err != nil {
				t.Error(err)
			}
			if after, _ := os.ReadFile(file); string(after) != c.setting {
				t.Errorf("afterwards: %q", after)
			}
		})
	}
}

// TestBenchSaysWhatItCouldNotSet: where the setting is not ours to write, the figures
// say what they were measured with; where it cannot be put back, the run says how to.
func TestBenchSaysWhatItCouldNotSet(t *testing.T) {
	sys, file := machineThatHalts(t, "haltpoll", "0")
	h := readHaltPoll(sys)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	h.switchOn()
	var said strings.Builder
	h.say(&said)
	if h.now != 0 || !strings.Contains(said.String(), "could not be told otherwise") {
		t.Errorf("%v, %q", h.now, said.String())
	}
	if err := h.back(); err != nil {
		t.Errorf("nothing to put back: %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file of the kernel's was made")
	}

	sys, file = machineThatHalts(t, "haltpoll", "0")
	h = readHaltPoll(sys)
	h.switchOn()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := h.back(); err == nil || !strings.Contains(err.Error(), "write 0 to "+file) {
		t.Errorf("back: %v", err)
	}
}
