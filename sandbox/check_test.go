package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

func TestCheckRefusesWhatCannotBe(t *testing.T) {
	dir := t.TempDir()
	vault := filepath.Join(dir, "data", "vault")
	if err := os.MkdirAll(vault, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(vault, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    Spec
		kind kidoban.Kind
	}{
		"no name":            {Spec{Command: "x"}, kidoban.KindUsage},
		"name with a path":   {Spec{Name: "../x", Command: "x"}, kidoban.KindUsage},
		"no command":         {Spec{Name: "x"}, kidoban.KindUsage},
		"unknown runner":     {Spec{Name: "x", Command: "x", Runner: "chroot"}, kidoban.KindUsage},
		"no image":           {Spec{Name: "x", Runner: RunnerDocker}, kidoban.KindUsage},
		"image is an option": {Spec{Name: "x", Runner: RunnerDocker, Image: "--privileged"}, kidoban.KindUsage},
		"unknown network":    {Spec{Name: "x", Command: "x", Network: "host"}, kidoban.KindUsage},
		"ports without":      {Spec{Name: "x", Command: "x", Ports: []uint16{1}}, kidoban.KindUsage},
		"NUL":                {Spec{Name: "x", Command: "x", Args: []string{"a\x00b"}}, kidoban.KindUsage},
		"environment":        {Spec{Name: "x", Command: "x", Env: []string{"a-b=1"}}, kidoban.KindUsage},
		"preload":            {Spec{Name: "x", Command: "x", Env: []string{"LD_PRELOAD=/x"}}, kidoban.KindUsage},
		"root is /":          {Spec{Name: "x", Command: "x", Read: []string{"/"}}, kidoban.KindUsage},
		"relative root":      {Spec{Name: "x", Command: "x", Read: []string{"data"}}, kidoban.KindUsage},
		"missing root":       {Spec{Name: "x", Command: "x", Write: []string{filepath.Join(dir, "none")}}, kidoban.KindUsage},
		"covers the vault":   {Spec{Name: "x", Command: "x", Read: []string{dir}, Keep: []string{vault}}, kidoban.KindRefused},
		"is the vault":       {Spec{Name: "x", Command: "x", Read: []string{link}, Keep: []string{vault}}, kidoban.KindRefused},
	} {
		if err := c.s.Check(); kidoban.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok := Spec{Name: "x", Command: "x", Read: []string{dir}, Keep: []string{filepath.Join(dir, "absent")}}
	if err := ok.Check(); err != nil {
		t.Error(err)
	}
}

func TestContainerCommand(t *testing.T) {
	dir := t.TempDir()
	s := Spec{Name: "git", Runner: RunnerPodman, Image: "ghcr.io/x/git:1", Command: "serve", Args: []string{"--stdio"},
		Env: []string{"TOKEN=hush"}, Read: []string{dir}}
	argv, env, err := s.containerArgs("kidoban-git-1")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(argv, " ")
	for _, want := range []string{"podman run --rm --interactive --init --name kidoban-git-1", "--network none", "--read-only",
		"--cap-drop ALL", "--security-opt no-new-privileges", "--pids-limit 128", "--memory 1073741824", "--user 65534",
		"type=bind,source=" + dir + ",target=" + dir + ",readonly", "--env TOKEN ", "ghcr.io/x/git:1 serve --stdio"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is missing in %s", want, line)
		}
	}
	if strings.Contains(line, "hush") {
		t.Error("a secret stands in the command line")
	}
	if !slices.Contains(env, "TOKEN=hush") {
		t.Error("the engine does not get the variable's value")
	}
	s.Network, s.Ports = NetworkOut, []uint16{443}
	if _, _, err := s.containerArgs("i"); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("ports: %v", err)
	}
	s.Ports, s.Env = nil, []string{"DOCKER_HOST=tcp://x"}
	if _, _, err := s.containerArgs("i"); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("engine variable: %v", err)
	}
}

// What follows the image is the server's; nothing an operator writes into
// command or arguments becomes an option of the engine.
func TestContainerOptionsEndAtTheImage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Spec{Name: "x", Runner: RunnerDocker, Image: "img", Command: rapid.String().Draw(t, "command"), Args: rapid.SliceOf(rapid.String()).Draw(t, "args")}
		if s.Check() != nil {
			return
		}
		argv, _, err := s.containerArgs("id")
		if err != nil {
			t.Fatal(err)
		}
		at := slices.Index(argv, "img")
		tail := argv[at+1:]
		want := s.Args
		if s.Command != "" {
			want = append([]string{s.Command}, s.Args...)
		}
		if !slices.Equal(tail, want) {
			t.Fatalf("%q", tail)
		}
	})
}
