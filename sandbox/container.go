package sandbox

import (
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
)

// containerArgs builds the engine's command line and the environment the engine
// itself gets. Values of variables are passed by name, so that no secret stands
// in a command line that every user of the machine can read.
func (s Spec) containerArgs(id string) (argv, env []string, err error) {
	l := s.Limits.withDefaults()
	argv = []string{string(s.Runner), "run", "--rm", "--interactive", "--init",
		"--name", id, "--pull", "missing",
		"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--ipc", "private", "--user", strconv.Itoa(s.containerUID()),
		"--tmpfs", "/tmp:rw,nosuid,nodev,noexec,size=" + strconv.FormatInt(l.FileSize, 10),
		"--env", "HOME=/tmp", "--env", "TMPDIR=/tmp",
		"--memory", strconv.FormatInt(l.Memory, 10), "--memory-swap", strconv.FormatInt(l.Memory, 10),
		"--pids-limit", strconv.Itoa(l.Tasks),
		"--ulimit", "nofile=" + strconv.Itoa(l.OpenFiles),
		"--ulimit", "fsize=" + strconv.FormatInt(l.FileSize, 10),
		"--ulimit", "cpu=" + strconv.FormatInt(int64(l.CPU.Seconds()), 10),
		"--ulimit", "core=0",
		"--log-driver", "none",
	}
	switch {
	case s.Network != NetworkOut:
		argv = append(argv, "--network", "none")
	case len(s.Ports) > 0:
		return nil, nil, errf(kidoban.KindUsage, s.Name, "runner %s cannot limit ports: use runner box, or leave ports away", s.Runner)
	default:
		argv = append(argv, "--network", "bridge")
	}
	for _, m := range []struct {
		roots []string
		mode  string
	}{{s.Read, ",readonly"}, {s.Write, ""}} {
		for _, root := range m.roots {
			real, err := resolve(root)
			if err != nil {
				return nil, nil, kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: file root %.200q cannot be used", s.Name, root)
			}
			if strings.ContainsAny(real, ",\"\n") {
				return nil, nil, errf(kidoban.KindUsage, s.Name, "file root %.200q: a container engine cannot mount a path with a comma, a quote or a line break", root)
			}
			argv = append(argv, "--mount", "type=bind,source="+real+",target="+root+m.mode)
		}
	}
	if s.Dir != "" {
		argv = append(argv, "--workdir", s.Dir)
	}
	env = []string{"PATH=" + path, "HOME=/"}
	for _, kv := range s.Env {
		k, _, _ := strings.Cut(kv, "=")
		if k == "PATH" || k == "HOME" || strings.HasPrefix(k, "DOCKER_") || strings.HasPrefix(k, "CONTAINER") {
			return nil, nil, errf(kidoban.KindUsage, s.Name, "environment variable %s would steer the container engine itself", k)
		}
		argv = append(argv, "--env", k)
		env = append(env, kv)
	}
	argv = append(argv, s.Image)
	if s.Command != "" {
		argv = append(argv, s.Command)
	}
	return append(argv, s.Args...), env, nil
}

// containerUID is "nobody" unless one is given.
func (s Spec) containerUID() int {
	if s.UID > 0 {
		return s.UID
	}
	return 65534
}
