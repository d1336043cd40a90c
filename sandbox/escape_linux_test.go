package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

func refusedAll(t *testing.T, h *Host, spec func(args ...string) Spec, attempts [][]string) {
	t.Helper()
	for _, a := range attempts {
		out, p := run(t, h, spec(a...))
		if !strings.HasPrefix(out, "refused: ") {
			t.Errorf("%v: %q (%v, %s)", a, out, p.Err(), p.Tail())
		}
	}
}

// secretDir holds a file that only the gateway should read.
func secretDir(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "vault.key")
	if err := os.WriteFile(file, []byte("canary"), 0o644); err != nil { // readable: the box, not the mode, must refuse
		t.Fatal(err)
	}
	return dir, file
}

func TestGTG8_FilesOutsideTheRootsAreRefused(t *testing.T) {
	h := newHost(t, Options{})
	dir, file := secretDir(t)
	home, _ := os.UserHomeDir()
	ssh := filepath.Join(home, ".ssh")
	os.MkdirAll(ssh, 0o700)
	refusedAll(t, h, func(a ...string) Spec { return attacker(t, a...) }, [][]string{
		{"read", file}, {"list", dir}, {"write", file}, {"truncate", file}, {"open-truncate", file},
		{"symlink", file}, {"list", ssh}, {"list", home}, {"list", "/"}, {"list", "/tmp"}, {"list", "/etc"},
		{"read", "/etc/shadow"}, {"list", "/proc"}, {"list", "/root"}, {"write", "/usr/x"}, {"write", "/etc/hosts"},
		{"write", filepath.Join(dir, "new")}, {"exec-own"},
	})
	if b, _ := os.ReadFile(file); string(b) != "canary" {
		t.Errorf("the file is %q now", b)
	}
}

func TestGTG8_RootsGiveWhatTheySay(t *testing.T) {
	h := newHost(t, Options{})
	dir, file := secretDir(t)
	link := filepath.Join(t.TempDir(), "way-out")
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "shadow")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	read := func(a ...string) Spec { s := attacker(t, a...); s.Read = []string{link}; return s }
	write := func(a ...string) Spec { s := attacker(t, a...); s.Write = []string{dir}; return s }
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{read("read", file), "got"},
		{read("read", filepath.Join(dir, "shadow")), "refused"},
		{read("write", file), "refused"},
		{read("truncate", file), "refused"},
		{write("read", file), "got"},
		{write("write", filepath.Join(dir, "new")), "got"},
		{write("read", filepath.Join(dir, "shadow")), "refused"},
	} {
		if out, p := run(t, h, c.spec); !strings.HasPrefix(out, c.want) {
			t.Errorf("%v: %q, want %s (%s)", c.spec.Args, out, c.want, p.Tail())
		}
	}
}

func TestGTG8_EnvironmentIsEmpty(t *testing.T) {
	t.Setenv("KIDOBAN_CANARY", "secret")
	h := newHost(t, Options{})
	s := attacker(t, "environ")
	s.Env = []string{"GIVEN=1"}
	out, _ := run(t, h, s)
	for _, line := range strings.Fields(out) {
		k, _, _ := strings.Cut(line, "=")
		switch k {
		case "GIVEN", "PATH", "HOME", "TMPDIR", "LANG":
		default:
			t.Errorf("the server sees %s", k)
		}
	}
	if !strings.Contains(out, "GIVEN=1") {
		t.Errorf("the given variable is missing: %q", out)
	}
	refusedAll(t, h, func(a ...string) Spec { return attacker(t, a...) }, [][]string{
		{"environ-of", strconv.Itoa(os.Getpid())}, {"environ-of", "1"},
	})
	if out, _ := run(t, h, attacker(t, "descriptors")); out != "" {
		t.Errorf("descriptors came along: %s", out)
	}
}

func TestGTG8_NetworkIsOff(t *testing.T) {
	h := newHost(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock := filepath.Join(t.TempDir(), "s")
	u, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	os.Chmod(sock, 0o777)
	attempts := [][]string{
		{"dial", "tcp", l.Addr().String()}, {"dial", "udp", l.Addr().String()}, {"dial", "unix", sock},
		{"listen", "tcp", "127.0.0.1:0"}, {"listen", "unix", "@kidoban-test"}, {"uring"}, {"dgram-pair"},
	}
	refusedAll(t, h, func(a ...string) Spec { return attacker(t, a...) }, attempts)
	if out, _ := run(t, h, attacker(t, "stream-pair")); out != "got: it\n" {
		t.Errorf("a connected pair is a pipe and must work: %q", out)
	}
	out := func(a ...string) Spec { s := attacker(t, a...); s.Network = NetworkOut; return s }
	if got, _ := run(t, h, out("dial", "tcp", l.Addr().String())); got != "got: it\n" {
		t.Errorf("with network out: %q", got)
	}
	refusedAll(t, h, out, [][]string{{"dial", "unix", sock}, {"listen", "tcp", "127.0.0.1:0"}, {"uring"}})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(port)
	only := func(p uint16) Spec { s := out("dial", "tcp", l.Addr().String()); s.Ports = []uint16{p}; return s }
	if got, _ := run(t, h, only(uint16(n))); got != "got: it\n" {
		t.Errorf("the named port: %q", got)
	}
	if got, _ := run(t, h, only(443)); !strings.HasPrefix(got, "refused") {
		t.Errorf("another port: %q", got)
	}
}

func TestGTG8_OtherProcessesAreOutOfReach(t *testing.T) {
	h := newHost(t, Options{})
	me := strconv.Itoa(os.Getpid())
	refusedAll(t, h, func(a ...string) Spec { return attacker(t, a...) }, [][]string{
		{"ptrace", me}, {"vmread", me}, {"kill", me}, {"prlimit", me}, {"setsid"}, {"namespace"},
		{"clone-namespace"}, {"mount"}, {"chroot"}, {"root"}, {"suid"}, {"raise"}, {"memfd"},
	})
	if os.Geteuid() == 0 {
		if out, _ := run(t, h, attacker(t, "whoami")); out == "0\n" {
			t.Error("the server runs as root")
		}
	}
}

func TestGTG8_OldKernelsGetTheSignalRules(t *testing.T) {
	prog, err := filter(boxPolicy{ABI: 3})
	if err != nil {
		t.Fatal(err)
	}
	now, err := filter(boxPolicy{ABI: 7})
	if err != nil {
		t.Fatal(err)
	}
	if len(prog) <= len(now) {
		t.Errorf("%d instructions for an old kernel, %d for a new one", len(prog), len(now))
	}
}

func TestGTG8_ForkBombEnds(t *testing.T) {
	h := newHost(t, Options{})
	s := attacker(t, "bomb")
	s.Limits.Tasks = 40
	out, p := run(t, h, s)
	n := -1
	fmt.Sscanf(out, "children: %d", &n)
	if n < 1 || n > 40 {
		t.Errorf("%q: want between 1 and 40 children (%s)", out, p.Tail())
	}
	noneLeft(t, p.PID())
}

// noneLeft fails when a process of the group is still alive.
func noneLeft(t *testing.T, pgrp int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		n := 0
		eachProcess(func(f procStat) {
			if f.pgrp == pgrp {
				n++
			}
		})
		if n == 0 {
			return
		}
	}
	t.Errorf("processes of group %d are still there", pgrp)
}

func TestGTG8_MemoryIsBounded(t *testing.T) {
	h := newHost(t, Options{Every: 50 * time.Millisecond})
	s := attacker(t, "memory")
	s.Limits.Memory = 512 << 20
	if out, p := run(t, h, s); strings.Contains(out, "got") || p.Err() == nil {
		t.Errorf("2 GiB under a limit of 512 MiB: %q, %v", out, p.Err())
	}
	s = attacker(t, "memory-shared")
	s.Limits.Memory = 512 << 20
	out, p := run(t, h, s)
	if strings.Contains(out, "got") || kidoban.KindOf(p.Err()) != kidoban.KindLimit {
		t.Errorf("shared memory: %q, %v", out, p.Err())
	}
}

func TestGTG8_FilesAndTimeAreBounded(t *testing.T) {
	h := newHost(t, Options{})
	s := attacker(t, "big-file")
	s.Limits.FileSize = 4 << 20
	if out, _ := run(t, h, s); strings.Contains(out, "got") || strings.Contains(out, "wrote 64") {
		t.Errorf("a file over the limit: %q", out)
	}
	s = attacker(t, "spin")
	s.Limits.CPU = time.Second
	if _, p := run(t, h, s); p.Err() == nil {
		t.Error("a spinning server was not ended")
	}
}

func TestGTG8_DescendantsEndWithTheServer(t *testing.T) {
	h := newHost(t, Options{})
	_, p := run(t, h, attacker(t, "orphan"))
	noneLeft(t, p.PID())
	if _, err := os.Stat(p.scratch); !os.IsNotExist(err) {
		t.Errorf("the scratch directory is still there: %v", err)
	}
}

// TestGTG8_DescendantsEndWithAKilledGateway kills a gateway with SIGKILL, which
// can clear up nothing itself.
func TestGTG8_DescendantsEndWithAKilledGateway(t *testing.T) {
	gate := exec.Command(self(t), "-test.run", "^TestGatewayToBeKilled$", "-test.v")
	gate.Env = append(os.Environ(), "KIDOBAN_TEST_GATEWAY=1")
	out, err := gate.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.Start(); err != nil {
		t.Fatal(err)
	}
	group := 0
	lines := bufio.NewScanner(out)
	for group == 0 && lines.Scan() {
		fmt.Sscanf(lines.Text(), "group %d", &group)
	}
	if group == 0 {
		t.Fatal("the gateway did not start its server")
	}
	gate.Process.Signal(syscall.SIGKILL)
	gate.Wait()
	noneLeft(t, group)
}

// TestGatewayToBeKilled is the gateway of the test above, and nothing alone.
func TestGatewayToBeKilled(t *testing.T) {
	if os.Getenv("KIDOBAN_TEST_GATEWAY") == "" {
		return
	}
	h := newHost(t, Options{})
	p, err := h.Start(context.Background(), attacker(t, "orphan", "stay"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(p.Stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("group %d\n", p.PID())
	time.Sleep(time.Minute)
}

func TestGTG8_MissingLandlockFailsClosed(t *testing.T) {
	if err := available(1); kidoban.KindOf(err) != kidoban.KindRefused || !strings.Contains(err.Error(), "docker") {
		t.Errorf("an old kernel: %v", err)
	}
	if err := available(minABI); err != nil {
		t.Error(err)
	}
}

func TestGTG8_CommandThatMayNotRunIsNamed(t *testing.T) {
	h := newHost(t, Options{})
	dir := t.TempDir()
	script := filepath.Join(dir, "server.sh")
	os.WriteFile(script, []byte("#!"+filepath.Join(dir, "interp")+"\n"), 0o755)
	data, _ := os.ReadFile("/bin/true")
	os.WriteFile(filepath.Join(dir, "interp"), data, 0o755)
	_, err := h.Start(context.Background(), Spec{Name: "x", Command: script})
	if kidoban.KindOf(err) != kidoban.KindRefused || !strings.Contains(fmt.Sprint(err), "readable roots") {
		t.Errorf("%v", err)
	}
	_, err = h.Start(context.Background(), Spec{Name: "x", Command: "no-such-program"})
	if kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("%v", err)
	}
}

func TestNoneIsNoBoxButLeavesNothing(t *testing.T) {
	h := newHost(t, Options{})
	s := attacker(t, "orphan")
	s.Runner = RunnerNone
	_, p := run(t, h, s)
	noneLeft(t, p.PID())
}
